package wal

import "time"

const (
	// lazyDelay is how long the lazy modes gather before they write, and so
	// what the death of the process may cost there.
	lazyDelay = 5 * time.Millisecond
	// lazyBytes is when they write earlier.
	lazyBytes = 1 << 20
)

// rouse tells the background writer that there is something to write: that a
// batch has begun, or that it has become large. Called with the lock.
func (l *Log) rouse(first bool) {
	ch := l.full
	if first {
		ch = l.wake
	} else if len(l.pend.buf) < lazyBytes {
		return
	}
	select {
	case ch <- struct{}{}:
	default:
	}
}

// writeBehind is the background writer of SyncInterval and SyncNever.
func (l *Log) writeBehind() {
	var due <-chan time.Time // when what has been written must be synced
	for {
		select {
		case <-l.quit:
			return
		case <-l.wake:
			l.gather()
			l.leadIfFree(false)
			if l.o.Sync == SyncInterval && due == nil {
				due = time.After(l.o.Interval)
			}
		case <-due:
			due = nil
			l.leadIfFree(true)
		}
	}
}

// gather waits until a group is worth writing.
func (l *Log) gather() {
	select {
	case <-l.full:
	case <-l.quit:
	case <-time.After(lazyDelay):
	}
}

// leadIfFree writes what is pending. If somebody else has the lead (SyncTo, or
// an Append that found the buffer full), that one wakes us again if it leaves
// anything.
func (l *Log) leadIfFree(sync bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for sync && l.leading {
		l.await(l.roundDone())
	}
	if !l.leading && l.Err() == nil {
		l.leading = true
		l.lead(sync)
	}
}
