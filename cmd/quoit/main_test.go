package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// asQuoit makes the test binary the program itself, for tests that need a process.
const asQuoit = "QUOIT_TEST_AS_QUOIT"

func TestMain(m *testing.M) {
	if os.Getenv(asQuoit) != "" {
		main() // never returns
	}
	for _, name := range os.Environ() { // what the person has set is not what is tested
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "QUOIT_") && !strings.HasPrefix(name, "QUOIT_TEST_") {
			os.Unsetenv(name)
		}
	}
	leak.Main(m)
}

// outcome is what a command left.
type outcome struct {
	code     int
	out, err string
}

// quoit runs the program in this process, standard input empty.
func quoit(t *testing.T, args ...string) outcome {
	t.Helper()
	return quoitWith(t.Context(), strings.NewReader(""), args...)
}

func quoitWith(ctx context.Context, in io.Reader, args ...string) outcome {
	var out, err bytes.Buffer
	code := run(ctx, args, in, &out, &err)
	return outcome{code, out.String(), err.String()}
}

// must runs a command that has to succeed, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	o := quoit(t, args...)
	if o.code != 0 {
		t.Fatalf("quoit %q: exit code %d\n%s%s", args, o.code, o.out, o.err)
	}
	return o.out
}

// start starts a cluster of so many nodes, and makes it the one that commands find.
func start(t *testing.T, nodes int) *local.Cluster {
	t.Helper()
	config, err := node.LoadConfig(map[string]string{"QUOIT_FSYNC": "never", "QUOIT_NODE_TOKENS": "8", "QUOIT_NODE_DATA": "-", "QUOIT_BUCKET": "-"}) // durability is tested elsewhere, and few ranges move fast
	if err != nil {
		t.Fatal(err)
	}
	m, err := manager.LoadConfig(map[string]string{"QUOIT_BUCKET": "-", "QUOIT_MANAGER_NODE_TIMEOUT": "1m"}) // a machine that stalls has no nodes that are down
	if err != nil {
		t.Fatal(err)
	}
	c, err := local.Start(t.Context(), local.Options{Dir: t.TempDir(), Nodes: nodes, Port: -1, Node: &config, Manager: &m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("QUOIT_SERVERS", c.Manager())
	t.Setenv("QUOIT_MANAGER_ADDR", c.Manager())
	return c
}

// heard waits until the manager has heard that the nodes serve.
func heard(t *testing.T, c *local.Cluster) {
	t.Helper()
	waitStatus(t, c, func(s manager.Status) bool {
		return !slices.ContainsFunc(s.Nodes, func(n manager.NodeStatus) bool { return !n.Serving })
	})
}

// waitStatus waits until the manager says what is wanted.
func waitStatus(t *testing.T, c *local.Cluster, wanted func(manager.Status) bool) manager.Status {
	t.Helper()
	m, err := manager.Dial(t.Context(), c.Manager(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tick := time.NewTicker(20 * time.Millisecond) // more often, and little is left for what is waited for
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		s, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		if wanted(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the cluster has not become as wanted: %+v", s)
		}
	}
}

// mustSay fails unless a text has all the words.
func mustSay(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}
