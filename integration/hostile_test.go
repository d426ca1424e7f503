package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
)

// hostileVariable is how many hostile inputs there are, and hostileRateVariable how many
// a second: QUOIT_TEST_HOSTILE=1000000, as `task hostile` does. With the former set, the
// clients beside them are measured without the attack, too.
const (
	hostileVariable     = "QUOIT_TEST_HOSTILE"
	hostileRateVariable = "QUOIT_TEST_HOSTILE_RATE"
	// calm is how long they are measured without.
	calm = 20 * time.Second
)

// TestHostileBytesHarmNobody has all ports of a cluster suffer whatever bytes there are,
// from many connections at once. Clients beside them, on nodes, through the channels of
// the gateway and through its Redis door, see no error and no wrong answer; no server
// panics, grows without bound, or keeps anything of it.
func TestHostileBytesHarmNobody(t *testing.T) {
	inputs, pace := number(t, hostileVariable, 12_000), number(t, hostileRateVariable, 4_000)
	measure := os.Getenv(hostileVariable) != ""
	b := newBesieged(t)
	h := b.healthy()
	if measure {
		pause(t.Context(), 2*time.Second) // connections, first segments, and the like
		h.phase(before)
		pause(t.Context(), calm)
	}
	b.look(before)
	h.phase(during)
	o, err := launch(t.Context(), plan{Inputs: inputs, Pace: pace, Seed: 1, Ports: b.ports(), Nodes: b.addresses(), Gateway: b.gatewayAddr})
	if err != nil {
		t.Fatal(err)
	}
	b.look(during)
	h.phase(after)
	if measure {
		pause(t.Context(), calm)
	}
	h.audit()
	b.untilQuiet()
	b.look(after)
	b.judge()
	sent := 0
	for _, kind := range slices.Sorted(maps.Keys(o.Kinds)) {
		t.Logf("%8d  %s", o.Kinds[kind], kind)
		sent += o.Kinds[kind]
	}
	t.Logf("%8d  inputs in %.1f s (%.0f a second, at most %d) on connections to %v; the attackers used %.2f cores", sent, o.Took.Seconds(),
		float64(sent)/o.Took.Seconds(), pace, o.Dials, o.CPU.Seconds()/o.Took.Seconds())
	if sent < inputs {
		t.Errorf("only %d of %d inputs were sent", sent, inputs)
	}
	if measure {
		h.report()
	}
	b.report(o.Took)
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number from 1", variable, text)
	}
	return n
}

// The times of a siege.
const (
	before = iota
	during
	after
	phases
)

// besieged is a cluster with a gateway, whose processes are looked at.
type besieged struct {
	*fleet
	door, gatewayAddr string
	servers           []*server
}

// server is a process, and what it was seen to be like.
type server struct {
	*process
	admin string
	seen  [phases]condition
}

// condition is a process at a moment.
type condition struct {
	resident, peak            int64 // KiB; peak is since the start
	cpu                       time.Duration
	goroutines, sockets, died int64 // died are panics that were contained
}

func newBesieged(t *testing.T) *besieged {
	t.Helper()
	b := &besieged{fleet: newFleet(t, 2), gatewayAddr: freeAddress(t), door: freeAddress(t)}
	gateway := b.process("gateway", "QUOIT_GATEWAY_ADDR="+b.gatewayAddr, "QUOIT_GATEWAY_REDIS_ADDR="+b.door, "QUOIT_MANAGER_ADDR="+b.address, "QUOIT_GATEWAY_MAX_VALUE=256KiB", "QUOIT_GATEWAY_MAX_INFLIGHT=64MiB")
	for name, p := range map[string]*process{"MANAGER": b.manager, "NODE": b.node(), "NODE ": b.node(), "GATEWAY": gateway} {
		name = strings.TrimSpace(name)
		s := &server{process: p, admin: freeAddress(t)}
		p.env = append(p.env, "QUOIT_"+name+"_ADMIN_ADDR="+s.admin)
		if name == "NODE" {
			p.env = append(p.env, "QUOIT_NODE_MAX_VALUE=256KiB", "QUOIT_NODE_MAX_INFLIGHT=64MiB", "QUOIT_WAL_SEGMENT=4MiB")
		}
		b.servers = append(b.servers, s)
		p.start(t, "")
	}
	slices.SortFunc(b.servers, func(x, y *server) int { return strings.Compare(x.name, y.name) })
	b.until("the nodes to serve", settled(2))
	for _, s := range b.servers {
		s.untilReady(t)
	}
	return b
}

func (b *besieged) addresses() []string { return slices.Sorted(maps.Keys(b.nodes)) }

