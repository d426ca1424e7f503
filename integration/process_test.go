package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/oracle"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
)

// patience bounds every wait: far above what a healthy cluster takes on a busy
// machine, far below the test's own limit.
const patience = 90 * time.Second

// process is a server as the operating system sees it.
type process struct {
	name string
	args []string
	env  []string
	log  string
	// orders is the file that says what becomes of a node's disk; see order.
	orders string
	disk   string // where it has a file system of its own, if it has

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts the process, with fail points or without.
func (p *process) start(t *testing.T, points string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Env = append(append(os.Environ(), p.env...), failpoint.Variable+"="+points)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(p.cmd, p.done)
}

// ended is closed when the process has ended.
func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// untilEnded waits until it has ended by itself.
func (p *process) untilEnded(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended():
	case <-time.After(patience):
		t.Fatalf("%s still runs", p.name)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s)
}

// stop ends the process however it is: frozen, running or gone.
func (p *process) stop() {
	if p.ended() == nil {
		return
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended():
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.ended()
	}
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// frozen says whether the process is stopped by SIGSTOP.
func (p *process) frozen() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] == 'T'
}

// fleet is a manager and nodes, each a process.
type fleet struct {
	t       *testing.T
	dir     string
	address string // the manager's
	manager *process
	nodes   map[string]*process // by address
}

