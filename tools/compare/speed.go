package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
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

// speeds measures requests.
func speeds(ctx context.Context, s settings) error {
	servers, cells, pinned, err := setUp(s)
	if err != nil {
		return err
	}
	for _, server := range servers {
		defer server.stop()
		if err := server.start(ctx); err != nil {
			return err
		}
		if server.name != "ceiling" && s.what != "durable" {
			if err := fill(ctx, server, all(s.keys), equal(s.size)); err != nil {
				return err
			}
		}
	}
	return measure(ctx, servers, cells, s, pinned)
}

// setUp says which servers and cells a comparison has.
func setUp(s settings) (servers []*server, cells []cell, pinned bool, err error) {
	fsync, redisArgs := "never", []string{"--appendonly", "no"}
	switch s.what {
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
		fsync, redisArgs = "always", []string{"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"}
		cells = []cell{{"SET", 1, 1, 10_000}, {"SET", 16, 1, 60_000}, {"SET", 50, 1, 150_000}, {"SET", 256, 1, 250_000}, {"SET", 50, 16, 600_000}}
	default:
		return nil, nil, false, fmt.Errorf("-what %q: want memory, hot, pinned, durable, recovery, snapshot, restore or requests", s.what)
	}
	redis, err := newRedis(filepath.Join(s.dir, "redis"), redisArgs...)
	if err != nil {
		return nil, nil, false, err
	}
	quoit, err := newQuoit(filepath.Join(s.dir, "quoit-data"), s.quoit, fsync)
	if err != nil {
		return nil, nil, false, err
	}
	servers = []*server{redis, quoit}
	if s.what != "durable" {
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
func measure(ctx context.Context, servers []*server, cells []cell, o settings, pinned bool) error {
	fmt.Printf("%d B values, %d uniform keys, median of %d\n\n", o.size, o.keys, o.rounds)
	fmt.Println("| clients | pipeline | op | server | requests/s | ÷ Redis | p50 ms | p99 ms | server CPU µs/request | ÷ Redis |")
	fmt.Println("|--:|--:|---|---|--:|--:|--:|--:|--:|--:|")
	for _, c := range cells {
		all := make([][]figures, len(servers))
		for range o.rounds {
			for i, s := range servers {
				f, err := benchmark(ctx, s, c, o, pinned)
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
func benchmark(ctx context.Context, s *server, c cell, o settings, pinned bool) (figures, error) {
	before, err := s.cpuTime()
	if err != nil {
		return figures{}, err
	}
	args := []string{
		"redis-benchmark", "--csv", "-h", "127.0.0.1", "-p", s.port, "-c", strconv.Itoa(c.clients), "-P", strconv.Itoa(c.pipeline),
		"-n", strconv.Itoa(c.requests), "-r", strconv.Itoa(o.keys), "-d", strconv.Itoa(o.size), "-t", strings.ToLower(c.op),
	}
	if pinned {
		args = append([]string{"taskset", "-c", "1"}, args...)
	}
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
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

// recovery kills each server with its log full and measures how long it takes
// until it answers for all the keys again.
func recovery(ctx context.Context, o settings) error {
	redis, err := newRedis(filepath.Join(o.dir, "redis"), "--appendonly", "yes", "--appendfsync", "no",
		"--auto-aof-rewrite-percentage", "0", "--aof-use-rdb-preamble", "no")
	if err != nil {
		return err
	}
	quoit, err := newQuoit(filepath.Join(o.dir, "quoit-data"), o.quoit, "interval")
	if err != nil {
		return err
	}
	fmt.Printf("%d keys of 16 B with values of %d B, killed and started again\n\n| server | seconds | keys/s | ÷ Redis |\n|---|--:|--:|--:|\n", o.keys, o.size)
	var first float64
	for _, s := range []*server{redis, quoit} {
		defer s.stop()
		if err := s.start(ctx); err != nil {
			return err
		}
		if err := fill(ctx, s, all(o.keys), equal(o.size)); err != nil {
			return err
		}
		if err := pause(ctx, 2*time.Second); err != nil { // both sync once a second at most
			return err
		}
		s.kill()
		began := time.Now()
		if err := s.start(ctx); err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		n, err := s.dbsize()
		s.stop()
		if err != nil || n < o.keys {
			return fmt.Errorf("%s has %d of %d keys after the restart: %w", s.name, n, o.keys, err)
		}
		if first == 0 {
			first = float64(o.keys) / took
		}
		fmt.Printf("| %s | %.2f | %.0f | %.2f |\n", s.name, took, float64(o.keys)/took, float64(o.keys)/took/first)
	}
	return nil
}
