package containers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	quoit "github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/need"
)

// project is what compose.yaml starts, under names and addresses of its own.
type project struct {
	t       *testing.T
	command []string // docker compose, or docker-compose
	env     []string
	secrets *secrets
}

// newProject finds Compose, or skips.
func newProject(t *testing.T, settings ...string) *project {
	t.Helper()
	p := &project{t: t, command: []string{"docker", "compose"}}
	if exec.Command("docker", "compose", "version").Run() != nil {
		old, err := exec.LookPath("docker-compose")
		if err != nil {
			need.Missing(t, "compose", "Compose (docker compose or docker-compose)", "apt-get install docker-compose")
		}
		p.command = []string{old}
	}
	p.command = append(p.command, "--project-name", fmt.Sprint(projectPrefix, os.Getpid()), "--file", "../../compose.yaml")
	p.secrets = newSecrets(t)
	p.env = append(append(os.Environ(), "QUOIT_SECRETS="+p.secrets.folder), settings...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", p.run(context.Background(), "logs", "--no-color", "--tail", "20"))
		}
		p.run(context.Background(), "--profile", "grow", "down", "--volumes", "--timeout", "1")
	})
	return p
}

// run runs Compose, which has to succeed, and returns what it says.
func (p *project) run(ctx context.Context, words ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.command[0], append(p.command[1:len(p.command):len(p.command)], words...)...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Errorf("compose %v: %v\n%s", words, err, out)
	}
	return string(out)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// pageSays says something over a WebSocket, as a page of an origin, and returns the answer
// of so many lines.
func pageSays(t *testing.T, url, origin, request string, lines int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{ //nolint:bodyclose // the library does
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		HTTPHeader:   http.Header{"Origin": {origin}},
		Subprotocols: []string{gateway.Subprotocol},
	})
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return ""
	}
	defer func() { _ = ws.CloseNow() }()
	if err := ws.Write(ctx, websocket.MessageBinary, []byte(request)); err != nil {
		t.Error(err)
	}
	answer := ""
	for strings.Count(answer, "\r\n") < lines {
		_, more, err := ws.Read(ctx)
		if err != nil {
			t.Errorf("%s, after %q: %v", url, answer, err)
			break
		}
		answer += string(more)
	}
	return answer
}

// TestComposeStartsWhatItSays starts compose.yaml as a user does, with the secrets that
// its first lines say how to make, and dials nothing but what the manager's published port
// and the topology say.
func TestComposeStartsWhatItSays(t *testing.T) {
	t.Parallel()
	e := docker(t)
	manager, web, door := freeAddress(t), freeAddress(t), freeAddress(t)
	network := fmt.Sprintf("10.75.%d", os.Getpid()%256)
	p := newProject(t, "QUOIT_IMAGE="+e.image, "QUOIT_MINIO_IMAGE="+minio(t), "QUOIT_NET="+network,
		"QUOIT_PORT="+portOf(manager), "QUOIT_WEB_PORT="+portOf(web), "QUOIT_REDIS_PORT="+portOf(door))
	p.run(t.Context(), "up", "-d")
	token := p.secrets.operator
	c := &cluster{t: t, engine: e, secrets: p.secrets, manage: redis.NewClient(&redis.Options{Addr: manager, Password: token, MaxRetries: -1})}
	t.Cleanup(func() { _ = c.manage.Close() })
	c.until("three nodes to serve", serving(3))

	db, err := quoit.Open(t.Context(), []string{manager}, quoit.WithToken(p.secrets.token))
	c.must(err)
	defer func() { _ = db.Close() }()
	for i := range 100 {
		c.must(db.Put(t.Context(), fmt.Sprint("key:", i), fmt.Append(nil, "value ", i)))
	}

	everyKey := redis.NewClient(&redis.Options{Addr: door, Password: token})
	defer func() { _ = everyKey.Close() }()
	stranger := redis.NewClient(&redis.Options{Addr: door})
	defer func() { _ = stranger.Close() }()
	if err := stranger.Get(t.Context(), "key:1").Err(); !isNoAuth(err) {
		t.Errorf("through the Redis door a stranger is answered %v", err)
	}
	if value, err := everyKey.Get(t.Context(), "key:1").Result(); err != nil || value != "value 1" {
		t.Errorf("through the Redis door key:1 is %q, %v", value, err)
	}
	// A page of the gateway goes by it, and straight to what nodes publish.
	origin := "http://localhost:" + portOf(web)
	for _, n := range db.Topology().Nodes {
		straight := "ws://" + strings.TrimSuffix(n.Address, "7401") + "7481/v1/node/" + n.Address
		if len(n.Endpoints) != 1 || n.Endpoints[0].URL != straight {
			t.Errorf("%s publishes %v, want %s", n.Address, n.Endpoints, straight)
			continue
		}
		for _, url := range []string{straight, "ws://localhost:" + portOf(web) + "/v1/node/" + n.Address} {
			if got := pageSays(t, url, origin, "AUTH "+token+"\r\nPING\r\n", 2); got != "+OK\r\n+PONG\r\n" {
				t.Errorf("%s answers %q", url, got)
			}
			if got := pageSays(t, url, origin, "GET key:1\r\n", 1); !strings.HasPrefix(got, "-NOAUTH ") {
				t.Errorf("%s answers a page without a token %q", url, got)
			}
		}
	}

	p.run(t.Context(), "--profile", "grow", "up", "-d")
	fourth, fifth := network+".14:7401", network+".15:7401"
	c.until("two more nodes to register", func(s status) bool { return upAt(s, fourth, true) && upAt(s, fifth, true) })
	c.order("ADD", fourth, fifth)
	c.until("five nodes to serve", serving(5))

	p.run(t.Context(), "kill", "node-2")
	p.run(t.Context(), "start", "node-2")
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		value, err := db.Get(ctx, fmt.Sprint("key:", i))
		cancel()
		if err != nil || string(value) != fmt.Sprint("value ", i) {
			t.Errorf("key:%d holds %q, %v", i, value, err)
		}
	}
}
