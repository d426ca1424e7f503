package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// issuer makes tokens, and the file that they are verified with.
type issuer struct {
	t    testing.TB
	key  auth.Key
	file string
	last atomic.Int64
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{t: t, file: filepath.Join(t.TempDir(), "keys.json")}
	i.replace()
	return i
}

// replace withdraws the key, and has another one from now on.
func (i *issuer) replace() {
	i.t.Helper()
	key, err := auth.NewKey(auth.EdDSA, fmt.Sprint("key-", i.last.Add(1)))
	if err != nil {
		i.t.Fatal(err)
	}
	public, _ := key.Public()
	text, err := auth.FormatKeys([]auth.Key{public})
	if err != nil {
		i.t.Fatal(err)
	}
	temporary := i.file + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(temporary, i.file); err != nil {
		i.t.Fatal(err)
	}
	i.key = key
}

// token is one for two hours, for keys that begin with one of the prefixes; change may
// change what it says.
func (i *issuer) token(change func(*auth.Claims), prefixes ...string) string {
	i.t.Helper()
	now := time.Now()
	c := auth.Claims{ID: fmt.Sprint("t-", i.last.Add(1)), Subject: "a test", NotBefore: now.Add(-time.Minute), Expires: now.Add(2 * time.Hour)}
	for _, p := range prefixes {
		c.Scopes = append(c.Scopes, auth.PrefixScope(p, auth.WriteAccess))
	}
	if change != nil {
		change(&c)
	}
	token, err := auth.Sign(i.key, c)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

func lasts(d time.Duration) func(*auth.Claims) {
	return func(c *auth.Claims) { c.Expires = time.Now().Add(d) }
}

func may(a auth.ClusterAccess) func(*auth.Claims) {
	return func(c *auth.Claims) { c.Cluster = a }
}

// guarded is a cluster whose nodes ask for tokens, and a gateway before it.
func guarded(t testing.TB, nodes int, o options) (*local.Cluster, *fixture, *issuer) {
	t.Helper()
	i := newIssuer(t)
	n := nodeConfig(t)
	n.Auth.TokenKeysFile, n.Auth.ClusterSecret = i.file, config.NewSecret(strings.Repeat("s", auth.MinClusterSecret))
	cluster := startClusterOf(t, nodes, n)
	return cluster, start(t, cluster.Manager(), i.before(o)).ready(), i
}

// before adds to options what a gateway needs to ask for tokens.
func (i *issuer) before(o options) options {
	more := o.config
	o.config = func(c *Config) {
		c.KeysFile, c.Token = i.file, config.NewSecret(i.token(nil))
		if more != nil {
			more(c)
		}
	}
	return o
}

// wires remembers what the gateway has sent to whom.
type wires struct {
	mu   sync.Mutex
	sent map[string]*strings.Builder
}

func (w *wires) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent == nil {
		w.sent = make(map[string]*strings.Builder)
	}
	if w.sent[address] == nil {
		w.sent[address] = &strings.Builder{}
	}
	return &wire{nc, w, w.sent[address]}, nil
}

func (w *wires) to(address string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent[address] == nil {
		return ""
	}
	return w.sent[address].String()
}

type wire struct {
	net.Conn
	of   *wires
	sent *strings.Builder
}

func (w *wire) Write(b []byte) (int, error) {
	w.of.mu.Lock()
	w.sent.Write(b)
	w.of.mu.Unlock()
	return w.Conn.Write(b)
}

