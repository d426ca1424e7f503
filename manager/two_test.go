package manager

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// TestTwoManagers is the promise that managers started by mistake do no harm: two of
// them, restarted at random, on one bucket that loses replies, with nodes that join,
// leave, move, abort, are killed, restarted and forgotten, all at the same time. The
// documents that were ever written, in their order, are the judge, and in the end
// every move comes to its own.
func TestTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChaos(t)
		c.run()
		c.calm()
		c.end()
		c.history.check(t)
		t.Logf("%d documents, %d commits, %d in doubt, %d refused, %d aborts, %d restarts of nodes, %d forgotten",
			len(c.history.docs), c.commits.Load(), c.doubts.Load(), c.refused.Load(), c.aborts.Load(), c.restarts.Load(), c.forgotten.Load())
		if c.commits.Load() < 50 || c.doubts.Load() == 0 || c.aborts.Load() < 5 || c.restarts.Load() == 0 {
			t.Error("too little has happened")
		}
	})
}

const (
	firstManager  = "manager-1:7400"
	secondManager = "manager-2:7400"
)

// history is a bucket that remembers every document that was written to it.
type history struct {
	bucket.Bucket
	mu   sync.Mutex
	docs []cluster.Document      // guarded by mu
	done map[cluster.MoveID]bool // every move that was ever committed; guarded by mu
	lost map[cluster.MoveID]bool // every move whose target was forgotten before; guarded by mu
}

func (h *history) keep(key string, body []byte, write func() (bucket.ETag, error)) (bucket.ETag, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	etag, err := write()
	if err == nil && key == cluster.DefaultKey {
		d, err := cluster.Decode(body)
		if err != nil {
			return etag, err
		}
		h.note(d)
	}
	return etag, err
}

// note takes in the next document. The caller holds mu.
func (h *history) note(d cluster.Document) {
	h.docs = append(h.docs, d)
	for _, m := range d.Moves {
		if m.CommittedAt == d.Counter {
			h.done[m.ID] = true
		}
	}
	if len(h.docs) < 2 {
		return
	}
	// A move that is committed to a node and the forgetting of this node fit into one
	// swap; then the move is never seen again.
	for _, m := range h.docs[len(h.docs)-2].Moves {
		if _, still := d.Member(m.Target); !still {
			h.lost[m.ID] = true
		}
	}
}

func (h *history) PutIfMatch(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
	return h.keep(key, body, func() (bucket.ETag, error) { return h.Bucket.PutIfMatch(ctx, key, body, etag) })
}

func (h *history) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	return h.keep(key, body, func() (bucket.ETag, error) { return h.Bucket.PutIfAbsent(ctx, key, body) })
}

// committed says whether a move was ever committed, and whether its target was
// forgotten before that was seen.
func (h *history) committed(id cluster.MoveID) (done, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done[id], h.lost[id]
}

// check holds each document against the one before.
func (h *history) check(t *testing.T) {
	t.Helper()
	var before cluster.Document
	var owned *ring.Map
	for i, d := range h.docs {
		now, err := d.Ownership()
		if err != nil {
			t.Fatalf("document %d: %v", d.Counter, err)
		}
		if i > 0 {
			checkStep(t, before, d, owned, now)
		}
		before, owned = d, now
	}
	goal, err := before.Goal()
	if err != nil || len(before.Moves) > 0 || !goal.Equal(owned) {
		t.Errorf("at the end there are %d moves, and the ring is as it should be: %v", len(before.Moves), goal.Equal(owned))
	}
}

// checkStep: ownership changes only where a move says so that was committed in this
// very step.
func checkStep(t *testing.T, before, d cluster.Document, owned, now *ring.Map) {
	t.Helper()
	if d.Counter != before.Counter+1 || d.Epoch < before.Epoch || d.MoveCount < before.MoveCount || d.Incarnations < before.Incarnations {
		t.Errorf("document %d (epoch %d) follows %d (epoch %d)", d.Counter, d.Epoch, before.Counter, before.Epoch)
	}
	if d.Epoch == before.Epoch && !owned.Equal(now) {
		t.Errorf("document %d has other owners in the same epoch", d.Counter)
	}
	var explained []ring.Arc
	for _, m := range d.Moves {
		old, was := before.Move(m.ID)
		if m.Phase != cluster.Committed || m.CommittedAt != d.Counter {
			continue
		}
		if !m.Lost && (!was || old.Phase != cluster.Planned || old.Source != m.Source || old.Target != m.Target || old.Range != m.Range) {
			t.Errorf("document %d commits move %s, which was %+v", d.Counter, m.ID, old)
		}
		explained = append(explained, ring.Arc{Range: m.Range, Owner: m.Target})
	}
	if len(owned.Owners()) > 0 && !owned.With(explained).Equal(now) {
		t.Errorf("document %d: ownership has changed and no commit says so", d.Counter)
	}
	if len(owned.Owners()) > 0 && len(now.Owners()) == 0 {
		t.Errorf("document %d: nobody owns anything", d.Counter)
	}
}

