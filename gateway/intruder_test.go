package gateway

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// TestNoOtherAddressIsDialled: however it is spelled. The gateway takes an address as the
// topology spells it, and asks nobody else what it could mean.
func TestNoOtherAddressIsDialled(t *testing.T) {
	cluster := startCluster(t, 1)
	member := cluster.Addresses()[0]
	port := member[strings.LastIndex(member, ":"):]
	var mu sync.Mutex
	dialled := make(map[string]int)
	g := start(t, cluster.Manager(), options{seams: func(s *Seams) {
		s.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			mu.Lock()
			dialled[address]++
			mu.Unlock()
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}}).ready()
	escaped := ""
	for _, c := range []byte(member) {
		escaped += "%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15])
	}
	for name, c := range map[string]struct {
		spelled string
		want    int
	}{
		"as it is":               {member, 101},
		"escaped":                {escaped, 101}, // the same bytes
		"escaped twice":          {strings.ReplaceAll(escaped, "%", "%25"), 404},
		"a shorter name":         {"127.1" + port, 404},
		"as one number":          {"2130706433" + port, 404},
		"in hexadecimal":         {"0x7f.0.0.1" + port, 404},
		"in octal":               {"0177.0.0.1" + port, 404},
		"as IPv6":                {"%5B::ffff:127.0.0.1%5D" + port, 404},
		"a name for it":          {"localhost" + port, 404},
		"with a final dot":       {"127.0.0.1." + port, 404},
		"zero in its port":       {"127.0.0.1:0" + port[1:], 404},
		"a sign in its port":     {"127.0.0.1:+" + port[1:], 404},
		"no port":                {"127.0.0.1", 404},
		"a service for a port":   {"127.0.0.1:http", 404},
		"a space behind":         {member + "%20", 404},
		"a NUL behind":           {member + "%00", 404},
		"a NUL and another":      {member + "%00.evil.example:80", 404},
		"a line break and more":  {member + "%0d%0aHost:evil.example", 404},
		"a user in front":        {"evil.example@" + member, 404},
		"behind a user":          {member + "@evil.example:80", 404},
		"a fragment":             {member + "%23@evil.example:80", 404},
		"a path behind":          {member + "%2f..%2f127.0.0.1:1", 404},
		"a backslash":            {member + "%5cevil.example", 404},
		"another scheme":         {"http:%2f%2f" + member, 404},
		"a unix socket":          {"unix:%2fvar%2frun%2fdocker.sock", 404},
		"all addresses":          {"0.0.0.0" + port, 404},
		"nothing but the port":   {port, 404},
		"full-width digits":      {url.PathEscape("１２７.0.0.1" + port), 404},
		"a list":                 {member + "," + member, 404},
		"the cloud's metadata":   {"169.254.169.254:80", 404},
		"the manager":            {cluster.Manager(), 404},
		"the gateway itself":     {g.Addr(), 404},
		"far too long":           {strings.Repeat("a", 5000) + ":80", 404},
		"a parameter":            {member + "?address=evil.example:80", 101}, // which nobody reads
		"a parameter of another": {"evil.example:80?address=" + member, 404},
	} {
		if status, _, body := g.get(g.handshake("/v1/node/" + c.spelled)); status != c.want {
			t.Errorf("%s: %d, want %d\n%s", name, status, c.want, body)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for address := range dialled {
		if address != member && address != cluster.Manager() { // the console asks that one
			t.Errorf("%s was dialled", address)
		}
	}
}

// TestWhatMembersSayIsRefusedHoweverItComes: in either form, in any case, on either door,
// also on a channel that watches.
func TestWhatMembersSayIsRefusedHoweverItComes(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	plain := g.channel(address)
	n := <-nodes
	watching := g.channel(address)
	watching.watch(<-nodes)
	redis := g.redis()
	commands := 0
	for _, cmd := range protocol.Commands() {
		if cmd.Spec().Flags&(protocol.Cluster|protocol.Admin) == 0 {
			continue
		}
		commands++
		args := make([]string, max(cmd.Spec().Arity, -cmd.Spec().Arity)-1)
		for i := range args {
			args[i] = "1"
		}
		for _, name := range append([]string{cmd.String(), strings.ToLower(cmd.String())}, cmd.Spec().Aliases...) {
			for _, sent := range []string{request(append([]string{name}, args...)...), name + " " + strings.Join(args, " ") + "\r\n", name + "\n"} {
				for door, heard := range map[string]func() string{
					"channel":  func() string { plain.send(sent); return plain.reply() },
					"watching": func() string { watching.send(sent); return watching.reply() },
					"redis":    func() string { redis.send(sent); return redis.reply() },
				} {
					want := "-NOPERM " + cmd.String()
					if door == "watching" {
						want = "[refused :0 NOPERM " + cmd.String()
					}
					if got := heard(); !strings.HasPrefix(got, want) {
						t.Errorf("%s: %q is answered %q", door, sent, got)
					}
				}
			}
		}
	}
	if commands < 10 {
		t.Errorf("only %d commands were tried", commands)
	}
	// The node has heard nothing of all that.
	plain.send(request("PING"))
	n.hears("PING")
}

// TestNoiseEndsOneChannelAtATime sends bytes of chance, as frames, in frames and as
// requests. Whatever becomes of the channel, a healthy one does not notice.
func TestNoiseEndsOneChannelAtATime(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 1, options{})
	address := cluster.Addresses()[0]
	healthy := g.channel(address)
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(chance.Uint32())
		}
		return b
	}
	for i := range 60 {
		nc := g.raw("/v1/node/" + address)
		var sent []byte
		switch i % 3 {
		case 0: // no frames
			sent = noise(1 + chance.IntN(3000))
		case 1: // frames of chance
			for range 20 {
				payload := noise(chance.IntN(100))
				sent = append(sent, frame(chance.IntN(2) == 0, byte(chance.IntN(16)), len(payload), payload)...)
			}
		case 2: // requests of chance, one bit of which is wrong
			text := []byte(request("SET", "noise", strings.Repeat("x", 100)) + request("GET", "noise") + request("DEL", "noise"))
			for range 1 + chance.IntN(3) {
				text[chance.IntN(len(text))] ^= 1 << chance.IntN(8)
			}
			sent = append(frame(true, binaryFrame, len(text), text), frame(true, closeFrame, 0, nil)...)
		}
		go func() {
			_, _ = nc.Write(sent)
			if half, ok := nc.(*net.TCPConn); ok {
				_ = half.CloseWrite() // there is no more: an unfinished frame ends here
			}
		}()
		if code := closeCode(nc); code >= 5000 {
			t.Errorf("closed with %d", code)
		}
		if got := healthy.do("PING"); got != "+PONG" {
			t.Fatalf("seed %d, noise %d: a healthy client hears %s", seed, i, got)
		}
	}
	waitFor(t, "nobody else to be left", func() bool { return g.stats.channels.Load() == 1 })
	if g.stats.panics.Load() != 0 {
		t.Errorf("seed %d: %d panics", seed, g.stats.panics.Load())
	}
}

