package client

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// FakeCluster speaks the protocol of a cluster from one process: nodes that
// share one store, each of which serves what its own topology gives it. A range
// moves by giving the nodes new topologies, one after another, in the order in
// which real ones learn of it. Tests make it slow, deaf, mistaken or dead.
type FakeCluster struct {
	name    string
	mu      sync.Mutex
	nodes   map[string]*FakeNode
	data    map[string]fakeEntry
	version uint64

	history  map[string]fakeChange // the newest of every key, for watches
	horizon  uint64                // deletes below it are forgotten
	patience int                   // pushes that may wait for a slow reader; 0: any number

	tokens map[string]fakeToken // that the nodes take; nil: everybody may do everything
}

type fakeEntry struct {
	value   []byte
	version uint64
	expires int64 // unix ms, 0: never
}

// FakeNode is one node. Its fields are guarded by the cluster's mu.
type FakeNode struct {
	cluster *FakeCluster
	address string
	text    []byte // its topology
	epoch   ring.Epoch
	owners  *ring.Map
	down    bool
	dials   int
	served  map[string]int // requests by name
	conns   map[net.Conn]struct{}
	shown   map[net.Conn]string // the tokens they began with
	busy    sync.WaitGroup
	// script is asked before each request, without mu held; nil: serve all.
	script func(name string, args [][]byte) fakeAct

	watches map[net.Conn]*fakeWatch
	onWatch func(*fakeWatch, protocol.Watch) // answers WATCH instead
	deaf    bool                             // does not answer PING on connections that watch
}

// fakeAct is what a script wants for a request; the zero value is to serve it.
type fakeAct struct {
	reply  []byte          // answer this instead
	wait   <-chan struct{} // first wait for this, or for the connection to break
	before func()          // first do this
	cut    bool            // then break the connection, after the reply if there is one
}

var errRefused = errors.New("connection refused")

// NewFakeCluster has nodes at n1:7401, n2:7401... and epoch 1.
func NewFakeCluster(n int) *FakeCluster {
	f := newFakeCluster("fake")
	for i := range n {
		f.Add(fakeAddress(i + 1))
	}
	f.Publish(f.Topology(1, n))
	return f
}

func newFakeCluster(name string) *FakeCluster {
	return &FakeCluster{name: name, nodes: map[string]*FakeNode{}, data: map[string]fakeEntry{}, history: map[string]fakeChange{}, version: 1000}
}

func fakeAddress(i int) string { return "n" + strconv.Itoa(i) + ":7401" }

// Add starts a node that knows of no topology.
func (f *FakeCluster) Add(address string) *FakeNode {
	n := &FakeNode{cluster: f, address: address, conns: map[net.Conn]struct{}{}, shown: map[net.Conn]string{}, served: map[string]int{}, watches: map[net.Conn]*fakeWatch{}}
	f.mu.Lock()
	f.nodes[address] = n
	f.mu.Unlock()
	return n
}

// Topology is one of the first n nodes.
func (f *FakeCluster) Topology(epoch ring.Epoch, n int) ring.Topology {
	t := ring.Topology{Cluster: f.name, Epoch: epoch}
	for i := range n {
		t.Nodes = append(t.Nodes, ring.Node{Address: fakeAddress(i + 1), Tokens: 16})
	}
	return t
}

// Publish gives a topology to the nodes named, or to all of them.
func (f *FakeCluster) Publish(t ring.Topology, addresses ...string) {
	text, err := t.MarshalText()
	if err != nil {
		panic(err)
	}
	owners, err := t.Map()
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(addresses) == 0 {
		addresses = slices.Collect(maps.Keys(f.nodes))
	}
	for _, a := range addresses {
		n := f.nodes[a]
		n.text, n.epoch, n.owners = text, t.Epoch, owners
		n.reowned()
	}
}

// Node finds a node.
func (f *FakeCluster) Node(i int) *FakeNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[fakeAddress(i)]
}

// Dial is a Dialer over pipes in memory.
func (f *FakeCluster) Dial(_ context.Context, address string) (Conn, error) {
	f.mu.Lock()
	n := f.nodes[address]
	f.mu.Unlock()
	if n == nil {
		return nil, errRefused
	}
	here, there := net.Pipe()
	if !n.accept(there) {
		return nil, errRefused
	}
	return here, nil
}

// Listen serves a node over TCP too.
func (n *FakeNode) Listen(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !n.accept(conn) {
			conn.Close()
		}
	}
}

func (n *FakeNode) accept(conn net.Conn) bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.dials++
	if n.down {
		return false
	}
	n.conns[conn] = struct{}{}
	n.busy.Go(func() { n.serve(conn) })
	return true
}

