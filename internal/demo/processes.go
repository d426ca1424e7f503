package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/manager"
)

// ServerCommand are the arguments after which the binary takes "node" or "manager",
// runs that server, and ends with its standard input ([WhileParentLives]).
func ServerCommand() []string { return []string{"demo", "server"} }

// WhileParentLives returns a context that ends when the other end of a pipe is
// closed. The demo holds that end, so its servers end with it however it ends, also
// by SIGKILL. The goroutine behind it ends with the pipe.
func WhileParentLives(ctx context.Context, pipe io.Reader) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, err := io.Copy(io.Discard, pipe)
		cancel(fmt.Errorf("the demo has ended: %w", errors.Join(err, io.EOF)))
	}()
	return ctx
}

// process is one server of the demo: a real operating-system process, so that
// killing it is really killing it.
type process struct {
	name    string // "manager" or the node's address
	binary  string
	command string // "manager" or "node"
	env     []string
	logName string

	mu   sync.Mutex
	cmd  *exec.Cmd     // guarded by mu; nil while stopped
	done chan struct{} // closed when cmd has ended; guarded by mu
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	cmd := exec.Command(p.binary, append(ServerCommand(), p.command)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = apart()
	if _, err := cmd.StdinPipe(); err != nil { // see WhileParentLives; Wait closes it
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killing it is the point: how it ended says nothing
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// signal sends a signal and waits until the process has ended, for at most ten
// seconds; then it is killed.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }
func (p *process) stop() { p.signal(syscall.SIGTERM) }

// fault says why a process that should run has ended; nil while it runs, or was
// stopped on purpose.
func (p *process) fault() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended by itself: %s", p.name, lastLine(p.logName))
	default:
		return nil
	}
}

// lastLine is the last line of a file that says anything.
func lastLine(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	last := "it has logged nothing"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text := strings.TrimSpace(lines.Text()); text != "" {
			last = text
		}
	}
	return last
}

// fleet is every process of the demo.
type fleet struct {
	binary string
	dir    string
	all    []*process

	manager *process
	address string // the manager's
}

func newFleet(binary, dir string) (*fleet, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		return nil, err
	}
	f := &fleet{binary: binary, dir: dir, address: address}
	f.manager = f.add("manager", "manager",
		"QUOIT_MANAGER_ADDR="+f.address, "QUOIT_MANAGER_ADMIN_ADDR=off", "QUOIT_MANAGER_INITIAL_NODES=3", "QUOIT_MANAGER_JOIN=manual")
	return f, nil
}

func (f *fleet) add(name, command string, env ...string) *process {
	bucket := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(f.dir, "bucket"))}
	p := &process{
		name: name, binary: f.binary, command: command, env: append(env, "QUOIT_BUCKET="+bucket.String()),
		logName: filepath.Join(f.dir, strings.ReplaceAll(name, ":", "-")+".log"),
	}
	f.all = append(f.all, p)
	return p
}

// startNode starts a node of its own port and folder.
func (f *fleet) startNode() (*process, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p := f.add(address, "node", "QUOIT_NODE_ADDR="+address, "QUOIT_NODE_ADVERTISE=", "QUOIT_NODE_ADMIN_ADDR=off", "QUOIT_MANAGER_ADDR="+f.address,
		"QUOIT_NODE_DATA="+filepath.Join(f.dir, "node-"+strings.ReplaceAll(address, ":", "-")))
	return p, p.start()
}

// stopAll ends every process: nodes first, so that they can say goodbye.
func (f *fleet) stopAll() {
	var wg sync.WaitGroup
	for _, p := range f.all {
		if p != f.manager {
			wg.Go(p.stop)
		}
	}
	wg.Wait()
	f.manager.stop()
}

// panics says which process has panicked, although it has gone on. It is for the time
// after stopAll.
func (f *fleet) panics() error {
	var errs []error
	for _, p := range f.all {
		log, err := os.ReadFile(p.logName)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was never started
		}
		if err = errors.Join(err, contain.Told(log)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// fault says which process has ended by itself, if one has.
func (f *fleet) fault() error {
	for _, p := range f.all {
		if err := p.fault(); err != nil {
			return err
		}
	}
	return nil
}

// until asks the manager for its status, twenty times a second, until it is as
// wanted. A manager that does not answer, because it was just killed, is asked
// again; a process that ends by itself ends the waiting.
func (f *fleet) until(ctx context.Context, what string, limit time.Duration, wanted func(manager.Status) bool) (manager.Status, error) {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var why error // of the last question that there was time for
	for {
		s, err := f.status(waiting)
		if err == nil && wanted(s) {
			return s, nil
		}
		if waiting.Err() == nil {
			why = err
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if fault := f.fault(); fault != nil {
			return s, fmt.Errorf("while waiting for %s: %w", what, fault)
		}
		select {
		case <-waiting.Done():
			return s, errors.Join(fmt.Errorf("waited %s for %s, in vain", limit, what), why)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (f *fleet) status(ctx context.Context) (s manager.Status, err error) {
	err = f.operate(ctx, func(m *manager.Control) (err error) {
		s, err = m.Status()
		return err
	})
	return s, err
}

func (f *fleet) operate(ctx context.Context, do func(*manager.Control) error) error {
	m, err := manager.Dial(ctx, f.address, 30*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	defer context.AfterFunc(ctx, func() { _ = m.Close() })() // Ctrl-C does not wait for an answer
	return do(m)
}
