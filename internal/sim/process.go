package sim

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// process is one life of a server or a client. When it has died, nothing that it does
// has an effect any more: its calls to network, disk and bucket fail.
type process struct {
	w    *World
	host string
	name string // with the number of the life
	dead atomic.Bool

	mu     sync.Mutex
	goesOn chan struct{} // closed when it is thawed, nil: it is not frozen; guarded by mu
}

func (p *process) isDead() bool { return p.dead.Load() }

// isFrozen says whether nothing comes from the process or to it. Somebody who is no process
// is never frozen.
func (p *process) isFrozen() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.goesOn != nil
}

// whileFrozen waits until the process goes on, or ctx ends: its calls to network, disk and
// bucket begin and return only then.
func (p *process) whileFrozen(ctx context.Context) {
	p.mu.Lock()
	goesOn := p.goesOn
	p.mu.Unlock()
	if goesOn == nil {
		return
	}
	select {
	case <-goesOn:
	case <-ctx.Done():
	}
}

// freeze stops the process as SIGSTOP does, as far as anybody else can see; it says
// whether it was not frozen already.
func (p *process) freeze() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.goesOn != nil {
		return false
	}
	p.goesOn = make(chan struct{})
	return true
}

// thaw has it go on, with all that has come meanwhile.
func (p *process) thaw() {
	p.mu.Lock()
	goesOn := p.goesOn
	p.goesOn = nil
	p.mu.Unlock()
	if goesOn != nil {
		close(goesOn)
		p.w.net.thaw(p)
	}
}

// gate is a mutex for who sleeps while it has it: while somebody waits for a sync.Mutex
// virtual time stands still, and whoever has it would sleep for ever.
type gate chan struct{}

func (g gate) Lock()   { g <- struct{}{} }
func (g gate) Unlock() { <-g }

// machine runs one server at a time, again after each crash.
type machine struct {
	w     *World
	host  string
	addr  string
	start func(*machine, *process) (stop func(), failed <-chan struct{}, err error)
	clock *clock
	disk  *disk       // nil: it has none
	stale atomic.Bool // somebody must move the data folder away before the next start

	mu     gate
	dice   dice
	life   int
	p      *process       // nil: nothing runs here; guarded by mu
	stop   func()         // ends what is left of p; guarded by mu
	off    bool           // nobody starts anything here; guarded by mu
	old    []former       // processes that go on beside their successor; guarded by mu
	ending sync.WaitGroup // lives that are over and not ended yet
}

func (w *World) newMachine(host, addr string, start func(*machine, *process) (func(), <-chan struct{}, error)) *machine {
	d := w.dice("machine " + host)
	return &machine{mu: make(gate, 1), w: w, host: host, addr: addr, start: start, dice: d, clock: w.newClock(d)}
}

// boot starts a process, unless one runs or the machine is off.
func (m *machine) boot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.p != nil || m.off {
		return
	}
	if m.stale.Swap(false) {
		m.disk.set(func(d *disk) { d.mem = vfs.NewMem() })
	}
	m.life++
	p := &process{w: m.w, host: m.host, name: fmt.Sprintf("%s.%d", m.host, m.life)}
	m.w.net.setDark(m.host, false)
	m.w.trace.note("boot", p.name, nil)
	stop, failed, err := m.start(m, p)
	if err != nil {
		p.dead.Store(true)
		m.w.trace.note("boot failed", fmt.Sprint(p.name, ": ", err), nil)
		m.w.refused(m.host, err)
		m.later()
		return
	}
	m.p, m.stop = p, stop
	m.ending.Go(func() {
		<-failed
		m.bury(p, "superseded process ended by itself")
		if m.crash(p, "ended by itself", false) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.later()
		}
	})
}

// later boots after a while, guarded by mu.
func (m *machine) later() {
	time.AfterFunc(between(m.dice, 5*time.Millisecond, 300*time.Millisecond), m.boot)
}

// crash ends a process at this moment: nil is the one that runs. It says whether there
// was one to end.
func (m *machine) crash(p *process, how string, silent bool) bool {
	m.mu.Lock()
	if m.p == nil || p != nil && m.p != p {
		m.mu.Unlock()
		return false
	}
	p, stop := m.p, m.stop
	m.p, m.stop = nil, nil
	p.dead.Store(true)
	m.w.trace.note("dies", p.name+" "+how, nil)
	if silent {
		m.w.net.setDark(m.host, true)
	}
	m.w.net.die(p, silent)
	m.w.net.unlisten(p)
	if m.disk != nil {
		m.disk.crash()
	}
	m.mu.Unlock()
	p.thaw() // What waits is to fail.
	m.ending.Go(stop)
	return true
}

