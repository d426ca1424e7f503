package migrate

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// tiny is an outbox of 100-byte batches with two of them on the way.
func tiny() *outbox {
	return newOutbox(&Options{BatchBytes: 100 + batchHeader, WindowBytes: 200, BufferBytes: 1000})
}

func record(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }

func TestBatchesAreCutBetweenRecords(t *testing.T) {
	b := tiny()
	for _, n := range []int{40, 40, 30, 250, 1, 99, 2} {
		b.Add(record(n))
	}
	b.finish()
	var got []int
	for {
		batch, seq, err := b.take()
		if err != nil {
			t.Fatal(err)
		}
		if batch == nil {
			break
		}
		got = append(got, len(batch)-batchHeader)
		if int(seq) != len(got) {
			t.Errorf("batch %d has number %d", len(got), seq)
		}
		if err := b.acked(seq); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int{80, 30, 250, 100, 2}; !slices.Equal(got, want) {
		t.Errorf("batches of %v bytes, want %v", got, want)
	}
}

// taker hands batches over as the sender would take them.
func taker(b *outbox) chan uint64 {
	taken := make(chan uint64, 100)
	go func() {
		defer close(taken)
		for {
			batch, seq, err := b.take()
			if batch == nil || err != nil {
				return
			}
			taken <- seq
			b.sent(batch, seq)
		}
	}()
	return taken
}

func TestTheWindowAndTheTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tiny()
		taken := taker(b)
		expect := func(what string, n int) {
			t.Helper()
			synctest.Wait()
			if len(taken) != n {
				t.Fatalf("%s: %d batches sent, want %d", what, len(taken), n)
			}
		}
		expect("nothing yet", 0)
		b.Add(record(10))
		expect("nothing is on its way, so a little may leave", 1)
		b.Add(record(10))
		expect("a little more waits for company", 1)
		for range 4 {
			b.Add(record(90))
		}
		expect("the window is full", 3)
		_ = b.acked(2)
		expect("room in the window", 4)
		_ = b.acked(4)
		expect("the rest", 5)
		b.Add(record(5))
		b.finish()
		expect("the end waits for nothing", 6)
		if _, open := <-taken; !open {
			t.Fatal("ended early")
		}
	})
}

func TestWritersAreHeldAboveTheLimitAndLetGoBelow(t *testing.T) {
	b := tiny()
	for range 10 {
		b.Add(record(100))
	}
	if b.Full() != nil {
		t.Fatal("full at the limit")
	}
	b.Add(record(1))
	full := b.Full()
	if full == nil {
		t.Fatal("not full above the limit")
	}
	var seq uint64
	for range 2 {
		_, seq, _ = b.take()
	}
	_ = b.acked(seq)
	if b.Full() == nil {
		t.Fatal("let go at four fifths already")
	}
	_, seq, _ = b.take()
	_ = b.acked(seq)
	select {
	case <-full:
	default:
		t.Fatal("not let go")
	}
	b.tighten(400)
	if b.Full() == nil {
		t.Error("a tighter limit holds nobody")
	}
	full = b.Full()
	b.finish()
	if <-full; b.Full() != nil {
		t.Error("held after the end")
	}
}

// TestTheCopierGetsItsShare: writers that always fill the outbox do not starve it.
func TestTheCopierGetsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tiny()
		for range 9 {
			b.Add(record(100))
		}
		b.yield()
		turns := 0
		go func() {
			for b.room() == nil {
				turns++
				b.yield()
				if turns == 2 {
					return
				}
			}
		}()
		synctest.Wait()
		if turns != 0 {
			t.Fatal("the copier goes on although nine tenths are full and nobody writes")
		}
		for range 5 {
			b.Add(record(100))
		}
		if synctest.Wait(); turns != 1 {
			t.Fatalf("%d turns after 500 bytes of changes, want 1", turns)
		}
		b.fail(errDecided)
	})
}

func TestAcknowledgements(t *testing.T) {
	b := tiny()
	for range 4 {
		b.Add(record(100))
	}
	_, _, _ = b.take()
	_, _, _ = b.take()
	if err := b.acked(3); !errors.Is(err, errAck) {
		t.Errorf("a batch that was not sent is acknowledged: %v", err)
	}
	for _, seq := range []uint64{0, 1, 1, 0, 2, 1} {
		if err := b.acked(seq); err != nil {
			t.Errorf("acknowledgement %d: %v", seq, err)
		}
	}
	if err := b.drained(200); err != nil || b.backlog() != 200 {
		t.Errorf("%d bytes are left (%v), want 200", b.backlog(), err)
	}
}

func TestAFailedAttemptLetsEveryoneGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, reason := tiny(), errors.New("the reason")
		for range 12 {
			b.Add(record(100))
		}
		full := b.Full()
		_, _, _ = b.take()
		_, _, _ = b.take()
		b.yield()
		waiting := map[string]func() error{
			"copier":  b.room,
			"drained": func() error { return b.drained(10) },
			"sender":  func() error { _, _, err := b.take(); return err },
			"last":    func() error { _, _, err := b.lastWord(); return err },
		}
		got := make(chan error, len(waiting))
		for _, wait := range waiting {
			go func() { got <- wait() }()
		}
		synctest.Wait()
		b.fail(reason)
		b.fail(errors.New("a later one"))
		<-full
		for range waiting {
			if err := <-got; !errors.Is(err, reason) {
				t.Errorf("told %v", err)
			}
		}
		if b.Add(record(1)); b.Full() != nil {
			t.Error("still holds writers")
		}
	})
}
