// Package freeport finds ports for servers that are started as processes of their
// own, and so cannot be handed a listener.
//
// What it promises: an address that nobody listened on a moment ago, from a range
// that systems do not take the source ports of outgoing connections from, and never
// the same one twice, nor in another process that asks here while this one lives. The ports
// eighty and one hundred above, where nodes have their gateway and servers their admin
// listener, are taken along. What it cannot promise: that nobody else begins to listen
// there before the server does.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// Ports for listening: below what Linux (32768), the BSDs and Windows (49152) use for
// connections. A port that was merely free, from the kernel's own choice, can be the
// source of somebody's connection before the server has come up.
const (
	first = 10240
	last  = 32767
	tries = 1000

	gateway = 80  // how far above a node's port its own gateway is, where nobody says otherwise
	admin   = 100 // how far above a server's port its admin listener is
)

var (
	mu    sync.Mutex
	given = map[int]net.PacketConn{} // the claims of this process by port; guarded by mu
)

// Address returns a free loopback address as host:port.
func Address() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		port := first + rand.IntN(last-admin-first+1)
		if take(port) && take(port+gateway) && take(port+admin) {
			return loopback(port), nil
		}
	}
	return "", errors.New("no free port between " + strconv.Itoa(first) + " and " + strconv.Itoa(last))
}

// take makes a port this process's own, also while nobody listens there yet, or not at
// the moment, as between two starts of a server: the UDP port of the same number is a
// sign that other processes see, and that goes away with this one.
func take(port int) bool {
	if _, mine := given[port]; mine {
		return false
	}
	claim, err := net.ListenPacket("udp", loopback(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return false
	}
	if !isFree(loopback(port)) {
		if err == nil {
			_ = claim.Close()
		}
		return false
	}
	given[port] = claim // nil on a system without UDP: the range is wide
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	return err == nil && l.Close() == nil
}
