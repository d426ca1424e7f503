package engine

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

// A ring gives back what was put into it, from any cursor that it still has, and finds
// the place from where on everything newer than a version lies.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGroup("k", false)
		var all []*change
		bytes := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				c := &change{version: Version(rapid.IntRange(1, 100).Draw(t, "version")), key: make([]byte, rapid.IntRange(0, 9).Draw(t, "key"))}
				g.push(c)
				all = append(all, c)
				bytes += int64(c.size())
			},
			"shift": func(*rapid.T) {
				if g.first < g.next {
					bytes -= g.shift()
				}
			},
			"": func(t *rapid.T) {
				first := len(all) - int(g.next-g.first)
				if g.next != uint64(len(all)) || g.bytes != bytes {
					t.Fatalf("next %d of %d, %d bytes, want %d", g.next, len(all), g.bytes, bytes)
				}
				cursor := rapid.IntRange(0, len(all)).Draw(t, "cursor")
				got, behind := g.copyFrom(nil, uint64(cursor), len(all))
				if behind != (cursor < first) || !behind && !slices.Equal(got, all[cursor:]) {
					t.Fatalf("from %d: %v, %v; the first is %d", cursor, got, behind, first)
				}
				told := Version(rapid.IntRange(0, 110).Draw(t, "told"))
				at := int(g.after(told))
				for i, c := range all {
					if c.version > told && i < at && told >= g.floor {
						t.Fatalf("version %d at %d lies before %d, where everything newer than %d begins", c.version, i, at, told)
					}
				}
			},
		})
	})
}

func TestTombs(t *testing.T) {
	var d tombs
	show := func() (all []string) {
		d.each(func(x tomb) { all = append(all, fmt.Sprintf("%d %s %d", x.pos, x.key, x.version)) })
		return all
	}
	for i := range 5 {
		if f := d.add(3*(tombHead+1), tomb{ring.Position(i), Version(10 * (i + 1)), []byte{'a' + byte(i)}}); f != Version(max(0, 10*(i-2))) {
			t.Errorf("%d: forgot %d", i, f)
		}
	}
	if got := show(); !slices.Equal(got, []string{"2 c 30", "3 d 40", "4 e 50"}) || d.size() != 3*(tombHead+1) {
		t.Error(got, d.size())
	}
	if f := d.expire(41); f != 40 || len(show()) != 1 {
		t.Error(f, show())
	}
	if f := d.expire(41); f != 0 {
		t.Error(f)
	}
	if f := d.add(5, tomb{1, 60, []byte("too large for its bounds")}); f != 60 || show() != nil || d.size() != 0 || d.buf != nil {
		t.Error(f, show())
	}
}

// The buffer does not grow with what has been forgotten.
func TestTombsGiveMemoryBack(t *testing.T) {
	var d tombs
	key := make([]byte, 100)
	for i := range 10_000 {
		d.add(10_000, tomb{1, Version(i), key})
	}
	if cap(d.buf) > 50_000 {
		t.Error(cap(d.buf))
	}
	d.expire(maxVersion)
	if d.buf != nil {
		t.Error("still there")
	}
}