func TestAChannelPassesNothingBeforeATokenIsTaken(t *testing.T) {
	t.Parallel()
	w := &wires{}
	cluster, g, i := guarded(t, 1, options{seams: func(s *Seams) { s.Dial = w.dial }})
	node := cluster.Addresses()[0]
	p := g.channel(node)
	for _, words := range [][]string{{"GET", "cart:1"}, {"PING"}, {"SET", "cart:1", "v"}, {"NONSENSE"}, {"WATCH", "1", "PREFIX", "cart:"}, {"CLUSTER", "STATUS"}, {"PROVE", "00"}, {"GET"}} {
		if got := p.do(words...); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("%q: %s", words, got)
		}
	}
	if sent := w.to(node); sent != "" {
		t.Errorf("the node got %q", sent)
	}
	// What is sent behind AUTH in one message is answered behind it.
	p.send("GET cart:1\r\n" + request("AUTH", i.token(nil, "cart:")) + "SET cart:1 v\r\nGET cart:1\r\nGET user:1\r\n")
	for _, want := range []string{"-NOAUTH ", "+OK", "+OK", "v", "-NOPERM "} {
		if got := p.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if sent := w.to(node); !strings.HasPrefix(sent, "*2\r\n$4\r\nAUTH\r\n") || strings.Count(sent, "GET") != 2 {
		t.Errorf("the node got %q", sent)
	}
	// Another token, other keys; and with RESET none.
	if got := p.do("AUTH", "anybody", i.token(nil, "user:")); got != "+OK" {
		t.Fatal(got)
	}
	if got := p.do("GET", "cart:1"); !strings.HasPrefix(got, "-NOPERM ") {
		t.Errorf("another's key: %s", got)
	}
	if got := p.do("RESET"); got != "+RESET" {
		t.Error(got)
	}
	sent := w.to(node)
	if got := p.do("GET", "user:1"); !strings.HasPrefix(got, "-NOAUTH ") || w.to(node) != sent {
		t.Errorf("after RESET: %s", got)
	}
	if got := p.do("HELLO", "2", "AUTH", "u", i.token(nil, "user:")); !strings.HasPrefix(got, "[server quoit") {
		t.Errorf("HELLO AUTH: %s", got)
	}
	if got := p.do("GET", "user:1"); got != "nil" {
		t.Errorf("after HELLO AUTH: %s", got)
	}
}

func TestATokenThatIsNotGoodEndsTheChannel(t *testing.T) {
	t.Parallel()
	w := &wires{}
	cluster, g, i := guarded(t, 1, options{seams: func(s *Seams) { s.Dial = w.dial }})
	node, others := cluster.Addresses()[0], newIssuer(t)
	for name, token := range map[string]string{
		"somebody's password": "hunter2", "of another key": others.token(nil, ""), "expired": i.token(lasts(-time.Hour), ""),
		"cut short": i.token(nil, "")[:100],
	} {
		p := g.channel(node)
		if got := p.do("AUTH", token); !strings.HasPrefix(got, "-NOAUTH ") || strings.Contains(got, token) {
			t.Errorf("%s: %s", name, got)
		}
		if got := p.reply(); got != fmt.Sprint("closed ", int(CloseUnauthenticated)) {
			t.Errorf("%s: then %s", name, got)
		}
		if strings.Contains(g.logs.String(), token) {
			t.Errorf("%s: the token is in the log", name)
		}
	}
	if sent := w.to(node); sent != "" {
		t.Errorf("the node got %q", sent)
	}
}

// refusingNode takes connections, says NOAUTH to whatever comes, and stays.
type refusingNode struct {
	mu    sync.Mutex
	heard []string
}

func (n *refusingNode) dial(context.Context, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		parser, buf, chunk := protocol.RequestParser{Limits: protocol.DefaultLimits()}, []byte(nil), make([]byte, 4096)
		for {
			got, err := there.Read(chunk)
			if err != nil {
				return
			}
			buf = append(buf, chunk[:got]...)
			for {
				args, took, err := parser.Next(buf)
				if err != nil || took == 0 {
					break
				}
				n.mu.Lock()
				n.heard = append(n.heard, string(args[0]))
				n.mu.Unlock()
				buf = buf[took:]
				if _, err := there.Write([]byte("-NOAUTH not here\r\n")); err != nil {
					return
				}
			}
		}
	}()
	return here, nil
}

func TestTheNodeHasTheLastWordAboutAToken(t *testing.T) {
	t.Parallel()
	n := &refusingNode{}
	cluster, g, i := guarded(t, 1, options{seams: func(s *Seams) { s.Dial = n.dial }})
	p := g.channel(cluster.Addresses()[0])
	p.send(request("AUTH", i.token(nil, "")) + request("GET", "a") + request("SET", "a", "b"))
	for _, want := range []string{"-NOAUTH not here", "-NOAUTH authenticate first", "-NOAUTH authenticate first"} {
		if got := p.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.heard, []string{"AUTH"}) {
		t.Errorf("the node heard %q", n.heard)
	}
}

