package sim

import (
	"slices"
	"sync"

	"github.com/quoitdb/quoit/client"
)

// knowledge is what may never be different: which version a value of a key has, whoever is
// asked, and wherever the key is by then. Values are unique, so there is one.
type knowledge struct {
	w *World

	mu       sync.Mutex
	clock    int64                                // orders calls and returns; guarded by mu
	versions map[string]map[string]client.Version // of each key's values; guarded by mu
	seen     map[string][]sighting                // of each key; guarded by mu
	issued   map[string]bool                      // key and value; guarded by mu
	since    int64                                // sightings before say nothing any more; guarded by mu
}

// sighting is a version that somebody was told between two moments.
type sighting struct {
	call, back int64
	version    client.Version
}

func newKnowledge(w *World) *knowledge {
	return &knowledge{w: w, versions: map[string]map[string]client.Version{}, seen: map[string][]sighting{}, issued: map[string]bool{}}
}

// tick is the next moment. Virtual time may stand still between two events.
func (k *knowledge) tick() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clock++
	return k.clock
}

// issue notes a value before it is sent.
func (k *knowledge) issue(key, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.issued[key+"\x00"+value] = true
}

// told is a value that somebody has seen, and its version if that was told.
func (k *knowledge) told(key, value string, v client.Version) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.issued[key+"\x00"+value] {
		k.w.fail("invented: %s holds %q, which nobody wrote", key, value)
	}
	if v == 0 {
		return
	}
	if k.versions[key] == nil {
		k.versions[key] = map[string]client.Version{}
	}
	if before, known := k.versions[key][value]; known && before != v {
		k.w.fail("version: %q of %s has version %s, and had %s", value, key, v, before)
	}
	k.versions[key][value] = v
}

// forget has versions rise from now on only: a disk was lost, and with it versions.
func (k *knowledge) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.since = k.clock
	clear(k.seen)
}

// sight notes that a version was the newest at some moment between call and back.
func (k *knowledge) sight(key string, call, back int64, v client.Version) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if call <= k.since {
		return
	}
	k.seen[key] = append(k.seen[key], sighting{call, back, v})
}

// checkVersions demands that versions rise: what is asked for later has no lower one.
func (k *knowledge) checkVersions(keys []string) {
	for _, key := range keys {
		byCall := slices.Clone(k.seen[key])
		slices.SortFunc(byCall, func(a, b sighting) int { return int(a.call - b.call) })
		byBack := slices.Clone(byCall)
		slices.SortFunc(byBack, func(a, b sighting) int { return int(a.back - b.back) })
		var newest client.Version
		for _, s := range byCall {
			for len(byBack) > 0 && byBack[0].back < s.call {
				newest = max(newest, byBack[0].version)
				byBack = byBack[1:]
			}
			if s.version < newest {
				k.w.fail("version: %s has version %s, and had %s before", key, s.version, newest)
				return
			}
		}
	}
}
