package client

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// ledger is what a watch knows: who tells of which part of the ring, up to
// which version all has been told, and what beyond that. It is pure: pushes in,
// changes out; sockets, clocks and goroutines are in watcher and watchConn.
//
// What keeps a watch from missing anything: the version of a stretch rises only
// with synced, progress and moved, of the connection that tells the stretch,
// and whoever tells it next begins from that version.
type ledger struct {
	prefix   bool
	selector string
	cover    cover
	told     told
	states   uint32 // so many states were begun
	unsynced uint64 // positions that have never been live
	emit     func(Change) bool
}

func newLedger(what *protocol.Watch) ledger {
	l := ledger{prefix: what.Prefix, selector: string(what.Selector), told: newTold(what.State), cover: newCover()}
	if !l.prefix {
		l.cover = newCoverOf(ring.PositionOfString(l.selector))
	}
	for i := range l.cover.all {
		l.unsynced += l.cover.all[i].size()
	}
	return l
}

// take notes a push of from and emits what follows from it. It reports whether
// the consumer wants more. An error is a push that no node sends.
func (l *ledger) take(from *watchConn, p *push) (more bool, err error) {
	switch p.Kind {
	case protocol.PushPut, protocol.PushDelete:
		return l.change(from, p)
	case protocol.PushState:
		return l.begin(from, p)
	case protocol.PushSynced:
		return l.caughtUp(from, p)
	case protocol.PushProgress:
		l.progress(from, Version(p.Version))
	case protocol.PushBehind:
		// A state that is being told goes on: the node does not begin it again.
		l.cover.each(from, func(s *stretch) { s.catchUp(s.state) })
	}
	return true, nil
}

func (l *ledger) change(from *watchConn, p *push) (more bool, err error) {
	if l.prefix && !strings.HasPrefix(p.key, l.selector) || !l.prefix && p.key != l.selector {
		return false, badPush(p, "of key "+strconv.Quote(clip(p.key))+", which is not watched")
	}
	at := ring.PositionOfString(p.key)
	s := l.cover.at(at)
	if s == nil || s.from != from {
		return true, nil // whoever tells of this position tells it too
	}
	change := Change{Kind: ChangePut, Key: p.key, Value: p.Value, Version: Version(p.Version)}
	var news bool
	if p.Kind == protocol.PushPut {
		news = l.told.put(p.key, at, change.Version, s)
		if p.ExpireAt != 0 {
			change.ExpiresAt = time.UnixMilli(p.ExpireAt)
		}
	} else {
		news = l.told.gone(p.key, at, change.Version, s)
		change.Kind, change.Value = ChangeDelete, nil
	}
	l.told.bound(&l.cover)
	return !news || l.emit(change), nil
}

// begin: what follows for a range is its state.
func (l *ledger) begin(from *watchConn, p *push) (more bool, err error) {
	if l.states++; l.states == math.MaxUint32 {
		l.states = 1 // no key bears the mark of so old a state
	}
	return true, l.within(from, p, func(s *stretch) { s.catchUp(l.states) })
}

// caughtUp: a range is live.
func (l *ledger) caughtUp(from *watchConn, p *push) (more bool, err error) {
	more = true
	err = l.within(from, p, func(s *stretch) {
		if s.state != 0 && l.told.keeping {
			more = more && l.told.sweep(s, func(key string) bool {
				return l.emit(Change{Kind: ChangeDelete, Key: key, Version: Version(p.Version)})
			})
		} else if s.state != 0 && s.version != 0 {
			from.unsure = true
		}
		if !s.synced {
			l.unsynced -= s.size()
		}
		s.caughtUp(Version(p.Version))
	})
	return more && (from.catching > 0 || l.resynced(from)), err
}

// resynced tells that deletes may be missing, if so: once for all that a node
// tells on catching up.
func (l *ledger) resynced(from *watchConn) bool {
	unsure := from.unsure
	from.unsure = false
	return !unsure || l.emit(Change{Kind: ChangeResync})
}

func (l *ledger) progress(from *watchConn, version Version) {
	l.cover.each(from, func(s *stretch) {
		if s.live {
			s.version = max(s.version, version)
		}
	})
	l.told.tidy(&l.cover)
}

// moved takes a range from who told it. Of one that was live all has been told
// up to the version of the push, even if that is lower than what progress said:
// the next owner may give versions in between.
func (l *ledger) moved(from *watchConn, p *push, why func(*stretch) *waiting) error {
	return l.within(from, p, func(s *stretch) {
		if s.live && p.Version != 0 {
			s.version = Version(p.Version)
		}
		s.free(why(s))
	})
}

// lose frees all that a connection told.
func (l *ledger) lose(from *watchConn) (more bool) {
	l.cover.each(from, func(s *stretch) { s.free(s.wait) })
	return l.resynced(from)
}

// within calls do for what from tells of the range that a push names.
func (l *ledger) within(from *watchConn, p *push, do func(*stretch)) error {
	switch {
	case !l.cover.within(p.Start, p.End, from, do):
		return badPush(p, "of a range that was not asked for: "+ring.Range{Start: ring.Position(p.Start), End: ring.Position(p.End)}.String())
	case len(l.cover.all) > maxStretches:
		return badPush(p, "of ever smaller ranges")
	}
	return nil
}

// badPush says what is wrong with a push.
func badPush(p *push, what string) error {
	return &protocol.ProtocolError{Code: protocol.ERR, Message: "push '" + p.Kind.String() + "' " + what}
}

// clip shortens what goes into an error.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