func TestATokenInPiecesAndOneMessageThatIsTooLong(t *testing.T) {
	t.Parallel()
	cluster, g, i := guarded(t, 1, options{})
	node := cluster.Addresses()[0]
	p := g.channel(node)
	for _, b := range []byte(request("AUTH", i.token(nil, "cart:"))) {
		p.send(string(b))
	}
	if got := p.reply(); got != "+OK" {
		t.Error(got)
	}
	big := strings.Repeat("v", 500<<10)
	if got := p.do("SET", "cart:1", big); got != "+OK" {
		t.Errorf("a long message afterwards: %s", got)
	}
	if got := p.do("GET", "cart:1"); got != big {
		t.Errorf("it reads back as %d bytes", len(got))
	}

	p = g.channel(node)
	p.send(strings.Repeat("x", 1<<20))
	if got := p.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Errorf("a first message of 1 MiB: %s", got)
	}
	if got := p.reply(); !strings.HasPrefix(got, "closed ") {
		t.Errorf("then %s", got)
	}
	waitFor(t, "its memory to be given back", func() bool { return g.budget.Used() <= 64<<10 }) // that it is closed is heard first
	p = g.channel(node)
	p.send("*2\r\n$4\r\nAUTH\r\n$60000\r\n")
	if got := p.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Errorf("a token of 60000 bytes: %s", got)
	}
	if got := p.reply(); got != fmt.Sprint("closed ", int(CloseProtocol)) {
		t.Errorf("then %s", got)
	}
}

// TestWhoShowsNoTokenIsCutOff, by a clock that the test has; the sweeper looks at it
// once a second.
func TestWhoShowsNoTokenIsCutOff(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	cluster, g, i := guarded(t, 1, options{
		config: func(c *Config) { c.Times.Handshake = 20 * time.Second }, // by itself, that is
		seams: func(s *Seams) {
			s.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		},
	})
	silent, feed, door := g.channel(cluster.Addresses()[0]), g.open("/v1/cluster"), g.redis()
	busy, known := g.redis(), g.redis()
	if got := busy.do("PING"); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Error(got)
	}
	if got := known.do("AUTH", i.token(nil, "")); got != "+OK" {
		t.Error(got)
	}
	ahead.Store(int64(g.times.Handshake + time.Second))
	for name, got := range map[string]string{"a channel": silent.reply(), "a feed": feed.reply()} {
		if got != fmt.Sprint("closed ", int(CloseUnauthenticated)) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, c := range map[string]*redisClient{"a Redis client": door, "one that asks": busy} {
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH nobody has authenticated within 20s") {
			t.Errorf("%s: %s", name, got)
		}
		if got := c.reply(); got != "closed" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := known.do("PING"); got != "+PONG" {
		t.Errorf("who has a token: %s", got)
	}
}

