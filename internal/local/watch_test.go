package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// deed is one write of a key, by its only writer.
type deed struct {
	number  int            // the value that was put; 0: a delete
	expires bool           // soon
	sure    bool           // it was acknowledged
	version client.Version // if the answer had it
}

// diary is what the only writer of a key has done to it.
type diary struct {
	mu    sync.Mutex
	deeds []deed // guarded by mu
	last  int    // the number of the last put
}

func (d *diary) note(done deed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deeds = append(d.deeds, done)
}

func (d *diary) all() []deed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deeds[:len(d.deeds):len(d.deeds)]
}

// scribes write keys of their own, all there are under a prefix.
type scribes struct {
	t    *testing.T
	db   *client.Client
	keys map[string]*diary // not changed after it is made
	each [][]string        // the keys of each
}

const watchedPrefix = "w:"

func newScribes(t *testing.T, db *client.Client, workers, keys int) *scribes {
	s := &scribes{t: t, db: db, keys: map[string]*diary{}, each: make([][]string, workers)}
	for i := range workers {
		for j := range keys {
			key := fmt.Sprintf("%s%d:%d", watchedPrefix, i, j)
			s.keys[key] = &diary{}
			s.each[i] = append(s.each[i], key)
		}
	}
	return s
}

// write lets every scribe write so many times, or until stop.
func (s *scribes) write(seed uint64, times int, stop <-chan struct{}) {
	var all sync.WaitGroup
	for i, keys := range s.each {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for range times {
				select {
				case <-stop:
					return
				default:
					key := keys[random.IntN(len(keys))]
					s.deed(key, random.IntN(12))
				}
			}
		})
	}
	all.Wait()
}

// deed is one write, of a kind from 0 to 11.
func (s *scribes) deed(key string, kind int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := s.keys[key]
	d.last++
	done := deed{number: d.last}
	value := []byte(strconv.Itoa(d.last))
	var err error
	switch {
	case kind < 3:
		var deleted int
		done = deed{}
		if deleted, err = s.db.Delete(ctx, key); err == nil && deleted == 0 {
			return // nothing was there
		}
	case kind < 5:
		done.version, err = s.swap(ctx, key, value)
		if lost := new(client.VersionError); errors.As(err, &lost) {
			return // it expired just then
		}
	case kind == 5:
		done.expires = true
		err = s.db.Put(ctx, key, value, client.WithTTL(20*time.Millisecond))
	default:
		err = s.db.Put(ctx, key, value)
	}
	if done.sure = err == nil; !done.sure && !errors.Is(err, client.ErrOutcomeUnknown) {
		s.t.Errorf("write %s: %v", key, err)
	}
	d.note(done)
}

func (s *scribes) swap(ctx context.Context, key string, value []byte) (client.Version, error) {
	_, version, err := s.db.GetVersion(ctx, key)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		return 0, err
	}
	return s.db.CompareAndPut(ctx, key, value, version)
}

// finish gives every key an end that can be waited for: a value of a known
// version, and of some keys a delete behind that.
func (s *scribes) finish() {
	for _, keys := range s.each {
		for i, key := range keys {
			for d := s.keys[key]; ; {
				before := len(d.all())
				if s.deed(key, 4); len(d.all()) > before {
					break // else it expired just then
				}
			}
			if i%3 == 0 {
				s.deed(key, 0)
			}
		}
	}
}

// end is the version of the last value of a key that is finished, and whether it
// was deleted after that.
func (d *diary) end() (version client.Version, deleted bool) {
	deeds := d.all()
	last := deeds[len(deeds)-1]
	if last.number == 0 {
		return deeds[len(deeds)-2].version, true
	}
	return last.version, false
}

// witness is a consumer of a watch, which it checks.
type witness struct {
	name   string
	keys   []string // that it must hear of
	cancel context.CancelFunc
	ended  chan struct{}
	news   chan struct{} // of capacity 1

	mu      sync.Mutex
	synced  bool
	changes map[string][]client.Change
	err     error
}

