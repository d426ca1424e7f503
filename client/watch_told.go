package client

import "github.com/quoitdb/quoit/ring"

// told remembers what a watch has told of single keys, as far as the version of
// their stretch does not say it: so nothing is told twice when a node begins
// again from that version. With WatchOptions.State it also knows which keys the
// consumer believes to be there.
type told struct {
	recent map[string]mark // by key; with keeping only the deletes
	// alive has the keys that were told and are there, by the top byte of their
	// position, so that those of a range can be found.
	alive   [256]map[string]mark
	keeping bool // alive is used
}

// mark is the newest that was told of a key.
type mark struct {
	version  Version
	position ring.Position
	state    uint32 // the last state (see stretch) that had the key; in alive
}

// maxRecent bounds recent. More than that comes only from a node that changes
// so many keys in the second between two progresses, or that tells so many on
// catching up; forgotten, a change may be told twice when the connection breaks
// just then.
const maxRecent = 1 << 18

func newTold(keeping bool) told { return told{recent: make(map[string]mark), keeping: keeping} }

func (t *told) there(key string, p ring.Position) (mark, bool) {
	m, ok := t.alive[p>>24][key]
	return m, ok
}

// put notes a value and reports whether it is news to the consumer.
func (t *told) put(key string, p ring.Position, version Version, s *stretch) bool {
	if !t.keeping {
		return t.newer(key, p, version, s.version)
	}
	last, there := t.there(key, p)
	news := version > s.version && version > last.version && version > t.recent[key].version
	if s.state != 0 { // what a node says is all there is, even if it was told otherwise before
		news = !there || version != last.version
	}
	if !news && !there {
		return false
	}
	if !news {
		version = last.version
	}
	if t.alive[p>>24] == nil {
		t.alive[p>>24] = make(map[string]mark)
	}
	t.alive[p>>24][key] = mark{version, p, s.state}
	delete(t.recent, key)
	return news
}

// gone notes that a key is not there any more, and reports whether that is news.
func (t *told) gone(key string, p ring.Position, version Version, s *stretch) bool {
	if last, there := t.there(key, p); there {
		if version <= last.version {
			return false
		}
		delete(t.alive[p>>24], key)
	}
	return t.newer(key, p, version, s.version)
}

func (t *told) newer(key string, p ring.Position, version, least Version) bool {
	if version <= max(least, t.recent[key].version) {
		return false
	}
	t.recent[key] = mark{version: version, position: p}
	return true
}

// tidy forgets what the versions of the stretches say by now.
func (t *told) tidy(c *cover) {
	for key, m := range t.recent {
		if s := c.at(m.position); s == nil || m.version <= s.version {
			delete(t.recent, key)
		}
	}
}

// bound keeps recent small.
func (t *told) bound(c *cover) {
	if len(t.recent) < maxRecent {
		return
	}
	if t.tidy(c); len(t.recent) > maxRecent/2 {
		clear(t.recent)
	}
}

// sweep forgets the keys of a stretch that were not part of its state, and
// calls do for each, until that returns false.
func (t *told) sweep(s *stretch, do func(key string) bool) bool {
	for b := s.low >> 24; b <= s.high>>24; b++ {
		for key, m := range t.alive[b] {
			if m.position < s.low || m.position > s.high || m.state == s.state {
				continue
			}
			delete(t.alive[b], key)
			if !do(key) {
				return false
			}
		}
	}
	return true
}