func TestAFloodOfTokensThatAreNone(t *testing.T) {
	t.Parallel()
	cluster, g, i := guarded(t, 1, options{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range 25 {
				c := g.redis()
				c.send(strings.Repeat(request("AUTH", fmt.Sprint("guess-", n)), 50))
				if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
					t.Errorf("got %s", got)
				}
				if got := c.reply(); got != "closed" {
					t.Errorf("a second guess over one connection: %s", got)
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	if got := g.tokens.Figures().NotTaken["invalid"]; got != 200 {
		t.Errorf("%d tokens were looked at", got)
	}
	if n := strings.Count(g.logs.String(), "a token was not taken"); n > 60 {
		t.Errorf("%d lines in the log", n)
	}
	p := g.channel(cluster.Addresses()[0])
	if got := p.do("AUTH", i.token(nil, "")); got != "+OK" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestTheTopologyIsForThoseWithAToken(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	_, g, i := guarded(t, 1, options{seams: func(s *Seams) {
		s.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}})
	read := func(p *page) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, text, err := p.Read(ctx)
		if err == nil {
			_, err = ring.ParseTopology(text)
		}
		return err
	}
	for name, first := range map[string]string{
		"a page without": request("TOPOLOGY"), "a token that is none": request("AUTH", "x"),
		"an expired one": request("AUTH", i.token(lasts(-time.Hour), "")),
	} {
		p := g.open("/v1/cluster")
		p.send(first)
		if err := read(p); websocket.CloseStatus(err) != CloseUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := g.open("/v1/cluster")
	p.send(request("GET", "a"))
	if err := read(p); websocket.CloseStatus(err) != CloseProtocol {
		t.Errorf("a request: %v", err)
	}

	p = g.open("/v1/cluster")
	p.send(request("AUTH", i.token(lasts(time.Minute), "")))
	if err := read(p); err != nil {
		t.Fatal(err)
	}
	p.send(request("AUTH", i.token(lasts(time.Hour), ""))) // before the other one ends
	ahead.Store(int64(10 * time.Minute))
	// Who comes before the sweeper has looked has been a stranger for ten minutes when it does.
	waitFor(t, "the sweeper to have looked", func() bool { return g.clock.coarse() > time.Now().Add(9*time.Minute).UnixMilli() })
	other := g.open("/v1/cluster")
	other.send(request("AUTH", i.token(lasts(time.Hour), "")))
	if err := read(other); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(2 * time.Hour))
	for _, p := range []*page{p, other} {
		if err := read(p); websocket.CloseStatus(err) != CloseUnauthenticated || !strings.Contains(err.Error(), "the token has expired") {
			t.Errorf("when it has expired: %v", err)
		}
	}
}

// http asks as a page does, with a token.
func (f *fixture) http(method, path, token string) (status int, body string) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.Addr()+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Origin", "http://"+f.Addr())
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestTheConsoleActsForWhoAsks(t *testing.T) {
	t.Parallel()
	w := &wires{}
	cluster, g, i := guarded(t, 1, options{seams: func(s *Seams) { s.Dial = w.dial }})
	for _, path := range []string{"/v1/status", "/v1/moves/pause", "/v1/moves/resume"} {
		method, least, less := http.MethodPost, auth.ClusterOperate, auth.ClusterRead
		if path == "/v1/status" {
			method, least, less = http.MethodGet, auth.ClusterRead, auth.ClusterNone
		}
		for name, c := range map[string]struct {
			token string
			want  int
		}{
			"nobody":         {"", http.StatusUnauthorized},
			"a guess":        {"guess", http.StatusUnauthorized},
			"too little":     {i.token(may(less), ""), http.StatusForbidden},
			"expired":        {i.token(func(c *auth.Claims) { c.Cluster, c.Expires = least, time.Now().Add(-time.Hour) }), http.StatusUnauthorized},
			"just enough":    {i.token(may(least)), http.StatusOK},
			"more than that": {i.token(may(auth.ClusterOperate)), http.StatusOK},
		} {
			before := w.to(cluster.Manager())
			status, body := g.http(method, path, c.token)
			if status != c.want || c.token != "" && strings.Contains(body, c.token) {
				t.Errorf("%s as %s: %d %s", path, name, status, body)
			}
			if c.want == http.StatusOK {
				continue
			}
			if sent := w.to(cluster.Manager()); sent != before {
				t.Errorf("%s as %s: the manager was asked", path, name)
			}
		}
	}
	// The manager is asked with the token of whoever asks, over a connection of its own.
	mine := i.token(may(auth.ClusterOperate))
	before := len(w.to(cluster.Manager()))
	if status, body := g.http(http.MethodPost, "/v1/moves/resume", mine); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if sent := w.to(cluster.Manager())[before:]; !strings.HasPrefix(sent, request("AUTH", mine)) {
		t.Errorf("the manager got %q", sent)
	}
	if strings.Contains(g.logs.String(), mine) {
		t.Error("the token is in the log")
	}
}

func TestTheRedisDoorActsForWhoAsks(t *testing.T) {
	t.Parallel()
	_, g, i := guarded(t, 2, options{})
	cart, user := i.token(nil, "cart:"), i.token(nil, "user:")
	a, b, c := g.redis(), g.redis(), g.redis()
	for _, words := range [][]string{{"GET", "cart:1"}, {"INFO"}, {"TOPOLOGY"}, {"SCAN", "0"}, {"NONSENSE"}, {"HELLO", "2"}, {"CONFIG", "GET", "*"}, {"CLUSTER", "STATUS"}} {
		if got := c.do(words...); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("%q: %s", words, got)
		}
	}
	for _, who := range []struct {
		c     *redisClient
		token string
	}{{a, cart}, {b, user}, {c, cart}} {
		if got := who.c.do("AUTH", "somebody", who.token); got != "+OK" {
			t.Fatal(got)
		}
	}
	for n := range 20 {
		mine, others := fmt.Sprint("cart:", n), fmt.Sprint("user:", n)
		for _, s := range []struct {
			c    *redisClient
			args []string
			want string
		}{
			{a, []string{"SET", mine, "v"}, "+OK"},
			{a, []string{"SET", others, "v"}, "-NOPERM "},
			{b, []string{"SET", others, "v"}, "+OK"},
			{b, []string{"GET", mine}, "-NOPERM "},
			{c, []string{"GET", mine}, "v"},
			{a, []string{"MGET", mine, others}, "-NOPERM "},
			{b, []string{"DEL", others, mine}, "-NOPERM "},
			{b, []string{"GET", others}, "v"},
		} {
			if got := s.c.do(s.args...); !strings.HasPrefix(got, s.want) {
				t.Fatalf("%q: %s, want %s", s.args, got, s.want)
			}
		}
	}
	if got := g.tenants.count(); got != 2 {
		t.Errorf("%d clients for two tokens", got)
	}
	if got := b.do("SCAN", "0", "COUNT", "1000"); strings.Contains(got, "cart:") || !strings.Contains(got, "user:7") {
		t.Errorf("SCAN: %s", got)
	}
	if got := a.do("DBSIZE"); !strings.HasPrefix(got, "-NOPERM ") {
		t.Errorf("DBSIZE: %s", got)
	}
	if got := a.do("INFO"); strings.Contains(got, "# Clients") || strings.Contains(got, "process_id") || !strings.Contains(got, "# Server") {
		t.Errorf("INFO: %s", got)
	}
	// What is in one write is done by who each request is from.
	a.send(request("GET", "cart:1") + request("AUTH", user) + request("GET", "cart:1") + request("GET", "user:1") + request("RESET") + request("GET", "user:1"))
	for _, want := range []string{"v", "+OK", "-NOPERM ", "v", "+RESET", "-NOAUTH "} {
		if got := a.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	_ = c.Close()
	waitFor(t, "the client of a token that nobody shows any more to be gone", func() bool { return g.tenants.count() == 1 })
	if got := a.do("HELLO", "2", "AUTH", "default", cart, "SETNAME", "x"); !strings.HasPrefix(got, "[server quoit") {
		t.Errorf("HELLO AUTH: %s", got)
	}
	if got := a.do("GET", "cart:2"); got != "v" {
		t.Errorf("after HELLO AUTH: %s", got)
	}
	if got := a.do("AUTH", "not a token"); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Errorf("a token that is none: %s", got)
	}
	if got := a.reply(); got != "closed" {
		t.Errorf("then %s", got)
	}
}

func TestATokenEndsOnOpenConnections(t *testing.T) {
	t.Parallel()
	cluster, g, i := guarded(t, 1, options{})
	node := cluster.Addresses()[0]
	token := i.token(nil, "")
	c, p := g.redis(), g.channel(node)
	if got := c.do("AUTH", token); got != "+OK" {
		t.Fatal(got)
	}
	if got := p.do("AUTH", token); got != "+OK" {
		t.Fatal(got)
	}
	if got := c.do("SET", "a", "1"); got != "+OK" {
		t.Fatal(got)
	}
	i.replace() // the key is withdrawn, everywhere
	waitFor(t, "the door to notice", func() bool { return strings.HasPrefix(c.do("GET", "a"), "-NOAUTH ") })
	waitFor(t, "the node to notice", func() bool { return strings.HasPrefix(p.do("GET", "a"), "-NOAUTH ") })
	if got := c.do("SET", "a", "2"); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Error(got)
	}
	next := i.token(nil, "")
	waitFor(t, "the gateway to have the new key", func() bool {
		_, refused := g.tokens.Verify([]byte(next), time.Now(), "the test")
		return refused == nil
	})
	if got := c.do("AUTH", next); got != "+OK" {
		t.Error(got)
	}
	if got := c.do("GET", "a"); got != "1" {
		t.Error(got)
	}
	if got := p.do("AUTH", next); got != "+OK" {
		t.Error(got)
	}
	if got := p.do("GET", "a"); got != "1" {
		t.Error(got)
	}
}

func TestATokenHasSoManyConnections(t *testing.T) {
	t.Parallel()
	cluster, g, i := guarded(t, 1, options{})
	node := cluster.Addresses()[0]
	token := i.token(func(c *auth.Claims) { c.Connections = 3 }, "")
	c, p, feed := g.redis(), g.channel(node), g.open("/v1/cluster")
	if got := c.do("AUTH", token); got != "+OK" {
		t.Error(got)
	}
	if got := p.do("AUTH", token); got != "+OK" {
		t.Error(got)
	}
	feed.send(request("AUTH", token))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := feed.Read(ctx); err != nil {
		t.Error(err)
	}
	if got := c.do("AUTH", token); got != "+OK" {
		t.Errorf("the same over the same connection: %s", got)
	}
	one, more := g.redis(), g.channel(node)
	if got := one.do("AUTH", token); !strings.HasPrefix(got, "-OVERLOADED ") {
		t.Error(got)
	}
	if got := more.do("AUTH", token); !strings.HasPrefix(got, "-OVERLOADED ") {
		t.Error(got)
	}
	_ = feed.CloseNow()
	waitFor(t, "a place to be free", func() bool {
		again := g.redis()
		defer again.Close()
		return again.do("AUTH", token) == "+OK"
	})
}

func TestAStockRedisClientBringsATokenAsItsPassword(t *testing.T) {
	t.Parallel()
	_, g, i := guarded(t, 2, options{})
	ctx := t.Context()
	db := redis.NewClient(&redis.Options{Addr: g.RedisAddr(), Username: "shop", Password: i.token(nil, "cart:"), Protocol: 2})
	defer db.Close()
	if err := db.Set(ctx, "cart:1", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := db.Get(ctx, "cart:1").Result(); v != "v" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := db.Get(ctx, "user:1").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM ") {
		t.Errorf("another key: %v", err)
	}
	stranger := redis.NewClient(&redis.Options{Addr: g.RedisAddr(), Protocol: 2, MaxRetries: -1})
	defer stranger.Close()
	if err := stranger.Get(ctx, "cart:1").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH ") {
		t.Errorf("without a password: %v", err)
	}
}

