package local

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/protocol"
)

// citadel is a fortress whose members have certificates with their roles besides the
// secret, and a gateway in front of it.
type citadel struct {
	*fortress
	door *gateway.Gateway
	cart string // a token that writes cart:
	logs *logText
}

func newCitadel(t *testing.T) *citadel {
	t.Helper()
	c := &citadel{fortress: prepareFortress(t)}
	c.node.TLS = c.ca.Config(true, tlstest.Role("quoit://node"))
	c.manager.TLS = c.ca.Config(true, tlstest.Role("quoit://manager"))
	logger, logs := log()
	c.logs = logs
	c.Cluster = start(t, Options{Dir: t.TempDir(), Nodes: 2, Port: -1, Node: &c.node, Manager: &c.manager, Logger: logger})
	c.cart = c.issue("cart", auth.ClusterNone, auth.PrefixScope("cart:", auth.WriteAccess))

	shown := c.ca.Config(false)
	g := gateway.DefaultConfig()
	g.Addr, g.RedisAddr, g.AdminAddr, g.ManagerAddr = "127.0.0.1:0", "127.0.0.1:0", "off", c.Manager()
	g.Times.Handshake = patience
	g.KeysFile, g.Token = c.node.Auth.TokenKeysFile, config.NewSecret(c.issue("gateway", auth.ClusterNone))
	g.TLS, g.Public = c.ca.Config(true, tlstest.Role("quoit://gateway")), tlsconf.Public{PublicCert: shown.TLSCert, PublicKey: shown.TLSKey}
	door, err := gateway.Start(within(t), g, gateway.Seams{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := door.Shutdown(within(t)); err != nil {
			t.Error(err)
		}
	})
	if err := door.WaitReady(within(t)); err != nil {
		t.Fatalf("%v\n%s", err, logs)
	}
	c.door = door
	return c
}

// tls is what a client of the public side believes.
func (c *citadel) tls() *tls.Config {
	knows := c.knows.Config()
	knows.ServerName = "127.0.0.1"
	return knows
}

