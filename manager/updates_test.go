package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// faults is a bucket whose behaviour a test changes while it is in use.
type faults struct {
	*buckettest.Faulty
	mu  sync.Mutex
	now func(buckettest.Op) buckettest.Fault // guarded by mu
}

func (w *world) faults() *faults {
	f := &faults{}
	f.Faulty = buckettest.NewFaulty(w.bucket, func(op buckettest.Op) buckettest.Fault {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.now == nil {
			return buckettest.Fault{}
		}
		return f.now(op)
	})
	w.bucket = f
	return f
}

// set has all calls of one method meet a fault, with "" as no method.
func (f *faults) set(method string, fault buckettest.Fault) {
	f.do(func(op buckettest.Op) buckettest.Fault {
		if op.Method == method {
			return fault
		}
		return buckettest.Fault{}
	})
}

// next has the next calls of one method meet faults.
func (f *faults) next(method string, list ...buckettest.Fault) {
	f.do(func(op buckettest.Op) buckettest.Fault {
		if op.Method != method || len(list) == 0 {
			return buckettest.Fault{}
		}
		fault := list[0]
		list = list[1:]
		return fault
	})
}

func (f *faults) do(now func(buckettest.Op) buckettest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

// blindAfterWrite has writes meet a fault, and nothing be readable from the first on.
func (f *faults) blindAfterWrite(fault buckettest.Fault) {
	sent := false
	f.do(func(op buckettest.Op) buckettest.Fault {
		switch {
		case op.Method == "PutIfMatch":
			sent = true
			return fault
		case op.Method == "Get" && sent:
			return buckettest.Busy()
		}
		return buckettest.Fault{}
	})
}

// TestCommitsShareASwap: what waits while a swap is under way goes into the next one.
func TestCommitsShareASwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		f := w.faults()
		m := w.manager()
		d, before := w.document(), f.Calls("PutIfMatch")
		slow := make(chan struct{})
		f.next("PutIfMatch", buckettest.Fault{Wait: slow})
		var wg sync.WaitGroup
		const moves = 40
		for i := range moves {
			c := m.dial()
			wg.Go(func() {
				request := []string{"COMMIT_MOVE", string(d.Moves[2+i].ID)}
				if got := c.do(request...); got != "+OK" {
					t.Errorf("%v: %s", request, got)
				}
			})
			if i == 0 {
				synctest.Wait() // until the first swap is under way: it has taken what there was
			}
		}
		synctest.Wait()
		close(slow)
		wg.Wait()
		now := w.document()
		for i := range moves {
			if mv, _ := now.Move(d.Moves[2+i].ID); mv.Phase != cluster.Committed {
				t.Errorf("move %s is %s", mv.ID, mv.Phase)
			}
		}
		if swaps := f.Calls("PutIfMatch") - before; now.Counter != d.Counter+2 || swaps != 2 {
			t.Errorf("%d swaps, counter %d after %d, for %d commits", swaps, now.Counter, d.Counter, moves)
		}
	})
}

// TestOneRefusalInABatch is nobody else's.
func TestOneRefusalInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		f := w.faults()
		m := w.manager()
		d := w.document()
		slow := make(chan struct{})
		f.next("PutIfMatch", buckettest.Fault{Wait: slow})
		answers := make([]string, 5)
		var wg sync.WaitGroup
		for i, request := range [][]string{
			{"CLUSTER", "THROTTLE", "1"},
			{"COMMIT_MOVE", string(d.Moves[2].ID)},
			{"COMMIT_MOVE", "m999"},
			{"CLUSTER", "ADD", nodeD},
			{"COMMIT_MOVE", string(d.Moves[3].ID)},
		} {
			c := m.dial()
			wg.Go(func() { answers[i] = c.do(request...) })
			synctest.Wait()
		}
		close(slow)
		wg.Wait()
		want := []string{"+OK", "+OK", "-ERR move m999: unknown move", "-ERR node d:7401: no such member", "+OK"}
		for i := range want {
			if answers[i] != want[i] {
				t.Errorf("answer %d is %s, want %s", i, answers[i], want[i])
			}
		}
		if now := w.document(); now.Counter != d.Counter+2 || now.Settings.MoveBytesPerSecond != 1 {
			t.Errorf("counter %d after %d", now.Counter, d.Counter)
		}
	})
}

