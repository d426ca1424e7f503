package table

import (
	"math/rand/v2"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// effort is what a table has done since it was made, besides what was asked.
type effort struct{ slots, looked, copied int64 }

func effortOf(tab *Table) effort {
	return effort{tab.index.moved, tab.sweep.seen, tab.sweep.moved}
}

const (
	// One insertion shifts a page at most, and lays out seven: three become four.
	mostSlots = pageSlots + (2*windowPages+1)*pageSlots
	// One payment looks at slots and copies until it is used up, and then
	// finishes the block it is at.
	mostLooked = maxStep / slotCost
	mostCopied = maxStep + maxBlock
)

// No change may do work in proportion to the table, whatever came before it and
// wherever positions crowd.
func TestNoChangeDoesUnboundedWork(t *testing.T) {
	for name, pos := range map[string]func(i int) ring.Position{
		"spread":       spread,
		"rising":       func(i int) ring.Position { return ring.Position(i) },
		"falling":      func(i int) ring.Position { return ^ring.Position(i) },
		"narrow arc":   func(i int) ring.Position { return 1<<30 + spread(i)%1000 },
		"end of ring":  func(i int) ring.Position { return ^(spread(i) % 5000) },
		"few":          func(i int) ring.Position { return spread(i % 1000) },
		"halving arcs": func(i int) ring.Position { return spread(i) >> (i % 28) },
	} {
		t.Run(name, func(t *testing.T) {
			tab, r := newTable(t), rand.New(rand.NewPCG(1, 2))
			value := make([]byte, 3*maxBlock)
			size := func() int {
				if r.IntN(200) == 0 {
					return r.IntN(len(value))
				}
				return r.IntN(300)
			}
			const keys = 15_000
			for n := range 4 * keys {
				i := n
				if n >= keys {
					i = r.IntN(keys)
				}
				bounded(t, tab, func() { tab.Put(pos(i), number(i), value[:size()], 1, int64(n%2)) })
			}
			verify(t, tab)
			for i := range keys {
				bounded(t, tab, func() { tab.Delete(pos(i), number(i)) })
				if i == keys*9/10 {
					verify(t, tab)
				}
			}
		})
	}
}

func bounded(t *testing.T, tab *Table, change func()) {
	t.Helper()
	before := effortOf(tab)
	change()
	if tab.Len() == 0 {
		return // Released: it counts from zero again.
	}
	after := effortOf(tab)
	slots, looked, copied := after.slots-before.slots, after.looked-before.looked, after.copied-before.copied
	if slots > mostSlots || looked > mostLooked || copied > mostCopied {
		t.Fatalf("one change moved %d slots, looked at %d, copied %d bytes; table %+v",
			slots, looked, copied, tab.Stats())
	}
}