func (s *scribes) witness(name string, db *client.Client, o client.WatchOptions, key string) *witness {
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{name: name, cancel: cancel, ended: make(chan struct{}), news: make(chan struct{}, 1), changes: map[string][]client.Change{}}
	changes := db.Watch(ctx, watchedPrefix, o)
	if key != "" {
		changes, w.keys = db.WatchKey(ctx, key, o), []string{key}
	}
	for k := range s.keys {
		if key == "" {
			w.keys = append(w.keys, k)
		}
	}
	go func() {
		defer close(w.ended)
		for change, err := range changes {
			w.take(change, err)
		}
	}()
	s.t.Cleanup(w.end)
	return w
}

func (w *witness) end() {
	w.cancel()
	<-w.ended
}

func (w *witness) take(change client.Change, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.err = err
	case change.Kind == client.ChangeSynced:
		w.synced = true
	case change.Kind == client.ChangePut || change.Kind == client.ChangeDelete:
		w.changes[change.Key] = append(w.changes[change.Key], change)
	default:
		w.err = fmt.Errorf("told %s", change.Kind)
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// until waits for what a change brings about.
func (w *witness) until(t *testing.T, what string, yes func() error) {
	t.Helper()
	patience := time.After(2 * time.Minute)
	for {
		w.mu.Lock()
		why := yes()
		failed := w.err
		w.mu.Unlock()
		if why == nil {
			return
		}
		select {
		case <-w.news:
		case <-w.ended:
			t.Fatalf("%s: the watch ended with %v while waiting for %s", w.name, failed, what)
		case <-patience:
			t.Fatalf("%s: waited too long for %s: %v (and %v)", w.name, what, why, failed)
		}
	}
}

func (w *witness) live(t *testing.T) {
	t.Helper()
	w.until(t, "its beginning", func() error {
		if !w.synced {
			return errors.New("not synced")
		}
		return nil
	})
}

// arrived waits until the witness, which was live before, knows the end of every key.
func (w *witness) arrived(t *testing.T, s *scribes) {
	t.Helper()
	w.until(t, "the end of every key", func() error {
		for _, key := range w.keys {
			version, deleted := s.keys[key].end()
			var last client.Change
			if told := w.changes[key]; len(told) > 0 {
				last = told[len(told)-1]
			}
			if deleted && (last.Kind != client.ChangeDelete || last.Version <= version) || !deleted && last.Version != version {
				return fmt.Errorf("%s: %+v is not the end, which came after %s (deleted: %v)", key, last, version, deleted)
			}
		}
		return nil
	})
}

// forget makes the witness begin anew with what it checks.
func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.changes)
}

// check compares what was told with what was done from some place in the diaries
// on: all of it, if exact.
func (w *witness) check(t *testing.T, s *scribes, from map[string]int, exact bool) (told, done int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.keys {
		deeds := s.keys[key].all()[from[key]:]
		told, done = told+len(w.changes[key]), done+len(deeds)
		compare := inOrder
		if exact {
			compare = exactly
		}
		if err := errors.Join(rising(w.changes[key]), compare(w.changes[key], deeds)); err != nil {
			t.Errorf("%s: %s: %v\ndone %+v\ntold %s", w.name, key, err, deeds, text(w.changes[key]))
		}
	}
	return told, done
}

func text(changes []client.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s at %s, ", c.Kind, c.Value, c.Version)
	}
	return b.String()
}

// rising wants versions to rise.
func rising(changes []client.Change) error {
	for i := 1; i < len(changes); i++ {
		if changes[i].Version <= changes[i-1].Version {
			return fmt.Errorf("version %s after %s", changes[i].Version, changes[i-1].Version)
		}
	}
	return nil
}

// exactly compares changes with all that was done, one by one. A delete that
// nobody did may be that of an expiry.
func exactly(changes []client.Change, deeds []deed) error {
	var now deed
	for _, c := range changes {
		for len(deeds) > 0 && !deeds[0].sure && !deeds[0].is(c) {
			deeds = deeds[1:]
		}
		switch {
		case len(deeds) > 0 && deeds[0].is(c):
			now, deeds = deeds[0], deeds[1:]
		case c.Kind == client.ChangeDelete && now.expires:
			now = deed{}
		default:
			return fmt.Errorf("%s %s at %s is not what comes next", c.Kind, c.Value, c.Version)
		}
	}
	for _, d := range deeds {
		if d.sure {
			return fmt.Errorf("%+v was not told", d)
		}
	}
	return nil
}

