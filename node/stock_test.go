package node

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/need"
	"github.com/redis/go-redis/v9"
)

func (s *solo) port() string {
	_, port, _ := strings.Cut(s.listener.Addr().String(), ":")
	return port
}

func TestRedisCLI(t *testing.T) {
	cli := need.Program(t, "redis-cli")
	s := startSolo(t, soloOptions{})
	out := need.Run(t, "SET greeting \"hello \\xff world\"\nGET greeting\nMGET greeting nobody\nINCR n\nTTL n\nEXPIRE n 100\nNOSUCH\n", cli, "-p", s.port())
	for _, want := range []string{"OK\n", "hello \xff world\n", "\n1\n-1\n1\n", "ERR unknown command"} {
		if !strings.Contains(out, want) {
			t.Errorf("redis-cli did not show %q in\n%s", want, out)
		}
	}
	if out := need.Run(t, "", cli, "-p", s.port(), "--scan"); !strings.Contains(out, "greeting\n") || !strings.Contains(out, "n\n") {
		t.Errorf("--scan:\n%s", out)
	}
	if out := need.Run(t, "", cli, "-p", s.port(), "--bigkeys"); !strings.Contains(out, "2 strings") {
		t.Errorf("--bigkeys:\n%s", out)
	}
	var pipe bytes.Buffer
	for range 1000 {
		pipe.WriteString("*3\r\n$3\r\nSET\r\n$1\r\np\r\n$1\r\nv\r\n")
	}
	if out := need.Run(t, pipe.String(), cli, "-p", s.port(), "--pipe"); !strings.Contains(out, "errors: 0, replies: 1000") {
		t.Errorf("--pipe:\n%s", out)
	}
}

func TestRedisBenchmark(t *testing.T) {
	bench := need.Program(t, "redis-benchmark")
	s := startSolo(t, soloOptions{})
	for _, args := range [][]string{
		{"-n", "2000", "-c", "10", "-q", "-t", "ping,set,get,incr,mset", "-r", "1000"},
		{"-n", "20000", "-c", "50", "-P", "16", "-q", "-t", "set,get", "-d", "64"},
		{"-n", "2000", "-q", "--threads", "2", "SET", "key:__rand_int__", "v"},
	} {
		out := need.Run(t, "", bench, append([]string{"-p", s.port()}, args...)...)
		if !strings.Contains(out, "requests per second") || strings.Contains(strings.ToLower(out), "error") || strings.Contains(out, "WARN") {
			t.Errorf("redis-benchmark %v:\n%s", args, out)
		}
	}
	if n := s.stats.errors.Load(); n != 0 {
		t.Errorf("%d error replies", n)
	}
}

func TestGoRedis(t *testing.T) {
	clock := &fakeClock{at: time.Now()} // which stands still, for the TTL
	s := startSolo(t, soloOptions{clock: clock.now})
	// Nothing is set that a person would not set: HELLO 3 is tried and refused,
	// CLIENT SETINFO is sent. Patience, since what is tried again may count twice.
	c := redis.NewClient(&redis.Options{Addr: s.listener.Addr().String(), ClientName: "tester", DialTimeout: time.Minute, ReadTimeout: time.Minute})
	defer c.Close()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	check("ping", c.Ping(ctx).Err())
	check("set", c.Set(ctx, "a", "1", time.Minute).Err())
	if v, err := c.Get(ctx, "a").Result(); err != nil || v != "1" {
		t.Errorf("get: %q, %v", v, err)
	}
	if _, err := c.Get(ctx, "nobody").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("get of nothing: %v", err)
	}
	if d, err := c.TTL(ctx, "a").Result(); err != nil || d != time.Minute {
		t.Errorf("ttl: %v, %v", d, err)
	}
	if n, err := c.IncrBy(ctx, "n", 41).Result(); err != nil || n != 41 {
		t.Errorf("incrby: %d, %v", n, err)
	}
	if ok, err := c.SetNX(ctx, "a", "2", 0).Result(); err != nil || ok {
		t.Errorf("setnx: %v, %v", ok, err)
	}
	check("mset", c.MSet(ctx, "x", 1, "y", 2).Err())
	if vs, err := c.MGet(ctx, "x", "y", "z").Result(); err != nil || len(vs) != 3 || vs[0] != "1" || vs[2] != nil {
		t.Errorf("mget: %v, %v", vs, err)
	}
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range 500 {
			p.Incr(ctx, "counter")
		}
		return nil
	})
	if err != nil || cmds[499].(*redis.IntCmd).Val() != 500 {
		t.Errorf("pipeline: %v", err)
	}
	keys := 0
	for it := c.Scan(ctx, 0, "", 2).Iterator(); it.Next(ctx); {
		keys++
	}
	if n, err := c.DBSize(ctx).Result(); err != nil || n != int64(keys) || n != 5 {
		t.Errorf("dbsize %d, scanned %d, %v", n, keys, err)
	}
	if n, err := c.Del(ctx, "a", "x", "y", "z").Result(); err != nil || n != 3 {
		t.Errorf("del: %d, %v", n, err)
	}
	if info, err := c.Info(ctx, "server").Result(); err != nil || !strings.Contains(info, "quoit_version:test") {
		t.Errorf("info: %q, %v", info, err)
	}
	if name, err := c.ClientGetName(ctx).Result(); err != nil || name != "tester" {
		t.Errorf("name: %q, %v", name, err)
	}
}
