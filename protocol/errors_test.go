package protocol_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestMoved(t *testing.T) {
	e := protocol.Moved(42, "10.0.0.1:7401")
	if e.Error() != "MOVED 42 10.0.0.1:7401" {
		t.Errorf("%q", e.Error())
	}
	epoch, addr, ok := protocol.ParseMoved(e)
	if epoch != 42 || addr != "10.0.0.1:7401" || !ok {
		t.Errorf("%d %q %v", epoch, addr, ok)
	}
	for _, bad := range []*protocol.Error{
		nil,
		{Code: protocol.ERR, Message: "42 a:1"},
		{Code: protocol.MOVED},
		{Code: protocol.MOVED, Message: "42"},
		{Code: protocol.MOVED, Message: "42 "},
		{Code: protocol.MOVED, Message: "-1 a:1"},
		{Code: protocol.MOVED, Message: "18446744073709551616 a:1"},
		{Code: protocol.MOVED, Message: "42 a:1 b:2"},
	} {
		if epoch, addr, ok := protocol.ParseMoved(bad); ok {
			t.Errorf("%v gives %d %q", bad, epoch, addr)
		}
	}
}

func TestVersionMismatch(t *testing.T) {
	for _, version := range []uint64{0, 7, math.MaxInt64} {
		current, ok := protocol.ParseVersionMismatch(protocol.VersionMismatch(version))
		if current != version || !ok {
			t.Errorf("%d: %d %v", version, current, ok)
		}
	}
	for _, bad := range []*protocol.Error{nil, {Code: protocol.ERR, Message: "1"}, {Code: protocol.VERSION}, {Code: protocol.VERSION, Message: "x y"}} {
		if current, ok := protocol.ParseVersionMismatch(bad); ok {
			t.Errorf("%v gives %d", bad, current)
		}
	}
}

func TestAsError(t *testing.T) {
	full := &protocol.Error{Code: protocol.READONLY, Message: "disk full"}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{full, "READONLY disk full"},
		{fmt.Errorf("put: %w", full), "READONLY disk full"},
		{&protocol.ProtocolError{Code: protocol.TOOLARGE, Message: "much"}, "TOOLARGE Protocol error: much"},
		{io.EOF, "ERR EOF"},
		{&protocol.Error{Code: protocol.NOAUTH}, "NOAUTH"},
	} {
		if got := protocol.AsError(tt.err); got.Error() != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	if protocol.AsError(nil) != nil {
		t.Error("nil is an error")
	}
	var broken *protocol.ProtocolError
	if err := error(&protocol.ProtocolError{Message: "x"}); !errors.As(err, &broken) || err.Error() != "protocol: x" {
		t.Errorf("%v", err)
	}
}

// codes are all codes, as they stand in errors.go.
var codes = []protocol.Code{
	protocol.ERR, protocol.NOAUTH, protocol.NOPERM, protocol.TOOLARGE, protocol.READONLY, protocol.OOM, protocol.OVERLOADED,
	protocol.UNAVAILABLE, protocol.MOVED, protocol.TRYAGAIN, protocol.NOPROTO, protocol.WRONGTYPE, protocol.VERSION,
}

func TestRetryable(t *testing.T) {
	retryable := map[protocol.Code]bool{protocol.TRYAGAIN: true, protocol.OVERLOADED: true, protocol.UNAVAILABLE: true}
	for _, c := range codes {
		if c.Retryable() != retryable[c] {
			t.Errorf("%s: %v", c, c.Retryable())
		}
	}
}
