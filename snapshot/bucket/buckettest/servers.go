package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// startTime bounds how long a server may take to come up on a busy machine.
const startTime = time.Minute

// A Server is an S3 store in a process of its own, with one bucket in it.
type Server struct {
	S3
	name  string
	args  []string
	env   []string
	ready func(context.Context) error

	cmd  *exec.Cmd
	log  *syncBuffer
	gone chan struct{}
}

// MinIO starts a MinIO server, the reference for what Quoit needs of a store. A
// test is skipped where the program is missing; with QUOIT_TEST_REQUIRE=minio it
// fails.
func MinIO(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "minio")
	dir := t.TempDir()
	s.args = append(s.args, "server", "--quiet", "--address", s.address(), "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "data"))
	s.env = []string{
		"HOME=" + dir, "MINIO_ROOT_USER=" + s.Keys.Access, "MINIO_ROOT_PASSWORD=" + s.Keys.Secret,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}
	// Not "ready", which says so before the server has come as far as to answer requests.
	s.ready = func(ctx context.Context) error { return healthy(ctx, s.Endpoint+"/minio/health/cluster") }
	s.begin(t)
	return s
}

// VersityGW starts a versitygw server over a folder: a store that takes conditions
// and does not decide them atomically, which Quoit must refuse.
func VersityGW(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "versitygw")
	dir := t.TempDir()
	for _, sub := range []string{"iam", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.args = append(s.args, "--port", s.address(), "--health", "/health", "--iam-dir", filepath.Join(dir, "iam"), "--quiet", "posix", filepath.Join(dir, "data"))
	s.env = []string{"HOME=" + dir, "ROOT_ACCESS_KEY=" + s.Keys.Access, "ROOT_SECRET_KEY=" + s.Keys.Secret}
	s.ready = func(ctx context.Context) error { return healthy(ctx, s.Endpoint+"/health") }
	s.begin(t)
	return s
}

// newServer looks a program up and finds a port for it.
func newServer(t testing.TB, name string) *Server {
	t.Helper()
	program := Program(t, name)
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return &Server{
		S3: S3{
			Endpoint: "http://" + address,
			Keys:     bucket.S3Keys{Access: "quoit-test", Secret: rand.Text()},
		},
		name: name, args: []string{program}, log: new(syncBuffer),
	}
}

func (s *Server) address() string { return strings.TrimPrefix(s.Endpoint, "http://") }

// begin starts the server for the first time, and stops it with the test.
func (s *Server) begin(t testing.TB) {
	t.Helper()
	t.Cleanup(s.Stop)
	s.Start(t)
	if err := s.createBucket(t.Context()); err != nil {
		t.Fatalf("%s: %v\n%s", s.name, err, s.log)
	}
}

// Start starts the server again after Stop, at the same address and with the same
// data, and returns when it is ready.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env, s.log, s.log
	s.cmd.SysProcAttr = dieWithParent()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone, cmd := make(chan struct{}), s.cmd
	s.gone = gone
	go func() {
		defer close(gone)
		_ = cmd.Wait() // How it ended matters only before it was ready.
	}()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-gone:
			t.Fatalf("%s ended instead of starting:\n%s", s.name, s.log)
		case <-ctx.Done():
			t.Fatalf("%s is not ready after %v: %v\n%s", s.name, startTime, err, s.log)
		case <-tick.C:
		}
	}
}

// Stop kills the server, as a power cut does, and returns when it is gone.
func (s *Server) Stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		<-s.gone
	}
}

func healthy(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, answer.Status)
	}
	return nil
}

// Program returns the path of a server's program: what QUOIT_TEST_MINIO (or
// QUOIT_TEST_VERSITYGW) says, or the one in PATH, or the one that `task
// tools:minio` has put into the user's cache folder.
func Program(t testing.TB, name string) string {
	t.Helper()
	variable := "QUOIT_TEST_" + strings.ToUpper(name)
	if path := os.Getenv(variable); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return path
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := inCache(name)
	if err == nil {
		return path
	}
	need.Missing(t, name, fmt.Sprintf("%s (%v)", name, err),
		fmt.Sprintf("build it once with `go tool -modfile=tools/task/go.mod task tools:%s`, or name one in %s", name, variable))
	return ""
}

// inCache returns the path of a program in quoit/tools below the cache folder: the
// system's own, or the one that the task takes everywhere.
func inCache(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "quoit", "tools", name)
	if _, err = os.Stat(path); err == nil {
		return path, nil
	}
	if home, homeErr := os.UserHomeDir(); homeErr == nil {
		other := filepath.Join(home, ".cache", "quoit", "tools", name)
		if _, homeErr = os.Stat(other); homeErr == nil && os.Getenv("XDG_CACHE_HOME") == "" {
			return other, nil
		}
	}
	return "", err
}

// syncBuffer is a log that is written by a process and read by a test.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
