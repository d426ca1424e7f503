package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
)

// watches follow the registers: what is told must rise, must have been written, and must
// end with what is there in the end.
type watches struct {
	w *World
	r *registers

	mu      sync.Mutex
	state   map[string]client.Change // the last change of each key; guarded by mu
	newest  map[string]client.Version
	changes int
	stop    context.CancelFunc
	ended   chan struct{}
}

func newWatches(w *World, r *registers) *watches {
	return &watches{w: w, r: r, state: map[string]client.Change{}, newest: map[string]client.Version{}, ended: make(chan struct{})}
}

// watch goes on over the faults and until the audits are over.
func (v *watches) watch(ctx context.Context) {
	defer close(v.ended)
	d := v.w.dice("watch")
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	v.mu.Lock()
	v.stop = stop
	v.mu.Unlock()
	c, err := v.w.openClient(watching, &process{w: v.w, host: clientHost(0), name: "watcher"}, between(d, 300*time.Millisecond, 2*time.Second))
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for change, err := range c.Watch(watching, "r", client.WatchOptions{State: true}) {
		if err != nil {
			if watching.Err() == nil && !errors.Is(err, client.ErrClosed) {
				v.w.fail("watch: it ended with: %v", err)
			}
			return
		}
		v.take(change)
		if d.chance(0.02) { // a consumer that does not keep up
			_ = sleep(watching, between(d, time.Millisecond, 300*time.Millisecond))
		}
	}
}

func (v *watches) take(change client.Change) {
	v.w.trace.note("watch", fmt.Sprintf("%s %s %.12s %s", change.Kind, change.Key, change.Value, change.Version), nil)
	if change.Kind == client.ChangeSynced || change.Kind == client.ChangeResync {
		return
	}
	if change.Kind == client.ChangePut {
		v.w.know.told(change.Key, string(change.Value), change.Version)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++
	v.w.trace.count("changes watched", 1)
	if before := v.newest[change.Key]; change.Version != 0 && change.Version <= before {
		v.w.fail("watch: a change of %s has version %s, and one before it %s", change.Key, change.Version, before)
	}
	v.newest[change.Key] = max(v.newest[change.Key], change.Version)
	v.state[change.Key] = change
}

// audit waits until the watch tells what is there.
func (v *watches) audit(ctx context.Context, when string) {
	want := map[string]string{}
	for _, key := range v.r.keys {
		b, err := v.w.auditor.Get(ctx, key)
		if _, answered := v.w.read(err); !answered {
			v.w.fail("liveness: %s %s cannot be read: %v", when, key, err)
			return
		}
		want[key] = string(b)
	}
	wrong := ""
	for sleep(ctx, 20*time.Millisecond) {
		if wrong = v.differs(want); wrong == "" {
			v.w.trace.count("watches that have converged", 1)
			return
		}
	}
	v.w.fail("watch: %s it does not come to what is there: %s", when, wrong)
}

func (v *watches) differs(want map[string]string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range v.r.keys {
		if got := string(v.state[key].Value); got != want[key] {
			return fmt.Sprintf("%s is %.12q, the watch says %.12q", key, want[key], got)
		}
	}
	return ""
}

// end ends the watch.
func (v *watches) end() {
	v.mu.Lock()
	stop := v.stop
	v.mu.Unlock()
	if stop != nil {
		stop()
	}
	<-v.ended
}

func (v *watches) check() {}
