package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// snapshotCost is what one snapshot has cost.
type snapshotCost struct {
	took, cpu      time.Duration
	bytes          int64 // of the snapshot
	memory         int64 // more than before
	before, during []time.Duration
}

// quietTime is how long traffic is watched before each snapshot.
const quietTime = 5 * time.Second

// snapshots measures snapshots of the same keys in both servers, with the same
// traffic beside them.
func snapshots(ctx context.Context, o settings) error {
	redis, err := redisWithSnapshots(o)
	if err != nil {
		return err
	}
	quoit, err := newCluster(o, "quoit", clusterOptions{nodes: 1, env: []string{"QUOIT_FSYNC=" + o.fsync, "QUOIT_SNAPSHOT_INTERVAL=0s", "QUOIT_SNAPSHOT_LOG_BYTES=0"}})
	if err != nil {
		return err
	}
	defer redis.stop()
	if err := redis.start(ctx); err != nil {
		return err
	}
	first, err := snapshotRounds(ctx, o, redis, bgsave)
	if err != nil {
		return err
	}
	redis.stop() // its memory and its log are in nobody's way
	defer quoit.stop()
	if err := quoit.start(ctx); err != nil {
		return err
	}
	node := quoit.nodes[0]
	second, err := snapshotRounds(ctx, o, node, takeSnapshot)
	if err != nil {
		return err
	}
	printSnapshots(o, first, second)
	return increments(ctx, o, quoit)
}

func redisWithSnapshots(o settings) (*server, error) {
	args := []string{"--appendonly", "no"}
	switch o.fsync {
	case "never":
	case "always":
		args = []string{"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"}
	default:
		return nil, fmt.Errorf("-fsync %q: want never or always", o.fsync)
	}
	return newRedis(filepath.Join(o.dir, "redis"), args...)
}

// snapshotRounds fills a server and has it take snapshots beside traffic.
func snapshotRounds(ctx context.Context, o settings, s *server, take func(context.Context, *server) (int64, error)) ([]snapshotCost, error) {
	if err := fill(ctx, s, all(o.keys), halfRandom(packed, 0)); err != nil {
		return nil, err
	}
	if _, err := take(ctx, s); err != nil { // the first one makes folders and memory
		return nil, err
	}
	p, err := startProbe(ctx, s, o.rate, o.keys)
	if err != nil {
		return nil, err
	}
	var costs []snapshotCost
	for range o.rounds {
		c, err := oneSnapshot(ctx, s, p, take)
		if err != nil {
			return nil, errors.Join(err, p.end())
		}
		costs = append(costs, c)
	}
	return costs, p.end()
}

func oneSnapshot(ctx context.Context, s *server, p *probe, take func(context.Context, *server) (int64, error)) (c snapshotCost, err error) {
	if err := pause(ctx, time.Second); err != nil { // what the last one has left to do
		return c, err
	}
	calm := time.Now()
	calmCPU, err := s.cpuTime()
	if err != nil {
		return c, err
	}
	if err := pause(ctx, quietTime); err != nil {
		return c, err
	}
	cpu, err := s.cpuTime()
	if err != nil {
		return c, err
	}
	children, err := s.childTime()
	if err != nil {
		return c, err
	}
	if err := s.forgetPeak(); err != nil {
		return c, err
	}
	resident, _, err := s.resident()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if c.bytes, err = take(ctx, s); err != nil {
		return c, err
	}
	ended := time.Now()
	c.took = ended.Sub(began)
	after, err := s.cpuTime()
	if err != nil {
		return c, err
	}
	// What the traffic takes is not the snapshot's.
	share := float64(c.took) / float64(began.Sub(calm))
	c.cpu = after - cpu - time.Duration(float64(cpu-calmCPU)*share)
	_, peak, err := s.resident()
	if err != nil {
		return c, err
	}
	c.memory = peak - resident
	if s.name == "redis" {
		err = forked(ctx, s, children, &c)
	}
	if err := errors.Join(err, pause(ctx, 200*time.Millisecond)); err != nil { // the last answers
		return c, err
	}
	c.before, c.during = p.between(calm, began), p.between(began, ended)
	return c, nil
}

