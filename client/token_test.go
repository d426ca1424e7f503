package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// purse is a source of tokens that can be given another one.
type purse struct {
	mu    sync.Mutex
	token string
	err   error
	asked int
}

func (p *purse) source(context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.token, p.err
}

func (p *purse) hold(token string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token, p.err = token, err
}

func (p *purse) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// secret is what must not be seen anywhere.
const secret = "eyJ.secret.token"

// mute fails when an error, or how it is shown in any other way, has the token in it.
func mute(t *testing.T, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, secret) {
			t.Errorf("the token is in %s", text)
		}
	}
}

// listen notes what comes over each connection of a node, in order.
func listen(f *FakeCluster, i int) (heard func() []string) {
	var mu sync.Mutex
	var names []string
	f.Node(i).Script(func(name string, _ [][]byte) fakeAct {
		mu.Lock()
		defer mu.Unlock()
		names = append(names, name)
		return fakeAct{}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return names
	}
}

func TestEveryConnectionBeginsWithTheToken(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		var heard []func() []string
		for i := range 3 {
			heard = append(heard, listen(f, i+1))
		}
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source), WithConnections(4))
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				key := strconv.Itoa(i)
				if err := c.Put(ctx, key, []byte(key)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		v := view(t, ctx, c, "", WatchOptions{State: true})
		synctest.Wait()
		if n, err := c.Count(ctx); err != nil || n != 200 {
			t.Errorf("%d keys, %v", n, err)
		}
		wantIs(t, v.end(), context.Canceled)
		if dials := int(c.Stats().Dials); dials != p.count() || dials < 3*4+3 {
			t.Errorf("%d connections, and the source was asked %d times", dials, p.count())
		}
		for i := range 3 {
			names := heard[i]()
			if len(names) == 0 || names[0] != "AUTH" {
				t.Errorf("node %d first heard %v", i+1, names[:min(3, len(names))])
			}
		}
	})
}

func TestNothingIsSaidUntilTheTokenIsTaken(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		held := make(chan struct{})
		var once sync.Once
		release := func() { once.Do(func() { close(held) }) }
		defer release()
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		n := f.Node(1)
		n.Stop()
		n.Start()
		n.Script(func(name string, _ [][]byte) (act fakeAct) {
			if name == "AUTH" {
				act.wait = held
			}
			return act
		})
		before := n.Served("INCRBY") + n.Served("CLIENT")
		done := make(chan error)
		go func() {
			_, err := c.Increment(ctx, "n", 1)
			done <- err
		}()
		synctest.Wait()
		if after := n.Served("INCRBY") + n.Served("CLIENT"); after != before {
			t.Errorf("%d requests came before the answer to AUTH", after-before)
		}
		release()
		must(t, <-done)
	})
}

func TestATokenThatIsNotTakenIsAnErrorAtOnce(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		p := &purse{token: secret}
		f.Tokens(map[string]fakeToken{"another": {}})
		start := time.Now()
		_, err := Open(ctx, []string{fakeAddress(1), fakeAddress(2)}, WithDialer(f.Dial), WithToken(p.source))
		wantIs(t, err, ErrUnauthenticated)
		mute(t, err)
		var e *ServerError
		if !errors.As(err, &e) || !strings.Contains(e.Message, "the token is not taken") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}

		f.Tokens(map[string]fakeToken{secret: {}})
		c := open(t, ctx, f, WithToken(p.source))
		f.Node(1).Stop()
		f.Node(1).Start()
		f.Node(2).Stop()
		f.Node(2).Start()
		f.Tokens(map[string]fakeToken{"another": {}})
		for name, call := range calls(ctx, c) {
			err := call()
			wantIs(t, err, ErrUnauthenticated)
			if errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s: %v", name, err)
			}
			mute(t, err)
		}
	})
}

