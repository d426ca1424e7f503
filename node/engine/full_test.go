package engine

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// fillMemory writes keys until there is no room for one more, and returns how many.
func (u user) fillMemory(value string) int {
	u.t.Helper()
	for i := 0; ; i++ {
		key := "full:" + strconv.Itoa(i)
		if _, err := u.Put(at(key), []byte(key), []byte(value), PutOptions{}); errors.Is(err, ErrFull) {
			must(u.t, u.Wait())
			return i
		} else if err != nil {
			u.t.Fatalf("after %d keys: %v", i, err)
		} else if int64(i)*int64(len(value)) > 2*littleMemory {
			u.t.Fatalf("%d keys were taken and it goes on", i)
		}
	}
}

// fullOwner is an owner of the whole ring with so little memory.
func fullOwner(t *testing.T, memory int64) *machine {
	m := newOwner(t)
	m.memory = memory
	m.reboot()
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	return m
}

const littleMemory = 32 << 20

// TestAFullNodeTakesWhatNeedsNoMore: no byte above the limit, and all that makes
// room, or needs none, goes on.
func TestAFullNodeTakesWhatNeedsNoMore(t *testing.T) {
	m := fullOwner(t, littleMemory)
	u := m.user()
	u.put("counter", "10")
	value := strings.Repeat("v", 4000)
	n := u.fillMemory(value)
	if s := m.Stats(); s.UsedBytes > littleMemory || s.UsedBytes < littleMemory/2 || s.MaxMemory != littleMemory {
		t.Fatalf("%d keys, %+v", n, s)
	}
	key := "full:0"
	for what, err := range map[string]error{
		"a new key":      second(u.Put(at("new"), []byte("new"), []byte("x"), PutOptions{})),
		"a longer value": second(u.Put(at(key), []byte(key), []byte(value+"v"), PutOptions{})),
		"append":         second(u.Append(at(key), []byte(key), []byte("x"))),
		"append anew":    second(u.Append(at("new"), []byte("new"), []byte("x"))),
		"a new counter":  second(u.Increment(at("new"), []byte("new"), 1)),
	} {
		if !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want ErrFull", what, err)
		}
	}
	if _, err := u.Put(at(key), []byte(key), nil, PutOptions{IfAbsent: true}); !errors.Is(err, ErrExists) {
		t.Errorf("a condition comes first: %v", err)
	}
	u.want(key, value)
	u.put(key, strings.Repeat("w", len(value))) // the same size
	if sum, err := u.Increment(at("counter"), []byte("counter"), 5); err != nil || sum != 15 {
		t.Errorf("increment of a counter that is there: %d, %v", sum, err)
	}
	if _, err := u.Append(at(key), []byte(key), nil); err != nil {
		t.Errorf("append nothing: %v", err)
	}
	if _, err := u.Expire(at(key), []byte(key), m.Now()+1000, ExpireAlways); err != nil {
		t.Errorf("expire: %v", err)
	}
	m.clock.add(2000)
	u.want(key, "") // expired, and gone
	for i := range n / 2 {
		u.delete("full:" + strconv.Itoa(i))
	}
	tickAll(m)
	if again := u.fillMemory(value + "!"); again < n/4 {
		t.Errorf("after deleting half of %d keys there was room for %d", n, again)
	}
	if s := m.Stats(); s.UsedBytes > littleMemory {
		t.Errorf("%+v", s)
	}
}

func second[T any](_ T, err error) error { return err }

// TestWhatWasAcknowledgedIsLoadedWhateverTheLimit: less memory than before is no reason
// to start with less than was acknowledged.
func TestWhatWasAcknowledgedIsLoadedWhateverTheLimit(t *testing.T) {
	m := fullOwner(t, littleMemory)
	n := m.user().fillMemory(strings.Repeat("v", 4000))
	m.memory = littleMemory / 2
	m.reboot()
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	if got := m.Count(); got != n {
		t.Errorf("%d keys, want %d", got, n)
	}
	if _, err := m.user().Put(at("new"), []byte("new"), nil, PutOptions{}); !errors.Is(err, ErrFull) {
		t.Errorf("a new key: %v", err)
	}
}

// TestLargeEntriesCountToo: those that are on the Go heap.
func TestLargeEntriesCountToo(t *testing.T) {
	m := fullOwner(t, littleMemory)
	u := m.user()
	value := strings.Repeat("v", 60<<10)
	n := u.fillMemory(value)
	if n < 100 || int64(n*len(value)) > littleMemory {
		t.Errorf("%d values of 60 KiB", n)
	}
	for i := range n {
		u.delete("full:" + strconv.Itoa(i))
	}
	if s := m.Stats(); s.UsedBytes > littleMemory/4 {
		t.Errorf("when all are deleted: %+v", s)
	}
}

// TestARangeThatDoesNotFitIsRefusedBeforeTheClientsAre: what is left is theirs.
func TestARangeThatDoesNotFitIsRefusedBeforeTheClientsAre(t *testing.T) {
	p := newTestPair(t, shapes["a quarter"])
	p.target.memory = littleMemory
	p.target.reboot()
	must(t, p.target.SetOwnership([]ring.Range{{Start: 1 << 31, End: 1 << 30}}))
	u := p.target.user()
	value := strings.Repeat("v", 4000)
	for i := 0; p.target.Stats().UsedBytes <= littleMemory/16*15; i++ {
		key := "in:" + strconv.Itoa(i)
		if !shapes["a quarter"].Contains(at(key)) {
			u.put(key, value)
		}
	}
	if _, err := p.target.Stage("m", shapes["a quarter"]); !errors.Is(err, ErrFull) {
		t.Errorf("a range comes: %v", err)
	}
	if _, err := p.target.Stage("m", shapes["a quarter"]); !errors.Is(err, ErrFull) {
		t.Errorf("it comes again: %v", err)
	}
	if _, err := p.target.StageApply("m", appendEntry(nil, entry{kind: putKind(0), pos: 1<<30 + 1, version: 1, key: []byte("k"), value: []byte("v")})); !errors.Is(err, ErrFull) {
		t.Errorf("a batch: %v", err)
	}
	u.put("in:x", "a client's own") // of the sixteenth
	must(t, second(p.target.Unstage("m")))
}
