package ring

import (
	"strconv"
	"strings"
)

// Bounds on what makes up a ring. They hold for [NewMap] and for texts alike.
const (
	DefaultTokens    = 128     // tokens of a node that does not ask for another number
	MaxTokens        = 4096    // tokens of one node
	MaxRingTokens    = 1 << 20 // tokens of all nodes together
	MaxNodes         = 1024    // nodes of one ring
	MaxEndpoints     = 16      // endpoints of one node
	MaxAddressLength = 255     // bytes of an address
)

const (
	maxKindLength = 32
	maxURLLength  = 1024
)

// WebSocket is the kind of an endpoint that is a channel to the node for web pages.
const WebSocket = "ws"

// Endpoint is another way to reach a node than its address, for clients that
// cannot dial that: Kind "ws" with URL "wss://eu.example.org/node/1", say.
type Endpoint struct {
	Kind string // 1 to 32 lower-case letters, digits and dashes
	URL  string // 1 to 1024 printable ASCII characters without space
}

// Node is a member of the ring. Its address is its identity, where its tokens lie
// and what other members dial, all in one.
type Node struct {
	Address   string
	Tokens    int // 0: a node that owns nothing by itself, because it is leaving
	Endpoints []Endpoint
}

// TokensOf returns the positions of the first n tokens of a node, in the order of
// their numbers, not of their positions. Two may be equal.
func TokensOf(address string, n int) []Position {
	if n <= 0 {
		return nil
	}
	return appendTokens(make([]Position, 0, n), address, n)
}

func appendTokens(dst []Position, address string, n int) []Position {
	name := make([]byte, 0, MaxAddressLength+len("#4096"))
	name = append(append(name, address...), '#')
	for i := range n {
		if i == 0 {
			dst = append(dst, PositionOfString(address))
			continue
		}
		dst = append(dst, PositionOf(strconv.AppendInt(name, int64(i), 10)))
	}
	return dst
}

// ValidateAddress says whether an address can name a node: "host:port" with a
// port from 1 to 65535, at most 255 printable ASCII characters, no space, no '#'.
// An IPv6 host stands in brackets.
func ValidateAddress(address string) error {
	if reason := addressFault(address); reason != "" {
		return invalid("address", address, reason)
	}
	return nil
}

// addressFault returns what is wrong with an address, or nothing.
func addressFault(address string) string {
	if len(address) > MaxAddressLength {
		return "longer than 255 characters"
	}
	if !isPrintable(address) || strings.IndexByte(address, '#') >= 0 {
		return "only printable ASCII characters without space and '#' can be used"
	}
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return "no port: want host:port, such as 10.0.0.1:7401"
	}
	host, port := address[:colon], address[colon+1:]
	if n, ok := parseDecimal(port, 16); !ok || n == 0 {
		return "want a port from 1 to 65535 after the last colon"
	}
	return hostFault(host)
}

func hostFault(host string) string {
	inside, opened := strings.CutPrefix(host, "[")
	inside, closed := strings.CutSuffix(inside, "]")
	switch {
	case inside == "":
		return "no host: want host:port, such as 10.0.0.1:7401"
	case opened != closed || strings.ContainsAny(inside, "[]"):
		return "unmatched bracket"
	case opened && strings.IndexByte(inside, ':') < 0:
		return "brackets are for IPv6 hosts only"
	case !opened && strings.IndexByte(inside, ':') >= 0:
		return "an IPv6 host needs brackets, such as [::1]:7401, and a URL is no address"
	}
	return ""
}

// validate checks everything about a node that does not depend on the others.
func (n *Node) validate() error {
	if err := ValidateAddress(n.Address); err != nil {
		return err
	}
	if n.Tokens < 0 || n.Tokens > MaxTokens {
		return invalid("node", n.Address, "has "+strconv.Itoa(n.Tokens)+" tokens, want 0 to "+strconv.Itoa(MaxTokens))
	}
	if len(n.Endpoints) > MaxEndpoints {
		return invalid("node", n.Address, "has more than "+strconv.Itoa(MaxEndpoints)+" endpoints")
	}
	for _, e := range n.Endpoints {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Validate says whether an endpoint can stand in a topology.
func (e Endpoint) Validate() error {
	if e.Kind == "" || len(e.Kind) > maxKindLength {
		return invalid("endpoint kind", e.Kind, "want 1 to 32 characters")
	}
	for _, c := range []byte(e.Kind) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return invalid("endpoint kind", e.Kind, "want lower-case letters, digits and dashes")
		}
	}
	if e.URL == "" || len(e.URL) > maxURLLength || !isPrintable(e.URL) {
		return invalid("endpoint URL", e.URL, "want 1 to 1024 printable ASCII characters without space")
	}
	return nil
}

// validateNodes checks nodes that are to form one ring together.
func validateNodes(nodes []Node) error {
	if len(nodes) > MaxNodes {
		return invalid("number of nodes", strconv.Itoa(len(nodes)), "want at most "+strconv.Itoa(MaxNodes))
	}
	seen := make(map[string]struct{}, len(nodes))
	tokens := 0
	for i := range nodes {
		n := &nodes[i]
		if err := n.validate(); err != nil {
			return err
		}
		if _, twice := seen[n.Address]; twice {
			return invalid("node", n.Address, "is listed twice")
		}
		seen[n.Address] = struct{}{}
		tokens += n.Tokens
	}
	if tokens > MaxRingTokens {
		return invalid("number of tokens", strconv.Itoa(tokens),
			"want at most "+strconv.Itoa(MaxRingTokens)+" on one ring: lower the tokens of every node alike")
	}
	return nil
}

// isPrintable reports whether text is printable ASCII without space.
func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
