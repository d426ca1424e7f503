package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/ring"
)

// serveWatches does by hand, and to the end, what RunWatches does.
func (m *machine) serveWatches() {
	m.t.Helper()
	for m.hub.round() {
	}
	must(m.t, m.hub.pump())
}

// viewer is a client that watches: what it has been told, and how far. It checks
// what every watcher may rely on.
type viewer struct {
	t      tester
	m      *machine
	w      *Watcher
	id     int64
	prefix string

	known    map[string]seen
	here     map[string]Version     // told by this machine since connect
	events   map[string]bool        // the same, each change
	mark     func() int             // of the history, if the test keeps one
	marks    map[ring.Range]int     // from there on every change has been told
	versions map[ring.Range]Version // of what it watches: all changes up to it are known
	live     map[ring.Range]bool
	stated   map[ring.Range]map[string]bool // ranges whose state is being told: keys that have come
	moved    []WatchEvent
	log      []string // what it was told, in words
}

type seen struct {
	value   string
	version Version
	gone    bool
}

// view watches a prefix in some ranges, with current values first.
func (m *machine) view(prefix string, ranges ...ring.Range) *viewer {
	m.t.Helper()
	v := &viewer{t: m.t, prefix: prefix, known: map[string]seen{}, versions: map[ring.Range]Version{}}
	for _, r := range ranges {
		v.versions[r] = 0
	}
	v.connect(m)
	return v
}

// connect begins at a machine where it was.
func (v *viewer) connect(m *machine) {
	v.t.Helper()
	v.m, v.w = m, m.NewWatcher()
	v.live, v.stated, v.moved = map[ring.Range]bool{}, map[ring.Range]map[string]bool{}, nil
	v.here, v.events, v.marks = map[string]Version{}, map[string]bool{}, map[ring.Range]int{}
	v.id = 7
	v.add(slices.SortedFunc(maps.Keys(v.versions), byStart)...)
}

func byStart(a, b ring.Range) int { return int(int64(a.Start) - int64(b.Start)) }

// add watches ranges from the versions on that it has.
func (v *viewer) add(ranges ...ring.Range) {
	v.t.Helper()
	var all []WatchRange
	for _, r := range ranges {
		all = append(all, WatchRange{r, v.versions[r]})
	}
	must(v.t, v.w.Watch(v.id, []byte(v.prefix), true, true, all))
}

// read takes what there is, about budget bytes of it.
func (v *viewer) read(budget int) (more bool) {
	v.t.Helper()
	more, err := v.w.Take(budget, v.hear)
	must(v.t, err)
	return more
}

// catchUp reads until there is nothing left.
func (v *viewer) catchUp() {
	v.t.Helper()
	for range 1000 {
		v.m.serveWatches()
		before := len(v.log)
		for v.read(1 << 20) {
		}
		if len(v.log) == before && !v.m.hub.round() {
			return
		}
	}
	v.t.Fatalf("there is no end of what is told; last: %v", v.log[len(v.log)-5:])
}

func (v *viewer) hear(e *WatchEvent) {
	v.t.Helper()
	v.log = append(v.log, describe(e))
	switch e.Kind {
	case WatchPut, WatchDelete:
		v.hearChange(e)
	case WatchState:
		v.stated[e.Range] = map[string]bool{}
	case WatchSynced:
		v.hearSynced(e)
	case WatchProgress:
		for r := range v.live {
			v.versions[r] = max(v.versions[r], e.Version)
		}
	case WatchBehind:
		clear(v.live)
		clear(v.marks)
	case WatchMoved:
		v.moved = append(v.moved, *e)
		v.split(e.Range, e.Version)
	}
}

