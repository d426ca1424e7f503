package protocol_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func in(millis int64) protocol.Expiry {
	return protocol.Expiry{Kind: protocol.ExpiryIn, Millis: millis}
}

func at(millis int64) protocol.Expiry {
	return protocol.Expiry{Kind: protocol.ExpiryAt, Millis: millis}
}

func TestParsePut(t *testing.T) {
	keep := protocol.Expiry{Kind: protocol.ExpiryKeep}
	for _, tt := range []struct {
		options string
		want    protocol.PutArgs
	}{
		{"", protocol.PutArgs{}},
		{"EX 10", protocol.PutArgs{Expiry: in(10_000)}},
		{"px 10", protocol.PutArgs{Expiry: in(10)}},
		{"ExAt 10", protocol.PutArgs{Expiry: at(10_000)}},
		{"PXAT 10", protocol.PutArgs{Expiry: at(10)}},
		{"PX 4611686018427387903", protocol.PutArgs{Expiry: in(math.MaxInt64 / 2)}},
		{"KEEPTTL", protocol.PutArgs{Expiry: keep}},
		{"NX", protocol.PutArgs{NX: true}},
		{"xx get", protocol.PutArgs{XX: true, Get: true}},
		{"NX NX GET PX 5", protocol.PutArgs{NX: true, Get: true, Expiry: in(5)}},
		{"IFVERSION 0", protocol.PutArgs{HasIfVersion: true}},
		{"EX 1 IFVERSION 9223372036854775807", protocol.PutArgs{HasIfVersion: true, IfVersion: math.MaxInt64, Expiry: in(1000)}},
		{"IFVERSION 7 KEEPTTL", protocol.PutArgs{HasIfVersion: true, IfVersion: 7, Expiry: keep}},
	} {
		got, err := protocol.ParsePut(args("PUT k v " + tt.options))
		tt.want.Key, tt.want.Value = []byte("k"), []byte("v")
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.options, got, err)
		}
	}
}

func TestParsePutRefuses(t *testing.T) {
	const syntax = "ERR syntax error; usage: PUT key value [EX s | PX ms | EXAT unix-s | PXAT unix-ms | KEEPTTL] [NX | XX] [GET] [IFVERSION version]"
	const expiry = "ERR invalid expire time in 'PUT'"
	const integer = "ERR value is not an integer or out of range"
	const version = "ERR the version is not a number from 0 to 9223372036854775807"
	for _, tt := range []struct{ options, want string }{
		{"EX", syntax},
		{"WHAT", syntax},
		{"EX 1 PX 1", syntax},
		{"EX 1 KEEPTTL", syntax},
		{"KEEPTTL EX 1", syntax},
		{"KEEPTTL KEEPTTL", syntax},
		{"NX XX", syntax},
		{"IFVERSION", syntax},
		{"IFVERSION 1 IFVERSION 1", syntax},
		{"IFVERSION 1 NX", syntax},
		{"XX IFVERSION 1", syntax},
		{"GET IFVERSION 1", syntax},
		{"EX x", integer},
		{"EX 9223372036854775808", integer},
		{"EX 0", expiry},
		{"PX -1", expiry},
		{"EXAT 0", expiry},
		{"EX 4611686018427388", expiry},
		{"PX 4611686018427387904", expiry},
		{"EX 9223372036854775807", expiry},
		{"IFVERSION -1", version},
		{"IFVERSION x", version},
		{"IFVERSION 9223372036854775808", version},
	} {
		if got, err := protocol.ParsePut(args("PUT k v " + tt.options)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %+v, %v; want %s", tt.options, got, err, tt.want)
		}
	}
}

// The other commands that are a PUT, and one word too few or too many for each.
func TestParseKindsOfPut(t *testing.T) {
	k, v := []byte("k"), []byte("v")
	for _, tt := range []struct {
		in    string
		parse func([][]byte) (protocol.PutArgs, error)
		want  protocol.PutArgs
		code  protocol.Code
	}{
		{"SETNX k v", protocol.ParseSetNX, protocol.PutArgs{Key: k, Value: v, NX: true}, ""},
		{"SETNX k", protocol.ParseSetNX, protocol.PutArgs{}, protocol.ERR},
		{"SETEX k 2 v", protocol.ParseSetEx, protocol.PutArgs{Key: k, Value: v, Expiry: in(2000)}, ""},
		{"SETEX k 0 v", protocol.ParseSetEx, protocol.PutArgs{}, protocol.ERR},
		{"SETEX k v", protocol.ParseSetEx, protocol.PutArgs{}, protocol.ERR},
		{"PSETEX k 2 v", protocol.ParsePSetEx, protocol.PutArgs{Key: k, Value: v, Expiry: in(2)}, ""},
		{"PSETEX k x v", protocol.ParsePSetEx, protocol.PutArgs{}, protocol.ERR},
		{"GETSET k v", protocol.ParseGetSet, protocol.PutArgs{Key: k, Value: v, Get: true}, ""},
		{"GETSET k v v", protocol.ParseGetSet, protocol.PutArgs{}, protocol.ERR},
		{"PUT k", protocol.ParsePut, protocol.PutArgs{}, protocol.ERR},
	} {
		got, err := tt.parse(args(tt.in))
		if !reflect.DeepEqual(got, tt.want) || code(t, err) != tt.code {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}

func TestParseMSet(t *testing.T) {
	pairs, err := protocol.ParseMSet(args("MSET a 1 b 2"))
	if err != nil || !reflect.DeepEqual(stringsOf(pairs), []string{"a", "1", "b", "2"}) {
		t.Errorf("%q, %v", pairs, err)
	}
	for _, bad := range []string{"MSET", "MSET a", "MSET a 1 b"} {
		_, err := protocol.ParseMSet(args(bad))
		wantCode(t, err, protocol.ERR)
	}
}
