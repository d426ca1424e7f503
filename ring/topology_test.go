package ring_test

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// sample is the text in the package comment.
const sample = `quoit-topology 1
cluster 6f1c2d0e
epoch 42
node 10.0.0.1:7401 128 ws=wss://eu.example.org/node/1
node 10.0.0.2:7401 0
held 1073741823 1090519039 10.0.0.2:7401
end
`

func TestTopologyText(t *testing.T) {
	want := ring.Topology{
		Cluster: "6f1c2d0e",
		Epoch:   42,
		Nodes: []ring.Node{
			{Address: "10.0.0.1:7401", Tokens: 128, Endpoints: []ring.Endpoint{{Kind: "ws", URL: "wss://eu.example.org/node/1"}}},
			{Address: "10.0.0.2:7401"},
		},
		Held: []ring.Arc{{ring.Range{1073741823, 1090519039}, "10.0.0.2:7401"}},
	}
	got, err := ring.ParseTopology([]byte(sample))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v, %v\nwant %+v", got, err, want)
	}
	text, err := want.AppendText([]byte("before "))
	if err != nil || string(text) != "before "+sample {
		t.Errorf("appended %q, %v", text, err)
	}
}

func TestTopologyMap(t *testing.T) {
	top, err := ring.ParseTopology([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	m, err := top.Map()
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[ring.Position]string{
		1073741823: "10.0.0.1:7401", 1073741824: "10.0.0.2:7401", 1090519039: "10.0.0.2:7401", 1090519040: "10.0.0.1:7401",
	} {
		if got := m.Owner(p); got != want {
			t.Errorf("%v belongs to %s, want %s", p, got, want)
		}
	}
}

func TestParseTopologyRefuses(t *testing.T) {
	swap := func(before, after string) string {
		if !strings.Contains(sample, before) {
			t.Fatalf("the sample has no %q", before)
		}
		return strings.Replace(sample, before, after, 1)
	}
	for _, test := range []struct {
		name, text string
		line       int
		message    string // a part of it
	}{
		{"nothing", "", 1, "cut short"},
		{"something else", "-ERR unknown command 'TOPOLOGY'\r\n", 1, "not a topology"},
		{"something else without line feed", "hello", 1, "not a topology"},
		{"a look-alike", swap("quoit-topology", "quoit-topologY"), 1, "not a topology"},
		{"a carriage return", swap("cluster 6f1c2d0e\n", "cluster 6f1c2d0e\r\n"), 2, "printable"},
		{"no cluster", swap("cluster 6f1c2d0e\n", ""), 2, "want cluster"},
		{"an empty cluster", swap("6f1c2d0e", ""), 2, "want 1 to 128"},
		{"a long cluster", swap("6f1c2d0e", strings.Repeat("c", 129)), 2, "want 1 to 128"},
		{"a cluster of two words", swap("6f1c2d0e", "6f1c 2d0e"), 2, "printable"},
		{"an epoch below 0", swap("epoch 42", "epoch -1"), 3, "decimal number"},
		{"an epoch too high", swap("epoch 42", "epoch 18446744073709551616"), 3, "decimal number"},
		{"no epoch", swap("epoch 42\n", ""), 3, "want epoch"},
		{"a node without tokens", swap("10.0.0.2:7401 0", "10.0.0.2:7401"), 5, "want node <address> <tokens>"},
		{"a node of odd tokens", swap("10.0.0.2:7401 0", "10.0.0.2:7401 many"), 5, "want node <address> <tokens>"},
		{"a node of too many tokens", swap("10.0.0.2:7401 0", "10.0.0.2:7401 4097"), 5, "has 4097 tokens"},
		{"a node of a bad address", swap("node 10.0.0.2:7401", "node 10.0.0.2"), 5, "no port"},
		{"a node twice", swap("node 10.0.0.2:7401", "node 10.0.0.1:7401"), 7, "listed twice"},
		{"two spaces", swap("10.0.0.2:7401 0", "10.0.0.2:7401  0"), 5, "want node"},
		{"a space at the end", swap("10.0.0.2:7401 0", "10.0.0.2:7401 0 "), 5, "want node"},
		{"an endpoint without kind", swap("ws=", "="), 4, "endpoint kind"},
		{"an endpoint without URL", swap("wss://eu.example.org/node/1", ""), 4, "endpoint URL"},
		{"too many endpoints", swap(" ws=", strings.Repeat(" ws=u", 16)+" ws="), 4, "more than 16 endpoints"},
		{"a held range without owner", swap(" 10.0.0.2:7401\nend", "\nend"), 6, "want held"},
		{"a held range of an odd owner", swap(" 10.0.0.2:7401\nend", " 10.0.0.2:7401 x\nend"), 6, "address"},
		{"a held range past the top", swap("1090519039", "4294967296"), 6, "position"},
		{"a held range from nowhere", swap("1073741823", "x"), 6, "position"},
		{"a node after a held range", swap("end\n", "node 10.0.0.3:7401 1\nend\n"), 7, "in this order"},
		{"an unknown line", swap("end\n", "shard 1\nend\n"), 7, "in this order"},
		{"no end", swap("end\n", ""), 7, "cut short"},
		{"no last line feed", strings.TrimSuffix(sample, "\n"), 7, "cut short"},
		{"more after the end", sample + "\n", 7, "nothing after the end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			top, err := ring.ParseTopology([]byte(test.text))
			var at *ring.TextError
			if !errors.As(err, &at) {
				t.Fatalf("parsed %+v, %v, want a TextError", top, err)
			}
			if at.Line != test.line || !strings.Contains(err.Error(), test.message) {
				t.Errorf("error %q, want line %d and %q", err, test.line, test.message)
			}
			if !reflect.DeepEqual(top, ring.Topology{}) {
				t.Errorf("there is a topology beside the error: %+v", top)
			}
		})
	}
}

func TestParseTopologyOfAFutureVersion(t *testing.T) {
	for text, version := range map[string]string{
		"quoit-topology 2\nzones 3\n": "2",
		"quoit-topology 1.1\n":        "1.1",
		"quoit-topology 01\n":         "01",
		"quoit-topology\n":            "",
	} {
		_, err := ring.ParseTopology([]byte(text))
		var unsupported *ring.VersionError
		if !errors.As(err, &unsupported) || unsupported.Version != version {
			t.Errorf("%q: error %v, want a VersionError of %q", text, err, version)
			continue
		}
		if !strings.Contains(err.Error(), "only version 1 is") {
			t.Errorf("%q does not say which version is supported", err)
		}
	}
}

func TestParseTopologyIsBounded(t *testing.T) {
	repeat := func(n int, line func(i int) string) []byte {
		var b strings.Builder
		b.WriteString("quoit-topology 1\ncluster c\nepoch 1\n")
		for i := range n {
			b.WriteString(line(i + 1))
		}
		return []byte(b.String() + "end\n")
	}
	node := func(i int) string { return "node n:" + strconv.Itoa(i) + " 1\n" }
	held := func(int) string { return "held 0 1 n:1\n" }
	for _, test := range []struct {
		name    string
		text    []byte
		subject string // "" for a text that is fine
	}{
		{"as many nodes as may be", repeat(ring.MaxNodes, node), ""},
		{"a node too many", repeat(ring.MaxNodes+1, node), "number of nodes"},
		{"as many held ranges as may be", repeat(ring.MaxHeld, held), ""},
		{"a held range too many", repeat(ring.MaxHeld+1, held), "number of held ranges"},
		{"a text too long", bytes.Repeat([]byte("x"), ring.MaxTopologyBytes+1), "size of the topology text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ring.ParseTopology(test.text)
			if test.subject == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantInvalid(t, err, test.subject)
		})
	}
}

