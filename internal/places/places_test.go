package places

import (
	"net"
	"net/netip"
	"testing"
)

func TestWhereAConnectionComesFrom(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.7:4711":            "192.0.2.7",
		"[::ffff:192.0.2.7]:4711":   "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::",
		"[2001:db8:1:2:ffff::1]:80": "2001:db8:1:2::",
		"[fe80::1%eth0]:80":         "fe80::",
		"[::1]:80":                  "::1",
		"127.0.0.1:80":              "127.0.0.1",
	} {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
		if got := From(addr).String(); got != want {
			t.Errorf("%s comes from %s, want %s", from, got, want)
		}
	}
	if From(&net.UnixAddr{Name: "/socket"}).IsValid() {
		t.Error("a Unix socket has an internet address")
	}
}

func TestOneAddressHasItsPlacesAndNoMore(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	c := Count{Most: 2}
	for place, want := range []bool{true, true, false} {
		if c.Enter(a) != want {
			t.Errorf("place %d of two was given away: %v", place, !want)
		}
	}
	if !c.Enter(b) {
		t.Error("the places of one are taken from another")
	}
	c.Leave(a)
	if !c.Enter(a) {
		t.Error("a place that was given back is not there")
	}
	for _, from := range []netip.Addr{a, a, b} {
		c.Leave(from)
	}
	if c.Addresses() != 0 {
		t.Error("who has gone is still remembered")
	}
}

func TestWithoutALimitNothingIsCounted(t *testing.T) {
	var c Count
	a := netip.MustParseAddr("192.0.2.1")
	for range 3 {
		if !c.Enter(a) {
			t.Fatal("refused without a limit")
		}
	}
	c.Leave(a)
	limited := Count{Most: 1}
	for range 2 {
		if !limited.Enter(netip.Addr{}) {
			t.Error("an address that is not known was counted")
		}
	}
	if c.Addresses()+limited.Addresses() != 0 {
		t.Error("something was counted")
	}
}