// chaos is everything that goes on in TestTwoManagers.
type chaos struct {
	*world
	history *history
	faulty  *buckettest.Faulty
	actors  []*actor
	outage  atomic.Bool
	over    atomic.Bool

	mu       sync.Mutex
	managers map[string]*running // guarded by mu

	commits, doubts, refused, aborts, restarts, forgotten atomic.Int64
}

func newChaos(t *testing.T) *chaos {
	w := newWorld(t)
	h := &history{Bucket: w.bucket, done: map[cluster.MoveID]bool{}, lost: map[cluster.MoveID]bool{}}
	c := &chaos{world: w, history: h, managers: map[string]*running{}}
	w.store = cluster.NewStore(h, cluster.StoreOptions{})
	c.faulty = buckettest.NewFaulty(h, c.decide)
	w.bucket = c.faulty
	for _, address := range []string{firstManager, secondManager} {
		c.startManager(address)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		a := &actor{c: c, address: name + ":7401", id: cluster.NodeID("id-" + name), life: make(chan struct{}, 1)}
		c.actors = append(c.actors, a)
		a.start()
	}
	return c
}

// decide lets every ninth call fail, in every way there is.
func (c *chaos) decide(op buckettest.Op) buckettest.Fault {
	if c.over.Load() {
		return buckettest.Fault{}
	}
	if c.outage.Load() {
		return outage(op)
	}
	if op.Method == "Get" && rand.IntN(30) == 0 {
		return buckettest.Busy()
	}
	if op.Method != "PutIfMatch" {
		return buckettest.Fault{}
	}
	after := func(most int) <-chan struct{} {
		c := make(chan struct{})
		time.AfterFunc(time.Duration(rand.IntN(most))*time.Millisecond, func() { close(c) })
		return c
	}
	switch n := rand.IntN(50); n {
	case 0:
		return buckettest.LoseReply()
	case 1:
		return buckettest.LoseRequest()
	case 2:
		return buckettest.Busy()
	case 3:
		return buckettest.Conflict()
	case 4:
		return buckettest.OwnConflict()
	case 5:
		return buckettest.Fault{Late: after(3000)}
	case 6:
		if rand.IntN(4) == 0 {
			c.outage.Store(true)
			time.AfterFunc(updateTimeout+time.Second, func() { c.outage.Store(false) })
			return outage(op)
		}
	default:
		if n < 30 {
			return buckettest.Fault{Wait: after(20)}
		}
	}
	return buckettest.Fault{}
}

// outage is when nearly nothing can be read, and no writer learns what became of its
// write: long enough, and a manager has to give up without knowing.
func outage(op buckettest.Op) buckettest.Fault {
	switch {
	case op.Method == "Get" && rand.IntN(30) > 0:
		return buckettest.Busy()
	case op.Method == "PutIfMatch" && rand.IntN(2) == 0:
		return buckettest.LoseReply()
	case op.Method == "PutIfMatch":
		return buckettest.LoseRequest()
	}
	return buckettest.Fault{}
}

func (c *chaos) startManager(address string) {
	m := c.world.manager(func(config *Config, s *Seams) {
		config.InitialNodes, config.MovesPerNode = 3, 4
		s.Listener, s.TrustBucket = c.net.listen(address), true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.managers[address] = m
}

func (c *chaos) stopManager(address string) {
	c.mu.Lock()
	m := c.managers[address]
	c.mu.Unlock()
	m.end()
}

// ask sends a request to one of the managers. An error that is no refusal means that
// nobody knows what became of it.
func (c *chaos) ask(ctx context.Context, words ...string) (string, error) {
	address := firstManager
	if rand.IntN(2) == 0 {
		address = secondManager
	}
	conn, err := peer.Dial(ctx, c.net.dial, address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if rand.IntN(15) == 0 && !c.over.Load() { // hangs up before the answer comes
		time.AfterFunc(time.Duration(rand.IntN(3))*time.Millisecond, func() { _ = conn.Close() })
	}
	reply, err := conn.DoStrings(words[0], words[1:]...)
	return string(reply.Bytes), err
}

// insist asks until it is done.
func (c *chaos) insist(words ...string) {
	for {
		if _, err := c.ask(context.Background(), words...); err == nil {
			return
		}
		pause(100)
	}
}

// run lets operators, killers and nodes have their way for a while.
func (c *chaos) run() {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; i < 16 || i < 300 && (c.commits.Load() < 150 || c.aborts.Load() < 10); i++ {
				c.operate()
				pause(1000)
			}
		})
	}
	wg.Go(func() {
		for range 6 {
			pause(5000)
			address := []string{firstManager, secondManager}[rand.IntN(2)]
			c.stopManager(address)
			pause(1000)
			c.startManager(address)
		}
	})
	wg.Go(func() {
		for range 8 {
			pause(3000)
			c.actors[rand.IntN(len(c.actors))].restart()
			c.restarts.Add(1)
		}
	})
	wg.Go(func() {
		for range 2 {
			pause(10_000)
			c.actors[rand.IntN(len(c.actors))].forget()
		}
	})
	wg.Wait()
}