func (v *viewer) hearChange(e *WatchEvent) {
	v.t.Helper()
	key := string(e.Key)
	if !strings.HasPrefix(key, v.prefix) {
		v.t.Fatalf("told of %q", key)
	}
	old := v.here[key]
	var keys map[string]bool
	for r, all := range v.stated {
		if r.Contains(at(key)) {
			keys = all
		}
	}
	if keys == nil && e.Version <= old || keys != nil && e.Version < old {
		v.t.Fatalf("%s after version %d", describe(e), old)
	}
	v.here[key] = e.Version
	v.events[fmt.Sprint(key, "@", e.Version)] = true
	if keys != nil {
		keys[key] = true
	} else if e.Version <= v.known[key].version {
		return // Another connection has told it.
	}
	v.known[key] = seen{string(e.Value), e.Version, e.Kind == WatchDelete}
}

func (v *viewer) hearSynced(e *WatchEvent) {
	v.t.Helper()
	v.parts(e.Range)
	v.live[e.Range] = true
	if v.mark != nil {
		v.marks[e.Range] = v.mark()
	}
	if e.Version < v.versions[e.Range] && v.stated[e.Range] == nil {
		v.t.Fatalf("%s, which was at %d", describe(e), v.versions[e.Range])
	}
	v.versions[e.Range] = e.Version
	for r, keys := range v.stated {
		if r != e.Range {
			continue
		}
		for key, s := range v.known {
			if r.Contains(at(key)) && !keys[key] {
				s.gone = true
				v.known[key] = s
			}
		}
		delete(v.stated, r)
	}
}

// parts makes a range that was synced one that is watched: a part of one that was.
func (v *viewer) parts(r ring.Range) {
	v.t.Helper()
	if _, ok := v.versions[r]; !ok {
		v.t.Fatalf("%s was synced; watched: %v", r, v.versions)
	}
}

// split takes a range away from what is watched, and keeps it aside with the version
// that it is known at.
func (v *viewer) split(gone ring.Range, version Version) {
	for r, known := range v.versions {
		if len(r.Intersect(gone)) == 0 {
			continue
		}
		live, keys := v.live[r], v.stated[r]
		mark, marked := v.marks[r]
		delete(v.marks, r)
		delete(v.versions, r)
		delete(v.live, r)
		delete(v.stated, r)
		for _, x := range (&watched{r: r}).without(gone) {
			v.versions[x.r] = known
			if live {
				v.live[x.r] = true
			}
			if keys != nil {
				v.stated[x.r] = keys
			}
			if marked {
				v.marks[x.r] = mark
			}
		}
		if version == 0 {
			v.moved[len(v.moved)-1].Version = known
		}
	}
}

// want compares what it knows of a range with what a machine has.
func (v *viewer) want(m *machine, r ring.Range) {
	v.t.Helper()
	have := map[string]string{}
	for key, value := range m.user().scanAll(100) {
		if strings.HasPrefix(key, v.prefix) && r.Contains(at(key)) {
			have[key] = value
		}
	}
	told := map[string]string{}
	for key, s := range v.known {
		if !s.gone && r.Contains(at(key)) {
			told[key] = s.value
		}
	}
	if !maps.Equal(have, told) {
		v.t.Fatalf("told %v\nthere is %v\nhistory %v", told, have, strings.Join(v.log, "\n"))
	}
}

// wantLog compares what it was told since the last call.
func (v *viewer) wantLog(want ...string) {
	v.t.Helper()
	got := v.log
	v.log = nil
	if !slices.Equal(got, want) {
		v.t.Fatalf("told\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func describe(e *WatchEvent) string {
	switch e.Kind {
	case Watching:
		return "watching"
	case WatchPut:
		return fmt.Sprintf("put %s %s", e.Key, e.Value)
	case WatchDelete:
		return fmt.Sprintf("delete %s", e.Key)
	case WatchState:
		return "state " + e.Range.String()
	case WatchSynced:
		return "synced " + e.Range.String()
	case WatchProgress:
		return "progress"
	case WatchBehind:
		return "behind"
	default:
		known := "known"
		if e.Version == 0 {
			known = "not live"
		}
		return fmt.Sprintf("moved %s %s", e.Range, known)
	}
}
