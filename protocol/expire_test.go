package protocol_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestParseExpire(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want protocol.ExpireArgs
		code protocol.Code
	}{
		{"EXPIRE k 10", protocol.ExpireArgs{Expiry: in(10_000)}, ""},
		{"PEXPIRE k 10", protocol.ExpireArgs{Expiry: in(10)}, ""},
		{"EXPIREAT k 10", protocol.ExpireArgs{Expiry: at(10_000)}, ""},
		{"PEXPIREAT k 10", protocol.ExpireArgs{Expiry: at(10)}, ""},
		{"EXPIRE k -1", protocol.ExpireArgs{Expiry: in(-1000)}, ""},
		{"EXPIRE k 0 nx", protocol.ExpireArgs{Expiry: in(0), NX: true}, ""},
		{"EXPIRE k 1 XX GT", protocol.ExpireArgs{Expiry: in(1000), XX: true, GT: true}, ""},
		{"EXPIRE k 1 lt", protocol.ExpireArgs{Expiry: in(1000), LT: true}, ""},
		{"EXPIRE k", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k 1 GT LT", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k 1 NX XX", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k 1 LT NX", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k 1 SOON", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k soon", protocol.ExpireArgs{}, protocol.ERR},
		{"EXPIRE k 9223372036854775", protocol.ExpireArgs{}, protocol.ERR},
		{"PEXPIRE k -9223372036854775808", protocol.ExpireArgs{}, protocol.ERR},
	} {
		request := args(tt.in)
		c, _ := protocol.Lookup(request[0])
		got, err := protocol.ParseExpire(c, request)
		if tt.code == "" {
			tt.want.Key = []byte("k")
		}
		if !reflect.DeepEqual(got, tt.want) || code(t, err) != tt.code {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}

// An expiry in the past is never taken for "none", and none overflows.
func TestExpiryResolve(t *testing.T) {
	const far = math.MaxInt64 / 2
	for _, tt := range []struct {
		expiry protocol.Expiry
		now    int64
		want   int64
	}{
		{protocol.Expiry{}, 1000, 0},
		{protocol.Expiry{Kind: protocol.ExpiryKeep}, 1000, 0},
		{in(5), 1000, 1005},
		{in(-5), 1000, 995},
		{in(-2000), 1000, 1},
		{in(far), far, 2 * far},
		{in(far), math.MaxInt64, 2 * far},
		{at(7), 1000, 7},
		{at(0), 1000, 1},
		{at(-far), 1000, 1},
	} {
		if got := tt.expiry.Resolve(tt.now); got != tt.want {
			t.Errorf("%+v at %d: %d, want %d", tt.expiry, tt.now, got, tt.want)
		}
	}
}

func TestParseIncr(t *testing.T) {
	for _, tt := range []struct {
		in    string
		delta int64
		code  protocol.Code
	}{
		{"INCR k", 1, ""},
		{"DECR k", -1, ""},
		{"INCRBY k 5", 5, ""},
		{"INCRBY k -9223372036854775808", math.MinInt64, ""},
		{"DECRBY k 5", -5, ""},
		{"DECRBY k -9223372036854775807", math.MaxInt64, ""},
		{"DECRBY k -9223372036854775808", 0, protocol.ERR},
		{"INCRBY k 9223372036854775808", 0, protocol.ERR},
		{"INCRBY k 1.5", 0, protocol.ERR},
		{"INCRBY k", 0, protocol.ERR},
		{"INCR k 1", 0, protocol.ERR},
	} {
		request := args(tt.in)
		c, _ := protocol.Lookup(request[0])
		got, err := protocol.ParseIncr(c, request)
		if code(t, err) != tt.code || got.Delta != tt.delta || (err == nil && string(got.Key) != "k") {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}
