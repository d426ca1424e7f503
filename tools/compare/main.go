// Command compare measures Quoit beside redis-server in one run: each cell is
// measured on both (and, where requests are counted, on a Go server that answers
// +OK without looking, the ceiling) in turn, several times, and the medians are
// printed as a table in Markdown with their ratio.
//
// It needs redis-server and redis-benchmark (Debian: redis-server, redis-tools),
// and for restore and requests a MinIO (task tools:minio). All servers start empty
// in temporary folders on free loopback ports, and are stopped at the end, as they
// are when it is interrupted. Figures of one machine at one moment: compare the
// ratios.
//
//	go run ./tools/compare -what memory     # no persistence beside QUOIT_FSYNC=never
//	go run ./tools/compare -what durable    # appendfsync always beside QUOIT_FSYNC=always
//	go run ./tools/compare -what pinned     # as memory, unpipelined, one core each
//	go run ./tools/compare -what recovery   # start with 1 (-keys) million keys in the log
//	go run ./tools/compare -what snapshot   # a snapshot beside BGSAVE, and traffic meanwhile
//	go run ./tools/compare -what restore    # start from a snapshot, from a bucket, and restore
//	go run ./tools/compare -what requests   # what a cluster asks of its bucket in an hour
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// settings are what a measurement can be told.
type settings struct {
	what   string
	rounds int
	keys   int
	size   int           // bytes in a value
	rate   int           // requests a second of the traffic beside a snapshot
	fsync  string        // of the servers that take a snapshot
	span   time.Duration // how long requests to the bucket are counted
	quoit  string        // the binary
	dir    string        // for everything that the servers write
}

// packed is the size of a value where it matters how well values pack: half of
// it random, the other half of equal bytes.
const packed = 100

func main() {
	var s settings
	flag.StringVar(&s.what, "what", "memory", "memory, durable, pinned, hot, recovery, snapshot, restore or requests")
	flag.IntVar(&s.rounds, "rounds", 3, "measure each cell so often; the median counts")
	flag.IntVar(&s.keys, "keys", 1_000_000, "size of the keyspace")
	flag.IntVar(&s.size, "size", 64, "bytes in a value; snapshot and restore have 100, half of them random")
	flag.IntVar(&s.rate, "rate", 2000, "snapshot: requests a second meanwhile, half of them writes")
	flag.StringVar(&s.fsync, "fsync", "never", "snapshot: never, or always, as appendfsync and QUOIT_FSYNC")
	flag.DurationVar(&s.span, "span", 90*time.Second, "requests: how long to count, idle and writing each")
	flag.StringVar(&s.quoit, "quoit", "", "the quoit binary (default: build it)")
	flag.Parse()
	if flag.Arg(0) == "echo" {
		fail(echo(flag.Arg(1)))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, s)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	if s.dir, err = os.MkdirTemp("", "quoit-compare-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.quoit == "" {
		s.quoit = filepath.Join(s.dir, "bin", "quoit") // beside the folders of servers, which have their names
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.quoit, "./cmd/quoit").CombinedOutput(); err != nil {
			return fmt.Errorf("build quoit: %w\n%s", err, out)
		}
	}
	switch s.what {
	case "recovery":
		return recovery(ctx, s)
	case "snapshot":
		return snapshots(ctx, s)
	case "restore":
		return restores(ctx, s)
	case "requests":
		return requests(ctx, s)
	}
	return speeds(ctx, s)
}
