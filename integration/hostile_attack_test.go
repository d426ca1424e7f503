package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// plan is what an attack is to be.
type plan struct {
	Inputs, Pace int // how many, and how many a second
	Seed         uint64
	Ports        []port
	Creed        *creed // nil: the cluster believes everyone
}

// port is a listener that is attacked.
type port struct {
	Name, Address string
	Nodes         []string // where it is a gateway that leads to them: it speaks HTTP, and WebSockets are opened there
}

func (p port) web() bool { return len(p.Nodes) > 0 }

// outcome is what an attack was.
type outcome struct {
	Kinds map[string]int // inputs that were sent
	Dials map[string]int // connections by the port that took them
	Took  time.Duration
	CPU   time.Duration // of the attackers themselves
	// What must be 0: answers with something in them that is for friends alone, and
	// sessions of a TLS that is too old.
	Told, Old int64
}

// attackVariable makes this test program the process of an attack, which is a plan.
const attackVariable = "QUOIT_TEST_ATTACK"

// launch has a process of its own attack: what is measured beside it must not wait for
// a scheduler and a collector that serve the attackers, too. They get what the others
// leave of the processors, for in earnest they would have their own.
func launch(ctx context.Context, p plan) (outcome, error) {
	var o outcome
	// Who has next to no time may be too slow to authenticate: this must not fail.
	first := &attack{plan: p, dials: map[string]int{}}
	if err := errors.Join(first.arm(), first.settle(ctx)); err != nil {
		return o, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return o, err
	}
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), attackVariable+"="+string(text))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return o, err
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, 19)
	if err := cmd.Wait(); err != nil {
		return o, err
	}
	return o, json.Unmarshal(out.Bytes(), &o)
}

// attackers is the main function of such a process.
func attackers(text string) error {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	a := &attack{plan: p, pace: rate.NewLimiter(rate.Limit(p.Pace), max(1, p.Pace/50)), kinds: map[string]int{}, dials: map[string]int{}}
	a.left.Store(int64(p.Inputs))
	if err := a.arm(); err != nil {
		return err
	}
	began := time.Now()
	a.begin(context.Background())
	a.crowd.Wait()
	o := outcome{Kinds: a.kinds, Dials: a.dials, Took: time.Since(began), Told: a.told.Load(), Old: a.old.Load()}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	o.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return json.NewEncoder(os.Stdout).Encode(o)
}

// attack is a crowd of attackers that share a budget of inputs and a pace.
type attack struct {
	plan
	pace      *rate.Limiter
	left      atomic.Int64
	crowd     sync.WaitGroup
	arms      arms
	told, old atomic.Int64

	mu    sync.Mutex
	kinds map[string]int // guarded by mu
	dials map[string]int // guarded by mu
}

// crowdPerPort is how many attackers a port has, each with a connection at a time, and
// slowPerPort how many connections that never come to the end of a request.
const (
	crowdPerPort = 8
	slowPerPort  = 16
)

// begin starts the attack; it ends by itself when the budget is spent.
func (a *attack) begin(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var attackers sync.WaitGroup
	for i, p := range a.Ports {
		for j := range crowdPerPort {
			who := uint64(i*crowdPerPort + j)
			v := a.inventor(p, who)
			attackers.Go(func() { a.attacker(ctx, p, v, int(who)) })
		}
		for j := range slowPerPort {
			v := a.inventor(p, uint64(1000+j))
			a.crowd.Go(func() { a.slow(ctx, p, v, j) })
		}
	}
	a.crowd.Go(func() {
		attackers.Wait()
		cancel() // those that are slow end with the others
	})
}

func (a *attack) inventor(p port, who uint64) *inventor {
	return &inventor{Rand: rand.New(rand.NewPCG(a.Seed, who)), nodes: p.Nodes, gateway: p.Address, creed: a.Creed}
}

// spend takes one input from the budget, when its time has come. What was taken is sent,
// also where the attack ends meanwhile.
func (a *attack) spend(ctx context.Context, kind string) bool {
	if a.left.Add(-1) < 0 || a.pace.Wait(context.WithoutCancel(ctx)) != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kinds[kind]++
	return true
}

