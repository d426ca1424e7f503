package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
)

// scripted replaces the target by one that answers from a function.
func (w *world) scripted(answer func(cmd protocol.Command, args [][]byte) string) {
	w.net.up(w.b.address, func(c net.Conn) {
		defer c.Close()
		var parser protocol.RequestParser
		var in []byte
		buf := make([]byte, 64<<10)
		for {
			k, err := c.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:k]...)
			for {
				args, size, err := parser.Next(in)
				if size == 0 || err != nil {
					break
				}
				cmd, _ := protocol.Lookup(args[0])
				reply := answer(cmd, args)
				in = in[size:]
				if _, err := c.Write([]byte(reply)); err != nil {
					return
				}
			}
			parser.Reset()
			in = slices.Clone(in)
		}
	})
}

// TestATargetThatClaimsTooMuchIsNotBelieved: COMPLETE for a range that was never
// sealed would lose every write that is still to come.
func TestATargetThatClaimsTooMuchIsNotBelieved(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(100)
		var claims atomic.Int32
		w.scripted(func(cmd protocol.Command, _ [][]byte) string {
			if claims.Add(1) > 1 {
				w.net.up(w.b.address, w.b.serve)
			}
			return "+COMPLETE\r\n"
		})
		id := w.document().Moves[0].ID
		w.start()
		w.await("the move is aborted", func(d cluster.Document) bool { return len(d.Moves) == 0 || d.Moves[0].ID != id })
		w.settled()
		w.verify(want)
	})
}

// TestWrongRepliesEndTheAttempt, and nothing else.
func TestWrongRepliesEndTheAttempt(t *testing.T) {
	for name, wrong := range map[string]func(cmd protocol.Command) string{
		"no handshake":        func(protocol.Command) string { return "+OK\r\n" },
		"refused":             func(protocol.Command) string { return "-ERR not now\r\n" },
		"garbage":             func(protocol.Command) string { return "?\r\n" },
		"ahead of the sender": ready(":99\r\n"),
		"negative":            ready(":-1\r\n"),
		"complete too early":  ready("+COMPLETE\r\n"),
		"another kind":        ready("$2\r\nOK\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			withTraffic(t, func(w *world) {
				var answers atomic.Int32 // An attempt that has ended may still be read beside the next.
				w.scripted(func(cmd protocol.Command, _ [][]byte) string {
					if answers.Add(1) > 3 {
						w.net.up(w.b.address, w.b.serve)
					}
					return wrong(cmd)
				})
			})
		})
	}
}

// ready shakes hands as it should and answers everything else with reply.
func ready(reply string) func(protocol.Command) string {
	return func(cmd protocol.Command) string {
		if cmd == protocol.CmdStageRange {
			return "+READY\r\n"
		}
		return reply
	}
}

// TestSeveralBatchesAreOnTheWay: the sender does not wait for each acknowledgement.
func TestSeveralBatchesAreOnTheWay(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		w.fill(200)
		sent := make(chan int, 100) // bytes
		w.scripted(func(cmd protocol.Command, args [][]byte) string {
			if cmd != protocol.CmdStageData {
				return "+READY\r\n"
			}
			msg, _ := protocol.ParseStageData(args)
			records, err := openBatch(bytes.Clone(msg.Payload))
			if err != nil {
				t.Error(err)
			}
			sent <- len(records)
			return ""
		})
		w.start()
		wait(100 * time.Millisecond)
		// The first batch leaves with what is there, so their number is not certain.
		total, last, n := 0, 0, len(sent)
		for range n {
			last = <-sent
			total += last
		}
		if n < 4 || total-last >= 2048 {
			t.Errorf("%d batches of together %d bytes, the last of %d, are on their way without an acknowledgement, want the window of 2048 bytes", n, total, last)
		}
	})
}

