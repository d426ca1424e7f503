package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
)

// gateway prepares a gateway of the fleet.
func (f *fleet) gateway() (p *process, address string) {
	address = freeAddress(f.t)
	p = f.process("gateway", "QUOIT_GATEWAY_ADDR="+address, "QUOIT_GATEWAY_ADMIN_ADDR=off", "QUOIT_GATEWAY_REDIS_ADDR=off", "QUOIT_MANAGER_ADDR="+f.address)
	return p, address
}

// through opens connections as a page does: over WebSocket, by way of a gateway.
func through(gateway string) client.Dialer {
	return func(ctx context.Context, address string) (client.Conn, error) {
		ws, _, err := websocket.Dial(ctx, "ws://"+gateway+"/v1/node/"+address, &websocket.DialOptions{ //nolint:bodyclose // the library does
			HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
			HTTPHeader: http.Header{"Origin": {"http://" + gateway}}, Subprotocols: []string{"quoit.v1"},
		})
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1)
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}
}

// pen writes rising numbers to keys of its own, and deletes some of them.
type pen struct {
	db   *client.Client
	keys []string
	last map[string]int // the number put last, or tried to
	ends map[string]end
}

// end is what became of a key.
type end struct {
	version client.Version // of its last value
	gone    bool           // it was deleted after that
}

func (p *pen) write(stop <-chan struct{}) error {
	random := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-stop:
			return p.finish()
		default:
			if err := p.one(p.keys[random.IntN(len(p.keys))], random.IntN(5) == 0); err != nil && !errors.Is(err, client.ErrOutcomeUnknown) {
				return err
			}
		}
	}
}

func (p *pen) one(key string, remove bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if remove {
		_, err := p.db.Delete(ctx, key)
		return err
	}
	p.last[key]++
	return p.db.Put(ctx, key, []byte(strconv.Itoa(p.last[key])))
}

// finish gives every key an end that is sure.
func (p *pen) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, key := range p.keys {
		_, version, err := p.db.GetVersion(ctx, key)
		if err != nil && !errors.Is(err, client.ErrNotFound) {
			return err
		}
		p.last[key]++
		if version, err = p.db.CompareAndPut(ctx, key, []byte(strconv.Itoa(p.last[key])), version); err != nil {
			return err
		}
		p.ends[key] = end{version, i%3 == 0}
		if i%3 > 0 {
			continue
		}
		if _, err := p.db.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// reached says whether what was told last of a key is its end.
func (e end) reached(told client.Change) bool {
	if e.gone {
		return told.Kind == client.ChangeDelete && told.Version > e.version
	}
	return told.Version == e.version
}

// onlooker follows a watch and notes the first thing that cannot be.
type onlooker struct {
	news  chan struct{} // of capacity 1
	ended chan struct{}

	mu     sync.Mutex
	synced bool
	told   int
	newest map[string]client.Change
	number map[string]int // put last
	err    error
}

func follow(t *testing.T, db *client.Client, prefix string) *onlooker {
	t.Helper()
	o := &onlooker{
		news: make(chan struct{}, 1), ended: make(chan struct{}),
		newest: map[string]client.Change{}, number: map[string]int{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(o.ended)
		for change, err := range db.Watch(ctx, prefix, client.WatchOptions{State: true}) {
			o.take(change, err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-o.ended
	})
	return o
}

func (o *onlooker) take(change client.Change, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
	case err != nil:
		o.err = err
	case change.Kind == client.ChangeSynced:
		o.synced = true
	default:
		o.told++
		o.err = o.check(change)
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

func (o *onlooker) check(change client.Change) error {
	if before := o.newest[change.Key]; change.Version <= before.Version {
		return fmt.Errorf("%+v came after %+v", change, before)
	}
	o.newest[change.Key] = change
	if change.Kind != client.ChangePut {
		return nil
	}
	n, err := strconv.Atoi(string(change.Value))
	if err != nil || n <= o.number[change.Key] {
		return fmt.Errorf("%s is %q after %d", change.Key, change.Value, o.number[change.Key])
	}
	o.number[change.Key] = n
	return nil
}

// until waits for what a change brings about.
func (o *onlooker) until(t *testing.T, what string, yes func() error) {
	t.Helper()
	deadline := time.After(2 * patience)
	for {
		o.mu.Lock()
		why, failed := yes(), o.err
		o.mu.Unlock()
		if failed != nil {
			t.Fatal(failed)
		}
		if why == nil {
			return
		}
		select {
		case <-o.news:
		case <-o.ended:
		case <-deadline:
			t.Fatalf("waited too long for %s: %v", what, why)
		}
	}
}

// more waits until a watch has told so many changes more: it is not stuck.
func (o *onlooker) more(t *testing.T, n int) {
	t.Helper()
	o.mu.Lock()
	want := o.told + n
	o.mu.Unlock()
	o.until(t, "changes", func() error {
		if o.told < want {
			return fmt.Errorf("%d of %d", o.told, want)
		}
		return nil
	})
}

// TestWatchesOutliveTheServers: a node, the gateway and the manager are killed and
// started again under two watches, one of which comes through the gateway. Both
// see all in order, nothing twice, and the truth in the end.
func TestWatchesOutliveTheServers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.manager.start(t, "")
	first, second := f.node(), f.node()
	first.start(t, "")
	second.start(t, "")
	f.until("two nodes to serve", settled(2))
	gateway, address := f.gateway()
	gateway.start(t, "")
	direct, err := client.Open(t.Context(), []string{f.address}, client.WithDialTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	page, err := client.Open(t.Context(), []string{first.name, second.name}, client.WithDialer(through(address)), client.WithRetryBudget(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = page.Close() })

	watches := []*onlooker{follow(t, direct, "w:"), follow(t, page, "w:")}
	p := &pen{db: direct, last: map[string]int{}, ends: map[string]end{}}
	for i := range 60 {
		p.keys = append(p.keys, fmt.Sprint("w:", i))
	}
	stop, wrote := make(chan struct{}), make(chan error, 1)
	go func() { wrote <- p.write(stop) }()
	halt := sync.OnceValue(func() error {
		close(stop)
		return <-wrote
	})
	t.Cleanup(func() { _ = halt() })
	for _, o := range watches {
		o.until(t, "the watch to begin", func() error {
			if !o.synced {
				return errors.New("not synced")
			}
			return nil
		})
	}
	for _, victim := range []*process{first, gateway, f.manager, second} {
		for _, o := range watches {
			o.more(t, 50)
		}
		victim.signal(syscall.SIGKILL)
		<-victim.ended()
		victim.start(t, "")
	}
	f.until("all to be well again", settled(2))
	if err := halt(); err != nil {
		t.Fatal(err)
	}
	for i, o := range watches {
		o.until(t, "the truth", func() error {
			for _, key := range p.keys {
				if told := o.newest[key]; !p.ends[key].reached(told) {
					return fmt.Errorf("watch %d has %+v of %s, the end is %+v", i, told, key, p.ends[key])
				}
			}
			return nil
		})
	}
}
