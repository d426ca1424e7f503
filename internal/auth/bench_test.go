package auth

import (
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func BenchmarkAuthorize(b *testing.B) {
	few := []Scope{PrefixScope("session:", ReadAccess), PrefixScope("user:", ReadAccess), KeyScope("flags", ReadAccess), PrefixScope("cart:", WriteAccess)}
	var many []Scope
	for i := range 60 {
		many = append(many, PrefixScope("tenant-"+strconv.Itoa(i)+":", ReadAccess))
	}
	many = append(many, PrefixScope("cart:", WriteAccess))
	get, mget := request("GET", "cart:1234567"), [][]byte{[]byte("MGET")}
	for range 100 {
		mget = append(mget, []byte("cart:1234567"))
	}
	for _, c := range []struct {
		name string
		who  *Principal
		cmd  protocol.Command
		args [][]byte
	}{
		{"open", Open(), protocol.CmdGet, get},
		{"all keys", holder(b, lasting(PrefixScope("", WriteAccess))), protocol.CmdGet, get},
		{"4 scopes", holder(b, lasting(few...)), protocol.CmdGet, get},
		{"4 scopes 100 keys", holder(b, lasting(few...)), protocol.CmdMGet, mget},
		{"61 scopes", holder(b, lasting(many...)), protocol.CmdGet, get},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			now := noon.UnixMilli()
			for b.Loop() {
				if err := Authorize(c.who, now, c.cmd, c.args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, a := range []Algorithm{EdDSA, HS256} {
		b.Run(string(a), func(b *testing.B) {
			k := newKey(b, a, "k1")
			keys, token := NewKeys(k), []byte(sign(b, k, lasting(PrefixScope("cart:", WriteAccess))))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keys.Authenticate(token, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestAskingAllocatesNothing(t *testing.T) {
	p := holder(t, lasting(PrefixScope("cart:", WriteAccess), KeyScope("flags", ReadAccess)))
	args, now := request("MGET", "cart:1", "flags"), noon.UnixMilli()
	n := testing.AllocsPerRun(100, func() {
		if Authorize(p, now, protocol.CmdMGet, args) != nil || Authorize(Open(), now, protocol.CmdMGet, args) != nil {
			t.Fatal("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
