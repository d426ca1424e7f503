package border

import (
	"context"
	"sync"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// stream is a walk or a watch. A goroutine of its own fills it, and waits while there
// is enough that nobody has asked for; the page takes what there is, many items at a
// time, because to cross the border costs more than an item.
type stream struct {
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the goroutine has gone
	filled  chan struct{} // capacity 1: there is something to take
	drained chan struct{} // capacity 1: there is room

	mu    sync.Mutex
	items []byte // not taken yet
	count uint32 // of items
	last  bool   // nothing comes any more
	err   error  // why, if not because it has come to its end
}

const (
	// streamBytes is how much is kept for the page before the other side has to wait.
	streamBytes = 256 << 10
	// streamItems bounds one message to the page.
	streamItems = 1024
)

// begin starts a stream under the number of the call that began it.
func (j *job) begin(fill func(ctx context.Context, s *stream) error) ([]byte, error) {
	ctx, cancel := context.WithCancel(j.db.ctx)
	s := &stream{cancel: cancel, ended: make(chan struct{}), filled: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
	if !j.db.addStream(j.id, s) {
		cancel()
		return nil, client.ErrClosed
	}
	go func() {
		defer close(s.ended)
		s.end(guardedFill(ctx, s, fill))
	}()
	return nil, nil
}

func guardedFill(ctx context.Context, s *stream, fill func(ctx context.Context, s *stream) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &crash{text: textOf(p)}
		}
	}()
	return fill(ctx, s)
}

// add appends one item, and waits while there is no room for more. It returns false
// when the stream is to end.
func (s *stream) add(ctx context.Context, item func(b []byte) []byte) bool {
	s.mu.Lock()
	s.items = item(s.items)
	s.count++
	full := len(s.items) >= streamBytes || s.count >= streamItems
	s.mu.Unlock()
	signal(s.filled)
	for full {
		select {
		case <-s.drained:
		case <-ctx.Done():
			return false
		}
		s.mu.Lock()
		full = s.count > 0 && (len(s.items) >= streamBytes || s.count >= streamItems)
		s.mu.Unlock()
	}
	return ctx.Err() == nil
}

func (s *stream) end(err error) {
	s.mu.Lock()
	s.last, s.err = true, err
	s.mu.Unlock()
	signal(s.filled)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take waits for something and takes it all. The error of a stream comes after its
// last item.
func (s *stream) take(ctx context.Context) ([]byte, error) {
	for {
		s.mu.Lock()
		items, count, last, err := s.items, s.count, s.last, s.err
		if count > 0 {
			s.items, s.count = nil, 0
		}
		s.mu.Unlock()
		switch {
		case count > 0:
			signal(s.drained)
			return append(appendU32(appendFlag(nil, last && err == nil), count), items...), nil
		case err != nil:
			return nil, err
		case last:
			return appendU32(appendFlag(nil, true), 0), nil
		}
		select {
		case <-s.filled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func scan(_ context.Context, j *job) ([]byte, error) {
	o := client.ScanOptions{Prefix: j.string(), Match: j.string(), Values: j.flag(), Start: ring.Position(j.u32()), Count: int(j.u32())}
	if err := j.end(); err != nil {
		return nil, err
	}
	db := j.db.client
	return j.begin(func(ctx context.Context, s *stream) error {
		for e, err := range db.Scan(ctx, o) {
			if err != nil {
				return err
			}
			if !s.add(ctx, func(b []byte) []byte { return appendEntry(b, e, o.Values) }) {
				return ctx.Err()
			}
		}
		return nil
	})
}

// appendEntry appends bytes key, u32 position and, with values, u64 version, bytes value.
func appendEntry(b []byte, e client.Entry, values bool) []byte {
	b = appendU32(appendBytes(b, e.Key), uint32(e.Position))
	if values {
		b = appendBytes(appendU64(b, uint64(e.Version)), e.Value)
	}
	return b
}

func next(ctx context.Context, j *job) ([]byte, error) {
	id := j.u32()
	if err := j.end(); err != nil {
		return nil, err
	}
	s := j.db.stream(id)
	if s == nil {
		return nil, client.ErrClosed
	}
	return s.take(ctx)
}

func stopStream(_ context.Context, j *job) ([]byte, error) {
	id := j.u32()
	if err := j.end(); err != nil {
		return nil, err
	}
	if s := j.db.takeStream(id); s != nil {
		s.cancel()
		<-s.ended
	}
	return nil, nil
}
