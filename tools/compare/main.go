// Command compare measures one Quoit node beside redis-server, with
// redis-benchmark, in one run: each cell is measured on both (and on a Go server
// that answers +OK without looking, the ceiling) in turn, several times, and the
// medians are printed as a table in Markdown with their ratio.
//
// It needs redis-server and redis-benchmark (Debian: redis-server, redis-tools).
// Both servers start empty in temporary folders on free loopback ports and are
// stopped at the end. Figures of one machine at one moment: compare the ratios.
//
//	go run ./tools/compare -what memory     # no persistence beside QUOIT_FSYNC=never
//	go run ./tools/compare -what durable    # appendfsync always beside QUOIT_FSYNC=always
//	go run ./tools/compare -what pinned     # as memory, unpipelined, one core each
//	go run ./tools/compare -what recovery   # start with 1 (-keys) million keys in the log
package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/internal/freeport"
)

type cell struct {
	op                string
	clients, pipeline int
	requests          int
}

type figures struct {
	rps, p50, p99 float64 // requests a second, milliseconds
	cpu           float64 // microseconds of the server's CPU for each request
}

func main() {
	what := flag.String("what", "memory", "memory, durable, pinned, hot or recovery")
	rounds := flag.Int("rounds", 3, "measure each cell so often; the median counts")
	keys := flag.Int("keys", 1_000_000, "size of the keyspace")
	size := flag.Int("size", 64, "bytes in a value")
	binary := flag.String("quoit", "", "the quoit binary (default: build it)")
	flag.Parse()
	if flag.Arg(0) == "echo" {
		fail(echo(flag.Arg(1)))
		return
	}
	fail(run(*what, *rounds, *keys, *size, *binary))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(what string, rounds, keys, size int, binary string) (err error) {
	dir, err := os.MkdirTemp("", "quoit-compare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary == "" {
		binary = filepath.Join(dir, "quoit")
		if out, err := exec.Command("go", "build", "-o", binary, "./cmd/quoit").CombinedOutput(); err != nil {
			return fmt.Errorf("build quoit: %w\n%s", err, out)
		}
	}
	if what == "recovery" {
		return recovery(dir, binary, keys, size)
	}
	servers, cells, pinned, err := setUp(what, dir, binary)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := s.start(); err != nil {
			return err
		}
		defer s.stop()
		if s.name != "ceiling" && what != "durable" {
			if err := fill(s, keys, size); err != nil {
				return err
			}
		}
	}
	return measure(servers, cells, rounds, keys, size, pinned)
}

// setUp says which servers and cells a comparison has.
func setUp(what, dir, binary string) (servers []*server, cells []cell, pinned bool, err error) {
	fsync, redisArgs := "never", []string{"--save", "", "--appendonly", "no"}
	switch what {
	case "memory", "hot":
		for _, p := range []int{1, 16, 64} {
			for _, op := range []string{"GET", "SET"} {
				cells = append(cells, cell{op, 50, p, map[int]int{1: 300_000, 16: 2_000_000, 64: 4_000_000}[p]})
			}
		}
	case "pinned":
		pinned = true
		cells = []cell{{"GET", 50, 1, 300_000}, {"SET", 50, 1, 300_000}}
	case "durable":
		fsync, redisArgs = "always", []string{"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"}
		cells = []cell{{"SET", 1, 1, 10_000}, {"SET", 16, 1, 60_000}, {"SET", 50, 1, 150_000}, {"SET", 256, 1, 250_000}, {"SET", 50, 16, 600_000}}
	default:
		return nil, nil, false, fmt.Errorf("-what %q: want memory, hot, pinned, durable or recovery", what)
	}
	redis, err := newRedis(filepath.Join(dir, "redis"), redisArgs...)
	if err != nil {
		return nil, nil, false, err
	}
	quoit, err := newQuoit(filepath.Join(dir, "quoit-data"), binary, fsync)
	if err != nil {
		return nil, nil, false, err
	}
	servers = []*server{redis, quoit}
	if what != "durable" {
		ceiling, err := newCeiling()
		if err != nil {
			return nil, nil, false, err
		}
		servers = append(servers, ceiling)
	}
	for _, s := range servers {
		s.pinned = pinned
	}
	return servers, cells, pinned, nil
}

// measure runs every cell on every server, in turn, and prints the table.
func measure(servers []*server, cells []cell, rounds, keys, size int, pinned bool) error {
	fmt.Printf("%d B values, %d uniform keys, median of %d\n\n", size, keys, rounds)
	fmt.Println("| clients | pipeline | op | server | requests/s | ÷ Redis | p50 ms | p99 ms | server CPU µs/request | ÷ Redis |")
	fmt.Println("|--:|--:|---|---|--:|--:|--:|--:|--:|--:|")
	for _, c := range cells {
		all := make([][]figures, len(servers))
		for range rounds {
			for i, s := range servers {
				f, err := benchmark(s, c, keys, size, pinned)
				if err != nil {
					return err
				}
				all[i] = append(all[i], f)
			}
		}
		var redis figures
		for i, s := range servers {
			f := median(all[i])
			if i == 0 {
				redis = f
			}
			fmt.Printf("| %d | %d | %s | %s | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", c.clients, c.pipeline, c.op, s.name,
				f.rps, f.rps/redis.rps, f.p50, f.p99, f.cpu, f.cpu/redis.cpu)
		}
	}
	return nil
}