// Script sets what the node does with requests.
func (n *FakeNode) Script(script func(name string, args [][]byte) fakeAct) {
	n.cluster.mu.Lock()
	n.script = script
	n.cluster.mu.Unlock()
}

// Stop breaks all connections and refuses new ones, until Start.
func (n *FakeNode) Stop() {
	n.cluster.mu.Lock()
	n.down = true
	for conn := range n.conns {
		conn.Close()
	}
	n.cluster.mu.Unlock()
	n.busy.Wait()
}

// Start undoes Stop.
func (n *FakeNode) Start() {
	n.cluster.mu.Lock()
	n.down = false
	n.cluster.mu.Unlock()
}

// Served is how many requests of a name the node has got.
func (n *FakeNode) Served(name string) int {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.served[name]
}

// Conns is how many connections the node has, and how often it was dialled.
func (n *FakeNode) Conns() (open, dials int) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return len(n.conns), n.dials
}

// Close stops every node.
func (f *FakeCluster) Close() {
	f.mu.Lock()
	nodes := slices.Collect(maps.Values(f.nodes))
	f.mu.Unlock()
	for _, n := range nodes {
		n.Stop()
	}
}

// Put stores a value behind everybody's back.
func (f *FakeCluster) Put(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put([]byte(key), []byte(value), 0)
}

func (f *FakeCluster) put(key, value []byte, expires int64) uint64 {
	f.version++
	e := fakeEntry{value: bytes.Clone(value), version: f.version, expires: expires}
	f.data[string(key)] = e
	f.changed(string(key), fakeChange{fakeEntry: e})
	return f.version
}

// KeyOf finds a key that the node owns.
func (n *FakeNode) KeyOf(tag string) string {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	for i := 0; ; i++ {
		key := tag + strconv.Itoa(i)
		if n.owners.Owner(ring.PositionOfString(key)) == n.address {
			return key
		}
	}
}

func (n *FakeNode) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		n.cluster.mu.Lock()
		delete(n.conns, conn)
		delete(n.shown, conn)
		n.endWatch(conn)
		n.cluster.mu.Unlock()
	}()
	var buf []byte
	chunk := make([]byte, 4096)
	parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
	for {
		got, err := conn.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:got]...)
		for {
			args, took, err := parser.Next(buf)
			if err != nil {
				return
			}
			if took == 0 {
				break
			}
			if !n.request(conn, args) {
				return
			}
			buf = buf[took:]
		}
	}
}

// request reports whether the connection is still good.
func (n *FakeNode) request(conn net.Conn, args [][]byte) bool {
	name := strings.ToUpper(string(args[0]))
	n.cluster.mu.Lock()
	n.served[name]++
	script := n.script
	n.cluster.mu.Unlock()
	var act fakeAct
	if script != nil && name != "CLIENT" { // the greeting is no part of any story
		act = script(name, args)
	}
	if act.wait != nil {
		<-act.wait
	}
	if act.before != nil {
		act.before()
	}
	reply := act.reply
	if reply == nil && !act.cut {
		var open bool
		if reply, open = n.authenticated(conn, name, args); !open {
			_, _ = conn.Write(reply)
			return false
		}
	}
	if reply == nil && !act.cut && n.watched(conn, name, args) {
		return true
	}
	if reply == nil && !act.cut {
		n.cluster.mu.Lock()
		reply = n.execute(name, args)
		n.cluster.mu.Unlock()
	}
	if _, err := conn.Write(reply); err != nil {
		return false
	}
	return !act.cut
}

// execute is called with mu held.
func (n *FakeNode) execute(name string, args [][]byte) []byte {
	switch name {
	case "CLIENT":
		return protocol.AppendOK(nil)
	case "PING":
		return protocol.AppendSimple(nil, "PONG")
	case "ECHO":
		return protocol.AppendBulk(nil, args[1])
	case "INFO":
		return protocol.AppendBulkString(nil, "address:"+n.address)
	case "TOPOLOGY":
		if n.text == nil {
			return protocol.AppendErrorCode(nil, protocol.UNAVAILABLE, "no topology yet")
		}
		return protocol.AppendBulk(nil, n.text)
	case "DBSIZE":
		return protocol.AppendInt(nil, int64(len(n.owned(0))))
	case "SCAN":
		return n.scan(args)
	}
	key := args[1]
	if owner := n.owners.Owner(ring.PositionOf(key)); owner != n.address {
		return protocol.AppendError(nil, protocol.Moved(uint64(n.epoch), owner))
	}
	return n.cluster.keyed(name, key, args)
}