// calls is one of each kind.
func calls(ctx context.Context, c *Client) map[string]func() error {
	return map[string]func() error{
		"put":  func() error { return c.Put(ctx, "k", []byte("v")) },
		"get":  func() error { _, err := c.Get(ctx, "k"); return err },
		"mput": func() error { _, err := c.MPut(ctx, []Pair{{Key: "a"}, {Key: "b"}, {Key: "c"}}); return err },
		"scan": func() error { _, err := collect(ctx, c, ScanOptions{}); return err },
		"size": func() error { _, err := c.Count(ctx); return err },
		"watch": func() error {
			for _, err := range c.Watch(ctx, "", WatchOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func TestWithoutATokenTheNodeSaysWhatIsMissing(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		_, err := Open(ctx, []string{fakeAddress(1)}, WithDialer(f.Dial))
		wantIs(t, err, ErrUnauthenticated)
		if !strings.Contains(err.Error(), "AUTH with a token first") {
			t.Errorf("got %v", err)
		}
	})
}

// TestAPortThatSpeaksAnotherProtocolIsSaidAtOnce: a TLS port answers plain text with one
// line and closes. The client took it for a lost connection and tried again until its
// budget was spent.
func TestAPortThatSpeaksAnotherProtocolIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := Open(t.Context(), []string{fakeAddress(1)}, WithDialer(func(context.Context, string) (Conn, error) {
			here, there := net.Pipe()
			go func() {
				buf := make([]byte, 1<<10)
				_, _ = there.Read(buf)
				_, _ = there.Write([]byte("-NOPROTO this port speaks TLS alone\r\n"))
				there.Close()
			}()
			return here, nil
		}))
		if err == nil || !strings.Contains(err.Error(), "NOPROTO this port speaks TLS alone") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// hungUp is a connection that the other side has closed with a last line, so that nothing
// can be written; the line is read after that was tried.
type hungUp struct {
	rest  io.Reader
	once  sync.Once
	tried chan struct{}
}

func (c *hungUp) Write([]byte) (int, error) {
	_ = c.Close()
	return 0, syscall.EPIPE
}

func (c *hungUp) Read(b []byte) (int, error) {
	<-c.tried
	pass(time.Millisecond)
	return c.rest.Read(b)
}

func (c *hungUp) Close() error {
	c.once.Do(func() { close(c.tried) })
	return nil
}

// TestTheLastWordsOfAConnectionAreRead, whoever notices first that it is closed.
func TestTheLastWordsOfAConnectionAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		_, err := Open(t.Context(), []string{fakeAddress(1)}, WithDialer(func(context.Context, string) (Conn, error) {
			dials++
			return &hungUp{rest: strings.NewReader("-NOPROTO this port speaks TLS alone\r\n"), tried: make(chan struct{})}, nil
		}))
		if err == nil || !strings.Contains(err.Error(), "NOPROTO this port speaks TLS alone") || dials != 1 {
			t.Errorf("got %v after %d dials", err, dials)
		}
	})
}

func TestWhereNobodyIsAuthenticatedATokenDoesNoHarm(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		must(t, c.Put(ctx, "k", []byte("v")))
		wantValue(t, c, "k", "v")
	})
}

func TestWhatTheTokenDoesNotAllowIsAnErrorAtOnce(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {prefix: "cart:"}})
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		must(t, c.Put(ctx, "cart:1", []byte("v")))
		before := c.Stats()
		err := c.Put(ctx, "user:1", []byte("v"))
		wantIs(t, err, ErrForbidden)
		if errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
		mute(t, err)
		results, err := c.MGet(ctx, "cart:1", "user:1")
		wantIs(t, err, ErrForbidden)
		if string(results[0].Value) != "v" {
			t.Errorf("got %+v", results)
		}
		if after := c.Stats(); after.Retries != before.Retries || p.count() > 3 {
			t.Errorf("tried again: %+v, after %+v; %d tokens", after, before, p.count())
		}
	})
}

