package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/quoitdb/quoit/protocol"
)

// startRedis starts a real redis-server for one test, or skips it.
func startRedis(t *testing.T, settings ...string) (address string, db *redis.Client) {
	t.Helper()
	path := need.Program(t, "redis-server")
	address = freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(path, append([]string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--daemonize", "no",
	}, settings...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "Ready to accept connections") {
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("redis-server ended before it was ready")
	case <-time.After(30 * time.Second):
		t.Fatal("redis-server was not ready within 30 s")
	}
	db = redis.NewClient(&redis.Options{Addr: address, Password: passwordIn(settings)})
	t.Cleanup(func() { _ = db.Close() })
	return address, db
}

func passwordIn(settings []string) string {
	if i := slices.Index(settings, "--requirepass"); i >= 0 {
		return settings[i+1]
	}
	return ""
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestARealRedisIsReadWithItsTimesToLive(t *testing.T) {
	address, db := startRedis(t)
	ctx := t.Context()
	want := map[string]string{"empty": "", "\xff\x00\r\n": "\x00\xfe", "large": strings.Repeat("x", 5<<20)}
	pipe := db.Pipeline()
	for i := range 3000 { // several pages
		want[fmt.Sprint("key:", i)] = fmt.Sprint("value ", i)
	}
	for k, v := range want {
		pipe.Set(ctx, k, v, 0)
	}
	pipe.Set(ctx, "session", "s", time.Hour)
	pipe.Set(ctx, "number", "0", 0)
	pipe.IncrBy(ctx, "number", 41) // kept as an integer inside
	want["number"] = "41"
	want["session"] = "s"
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	items, err := collect(Redis(ctx, "redis://"+address, nil))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, item := range items {
		got[item.Key] = string(item.Value)
		switch {
		case item.Key != "session" && item.TTL != 0:
			t.Errorf("%q has a time to live of %v, and had none", item.Key, item.TTL)
		case item.Key == "session" && (item.TTL > time.Hour || item.TTL < 59*time.Minute):
			t.Errorf("an hour to live became %v", item.TTL)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%q came as %d bytes, want %d", k, len(got[k]), len(v))
		}
	}
}

func TestOtherTypesAreNamedOrSkippedAndCounted(t *testing.T) {
	address, db := startRedis(t)
	ctx := t.Context()
	for _, err := range []error{
		db.Set(ctx, "string", "s", 0).Err(), db.RPush(ctx, "queue", "a", "b").Err(), db.HSet(ctx, "user", "name", "Ada").Err(),
		db.ZAdd(ctx, "scores", redis.Z{Score: 1, Member: "a"}).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := collect(Redis(ctx, "redis://"+address, nil))
	mustContain(t, err, "holds strings", "--skip-other-types", address)

	skipped := make(map[string]string)
	items, err := collect(Redis(ctx, "redis://"+address, func(key, kind string) { skipped[key] = kind }))
	if err != nil {
		t.Fatal(err)
	}
	sameItems(t, items, []Item{{Key: "string", Value: []byte("s")}})
	if len(skipped) != 3 || skipped["queue"] != "list" || skipped["user"] != "hash" || skipped["scores"] != "zset" {
		t.Errorf("skipped %v", skipped)
	}
}

func TestPasswordsAndDatabasesOfARedis(t *testing.T) {
	address, db := startRedis(t, "--requirepass", "s3cret/!")
	ctx := t.Context()
	if err := db.Set(ctx, "here", "0", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := db.Do(ctx, "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	other := redis.NewClient(&redis.Options{Addr: address, Password: "s3cret/!", DB: 5})
	defer other.Close()
	if err := other.Set(ctx, "there", "5", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"redis://:s3cret%2F%21@" + address:           "here",
		"redis://default:s3cret%2F%21@" + address:    "here",
		"redis://reader:pw@" + address + "/5":        "there",
		"redis://:s3cret%2F%21@" + address + "/5?x=": "there",
	} {
		items, err := collect(Redis(ctx, url, nil))
		if err != nil || len(items) != 1 || items[0].Key != want {
			t.Errorf("%s: %q, %v; want %s", url, items, err, want)
		}
	}
	for url, want := range map[string]string{
		"redis://" + address:                           "NOAUTH",
		"redis://:wrong@" + address:                    "WRONGPASS",
		"redis://:s3cret%2F%21@" + address + "/100":    "out of range",
		"redis://:s3cret%2F%21@" + address + "/orders": "not an integer",
	} {
		_, err := collect(Redis(ctx, url, nil))
		mustContain(t, err, want, address)
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wrong@") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestRedisAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"redis://h:1":        "h:1",
		"redis://h":          "h:6379",
		"redis://[::1]":      "[::1]:6379",
		"redis://[::1]:7/2":  "[::1]:7",
		"redis://:pw@h:1/15": "h:1",
	} {
		got, err := parseRedisURL(address)
		if err != nil || got.host != want {
			t.Errorf("%s: %q, %v; want %s", address, got.host, err, want)
		}
	}
	for address, want := range map[string]string{
		"redis://":                 "want redis://",
		"h:6379":                   "want redis://",
		"http://:geheim@h:1":       "want redis://",
		"rediss://:geheim@h:1":     "TLS",
		"redis://:geheim@h:1:2/%%": "no URL",
	} {
		err := CheckRedis(address)
		mustContain(t, err, want)
		if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// fakeRedis answers each request with what the function says, raw; "" hangs up.
func fakeRedis(t *testing.T, answer func(args []string) string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				converse(c, answer)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return "redis://" + l.Addr().String()
}

func converse(c net.Conn, answer func(args []string) string) {
	var parser protocol.RequestParser
	var in []byte
	buf := make([]byte, 4096)
	for {
		args, n, err := parser.Next(in)
		if err != nil {
			return
		}
		if n == 0 {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:n]...)
			continue
		}
		words := make([]string, len(args))
		for i, a := range args {
			words[i] = string(a)
		}
		in = bytes.Clone(in[n:])
		reply := answer(words)
		if reply == "" {
			return
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
	}
}

const onePage = "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n"

// normal is a Redis with the string key k.
func normal(args []string) string {
	switch args[0] {
	case "PING":
		return "+PONG\r\n"
	case "SCAN":
		return onePage
	case "TYPE":
		return "+string\r\n"
	case "STRLEN":
		return ":1\r\n"
	case "GET":
		return "$1\r\nv\r\n"
	case "PTTL":
		return ":-1\r\n"
	}
	return "-ERR unknown command\r\n"
}

// instead answers one command otherwise.
func instead(command, reply string) func([]string) string {
	return func(args []string) string {
		if args[0] == command {
			return reply
		}
		return normal(args)
	}
}

func TestARedisThatMisbehavesIsAnErrorAndNeverAWrongValue(t *testing.T) {
	for name, c := range map[string]struct {
		answer func([]string) string
		want   string
	}{
		"hangs up at once":      {instead("PING", ""), "hung up"},
		"is still loading":      {instead("PING", "-LOADING Redis is loading the dataset in memory\r\n"), "LOADING"},
		"is something else":     {instead("PING", "HTTP/1.1 400 Bad Request\r\n"), "reply"},
		"hangs up in the walk":  {instead("GET", ""), "hung up"},
		"forbids SCAN":          {instead("SCAN", "-NOPERM no permissions to run SCAN\r\n"), "NOPERM"},
		"SCAN of another shape": {instead("SCAN", "*1\r\n$1\r\n0\r\n"), "1 elements, not 2"},
		"forbids STRLEN":        {instead("STRLEN", "-NOPERM no permissions\r\n"), "NOPERM"},
		"forbids GET":           {instead("GET", "-NOPERM no permissions\r\n"), "NOPERM"},
		"forbids PTTL":          {instead("PTTL", "-NOPERM no permissions\r\n"), "NOPERM"},
		"a value beyond limits": {instead("STRLEN", ":67108865\r\n"), "67108865 bytes"},
		"a reply without bound": {instead("GET", "$9223372036854775807\r\n"), "at most"},
		"is part of a cluster":  {instead("GET", "-MOVED 3999 127.0.0.1:6381\r\n"), "MOVED"},
	} {
		t.Run(name, func(t *testing.T) {
			items, err := collect(Redis(t.Context(), fakeRedis(t, c.answer), nil))
			mustContain(t, err, c.want)
			if len(items) > 0 {
				t.Errorf("gave %q before the error", items)
			}
		})
	}
}

func TestKeysThatGoWhileTheyAreReadAreLeftOut(t *testing.T) {
	for name, answer := range map[string]func([]string) string{
		"before they are described":  instead("TYPE", "+none\r\n"),
		"before they are read":       instead("GET", "$-1\r\n"),
		"replaced by another type":   instead("GET", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
		"before their time is known": instead("PTTL", ":-2\r\n"),
		"in this very millisecond":   instead("PTTL", ":0\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			items, err := collect(Redis(t.Context(), fakeRedis(t, answer), nil))
			if err != nil || len(items) > 0 {
				t.Errorf("%q, %v; want nothing", items, err)
			}
		})
	}
}

func TestNobodyAtTheAddressOfARedis(t *testing.T) {
	address, release, err := freeport.Held()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = collect(Redis(t.Context(), "redis://"+address, nil))
	mustContain(t, err, "no Redis at "+address, "refused")
}

// Ctrl-C must not wait for a Redis that has stopped answering.
func TestAWaitForARedisEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	url := fakeRedis(t, func(args []string) string {
		if args[0] == "SCAN" {
			cancel()
			<-release
		}
		return normal(args)
	})
	_, err := collect(Redis(ctx, url, nil))
	close(release)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestTheWalkStopsWhenTheReceiverHasEnough(t *testing.T) {
	url := fakeRedis(t, instead("SCAN", "*2\r\n$1\r\n7\r\n*1\r\n$1\r\nk\r\n")) // never ends
	n := 0
	for _, err := range Redis(t.Context(), url, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d items", n)
	}
}

// What is asked for at once is bounded in bytes, not only in keys.
func TestLargeValuesAreReadAFewAtATime(t *testing.T) {
	for _, c := range []struct {
		sizes []int64
		want  int
	}{
		{[]int64{1}, 1},
		{[]int64{1, 2, 3}, 3},
		{[]int64{redisBytes / 2, redisBytes / 2, 1}, 2},
		{[]int64{0, 0, redisBytes, 1, 0}, 3},
		{[]int64{MaxValue, MaxValue}, 1},
		{[]int64{1, MaxValue}, 1},
	} {
		var keys []redisKey
		for _, size := range c.sizes {
			keys = append(keys, redisKey{"k", size})
		}
		if got := fitting(keys); got != c.want {
			t.Errorf("of %v, %d at once, want %d", c.sizes, got, c.want)
		}
	}
}
