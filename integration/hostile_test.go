package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
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
//
// Once the cluster believes everyone who reaches it. The other one has everything on: TLS
// on each listener, tokens, a secret and certificates of members, and gateways of the
// nodes' own; attackers speak in the clear and within TLS, with tokens that are none or
// that open their own keys alone. They change no key but those, and are told none.
func TestHostileBytesHarmNobody(t *testing.T) {
	t.Run("open", func(t *testing.T) { siege(t, newBesieged(t, false)) })
	t.Run("guarded", func(t *testing.T) { siege(t, newBesieged(t, true)) })
}

func siege(t *testing.T, b *besieged) {
	few := 6_000
	if b.wall != nil {
		few = 3_000 // each of them takes longer
	}
	inputs, pace := number(t, hostileVariable, few), number(t, hostileRateVariable, 4_000)
	measure := os.Getenv(hostileVariable) != ""
	h := b.healthy()
	if measure {
		pause(t.Context(), 2*time.Second) // connections, first segments, and the like
		h.phase(before)
		pause(t.Context(), calm)
	}
	b.look(before)
	h.phase(during)
	p := plan{Inputs: inputs, Pace: pace, Seed: 1, Ports: b.ports()}
	if b.wall != nil {
		p.Creed = b.wall.creed()
	}
	o, err := launch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	b.look(during)
	h.phase(after)
	if measure {
		pause(t.Context(), calm)
	}
	h.audit()
	if b.wall != nil {
		b.wall.audit()
	}
	b.untilQuiet()
	b.look(after)
	b.judge()
	o.judge(t, inputs, pace)
	if measure {
		h.report()
	}
	b.report(o.Took)
}

// judge tells what an attack was, and wants it to have been one that was in vain.
func (o *outcome) judge(t *testing.T, inputs, pace int) {
	t.Helper()
	sent := 0
	for _, kind := range slices.Sorted(maps.Keys(o.Kinds)) {
		t.Logf("%8d  %s", o.Kinds[kind], kind)
		sent += o.Kinds[kind]
	}
	t.Logf("%8d  inputs of %d kinds in %.1f s (%.0f a second, at most %d) on connections to %v; the attackers used %.2f cores", sent, len(o.Kinds), o.Took.Seconds(),
		float64(sent)/o.Took.Seconds(), pace, o.Dials, o.CPU.Seconds()/o.Took.Seconds())
	if sent < inputs {
		t.Errorf("only %d of %d inputs were sent", sent, inputs)
	}
	if o.Told > 0 || o.Old > 0 {
		t.Errorf("%d answers held what is for friends alone, %d sessions were of a TLS that is too old", o.Told, o.Old)
	}
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
	own               map[string]string // gateways of the nodes' own
	servers           []*server
	wall              *wall // nil: it believes everyone
}

// server is a process, and what it was seen to be like.
type server struct {
	*process
	role  string
	admin string
	seen  [phases]condition
}

// condition is a process at a moment.
type condition struct {
	resident, peak            int64 // KiB; peak is since the start
	cpu                       time.Duration
	goroutines, sockets, died int64 // died are panics that were contained
}

func newBesieged(t *testing.T, guarded bool) *besieged {
	t.Helper()
	b := &besieged{fleet: newFleet(t, 2), gatewayAddr: freeAddress(t), door: freeAddress(t), own: make(map[string]string)}
	if guarded {
		b.wall = newWall(b)
	}
	gateway := b.process("gateway", "QUOIT_GATEWAY_ADDR="+b.gatewayAddr, "QUOIT_GATEWAY_REDIS_ADDR="+b.door, "QUOIT_MANAGER_ADDR="+b.address, "QUOIT_GATEWAY_MAX_VALUE=256KiB", "QUOIT_GATEWAY_MAX_INFLIGHT=64MiB")
	for _, s := range []*server{{role: "manager", process: b.manager}, {role: "node", process: b.node()}, {role: "node", process: b.node()}, {role: "gateway", process: gateway}} {
		s.admin = freeAddress(t)
		s.env = append(s.env, "QUOIT_"+strings.ToUpper(s.role)+"_ADMIN_ADDR="+s.admin)
		if s.role == "node" {
			s.env = append(s.env, "QUOIT_NODE_MAX_VALUE=256KiB", "QUOIT_NODE_MAX_INFLIGHT=64MiB", "QUOIT_WAL_SEGMENT=4MiB")
		}
		if guarded {
			s.env = append(s.env, b.wall.settings(s.role)...)
		}
		if guarded && s.role == "node" {
			own := freeAddress(t)
			b.own[s.name] = own
			s.env = append(s.env, "QUOIT_NODE_GATEWAY_ADDR="+own, "QUOIT_NODE_GATEWAY_URL=wss://"+own)
		}
		b.servers = append(b.servers, s)
		s.start(t, "")
	}
	slices.SortFunc(b.servers, func(x, y *server) int { return strings.Compare(x.name, y.name) })
	if guarded {
		b.wall.untilSettled()
	} else {
		b.until("the nodes to serve", settled(2))
	}
	for _, s := range b.servers {
		s.untilReady(t)
	}
	return b
}

