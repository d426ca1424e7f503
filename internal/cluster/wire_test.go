package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// rich returns a document in which every field has something to say.
func rich(t failer) Document {
	t.Helper()
	d := registered(t, clusterOf(t, a, b, c), "d:7401", "e:7401")
	r := node(a)
	r.Endpoints = []ring.Endpoint{{Kind: "ws", URL: "wss://a.example.org/node/1"}}
	d = ok(t)(d.Register(r))
	d = ok(t)(d.Join("d:7401"))
	d = ok(t)(d.Commit(d.Moves[0].ID, d.Moves[1].ID))
	d = ok(t)(d.MarkDropped(d.Moves[0].ID))
	d = ok(t)(d.Leave(b))
	d = ok(t)(d.Forget(c))
	d = ok(t)(d.SetPaused(true))
	return ok(t)(d.SetThrottle(10 << 20))
}

func TestCoding(t *testing.T) {
	d := rich(t)
	text, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, d) {
		t.Errorf("%+v\nbecame\n%+v", d, again)
	}
}

// TestFormatStays: what was written by a release is read by the next. Never change
// the file; a new format gets a file of its own.
func TestFormatStays(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "format-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Encode()
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("%v: the document is now written as\n%s", err, again)
	}
	checkDocument(t, d)
}

// edited returns the document's text after a change to its JSON.
func edited(t testing.TB, d Document, edit func(doc map[string]any)) []byte {
	t.Helper()
	text, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	edit(doc)
	if text, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return text
}

func first(doc map[string]any, list string) map[string]any {
	return doc[list].([]any)[0].(map[string]any)
}

func TestDecodeRefuses(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	d = ok(t)(d.Commit(d.Moves[0].ID))
	valid, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(fn func(map[string]any)) []byte { return edited(t, d, fn) }
	move := func(key string, value any) []byte {
		return edit(func(doc map[string]any) { first(doc, "moves")[key] = value })
	}
	member := func(key string, value any) []byte {
		return edit(func(doc map[string]any) { first(doc, "nodes")[key] = value })
	}
	head := func(key string, value any) []byte {
		return edit(func(doc map[string]any) { doc[key] = value })
	}
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "not a cluster document"},
		{"no JSON", []byte("quoit"), "not a cluster document"},
		{"another JSON", []byte(`{"name":"quoit"}`), "not a cluster document"},
		{"cut short", valid[:len(valid)/2], "not a cluster document"},
		{"too long", bytes.Repeat([]byte{' '}, MaxBytes+1), "more than a document can have"},
		{"endless lists", []byte(`{"format":1,"moves":[` + strings.Repeat("{},", maxCommas+1) + `{}]}`), "more than a document can have"},
		{"something behind", append(bytes.Clone(valid), valid...), "not a cluster document"},
		{"a format from the future", head("format", 2), "format 2 is not supported"},
		{"a future format with more fields", bytes.Replace(valid, []byte(`{"format":1,`), []byte(`{"format":7,"shards":[[1]],`), 1), "upgrade"},
		{"a negative format", head("format", -1), "not a cluster document"},
		{"an unknown field", head("leader", "a:7401"), "unknown object member"},
		{"no cluster", head("cluster", ""), "cluster"},
		{"no counter", head("counter", 0), "counter"},
		{"no nonce", head("nonce", ""), "nonce"},
		{"a long nonce", head("nonce", strings.Repeat("x", MaxNonce+1)), "nonce"},
		{"an empty recent nonce", head("recent", []string{""}), "nonce"},
		{"too many nonces", head("recent", strings.Split(strings.Repeat("x ", MaxRecent)+"x", " ")), "nonces"},
		{"a negative epoch", head("epoch", -1), "epoch"},
		{"active in epoch 0", head("epoch", 0), "epoch 0"},
		{"a negative throttle", head("settings", map[string]any{"moveBytesPerSecond": -1}), "throttle"},
		{"members out of order", member("address", "z:1"), "does not come after"},
		{"an id twice", member("id", "id-b"), "is taken"},
		{"no id", member("id", ""), "malformed"},
		{"a bad address", member("address", "A"), "no port"},
		{"a state", member("state", "dead"), "state"},
		{"an incarnation from the future", member("incarnation", 99), "incarnation"},
		{"a membership from the future", member("since", 99), "since"},
		{"no tokens", member("tokens", 0), "tokens"},
		{"too many tokens", member("tokens", ring.MaxTokens+1), "tokens"},
		{"a bad endpoint", member("endpoints", []any{map[string]any{"kind": "WS", "url": "x"}}), "endpoint"},
		{"a move id", move("id", "move"), "malformed"},
		{"a move id with a zero", move("id", "m01"), "malformed"},
		{"a move id from the future", move("id", "m99999"), "from the future"},
		{"a move id twice", move("id", "m2"), "not the only one"},
		{"a position", move("start", 1<<32), "ring.Position"},
		{"a phase", move("phase", "copying"), "phase"},
		{"committed at no time", move("committedAt", 0), "committed at"},
		{"committed in the future", move("committedAt", 99), "committed at"},
		{"planned and committed", move("phase", "planned"), "committed at"},
		{"both ends done", edit(func(doc map[string]any) {
			first(doc, "moves")["sourceDropped"], first(doc, "moves")["targetActive"] = true, true
		}), "does not fit"},
		{"lost with a source", move("lost", true), "does not fit"},
		{"a target from nowhere", move("target", "z:1"), "its target"},
		{"a source from nowhere", move("source", "z:1"), "its source"},
		{"a move to itself", move("source", "c:7401"), "no two nodes"},
		{"ranges that overlap", edit(func(doc map[string]any) {
			moves := doc["moves"].([]any)
			moves[2].(map[string]any)["end"] = moves[1].(map[string]any)["end"]
		}), "share a part"},
	} {
		_, err := Decode(c.text)
		var refused *FormatError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want a FormatError that says %q", c.name, err, c.want)
		}
	}
}