// inOrder wants what was told to have been done, in this order, and nothing twice.
func inOrder(changes []client.Change, deeds []deed) error {
	deletes := 0 // told since the last put
	for _, c := range changes {
		if c.Kind == client.ChangeDelete {
			deletes++
			continue
		}
		for len(deeds) > 0 && !deeds[0].is(c) {
			if deeds[0].number == 0 || deeds[0].expires {
				deletes--
			}
			deeds = deeds[1:]
		}
		if len(deeds) == 0 || deletes > 0 {
			return fmt.Errorf("%s %s at %s was not done after what was told before", c.Kind, c.Value, c.Version)
		}
		deletes = 0
		if deeds[0].expires {
			deletes = -1 // one more delete than were done
		}
		deeds = deeds[1:]
	}
	return nil
}

// is says whether a change tells of the deed.
func (d deed) is(c client.Change) bool {
	if c.Kind == client.ChangeDelete {
		return d.number == 0
	}
	return string(c.Value) == strconv.Itoa(d.number) && (d.version == 0 || d.version == c.Version)
}

// places is how long the diaries are.
func (s *scribes) places() map[string]int {
	all := make(map[string]int)
	for key, d := range s.keys {
		all[key] = len(d.all())
	}
	return all
}

// patientCluster has few tokens, so that a move is short, and calls no node down
// that is merely slow.
func patientCluster(t *testing.T, nodes int) *Cluster {
	t.Helper()
	config, err := node.LoadConfig(map[string]string{"QUOIT_FSYNC": "never", "QUOIT_NODE_TOKENS": "8", "QUOIT_NODE_DATA": "-", "QUOIT_BUCKET": "-"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := manager.LoadConfig(map[string]string{"QUOIT_BUCKET": "-", "QUOIT_MANAGER_NODE_TIMEOUT": "5m", "QUOIT_MANAGER_MOVES_PER_NODE": "8"})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, Options{Dir: t.TempDir(), Nodes: nodes, Port: -1, Node: &config, Manager: &m})
}

// TestWatchesWhileNodesComeAndGo: while nothing moves, watches tell every write in
// order, deletes and expiries included. While nodes join, restart and leave they
// tell in order, nothing twice, and in the end the truth.
func TestWatchesWhileNodesComeAndGo(t *testing.T) {
	c := patientCluster(t, 2)
	db, err := client.Open(within(t), c.Addresses(), client.WithHealthInterval(5*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := newScribes(t, db, 4, 12)
	s.write(1, 20, nil)
	s.finish()
	all := []*witness{
		s.witness("state", db, client.WatchOptions{State: true}, ""),
		s.witness("changes", db, client.WatchOptions{}, ""),
		s.witness("one key", db, client.WatchOptions{}, s.each[2][5]),
	}
	for _, w := range all {
		w.live(t)
	}
	steady := func(seed uint64) {
		t.Helper()
		for _, w := range all {
			w.forget()
		}
		from := s.places()
		s.write(seed, 150, nil)
		s.finish()
		for _, w := range all {
			w.arrived(t, s)
			w.check(t, s, from, true)
		}
	}
	steady(2)

	for _, w := range all {
		w.forget()
	}
	from, stop := s.places(), make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { s.write(3, 1<<30, stop) })
	halt := sync.OnceFunc(func() {
		close(stop)
		writing.Wait()
	})
	defer halt() // also when the test fails: they must not outlive it
	restlessNodes(t, c, func() {
		all = append(all, s.witness("latecomer", db, client.WatchOptions{State: true}, ""))
	})
	for _, w := range all {
		w.live(t)
	}
	halt()
	s.finish()
	for _, w := range all {
		w.arrived(t, s)
		told, done := w.check(t, s, from, false)
		t.Logf("%s: %d of %d changes", w.name, told, done)
	}
	if s := db.Stats(); s.Redirects == 0 {
		t.Error("nothing moved under the watches: the test proves nothing")
	}
	steady(4)
}

// restlessNodes lets a node join, restart and leave; midway is called between.
func restlessNodes(t *testing.T, c *Cluster, midway func()) {
	t.Helper()
	added, err := c.AddNode(within(t), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the third node to have its ranges", func() bool { return settled(t, c, 3) })
	if err := added.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	midway()
	again, err := c.AddNode(within(t), added.Address())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to serve again", func() bool { return again.Ready() == nil })
	m, err := manager.Dial(within(t), c.Manager(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Remove(added.Address()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to have left", func() bool { return settled(t, c, 2) })
}
