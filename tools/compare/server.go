package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/internal/freeport"
)

// server is a process that is started, measured and stopped.
type server struct {
	name, port string
	args       []string
	env        []string
	dir        string
	pinned     bool
	ready      func(ctx context.Context, s *server) error // nil: it answers DBSIZE

	cmd  *exec.Cmd
	said *tail
	gone chan struct{} // closed when the process has ended
}

func freePort() (string, error) {
	address, err := freeport.Address()
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	return port, err
}

func newRedis(dir string, args ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return &server{
		name: "redis", port: port, dir: dir,
		args: append([]string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", ""}, args...),
	}, nil
}

// newQuoit is a cluster of one node: the manager in the same process does nothing
// while nothing moves.
func newQuoit(dir, binary, fsync string) (*server, error) {
	for {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		n, _ := strconv.Atoi(port)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n+1))
		if err != nil || n > 65000 {
			continue
		}
		return &server{
			name: "quoit", port: strconv.Itoa(n + 1), dir: dir, env: []string{"QUOIT_FSYNC=" + fsync},
			args: []string{binary, "up", "--nodes", "1", "--port", port, "--data", dir},
		}, l.Close()
	}
}

func newCeiling() (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	return &server{name: "ceiling", port: port, dir: os.TempDir(), args: []string{self, "echo", "127.0.0.1:" + port}, ready: dials}, err
}

// newMinIO is an S3 store with one bucket, called quoit: what the tests use, too.
func newMinIO(dir string) (*server, error) {
	program, err := minioProgram()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	// A folder beside its own is a bucket for MinIO.
	if err := os.MkdirAll(filepath.Join(dir, "data", "quoit"), 0o755); err != nil {
		return nil, err
	}
	return &server{
		name: "minio", port: port, dir: dir, ready: healthy,
		args: []string{program, "server", "--quiet", "--address", "127.0.0.1:" + port, "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "data")},
		env:  append(minioKeys(), "HOME="+dir, "MINIO_BROWSER=off", "MINIO_UPDATE=off"),
	}, nil
}

// minioKeys are what both MinIO and Quoit take their keys from.
func minioKeys() []string {
	return []string{"MINIO_ROOT_USER=quoit-compare", "MINIO_ROOT_PASSWORD=quoit-compare"}
}

// minioProgram is where the tests find it, too.
func minioProgram() (string, error) {
	if path := os.Getenv("QUOIT_TEST_MINIO"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("minio"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "quoit", "tools", "minio")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no MinIO (%w): build it once with `go tool -modfile=tools/task/go.mod task tools:minio`, or name one in QUOIT_TEST_MINIO", err)
	}
	return path, nil
}

func (s *server) address() string { return "127.0.0.1:" + s.port }

// start returns when the server answers.
func (s *server) start(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		return err
	}
	return s.await(ctx)
}

// launch starts the process, which is stopped when ctx ends.
func (s *server) launch(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	args := s.args
	if s.pinned {
		args = append([]string{"taskset", "-c", "0"}, args...)
	}
	s.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 20 * time.Second
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), s.env...)
	if s.pinned {
		s.cmd.Env = append(s.cmd.Env, "GOMAXPROCS=1")
	}
	s.said, s.gone = &tail{}, make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	if err := s.cmd.Start(); err != nil {
		close(s.gone)
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	go func(cmd *exec.Cmd, gone chan struct{}) {
		defer close(gone)
		_ = cmd.Wait() // how it ended is in what it said
	}(s.cmd, s.gone)
	return nil
}

// await returns when the server answers.
func (s *server) await(ctx context.Context) error {
	ready := s.ready
	if ready == nil {
		ready = func(_ context.Context, s *server) error { _, err := s.dbsize(); return err }
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := ready(ctx, s)
		if err == nil {
			return nil
		}
		select {
		case <-s.gone:
			return fmt.Errorf("%s ended instead of starting:\n%s", s.name, s.said)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", s.name, err, s.said)
		}
	}
}

func (s *server) kill() { s.end(syscall.SIGKILL) }

func (s *server) stop() { s.end(syscall.SIGTERM) }

func (s *server) end(with syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(with) // it may be gone already
	select {
	case <-s.gone:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.gone
	}
}

// dbsize asks how many keys there are: a server that loads refuses.
func (s *server) dbsize() (int, error) {
	c, err := dial(s.address())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	text, err := c.do("DBSIZE")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// lives says that the process has not ended.
func (s *server) lives() error {
	select {
	case <-s.gone:
		return fmt.Errorf("%s has ended:\n%s", s.name, s.said)
	default:
		return nil
	}
}

func dials(_ context.Context, s *server) error {
	c, err := net.DialTimeout("tcp", s.address(), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func healthy(ctx context.Context, s *server) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address()+"/minio/health/cluster", nil)
	if err != nil {
		return err
	}
	asker := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := asker.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// cpuTime is the CPU time that the server has used, user and system.
func (s *server) cpuTime() (time.Duration, error) { return s.ticks(11, 12) }

// childTime is that of its children that have ended: Redis forks for a snapshot.
func (s *server) childTime() (time.Duration, error) { return s.ticks(13, 14) }

// ticks sums fields of /proc/PID/stat, counted behind the program's name.
func (s *server) ticks(fields ...int) (sum time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	all := strings.Fields(rest)
	for _, i := range fields {
		if i >= len(all) {
			return 0, fmt.Errorf("cannot read the CPU time of %s", s.name)
		}
		n, _ := strconv.Atoi(all[i])
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}

// resident is the memory of the server, and the most that it has been since
// forgetPeak.
func (s *server) resident() (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &now)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	return now << 10, peak << 10, nil
}

func (s *server) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0)
}

// tail keeps the last of what a process says.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 64<<10 {
		t.b.Next(t.b.Len() / 2)
	}
	return t.b.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