func TestWhenTheTokenExpiresTheNextOneIsUsed(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{"token-0": {}})
		p := &purse{token: "token-0"}
		c := open(t, ctx, f, WithToken(p.source), WithConnections(3))
		var all sync.WaitGroup
		for g := range 64 {
			all.Go(func() {
				for range 50 {
					if _, err := c.Increment(ctx, "n:"+strconv.Itoa(g), 1); err != nil {
						t.Error(err)
						return
					}
					pass(time.Second)
				}
			})
		}
		for i := range 5 {
			pass(7*time.Second + 500*time.Millisecond)
			next := "token-" + strconv.Itoa(i+1)
			p.hold(next, nil)
			f.Tokens(map[string]fakeToken{next: {}})
		}
		all.Wait()
		for g := range 64 {
			wantValue(t, c, "n:"+strconv.Itoa(g), "50")
		}
		pass(time.Minute) // what has left is closed by then
		for i := range 3 {
			if open, dials := f.Node(i + 1).Conns(); open > 4 || dials > 6*4 {
				t.Errorf("node %d has %d connections and was dialled %d times", i+1, open, dials)
			}
		}
	})
}

func TestARequestThatIsOnItsWayWhenTheTokenExpiresIsNotLost(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{"old": {}})
		p := &purse{token: "old"}
		c := open(t, ctx, f, WithToken(p.source))
		held := make(chan struct{})
		var first sync.Once
		f.Node(1).Script(func(name string, args [][]byte) (act fakeAct) {
			if name == "INCRBY" {
				first.Do(func() {
					act.wait = held
					act.before = func() { // it is done, and then the token expires
						p.hold("new", nil)
						f.mu.Lock()
						act.reply = f.keyed(name, args[1], args)
						f.tokens = map[string]fakeToken{"new": {}}
						f.mu.Unlock()
					}
				})
			}
			return act
		})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := c.Increment(ctx, "n", 1); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(held)
		all.Wait()
		if n, err := c.Get(ctx, "n"); err != nil || string(n) != "100" && string(n) != "101" {
			t.Errorf("n is %s, %v", n, err)
		}
	})
}

func TestANodeThatTakesNoTokenForLongIsAskedOnceMore(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		f.Put("k", "1")
		wantValue(t, c, "k", "1")
		n := f.Node(1)
		n.Script(failing("PUT", 1<<30, protocol.NOAUTH))
		_, before := n.Conns()
		wantIs(t, c.Put(ctx, "k", []byte("v")), ErrUnauthenticated)
		if _, after := n.Conns(); after != before+1 {
			t.Errorf("%d connections were opened for it", after-before)
		}
		if got := n.Served("PUT"); got != 2 {
			t.Errorf("it was asked %d times", got)
		}
		n.Script(failing("SCAN", 1<<30, protocol.NOAUTH))
		_, err := collect(ctx, c, ScanOptions{})
		wantIs(t, err, ErrUnauthenticated)
		n.Script(failing("DBSIZE", 1<<30, protocol.NOAUTH))
		_, err = c.Count(ctx)
		wantIs(t, err, ErrUnauthenticated)
		n.Script(failing("GET", 1<<30, protocol.NOAUTH))
		_, err = c.MGet(ctx, "a", "b")
		wantIs(t, err, ErrUnauthenticated)
	})
}

func TestASourceThatFailsIsWaitedFor(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		away := errors.New("the login server is away")
		p := &purse{err: away}
		time.AfterFunc(5*time.Second, func() { p.hold(secret, nil) })
		c := open(t, ctx, f, WithToken(p.source))
		v := view(t, ctx, c, "", WatchOptions{})
		v.want(t, "synced")

		f.Expire(secret)
		p.hold("", nil)
		err := c.Put(t.Context(), "k", []byte("v")) // until the retry budget is spent
		if err == nil || !strings.Contains(err.Error(), "no token to connect with: it is empty") {
			t.Errorf("got %v", err)
		}
		p.hold("", away)
		wantIs(t, c.Put(t.Context(), "k", []byte("v")), away)
		pass(time.Hour)
		p.hold("fresh", nil)
		f.Tokens(map[string]fakeToken{"fresh": {}})
		f.Put("k", "2")
		pass(time.Minute)
		v.want(t, "k=2")
	})
}