// pause lets up to so many milliseconds of the bubble's time pass.
func pause(most int) {
	sleep(context.Background(), time.Duration(rand.IntN(most))*time.Millisecond)
}

// operate does one of the things that people do. Most of it is refused at times, and
// nothing is said about that here.
func (c *chaos) operate() {
	ctx := context.Background()
	some := c.actors[rand.IntN(len(c.actors))].address
	switch rand.IntN(10) {
	case 0, 1, 2:
		_, _ = c.ask(ctx, "CLUSTER", "ADD", some)
	case 3, 4:
		_, _ = c.ask(ctx, "CLUSTER", "REMOVE", some)
	case 5, 6:
		if moves := c.document().Moves; len(moves) > 0 {
			_, err := c.ask(ctx, "CLUSTER", "ABORT", string(moves[rand.IntN(len(moves))].ID))
			if err == nil {
				c.aborts.Add(1)
			}
		}
	case 7:
		_, _ = c.ask(ctx, "CLUSTER", "PAUSE")
		pause(100)
		c.insist("CLUSTER", "RESUME")
	case 8:
		_, _ = c.ask(ctx, "CLUSTER", "THROTTLE", fmt.Sprint(rand.IntN(1000)))
	case 9:
		_, _ = c.ask(ctx, "CLUSTER", "PLAN", "ADD", some)
		_, _ = c.ask(ctx, "CLUSTER", "STATUS")
		_, _ = c.ask(ctx, "TOPOLOGY")
	}
}

// calm ends the faults and waits for the moves to end, as they must.
func (c *chaos) calm() {
	c.over.Store(true)
	deadline := time.Now().Add(10 * time.Minute)
	c.insist("CLUSTER", "RESUME")
	for {
		d := c.document()
		if len(d.Moves) == 0 && formed(d) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Errorf("%d moves do not end: %+v, %+v", len(d.Moves), d.Nodes, d.Moves[0])
			return
		}
		pass(100 * time.Millisecond)
	}
}

func (c *chaos) end() {
	for _, a := range c.actors {
		a.stop()
	}
	for _, address := range []string{firstManager, secondManager} {
		c.stopManager(address)
	}
	c.faulty.Drain()
}

// actor is a node that copies nothing, and keeps to the protocol otherwise.
type actor struct {
	c       *chaos
	address string

	life chan struct{} // held by whoever stops and starts it; no mutex, for time passes meanwhile
	id   cluster.NodeID
	quit context.CancelFunc
	ends sync.WaitGroup

	store       *cluster.Store
	incarnation cluster.Incarnation
	since       uint64
	look        bell
	mu          sync.Mutex
	busy        map[cluster.MoveID]bool // guarded by mu
}

func (a *actor) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.quit, a.look, a.busy = cancel, newBell(), map[cluster.MoveID]bool{}
	a.store = cluster.NewStore(a.c.bucket, cluster.StoreOptions{})
	a.ends.Go(func() { a.live(ctx) })
}

func (a *actor) stop() {
	a.quit()
	a.ends.Wait()
}

// restart is kill -9 and a start on the same folder.
func (a *actor) restart() {
	a.life <- struct{}{}
	defer func() { <-a.life }()
	a.stop()
	pause(2000)
	a.start()
}

// forget is a node that dies with its disk; another comes in its place.
func (a *actor) forget() {
	a.life <- struct{}{}
	defer func() { <-a.life }()
	a.stop()
	sleep(context.Background(), DefaultConfig().NodeTimeout)
	if _, err := a.c.ask(context.Background(), "CLUSTER", "FORGET", a.address); err == nil {
		a.c.forgotten.Add(1)
	}
	if _, still := a.c.document().Member(a.address); !still {
		a.id += "-again"
	}
	a.start()
}

// live joins, follows the document and answers until ctx ends.
func (a *actor) live(ctx context.Context) {
	a.join(ctx)
	l := a.c.net.listen(a.address)
	defer l.Close()
	a.ends.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			a.ends.Go(func() { a.serve(ctx, nc) })
		}
	})
	for {
		if err := a.follow(ctx); errors.Is(err, errNoMember) {
			a.join(ctx) // it has left, and may be asked in again
		}
		select {
		case <-ctx.Done():
			return
		case <-a.look:
		case <-time.After(time.Second):
		}
		sleep(ctx, 30*time.Millisecond) // many hints, one reading
	}
}