// TestAMessageThatNeverEnds is bounded in bytes, in however many frames it comes.
func TestAMessageThatNeverEnds(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 1, options{})
	address := cluster.Addresses()[0]
	healthy := g.channel(address)
	nc := g.raw("/v1/node/" + address)
	value := strings.Repeat("x", 100<<10)
	go func() {
		w := bufio.NewWriter(nc)
		begin := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n"
		_, _ = w.Write(frame(false, binaryFrame, len(begin), []byte(begin)))
		for range 100 { // ten times what a message may have
			if _, err := w.Write(frame(false, more, len(value), []byte(value))); err != nil || w.Flush() != nil {
				return
			}
		}
	}()
	if got := closeCode(nc); got != 1009 {
		t.Errorf("closed with %d", got)
	}
	if got := healthy.do("PING"); got != "+PONG" {
		t.Errorf("a healthy client hears %s", got)
	}
	_ = nc.Close()
	waitFor(t, "its memory to be given back", func() bool { return g.budget.Used() == 0 })
	if got := healthy.do("GET", "k"); got != "nil" {
		t.Errorf("the value that never ended is %.20q", got)
	}
}

// TestACloseWithoutANodeIsNoDial: a page that leaves while its node is being dialled leaves nothing.
func TestACloseWithoutANodeIsNoDial(t *testing.T) {
	cluster := startCluster(t, 1)
	dialling, left := make(chan struct{}), make(chan struct{})
	g := start(t, cluster.Manager(), options{seams: func(s *Seams) {
		s.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
			close(dialling)
			<-ctx.Done() // the request's: the page has gone, or it took too long
			close(left)
			return nil, errors.Join(ctx.Err())
		}
	}}).ready()
	nc, err := net.Dial("tcp", g.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write([]byte(strings.ReplaceAll(g.handshake("/v1/node/"+cluster.Addresses()[0]), "\n", "\r\n"))); err != nil {
		t.Fatal(err)
	}
	<-dialling
	_ = nc.Close()
	<-left
	waitFor(t, "its place to be free again", func() bool { return g.gate.count() == 0 })
	if g.stats.channels.Load() != 0 {
		t.Error("there is a channel without a page")
	}
}
