package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/need"
	"github.com/redis/go-redis/v9"
)

func TestCommandsThroughTheRedisDoor(t *testing.T) {
	_, g := both(t, 3, options{})
	c := g.redis()
	for _, step := range []struct{ request, want string }{
		{"PING", "+PONG"},
		{`SET greeting "hello \xff\r\nworld"`, "+OK"},
		{"GET greeting", "hello \xff\r\nworld"},
		{"MSET a 1 b 2 c 3 d 4 e 5", "+OK"},
		{"MGET e nobody a b", "[5 nil 1 2]"},
		{"EXISTS a b a nobody", ":3"},
		{"DBSIZE", ":6"},
		{"DEL a nobody b", ":2"},
		{"DBSIZE", ":4"},
		{"INCR c", ":4"},
		{"INCR greeting", "-ERR value is not an integer or out of range"},
		{"GETDEL c", "4"},
		{"TTL d", ":-1"},
		{"SET d x EX 100 GET", "4"},
		{"SET d y IFVERSION 1", "-VERSION"},
		{"GETV nobody", "nil"},
		{"SELECT 0", "+OK"},
		{"SELECT 1", "-ERR"},
		{"ECHO hi", "hi"},
		{"CLIENT SETNAME tester", "+OK"},
		{"CLIENT GETNAME", "tester"},
		{"RESET", "+RESET"},
		{"CLIENT GETNAME", "nil"},
		{"HELLO 3", "-NOPROTO"},
		{"AUTH secret", "-ERR AUTH: this gateway has no password"},
		{"TYPE d", "+string"},
		{"NOSUCH x", "-ERR unknown command 'NOSUCH'"},
		{"GET", "-ERR wrong number of arguments for 'GET'"},
		{"MSET a", "-ERR"},
		{"CLUSTER SLOTS", "-NOPERM CLUSTER"},
		{"MIGRATE_RANGE 0 1 x y", "-NOPERM MIGRATE_RANGE"},
		{"SCAN 99999999999", "-ERR invalid cursor"},
		{"SCAN x", "-ERR"},
		{"CONFIG GET maxclients", "[maxclients 10000]"},
		{"QUIT", "+OK"},
	} {
		c.send(step.request + "\r\n")
		if got := c.reply(); !strings.HasPrefix(got, step.want) {
			t.Errorf("%s: %q, want %q", step.request, got, step.want)
		}
	}
	if got := c.reply(); got != "closed" {
		t.Errorf("after QUIT: %q", got)
	}
	other := g.redis()
	if got := other.do("TOPOLOGY"); !strings.HasPrefix(got, "quoit-topology 1\n") {
		t.Errorf("TOPOLOGY: %q", got)
	}
	if got := other.do("INFO"); !strings.Contains(got, "nodes:3") || !strings.Contains(got, "quoit_version:test") {
		t.Errorf("INFO: %q", got)
	}
}

// TestPipelinesKeepTheirOrder sends everything at once: keys of all nodes, requests
// with several keys, errors, and commands about the whole cluster in between.
func TestPipelinesKeepTheirOrder(t *testing.T) {
	_, g := both(t, 3, options{})
	c := g.redis()
	var all strings.Builder
	var want []string
	add := func(reply string, args ...string) {
		all.WriteString(request(args...))
		want = append(want, reply)
	}
	const keys = 300
	for i := range keys {
		k, v := fmt.Sprint("key:", i), strconv.Itoa(i)
		add("+OK", "SET", k, v)
		add(":"+strconv.Itoa(i+1), "INCR", k)
		add("-NOPERM", "CLUSTER", "x")
		add("["+strconv.Itoa(i+1)+" nil]", "MGET", k, "nobody")
	}
	add(":"+strconv.Itoa(keys), "DBSIZE")
	add(":2", "DEL", "key:1", "key:2", "key:1")
	add(":"+strconv.Itoa(keys-2), "DBSIZE")
	for range 1000 {
		add("", "INCR", "same")
	}
	go c.send(all.String())
	for i, w := range want {
		if w == "" {
			w = ":" + strconv.Itoa(i-len(want)+1001)
		}
		if got := c.reply(); !strings.HasPrefix(got, w) {
			t.Fatalf("reply %d: %q, want %q", i, got, w)
		}
	}
}