// TestOneThatCannotBeWritten: a change whose document is refused before it is written
// fails by itself, and not who was in the same batch.
func TestOneThatCannotBeWritten(t *testing.T) {
	w := newWorld(t).with(documentOf(t, nodeA))
	m := newManager(DefaultConfig(), Seams{})
	m.store = cluster.NewStore(w.bucket, cluster.StoreOptions{})
	good := func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(true) }
	bad := func(d cluster.Document) (cluster.Document, error) {
		d.Settings.MoveBytesPerSecond = -1
		return d, nil
	}
	batch := make([]*update, 5)
	for i := range batch {
		batch[i] = &update{apply: good, done: make(chan struct{})}
	}
	batch[2].apply = bad
	m.finish(t.Context(), batch)
	for i, u := range batch {
		<-u.done
		if i != 2 && (u.err != nil || !u.doc.Settings.MovesPaused) || i == 2 && !errors.As(u.err, new(*cluster.FormatError)) {
			t.Errorf("change %d: %v", i, u.err)
		}
	}
	if got := failure(batch[2].err); got.Code != protocol.ERR {
		t.Errorf("it may come again: %v", got)
	}
}

// TestSwapsMeetEveryAnswer: whatever becomes of one write, the command is done once
// and says so.
func TestSwapsMeetEveryAnswer(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"reply lost": buckettest.LoseReply(), "request lost": buckettest.LoseRequest(), "5xx": buckettest.Busy(),
		"412": buckettest.Conflict(), "412 of its own making": buckettest.OwnConflict(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t).with(joining(t))
				f := w.faults()
				c := w.manager().dial()
				d := w.document()
				for i, request := range [][]string{
					{"REGISTER", registration(nodeD)},
					{"COMMIT_MOVE", string(d.Moves[2].ID)},
					{"MOVE_DONE", "active", string(d.Moves[2].ID)},
					{"CLUSTER", "ABORT", string(d.Moves[3].ID)},
				} {
					f.next("PutIfMatch", fault, fault)
					if got := c.ok(request...); w.document().Counter != d.Counter+uint64(i)+1 {
						t.Errorf("%v: %s, and the counter went from %d to %d", request, got, d.Counter+uint64(i), w.document().Counter)
					}
				}
			})
		})
	}
}

// TestGivingUpOnATargetComesBeforeACommitToIt: of the two in one swap the commit is
// refused, so that the source keeps what it has.
func TestGivingUpOnATargetComesBeforeACommitToIt(t *testing.T) {
	w := newWorld(t).with(joining(t))
	m := newManager(DefaultConfig(), Seams{})
	m.store = cluster.NewStore(w.bucket, cluster.StoreOptions{})
	move := w.document().Moves[2]
	commit := &update{apply: func(d cluster.Document) (cluster.Document, error) { return d.Commit(move.ID) }, done: make(chan struct{})}
	forget := &update{apply: func(d cluster.Document) (cluster.Document, error) { return d.Forget(move.Target) }, first: true, done: make(chan struct{})}
	m.finish(t.Context(), []*update{commit, forget})
	if commit.err == nil || forget.err != nil {
		t.Errorf("commit: %v, forget: %v", commit.err, forget.err)
	}
	d := w.document()
	owned, err := d.Ownership()
	if err != nil {
		t.Fatal(err)
	}
	if owner := owned.Owner(move.Range.End); owner != move.Source {
		t.Errorf("the range is %s's, want %s, which has its data", owner, move.Source)
	}
	for _, lost := range d.Moves {
		if lost.Lost && lost.Range.Overlaps(move.Range) {
			t.Errorf("given up: %+v", lost)
		}
	}
}

