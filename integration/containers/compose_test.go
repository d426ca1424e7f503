package containers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	quoit "github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/need"
)

// project is what compose.yaml starts, under names and addresses of its own.
type project struct {
	t       *testing.T
	command []string // docker compose, or docker-compose
	env     []string
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
	p.env = append(os.Environ(), settings...)
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

// TestComposeStartsWhatItSays starts compose.yaml as a user does, and dials nothing
// but what the manager's published port and the topology say.
func TestComposeStartsWhatItSays(t *testing.T) {
	t.Parallel()
	e := docker(t)
	manager := freeAddress(t)
	network := fmt.Sprintf("10.75.%d", os.Getpid()%256)
	p := newProject(t, "QUOIT_IMAGE="+e.image, "QUOIT_MINIO_IMAGE="+minio(t), "QUOIT_NET="+network,
		"QUOIT_PORT="+manager[strings.LastIndexByte(manager, ':')+1:])
	p.run(t.Context(), "up", "-d")
	c := &cluster{t: t, engine: e, manage: redis.NewClient(&redis.Options{Addr: manager, MaxRetries: -1})}
	t.Cleanup(func() { _ = c.manage.Close() })
	c.until("three nodes to serve", serving(3))

	db, err := quoit.Open(t.Context(), []string{manager})
	c.must(err)
	defer func() { _ = db.Close() }()
	for i := range 100 {
		c.must(db.Put(t.Context(), fmt.Sprint("key:", i), fmt.Append(nil, "value ", i)))
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