// TestEncodeRefuses what could not be read back.
func TestEncodeRefuses(t *testing.T) {
	d := clusterOf(t, a)
	d.Nodes[0].Tokens = 0
	if _, err := d.Encode(); !errors.As(err, new(*FormatError)) {
		t.Errorf("Encode: %v", err)
	}
}

// TestTheLargestDocument fits its bounds and can be read back.
func TestTheLargestDocument(t *testing.T) {
	d := clusterOf(t, a, b)
	for i := range MaxMoves {
		d.MoveCount++
		d.Moves = append(d.Moves, Move{
			ID:     MoveID(fmt.Sprintf("m%d", d.MoveCount)),
			Range:  ring.Range{Start: ring.Position(i) << 18, End: ring.Position(i+1) << 18},
			Source: a, Target: b, Phase: Committed, CommittedAt: 1, SourceDropped: true, Lost: true,
		})
	}
	for i := range ring.MaxNodes - 2 {
		m := Member{Address: fmt.Sprintf("host-%04d.%s:7401", i, strings.Repeat("x", 200)), ID: NodeID(fmt.Sprintf("id-%d", i))}
		m.Incarnation, m.Since, m.Tokens, m.State = 1, 1, 128, Known
		for range ring.MaxEndpoints {
			m.Endpoints = append(m.Endpoints, ring.Endpoint{Kind: "ws", URL: "wss://" + strings.Repeat("x", 200)})
		}
		d.Nodes = append(d.Nodes, m)
	}
	checkCoding(t, d)
}

func FuzzDecode(f *testing.F) {
	for _, d := range []Document{clusterOf(f, a), rich(f)} {
		text, err := d.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"format":2,"zones":[]}`))
	f.Add([]byte(`{"format":1,"cluster":"x","counter":1,"nonce":"n","moves":[{"id":"m1","start":4294967295,"end":0}],"moveCount":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Decode(text)
		if err != nil {
			if !errors.As(err, new(*FormatError)) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		checkCoding(t, d)
		// What can be read can be asked, and worked on, without a panic.
		_, _ = d.Ownership()
		_ = d.Startable()
		_, _ = d.Replan()
		_, _ = d.Topology().AppendText(nil)
	})
}

func BenchmarkCoding(b *testing.B) {
	d := clusterOf(b, a)
	d = registered(b, d, c)
	d.Nodes[0].Tokens, d.Nodes[1].Tokens = ring.DefaultTokens, ring.DefaultTokens
	d = ok(b)(d.Join(c))
	text, err := d.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(d.Moves)), "moves")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		d, err := Decode(text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFollow is what a node computes for each document that it reads while a
// fourth node joins three.
func BenchmarkFollow(b *testing.B) {
	d := clusterOf(b, a, c)
	for _, address := range []string{"b:7401", "d:7401"} {
		d = registered(b, d, address)
	}
	for i := range d.Nodes {
		d.Nodes[i].Tokens = ring.DefaultTokens
	}
	d = ok(b)(d.Join("b:7401", "d:7401"))
	text, err := d.Encode()
	if err != nil {
		b.Fatal(err)
	}
	me, _ := d.Member(a)
	local := Local{Cluster: d.Cluster, ID: me.ID, Address: a, Incarnation: me.Incarnation}
	b.ReportMetric(float64(len(d.Moves)), "moves")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		d, err := Decode(text)
		if err != nil {
			b.Fatal(err)
		}
		for range 2 {
			if _, err := Reconcile(local, d); err != nil {
				b.Fatal(err)
			}
		}
		t := d.Topology()
		if _, err := t.Map(); err != nil {
			b.Fatal(err)
		}
		if _, err := t.MarshalText(); err != nil {
			b.Fatal(err)
		}
	}
}