func (b *besieged) ports() []port {
	ports := []port{
		{Name: "manager", Address: b.address},
		{Name: "gateway", Address: b.gatewayAddr, Web: true},
		{Name: "door", Address: b.door},
	}
	for _, node := range b.addresses() {
		ports = append(ports, port{Name: "node", Address: node})
	}
	return ports
}

// look notes the condition of each server.
func (b *besieged) look(phase int) {
	b.t.Helper()
	for _, s := range b.servers {
		c, err := s.condition()
		if err != nil {
			b.t.Fatalf("%s: %v", s.name, err)
		}
		s.seen[phase] = c
	}
}

func (s *server) condition() (c condition, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	if err != nil {
		return c, err
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &c.resident)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &c.peak)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		return c, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	const user, system, tick = 11, 12, 10 * time.Millisecond // behind the name
	for _, at := range []int{user, system} {
		n, err := strconv.ParseInt(strings.Fields(rest)[at], 10, 64)
		if err != nil {
			return c, err
		}
		c.cpu += time.Duration(n) * tick
	}
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.pid()))
	if err != nil {
		return c, err
	}
	for _, fd := range open { // a log that grows keeps files; what is counted is connections
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			c.sockets++
		}
	}
	return c, s.metrics(&c)
}

// untilReady waits until the server says that it is.
func (s *server) untilReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		res, err := s.ask("/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready: %v", s.name, err)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
}

func (s *server) ask(path string) (*http.Response, error) {
	asker := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	return asker.Get("http://" + s.admin + path)
}

// metrics asks the server's admin listener.
func (s *server) metrics(c *condition) error {
	res, err := s.ask("/metrics")
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch {
		case name == "go_goroutines":
			c.goroutines = n
		case strings.HasSuffix(name, `{why="panic"}`):
			c.died += n
		}
	}
	if c.goroutines == 0 {
		return errors.New("no metrics")
	}
	return nil
}

// spare is how many goroutines and sockets a server may have more than before: what
// comes and goes by itself.
const spare = 25

// untilQuiet waits until the servers have let go of what the attack has left.
func (b *besieged) untilQuiet() {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for _, s := range b.servers {
		for {
			c, err := s.condition()
			if err == nil && c.goroutines <= s.seen[before].goroutines+spare && c.sockets <= s.seen[before].sockets+spare {
				break
			}
			if time.Now().After(deadline) {
				b.t.Errorf("%s has %d goroutines and %d sockets, %v; before the attack it had %d and %d", s.name, c.goroutines, c.sockets, err,
					s.seen[before].goroutines, s.seen[before].sockets)
				break
			}
			pause(b.t.Context(), 50*time.Millisecond)
		}
	}
}

// mostGrowth bounds what a server takes more than before, in KiB: its budget for
// requests and replies (64 MiB) twice, as the garbage collector lets it, what it keeps of
// the values that the attack has written, and some.
const mostGrowth = 384 << 10

func (b *besieged) judge() {
	b.t.Helper()
	for _, s := range b.servers {
		if s.seen[after].died != 0 {
			b.t.Errorf("%s: %d panics", s.name, s.seen[after].died)
		}
		if most := s.seen[before].resident + mostGrowth; s.seen[after].peak > most {
			b.t.Errorf("%s has had %d KiB of memory, want at most %d", s.name, s.seen[after].peak, most)
		}
	}
}

func (b *besieged) report(took time.Duration) {
	b.t.Logf("%-18s %28s %22s %18s %9s %7s", "server", "MiB before, peak, after", "goroutines bef., aft.", "sockets bef., aft.", "panics", "cores")
	for _, s := range b.servers {
		x, y, z := s.seen[before], s.seen[during], s.seen[after]
		b.t.Logf("%-18s %12d %7d %7d %13d %8d %9d %8d %9d %7.2f", s.name, x.resident>>10, z.peak>>10, z.resident>>10, x.goroutines, z.goroutines, x.sockets, z.sockets, z.died,
			(y.cpu-x.cpu).Seconds()/took.Seconds())
	}
}

// healthy are clients that mean well, each on a way of its own.
type healthy struct {
	t      *testing.T
	static *client.Client
	all    []*good
}

// good is one of them, with a checked load.
type good struct {
	name string
	work *oracle.Workload

	mu    sync.Mutex
	now   int                     // the phase; guarded by mu
	took  [phases][]time.Duration // guarded by mu
	fault error                   // the first; guarded by mu
	count [phases]int             // of faults; guarded by mu
}

