package engine

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestScanGivesEveryKeyInRingOrder(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	want := u.fill(2000)
	for _, page := range []int{-1, 1, 7, 100, 5000} {
		if all := u.scanAll(page); !maps.Equal(all, want) {
			t.Fatalf("pages of %d: %d keys of %d", page, len(all), len(want))
		}
	}
	var last ring.Position
	for cursor := uint64(0); ; {
		next, err := u.Scan(cursor, 13, func(it Item) {
			pos := ring.PositionOf(it.Key)
			if pos < last || uint64(pos) < cursor {
				t.Fatalf("position %s after %s, cursor %d", pos, last, cursor)
			}
			last = pos
		})
		must(t, err)
		if cursor = next; next == 0 {
			return
		}
	}
}

func TestScanKeepsOnePositionTogether(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for _, pos := range []ring.Position{0, 77, ring.MaxPosition} {
		for i := range 20 {
			_, err := u.Put(pos, fmt.Append(nil, pos, i), nil, PutOptions{})
			must(t, err)
		}
	}
	pages := 0
	for cursor, more := uint64(0), true; more; pages++ {
		n := 0
		next, err := u.Scan(cursor, 3, func(Item) { n++ })
		must(t, err)
		if n != 20 {
			t.Fatalf("page %d has %d keys", pages, n)
		}
		cursor, more = next, next != 0
	}
	if pages != 3 {
		t.Fatalf("%d pages", pages)
	}
}

func TestScanRefusesForeignCursors(t *testing.T) {
	m := newOwner(t)
	_, err := m.user().Scan(1<<32, 1, func(Item) {})
	wantErr(t, err, ErrCursor)
}

func TestScanSkipsOrStopsAtForeignRanges(t *testing.T) {
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	low, high := ring.Range{Start: ring.MaxPosition, End: 1 << 30}, ring.Range{Start: 1 << 31, End: 3 << 30}
	must(t, m.SetOwnership([]ring.Range{low, high}))
	u := m.user()
	for _, key := range append(keysIn(low, 10), keysIn(high, 10)...) {
		u.put(key, "v")
	}
	if n := len(u.scanAll(6)); n != 20 {
		t.Fatalf("a skipping scan gives %d keys", n)
	}
	n := 0
	next, err := u.ScanOwned(0, 1000, func(Item) { n++ })
	must(t, err)
	if n != 10 || next != 1<<30+1 {
		t.Fatalf("%d keys, next %d", n, next)
	}
	_, err = u.ScanOwned(next, 1000, func(Item) { t.Error("a key of a foreign range") })
	wantErr(t, err, ErrNotOwned)
	next, err = u.ScanOwned(1<<31+1, 1000, func(Item) { n++ })
	if must(t, err); n != 20 || next != 3<<30+1 {
		t.Fatalf("%d keys, next %d", n, next)
	}
}

func TestScanWaitsAtASealedRange(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.fill(100)
	r := ring.Range{Start: 1 << 30, End: 1 << 31}
	m.sync(m.Seal("m", r))
	next, err := u.Scan(0, 1000, func(Item) {})
	if must(t, err); next != 1<<30+1 {
		t.Fatalf("the page ends before %d", next)
	}
	var held *HeldError
	if _, err = u.Scan(next, 1000, func(Item) { t.Error("a key of a sealed range") }); !errors.As(err, &held) {
		t.Fatalf("error is %v", err)
	}
	m.sync(m.Unseal("m"))
	<-held.Resolved
	if n := len(u.scanAll(30)); n != 100 {
		t.Fatalf("%d keys after the seal", n)
	}
}

// The guarantee: keys that are there all the time are given, whatever happens to
// others meanwhile.
func TestScanDuringWrites(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	steady := u.fill(3000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() { churn(m, w, stop) })
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				m.Tick(200)
				runtime.Gosched() // As in churn.
			}
		}
	})
	for round := range 10 {
		all := u.scanAll(50)
		for key := range steady {
			if _, ok := all[key]; !ok {
				t.Errorf("round %d: %s is missing", round, key)
			}
		}
	}
	close(stop)
	wg.Wait()
	must(t, u.Wait())
}

// churn writes, rewrites and deletes keys of its own, and rewrites steady ones
// with other sizes.
func churn(m *machine, w int, stop <-chan struct{}) {
	u := m.user()
	for i := 0; ; i++ {
		select {
		case <-stop:
			must(u.t, u.Wait())
			return
		default:
		}
		key := "churn:" + strconv.Itoa(w) + ":" + strconv.Itoa(i%500)
		if i%1000 < 500 {
			_, err := u.Put(at(key), []byte(key), make([]byte, i%300), PutOptions{})
			must(u.t, err)
		} else {
			_, err := u.Delete(at(key), []byte(key), nil)
			must(u.t, err)
		}
		steady := "key:" + strconv.Itoa(i%3000)
		_, err := u.Put(at(steady), []byte(steady), make([]byte, i%100), PutOptions{})
		must(u.t, err)
		runtime.Gosched() // Or, on one processor, a page of the scan waits for a time slice of each.
	}
}