func TestTheThrottleIsSharedByAllMoves(t *testing.T) {
	const perSecond = 100_000
	inWorld(t, func(o *Options) { o.BatchBytes = 4096 }, func(t *testing.T, w *world) {
		value := strings.Repeat("v", 1000)
		c := w.client()
		for i := range 1000 {
			if err := c.put(i, value); err != nil {
				t.Fatal(err)
			}
		}
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.SetThrottle(perSecond) })
		must(w.a.refresh(t.Context()))(t)
		began := time.Now()
		w.start()
		w.settled()
		// A megabyte, of which a burst goes at once, and what is left at the seal.
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("moving 1 MB at 100 kB/s took %v", took)
		}
		if p := w.a.pauses(); len(p) != 1 || p[0] > 50*time.Millisecond {
			t.Errorf("the throttle has made the pause longer: %v", p)
		}
	})
}

// TestAnExtremeThrottleIsNotATimeout: a batch that waits for its turn for longer than
// a reply may take has not been sent, so no reply is due.
func TestAnExtremeThrottleIsNotATimeout(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		c, value := w.client(), strings.Repeat("v", 1000)
		for i := range 600 {
			if err := c.put(i, value); err != nil {
				t.Fatal(err)
			}
		}
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.SetThrottle(4000) })
		must(w.a.refresh(t.Context()))(t)
		w.start()
		w.settled()
		w.mustOwn(w.b)
		if s := w.a.mover.Stats(); s.Bytes > 650_000 {
			t.Errorf("sent %d bytes for 600 kB: it began more than once; %q", s.Bytes, w.a.said.last())
		}
	})
}

// TestASlowLinkIsNotADeadOne: a large write may take long, as long as it goes on.
func TestASlowLinkIsNotADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := pipe()
		defer mine.Close()
		go func() {
			buf := make([]byte, patientPart)
			for range 8 {
				_, _ = theirs.Read(buf)
				wait(3 * time.Second)
			}
		}()
		c := &patient{mine, 5 * time.Second}
		if n, err := c.Write(make([]byte, 8*patientPart)); err != nil || n != 8*patientPart {
			t.Errorf("%d bytes written to a slow link: %v", n, err)
		}
		began := time.Now()
		if _, err := c.Write(make([]byte, 4*patientPart)); err == nil || time.Since(began) > 20*time.Second {
			t.Errorf("a link that takes nothing failed after %v with %v", time.Since(began), err)
		}
	})
}

// TestTheThrottleIsLifted while a move waits for it.
func TestTheThrottleIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := newThrottle()
		pace.set(10_000)
		began := time.Now()
		for range 4 {
			if err := pace.pay(t.Context(), limiterBurst/4, nil); err != nil || time.Since(began) != 0 {
				t.Fatalf("the burst took %v (%v)", time.Since(began), err)
			}
		}
		hurry := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(hurry) })
		if err := pace.pay(t.Context(), 50_000, hurry); err != nil || time.Since(began) != time.Second {
			t.Errorf("after the seal it took %v (%v)", time.Since(began), err)
		}
		pace.set(0)
		if err := pace.pay(t.Context(), 1<<30, nil); err != nil || time.Since(began) != time.Second {
			t.Errorf("without a throttle it took %v (%v)", time.Since(began), err)
		}
		pace.set(1000)
		time.AfterFunc(time.Second, func() { pace.set(0) })
		began = time.Now()
		if err := pace.pay(t.Context(), 4*limiterBurst, nil); err != nil || time.Since(began) != time.Second {
			t.Errorf("lifted after a second, it took %v (%v)", time.Since(began), err)
		}
		pace.set(1000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := pace.pay(ctx, 50_000, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the end of the move: %v", err)
		}
	})
}