func TestScanGoesOverAllNodesWithAnyGateway(t *testing.T) {
	cluster, g := both(t, 3, options{})
	second := start(t, cluster.Manager(), options{}).ready()
	doors := []*redisClient{g.redis(), second.redis()}
	want := map[string]bool{}
	for i := range 500 {
		k := fmt.Sprintf("user:%d", i)
		want[k] = true
		doors[0].send(request("SET", k, "x") + request("SET", fmt.Sprintf("other:%d", i), "x"))
		doors[0].reply()
		doors[0].reply()
	}
	cursor, got, calls := "0", map[string]int{}, 0
	for {
		c := doors[calls%2] // a cursor means the same at every gateway
		calls++
		c.send(request("SCAN", cursor, "MATCH", "user:*", "COUNT", "37"))
		reply := strings.Fields(strings.Trim(c.reply(), "[]"))
		for _, key := range reply[1:] {
			got[strings.Trim(key, "[]")]++
		}
		if cursor = reply[0]; cursor == "0" {
			break
		}
	}
	delete(got, "")
	for k := range want {
		if got[k] != 1 {
			t.Errorf("%s was given %d times", k, got[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	if least := 1000 / 37; calls < least {
		t.Errorf("%d pages for 1000 keys of which 37 are looked at", calls)
	}
}

func TestRepliesThatFindNoRoom(t *testing.T) {
	_, g := both(t, 1, options{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 256<<10, 1<<20
	}})
	c := g.redis()
	big := strings.Repeat("x", 250<<10)
	for i := range 8 {
		if got := c.do("SET", fmt.Sprint("k", i), big); got != "+OK" {
			t.Fatal(got)
		}
	}
	if got := c.do("MGET", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"); !strings.HasPrefix(got, "-OVERLOADED") || !strings.Contains(got, "of 8 keys failed") {
		t.Errorf("got %.200s", got)
	}
	// A value that is taken out is given whatever the room: it is nowhere else.
	var all strings.Builder
	for i := range 8 {
		all.WriteString(request("GETDEL", fmt.Sprint("k", i)))
	}
	c.send(all.String())
	for i := range 8 {
		if got := c.reply(); got != big {
			t.Fatalf("value %d: %.100q (%d bytes)", i, got, len(got))
		}
	}
	if got := c.do("SET", "k", strings.Repeat("x", 257<<10)); !strings.HasPrefix(got, "-TOOLARGE") {
		t.Errorf("a value too large: %.100q", got)
	}
}

// TestManyKeysInOneRequestAreCounted: of a few bytes each, they become requests of
// hundreds, before the first of those has been sent.
func TestManyKeysInOneRequestAreCounted(t *testing.T) {
	_, g := both(t, 1, options{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 256<<10, 1<<20
	}})
	c := g.redis()
	keys := func(verb string, n int) []string {
		words := []string{verb}
		for range n {
			words = append(words, "k")
		}
		return words
	}
	if got := c.do(keys("EXISTS", 2000)...); got != ":0" {
		t.Errorf("2000 keys: %.100s", got)
	}
	g.budget.Give(-700 << 10) // others hold it
	for _, words := range [][]string{keys("EXISTS", 2000), keys("DEL", 2000), keys("MGET", 2000), keys("MSET", 4000)} {
		if got := c.do(words...); !strings.HasPrefix(got, "-OVERLOADED the gateway holds") {
			t.Errorf("%s of 2000 keys: %.100s", words[0], got)
		}
	}
	if got := c.do(keys("EXISTS", 1000)...); got != ":0" {
		t.Errorf("1000 keys: %.100s", got)
	}
	g.budget.Give(700 << 10)
	if got := c.do(keys("DEL", 2000)...); got != ":0" {
		t.Errorf("2000 keys when there is room again: %.100s", got)
	}
	if got := c.do("QUIT"); got != "+OK" {
		t.Errorf("QUIT: %s", got)
	}
	waitFor(t, "everything to be given back", func() bool { return g.budget.Used() == 0 })
}

// TestWhatVeryManyArgumentsNeedIsCounted, be the request complete or not.
func TestWhatVeryManyArgumentsNeedIsCounted(t *testing.T) {
	_, g := both(t, 1, options{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 256<<10, 1<<20
	}})
	part := "*100000\r\n" + strings.Repeat("$0\r\n\r\n", 10_000)
	c := g.redis()
	c.send(part)
	waitFor(t, "the arguments to be counted", func() bool { return g.budget.Used() > 400_000 })
	g.budget.Give(-500 << 10) // others hold it
	late := g.redis()
	late.send(part)
	if got := late.reply(); !strings.HasPrefix(got, "-OVERLOADED ") {
		t.Errorf("told %s", got)
	}
	g.budget.Give(500 << 10)
	c.Close()
	waitFor(t, "everything to be given back", func() bool { return g.budget.Used() == 0 })
}

func TestARequestLargerThanTheRoomIsRefused(t *testing.T) {
	_, g := both(t, 1, options{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 256<<10, 1<<20
	}})
	g.budget.Give(-1 << 20) // others hold it all
	c := g.redis()
	c.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n")
	go func() { _, _ = c.Write(bytes.Repeat([]byte("x"), 200_000)) }()
	if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED") {
		t.Errorf("got %.100q", got)
	}
	g.budget.Give(1 << 20)
}

