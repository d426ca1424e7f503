package protocol_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestWatchRequests(t *testing.T) {
	many := protocol.Watch{ID: 1, Selector: []byte("k")}
	for range protocol.MaxWatchRanges {
		many.Ranges = append(many.Ranges, protocol.WatchRange{End: 1})
	}
	for _, tt := range []struct {
		want message
		line string
	}{
		{
			protocol.Watch{ID: 1, Selector: []byte("k"), Ranges: []protocol.WatchRange{{Start: 1<<32 - 1, End: 0, Version: math.MaxInt64}}},
			"WATCH 1 KEY k 4294967295 0 9223372036854775807",
		},
		{
			protocol.Watch{ID: math.MaxInt64, Prefix: true, Selector: []byte("state"), State: true, Ranges: []protocol.WatchRange{{}, {Start: 5, End: 9}}},
			"WATCH 9223372036854775807 PREFIX state STATE 0 0 0 5 9 0",
		},
		{many, "WATCH 1 KEY k" + strings.Repeat(" 0 1 0", protocol.MaxWatchRanges)},
		{protocol.Unwatch{ID: 7}, "UNWATCH 7"},
	} {
		got, err := parse(args(tt.line))
		if err != nil || !reflect.DeepEqual(got, any(tt.want)) {
			t.Errorf("%.60q: %+v, %v", tt.line, got, err)
		}
		sent := feed(&protocol.RequestParser{}, string(tt.want.Append(nil)))
		if len(sent.requests) != 1 || strings.Join(sent.requests[0], " ") != tt.line {
			t.Errorf("%+v is sent as %q, %v", tt.want, sent.requests, sent.err)
		}
	}
}

