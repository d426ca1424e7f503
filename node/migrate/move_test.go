package migrate

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/engine"
)

// small makes moves of a hundred keys take several batches.
func small(o *Options) {
	o.BatchBytes, o.WindowBytes, o.BufferBytes, o.SealBytes = 512, 2048, 4096, 1024
}

// inWorld runs a story in a bubble with a clock of its own.
func inWorld(t *testing.T, tune func(*Options), story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, tune)
		defer w.stop()
		story(t, w)
	})
}

func TestAMoveBringsEverything(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		want := w.fill(2000)
		w.start()
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
		if w.a.e.Count() != 0 {
			t.Errorf("the source still counts %d keys", w.a.e.Count())
		}
	})
}

func TestAnEmptyRangeMoves(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.start()
		w.settled()
		w.mustOwn(w.b)
		w.verify(nil)
	})
}

func TestReadsAndWritesGoOnDuringAMove(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(500)
		l := w.begin(8, 1000, 100*time.Microsecond)
		wait(20 * time.Millisecond)
		w.start()
		w.settled()
		wait(20 * time.Millisecond)
		l.end()
		l.into(want)
		w.mustOwn(w.b)
		w.verify(want)
		if pauses := w.a.pauses(); len(pauses) != 1 || pauses[0] > 50*time.Millisecond {
			t.Errorf("the range was held for %v", pauses)
		}
	})
}

// TestWritersFasterThanTheLinkConverge runs in real time: its writers do not rest.
func TestWritersFasterThanTheLinkConverge(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.BufferBytes = 64 << 10; o.SealBytes = 16 << 10; o.BatchBytes = 8 << 10 })
	defer w.stop()
	want := w.fill(2000)
	l := w.begin(8, 10_000, 0)
	w.start()
	w.settled()
	l.end()
	l.into(want)
	w.mustOwn(w.b)
	w.verify(want)
	t.Logf("%d operations during the move, held for %v", l.ops, w.a.pauses())
}

func TestIncrementsUnderAMoveCountExactly(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		w.fill(200)
		quit, counted, running := make(chan struct{}), [4]int{}, sync.WaitGroup{}
		for i := range counted {
			running.Go(func() { counted[i] = w.counter(1000+i, time.Millisecond, quit) })
		}
		w.start()
		w.settled()
		wait(10 * time.Millisecond)
		close(quit)
		running.Wait()
		for i, n := range counted {
			if n == 0 {
				t.Errorf("counter %d did not count", i)
			}
		}
	})
}

func TestKeysThatExpireDuringTheCopyStayAway(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(300)
		c := w.client()
		for i := 1000; i < 1200; i++ {
			pos, key := w.key(i)
			at := w.a.e.Now() + int64(i-1000)/4 // within the next 50 ms
			if err := c.do(0, func(s *engine.Session) error {
				_, err := s.Put(pos, key, []byte("short-lived"), engine.PutOptions{ExpireAt: at})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			want[i] = ""
		}
		// The copy is slow enough for keys to expire before, while and after they
		// are sent.
		w.a.points.On(pointSourceCopy, func() error { wait(time.Millisecond); return nil })
		w.start()
		w.settled()
		wait(3 * time.Second) // for the sweeper
		w.mustOwn(w.b)
		w.verify(want)
	})
}

func TestAWithdrawnMoveLeavesNoTrace(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(300)
		stopped := make(chan struct{})
		w.a.points.OnHit(pointSourceCopy, 5, func() error { close(stopped); wait(100 * time.Millisecond); return nil })
		w.start()
		<-stopped
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.Leave(w.b.address) })
		w.settled()
		wait(time.Second)
		w.mustOwn(w.a)
		w.verify(want)
		if s := w.b.e.Stats(); s.Staged != 0 {
			t.Errorf("the target still holds %d staged keys", s.Staged)
		}
		if got := w.a.mover.Progress(); len(got) != 0 {
			t.Errorf("the source still works on %v", got)
		}
	})
}

// TestDeletesAreNotUndone moves a range there, back, and there again, with deletes
// wherever it is: what is left of an earlier stay must not come back.
func TestDeletesAreNotUndone(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(300)
		c, removed := w.client(), 0
		remove := func(n int) {
			for range n {
				if err := c.delete(removed); err != nil {
					t.Fatal(err)
				}
				want[removed] = ""
				removed++
			}
		}
		w.start()
		for range 2 {
			w.settled()
			w.mustOwn(w.b)
			remove(20)
			w.update(func(d cluster.Document) (cluster.Document, error) { return d.Leave(w.b.address) })
			remove(20)
			w.settled()
			w.mustOwn(w.a)
			remove(20)
			w.restart(w.b)
			w.update(func(d cluster.Document) (cluster.Document, error) { return d.Join(w.b.address) })
		}
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
	})
}