func (b *besieged) addresses() []string { return slices.Sorted(maps.Keys(b.nodes)) }

func (b *besieged) ports() []port {
	ports := []port{
		{Name: "manager", Address: b.address},
		{Name: "gateway", Address: b.gatewayAddr, Nodes: b.addresses()},
		{Name: "door", Address: b.door},
	}
	for _, node := range b.addresses() {
		ports = append(ports, port{Name: "node", Address: node})
		if own := b.own[node]; own != "" {
			ports = append(ports, port{Name: "node's gateway", Address: own, Nodes: []string{node}})
		}
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

// friends are what the keys of those clients begin with.
func friends() []string { return []string{"Go client:", "channels:", "Redis door:", "own gateways:"} }

// goodWorkers is how many each of them has, goodRegisters the keys of each of those.
const (
	goodWorkers   = 3
	goodRegisters = 50
)

// healthy starts them.
func (b *besieged) healthy() *healthy {
	b.t.Helper()
	h := &healthy{t: b.t, static: b.friend("Go client")}
	for i := range statics {
		if err := h.static.Put(b.t.Context(), staticKey(i), staticValue(i)); err != nil {
			b.t.Fatal(err)
		}
	}
	h.start("Go client", h.static)
	h.start("channels", b.friend("channels", client.WithDialer(b.channel)))
	if b.wall != nil {
		h.start("own gateways", b.friend("own gateways", client.WithDialer(b.ownChannel)))
	}
	o := &redis.Options{Addr: b.door, Protocol: 2, MaxRetries: -1, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience}
	if b.wall != nil {
		o.Password, o.TLSConfig = b.wall.friend("Redis door"), b.wall.config()
		o.TLSConfig.ServerName, _, _ = net.SplitHostPort(b.door)
	}
	door := redis.NewClient(o)
	b.t.Cleanup(func() { _ = door.Close() })
	h.start("Redis door", doorStore{door})
	return h
}

func (h *healthy) start(name string, store oracle.Store) {
	g := &good{name: name}
	g.work = oracle.New(store, oracle.Options{Prefix: name + ":", Workers: goodWorkers, Registers: goodRegisters, Rate: 250, Timeout: patience, Observe: g.observe})
	g.work.Start(context.WithoutCancel(h.t.Context()))
	h.t.Cleanup(g.work.Halt)
	h.all = append(h.all, g)
}

// statics are keys that do not change.
const statics = 500

func staticValue(i int) []byte { return []byte(staticKey(i) + " " + forFriends) }

// friend is a client that means well, with a token for keys of its name.
func (b *besieged) friend(name string, o ...client.Option) *client.Client {
	b.t.Helper()
	if b.wall != nil {
		o = append(o, client.WithToken(text(b.wall.friend(name))))
	}
	return b.open(o...)
}

func (b *besieged) open(o ...client.Option) *client.Client {
	b.t.Helper()
	all := []client.Option{client.WithDialTimeout(patience)}
	if b.wall != nil {
		all = append(all, client.WithTLS(b.wall.config()))
	}
	db, err := client.Open(b.t.Context(), b.addresses(), append(all, o...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	return db
}

// channel dials a node as a page does.
func (b *besieged) channel(ctx context.Context, address string) (client.Conn, error) {
	return b.channelBy(ctx, b.gatewayAddr, address)
}

// ownChannel dials a node as a page does that goes straight to it.
func (b *besieged) ownChannel(ctx context.Context, address string) (client.Conn, error) {
	return b.channelBy(ctx, b.own[address], address)
}

func (b *besieged) channelBy(ctx context.Context, gateway, address string) (client.Conn, error) {
	scheme, page := "ws://", "http://"
	if b.wall != nil {
		scheme, page = "wss://", "https://"
	}
	socket, _, err := websocket.Dial(ctx, scheme+gateway+"/v1/node/"+address, &websocket.DialOptions{ //nolint:bodyclose // the library does
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: b.wall.config()}}, Subprotocols: []string{"quoit.v1"},
		HTTPHeader: http.Header{"Origin": {page + gateway}},
	})
	if err != nil {
		return nil, err
	}
	socket.SetReadLimit(-1)
	return websocket.NetConn(context.WithoutCancel(ctx), socket, websocket.MessageBinary), nil
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
		if value, err := h.static.Get(ctx, staticKey(i)); err != nil || !bytes.Equal(value, staticValue(i)) {
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
