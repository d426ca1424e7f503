package migrate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/quoitdb/quoit/node/engine"
)

// load is checked traffic on the moving range: each of its clients has keys of its
// own, so it knows at every moment what a read must return, whoever answers.
type load struct {
	w       *world
	pace    time.Duration // between the operations of a client
	quit    chan struct{}
	stop    sync.Once
	running sync.WaitGroup

	mu   sync.Mutex
	want map[int][]string // by key: what it may hold; more than one after an unknown outcome
	ops  int
}

// keysOfClient is how many keys each client of a load works on.
const keysOfClient = 16

// begin starts clients on keys from the given number on.
func (w *world) begin(clients, first int, pace time.Duration) *load {
	l := &load{w: w, pace: pace, quit: make(chan struct{}), want: map[int][]string{}}
	for i := range clients {
		l.running.Go(func() { l.run(first+i*keysOfClient, rand.New(rand.NewPCG(uint64(i), uint64(first)))) })
	}
	w.loads = append(w.loads, l)
	return l
}

// halt stops the clients.
func (l *load) halt() {
	l.stop.Do(func() { close(l.quit) })
	l.running.Wait()
}

// count returns how many operations there were.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}

// end stops the clients and checks every key once more.
func (l *load) end() {
	l.w.t.Helper()
	l.halt()
	c := l.w.client()
	for key := range l.want {
		l.check(c, key, 0)
	}
}

// into adds what is there to what a test expects.
func (l *load) into(all map[int]string) {
	c := l.w.client()
	for key := range l.want {
		all[key], _ = c.get(key)
	}
}

func (l *load) run(first int, rnd *rand.Rand) {
	c := l.w.client()
	for n := 0; ; n++ {
		select {
		case <-l.quit:
			return
		case <-time.After(l.pace):
		}
		key, at := first+rnd.IntN(keysOfClient), rnd.IntN(2)
		switch rnd.IntN(4) {
		case 0:
			l.check(c, key, at)
		case 1:
			l.write(c, key, "", func() error { return c.delete(key) })
		default:
			value := fmt.Sprintf("%d.%d", key, n)
			l.write(c, key, value, func() error { return c.put(key, value) })
		}
	}
}

// write changes a key; without an answer both the old and the new may be there.
func (l *load) write(c *client, key int, value string, do func() error) {
	err := do()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops++
	if err == nil {
		l.want[key] = []string{value}
		return
	}
	if len(l.want[key]) == 0 {
		l.want[key] = []string{""}
	}
	l.want[key] = append(l.want[key], value)
}

// check reads a key. What it finds is certain from then on.
func (l *load) check(c *client, key, at int) {
	pos, name := l.w.key(key)
	got := ""
	err := c.do(at, func(s *engine.Session) error {
		got = ""
		err := s.Get(pos, name, func(it engine.Item) { got = string(it.Value) })
		if errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return // The node died before it could be asked.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops++
	may := l.want[key]
	if len(may) == 0 {
		may = []string{""}
	}
	for _, v := range may {
		if v == got {
			l.want[key] = []string{got}
			return
		}
	}
	l.w.t.Errorf("key %d is %q, may be %q", key, got, may)
}

// counter counts with INCR on one key until stopped, and returns how often it was
// told that it had counted.
func (w *world) counter(key int, pace time.Duration, quit <-chan struct{}) int {
	c := w.client()
	pos, name := w.key(key)
	for n := 0; ; n++ {
		select {
		case <-quit:
			return n
		case <-time.After(pace):
		}
		var got int64
		err := c.do(n, func(s *engine.Session) (err error) {
			got, err = s.Increment(pos, name, 1)
			return err
		})
		if err != nil || got != int64(n+1) {
			w.t.Errorf("increment %d of key %d gave %s (%v)", n+1, key, strconv.FormatInt(got, 10), err)
			return n
		}
	}
}
