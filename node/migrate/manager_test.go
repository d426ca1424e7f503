package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// manager answers COMMIT_MOVE and sends MIGRATE_RANGE for every move that may run.
type manager struct {
	world   *world
	store   *cluster.Store
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	// before, if set, sees each move before it is committed; an error is answered.
	mu     sync.Mutex
	before func(cluster.MoveID) error
	most   int // moves at one time; 0: all
}

func newManager(w *world) *manager {
	m := &manager{world: w, store: cluster.NewStore(w.documents(), cluster.StoreOptions{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	w.net.up(managerAddress, m.serve)
	return m
}

func (m *manager) stop() {
	m.cancel()
	m.world.net.down(managerAddress)
	m.running.Wait()
}

// schedule starts moves until the manager is stopped.
func (m *manager) schedule() {
	m.running.Go(func() {
		for m.ctx.Err() == nil {
			m.pass()
			select {
			case <-m.ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

func (m *manager) pass() {
	d, _, err := m.store.Load(m.ctx)
	if err != nil {
		return
	}
	for i, move := range d.Startable() {
		if m.most == 0 || i < m.most {
			_ = m.order(move)
		}
	}
}

// order sends MIGRATE_RANGE.
func (m *manager) order(move cluster.Move) error {
	dial := func(_ context.Context, to string) (net.Conn, error) { return m.world.net.dial(managerAddress, to) }
	conn, err := peer.Dial(m.ctx, dial, move.Source, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.DoStrings("MIGRATE_RANGE", move.Range.Start.String(), move.Range.End.String(), move.Target, string(move.ID))
	return err
}

func (m *manager) serve(c net.Conn) {
	defer c.Close()
	var parser protocol.RequestParser
	in := make([]byte, 0, 4096)
	for {
		k, err := c.Read(in[len(in):cap(in)])
		if err != nil {
			return
		}
		in = in[:len(in)+k]
		for {
			args, size, err := parser.Next(in)
			if err != nil {
				return
			}
			if size == 0 {
				break
			}
			reply := protocol.AppendSimple(nil, "PONG")
			if len(args) > 1 {
				reply = m.commit(cluster.MoveID(args[1]))
			}
			in = in[size:]
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
		in = append(make([]byte, 0, 4096), in...)
		parser.Reset()
	}
}

func (m *manager) commit(id cluster.MoveID) []byte {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(id); err != nil {
			return protocol.AppendErrorCode(nil, protocol.ERR, err.Error())
		}
	}
	m.mayCommit(id)
	_, err := m.store.Update(m.ctx, func(d cluster.Document) (cluster.Document, error) { return d.Commit(id) })
	if err != nil {
		return protocol.AppendErrorCode(nil, protocol.ERR, err.Error())
	}
	return protocol.AppendOK(nil)
}

// mayCommit checks what COMMIT_MOVE promises: the source has sealed the range, the
// target has all of it.
func (m *manager) mayCommit(id cluster.MoveID) {
	d, _, err := m.store.Load(m.ctx)
	if err != nil || !plans(d, id) {
		return // It is decided.
	}
	move, _ := d.Move(id)
	sealed, _ := m.world.at(move.Source).e.Held()
	_, staged := m.world.at(move.Target).e.Held()
	if holds(sealed, id) != nil {
		if h := holds(staged, id); h != nil && h.Complete {
			return
		}
	}
	if d, _, err := m.store.Load(m.ctx); err == nil && plans(d, id) {
		m.world.t.Errorf("asked to commit %s with %v sealed and %v staged", id, sealed, staged)
	}
}

// holds returns what a move holds.
func holds(ranges []engine.HeldRange, id cluster.MoveID) *engine.HeldRange {
	for i := range ranges {
		if ranges[i].Move == string(id) {
			return &ranges[i]
		}
	}
	return nil
}

func (m *manager) setBefore(fn func(cluster.MoveID) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = fn
}

// memoryBucket holds objects in memory. A test can take it away.
type memoryBucket struct {
	bucket.Bucket // what this package does not use
	mu            sync.Mutex
	objects       map[string][]byte
	away          error
}

func newMemoryBucket() *memoryBucket { return &memoryBucket{objects: map[string][]byte{}} }

func (b *memoryBucket) setAway(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = err
}

func (b *memoryBucket) Get(_ context.Context, key string) (bucket.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return bucket.Object{}, b.away
	}
	body, ok := b.objects[key]
	if !ok {
		return bucket.Object{}, bucket.ErrNotFound
	}
	return bucket.Object{Body: body, ETag: etag(body)}, nil
}

func (b *memoryBucket) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	return b.putIf(key, body, func(_ []byte, found bool) bool { return !found })
}

func (b *memoryBucket) PutIfMatch(ctx context.Context, key string, body []byte, want bucket.ETag) (bucket.ETag, error) {
	return b.putIf(key, body, func(old []byte, found bool) bool { return found && etag(old) == want })
}

func (b *memoryBucket) putIf(key string, body []byte, holds func(old []byte, found bool) bool) (bucket.ETag, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return "", b.away
	}
	old, found := b.objects[key]
	if !holds(old, found) {
		return "", bucket.ErrConditionFailed
	}
	b.objects[key] = body
	return etag(body), nil
}

func etag(body []byte) bucket.ETag {
	sum := sha256.Sum256(body)
	return bucket.ETag(hex.EncodeToString(sum[:]))
}
