package protocol_test

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// described is what COMMAND answers, read back.
func described(t *testing.T, line string) protocol.Reply {
	t.Helper()
	var p protocol.ReplyParser
	buf := protocol.AppendCommandReply(nil, args(line))
	r, n, err := p.Next(buf)
	if err != nil || n != len(buf) {
		t.Fatalf("%s: %d of %d bytes, %v", line, n, len(buf), err)
	}
	return r
}

func TestCommandReply(t *testing.T) {
	count := described(t, "COMMAND COUNT").Int
	if count < int64(len(protocol.Commands())) {
		t.Errorf("%d commands", count)
	}
	for _, line := range []string{"COMMAND", "COMMAND LIST", "COMMAND INFO"} {
		if got := described(t, line); int64(len(got.Array)) != count {
			t.Errorf("%s lists %d of %d", line, len(got.Array), count)
		}
	}
	if got := described(t, "COMMAND DOCS"); int64(len(got.Array)) != 2*count {
		t.Errorf("DOCS has %d entries of %d", len(got.Array)/2, count)
	}
	if err := described(t, "COMMAND GETKEYS GET k").Err(); err == nil || err.Code != protocol.ERR {
		t.Errorf("GETKEYS: %v", err)
	}
}

func TestCommandInfo(t *testing.T) {
	got := described(t, "COMMAND INFO mset FLY")
	want := "*2\r\n*6\r\n$4\r\nmset\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n*-1\r\n"
	if raw := string(protocol.AppendCommandReply(nil, args("COMMAND INFO mset FLY"))); raw != want {
		t.Errorf("%q\nwant %q", raw, want)
	}
	if len(got.Array) != 2 || !got.Array[1].Null {
		t.Errorf("%+v", got)
	}
	for name, flag := range map[string]string{"GET": "readonly", "PING": "fast", "REFRESH": "admin", "CLUSTER": "admin"} {
		if got := described(t, "COMMAND INFO "+name).Array[0].Array[2].Array[0]; string(got.Bytes) != flag {
			t.Errorf("%s is %s, want %s", name, got.Bytes, flag)
		}
	}
}

// TestCommandIsNotAskedAboutMoreThanThereIs: the answer to a name is many times as long as
// the name, and nobody counts its bytes before it is there.
func TestCommandIsNotAskedAboutMoreThanThereIs(t *testing.T) {
	for _, verb := range []string{"INFO", "DOCS"} {
		names := strings.Repeat(" put", 257)
		if err := described(t, "COMMAND "+verb+names).Err(); err == nil || err.Code != protocol.TOOLARGE {
			t.Errorf("%s of 257 names: %v", verb, err)
		}
		if got := described(t, "COMMAND "+verb+names[:256*len(" put")]); len(got.Array) < 256 {
			t.Errorf("%s of 256 names: %d entries", verb, len(got.Array))
		}
	}
}

func TestCommandDocs(t *testing.T) {
	got := described(t, "COMMAND DOCS set fly refresh ping")
	if len(got.Array) != 6 {
		t.Fatalf("%d entries", len(got.Array))
	}
	for i, want := range []string{"set data", "refresh cluster", "ping session"} {
		docs := got.Array[2*i+1].Array
		if have := string(got.Array[2*i].Bytes) + " " + string(docs[5].Bytes); have != want {
			t.Errorf("%q, want %q", have, want)
		}
		if string(docs[0].Bytes) != "summary" || len(docs[1].Bytes) == 0 {
			t.Errorf("%s has no summary", want)
		}
	}
}
