package gateway

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// ownKey is a key that a node owns.
func (f *fixture) ownKey(address string) string {
	f.t.Helper()
	topology, err := ring.ParseTopology(f.source.view.Load().text)
	if err != nil {
		f.t.Fatal(err)
	}
	owners, err := topology.Map()
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; ; i++ {
		if key := fmt.Sprint("key:", i); owners.Owner(ring.PositionOfString(key)) == address {
			return key
		}
	}
}

func TestAPageSpeaksToOneNode(t *testing.T) {
	cluster, g := both(t, 2, options{})
	here, there := cluster.Addresses()[0], cluster.Addresses()[1]
	p := g.channel(here)
	mine, other := g.ownKey(here), g.ownKey(there)
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"PING"}, "+PONG"},
		{[]string{"CLIENT", "PARK", "OFF"}, "+OK"},
		{[]string{"SET", mine, "a\x00\r\nb"}, "+OK"},
		{[]string{"GET", mine}, "a\x00\r\nb"},
		{[]string{"GET", other}, "-MOVED "},
		{[]string{"TOPOLOGY"}, "quoit-topology 1\n"},
		{[]string{"MIGRATE_RANGE", "0", "1", "127.0.0.1:1", "m"}, "-NOPERM MIGRATE_RANGE"},
		{[]string{"CLUSTER", "STATUS"}, "-NOPERM CLUSTER"},
		{[]string{"REFRESH", "9"}, "-NOPERM"},
		{[]string{"STAGE_DATA", "m", "1", "x"}, "-NOPERM"},
		{[]string{"NOSUCH"}, "-ERR unknown command 'NOSUCH'"},
		{[]string{"GET"}, "-ERR wrong number of arguments"},
		{[]string{"QUIT"}, "+OK"},
	} {
		if got := p.do(step.args...); !strings.HasPrefix(got, step.want) {
			t.Errorf("%q: %q, want %q", step.args, got, step.want)
		}
	}
	if got := p.reply(); got != "closed 1000" {
		t.Errorf("after QUIT: %s", got)
	}
}