// healthy starts them.
func (b *besieged) healthy() *healthy {
	b.t.Helper()
	h := &healthy{t: b.t, static: b.open()}
	for i := range statics {
		if err := h.static.Put(b.t.Context(), staticKey(i), []byte(staticKey(i))); err != nil {
			b.t.Fatal(err)
		}
	}
	door := redis.NewClient(&redis.Options{Addr: b.door, MaxRetries: -1, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience})
	b.t.Cleanup(func() { _ = door.Close() })
	for name, store := range map[string]oracle.Store{
		"Go client": h.static, "channels": b.open(client.WithDialer(b.channel)), "Redis door": doorStore{door},
	} {
		g := &good{name: name}
		g.work = oracle.New(store, oracle.Options{Prefix: name + ":", Workers: 3, Registers: 50, Rate: 250, Timeout: patience, Observe: g.observe})
		g.work.Start(context.WithoutCancel(b.t.Context()))
		b.t.Cleanup(g.work.Halt)
		h.all = append(h.all, g)
	}
	slices.SortFunc(h.all, func(x, y *good) int { return strings.Compare(x.name, y.name) })
	return h
}

// statics are keys that do not change.
const statics = 500

func (b *besieged) open(o ...client.Option) *client.Client {
	b.t.Helper()
	db, err := client.Open(b.t.Context(), b.addresses(), append(o, client.WithDialTimeout(patience))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	return db
}

// channel dials a node as a page does.
func (b *besieged) channel(ctx context.Context, address string) (client.Conn, error) {
	ws, _, err := websocket.Dial(ctx, "ws://"+b.gatewayAddr+"/v1/node/"+address, &websocket.DialOptions{ //nolint:bodyclose // the library does
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, Subprotocols: []string{"quoit.v1"},
		HTTPHeader: http.Header{"Origin": {"http://" + b.gatewayAddr}},
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	return websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), nil
}

// doorStore is the cluster as a Redis client sees it.
type doorStore struct{ *redis.Client }

func (d doorStore) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := d.Client.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		err = client.ErrNotFound
	}
	return value, err
}

func (d doorStore) Put(ctx context.Context, key string, value []byte, _ ...client.PutOption) error {
	return d.Set(ctx, key, value, 0).Err()
}

func (d doorStore) Delete(ctx context.Context, keys ...string) (int, error) {
	n, err := d.Del(ctx, keys...).Result()
	return int(n), err
}

func (g *good) observe(_ time.Time, took time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.took[g.now] = append(g.took[g.now], took)
	if err != nil {
		g.count[g.now]++
		if g.fault == nil {
			g.fault = err
		}
	}
}

func (h *healthy) phase(now int) {
	for _, g := range h.all {
		g.mu.Lock()
		g.now = now
		g.mu.Unlock()
	}
}

// audit wants no error and no wrong answer, and every key to hold what was written.
func (h *healthy) audit() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*patience)
	defer cancel()
	for _, g := range h.all {
		g.work.Halt()
		if wrong, faults := g.work.Wrong(); wrong > 0 {
			h.t.Errorf("%s: %d wrong answers: %v", g.name, wrong, faults)
		}
		if checked, lost, err := g.work.Audit(ctx); err != nil || len(lost) > 0 {
			h.t.Errorf("%s: audit of %d keys: %v, lost %v", g.name, checked, err, lost)
		}
		if g.fault != nil {
			h.t.Errorf("%s: errors %v, the first: %v", g.name, g.count, g.fault)
		}
	}
	for i := range statics {
		if value, err := h.static.Get(ctx, staticKey(i)); err != nil || string(value) != staticKey(i) {
			h.t.Fatalf("%s: %q, %v", staticKey(i), value, err)
		}
	}
}

func (h *healthy) report() {
	h.t.Logf("%-12s %8s %10s %10s %10s %10s %8s", "client", "", "requests", "p50", "p99", "p99.9", "errors")
	for _, g := range h.all {
		calm := append(slices.Clone(g.took[before]), g.took[after]...)
		slices.Sort(calm)
		slices.Sort(g.took[during])
		for _, row := range []struct {
			name   string
			took   []time.Duration
			errors int
		}{{"without", calm, g.count[before] + g.count[after]}, {"with", g.took[during], g.count[during]}} {
			h.t.Logf("%-12s %8s %10d %10v %10v %10v %8d", g.name, row.name, len(row.took), quantile(row.took, 0.5), quantile(row.took, 0.99), quantile(row.took, 0.999), row.errors)
		}
		h.t.Logf("%-12s %8s %10s %10.2f %10.2f %10.2f", g.name, "ratio", "", ratio(g.took[during], calm, 0.5), ratio(g.took[during], calm, 0.99), ratio(g.took[during], calm, 0.999))
	}
}

// quantile is of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(time.Microsecond)
}

func ratio(a, b []time.Duration, q float64) float64 {
	return float64(quantile(a, q)) / float64(max(1, quantile(b, q)))
}
