package ring

import (
	"errors"
	"strconv"
	"strings"
)

// Bounds on a topology and on its text.
const (
	MaxTopologyBytes = 1 << 20 // bytes of a text
	MaxHeld          = 1 << 16 // ranges not yet handed over
	MaxClusterLength = 128     // bytes of a cluster's name
)

const (
	textName    = "quoit-topology"
	textVersion = "1"
)

// Topology says who owns what at one epoch of a cluster: the nodes by their
// tokens, except that each range in Held still belongs to the node named there,
// because it has not been handed over yet. (Where Held overlaps, the later entry
// counts.)
type Topology struct {
	Cluster string // printable ASCII without space, 1 to 128 characters
	Epoch   Epoch
	Nodes   []Node
	Held    []Arc
}

// Map returns the ownership that the topology describes.
func (t Topology) Map() (*Map, error) {
	if err := validateHeld(t.Held); err != nil {
		return nil, err
	}
	m, err := NewMap(t.Nodes)
	if err != nil {
		return nil, err
	}
	return m.With(t.Held), nil
}

// Validate reports the first thing, as an [InvalidError], that the text form
// could not carry.
func (t Topology) Validate() error {
	if err := validateCluster(t.Cluster); err != nil {
		return err
	}
	if err := validateNodes(t.Nodes); err != nil {
		return err
	}
	return validateHeld(t.Held)
}

func validateCluster(name string) error {
	if name == "" || len(name) > MaxClusterLength || !isPrintable(name) {
		return invalid("cluster", name, "want 1 to 128 printable ASCII characters without space")
	}
	return nil
}

func validateHeld(held []Arc) error {
	if len(held) > MaxHeld {
		return invalid("number of held ranges", strconv.Itoa(len(held)), "want at most "+strconv.Itoa(MaxHeld))
	}
	for _, h := range held {
		if err := ValidateAddress(h.Owner); err != nil {
			return err
		}
	}
	return nil
}

// MarshalText returns the text form; see [Topology.AppendText].
func (t Topology) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// AppendText appends the text form, which [ParseTopology] reads. It fails, and
// appends nothing, if the topology is not valid or its text would be too long.
func (t Topology) AppendText(dst []byte) ([]byte, error) {
	if err := t.Validate(); err != nil {
		return dst, err
	}
	b := append(dst, textName+" "+textVersion+"\ncluster "...)
	b = append(b, t.Cluster...)
	b = append(b, "\nepoch "...)
	b = strconv.AppendUint(b, uint64(t.Epoch), 10)
	b = append(b, '\n')
	for i := range t.Nodes {
		b = appendNode(b, &t.Nodes[i])
	}
	for _, h := range t.Held {
		b = appendHeld(b, h)
	}
	b = append(b, "end\n"...)
	if n := len(b) - len(dst); n > MaxTopologyBytes {
		return dst, invalid("size of the topology text", strconv.Itoa(n),
			"want at most "+strconv.Itoa(MaxTopologyBytes)+" bytes")
	}
	return b, nil
}

func appendNode(b []byte, n *Node) []byte {
	b = append(b, "node "...)
	b = append(b, n.Address...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(n.Tokens), 10)
	for _, e := range n.Endpoints {
		b = append(b, ' ')
		b = append(b, e.Kind...)
		b = append(b, '=')
		b = append(b, e.URL...)
	}
	return append(b, '\n')
}

func appendHeld(b []byte, h Arc) []byte {
	b = append(b, "held "...)
	b = strconv.AppendUint(b, uint64(h.Start), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(h.End), 10)
	b = append(b, ' ')
	b = append(b, h.Owner...)
	return append(b, '\n')
}

// ParseTopology reads the text form. It accepts exactly what
// [Topology.AppendText] writes. The error is a [TextError] that names the line,
// around a [VersionError] if the text is of another version.
func ParseTopology(text []byte) (Topology, error) {
	if len(text) > MaxTopologyBytes {
		return Topology{}, invalid("size of the topology text", strconv.Itoa(len(text)),
			"want at most "+strconv.Itoa(MaxTopologyBytes)+" bytes")
	}
	r := textReader{rest: string(text)}
	t, err := r.topology()
	if err != nil {
		return Topology{}, &TextError{Line: r.line, Err: err}
	}
	return t, nil
}

