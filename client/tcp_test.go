//go:build !js

package client

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"
)

// overTCP is a fake cluster of n nodes on real sockets, named by their ports.
func overTCP(t *testing.T, n int) (f *FakeCluster, addresses []string) {
	t.Helper()
	return overListeners(t, n, func(l net.Listener) net.Listener { return l })
}

// overListeners is overTCP with something around its listeners.
func overListeners(t *testing.T, n int, around func(net.Listener) net.Listener) (f *FakeCluster, addresses []string) {
	t.Helper()
	f = newFakeCluster("tcp")
	topology := ring.Topology{Cluster: f.name, Epoch: 1}
	var serving sync.WaitGroup
	var listeners []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address := l.Addr().String()
		l = around(l)
		addresses = append(addresses, address)
		listeners = append(listeners, l)
		topology.Nodes = append(topology.Nodes, ring.Node{Address: address, Tokens: 16})
		node := f.Add(address)
		serving.Go(func() { node.Listen(l) })
	}
	f.Publish(topology)
	t.Cleanup(func() {
		for _, l := range listeners {
			l.Close()
		}
		serving.Wait()
		f.Close()
	})
	return f, addresses
}

func TestOverTCP(t *testing.T) {
	f, addresses := overTCP(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := Open(ctx, addresses[1:2], WithConnections(2))
	must(t, err)
	defer c.Close()
	var all sync.WaitGroup
	for g := range 32 {
		all.Go(func() {
			for i := range 100 {
				key := strconv.Itoa(g*100 + i)
				if err := c.Put(ctx, key, []byte(key)); err != nil {
					t.Error(err)
					return
				}
				if v, err := c.Get(ctx, key); err != nil || string(v) != key {
					t.Errorf("%s is %q, %v", key, v, err)
				}
			}
		})
	}
	all.Wait()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	must(t, c.Put(ctx, "big", big))
	got, err := c.Get(ctx, "big")
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("16 MiB: %d bytes came back, %v", len(got), err)
	}
	n, err := c.Count(ctx)
	must(t, err)
	keys, err := collect(ctx, c, ScanOptions{Count: 100})
	must(t, err)
	if n != 3201 || len(keys) != 3201 {
		t.Errorf("%d keys counted, %d found", n, len(keys))
	}

	// One node goes away with everything it owns handed to the others.
	left := c.Topology()
	left.Epoch, left.Nodes = 2, left.Nodes[:2]
	f.Publish(left)
	f.mu.Lock()
	gone := f.nodes[addresses[2]]
	f.mu.Unlock()
	gone.Stop()
	for i := range 500 {
		key := strconv.Itoa(i)
		if v, err := c.Get(ctx, key); err != nil || string(v) != key {
			t.Fatalf("%s is %q, %v", key, v, err)
		}
	}
}

func TestTCPConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	// The near end of a connection: taken, so that nobody else can listen there.
	held, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer held.Close()
	nobody := held.LocalAddr().String()
	_, err = Open(t.Context(), []string{nobody}, WithRetryBudget(50*time.Millisecond))
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("got %v", err)
	}
}

// A port where something else listens, which closes what it does not understand.
func TestNotANode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("SSH-2.0-OpenSSH_9.9\r\n"))
			conn.Close()
		}
	})
	defer serving.Wait()
	defer l.Close()
	_, err = Open(t.Context(), []string{l.Addr().String()}, WithRetryBudget(50*time.Millisecond))
	if err == nil {
		t.Error("opened a client on something that is no node")
	}
	t.Log(err)
}
