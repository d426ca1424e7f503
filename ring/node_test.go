package ring_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestTokensOfFollowTheNamingRule(t *testing.T) {
	const address = "10.0.0.1:7401"
	tokens := ring.TokensOf(address, 300)
	if len(tokens) != 300 || tokens[0] != ring.PositionOfString(address) {
		t.Fatalf("%d tokens, the first at %v", len(tokens), tokens[0])
	}
	for i := 1; i < len(tokens); i++ {
		if want := ring.PositionOfString(address + "#" + strconv.Itoa(i)); tokens[i] != want {
			t.Errorf("token %d at %v, want %v", i, tokens[i], want)
		}
	}
	if !slices.Equal(ring.TokensOf(address, 7), tokens[:7]) {
		t.Error("fewer tokens are not the first of many")
	}
	for _, n := range []int{0, -1} {
		if got := ring.TokensOf(address, n); len(got) != 0 {
			t.Errorf("TokensOf(%d) = %v", n, got)
		}
	}
}

func TestValidateAddress(t *testing.T) {
	long := strings.Repeat("h", ring.MaxAddressLength-len(":7401"))
	for _, address := range []string{
		"10.0.0.1:7401", "db.example.org:1", "node_1:65535", "[::1]:7401", "[fe80::1%eth0]:80", "h:1", long + ":7401",
	} {
		if err := ring.ValidateAddress(address); err != nil {
			t.Errorf("%q refused: %v", address, err)
		}
	}
	for _, address := range []string{
		"", ":", "host", "host:", ":7401", "[]:1", "host:0", "host:65536", "host:-1", "host:+1", "host:01", "host:x", "host:1 ",
		"ho st:1", "host\n:1", "h\x00:1", "h\x7f:1", "hôte:1", "host#1:1", "host:1#1", "::1:7401", "[::1:7401", "::1]:7401",
		"[host]:1", "[[::1]]:1", "http://host:7401", "[::1]7401", long + "h:7401",
	} {
		wantInvalid(t, ring.ValidateAddress(address), "address")
	}
}

func TestNewMapRefuses(t *testing.T) {
	many := nodes(ring.MaxEndpoints + 1)
	endpoints := make([]ring.Endpoint, len(many))
	for i := range endpoints {
		endpoints[i] = ring.Endpoint{Kind: "ws", URL: "wss://" + many[i].Address}
	}
	with := func(e ...ring.Endpoint) []ring.Node { return []ring.Node{{Address: "a:1", Tokens: 1, Endpoints: e}} }
	crowd := make([]ring.Node, ring.MaxNodes+1)
	for i := range crowd {
		crowd[i] = ring.Node{Address: "node:" + strconv.Itoa(i+1), Tokens: 1}
	}
	heavy := slices.Clone(crowd[:ring.MaxRingTokens/ring.MaxTokens+1])
	for i := range heavy {
		heavy[i].Tokens = ring.MaxTokens
	}
	for _, test := range []struct {
		name    string
		nodes   []ring.Node
		subject string
	}{
		{"an address without port", []ring.Node{{Address: "a", Tokens: 1}}, "address"},
		{"an address twice", []ring.Node{{Address: "a:1", Tokens: 1}, {Address: "b:1"}, {Address: "a:1"}}, "node"},
		{"fewer than no tokens", []ring.Node{{Address: "a:1", Tokens: -1}}, "node"},
		{"too many tokens", []ring.Node{{Address: "a:1", Tokens: ring.MaxTokens + 1}}, "node"},
		{"too many tokens together", heavy, "number of tokens"},
		{"too many nodes", crowd, "number of nodes"},
		{"too many endpoints", with(endpoints...), "node"},
		{"an endpoint of no kind", with(ring.Endpoint{URL: "ws://a"}), "endpoint kind"},
		{"an endpoint of a long kind", with(ring.Endpoint{Kind: strings.Repeat("k", 33), URL: "ws://a"}), "endpoint kind"},
		{"an endpoint of an odd kind", with(ring.Endpoint{Kind: "W=S", URL: "ws://a"}), "endpoint kind"},
		{"an endpoint without URL", with(ring.Endpoint{Kind: "ws"}), "endpoint URL"},
		{"an endpoint with a space", with(ring.Endpoint{Kind: "ws", URL: "ws://a b"}), "endpoint URL"},
		{"an endpoint with a line feed", with(ring.Endpoint{Kind: "ws", URL: "ws://a\nend"}), "endpoint URL"},
		{"an endpoint with a long URL", with(ring.Endpoint{Kind: "ws", URL: strings.Repeat("u", 1025)}), "endpoint URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ring.NewMap(test.nodes)
			if m != nil {
				t.Error("there is a map beside the error")
			}
			wantInvalid(t, err, test.subject)
		})
	}
}

func TestNewMapAtItsBounds(t *testing.T) {
	crowd := make([]ring.Node, ring.MaxNodes)
	for i := range crowd {
		crowd[i] = ring.Node{Address: "node:" + strconv.Itoa(i+1), Tokens: 2}
	}
	crowd[0].Tokens = ring.MaxTokens
	m := mustMap(t, crowd...)
	if got := len(m.Owners()); got != len(crowd) {
		t.Errorf("%d of %d nodes own something", got, len(crowd))
	}
}

func TestNewMapLeavesItsArgumentAlone(t *testing.T) {
	given := []ring.Node{{Address: "b:1", Tokens: 3}, {Address: "a:1", Tokens: 3}}
	mustMap(t, given...)
	if given[0].Address != "b:1" || given[1].Address != "a:1" {
		t.Errorf("reordered: %v", given)
	}
}