// owned lists the keys of this node from a position on, in ring order.
func (n *FakeNode) owned(from uint64) []string {
	var keys []string
	for key := range n.cluster.data {
		p := ring.PositionOfString(key)
		if uint64(p) >= from && n.owners.Owner(p) == n.address {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		pa, pb := ring.PositionOfString(a), ring.PositionOfString(b)
		if pa != pb {
			return int(int64(pa) - int64(pb))
		}
		return strings.Compare(a, b)
	})
	return keys
}

func (n *FakeNode) scan(args [][]byte) []byte {
	scan, err := protocol.ParseScan(args)
	if err != nil {
		return protocol.AppendError(nil, protocol.AsError(err))
	}
	keys := n.owned(scan.Cursor)
	next := uint64(0)
	if len(keys) > scan.Count {
		end := scan.Count
		last := ring.PositionOfString(keys[end-1])
		for end < len(keys) && ring.PositionOfString(keys[end]) == last {
			end++
		}
		if next = uint64(last) + 1; next == ringSize {
			next = 0
		}
		keys = keys[:end]
	}
	keys = slices.DeleteFunc(keys, func(k string) bool {
		return scan.Match != nil && !protocol.Match(scan.Match, []byte(k))
	})
	b := protocol.AppendArray(nil, 2)
	b = protocol.AppendBulkUint(b, next)
	b = protocol.AppendArray(b, len(keys))
	for _, k := range keys {
		b = protocol.AppendBulkString(b, k)
	}
	return b
}

// keyed executes a command on one key.
func (f *FakeCluster) keyed(name string, key []byte, args [][]byte) []byte {
	e, found := f.data[string(key)]
	if found && e.expires != 0 && e.expires <= time.Now().UnixMilli() {
		f.delete(string(key))
		e, found = fakeEntry{}, false
	}
	switch name {
	case "GET":
		if !found {
			return protocol.AppendNull(nil)
		}
		return protocol.AppendBulk(nil, e.value)
	case "GETV":
		if !found {
			return protocol.AppendNullArray(nil)
		}
		b := protocol.AppendBulk(protocol.AppendArray(nil, 2), e.value)
		return protocol.AppendInt(b, int64(e.version))
	case "EXISTS", "DEL":
		if name == "DEL" {
			f.delete(string(key))
		}
		return protocol.AppendInt(nil, one(found))
	case "PUT":
		return f.putCommand(e, found, args)
	case "INCRBY":
		old, _ := protocol.ParseInt(e.value)
		delta, ok := protocol.ParseInt(args[2])
		if !ok || found && len(e.value) == 0 {
			return protocol.AppendErrorCode(nil, protocol.ERR, "value is not an integer")
		}
		f.put(key, strconv.AppendInt(nil, old+delta, 10), e.expires)
		return protocol.AppendInt(nil, old+delta)
	case "APPEND":
		f.put(key, append(bytes.Clone(e.value), args[2]...), e.expires)
		return protocol.AppendInt(nil, int64(len(e.value)+len(args[2])))
	case "PTTL", "PERSIST", "PEXPIRE", "PEXPIREAT":
		return f.expiry(name, e, found, args)
	}
	return protocol.AppendErrorCode(nil, protocol.ERR, "unknown command "+name)
}

func (f *FakeCluster) putCommand(e fakeEntry, found bool, args [][]byte) []byte {
	p, err := protocol.ParsePut(args)
	switch {
	case err != nil:
		return protocol.AppendError(nil, protocol.AsError(err))
	case p.NX && found, p.XX && !found:
		return protocol.AppendNull(nil)
	case p.HasIfVersion && p.IfVersion != e.version:
		return protocol.AppendError(nil, protocol.VersionMismatch(e.version))
	}
	expires := p.Expiry.Resolve(time.Now().UnixMilli())
	if p.Expiry.Kind == protocol.ExpiryKeep {
		expires = e.expires
	}
	v := f.put(p.Key, p.Value, expires)
	if p.HasIfVersion {
		return protocol.AppendInt(nil, int64(v))
	}
	return protocol.AppendOK(nil)
}

func (f *FakeCluster) expiry(name string, e fakeEntry, found bool, args [][]byte) []byte {
	if name == "PTTL" {
		switch {
		case !found:
			return protocol.AppendInt(nil, -2)
		case e.expires == 0:
			return protocol.AppendInt(nil, -1)
		}
		return protocol.AppendInt(nil, e.expires-time.Now().UnixMilli())
	}
	if !found || name == "PERSIST" && e.expires == 0 {
		return protocol.AppendInt(nil, 0)
	}
	switch name {
	case "PERSIST":
		e.expires = 0
	case "PEXPIRE":
		n, _ := protocol.ParseInt(args[2])
		e.expires = time.Now().UnixMilli() + n
	case "PEXPIREAT":
		e.expires, _ = protocol.ParseInt(args[2])
	}
	f.data[string(args[1])] = e
	return protocol.AppendInt(nil, 1)
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