// running is the process that runs, nil if none does.
func (m *machine) running() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.p
}

// end stops everything for good, and returns when it has ended.
func (m *machine) end() {
	m.mu.Lock()
	m.off = true
	m.mu.Unlock()
	m.crash(nil, "the world ends", false)
	for p := m.formerRunning(); p != nil; p = m.formerRunning() {
		m.bury(p, "superseded process stopped at the end")
	}
	m.ending.Wait()
}

// What is the same for every process is found out once.
var (
	managerDefaults = sync.OnceValue(manager.DefaultConfig)
	nodeDefaults    = sync.OnceValue(node.DefaultConfig)
)

// startManager is the manager's part of boot.
func startManager(m *machine, p *process) (func(), <-chan struct{}, error) {
	w := m.w
	ctx, cancel := context.WithCancel(context.Background())
	c := managerDefaults()
	c.Addr, c.Open, c.AdminAddr, c.Bucket = "0.0.0.0:7400", true, "off", "file:///unused"
	c.Auth = w.authConfig()
	c.InitialNodes, c.Join = w.plan.nodes, manager.JoinManual
	c.Poll, c.NodeTimeout = 500*time.Millisecond, 2*time.Second
	s := manager.Seams{
		Listener: w.net.listen(p, m.addr), Dial: w.net.dialler(p), Bucket: &handle{w.bucket, p},
		Logger: w.logger(p), TrustBucket: true,
	}
	ended, failed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := manager.Run(ctx, c, s)
		if err != nil && !p.isDead() {
			w.trace.note("manager failed", err.Error(), nil)
			w.refused(m.host, err)
		}
		close(failed)
	}()
	return func() { cancel(); <-ended }, failed, nil
}

// startNode is a node's part of boot.
func startNode(m *machine, p *process) (func(), <-chan struct{}, error) {
	w := m.w
	l := w.net.listen(p, m.addr)
	n, err := node.Start(context.Background(), w.nodeConfig(m), node.Seams{
		Listener: l, Dial: w.net.dialler(p), FS: m.disk.mount(p), Bucket: &handle{w.bucket, p},
		Now: m.clock.now, Logger: w.logger(p), Version: "sim",
		Segment: w.plan.segment, Process: m.life,
	})
	if err != nil {
		_ = l.Close()
		m.disk.crash() // the lock of the folder goes with the process
		return nil, nil, err
	}
	failed, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case <-n.Failed():
			w.trace.note("node failed", fmt.Sprint(p.name, ": ", n.Err()), nil)
			if !p.isDead() {
				w.refused(m.host, n.Err())
			}
		case <-stopped:
		}
		close(failed)
	}()
	return func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.Shutdown(ctx) // Of a dead process: everything fails.
		close(stopped)
	}, failed, nil
}

func (w *World) nodeConfig(m *machine) node.Config {
	c := nodeDefaults()
	c.Addr, c.Advertise, c.Open, c.AdminAddr = "0.0.0.0:7401", m.addr, true, "off"
	c.DataDir, c.Bucket, c.ManagerAddr = "/data", "file:///unused", w.manager.addr
	c.Tokens, c.Auth = w.tokensOf(m), w.authConfig()
	c.Log.Segment, c.Limits.Value = 1<<20, 4<<10
	c.Snapshot.Interval = w.plan.snapshots
	c.Snapshot.ArchiveEvery = w.plan.archive
	if w.loss != nil && w.loss.agrees(m) {
		c.AllowOlder, c.AllowEmpty = true, true
	}
	c.Times.Poll = time.Second
	c.Times.Drain = 100 * time.Millisecond
	return c
}

// logger keeps what a process says, if the whole trace is wanted.
func (w *World) logger(p *process) *slog.Logger {
	if w.trace.kept == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(&logLines{w: w, p: p}, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// logLines are beside the trace, and no part of its sum.
type logLines struct {
	w *World
	p *process
}

func (l *logLines) Write(line []byte) (int, error) {
	l.w.trace.say(fmt.Sprintf("log                %s %s", l.p.name, line[:len(line)-1]))
	return len(line), nil
}