func TestAppendTextRefusesWhatCouldNotBeRead(t *testing.T) {
	long := make([]ring.Arc, ring.MaxHeld)
	for i := range long {
		long[i] = ring.Arc{Range: ring.Range{top - 1, top}, Owner: "10.0.0.1:7401"}
	}
	for _, test := range []struct {
		name    string
		in      ring.Topology
		subject string
	}{
		{"no cluster", ring.Topology{}, "cluster"},
		{"a cluster of two lines", ring.Topology{Cluster: "a\nend"}, "cluster"},
		{"a bad node", ring.Topology{Cluster: "c", Nodes: []ring.Node{{Address: "a"}}}, "address"},
		{"a bad owner", ring.Topology{Cluster: "c", Held: []ring.Arc{{Owner: "a b:1"}}}, "address"},
		{"too many held ranges", ring.Topology{Cluster: "c", Held: make([]ring.Arc, ring.MaxHeld+1)}, "number of held ranges"},
		{"too long a text", ring.Topology{Cluster: "c", Held: long}, "size of the topology text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.in.AppendText([]byte("before"))
			wantInvalid(t, err, test.subject)
			if string(got) != "before" {
				t.Errorf("appended %d bytes", len(got)-len("before"))
			}
		})
	}
}

func TestTopologyMapRefuses(t *testing.T) {
	_, err := ring.Topology{Held: []ring.Arc{{Owner: "nowhere"}}}.Map()
	wantInvalid(t, err, "address")
	_, err = ring.Topology{Nodes: []ring.Node{{Address: "nowhere"}}}.Map()
	wantInvalid(t, err, "address")
}

