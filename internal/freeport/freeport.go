// Package freeport finds ports for servers that are started as processes of their
// own, and so cannot be handed a listener.
//
// What it promises: an address that nobody listened on a moment ago, from a range
// that systems do not take the source ports of outgoing connections from, and never
// the same one twice in a process. What it cannot promise: that nobody else begins to
// listen there before the server does.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports for listening: below what Linux (32768), the BSDs and Windows (49152) use for
// connections. A port that was merely free, from the kernel's own choice, can be the
// source of somebody's connection before the server has come up.
const (
	first = 10240
	last  = 32767
	tries = 1000
)

var (
	mu    sync.Mutex
	given = map[int]bool{} // guarded by mu
)

// Address returns a free loopback address as host:port.
func Address() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		port := first + rand.IntN(last-first+1)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if given[port] || !isFree(address) {
			continue
		}
		given[port] = true
		return address, nil
	}
	return "", errors.New("no free port between " + strconv.Itoa(first) + " and " + strconv.Itoa(last))
}

func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	return err == nil && l.Close() == nil
}
