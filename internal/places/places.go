// Package places counts connections by where they come from, so that one address
// cannot take all the places of a server.
package places

import (
	"net"
	"net/netip"
)

// From is who connects, without the port; the zero Addr where that is no internet
// address. IPv6 counts by the network that one customer usually has: a single machine
// there has more addresses than anyone can count.
func From(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() && !ip.IsLoopback() {
		const network = 64
		if p, err := ip.WithZone("").Prefix(network); err == nil {
			return p.Masked().Addr()
		}
	}
	return ip
}

// Count is how many connections there are from each address, and how many there may
// be: at most Most, 0 for any number. Whoever calls it guards it. An address that is
// not known is not counted.
type Count struct {
	Most int
	by   map[netip.Addr]int
}

// Enter takes a place, if there is one.
func (c *Count) Enter(from netip.Addr) bool {
	switch {
	case c.Most <= 0 || !from.IsValid():
		return true
	case c.by[from] >= c.Most:
		return false
	case c.by == nil:
		c.by = make(map[netip.Addr]int)
	}
	c.by[from]++
	return true
}

// Leave gives a place back that Enter gave.
func (c *Count) Leave(from netip.Addr) {
	if c.Most <= 0 || !from.IsValid() {
		return
	}
	if c.by[from]--; c.by[from] <= 0 {
		delete(c.by, from)
	}
}

// Strangers is how many connections of one address may be there at the same time of which
// nobody knows yet who they are, where a server that asks for that has so many places in
// all: one who never says it must not keep out those who would.
func Strangers(places int) int {
	const share = 4
	return max(1, places/share)
}

// Addresses is how many addresses are remembered.
func (c *Count) Addresses() int { return len(c.by) }