// median takes the median of each figure by itself.
func median(all []figures) figures {
	of := func(get func(figures) float64) float64 {
		list := make([]float64, len(all))
		for i, f := range all {
			list[i] = get(f)
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return figures{
		rps: of(func(f figures) float64 { return f.rps }), p50: of(func(f figures) float64 { return f.p50 }),
		p99: of(func(f figures) float64 { return f.p99 }), cpu: of(func(f figures) float64 { return f.cpu }),
	}
}

// benchmark is one run of redis-benchmark against one server.
func benchmark(s *server, c cell, keys, size int, pinned bool) (figures, error) {
	before, err := s.cpuTime()
	if err != nil {
		return figures{}, err
	}
	args := []string{
		"redis-benchmark", "--csv", "-h", "127.0.0.1", "-p", s.port, "-c", strconv.Itoa(c.clients), "-P", strconv.Itoa(c.pipeline),
		"-n", strconv.Itoa(c.requests), "-r", strconv.Itoa(keys), "-d", strconv.Itoa(size), "-t", strings.ToLower(c.op),
	}
	if pinned {
		args = append([]string{"taskset", "-c", "1"}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		return figures{}, fmt.Errorf("%s: redis-benchmark: %w", s.name, err)
	}
	after, err := s.cpuTime()
	if err != nil {
		return figures{}, err
	}
	f, err := parseCSV(out)
	f.cpu = float64((after - before).Microseconds()) / float64(c.requests)
	return f, err
}

func parseCSV(out []byte) (figures, error) {
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[1]) < 8 {
		return figures{}, fmt.Errorf("redis-benchmark printed %q", out)
	}
	var f figures
	for _, field := range []struct {
		column int
		into   *float64
	}{{1, &f.rps}, {4, &f.p50}, {6, &f.p99}} {
		if *field.into, err = strconv.ParseFloat(rows[1][field.column], 64); err != nil {
			return figures{}, err
		}
	}
	return f, nil
}

// fill writes the keys that redis-benchmark will ask for.
func fill(s *server, keys, size int) error {
	c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	value := strings.Repeat("v", size)
	ended := make(chan error, 1)
	go func() { // every reply is +OK: five bytes
		_, err := io.CopyN(io.Discard, c, int64(keys)*5)
		ended <- err
	}()
	var b bytes.Buffer
	for i := range keys {
		fmt.Fprintf(&b, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", i, size, value)
		if b.Len() > 64<<10 || i == keys-1 {
			if _, err := c.Write(b.Bytes()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	return <-ended
}

// recovery kills each server with its log full and measures how long it takes
// until it answers for all the keys again.
func recovery(dir, binary string, keys, size int) error {
	redis, err := newRedis(filepath.Join(dir, "redis"), "--save", "", "--appendonly", "yes", "--appendfsync", "no",
		"--auto-aof-rewrite-percentage", "0", "--aof-use-rdb-preamble", "no")
	if err != nil {
		return err
	}
	quoit, err := newQuoit(filepath.Join(dir, "quoit-data"), binary, "interval")
	if err != nil {
		return err
	}
	fmt.Printf("%d keys of 16 B with values of %d B, killed and started again\n\n| server | seconds | keys/s | ÷ Redis |\n|---|--:|--:|--:|\n", keys, size)
	var first float64
	for _, s := range []*server{redis, quoit} {
		if err := s.start(); err != nil {
			return err
		}
		if err := fill(s, keys, size); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // both sync once a second at most
		s.kill()
		began := time.Now()
		if err := s.start(); err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		n, err := s.dbsize()
		s.stop()
		if err != nil || n < keys {
			return fmt.Errorf("%s has %d of %d keys after the restart: %w", s.name, n, keys, err)
		}
		if first == 0 {
			first = float64(keys) / took
		}
		fmt.Printf("| %s | %.2f | %.0f | %.2f |\n", s.name, took, float64(keys)/took, float64(keys)/took/first)
	}
	return nil
}

// server is a process that speaks the protocol.
type server struct {
	name, port string
	args       []string
	env        []string
	dir        string
	pinned     bool
	cmd        *exec.Cmd
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
	return &server{name: "redis", port: port, dir: dir, args: append([]string{"redis-server", "--port", port, "--bind", "127.0.0.1"}, args...)}, nil
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
	return &server{name: "ceiling", port: port, dir: os.TempDir(), args: []string{self, "echo", "127.0.0.1:" + port}}, err
}

// start returns when the server answers.
func (s *server) start() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	args := s.args
	if s.pinned {
		args = append([]string{"taskset", "-c", "0"}, args...)
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), s.env...)
	if s.pinned {
		s.cmd.Env = append(s.cmd.Env, "GOMAXPROCS=1")
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if _, err := s.dbsize(); err == nil {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer", s.name)
}

func (s *server) kill() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() }

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// dbsize asks how many keys there are: a server that loads refuses.
func (s *server) dbsize() (int, error) {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+s.port, time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "DBSIZE\r\n"); err != nil {
		return 0, err
	}
	b := make([]byte, 256)
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	n, err := c.Read(b)
	if err != nil {
		return 0, err
	}
	line := strings.TrimSpace(string(b[:n]))
	if s.name == "ceiling" {
		return 0, nil
	}
	if !strings.HasPrefix(line, ":") {
		return 0, errors.New(line)
	}
	return strconv.Atoi(line[1:])
}

// cpuTime is the CPU time that the server has used, user and system.
func (s *server) cpuTime() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read the CPU time of %s", s.name)
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