func TestAWatchGoesOnWhereItWasWithTheNextToken(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{"0": {}})
		p := &purse{token: "0"}
		c := open(t, ctx, f, WithToken(p.source))
		f.Put("kept", "1")
		v := view(t, ctx, c, "", WatchOptions{State: true})
		v.want(t, "kept=1 synced")
		for i := range 10 {
			next := strconv.Itoa(i + 1)
			p.hold(next, nil)
			f.mu.Lock()
			f.tokens[next] = fakeToken{}
			f.mu.Unlock()
			f.Put("before", next)
			f.Expire(strconv.Itoa(i))
			f.Put("after", next)
			f.Delete("before")
			pass(time.Minute)
			got := v.told()
			if got != "before="+next+" after="+next+" -before" && got != "after="+next+" -before" && got != "-before after="+next && got != "before="+next+" -before after="+next {
				t.Errorf("told %q", got)
			}
		}
		f.Put("kept", "2")
		v.want(t, "kept=2")
		if len(v.faults) > 0 {
			t.Error(v.faults)
		}
	})
}

func TestAWatchWhoseNextTokenIsRefusedEnds(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		v := view(t, ctx, c, "", WatchOptions{})
		v.want(t, "synced")
		f.Expire(secret)
		<-v.done
		wantIs(t, v.err, ErrUnauthenticated)
		mute(t, v.err)
	})
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		p := &purse{token: secret}
		c := open(t, ctx, f, WithToken(p.source))
		n := f.Node(1)
		n.Script(failing("WATCH", 1<<30, protocol.NOAUTH)) // takes the token and wants another
		v := view(t, ctx, c, "", WatchOptions{})
		<-v.done
		wantIs(t, v.err, ErrUnauthenticated)
		if got := n.Served("WATCH"); got != 2 {
			t.Errorf("asked %d times", got)
		}
	})
}

func TestAnAnswerToTheTokenThatIsNone(t *testing.T) {
	for name, answer := range map[string]string{
		"two":        "+OK\r\n+OK\r\n",
		"a number":   ":1\r\n",
		"nonsense":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"very long":  "+" + strings.Repeat("x", 2*authReply) + "\r\n",
		"half of it": "+O",
		// Only the very answer of a server that asks nobody goes on without the token.
		"another error": "-ERR unknown command AUTH\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 1, func(t *testing.T, _ context.Context, f *FakeCluster) {
				f.Tokens(map[string]fakeToken{secret: {}})
				p := &purse{token: secret}
				f.Node(1).Script(func(string, [][]byte) fakeAct { return fakeAct{reply: []byte(answer), cut: true} })
				_, err := Open(t.Context(), []string{fakeAddress(1)}, WithDialer(f.Dial), WithToken(p.source))
				if err == nil || f.Node(1).Served("TOPOLOGY") > 0 {
					t.Errorf("got %v", err)
				}
				mute(t, err)
			})
		})
	}
}

func TestANodeThatDoesNotAnswerTheTokenIsGivenUp(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, _ context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		p := &purse{token: secret}
		never := make(chan struct{})
		defer close(never)
		f.Node(1).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: never} })
		_, err := Open(t.Context(), []string{fakeAddress(1)}, WithDialer(f.Dial), WithToken(p.source), WithDialTimeout(time.Second), WithRetryBudget(0))
		wantIs(t, err, context.DeadlineExceeded)
	})
}

func TestANodeThatIsFullIsWaitedForWithTheToken(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Tokens(map[string]fakeToken{secret: {}})
		p := &purse{token: secret}
		f.Node(1).Script(failing("AUTH", 5, protocol.OVERLOADED))
		c := open(t, ctx, f, WithToken(p.source))
		must(t, c.Put(ctx, "k", []byte("v")))
	})
}