// TestTheClientWorksOverWebSockets gives the Go client channels for connections:
// what a browser will do.
func TestTheClientWorksOverWebSockets(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 3, options{})
	db, err := client.Open(t.Context(), cluster.Addresses(), client.WithDialer(func(ctx context.Context, address string) (client.Conn, error) {
		ws, _, err := g.dialPath("/v1/node/"+address, g.header()) //nolint:bodyclose // the library does
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1)
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	for i := range 200 {
		if err := db.Put(t.Context(), fmt.Sprint("k", i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Put(t.Context(), "big", big); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Get(t.Context(), "big"); err != nil || string(got) != string(big) {
		t.Errorf("a value of several messages: %d bytes, %v", len(got), err)
	}
	found := 0
	for _, err := range db.Scan(t.Context(), client.ScanOptions{Values: true}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != 201 {
		t.Errorf("%d keys", found)
	}
}

// TestOwnRepliesKeepTheirPlace mixes what the node answers with what the gateway
// does, in messages that begin and end anywhere.
func TestOwnRepliesKeepTheirPlace(t *testing.T) {
	cluster, g := both(t, 1, options{})
	p := g.channel(cluster.Addresses()[0])
	p.do("SET", "big", strings.Repeat("x", 100_000))
	var all strings.Builder
	var want []string
	for i := range 3000 {
		switch rand.IntN(6) {
		case 0:
			all.WriteString(request("CLUSTER", "X"))
			want = append(want, "-NOPERM CLUSTER")
		case 1:
			fmt.Fprintf(&all, "ECHO \"%d \\x41\"\r\n\r\n", i)
			want = append(want, fmt.Sprint(i, " A"))
		case 2:
			all.WriteString("NOSUCH\n")
			want = append(want, "-ERR unknown")
		case 3:
			if i%50 == 0 {
				all.WriteString(request("MGET", "big", "nobody"))
				want = append(want, "["+strings.Repeat("x", 100_000)+" nil]")
			}
		default:
			all.WriteString(request("ECHO", fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
	}
	go func() {
		for rest := all.String(); rest != ""; {
			n := min(len(rest), 1+rand.IntN(9000))
			if p.Write(context.Background(), websocket.MessageBinary, []byte(rest[:n])) != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	for i, w := range want {
		if got := p.reply(); !strings.HasPrefix(got, w) {
			t.Fatalf("reply %d: %.100q, want %.100q", i, got, w)
		}
	}
}

func TestTheTopologyIsPushedWhenItChanges(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 1, options{})
	p := g.open("/v1/cluster")
	read := func() ring.Topology {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, text, err := p.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		topology, err := ring.ParseTopology(text)
		if err != nil {
			t.Fatal(err)
		}
		return topology
	}
	first := read()
	if len(first.Nodes) != 1 {
		t.Errorf("first %v", first)
	}
	added, err := cluster.AddNode(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	last := first
	for len(last.Nodes) < 2 || last.Nodes[indexOf(last, added.Address())].Tokens == 0 || len(last.Held) > 0 {
		next := read()
		if next.Epoch < last.Epoch {
			t.Fatalf("epoch %d after %d", next.Epoch, last.Epoch)
		}
		last = next
	}
	// The new node can be reached at once.
	for _, n := range last.Nodes {
		if got := g.channel(n.Address).do("PING"); got != "+PONG" {
			t.Errorf("%s: %s", n.Address, got)
		}
	}
	p.send("hello?")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for err == nil { // a topology may have been on its way
		_, _, err = p.Read(ctx)
	}
	if websocket.CloseStatus(err) != CloseProtocol {
		t.Errorf("after something was sent: %v", err)
	}
}

func TestANodeThatEndsClosesItsChannels(t *testing.T) {
	cluster, g := both(t, 2, options{})
	address := cluster.Addresses()[1]
	p, stays := g.channel(address), g.channel(cluster.Addresses()[0])
	p.do("PING")
	if err := cluster.Nodes()[1].Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.reply(); got != fmt.Sprint("closed ", int(CloseNode)) {
		t.Errorf("got %s", got)
	}
	if got := stays.do("PING"); got != "+PONG" {
		t.Errorf("the other: %s", got)
	}
	if _, res, err := g.dialPath("/v1/node/"+address, g.header()); err == nil || res == nil || res.StatusCode != 502 { //nolint:bodyclose // the library does
		t.Errorf("again: %v, %v", res, err)
	}
}

func TestDrainTellsPagesToConnectElsewhere(t *testing.T) {
	cluster, g := both(t, 1, options{})
	busy, quiet, feed := g.channel(cluster.Addresses()[0]), g.channel(cluster.Addresses()[0]), g.open("/v1/cluster")
	redis := g.redis()
	quiet.do("PING")
	redis.do("PING")
	if _, _, err := feed.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for range 1000 {
		all.WriteString(request("INCR", "n"))
	}
	busy.send(all.String())
	first := busy.reply() // so all of the message is on its way
	redis.send(strings.Repeat(request("PING"), 100))
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- g.Shutdown(ctx)
	}()
	n := 1
	for got := first; !strings.HasPrefix(got, "closed"); n++ {
		if got != fmt.Sprint(":", n) {
			t.Fatalf("reply %d: %s", n, got)
		}
		if got = busy.reply(); strings.HasPrefix(got, "closed") && got != fmt.Sprint("closed ", int(CloseDraining)) {
			t.Errorf("busy: %s", got)
		}
	}
	for range 100 {
		if got := redis.reply(); got != "+PONG" {
			t.Fatalf("redis: %s", got)
		}
	}
	for name, got := range map[string]string{"quiet": quiet.reply(), "feed": feed.reply()} {
		if got != fmt.Sprint("closed ", int(CloseDraining)) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := redis.reply(); got != "closed" {
		t.Errorf("redis: %s", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if g.Ready() == nil {
		t.Error("it is ready after its end")
	}
}

func files() fs.FS {
	return fstest.MapFS{
		"index.html":       {Data: []byte("<!doctype html>")},
		"quoit.js":         {Data: []byte("export {}")},
		"quoit.wasm":       {Data: []byte("\x00asm")},
		"quoit.wasm.gz":    {Data: []byte("packed")},
		"sub/style.css":    {Data: []byte("a{}")},
		"secret.key":       {Data: []byte("x")},
		".hidden/index.js": {Data: []byte("x")},
	}
}
