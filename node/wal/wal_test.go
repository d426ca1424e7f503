package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

func Example() {
	o := Options{FS: vfs.NewMem(), Dir: "wal"}
	l, err := Open(o)
	if err != nil {
		panic(err)
	}
	err = l.Replay(func([]byte, LSN) error { return nil })
	if err != nil {
		panic(err)
	}
	if _, err = l.Append([]byte("put a 1")); err != nil {
		panic(err)
	}
	lsn, err := l.Append([]byte("put b 2"))
	if err == nil {
		err = l.Wait(lsn) // both are on disk now
	}
	if err = errors.Join(err, l.Close()); err != nil {
		panic(err)
	}

	l, err = Open(o)
	if err != nil {
		panic(err)
	}
	defer l.Close()
	err = l.Replay(func(payload []byte, _ LSN) error {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", rec)
			payload = rest
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// put a 1
	// put b 2
}

// The same log on the real disk and in memory, through several restarts.
func TestRestarts(t *testing.T) {
	for name, o := range map[string]Options{
		"OS":            {FS: vfs.OS(), Dir: filepath.Join(t.TempDir(), "deep", "wal"), SegmentSize: minSegment},
		"Mem":           small(vfs.NewMem()),
		"odd size":      {FS: vfs.NewMem(), Dir: "a/b/c", SegmentSize: 7777},
		"one big":       {FS: vfs.NewMem(), Dir: "wal", SegmentSize: 1 << 20},
		"tiny pending":  {FS: vfs.NewMem(), Dir: "wal", SegmentSize: minSegment, MaxPending: 1},
		"interval mode": {FS: vfs.NewMem(), Dir: "wal", SegmentSize: minSegment, Sync: SyncInterval},
		"never mode":    {FS: vfs.NewMem(), Dir: "wal", SegmentSize: minSegment, Sync: SyncNever},
	} {
		t.Run(name, func(t *testing.T) {
			h := &history{}
			for round := range 4 {
				l, err := Open(o)
				must(t, err)
				if r := l.Stats().Recovery; r.Fresh != (round == 0) || r.Clean != (round > 0) || r.TornBytes != 0 || r.Rewritten != 0 {
					t.Errorf("round %d: %+v", round, r)
				}
				first, next, err := contents(l)
				if first != 0 || next != len(h.lsn) || err != nil {
					t.Fatalf("round %d: records %d to %d of %d, error %v", round, first, next, len(h.lsn), err)
				}
				h.fill(t, l, 40)
				must(t, l.Close())
			}
		})
	}
}

// Restarts that write nothing leave no files behind.
func TestIdleRestartsAddNothing(t *testing.T) {
	m := vfs.NewMem()
	for range 5 {
		must(t, openEmpty(t, small(m)).Close())
	}
	names, err := m.ReadDir("wal")
	must(t, err)
	if want := "0000000000000001.wal LOCK"; strings.Join(names, " ") != want {
		t.Errorf("files: %q, want %q", names, want)
	}
}

func TestLSNs(t *testing.T) {
	l := openEmpty(t, small(vfs.NewMem()))
	defer l.Close()
	var last LSN
	for i := range 50 {
		lsn, err := l.Append(record(i))
		must(t, err)
		if lsn <= last || lsn != l.Appended() || lsn <= l.Durable() {
			t.Fatalf("record %d: position %d after %d; appended %d, durable %d", i, lsn, last, l.Appended(), l.Durable())
		}
		last = lsn
		if i%7 == 0 {
			must(t, l.Wait(lsn))
			if l.Durable() < lsn || l.Written() < l.Durable() {
				t.Fatalf("waited for %d: durable %d, written %d", lsn, l.Durable(), l.Written())
			}
		}
	}
	if err := l.Wait(last + 1000); err == nil {
		t.Error("waited for a record that was never appended")
	}
	if got, err := ParseLSN(last.String()); got != last || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseLSN("-1"); err == nil {
		t.Error("-1 is a position")
	}
}

func TestRecordSizes(t *testing.T) {
	o := small(vfs.NewMem())
	l := openEmpty(t, o)
	largest := l.o.MaxRecord
	if largest < 500 {
		t.Fatalf("a segment of %d bytes takes records of only %d", minSegment, largest)
	}
	sizes := []int{0, 1, 127, 128, largest - 1, largest, 0, largest}
	for _, size := range sizes {
		lsn, err := l.Append(bytes.Repeat([]byte("x"), size))
		must(t, err)
		must(t, l.Wait(lsn))
	}
	if _, err := l.Append(make([]byte, largest+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a record of %d bytes: %v", largest+1, err)
	}
	must(t, l.Close())

	l, err := Open(o)
	must(t, err)
	var got []int
	must(t, l.Replay(func(payload []byte, _ LSN) error {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			must(t, err)
			got, payload = append(got, len(rec)), rest
		}
		return nil
	}))
	must(t, l.Close())
	if fmt.Sprint(got) != fmt.Sprint(sizes) {
		t.Errorf("sizes %v, want %v", got, sizes)
	}
}

// A record larger than the segments that were asked for makes them larger.
func TestMaxRecordRaisesTheSegment(t *testing.T) {
	for _, size := range []int{1000, 1 << 20, 3<<20 + 12345} {
		l := openEmpty(t, Options{FS: vfs.NewMem(), Dir: "wal", SegmentSize: 8 << 10, MaxRecord: size})
		for range 3 {
			lsn, err := l.Append(make([]byte, size))
			must(t, err)
			must(t, l.Wait(lsn))
		}
		must(t, l.Close())
	}
	if _, err := Open(Options{FS: vfs.NewMem(), Dir: "wal", MaxRecord: 1 << 30}); err == nil {
		t.Error("a record of 1 GiB was allowed")
	}
}

func TestCallsInTheWrongOrder(t *testing.T) {
	if _, err := Open(Options{FS: vfs.NewMem()}); err == nil {
		t.Error("opened without a directory")
	}
	m := vfs.NewMem()
	l, err := Open(small(m))
	must(t, err)
	if _, err := l.Append([]byte("x")); !errors.Is(err, errNotReplayed) {
		t.Errorf("append before replay: %v", err)
	}
	if _, err := Open(small(m)); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, l.Replay(func([]byte, LSN) error { return nil }))
	if err := l.Replay(func([]byte, LSN) error { return nil }); !errors.Is(err, errReplayed) {
		t.Errorf("replayed twice: %v", err)
	}
	must(t, l.Close())
	must(t, l.Close())
	_, appendErr := l.Append([]byte("x"))
	for what, err := range map[string]error{
		"append": appendErr, "replay": l.Replay(nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

func TestReplayStopsAtAnError(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, 20)
	must(t, l.Close())
	l, err := Open(small(m))
	must(t, err)
	wrong := errors.New("wrong")
	calls := 0
	err = l.Replay(func([]byte, LSN) error { calls++; return wrong })
	if !errors.Is(err, wrong) || calls != 1 {
		t.Errorf("%d calls, error %v", calls, err)
	}
	if _, err := l.Append([]byte("x")); err == nil {
		t.Error("appended to a log that was not replayed")
	}
	must(t, l.Close())
	if _, next, err := h.check(m); next != 20 || err != nil {
		t.Errorf("records to %d, error %v", next, err)
	}
}

// Payloads belong to the callback: buffers that were not released are not
// written again.
func TestReplayHandsOverItsBuffers(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, 30)
	must(t, l.Close())
	l, err := Open(small(m))
	must(t, err)
	defer l.Close()
	var kept, copies [][]byte
	must(t, l.Replay(func(payload []byte, _ LSN) error {
		if len(kept)%2 == 0 {
			l.Release(bytes.Clone(payload))
		}
		kept, copies = append(kept, payload), append(copies, bytes.Clone(payload))
		return nil
	}))
	for i := range kept {
		if !bytes.Equal(kept[i], copies[i]) {
			t.Fatalf("payload %d has changed", i)
		}
	}
}

// Many writers share syncs, wait for their own records only, and find them in
// their own order, while the log is truncated and measured.
func TestConcurrentWriters(t *testing.T) {
	const writers, records = 16, 200
	m := vfs.NewMem()
	o := small(m)
	o.SegmentSize = 8 << 10
	o.MaxPending = 2 << 10
	l := openEmpty(t, o)
	var wg sync.WaitGroup
	for w := range uint32(writers) {
		wg.Go(func() {
			for i := range uint32(records) {
				rec := binary.LittleEndian.AppendUint32(nil, w)
				rec = binary.LittleEndian.AppendUint32(rec, i)
				lsn, err := l.Append(append(rec, make([]byte, i)...))
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 != 0 {
					continue
				}
				if err := l.Wait(lsn); err != nil || l.Durable() < lsn {
					t.Errorf("wait for %d: %v, durable %d", lsn, err, l.Durable())
				}
				if i == records-2 && w == 0 { // by now the log has several segments
					must(t, l.Truncate(min(lsn/2, 16<<10)))
				}
				l.Stats()
			}
		})
	}
	wg.Wait()
	s := l.Stats()
	if s.Records != writers*records || s.Syncs == 0 {
		t.Errorf("%+v", s)
	}
	start := l.Start()
	if start == 0 {
		t.Error("the log was not truncated")
	}
	must(t, l.Close())
	checkWriters(t, o, writers, records)
}

// checkWriters finds the end of each writer's records, without a gap.
func checkWriters(t *testing.T, o Options, writers, records int) {
	l, err := Open(o)
	must(t, err)
	defer l.Close()
	next := map[uint32]uint32{}
	must(t, l.Replay(func(payload []byte, _ LSN) error {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			if err != nil {
				return err
			}
			w, i := binary.LittleEndian.Uint32(rec), binary.LittleEndian.Uint32(rec[4:])
			if want, seen := next[w]; seen && want != i || len(rec) != 8+int(i) {
				t.Errorf("writer %d: record %d of %d bytes, want number %d", w, i, len(rec), want)
			}
			next[w], payload = i+1, rest
		}
		return nil
	}))
	for w := range uint32(writers) {
		if int(next[w]) != records {
			t.Errorf("writer %d: records to %d", w, next[w])
		}
	}
}

// A single writer leads every time and never waits for anyone: one group and
// one sync per record.
func TestSingleWriterLeads(t *testing.T) {
	o := small(vfs.NewMem())
	o.SegmentSize = 1 << 20
	l := openEmpty(t, o)
	for i := range 100 {
		lsn, err := l.Append(record(i))
		must(t, err)
		must(t, l.Wait(lsn))
	}
	if s := l.Stats(); s.Syncs != 100 || s.Groups != 100 || s.SyncMax > s.SyncTime {
		t.Errorf("%+v", s)
	}
	must(t, l.Close())
}

// While a sync runs, the next group gathers: all of it shares the next sync.
func TestGroupGathersDuringASync(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	o := small(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && armed.CompareAndSwap(true, false) {
			close(entered)
			<-leave
		}
		return nil
	}))
	o.SegmentSize = 1 << 20
	l := openEmpty(t, o)
	armed.Store(true)
	var wg sync.WaitGroup
	write := func() {
		lsn, err := l.Append([]byte("x"))
		if err == nil {
			err = l.Wait(lsn)
		}
		if err != nil {
			t.Error(err)
		}
	}
	wg.Go(write)
	<-entered
	for range 50 {
		lsn, err := l.Append([]byte("y"))
		must(t, err)
		wg.Go(func() { must(t, l.Wait(lsn)) })
	}
	close(leave)
	wg.Wait()
	if s := l.Stats(); s.Syncs != 2 || s.Records != 51 {
		t.Errorf("%d syncs for %d records, want 2 for 51", s.Syncs, s.Records)
	}
	must(t, l.Close())
}
