// Package seldom logs what strangers can cause as often as they like: a line a second,
// with the number of those that were left out. The metrics count them all.
package seldom

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// every is how long a line keeps the next one of its kind away.
const every = time.Second

// Line is one kind of line. The zero value is ready; methods may be called from any
// goroutine.
type Line struct {
	next    atomic.Int64 // Unix nanoseconds, when one may be logged again
	leftOut atomic.Int64
}

// Warn logs the line, or counts it if there has been one a moment ago.
func (l *Line) Warn(log *slog.Logger, message string, args ...any) {
	now, next := time.Now().UnixNano(), l.next.Load()
	if now < next || !l.next.CompareAndSwap(next, now+int64(every)) {
		l.leftOut.Add(1)
		return
	}
	if n := l.leftOut.Swap(0); n > 0 {
		args = append(args[:len(args):len(args)], "left_out", n)
	}
	log.Warn(message, args...)
}