// TestReportsShareSwaps: reports wait for each other, and not for long; what is urgent
// takes those that wait along at once.
func TestReportsShareSwaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		m := w.manager()
		c := m.dial()
		d := w.document()
		committed := make([]string, 4)
		for i := range committed {
			committed[i] = string(d.Moves[i].ID)
			c.ok("COMMIT_MOVE", committed[i])
		}
		counter := w.document().Counter
		report := func(request ...string) *client {
			reporter := m.dial()
			reporter.send(strings.Join(request, " ") + "\n")
			synctest.Wait()
			return reporter
		}
		began := time.Now()
		waiting := []*client{
			report("MOVE_DONE", "dropped", committed[0], committed[1]), report("MOVE_DONE", "active", committed[0]), report("MOVE_DONE", "active", committed[1]),
		}
		if now := w.document().Counter; now != counter {
			t.Errorf("a report did not wait: counter %d after %d", now, counter)
		}
		for _, reporter := range waiting {
			if got := reporter.reply(); got != "+OK" {
				t.Error(got)
			}
		}
		if took := time.Since(began); took != lazyGap {
			t.Errorf("the reports took %s, want %s", took, lazyGap)
		}
		if now := w.document(); now.Counter != counter+1 || len(now.Moves) != len(d.Moves)-2 {
			t.Errorf("counter %d after %d, %d moves of %d", now.Counter, counter, len(now.Moves), len(d.Moves))
		}
		began = time.Now()
		late := report("MOVE_DONE", "dropped", committed[2])
		c.ok("COMMIT_MOVE", string(d.Moves[4].ID))
		if got := late.reply(); got != "+OK" || time.Since(began) != 0 || w.document().Counter != counter+2 {
			t.Errorf("%s after %s, counter %d after %d", got, time.Since(began), w.document().Counter, counter+1)
		}
	})
}

// TestReadsThatFail are tried again within the time.
func TestReadsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		f := w.faults()
		c := w.manager().dial()
		f.next("Get", buckettest.Busy(), buckettest.Busy(), buckettest.Busy())
		c.ok("CLUSTER", "PAUSE")
		if !w.document().Settings.MovesPaused {
			t.Error("not paused")
		}
	})
}

// TestBucketAway: nothing was done, so the answer says so, with a code that makes
// the asker come again; what needs no change is answered.
func TestBucketAway(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"refuses": buckettest.Busy(),
		"broken":  {Before: errors.New("permission denied")},
		"silent":  {Wait: make(chan struct{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if fault.Wait != nil {
					fault.Wait = make(chan struct{}) // of this bubble
				}
				w := newWorld(t).with(joining(t))
				f := w.faults()
				m := w.manager()
				c, other := m.dial(), m.dial()
				d := w.document()
				f.set("Get", fault)
				began := time.Now()
				if got := c.do("COMMIT_MOVE", string(d.Moves[2].ID)); !strings.HasPrefix(got, "-UNAVAILABLE the cluster document cannot be changed now: ") {
					t.Errorf("got %s", got)
				}
				if took := time.Since(began); took > updateTimeout {
					t.Errorf("it took %v", took)
				}
				for _, request := range [][]string{{"TOPOLOGY"}, {"CLUSTER", "STATUS"}, {"HEARTBEAT", beat(d, nodeA)}} {
					other.ok(request...)
				}
				pass(readTimeout + 2*time.Second)
				if got := other.ok("CLUSTER", "STATUS"); !strings.Contains(got, `"trouble":"cannot read the cluster document: `) {
					t.Errorf("status does not tell: %s", got)
				}
				f.set("", buckettest.Fault{})
				c.ok("COMMIT_MOVE", string(d.Moves[2].ID))
				pass(readTimeout + 2*time.Second)
				if got := other.ok("CLUSTER", "STATUS"); strings.Contains(got, "trouble") {
					t.Errorf("the bucket is back, and status says %s", got)
				}
			})
		})
	}
}

// TestOutcomeUnknown: when nobody can say whether the change has happened, nobody
// says that it has not: the connection ends, behind the replies to what came before.
func TestOutcomeUnknown(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"it never arrived": buckettest.LoseRequest(),
		"it happened":      buckettest.LoseReply(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t).with(joining(t))
				f := w.faults()
				m := w.manager()
				d := w.document()
				old := d.Moves[3].ID
				for _, request := range [][]string{
					{"CLUSTER", "ABORT", string(old)},
					{"COMMIT_MOVE", string(d.Moves[4].ID)},
					{"REGISTER", registration(nodeD)},
				} {
					c := m.dial()
					f.blindAfterWrite(fault)
					pipelined := protocol.AppendRequestStrings([]byte("PING\r\n"), request[0], request[1:]...)
					c.send(string(pipelined) + "CLUSTER PAUSE\r\n")
					if got := c.reply(); got != "+PONG" {
						t.Errorf("the reply to what came before is %s", got)
					}
					c.expectClosed()
					f.do(nil)
				}
				now := w.document()
				if now.Settings.MovesPaused {
					t.Error("what came behind was done")
				}
				if _, still := now.Move(old); still != (name == "it never arrived") {
					t.Errorf("the move is there: %v", still)
				}
			})
		})
	}
}