// Every prefix, the empty one too, is one that can be watched.
func TestWatchOfAllKeys(t *testing.T) {
	w, err := protocol.ParseWatch(words("WATCH", "1", "PREFIX", "", "0", "0", "0"))
	if err != nil || !w.Prefix || len(w.Selector) != 0 {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestBadWatchRequests(t *testing.T) {
	for line, want := range map[string]string{
		"WATCH 1 KEY k":                         "wrong number of arguments for 'WATCH'; usage: " + protocol.CmdWatch.Synopsis(),
		"WATCH 0 KEY k 0 0 0":                   "WATCH: id is not a number from 1 to 9223372036854775807",
		"WATCH -1 KEY k 0 0 0":                  "WATCH: id is not a number from 0 to 9223372036854775807",
		"WATCH 1 GLOB k 0 0 0":                  "WATCH: selector is neither key nor prefix",
		"WATCH 1 KEY k 0 0 0 0":                 "WATCH: ranges are not triples of start, end and version",
		"WATCH 1 KEY k STATE 0 0 0 0 0":         "WATCH: ranges are not triples of start, end and version",
		"WATCH 1 KEY k STATE 0 0":               "WATCH: ranges are not triples of start, end and version",
		"WATCH 1 KEY k 0 4294967296 0":          "WATCH: end is not a number from 0 to 4294967295",
		"WATCH 1 KEY k 0 0 9223372036854775808": "WATCH: version is not a number from 0 to 9223372036854775807",
		"WATCH 1 KEY k" + strings.Repeat(" 0 0 0", protocol.MaxWatchRanges+1): "WATCH: 4097 ranges, and the limit is 4096",
		"UNWATCH":   "wrong number of arguments for 'UNWATCH'; usage: UNWATCH id",
		"UNWATCH 0": "UNWATCH: id is not a number from 1 to 9223372036854775807",
	} {
		got, err := parse(args(line))
		if err == nil || err.Error() != "ERR "+want {
			t.Errorf("%.60q: %+v, %v", line, got, err)
		}
	}
}

// The id of a request that is wrong can still be told, if there is one.
func TestWatchIDOfAWrongRequest(t *testing.T) {
	for line, want := range map[string]int64{
		"WATCH 17 GLOB": 17, "UNWATCH 3 4": 3, "WATCH": 0, "WATCH x KEY": 0, "WATCH -1": 0, "WATCH 9223372036854775808": 0,
	} {
		if got := protocol.WatchID(args(line)); got != want {
			t.Errorf("%s: %d", line, got)
		}
	}
}

// pushes are all kinds, with the bytes that they have on the wire.
var pushes = []struct {
	push protocol.Push
	wire string
}{
	{protocol.Push{Kind: protocol.PushWatching, ID: 1}, "*2\r\n$8\r\nwatching\r\n:1\r\n"},
	{
		protocol.Push{Kind: protocol.PushPut, ID: 2, Key: []byte("a\r\n"), Version: 1 << 62, ExpireAt: 5, Value: []byte{0, 0xff}},
		"*6\r\n$3\r\nput\r\n:2\r\n$3\r\na\r\n\r\n:4611686018427387904\r\n:5\r\n$2\r\n\x00\xff\r\n",
	},
	{protocol.Push{Kind: protocol.PushDelete, ID: 3, Key: []byte("k"), Version: 9}, "*4\r\n$6\r\ndelete\r\n:3\r\n$1\r\nk\r\n:9\r\n"},
	{protocol.Push{Kind: protocol.PushState, ID: 4, Start: 1<<32 - 1, End: 0}, "*4\r\n$5\r\nstate\r\n:4\r\n:4294967295\r\n:0\r\n"},
	{protocol.Push{Kind: protocol.PushSynced, ID: 5, Start: 7, End: 7, Version: 3}, "*5\r\n$6\r\nsynced\r\n:5\r\n:7\r\n:7\r\n:3\r\n"},
	{protocol.Push{Kind: protocol.PushProgress, ID: 6, Version: math.MaxInt64}, "*3\r\n$8\r\nprogress\r\n:6\r\n:9223372036854775807\r\n"},
	{protocol.Push{Kind: protocol.PushBehind, ID: 7}, "*2\r\n$6\r\nbehind\r\n:7\r\n"},
	{
		protocol.Push{Kind: protocol.PushMoved, ID: 8, Start: 1, End: 2, Version: 3, Epoch: 4, Address: []byte("10.0.0.2:7402")},
		"*7\r\n$5\r\nmoved\r\n:8\r\n:1\r\n:2\r\n:3\r\n:4\r\n$13\r\n10.0.0.2:7402\r\n",
	},
	{protocol.Push{Kind: protocol.PushRefused, ID: 0, Message: []byte("ERR no")}, "*3\r\n$7\r\nrefused\r\n:0\r\n$6\r\nERR no\r\n"},
	{protocol.Push{Kind: protocol.PushUnwatched, ID: math.MaxInt64}, "*2\r\n$9\r\nunwatched\r\n:9223372036854775807\r\n"},
	{protocol.Push{Kind: protocol.PushPong, Message: []byte("m")}, "*2\r\n$4\r\npong\r\n$1\r\nm\r\n"},
}

func readPush(t *testing.T, wire string) (protocol.Push, error) {
	t.Helper()
	var p protocol.ReplyParser
	r, n, err := p.Next([]byte(wire))
	if err != nil || n != len(wire) {
		t.Fatalf("%q: %d, %v", wire, n, err)
	}
	return protocol.ParsePush(r)
}

func TestPushes(t *testing.T) {
	for _, tt := range pushes {
		if got := string(tt.push.Append(nil)); got != tt.wire {
			t.Errorf("%v is sent as %q, want %q", tt.push.Kind, got, tt.wire)
		}
		if got, err := readPush(t, tt.wire); err != nil || !reflect.DeepEqual(got, tt.push) {
			t.Errorf("%q is read as %+v, %v", tt.wire, got, err)
		}
	}
	for k := protocol.PushWatching; k.String() != ""; k++ {
		if int(k) > len(pushes) || pushes[k-1].push.Kind != k {
			t.Errorf("no bytes of %v", k)
		}
	}
	if s := protocol.PushKind(255).String(); s != "" {
		t.Error(s)
	}
}

func TestTheHeadOfAPut(t *testing.T) {
	p := pushes[1].push
	head := p.AppendPutHead(nil, len(p.Value))
	if got := string(head) + string(p.Value) + "\r\n"; got != pushes[1].wire {
		t.Errorf("%q", got)
	}
}

// A newer node may send pushes and elements that this client does not know.
func TestPushesOfTheFuture(t *testing.T) {
	if p, err := readPush(t, "*2\r\n$7\r\nweather\r\n*1\r\n+rain\r\n"); p.Kind != 0 || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := readPush(t, "*4\r\n$8\r\nprogress\r\n:6\r\n:7\r\n$3\r\nnew\r\n"); p.Version != 7 || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestBadPushes(t *testing.T) {
	for _, wire := range []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$8\r\nprogress\r\n", "*-1\r\n", "*0\r\n", "*1\r\n$-1\r\n", "*1\r\n+progress\r\n",
		"*2\r\n$8\r\nprogress\r\n:6\r\n", "*3\r\n$8\r\nprogress\r\n:6\r\n$1\r\n7\r\n", "*3\r\n$8\r\nprogress\r\n:6\r\n:-1\r\n",
		"*3\r\n$8\r\nprogress\r\n:-6\r\n:1\r\n", "*4\r\n$5\r\nstate\r\n:4\r\n:4294967296\r\n:0\r\n",
		"*4\r\n$6\r\ndelete\r\n:3\r\n$-1\r\n:9\r\n", "*4\r\n$6\r\ndelete\r\n:3\r\n:1\r\n:9\r\n",
		"*6\r\n$3\r\nput\r\n:2\r\n$1\r\na\r\n:1\r\n:-5\r\n$1\r\nv\r\n",
	} {
		if p, err := readPush(t, wire); err == nil {
			t.Errorf("%q is taken for %+v", wire, p)
		}
	}
	_, err := readPush(t, "*3\r\n$8\r\nprogress\r\n:6\r\n$1\r\n7\r\n")
	if want := "protocol: push 'progress': element 2 is not what it should be"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestARefusedWatchSaysWhy(t *testing.T) {
	p := protocol.Push{Kind: protocol.PushRefused, ID: 1, Message: []byte("OVERLOADED too many watches")}
	if e := p.Err(); e == nil || e.Code != protocol.OVERLOADED || e.Message != "too many watches" {
		t.Errorf("%+v", e)
	}
	p.Kind = protocol.PushPong
	if e := p.Err(); e != nil {
		t.Errorf("%+v", e)
	}
}

func TestPushesAllocateNothing(t *testing.T) {
	var stream []byte
	for i := range pushes {
		stream = pushes[i].push.Append(stream)
	}
	var p protocol.ReplyParser
	scratch := make([]byte, 0, 1024)
	if allocs := testing.AllocsPerRun(100, func() {
		for buf := stream; len(buf) > 0; {
			r, n, _ := p.Next(buf)
			push, err := protocol.ParsePush(r)
			if n == 0 || err != nil {
				t.Fatal(err)
			}
			push.Append(scratch)
			buf = buf[n:]
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Whatever comes: no panic, and what is read as a push is written as the same push.
func FuzzPushes(f *testing.F) {
	for _, tt := range pushes {
		f.Add([]byte(tt.wire))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var p, again protocol.ReplyParser
		r, n, err := p.Next(in)
		if n == 0 || err != nil {
			return
		}
		push, err := protocol.ParsePush(r)
		if err != nil || push.Kind == 0 {
			return
		}
		_ = push.Err()
		r, _, err = again.Next(push.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		got, err := protocol.ParsePush(r)
		if err != nil || got.Kind != push.Kind || !bytes.Equal(got.Append(nil), push.Append(nil)) {
			t.Errorf("%+v came back as %+v, %v", push, got, err)
		}
	})
}