func genTopology() *rapid.Generator[ring.Topology] {
	return rapid.Custom(func(t *rapid.T) ring.Topology {
		endpoint := rapid.Custom(func(t *rapid.T) ring.Endpoint {
			return ring.Endpoint{
				Kind: rapid.StringMatching(`[a-z0-9-]{1,32}`).Draw(t, "kind"),
				URL:  rapid.StringMatching(`[!-~]{1,40}`).Draw(t, "url"),
			}
		})
		top := ring.Topology{
			Cluster: rapid.StringMatching(`[!-~]{1,128}`).Draw(t, "cluster"),
			Epoch:   ring.Epoch(rapid.Uint64().Draw(t, "epoch")),
			Nodes:   genNodes().Draw(t, "nodes"),
			Held:    genArcs().Draw(t, "held"),
		}
		for i := range top.Nodes {
			top.Nodes[i].Endpoints = rapid.SliceOfN(endpoint, 0, 3).Draw(t, "endpoints")
		}
		return top
	})
}

func TestTopologyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genTopology().Draw(t, "topology")
		text, err := in.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		out, err := ring.ParseTopology(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		again, err := out.MarshalText()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q came back as %q, %v", text, again, err)
		}
		before, errBefore := in.Map()
		after, errAfter := out.Map()
		if errBefore != nil || errAfter != nil || !before.Equal(after) {
			t.Fatalf("another map came back: %v, %v", errBefore, errAfter)
		}
	})
}

func TestTopologyTextCutAnywhereIsRefused(t *testing.T) {
	for n := range len(sample) {
		if top, err := ring.ParseTopology([]byte(sample[:n])); err == nil {
			t.Errorf("cut after %d bytes: %+v", n, top)
		}
	}
}

// FuzzParseTopology holds the parser to what it promises for any bytes: no panic,
// what it accepts is valid, and there is no second text for it.
func FuzzParseTopology(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("quoit-topology 1\ncluster c\nepoch 0\nend\n"))
	f.Add([]byte("quoit-topology 1\ncluster c\nepoch 18446744073709551615\nheld 4294967295 0 [::1]:1\nheld 7 7 a:65535\nend\n"))
	f.Add([]byte("quoit-topology 1\ncluster c\nepoch 1\nnode a:1 4096 a=b=c -=?\nnode b:1 1\nend\n"))
	f.Add([]byte("quoit-topology 2\nend\n"))
	f.Add([]byte("quoit-topology 1\ncluster \nepoch 01\nnode a:1 -1\nend\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		top, err := ring.ParseTopology(text)
		if err != nil {
			if message := err.Error(); strings.ContainsAny(message, "\r\n") || len(message) > 1000 {
				t.Errorf("no message for a person: %q", message)
			}
			return
		}
		if again, err := top.MarshalText(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q was read, and written as %q, %v", text, again, err)
		}
		if m, err := top.Map(); err != nil || len(m.Owners()) > len(top.Nodes)+len(top.Held) {
			t.Errorf("no map: %v", err)
		}
	})
}