func TestCancelEndsAMove(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(200)
		id := w.document().Moves[0].ID
		w.a.points.OnHit(pointSourceCopy, 3, func() error {
			w.a.running.Go(func() {
				if err := w.a.mover.Cancel(w.a.ctx, id); err != nil {
					t.Error(err)
				}
			})
			wait(time.Second)
			return nil
		})
		w.start()
		w.settled()
		w.mustOwn(w.b) // under the next id
		w.verify(want)
		if err := w.a.mover.Cancel(t.Context(), id); !errors.Is(err, cluster.ErrUnknownMove) {
			t.Errorf("cancelling what is over: %v", err)
		}
	})
}

func TestProgressShowsHowFarAMoveIs(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		w.fill(400)
		seen := map[string]bool{}
		last := 0.0
		watch := func() error {
			for _, p := range w.a.mover.Progress() {
				seen[p.Phase] = true
				if p.Share < last || p.Share > 1 || p.Keys > 400 {
					t.Errorf("progress %+v after a share of %v", p, last)
				}
				last = p.Share
			}
			return nil
		}
		for _, point := range []string{pointSourceCopy, pointSourceSealing, pointSourceCommitted} {
			w.a.points.On(point, watch)
		}
		w.start()
		w.settled()
		if !seen[phaseCopy] || !seen[phaseSeal] || !seen[phaseCommit] || last != 1 {
			t.Errorf("phases %v, share %v", seen, last)
		}
		wait(time.Second)
		if p := w.a.mover.Progress(); len(p) != 0 {
			t.Errorf("still under way: %v", p)
		}
	})
}

// TestASealedRangeIsTakenUpByANewMover: the log says sealed, the document says
// planned; the move is brought to its end.
func TestASealedRangeIsTakenUpByANewMover(t *testing.T) {
	for _, point := range []string{pointSourceSealed, pointSourceComplete} {
		t.Run(point, func(t *testing.T) {
			inWorld(t, small, func(t *testing.T, w *world) {
				want := w.fill(100)
				stuck := make(chan struct{})
				w.a.points.OnHit(point, 1, func() error {
					w.a.mover.stop()
					close(stuck)
					return errDead
				})
				must(0, w.manager.order(w.document().Moves[0]))(t)
				<-stuck
				w.a.renewMover()
				w.settled()
				w.mustOwn(w.b)
				if n := w.document().MoveCount; n != 1 {
					t.Errorf("it took %d moves", n)
				}
				w.verify(want)
				w.unheld()
			})
		})
	}
}

// TestALinkThatBreaksAfterTheSealOfALargeRange: to copy it all again would hold
// requests for long, so the move is aborted at once.
func TestALinkThatBreaksAfterTheSealOfALargeRange(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		c, value := w.client(), strings.Repeat("v", 1<<20)
		for i := range 10 {
			if err := c.put(i, value); err != nil {
				t.Fatal(err)
			}
		}
		w.a.points.OnHit(pointSourceSealed, 1, func() error { return errors.New("the link breaks") })
		w.start()
		w.settled()
		w.mustOwn(w.b)
		if p := w.a.pauses(); len(p) != 2 || p[0] > 100*time.Millisecond {
			t.Errorf("held for %v, want two short pauses", p)
		}
	})
}

// TestADeletedKeyStaysDeletedOverABrokenLink is the resurrection: the first copy
// brings the key, the link breaks, the key is deleted, the second copy has no key
// to say so.
func TestADeletedKeyStaysDeletedOverABrokenLink(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(200)
		c := w.client()
		w.net.proxy(w.a.address, w.b.address).decide = func(reply bool, n int, name string) fate {
			if reply && n == 4 {
				w.a.running.Go(func() {
					for i := range 200 {
						if err := c.delete(i); err != nil {
							t.Error(err)
						}
					}
				})
				return cut
			}
			return deliver
		}
		for i := range 200 {
			want[i] = ""
		}
		w.start()
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
	})
}