// join makes the node known and takes its next incarnation, trying until that is done.
func (a *actor) join(ctx context.Context) {
	for a.tryJoin(ctx) != nil && sleep(ctx, 50*time.Millisecond) {
	}
}

func (a *actor) tryJoin(ctx context.Context) error {
	registration := encoded(member.Registration{ID: a.id, Address: a.address, Tokens: 2})
	if _, err := a.c.ask(ctx, "REGISTER", registration); err != nil {
		return err
	}
	a.ends.Go(func() { // one that was sent twice, and comes late
		pause(2000)
		_, _ = a.c.ask(ctx, "REGISTER", registration)
	})
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := a.store.Update(limited, func(d cluster.Document) (cluster.Document, error) {
		if _, known := d.Member(a.address); !known {
			return d, errNoMember
		}
		return d.Register(cluster.Registration{ID: a.id, Address: a.address, Tokens: 2})
	})
	if err == nil {
		me, _ := d.Member(a.address)
		a.incarnation, a.since = me.Incarnation, me.Since
	}
	return err
}

var errNoMember = errors.New("no member")

// follow reads the document, reports what it has finished, and says that it lives.
func (a *actor) follow(ctx context.Context) error {
	d, _, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	me, ok := d.Member(a.address)
	if !ok {
		return errNoMember
	}
	if me.ID == a.id && me.Since != a.since {
		return errNoMember // it has left, and a late REGISTER has made it known again
	}
	if me.ID == a.id && me.Incarnation > a.incarnation {
		a.c.t.Errorf("node %s of incarnation %d was fenced off by %d, although it runs", a.address, a.incarnation, me.Incarnation)
	}
	_, _ = a.c.ask(ctx, "HEARTBEAT", encoded(member.Heartbeat{Address: a.address, ID: a.id, Incarnation: a.incarnation, Counter: d.Counter}))
	for _, m := range d.Moves {
		if m.Phase != cluster.Committed {
			continue
		}
		if m.Source == a.address && !m.SourceDropped {
			_, _ = a.c.ask(ctx, "MOVE_DONE", "dropped", string(m.ID))
		}
		if m.Target == a.address && !m.TargetActive {
			_, _ = a.c.ask(ctx, "MOVE_DONE", "active", string(m.ID))
		}
	}
	return nil
}

func (a *actor) serve(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	r := bufio.NewReader(nc)
	for {
		request, err := readRequest(r)
		if err != nil {
			return
		}
		if request[0] == "REFRESH" {
			a.look.ring()
		} else {
			a.move(ctx, cluster.MoveID(request[4]))
		}
		if _, err := nc.Write([]byte("+OK\r\n")); err != nil {
			return
		}
	}
}

// move starts a move, once.
func (a *actor) move(ctx context.Context, id cluster.MoveID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[id] || ctx.Err() != nil {
		return
	}
	a.busy[id] = true
	a.ends.Go(func() {
		a.source(ctx, id)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, id)
	})
}

// source brings a move to its end, in one of the ways in which that can happen.
func (a *actor) source(ctx context.Context, id cluster.MoveID) {
	if !sleep(ctx, time.Duration(rand.IntN(40))*time.Millisecond) {
		return
	}
	d, _, err := a.store.Load(ctx)
	m, ok := d.Move(id)
	if err != nil || !ok || m.Phase != cluster.Planned || m.Source != a.address {
		return
	}
	if rand.IntN(15) == 0 && !a.c.over.Load() {
		if _, err := a.store.Update(ctx, func(d cluster.Document) (cluster.Document, error) { return d.Abort(id) }); err == nil {
			a.c.aborts.Add(1)
		}
		return
	}
	pause(20) // it seals
	for doubt := false; ctx.Err() == nil; {
		_, err := a.c.ask(ctx, "COMMIT_MOVE", string(id))
		switch {
		case err == nil:
			a.c.commits.Add(1)
			if done, lost := a.c.history.committed(id); !done && !lost {
				a.c.t.Errorf("move %s was answered with OK and is not committed", id)
			}
			return
		case !peer.Refused(err):
			a.c.doubts.Add(1)
			doubt = true
		default:
			a.c.refused.Add(1)
			if done, _ := a.c.history.committed(id); done && !doubt {
				a.c.t.Errorf("move %s was refused (%v), and is committed all the same", id, err)
			}
			if strings.Contains(err.Error(), "unknown move") {
				return
			}
		}
		if d, _, err := a.store.Load(ctx); err == nil {
			if m, ok := d.Move(id); !ok || m.Phase == cluster.Committed {
				return
			}
		}
		sleep(ctx, 20*time.Millisecond)
	}
}
