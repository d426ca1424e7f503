package border

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// feed holds a WebSocket to a gateway's /v1/cluster, over which each new topology is
// pushed, and connects again, to the next gateway where there are several, for as long
// as the database is open.
type feed struct {
	db       *database
	gateways []string
	now      chan struct{} // capacity 1: try again without waiting

	mu      sync.Mutex
	current int           // of gateways
	latest  ring.Topology // the zero value until there is one
	trouble error         // why there is no connection, nil while there is
	changed chan struct{} // closed when latest or trouble has changed
	socket  Socket        // nil while there is none
	lost    time.Time     // since when, after there was one
}

// The pauses between attempts: the n-th is shortest doubled n times, at most longest,
// and then spread over the upper half of that.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 5 * time.Second
	// feedTime bounds one attempt to connect, and then the wait for the first topology: a
	// gateway that is cut off from its cluster takes connections and says nothing.
	feedTime = 5 * time.Second
)

func newFeed(db *database, gateways []string) *feed {
	return &feed{db: db, gateways: gateways, now: make(chan struct{}, 1), changed: make(chan struct{})}
}

// gateway is the URL of the one in use.
func (f *feed) gateway() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gateways[f.current]
}

// run connects again and again until ctx ends.
func (f *feed) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		got, err := f.follow(ctx)
		if got {
			failures = 0
		}
		f.failed(err)
		pause := min(shortestPause<<min(failures, 10), longestPause)
		failures++
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-f.now:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// follow takes topologies from one connection until it ends, and reports whether there
// was one.
func (f *feed) follow(ctx context.Context) (got bool, err error) {
	var token string
	if f.db.tokens != 0 {
		if token, err = f.db.token(ctx); err != nil {
			return false, err
		}
	}
	dialling, cancel := context.WithTimeout(ctx, feedTime)
	defer cancel()
	s, err := f.db.border.connect(dialling, f.gateway()+"v1/cluster")
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	defer f.hangUp(s)
	late := time.AfterFunc(feedTime, func() { _ = s.Close() })
	defer late.Stop()
	if _, err := s.Write(f.introduce(token)); err != nil {
		return false, err
	}
	for {
		text, err := s.Message()
		switch {
		case err != nil && !got && !late.Stop():
			return false, errors.New(f.gateway() + " takes connections and gives no topology: it does not reach the cluster")
		case err != nil:
			return got, err
		}
		late.Stop()
		t, err := ring.ParseTopology(text)
		if err != nil {
			f.db.trouble(err)
			return got, err
		}
		got = true
		f.take(s, t)
	}
}

func (f *feed) hangUp(s Socket) {
	_ = s.Close()
	select {
	case <-s.Ended():
	case <-time.After(farewell):
	}
}

// take is a topology that came.
func (f *feed) take(s Socket, t ring.Topology) {
	f.mu.Lock()
	f.latest, f.trouble, f.socket = t, nil, s
	lost := f.lost
	f.lost = time.Time{}
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if !lost.IsZero() {
		f.db.emit(EventReconnect, appendF64(appendFlag(appendBytes(nil, ""), false), sinceMillis(lost)))
	}
}

// failed notes why there is no connection, tells of one that was lost, and turns to
// the next gateway.
func (f *feed) failed(err error) {
	f.mu.Lock()
	had := f.socket != nil
	f.socket, f.trouble = nil, f.refusal(err)
	if had {
		f.lost = time.Now()
	}
	f.current = (f.current + 1) % len(f.gateways)
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	var end *CloseError
	if !errors.As(err, &end) {
		end = &CloseError{Code: 1006, Reason: err.Error()}
	}
	if had && f.db.ctx.Err() == nil {
		f.db.emit(EventDisconnect, appendDisconnect("", false, end))
	}
}

// newest is for client.WithSource: the topology pushed last, or why there is none.
func (f *feed) newest(ctx context.Context) (ring.Topology, error) {
	for {
		f.mu.Lock()
		t, trouble, changed := f.latest, f.trouble, f.changed
		f.mu.Unlock()
		switch {
		case t.Cluster != "":
			return t, nil
		case errors.Is(trouble, client.ErrUnauthenticated):
			return t, trouble
		case trouble != nil:
			return t, errors.Join(errors.New("no gateway gives a topology"), trouble)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

// each gives the topology pushed last, and then each that is pushed after it.
func (f *feed) each(ctx context.Context) iter.Seq[ring.Topology] {
	return func(yield func(ring.Topology) bool) {
		for {
			f.mu.Lock()
			t, changed := f.latest, f.changed
			f.mu.Unlock()
			if t.Cluster != "" && !yield(t) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// hurry makes a pause end.
func (f *feed) hurry() { signal(f.now) }

// suspect is called when the gateway takes nobody to a node in all the time there is:
// it may be gone without a word. The connection is made anew, which shows.
func (f *feed) suspect() { f.drop() }

// drop ends the connection, if there is one.
func (f *feed) drop() {
	f.mu.Lock()
	s := f.socket
	f.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}