// TestASlowTargetHoldsWritersBack, only those of the range, and never for ever. It
// runs in real time: its writers do not rest.
func TestASlowTargetHoldsWritersBack(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.BatchBytes, o.WindowBytes, o.BufferBytes, o.SealBytes = 8<<10, 32<<10, 128<<10, 32<<10
		o.SealTimeout, o.ReplyTimeout = time.Minute, time.Minute // However slow the machine is, one attempt is enough.
	})
	defer w.stop()
	want := w.fill(500)
	throttled := make(chan struct{})
	w.b.points.On(pointTargetCopy, func() error {
		<-throttled // slower than any writer, and then 4 MB/s
		wait(2 * time.Millisecond)
		return nil
	})
	quit, large, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { done <- w.flood(quit, large, throttled) }()
	<-large // The range is more than fits the buffer, and cannot be sealed before it is full.
	w.start()
	<-throttled
	w.settled()
	close(quit)
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.mustOwn(w.b)
	for i := range 500 {
		want[i], _ = w.client().get(i)
	}
	if p := w.a.pauses(); len(p) != 1 {
		t.Errorf("held for %v", p)
	}
}

// flood overwrites keys of the range as fast as it may, and tells when it has been
// through all of them, and when it was first held back. Writes to the rest of the ring
// must not be.
func (w *world) flood(quit <-chan struct{}, through, throttled chan<- struct{}) error {
	pass, tell := sync.OnceFunc(func() { close(through) }), sync.OnceFunc(func() { close(throttled) })
	defer tell()
	defer pass()
	value := bytes.Repeat([]byte("x"), 1000)
	s := w.a.e.NewSession()
	for n := 0; ; n++ {
		select {
		case <-quit:
			return nil
		default:
		}
		if n == 500 {
			pass()
		}
		pos, key := w.key(n % 500)
		_, err := s.Put(pos, key, value, engine.PutOptions{})
		var held *engine.HeldError
		switch {
		case errors.As(err, &held):
			if held.Reason == engine.HeldThrottled {
				tell()
				outside := w.r.Start - 1000
				if _, err := s.Put(outside, []byte("outside"), value, engine.PutOptions{}); err != nil {
					return fmt.Errorf("a write outside the range: %w", err)
				}
				if err := s.Get(pos, key, func(engine.Item) {}); errors.As(err, &held) && held.Reason == engine.HeldThrottled {
					return fmt.Errorf("a read was held back: %w", err)
				}
			}
			<-held.Resolved
		case errors.Is(err, engine.ErrNotOwned):
			return s.Wait()
		case err != nil:
			return err
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	for _, point := range []string{pointSourcePlan, pointSourceCopy, pointSourceSealed, pointSourceCommit, pointTargetCommit} {
		t.Run(point, func(t *testing.T) {
			inWorld(t, small, func(t *testing.T, w *world) {
				w.fill(100)
				w.manager.setBefore(func(cluster.MoveID) error { return errors.New("not now") })
				reached := make(chan struct{})
				for _, n := range []*machine{w.a, w.b} {
					n.points.OnHit(point, 1, func() error { close(reached); return nil })
				}
				w.start()
				<-reached
				must(0, w.a.mover.Close())(t)
				must(0, w.b.mover.Close())(t)
				must(0, w.a.mover.Close())(t)
				if err := w.a.mover.Start(w.document().Moves[0]); !errors.Is(err, ErrClosed) {
					t.Errorf("start after close: %v", err)
				}
			})
		})
	}
}

func TestAMoverNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a mover without an engine")
	}
}

func TestTooManyMovesAreRefused(t *testing.T) {
	inWorld(t, func(o *Options) { o.MaxMoves = 1 }, func(t *testing.T, w *world) {
		w.scripted(func(protocol.Command, [][]byte) string { return "" })
		m := w.document().Moves[0]
		must(0, w.a.mover.Start(m))(t)
		must(0, w.a.mover.Start(m))(t)
		m.ID = "m99"
		if err := w.a.mover.Start(m); !errors.Is(err, ErrTooMany) {
			t.Errorf("a second move: %v", err)
		}
	})
}
