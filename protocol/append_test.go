package protocol_test

import (
	"math"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestAppend(t *testing.T) {
	for _, tt := range []struct{ name, got, want string }{
		{"simple", string(protocol.AppendSimple(nil, "PONG")), "+PONG\r\n"},
		{"simple of two lines", string(protocol.AppendSimple(nil, "a\r\nb")), "+a  b\r\n"},
		{"ok", string(protocol.AppendOK(nil)), "+OK\r\n"},
		{"error", string(protocol.AppendError(nil, &protocol.Error{Code: protocol.ERR, Message: "no"})), "-ERR no\r\n"},
		{"error that forges a reply", string(protocol.AppendErrorCode(nil, protocol.ERR, "x\r\n+OK\r\n")), "-ERR x  +OK  \r\n"},
		{"error without a message", string(protocol.AppendErrorCode(nil, protocol.NOAUTH, "")), "-NOAUTH\r\n"},
		{"int", string(protocol.AppendInt(nil, math.MinInt64)), ":-9223372036854775808\r\n"},
		{"bulk", string(protocol.AppendBulk(nil, []byte("a\r\nb"))), "$4\r\na\r\nb\r\n"},
		{"empty bulk", string(protocol.AppendBulk(nil, nil)), "$0\r\n\r\n"},
		{"bulk string", string(protocol.AppendBulkString(nil, "abc")), "$3\r\nabc\r\n"},
		{"bulk int", string(protocol.AppendBulkInt(nil, -12)), "$3\r\n-12\r\n"},
		{"bulk uint", string(protocol.AppendBulkUint(nil, math.MaxUint64)), "$20\r\n18446744073709551615\r\n"},
		{"null", string(protocol.AppendNull(nil)), "$-1\r\n"},
		{"null array", string(protocol.AppendNullArray(nil)), "*-1\r\n"},
		{"array", string(protocol.AppendArray(nil, 12)), "*12\r\n"},
		{"request", string(protocol.AppendRequest(nil, "GET", []byte("k"))), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"},
		{"request of strings", string(protocol.AppendRequestStrings(nil, "GET", "k")), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"},
		{"behind what is there", string(protocol.AppendInt([]byte("+OK\r\n"), 1)), "+OK\r\n:1\r\n"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}