// bgsave has Redis take a snapshot, and returns when the file is in its place.
// Redis itself notices that a tenth of a second later.
func bgsave(ctx context.Context, s *server) (int64, error) {
	name := filepath.Join(s.dir, "dump.rdb")
	before, err := os.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if _, err := s.once("BGSAVE"); err != nil {
		return 0, err
	}
	for tries := 1; ; tries++ {
		now, err := os.Stat(name)
		if err == nil && (before == nil || !os.SameFile(before, now)) {
			return now.Size(), nil
		}
		if tries%1000 == 0 {
			info, err := s.info("persistence")
			if err != nil {
				return 0, err
			}
			if info["rdb_bgsave_in_progress"] == "0" && info["rdb_last_bgsave_status"] != "ok" {
				return 0, errBackground
			}
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
}

var errBackground = errors.New("redis: BGSAVE has failed")

// forked adds what the process that Redis forked has taken.
func forked(ctx context.Context, s *server, before time.Duration, c *snapshotCost) error {
	for {
		info, err := s.info("persistence")
		if err != nil {
			return err
		}
		if info["rdb_bgsave_in_progress"] == "0" {
			if info["rdb_last_bgsave_status"] != "ok" {
				return errBackground
			}
			copied, err := strconv.ParseInt(info["rdb_last_cow_size"], 10, 64)
			if err != nil {
				return err
			}
			after, err := s.childTime()
			c.memory += copied
			c.cpu += after - before
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// info returns a section of INFO.
func (s *server) info(section string) (map[string]string, error) {
	text, err := s.once("INFO", section)
	if err != nil {
		return nil, err
	}
	return infoOf(text), nil
}

func infoOf(text string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		lines[name] = value
	}
	return lines
}

// keeping is what SNAPSHOT STATUS says.
type keeping struct {
	State     string `json:"state"`
	Size      int64  `json:"size"`
	Published uint64 `json:"published"`
	Last      struct {
		Uploaded int64 `json:"uploaded"`
		Reused   int   `json:"reused"`
	} `json:"last"`
}

func (s *server) keeping() (k keeping, err error) {
	text, err := s.once("SNAPSHOT", "STATUS")
	if err != nil {
		return k, err
	}
	return k, json.Unmarshal([]byte(text), &k)
}

// takeSnapshot has a node publish a snapshot.
func takeSnapshot(ctx context.Context, s *server) (int64, error) {
	for { // one that has just begun to serve has not claimed its snapshots yet
		k, err := s.keeping()
		if err == nil && k.State != "starting" {
			break
		}
		if err := errors.Join(pause(ctx, 10*time.Millisecond), s.lives()); err != nil {
			return 0, err
		}
	}
	if _, err := s.once("SNAPSHOT"); err != nil {
		return 0, err
	}
	k, err := s.keeping()
	return k.Size, err
}

// merged are all rounds as one.
type merged struct {
	took, cpu      time.Duration // medians
	bytes, memory  int64         // the last, the most
	before, during []time.Duration
}

func mergedOf(costs []snapshotCost) (m merged) {
	var took, cpu []time.Duration
	for _, c := range costs {
		took, cpu = append(took, c.took), append(cpu, c.cpu)
		m.bytes, m.memory = c.bytes, max(m.memory, c.memory)
		m.before, m.during = append(m.before, c.before...), append(m.during, c.during...)
	}
	slices.Sort(took)
	slices.Sort(cpu)
	m.took, m.cpu = took[len(took)/2], cpu[len(cpu)/2]
	return m
}

func printSnapshots(o settings, first, second []snapshotCost) {
	r, q := mergedOf(first), mergedOf(second)
	raw := float64(o.keys) * (16 + packed)
	fmt.Printf("%d keys of 16 B, values of 50 random and 50 equal bytes, fsync %s, %d requests/s meanwhile, half of them writes; %d snapshots each\n\n",
		o.keys, o.fsync, o.rate, o.rounds)
	fmt.Println("| | Redis `BGSAVE` | Quoit `SNAPSHOT` | ÷ Redis |\n|---|--:|--:|--:|")
	row := func(what, format string, redis, quoit float64) {
		fmt.Printf("| %s | "+format+" | "+format+" | %s |\n", what, redis, quoit, ratio(quoit, redis))
	}
	row("seconds, median", "%.2f", r.took.Seconds(), q.took.Seconds())
	row("keys and values, MB/s", "%.0f", raw/r.took.Seconds()/1e6, raw/q.took.Seconds()/1e6)
	row("CPU, seconds", "%.2f", r.cpu.Seconds(), q.cpu.Seconds())
	row("memory meanwhile, MiB more", "%.1f", float64(r.memory)/(1<<20), float64(q.memory)/(1<<20))
	row("bytes stored for a key", "%.1f", float64(r.bytes)/float64(o.keys), float64(q.bytes)/float64(o.keys))
	for _, share := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"longest", 1}} {
		row(share.name+" before, ms", "%.2f", ms(quantile(r.before, share.at)), ms(quantile(q.before, share.at)))
		row(share.name+" during, ms", "%.2f", ms(quantile(r.during, share.at)), ms(quantile(q.during, share.at)))
	}
	fmt.Printf("\nrequests during the snapshots: %d and %d\n\n", len(r.during), len(q.during))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// increments measures the snapshot after some keys have changed.
func increments(ctx context.Context, o settings, c *cluster) error {
	node := c.nodes[0]
	if _, err := takeSnapshot(ctx, node); err != nil {
		return err
	}
	fmt.Println("| changed since the last snapshot | seconds | bytes uploaded | of all | parts written | parts shared |\n|---|--:|--:|--:|--:|--:|")
	random := rand.New(rand.NewPCG(1, 2))
	for i, changed := range []int{0, 1, o.keys / 10_000, o.keys / 100} {
		keys := random.Perm(o.keys)[:changed]
		if err := fill(ctx, node, keys, halfRandom(packed, uint64(i+1))); err != nil {
			return err
		}
		before, err := node.keeping()
		if err != nil {
			return err
		}
		began := time.Now()
		size, err := takeSnapshot(ctx, node)
		if err != nil {
			return err
		}
		took := time.Since(began)
		k, err := node.keeping()
		if err != nil {
			return err
		}
		if k.Published == before.Published {
			k.Last.Uploaded, k.Last.Reused = 0, 0
			fmt.Printf("| %d keys | %.3f | 0 | 0.0 %% | none: there is no new snapshot | |\n", changed, took.Seconds())
			continue
		}
		parts, err := partsOf(ctx, o, c)
		if err != nil {
			return err
		}
		fmt.Printf("| %d keys (%.4g %%) | %.3f | %d | %.1f %% | %d | %d |\n", changed, 100*float64(changed)/float64(o.keys), took.Seconds(),
			k.Last.Uploaded, 100*float64(k.Last.Uploaded)/float64(size), parts-k.Last.Reused, k.Last.Reused)
	}
	return nil
}

// partsOf counts the parts of a node's newest snapshot.
func partsOf(ctx context.Context, o settings, c *cluster) (int, error) {
	var m struct {
		Parts []json.RawMessage `json:"parts"`
	}
	out, err := o.run(ctx, "snapshot", "show", c.nodes[0].address(), "--bucket", c.bucket, "--json")
	if err != nil {
		return 0, err
	}
	err = json.Unmarshal(out, &m)
	return len(m.Parts), err
}

// run calls the quoit tool.
func (o settings) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, o.quoit, args...)
	cmd.Env = append(os.Environ(), minioKeys()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("quoit %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