func TestWhatAGatewayNeedsToAskForTokens(t *testing.T) {
	for name, c := range map[string]struct {
		environ map[string]string
		want    string // "": it starts
	}{
		"nothing, on loopback":          {map[string]string{}, ""},
		"nothing, for everybody":        {map[string]string{"QUOIT_GATEWAY_ADDR": "0.0.0.0:7480"}, "QUOIT_TOKEN_KEYS_FILE and QUOIT_TOKEN"},
		"nothing, the door":             {map[string]string{"QUOIT_GATEWAY_REDIS_ADDR": "0.0.0.0:7479"}, "QUOIT_TOKEN_KEYS_FILE and QUOIT_TOKEN"},
		"on purpose":                    {map[string]string{"QUOIT_GATEWAY_ADDR": "0.0.0.0:7480", "QUOIT_ALLOW_UNAUTHENTICATED": "true"}, ""},
		"keys and a token, for all":     {map[string]string{"QUOIT_GATEWAY_ADDR": "0.0.0.0:7480", "QUOIT_TOKEN_KEYS_FILE": "keys", "QUOIT_TOKEN": "t"}, ""},
		"keys without a token":          {map[string]string{"QUOIT_TOKEN_KEYS_FILE": "keys"}, "QUOIT_TOKEN"},
		"a token without keys":          {map[string]string{"QUOIT_TOKEN": "do not show me"}, "QUOIT_TOKEN_KEYS_FILE"},
		"a certificate without its key": {map[string]string{"QUOIT_GATEWAY_TLS_CERT_FILE": "cert"}, "QUOIT_GATEWAY_TLS_KEY_FILE"},
	} {
		settings, err := LoadConfig(c.environ)
		if err == nil {
			err = settings.Validate()
		}
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "do not show me"):
			t.Errorf("%s: the token is in %v", name, err)
		}
	}
}

// Browsers and libraries end a connection with an error of their own where the reason of a
// close is no text.
func TestAReasonIsNotCutWithinACharacter(t *testing.T) {
	for n := range 4 {
		got := short(&protocol.Error{Message: strings.Repeat("a", 120+n) + "öööö"})
		if !utf8.ValidString(got) || len(got) < 121 || len(got) > 123 {
			t.Errorf("%d letters and umlauts are cut to %q", 120+n, got)
		}
	}
}