// TestLateWrite: a write that is lost and arrives after its answer was given up.
func TestLateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		f := w.faults()
		m := w.manager()
		d := w.document()
		arrives := make(chan struct{})
		f.next("PutIfMatch", buckettest.Fault{Late: arrives})
		m.dial().ok("COMMIT_MOVE", string(d.Moves[2].ID)) // its second attempt decides
		close(arrives)
		f.Drain()
		if now := w.document(); now.Counter != d.Counter+1 || now.Epoch != d.Epoch+1 {
			t.Errorf("counter %d, epoch %d after one commit of %d, %d", now.Counter, now.Epoch, d.Counter, d.Epoch)
		}
	})
}

// TestOthersWrite: a manager whose picture is old changes the newest document.
func TestOthersWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		c := w.manager(func(c *Config, _ *Seams) { c.Poll = time.Hour }).dial()
		d := w.document()
		w.change(func(d cluster.Document) (cluster.Document, error) { return d.Abort(d.Moves[2].ID) })
		if got := c.do("COMMIT_MOVE", string(d.Moves[2].ID)); got != "-ERR move "+string(d.Moves[2].ID)+": unknown move" {
			t.Errorf("got %s", got)
		}
		w.change(func(d cluster.Document) (cluster.Document, error) { return d.SetThrottle(9) })
		c.ok("CLUSTER", "PAUSE")
		if now := w.document(); now.Settings != (cluster.Settings{MoveBytesPerSecond: 9, MovesPaused: true}) {
			t.Errorf("settings are %+v", now.Settings)
		}
	})
}

// TestFollowing: what others change is seen at the next look, also through a time
// without a bucket.
func TestFollowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		f := w.faults()
		c := w.manager().dial()
		f.set("Get", buckettest.Fault{Wait: make(chan struct{})})
		pass(time.Minute)
		d := w.change(func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(true) })
		f.set("", buckettest.Fault{})
		pass(readTimeout + 2*time.Second)
		if got := c.ok("HEARTBEAT", beat(d, nodeA)); got != fmt.Sprintf(":%d", d.Counter) {
			t.Errorf("got %s, want :%d", got, d.Counter)
		}
	})
}

// TestDocumentThatGoesBack, as after somebody restored a bucket, is not followed.
func TestDocumentThatGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		old, err := w.bucket.Get(context.Background(), cluster.DefaultKey)
		if err != nil {
			t.Fatal(err)
		}
		c := w.manager().dial()
		c.ok("CLUSTER", "PAUSE")
		for _, damage := range []func() error{
			func() error {
				_, err := w.bucket.Put(context.Background(), cluster.DefaultKey, strings.NewReader(string(old.Body)), int64(len(old.Body)))
				return err
			},
			func() error { return w.bucket.Delete(context.Background(), cluster.DefaultKey) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if got := c.do("CLUSTER", "RESUME"); !strings.HasPrefix(got, "-UNAVAILABLE ") || !strings.Contains(got, "gone back in time") {
				t.Errorf("got %s", got)
			}
			pass(5 * time.Second)
			if got := c.ok("CLUSTER", "STATUS"); !strings.Contains(got, `"moves_paused":true`) {
				t.Errorf("it followed: %s", got)
			}
		}
	})
}

// TestChangeAfterTheEnd is refused, and was not done.
func TestChangeAfterTheEnd(t *testing.T) {
	m := newManager(DefaultConfig(), Seams{Bucket: buckettest.NewMemory()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.change(ctx, func(d cluster.Document) (cluster.Document, error) { return d, nil })
	if !errors.Is(err, errNotNow) || errors.Is(err, cluster.ErrInDoubt) || failure(err).Code != protocol.UNAVAILABLE {
		t.Errorf("error is %v", err)
	}
}

func TestFailureWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want protocol.Code
	}{
		{&cluster.MemberError{Address: nodeA, Err: cluster.ErrUnknownMember}, protocol.ERR},
		{fmt.Errorf("%w: %w", errNotNow, bucket.ErrUnavailable), protocol.UNAVAILABLE},
		{protocol.WrongArity(protocol.CmdEcho), protocol.ERR},
		{&protocol.Error{Code: protocol.TOOLARGE}, protocol.TOOLARGE},
	} {
		if got := failure(c.err); got.Code != c.want {
			t.Errorf("%v: %s", c.err, got.Code)
		}
	}
}
