package wal

// A Notice asks to be told when a position is durable, instead of waiting for it
// in a goroutine. It belongs to the log from a [Log.Notify] that returned true
// until Durable is called, and may be used again then.
type Notice struct {
	// Durable is called once, in the goroutine of whoever has synced: with nil when the
	// position is durable, else with the reason why the log is poisoned. Other notices,
	// and the next sync, wait behind it: it does not block, and calls nothing of the log.
	Durable func(error)

	next *Notice
}

// Notify has n called once lsn is durable, and returns true; or false when nothing
// is left to wait for, with the error that [Log.Wait] would return. Where nobody
// syncs, the caller does it, as in Wait: a single writer needs no other goroutine.
func (l *Log) Notify(lsn LSN, n *Notice) (later bool, err error) {
	if l.Durable() >= lsn {
		return false, nil
	}
	if l.o.Sync != SyncAlways {
		return false, l.Err()
	}
	l.mu.Lock()
	if !l.leading || l.Err() != nil || lsn > alignUp(l.pend.end()) || l.Durable() >= lsn {
		l.mu.Unlock()
		return false, l.SyncTo(lsn)
	}
	b := l.pend
	if l.inflight != nil && lsn <= l.inflight.end() {
		b = l.inflight
	}
	n.next, b.notices = b.notices, n
	l.mu.Unlock()
	return true, nil
}

// deliver tells everybody in the list.
func (n *Notice) deliver(err error) {
	for n != nil {
		next := n.next
		n.next = nil
		n.Durable(err)
		n = next
	}
}

// handOver gives the lead to the committer. There is one lead, and so one token: the
// channel has room. Called with the lock.
func (l *Log) handOver() {
	if !l.committing {
		l.committing = true
		l.committer.Go(l.commit)
	}
	l.commits <- struct{}{}
}

// commit takes the lead each time it is handed over for want of a waiter. One
// goroutine is enough: while it delivers notices the next group gathers, and a group
// that is twice as large costs half the syncs.
func (l *Log) commit() {
	for range l.commits {
		l.mu.Lock()
		l.lead(true)
		l.mu.Unlock()
	}
}