func TestWithoutAClusterClientsAreToldSo(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{config: func(c *Config) { c.Times.Retry = 10 * time.Millisecond }})
	c := g.redis()
	for _, args := range [][]string{{"GET", "a"}, {"MGET", "a", "b"}, {"DBSIZE"}, {"SCAN", "0"}, {"TOPOLOGY"}} {
		if got := c.do(args...); !strings.HasPrefix(got, "-UNAVAILABLE") {
			t.Errorf("%v: %q", args, got)
		}
	}
	if got := c.do("PING"); got != "+PONG" {
		t.Errorf("PING: %q", got)
	}
	waitFor(t, "the reason to be known", func() bool { err := g.Ready(); return err != nil && strings.Contains(err.Error(), "127.0.0.1:1") })
}

func (f *fixture) redisPort() string {
	_, port, _ := strings.Cut(f.RedisAddr(), ":")
	return port
}

func TestRedisCLI(t *testing.T) {
	cli := need.Program(t, "redis-cli")
	_, g := both(t, 3, options{})
	out := need.Run(t, "SET greeting \"hello \\xff world\"\nGET greeting\nMSET a 1 b 2 c 3\nMGET a b c nobody\nDBSIZE\nDEL a b\nNOSUCH\n", cli, "-p", g.redisPort())
	for _, want := range []string{"OK\n", "hello \xff world\n", "\n1\n2\n3\n", "\n4\n", "ERR unknown command"} {
		if !strings.Contains(out, want) {
			t.Errorf("redis-cli did not show %q in\n%s", want, out)
		}
	}
	keys := strings.Fields(need.Run(t, "", cli, "-p", g.redisPort(), "--scan"))
	if slices.Sort(keys); !slices.Equal(keys, []string{"c", "greeting"}) {
		t.Errorf("--scan: %v", keys)
	}
	var pipe strings.Builder
	for i := range 1000 {
		pipe.WriteString(request("SET", fmt.Sprint("p", i), "v"))
	}
	if out := need.Run(t, pipe.String(), cli, "-p", g.redisPort(), "--pipe"); !strings.Contains(out, "errors: 0, replies: 1000") {
		t.Errorf("--pipe:\n%s", out)
	}
}

func TestRedisBenchmark(t *testing.T) {
	bench := need.Program(t, "redis-benchmark")
	_, g := both(t, 2, options{})
	for _, args := range [][]string{
		{"-n", "2000", "-c", "10", "-q", "-t", "ping,set,get,incr,mset", "-r", "1000"},
		{"-n", "20000", "-c", "50", "-P", "16", "-q", "-t", "set,get", "-d", "64", "-r", "1000"},
		{"-n", "2000", "-q", "--threads", "2", "SET", "key:__rand_int__", "v"},
	} {
		out := need.Run(t, "", bench, append([]string{"-p", g.redisPort()}, args...)...)
		if !strings.Contains(out, "requests per second") || strings.Contains(strings.ToLower(out), "error") || strings.Contains(out, "WARN") {
			t.Errorf("redis-benchmark %v:\n%s", args, out)
		}
	}
	if n := g.stats.errors.Load(); n != 0 {
		t.Errorf("%d error replies", n)
	}
}

func TestGoRedis(t *testing.T) {
	_, g := both(t, 3, options{})
	c := redis.NewClient(&redis.Options{
		Addr: g.RedisAddr(), ClientName: "tester",
		// It would send increments again that took longer.
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience, MaxRetries: -1,
	})
	defer c.Close()
	ctx := t.Context()
	if err := c.MSet(ctx, "x", 1, "y", 2, "z", 3).Err(); err != nil {
		t.Fatal(err)
	}
	if vs, err := c.MGet(ctx, "z", "nobody", "x").Result(); err != nil || fmt.Sprint(vs) != "[3 <nil> 1]" {
		t.Errorf("mget: %v, %v", vs, err)
	}
	if _, err := c.Get(ctx, "nobody").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("get of nothing: %v", err)
	}
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 500 {
			p.Incr(ctx, fmt.Sprint("counter", i%5))
		}
		return nil
	})
	if err != nil || cmds[499].(*redis.IntCmd).Val() != 100 {
		t.Errorf("pipeline: %v", err)
	}
	found := 0
	for it := c.Scan(ctx, 0, "counter*", 2).Iterator(); it.Next(ctx); {
		found++
	}
	if n, err := c.DBSize(ctx).Result(); err != nil || n != 8 || found != 5 {
		t.Errorf("dbsize %d, scanned %d, %v", n, found, err)
	}
	if n, err := c.Del(ctx, "x", "y", "z", "w").Result(); err != nil || n != 3 {
		t.Errorf("del: %d, %v", n, err)
	}
	if name, err := c.ClientGetName(ctx).Result(); err != nil || name != "tester" {
		t.Errorf("name: %q, %v", name, err)
	}
}