// Errors of a text that is not of the shape shown in the package comment.
var (
	errNotTopology = errors.New("not a topology: want " + textName + " " + textVersion)
	errCutShort    = errors.New("the text is cut short: want a line that ends with a line feed")
	errAfterEnd    = errors.New("want nothing after the end line")
	errOrder       = errors.New("want node, held and end lines, in this order")
	errNodeLine    = errors.New("want node <address> <tokens> [<kind>=<url> ...]")
	errHeldLine    = errors.New("want held <start> <end> <owner>")
)

// textReader takes a text apart line by line.
type textReader struct {
	rest string
	line int // the number of the line taken last
}

func (r *textReader) next() (string, error) {
	r.line++
	line, rest, ok := strings.Cut(r.rest, "\n")
	if !ok {
		return "", errCutShort
	}
	r.rest = rest
	return line, nil
}

// value returns what follows the keyword in the next line.
func (r *textReader) value(keyword string) (string, error) {
	line, err := r.next()
	if err != nil {
		return "", err
	}
	word, value, _ := strings.Cut(line, " ")
	if word != keyword {
		return "", invalid("line", line, "want "+keyword+" and its value")
	}
	return value, nil
}

func (r *textReader) topology() (t Topology, err error) {
	if err := r.header(); err != nil {
		return t, err
	}
	if t.Cluster, err = r.value("cluster"); err != nil {
		return t, err
	}
	if err := validateCluster(t.Cluster); err != nil {
		return t, err
	}
	epoch, err := r.value("epoch")
	if err != nil {
		return t, err
	}
	if t.Epoch, err = ParseEpoch(epoch); err != nil {
		return t, err
	}
	if err := r.entries(&t); err != nil {
		return t, err
	}
	return t, validateNodes(t.Nodes) // What no line shows alone: an address twice, the sum of tokens.
}

func (r *textReader) header() error {
	isOther := r.rest != "" && !strings.HasPrefix(r.rest, textName)
	line, err := r.next()
	name, version, _ := strings.Cut(line, " ")
	switch {
	case isOther: // Even where it has no line feed: "cut short" would mislead.
		return errNotTopology
	case err != nil:
		return err
	case name != textName:
		return errNotTopology
	case version != textVersion:
		return &VersionError{Version: version}
	}
	return nil
}

// entries reads the node and held lines up to the end line, and makes sure that
// the text ends there.
func (r *textReader) entries(t *Topology) error {
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		keyword, value, _ := strings.Cut(line, " ")
		switch {
		case line == "end" && r.rest != "":
			return errAfterEnd
		case line == "end":
			return nil
		case keyword == "node" && len(t.Held) == 0:
			err = t.addNode(value)
		case keyword == "held":
			err = t.addHeld(value)
		default:
			err = errOrder
		}
		if err != nil {
			return err
		}
	}
}

func (t *Topology) addNode(text string) error {
	if len(t.Nodes) == MaxNodes {
		return invalid("number of nodes", "more than "+strconv.Itoa(MaxNodes), "want no more")
	}
	fields := strings.Split(text, " ") // As many as a text of bounded size has, at most.
	if len(fields) < 2 {
		return errNodeLine
	}
	tokens, ok := parseDecimal(fields[1], 16)
	if !ok {
		return errNodeLine
	}
	n := Node{Address: fields[0], Tokens: int(tokens)}
	for _, field := range fields[2:] {
		kind, url, ok := strings.Cut(field, "=")
		if !ok {
			return errNodeLine
		}
		n.Endpoints = append(n.Endpoints, Endpoint{Kind: kind, URL: url})
	}
	t.Nodes = append(t.Nodes, n)
	return n.validate()
}

func (t *Topology) addHeld(text string) error {
	if len(t.Held) == MaxHeld {
		return invalid("number of held ranges", "more than "+strconv.Itoa(MaxHeld), "want no more")
	}
	start, rest, _ := strings.Cut(text, " ")
	end, owner, ok := strings.Cut(rest, " ")
	if !ok {
		return errHeldLine
	}
	h := Arc{Owner: owner}
	var err error
	if h.Start, err = ParsePosition(start); err != nil {
		return err
	}
	if h.End, err = ParsePosition(end); err != nil {
		return err
	}
	t.Held = append(t.Held, h)
	return ValidateAddress(owner)
}
