package browser

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/quoitdb/quoit/manager"
)

// process is a server as the operating system sees it.
type process struct {
	t    *testing.T
	args []string
	env  []string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd, done := exec.Command(p.args[0], p.args[1:]...), make(chan struct{})
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// kill ends it at once.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop ends it as an operator would, and keeps its log where the test has failed.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
	}
	text, err := os.ReadFile(p.log)
	if err := errors.Join(err, contain.Told(text)); err != nil {
		p.t.Errorf("%s: %v", p.args[1:], err)
	}
	if p.t.Failed() {
		p.t.Logf("log of %s:\n%s", p.args[1:], text[max(0, len(text)-4000):])
	}
}

// fleet is a cluster of processes and a site of somebody's own, which has the three files
// of the client: the pages come from there, and the gateway has its origin in its list.
type fleet struct {
	*stage  // for its pages; nothing of it runs
	binary  string
	dir     string
	manager string
	gateway string
	nodes   map[string]*process
	own     map[string]string // the WebSocket that each node publishes
}

// newFleet runs a manager that waits for so many nodes, and a gateway.
func newFleet(t *testing.T, initial string) *fleet {
	t.Helper()
	need.Program(t, "chromium")
	dir := t.TempDir()
	f := &fleet{stage: &stage{t: t}, dir: dir, binary: filepath.Join(dir, "quoit"), nodes: map[string]*process{}, own: map[string]string{}}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", f.binary, "../../cmd/quoit").CombinedOutput(); err != nil {
		t.Fatalf("build the quoit binary: %v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(dir, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.addr, f.manager, f.gateway = f.address(), f.address(), f.address()
	f.process("manager", "QUOIT_MANAGER_ADDR="+f.manager, "QUOIT_MANAGER_ADMIN_ADDR=off", "QUOIT_MANAGER_INITIAL_NODES="+initial, "QUOIT_MANAGER_MOVES_PER_NODE=16").start()
	f.process("gateway", "QUOIT_GATEWAY_ADDR="+f.gateway, "QUOIT_GATEWAY_ADMIN_ADDR=off", "QUOIT_GATEWAY_REDIS_ADDR=off").start()
	return f
}

func (f *fleet) address() string {
	f.t.Helper()
	address, err := freeport.Address()
	if err != nil {
		f.t.Fatal(err)
	}
	return address
}

func (f *fleet) process(command string, env ...string) *process {
	p := &process{
		t: f.t.(*testing.T), args: []string{f.binary, command}, log: filepath.Join(f.dir, command+strings.ReplaceAll(env[0], ":", "-")+".log"),
		env: append(env, "QUOIT_BUCKET=file://"+filepath.Join(f.dir, "bucket"), "QUOIT_MANAGER_ADDR="+f.manager, "QUOIT_GATEWAY_ORIGINS=http://"+f.addr),
	}
	f.t.Cleanup(p.stop)
	return p
}

// node prepares a node that has a gateway of its own.
func (f *fleet) node() (address string) {
	address, own := f.address(), f.address()
	f.own[address] = "ws://" + own
	f.nodes[address] = f.process("node", "QUOIT_NODE_ADDR="+address, "QUOIT_NODE_ADMIN_ADDR=off", "QUOIT_NODE_GATEWAY_ADDR="+own,
		"QUOIT_NODE_DATA="+filepath.Join(f.dir, "data-"+strings.ReplaceAll(address, ":", "-")), "QUOIT_NODE_TOKENS=32")
	return address
}

// add gives a node that runs its part of the ring.
func (f *fleet) add(node string) {
	f.t.Helper()
	f.eventually("the manager to take the node", func() bool {
		m, err := manager.Dial(f.t.Context(), f.manager, 5*time.Second)
		if err != nil {
			return false
		}
		defer func() { _ = m.Close() }()
		return m.Add(node) == nil // not before it has heard of it
	})
}

// settled waits until so many members serve and nothing moves.
func (f *fleet) settled(members int) {
	f.t.Helper()
	f.eventually("the cluster to settle", func() bool {
		m, err := manager.Dial(f.t.Context(), f.manager, 5*time.Second)
		if err != nil {
			return false
		}
		defer func() { _ = m.Close() }()
		s, err := m.Status()
		serving := 0
		for _, n := range s.Nodes {
			if n.State == "active" && n.Up && n.Serving {
				serving++
			}
		}
		return err == nil && s.Formed && len(s.Moves) == 0 && serving == members
	})
}

// serve serves the site, under the policy that docs/browser.md has for sites of one's
// own.
func (f *fleet) serve() {
	f.t.Helper()
	files := http.FileServerFS(f.site())
	policy := "default-src 'none'; img-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws://" + f.gateway
	for _, own := range f.own {
		policy += " " + own
	}
	serveAt(f.t, f.addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		files.ServeHTTP(w, r)
	}))
}

// open opens a page of the site, and a database in it.
func (f *fleet) open(b *chrome, prefer string) *tab {
	f.t.Helper()
	tab := b.blank("/test.html")
	eval[bool](tab, `window.quoit = await import("/quoit.js");
		window.db = await quoit.connect("http://`+f.gateway+`", { prefer: "`+prefer+`", timeout: 60_000 });
		return true`)
	return tab
}

// TestPagesOutliveANode: a node joins, and another is killed and started again, under two
// pages of a site of its own: one that goes straight to nodes, and one that goes through
// the gateway. No call of theirs fails, no write that was acknowledged is lost, and
// neither misses a change.
func TestPagesOutliveANode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "2")
	victim, other, third := f.node(), f.node(), f.node()
	f.nodes[victim].start()
	f.nodes[other].start()
	f.serve()
	f.settled(2)
	native, err := client.Open(t.Context(), []string{f.manager, other}, client.WithRetryBudget(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = native.Close() })
	fill(t, native)
	b := f.browser()
	direct, through := f.open(b, "direct").live("direct"), f.open(b, "gateway").live("gateway")
	both := []living{direct, through}
	for _, l := range both {
		l.more(20)
		if ways := eval[map[string]int](l.tab, `return life.ways`); len(ways) != 1 || ways[l.name] == 0 {
			t.Errorf("page %s has gone %v", l.name, ways)
		}
	}

	f.nodes[third].start()
	f.add(third)
	f.settled(3)
	for _, l := range both {
		l.more(20)
		l.allow("WebSocket connection to '" + f.own[victim]) // nobody listens there
		l.allow("WebSocket connection to 'ws://" + f.gateway + "/v1/node/" + victim)
	}

	f.nodes[victim].kill()
	for _, l := range both {
		f.eventually("page "+l.name+" to lose the node", func() bool { return eval[bool](l.tab, `return life.lost.includes("`+victim+`")`) })
	}
	f.nodes[victim].start()
	f.settled(3)
	for _, l := range both {
		l.more(50)
	}
	verdicts(t, native, both...)
	if ways := eval[map[string]int](through.tab, `return life.ways`); len(ways) != 1 {
		t.Errorf("the page that was to take the gateway has gone %v", ways)
	}
}