// newFleet prepares a manager; nothing runs yet.
func newFleet(t *testing.T, initial int) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), address: freeAddress(t), nodes: make(map[string]*process)}
	if err := os.Mkdir(filepath.Join(f.dir, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.manager = f.process("manager", "QUOIT_MANAGER_ADDR="+f.address, "QUOIT_MANAGER_ADMIN_ADDR=off", "QUOIT_MANAGER_MOVES_PER_NODE=16",
		fmt.Sprintf("QUOIT_MANAGER_INITIAL_NODES=%d", initial))
	return f
}

func (f *fleet) process(command string, env ...string) *process {
	name := command
	if command == "node" {
		name = strings.TrimPrefix(env[0], "QUOIT_NODE_ADDR=")
	}
	p := &process{
		name: name, args: []string{command}, log: filepath.Join(f.dir, strings.ReplaceAll(name, ":", "-")+".log"),
		env: append(env, "QUOIT_BUCKET=file://"+filepath.Join(f.dir, "bucket")),
	}
	f.t.Cleanup(func() {
		p.stop()
		log, err := os.ReadFile(p.log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.t.Error(err)
		}
		if err := contain.Told(log); err != nil {
			f.t.Errorf("%s: %v", p.name, err)
		}
		if f.t.Failed() {
			f.t.Logf("log of %s:\n%s", p.name, tail(log, 6000))
		}
	})
	return p
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return b
}

// node prepares a node. It has enough tokens that a third node takes something from
// each of two, and few enough that a test is short.
func (f *fleet) node() *process {
	address := freeAddress(f.t)
	orders := filepath.Join(f.dir, "orders-"+strings.ReplaceAll(address, ":", "-"))
	p := f.process("node", "QUOIT_NODE_ADDR="+address, vfs.AilingVariable+"="+orders, "QUOIT_NODE_ADMIN_ADDR=off", "QUOIT_MANAGER_ADDR="+f.address,
		"QUOIT_NODE_DATA="+filepath.Join(f.dir, "data-"+strings.ReplaceAll(address, ":", "-")), "QUOIT_NODE_TOKENS=32", "QUOIT_WAL_SEGMENT=4MiB")
	p.orders = orders
	f.nodes[address] = p
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// until asks the manager until the status is as wanted.
func (f *fleet) until(what string, wanted func(manager.Status) bool) manager.Status {
	f.t.Helper()
	return untilStatus(f.t, f.address, what, wanted)
}

// untilStatus does something between one question and the next.
func untilStatus(t *testing.T, address, what string, wanted func(manager.Status) bool, meanwhile ...func()) manager.Status {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last manager.Status
	for {
		if s, err := status(t.Context(), address); err == nil {
			if last = s; wanted(s) {
				return s
			}
		}
		select {
		case <-deadline:
			t.Fatalf("waited %s for %s; last status: %+v", patience, what, last)
		case <-tick.C:
			for _, do := range meanwhile {
				do()
			}
		}
	}
}

func status(ctx context.Context, address string) (manager.Status, error) {
	m, err := manager.Dial(ctx, address, 2*time.Second)
	if err != nil {
		return manager.Status{}, err
	}
	defer func() { _ = m.Close() }()
	return m.Status()
}

// operate gives a CLUSTER command, again while the manager is not there.
func operate(t *testing.T, address string, do func(*manager.Control) error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		m, err := manager.Dial(t.Context(), address, 5*time.Second)
		if err == nil {
			err = do(m)
			_ = m.Close()
		}
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// settled is met when n members serve and nothing moves any more.
func settled(n int) func(manager.Status) bool {
	return func(s manager.Status) bool {
		serving := 0
		for _, node := range s.Nodes {
			if node.State == "active" && node.Up && node.Serving {
				serving++
			}
		}
		return s.Formed && len(s.Moves) == 0 && serving == n
	}
}

// known is met when the manager has heard of the node.
func known(address string) func(manager.Status) bool {
	return func(s manager.Status) bool {
		for _, n := range s.Nodes {
			if n.Address == address && n.Up {
				return true
			}
		}
		return false
	}
}

// load is a checked load over a cluster, with keys that do not change beside it.
type load struct {
	t      *testing.T
	db     *client.Client
	work   *oracle.Workload
	static int
	// audited is how many keys the audit has looked at.
	audited int
}

// startLoad fills the cluster with static keys and starts the workers.
func startLoad(t *testing.T, address string) *load {
	t.Helper()
	return startLoadWith(t, address, oracle.Options{})
}

// observedLoad is startLoad with somebody who is told how each operation ended.
func observedLoad(t *testing.T, address string, observe func(error)) *load {
	t.Helper()
	return startLoadWith(t, address, oracle.Options{Observe: func(_ time.Time, _ time.Duration, err error) { observe(err) }})
}

// startLoadWith is startLoad with more than the usual workload.
func startLoadWith(t *testing.T, address string, o oracle.Options) *load {
	t.Helper()
	db, err := client.Open(t.Context(), []string{address}, client.WithDialTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l := &load{t: t, db: db, static: 2000}
	pairs := make([]client.Pair, l.static)
	for i := range pairs {
		pairs[i] = client.Pair{Key: staticKey(i), Value: []byte(staticKey(i) + " " + strings.Repeat("v", 80))}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := db.MPut(ctx, pairs); err != nil {
		t.Fatal(err)
	}
	o.Prefix, o.Workers, o.Registers, o.Rate, o.Timeout = "r:", 6, 40, 600, 60*time.Second
	l.work = oracle.New(db, o)
	l.work.Start(context.WithoutCancel(t.Context()))
	return l
}

func staticKey(i int) string { return fmt.Sprintf("static:%05d", i) }

// readAll reads every key that does not change.
func (l *load) readAll(ctx context.Context, db *client.Client) {
	l.t.Helper()
	keys := make([]string, l.static)
	for i := range keys {
		keys[i] = staticKey(i)
	}
	results, err := db.MGet(ctx, keys...)
	if err != nil {
		l.t.Fatalf("read the keys that stay: %v", err)
	}
	for i, r := range results {
		if !strings.HasPrefix(string(r.Value), keys[i]+" ") {
			l.t.Fatalf("%s: %q", keys[i], r.Value)
		}
	}
}

// audit stops the load and checks every key: none lost, none wrong, none twice.
func (l *load) audit() {
	l.t.Helper()
	l.work.Halt()
	if wrong, faults := l.work.Wrong(); wrong > 0 {
		l.t.Errorf("%d wrong answers: %v", wrong, faults)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*patience) // not the retry budget, which is for impatient callers
	defer cancel()
	checked, lost, err := l.work.Audit(ctx)
	l.audited = checked + l.static
	if err != nil || len(lost) > 0 {
		l.t.Errorf("audit: %v, lost %v", err, lost)
	}
	l.readAll(ctx, l.db)
	least, most := l.work.Present()
	n, err := l.db.Count(ctx)
	if err != nil || n < int64(l.static+least) || n > int64(l.static+most) {
		l.t.Errorf("the nodes count %d keys (%v), want %d to %d: a key is in two places, or in none", n, err, l.static+least, l.static+most)
	}
	seen := make(map[string]bool)
	for entry, err := range l.db.Scan(ctx, client.ScanOptions{}) {
		if err != nil {
			l.t.Fatal(err)
		}
		seen[entry.Key] = true
	}
	if len(seen) < l.static+least || len(seen) > l.static+most {
		l.t.Errorf("a scan gives %d keys, want %d to %d", len(seen), l.static+least, l.static+most)
	}
}
