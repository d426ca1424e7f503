package member

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func sampleRegistration() Registration {
	return Registration{
		Cluster: "quoit-1", ID: "id-a", Address: "a:7401", Tokens: 128,
		Endpoints: []ring.Endpoint{{Kind: "ws", URL: "wss://a.example.org"}},
	}
}

func sampleHeartbeat() Heartbeat {
	return Heartbeat{
		Address: "a:7401", ID: "id-a", Incarnation: 3, Counter: 1 << 60, Epoch: 9, Serving: true, State: "serving",
		Keys: 1, Bytes: 2, MemoryBytes: 3, LogBytes: 4, DurableLSN: 5, Connections: 6, Ops: 7, UptimeMS: 8,
		Moves: []MoveProgress{{ID: "m1", Phase: "copy", Keys: 1, Bytes: 2, Share: 0.5, ForMS: 3, Pause: 1.25, Reason: "slow"}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, message := range []any{sampleRegistration(), sampleHeartbeat(), Registration{}, Heartbeat{}} {
		arg, err := Encode(message)
		if err != nil {
			t.Fatal(err)
		}
		again := reflect.New(reflect.TypeOf(message))
		if err := Decode(arg, again.Interface()); err != nil || !reflect.DeepEqual(again.Elem().Interface(), message) {
			t.Errorf("%+v came back as %+v, %v", message, again.Elem(), err)
		}
	}
}

// TestWords: the names on the wire are what other versions know.
func TestWords(t *testing.T) {
	arg, err := Encode(sampleHeartbeat())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"address":"a:7401","id":"id-a","incarnation":3,"counter":1152921504606846976,"epoch":9,"serving":true,"condition":"serving",` +
		`"keys":1,"bytes":2,"memory_bytes":3,"log_bytes":4,"durable_lsn":5,"connections":6,"ops":7,"uptime_ms":8,` +
		`"moves":[{"id":"m1","phase":"copy","keys":1,"bytes":2,"share":0.5,"for_ms":3,"pause_ms":1.25,"reason":"slow"}]}`
	if string(arg) != want {
		t.Errorf("heartbeat is %s", arg)
	}
	if arg, err = Encode(sampleRegistration()); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(arg, &fields); err != nil || len(fields) != 5 || fields["tokens"] != 128.0 {
		t.Errorf("registration is %s", arg)
	}
}

// TestFutureFields are ignored: a node of the next version can tell more.
func TestFutureFields(t *testing.T) {
	var r Registration
	err := Decode([]byte(`{"id":"id-a","address":"a:7401","tokens":3,"zone":{"name":"eu","racks":[1,2]}}`), &r)
	if err != nil || r.ID != "id-a" || r.Tokens != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, arg := range map[string]string{
		"nothing":              "",
		"no JSON":              "hello",
		"half of it":           `{"address":"a:7401"`,
		"a list":               `[]`,
		"another type":         `{"tokens":"many"}`,
		"a number too large":   `{"tokens":1e400}`,
		"a number with no end": `{"tokens":` + strings.Repeat("1", 100_000) + `}`,
		"a fraction":           `{"tokens":1.5}`,
		"two of them":          `{}{}`,
		"something behind it":  `{} x`,
		"too many bytes":       `{"id":"` + strings.Repeat("x", MaxBytes) + `"}`,
		"endless nesting":      `{"zone":` + strings.Repeat("[", 100_000),
	} {
		var r Registration
		if err := Decode([]byte(arg), &r); err == nil {
			t.Errorf("%s was taken: %+v", name, r)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
	if err := Decode([]byte(" {} \n"), &Heartbeat{}); err != nil {
		t.Errorf("blanks around it: %v", err)
	}
}

// FuzzDecode: what is taken can be sent on, and is then the same.
func FuzzDecode(f *testing.F) {
	for _, message := range []any{sampleRegistration(), sampleHeartbeat()} {
		arg, err := Encode(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(arg)
	}
	for _, arg := range []string{"", "null", "{}", `{"moves":[{},{}]}`, `{"endpoints":[{"kind":"ws"}]}`, `{"incarnation":-1}`, `{"id":"\u0000"}`} {
		f.Add([]byte(arg))
	}
	f.Fuzz(func(t *testing.T, arg []byte) {
		check(t, arg, new(Registration), new(Registration))
		check(t, arg, new(Heartbeat), new(Heartbeat))
	})
}

func check(t *testing.T, arg []byte, message, again any) {
	if Decode(arg, message) != nil {
		return
	}
	first, err := Encode(message)
	if err != nil {
		t.Fatalf("what was decoded cannot be encoded: %v", err)
	}
	if len(first) > MaxBytes {
		return // escapes take more room than what they stand for
	}
	if err := Decode(first, again); err != nil {
		t.Fatalf("%s: %v", first, err)
	}
	if second, err := Encode(again); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%s became %s, %v", first, second, err)
	}
}