// dial connects from one of several addresses of this machine, where it has them: so
// many connections would use up the ports of one.
func (a *attack) dial(ctx context.Context, p port, who int) (*line, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+who%100))}}
	nc, err := d.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		d.LocalAddr = nil
		nc, err = d.DialContext(ctx, "tcp", p.Address)
	}
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dials[p.Name]++
	return &line{Conn: nc, tcp: nc.(*net.TCPConn), told: &a.told}, nil
}

// attacker sends inputs, on one connection after the other, until the budget is spent.
func (a *attack) attacker(ctx context.Context, p port, v *inventor, who int) {
	for a.left.Load() > 0 && ctx.Err() == nil {
		l, err := a.dial(ctx, p, who)
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		_ = l.SetDeadline(time.Now().Add(10 * time.Second))
		if a.secure(ctx, l, v) {
			a.call(ctx, l, p, v)
		}
		_ = l.Close()
	}
}

// call is what an attacker does with a connection.
func (a *attack) call(ctx context.Context, l *line, p port, v *inventor) {
	next, open := (*inventor).text, false
	if p.web() {
		next = (*inventor).web
		if open = v.IntN(2) == 0 && a.opened(ctx, l, v); open {
			next = (*inventor).socket
		}
	}
	if p.web() && !open || a.introduced(ctx, l, v, open) {
		a.visit(ctx, l, v, next)
	}
}

// visit sends inputs until the server has enough, or the attacker.
func (a *attack) visit(ctx context.Context, l *line, v *inventor, next func(*inventor) input) {
	for {
		in := next(v)
		if !a.spend(ctx, in.kind) {
			return
		}
		if _, err := l.Write(in.bytes); err != nil && in.after == stay {
			return
		}
		switch in.after {
		case stay:
			if !l.listen(2 * time.Millisecond) {
				return
			}
			continue
		case half:
			if l.half() == nil {
				l.listen(200 * time.Millisecond)
			}
		case silence:
			pause(ctx, 200*time.Millisecond)
			l.reset()
		case reset:
			l.reset()
		case leave:
		}
		return
	}
}

// opened opens a WebSocket; the handshake is an input, too.
func (a *attack) opened(ctx context.Context, l *line, v *inventor) bool {
	if !a.spend(ctx, "handshakes") {
		return false
	}
	if _, err := l.Write(v.headers(v.path())); err != nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(l, 16), nil)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusSwitchingProtocols
}

// slow begins requests and sends a byte of them now and then.
func (a *attack) slow(ctx context.Context, p port, v *inventor, who int) {
	for ctx.Err() == nil && a.spend(ctx, "slow") {
		l, err := a.dial(ctx, p, who)
		if err != nil {
			pause(ctx, time.Second)
			continue
		}
		b := v.request()
		if p.web() {
			b = v.headers(v.path())
		}
		if a.Creed != nil && v.IntN(2) == 0 {
			b = v.hello()
		} else if a.Creed != nil && l.handshake(ctx, a.arms.good) != nil {
			b = nil
		}
		for _, c := range b[:max(0, len(b)-1)] {
			if _, err := l.Write([]byte{c}); err != nil || !pause(ctx, 200*time.Millisecond) {
				break
			}
		}
		_ = l.Close()
	}
}

// line is a connection to a server, with TLS in it or without.
type line struct {
	net.Conn
	tcp    *net.TCPConn
	told   *atomic.Int64
	buffer []byte
}

// listen reads what is answered within a time, and says whether there is more to come.
// What is for friends alone must not be among it.
func (l *line) listen(wait time.Duration) bool {
	if l.buffer == nil {
		l.buffer = make([]byte, 16<<10)
	}
	_ = l.SetReadDeadline(time.Now().Add(wait))
	for got := 0; got < 1<<20; {
		n, err := l.Read(l.buffer)
		if got += n; bytes.Contains(l.buffer[:n], []byte(forFriends)) {
			l.told.Add(1)
		}
		if err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return true
}

// half ends what is sent.
func (l *line) half() error { return l.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// reset has the connection torn down when it is closed.
func (l *line) reset() {
	_ = l.tcp.SetLinger(0)
	_ = l.tcp.Close()
}

// pause waits, unless the attack ends.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
