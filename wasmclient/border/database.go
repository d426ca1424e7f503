package border

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// database is one connection to a cluster.
type database struct {
	border *Border
	handle uint32
	tokens uint32 // the page's source of them, 0: none
	client *client.Client
	feed   *feed
	dialer *dialer

	ctx     context.Context // of its streams and goroutines
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	streams map[uint32]*stream
}

// mostConnections to one node: a browser allows 255 WebSockets to a host, for all of
// its tabs together.
const mostConnections = 8

func open(ctx context.Context, j *job) ([]byte, error) {
	gateways, straight, connections, tokens := j.list(), j.flag(), int(j.u32()), j.u32()
	if err := j.end(); err != nil {
		return nil, err
	}
	if len(gateways) == 0 || connections < 1 || connections > mostConnections {
		return nil, &argumentError{text: "connect needs a gateway, and 1 to 8 connections"}
	}
	run, cancel := context.WithCancel(context.Background())
	db := &database{border: j.border, tokens: tokens, ctx: run, cancel: cancel, streams: make(map[uint32]*stream)}
	db.feed = newFeed(db, gateways)
	db.dialer = newDialer(db, straight)
	db.spawn(func() { db.feed.run(run) })
	options := []client.Option{
		client.WithSource(db.feed.newest), client.WithDialer(db.dialer.dial),
		client.WithEndpoints(db.dialer.way), client.WithConnections(connections),
	}
	if tokens != 0 {
		options = append(options, client.WithToken(db.token))
	}
	var err error
	db.client, err = client.Open(ctx, nil, options...)
	if err != nil {
		cancel()
		db.running.Wait()
		return nil, err
	}
	j.border.admit(db)
	first := db.client.Topology()
	db.spawn(func() { db.follow(first) })
	return appendTopology(appendU32(nil, db.handle), first)
}

// token is for client.WithToken.
func (db *database) token(ctx context.Context) (string, error) {
	return db.border.token(ctx, db.tokens)
}

// spawn runs something until close waits for it. A panic in it is an event.
func (db *database) spawn(f func()) {
	db.running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				db.trouble(&crash{text: textOf(p)})
			}
		}()
		f()
	})
}

// follow tells the page of each newer topology, and gives the client what the gateway
// has pushed.
func (db *database) follow(known ring.Topology) {
	db.spawn(func() {
		for t := range db.feed.each(db.ctx) {
			if err := db.client.UseTopology(t); err != nil && db.ctx.Err() == nil {
				db.trouble(err)
			}
		}
	})
	for t := range db.client.Topologies(db.ctx) {
		if t.Epoch == known.Epoch && len(t.Nodes) == len(known.Nodes) {
			known = ring.Topology{} // the one that open has returned
			continue
		}
		payload, err := appendTopology(nil, t)
		if err != nil {
			db.trouble(err)
			continue
		}
		db.emit(EventTopology, payload)
	}
}

func (db *database) emit(e Event, payload []byte) {
	if db.handle != 0 {
		db.border.page.Emit(db.handle, e, payload)
	}
}

// trouble tells the page of an error that is no call's.
func (db *database) trouble(err error) { db.emit(EventError, appendError(nil, err)) }

func (db *database) addStream(id uint32, s *stream) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.closed {
		db.streams[id] = s
	}
	return !db.closed
}

func (db *database) stream(id uint32) *stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.streams[id]
}

func (db *database) takeStream(id uint32) *stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	s := db.streams[id]
	delete(db.streams, id)
	return s
}

// farewell bounds how long close waits for a browser to see the end of its sockets,
// which takes as long as the other side does.
const farewell = 3 * time.Second

func closeDatabase(_ context.Context, j *job) ([]byte, error) {
	db := j.db
	db.mu.Lock()
	db.closed = true
	streams := db.streams
	db.streams = nil
	db.mu.Unlock()
	err := db.client.Close()
	db.cancel()
	for _, s := range streams {
		<-s.ended
	}
	db.running.Wait()
	db.dialer.waitEnded(farewell)
	j.border.forget(db)
	return nil, err
}

func observe(_ context.Context, j *job) ([]byte, error) {
	on := j.flag()
	if err := j.end(); err != nil {
		return nil, err
	}
	if !on {
		j.db.client.Observe(nil)
		return nil, nil
	}
	db := j.db
	db.client.Observe(func(t client.Trip) { db.emit(EventRoute, db.appendRoute(nil, t)) })
	return nil, nil
}

// appendRoute appends bytes op, bytes key, u32 position, bytes node, flag direct, f64
// microseconds, u32 redirects, u32 retries, and the error as bytes, empty without one.
func (db *database) appendRoute(b []byte, t client.Trip) []byte {
	b = appendU32(appendBytes(appendBytes(b, t.Command), t.Key), uint32(t.Position))
	b = appendFlag(appendBytes(b, t.Node), db.dialer.isDirect(t.Node))
	b = appendF64(b, float64(t.Took)/float64(time.Microsecond))
	b = appendU32(appendU32(b, uint32(t.Redirects)), uint32(t.Retries))
	if t.Err == nil || errors.Is(t.Err, client.ErrNotFound) && t.Command == "GET" {
		return appendU32(b, 0)
	}
	return appendBytes(b, appendError(nil, t.Err))
}

// appendTopology appends what a page is told of a topology:
//
//	bytes cluster, f64 epoch
//	u32 nodes:  bytes address, u32 tokens, f64 share, u32 endpoints: bytes kind, bytes url
//	u32 names:  bytes owner
//	u32 held:   u32 start, u32 end, u32 index of the owner's name
//	u32 arcs:   the same
func appendTopology(b []byte, t ring.Topology) ([]byte, error) {
	owners, err := t.Map()
	if err != nil {
		return nil, err
	}
	b = appendF64(appendBytes(b, t.Cluster), float64(t.Epoch))
	b = appendU32(b, uint32(len(t.Nodes)))
	for _, n := range t.Nodes {
		b = appendF64(appendU32(appendBytes(b, n.Address), uint32(n.Tokens)), owners.Share(n.Address))
		b = appendU32(b, uint32(len(n.Endpoints)))
		for _, e := range n.Endpoints {
			b = appendBytes(appendBytes(b, e.Kind), e.URL)
		}
	}
	arcs := owners.Arcs()
	names, index := namesOf(t.Held, arcs)
	b = appendU32(b, uint32(len(names)))
	for _, name := range names {
		b = appendBytes(b, name)
	}
	return appendArcs(appendArcs(b, t.Held, index), arcs, index), nil
}

func namesOf(lists ...[]ring.Arc) (names []string, index map[string]uint32) {
	index = make(map[string]uint32)
	for _, list := range lists {
		for _, a := range list {
			if _, known := index[a.Owner]; !known {
				index[a.Owner] = uint32(len(names))
				names = append(names, a.Owner)
			}
		}
	}
	return names, index
}

func appendArcs(b []byte, arcs []ring.Arc, index map[string]uint32) []byte {
	b = appendU32(b, uint32(len(arcs)))
	for _, a := range arcs {
		b = appendU32(appendU32(appendU32(b, uint32(a.Start)), uint32(a.End)), index[a.Owner])
	}
	return b
}

// escape makes an address one part of a path.
func escape(address string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(address) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~:", c) >= 0
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