// ask asks the console's part of the gateway as its page does, with a token.
func (c *citadel) ask(method, path, token string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(within(c.t), method, "https://"+c.door.Addr()+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Origin", "https://"+c.door.Addr())
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: c.tls(), DisableKeepAlives: true}}).Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestEveryDoorOfAClusterWithCertificates: manager, nodes and a gateway, all over TLS with
// certificates that say who they are, the secret and tokens; and whoever comes, by whichever
// door, can do what the token says, and that alone.
func TestEveryDoorOfAClusterWithCertificates(t *testing.T) {
	c := newCitadel(t)
	db := c.open()
	const keys = 200
	fill(t, db, keys)
	for name, try := range map[string]func(*testing.T){
		"the Go client": c.goClient, "a channel of the gateway": c.channel, "the Redis door": c.redis, "the console": c.console,
	} {
		t.Run(name, try)
	}
	// What members say to each other takes both: a node that joins is given ranges.
	if _, err := c.AddNode(within(t), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the third node to own something", func() bool { return len(strings.Fields(c.owners(db))) == 3 })
	verify(t, db, keys)
	for _, secret := range []string{c.token, c.cart, fortressSecret} {
		if strings.Contains(c.logs.String(), secret) {
			t.Error("a secret is in a log")
		}
	}
}

func (c *citadel) goClient(t *testing.T) {
	db := c.openWith(c.cart)
	if err := db.Put(within(t), "cart:go", []byte("1")); err != nil {
		t.Error(err)
	}
	if err := db.Put(within(t), "user:go", []byte("1")); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("another's key: %v", err)
	}
	for what, o := range map[string]client.Option{
		"a token of nobody": client.WithToken(func(context.Context) (string, error) { return "guess", nil }),
		"no token":          client.WithRetryBudget(time.Minute),
	} {
		if _, err := client.Open(within(t), c.Addresses(), client.WithTLS(c.knows.Config()), o); !errors.Is(err, client.ErrUnauthenticated) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func (c *citadel) channel(t *testing.T) {
	for _, node := range c.Addresses() {
		ws, _, err := websocket.Dial(within(t), "wss://"+c.door.Addr()+"/v1/node/"+node, &websocket.DialOptions{ //nolint:bodyclose // the library does
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls(), DisableKeepAlives: true}},
			HTTPHeader:   http.Header{"Origin": {"https://" + c.door.Addr()}},
			Subprotocols: []string{gateway.Subprotocol},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		for _, step := range []struct{ words, want string }{
			{"GET cart:1", "-NOAUTH "}, // the gateway's own certificate is of no use to a page
			{"AUTH " + c.cart, "+OK"},
			{"PING", "+PONG"},
			{"GET user:1", "-NOPERM "},
			{"CLUSTER STATUS", "-NOPERM "},
			{"RESET", "+RESET"},
			{"GET cart:1", "-NOAUTH "},
			{"AUTH guess", "-NOAUTH "},
		} {
			if err := ws.Write(within(t), websocket.MessageBinary, protocol.AppendRequestStrings(nil, strings.Fields(step.words)[0], strings.Fields(step.words)[1:]...)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.Read(within(t)); err != nil || !strings.HasPrefix(string(got), step.want) {
				t.Errorf("%s: %q, %v; want %s", strings.Fields(step.words)[0], got, err, step.want)
			}
		}
	}
}

func (c *citadel) redis(t *testing.T) {
	connect := func(password string) *redis.Client {
		db := redis.NewClient(&redis.Options{Addr: c.door.RedisAddr(), Password: password, TLSConfig: c.tls(), Protocol: 2, MaxRetries: -1})
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	db := connect(c.cart)
	for i := range 20 { // of both nodes
		if err := db.Set(within(t), "cart:"+key(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := db.Get(within(t), "cart:"+key(i)).Int(); err != nil || got != i {
			t.Errorf("%d, %v", got, err)
		}
	}
	if err := db.Set(within(t), "user:1", 1, 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM ") {
		t.Errorf("another's key: %v", err)
	}
	if err := connect("").Get(within(t), "cart:1").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH ") {
		t.Errorf("without a password: %v", err)
	}
	// This client tries AUTH once more over the connection on which HELLO was refused, and
	// finds it closed.
	if err := connect("guess").Get(within(t), "cart:1").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("with a password that is none: %v", err)
	}
	plain := redis.NewClient(&redis.Options{Addr: c.door.RedisAddr(), Password: c.cart, MaxRetries: -1})
	defer plain.Close()
	if err := plain.Ping(within(t)).Err(); err == nil {
		t.Error("the door speaks to who does not speak TLS")
	}
}

// paused says what the status says of moves.
func (c *citadel) paused(token string) bool {
	c.t.Helper()
	status, body := c.ask(http.MethodGet, "/v1/status", token)
	var report struct{ Cluster manager.Status }
	if err := json.Unmarshal([]byte(body), &report); err != nil || status != http.StatusOK {
		c.t.Fatalf("%d %s, %v", status, body, err)
	}
	return report.Cluster.Paused
}

func (c *citadel) console(t *testing.T) {
	reader := c.issue("reader", auth.ClusterRead)
	for token, want := range map[string]int{"": http.StatusUnauthorized, "guess": http.StatusUnauthorized, c.cart: http.StatusForbidden, reader: http.StatusForbidden, c.token: http.StatusOK} {
		if status, body := c.ask(http.MethodPost, "/v1/moves/pause", token); status != want {
			t.Errorf("pause: %d %s, want %d", status, body, want)
		}
		if token != c.token && token != reader {
			if status, body := c.ask(http.MethodGet, "/v1/status", token); status != want {
				t.Errorf("status: %d %s, want %d", status, body, want)
			}
		}
	}
	if !c.paused(reader) {
		t.Error("moves are not paused")
	}
	if status, body := c.ask(http.MethodPost, "/v1/moves/resume", c.token); status != http.StatusOK || c.paused(reader) {
		t.Errorf("resume: %d %s", status, body)
	}
}
