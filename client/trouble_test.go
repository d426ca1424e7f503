package client

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// failing is a script that answers the first n requests of a name with a code.
func failing(name string, n int, code protocol.Code) func(string, [][]byte) fakeAct {
	var mu sync.Mutex
	return func(got string, _ [][]byte) (act fakeAct) {
		mu.Lock()
		defer mu.Unlock()
		if got == name && n > 0 {
			n--
			act.reply = protocol.AppendErrorCode(nil, code, "a sentence")
		}
		return act
	}
}

func TestRefusalsAreWaitedOut(t *testing.T) {
	for _, code := range []protocol.Code{protocol.TRYAGAIN, protocol.UNAVAILABLE, protocol.OVERLOADED} {
		t.Run(string(code), func(t *testing.T) {
			inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
				c := open(t, ctx, f)
				f.Node(1).Script(failing("INCRBY", 5, code))
				n, err := c.Increment(ctx, "n", 1)
				must(t, err)
				if n != 1 || c.Stats().Retries != 5 {
					t.Errorf("n is %d, %+v", n, c.Stats())
				}

				f.Node(1).Script(failing("INCRBY", 1<<30, code))
				start := time.Now()
				_, err = c.Increment(t.Context(), "n", 1) // no deadline
				if d := time.Since(start); d != 10*time.Second {
					t.Errorf("gave up after %v", d)
				}
				var e *ServerError
				if !errors.As(err, &e) || e.Code != code || errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("got %v", err)
				}
				short, cancel := context.WithTimeout(ctx, 20*time.Second)
				defer cancel()
				start = time.Now()
				_, err = c.Increment(short, "n", 1)
				if d := time.Since(start); d != 20*time.Second {
					t.Errorf("gave up after %v", d)
				}
				wantIs(t, err, context.DeadlineExceeded)
				if !errors.As(err, &e) || errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestOtherErrorsAreFinal(t *testing.T) {
	for _, code := range []protocol.Code{protocol.ERR, protocol.READONLY, protocol.TOOLARGE, protocol.NOAUTH, protocol.NOPERM, protocol.WRONGTYPE} {
		inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			f.Node(1).Script(failing("PUT", 1, code))
			err := c.Put(ctx, "k", []byte("v"))
			var e *ServerError
			if !errors.As(err, &e) || e.Code != code || e.Message != "a sentence" || e.Node != fakeAddress(1) {
				t.Errorf("%s: got %v", code, err)
			}
			if s := c.Stats(); s.Retries != 0 {
				t.Errorf("%s: %+v", code, s)
			}
		})
	}
}

func TestNoBudgetMeansOneTry(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, _ context.Context, f *FakeCluster) {
		c := open(t, t.Context(), f, WithRetryBudget(0))
		f.Node(1).Script(failing("GET", 1, protocol.TRYAGAIN))
		_, err := c.Get(t.Context(), "k")
		var e *ServerError
		if !errors.As(err, &e) {
			t.Errorf("got %v", err)
		}
	})
}

func TestANodeThatRefusesConnectionsIsWaitedFor(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		must(t, c.Put(ctx, "k", []byte("v")))
		n := f.Node(1)
		n.Stop()
		synctest.Wait() // until the client has seen its connection end
		_, dials := n.Conns()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := c.Increment(ctx, "n", 1); err != nil {
					t.Error(err)
				}
			})
		}
		pass(5 * time.Second)
		if _, after := n.Conns(); after-dials > 40 {
			t.Errorf("%d dials in 5 s for 100 callers", after-dials)
		}
		n.Start()
		all.Wait()
		wantValue(t, c, "n", "100")

		n.Stop()
		_, err := c.Get(t.Context(), "k")
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "cannot connect to n1:7401") {
			t.Errorf("got %v", err)
		}
	})
}

func TestALinkThatBreaksBeforeTheReply(t *testing.T) {
	for _, half := range []string{"", "$", "$3\r\nab", ":1", "*2\r\n$1\r\nv\r\n", "-ERR"} {
		t.Run(strconv.Quote(half), func(t *testing.T) {
			inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
				c := open(t, ctx, f)
				f.Put("k", "v")
				n := f.Node(1)
				var cuts int
				n.Script(func(name string, _ [][]byte) (act fakeAct) {
					if (name == "GET" || name == "INCRBY") && cuts == 0 {
						cuts++
						act.reply, act.cut = []byte(half), true
					}
					return act
				})
				wantValue(t, c, "k", "v") // a read is tried again

				cuts = 0
				_, err := c.Increment(ctx, "n", 1)
				wantIs(t, err, ErrOutcomeUnknown)
				if n.Served("INCRBY") != 1 {
					t.Error("a write that may have happened was sent again")
				}
				if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "n1:7401") {
					t.Errorf("got %v", err)
				}
				must(t, c.Put(ctx, "k", nil)) // over a new connection
			})
		})
	}
}

func TestGarbageBreaksTheLinkAndNothingElse(t *testing.T) {
	for _, garbage := range []string{"\x00\x01\x02\r\n", "HTTP/1.1 400 Bad Request\r\n", "$99999999999999999999\r\n", "*1048577\r\n", "$-2\r\n", ":x\r\n"} {
		inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			once := true
			f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
				if name == "PUT" && once {
					once, act.reply = false, []byte(garbage)
				}
				return act
			})
			wantIs(t, c.Put(ctx, "k", []byte("v")), ErrOutcomeUnknown)
			must(t, c.Put(ctx, "k", []byte("v")))
			wantValue(t, c, "k", "v")
		})
	}
}

func TestAReplyThatNobodyAskedForBreaksTheLink(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
			if name == "PING" {
				act.reply = []byte("+PONG\r\n+PONG\r\n")
			}
			return act
		})
		_, err := c.Ping(ctx, fakeAddress(1))
		must(t, err)
		synctest.Wait()
		if open, _ := f.Node(1).Conns(); open != 1 { // the seed's; the other is closed
			t.Errorf("%d connections", open)
		}
		must(t, c.Put(ctx, "k", []byte("v")))
	})
}

func TestAnswersOfTheWrongKind(t *testing.T) {
	replies := []string{"+WHAT\r\n", ":1\r\n", "$1\r\nx\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "*2\r\n$1\r\nx\r\n$1\r\nx\r\n", "*2\r\n:1\r\n*0\r\n"}
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		for _, reply := range replies {
			f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
				if name != "TOPOLOGY" {
					act.reply = []byte(reply)
				}
				return act
			})
			everyCommand(ctx, c, func(name string, err error) {
				var wrong *ReplyError
				if err != nil && !errors.As(err, &wrong) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrExists) {
					t.Errorf("%s answered with %q: %v", name, reply, err)
				}
			})
		}
		f.Node(1).Script(func(name string, _ [][]byte) fakeAct { return fakeAct{reply: []byte("+WHAT\r\n")} })
		var wrong *ReplyError
		if err := c.RefreshTopology(ctx); !errors.As(err, &wrong) {
			t.Errorf("TOPOLOGY: %v", err)
		}
		f.Node(1).Script(func(name string, _ [][]byte) fakeAct {
			return fakeAct{reply: protocol.AppendBulkString(nil, "quoit-topology 2\nend\n")}
		})
		if err := c.RefreshTopology(ctx); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "version") {
			t.Errorf("TOPOLOGY of the future: %v", err)
		}
	})
}

// everyCommand calls each method once.
func everyCommand(ctx context.Context, c *Client, check func(name string, err error)) {
	value := []byte("v")
	_, err := c.Get(ctx, "k")
	check("Get", err)
	_, _, err = c.GetVersion(ctx, "k")
	check("GetVersion", err)
	check("Put", c.Put(ctx, "k", value))
	check("Put absent", c.Put(ctx, "k", value, IfAbsent()))
	_, err = c.CompareAndPut(ctx, "k", value, 1)
	check("CompareAndPut", err)
	_, err = c.Increment(ctx, "k", 1)
	check("Increment", err)
	_, err = c.Append(ctx, "k", value)
	check("Append", err)
	_, err = c.Exists(ctx, "k")
	check("Exists", err)
	check("Expire", c.Expire(ctx, "k", time.Second))
	_, err = c.Persist(ctx, "k")
	check("Persist", err)
	_, err = c.TTL(ctx, "k")
	check("TTL", err)
	_, err = c.Delete(ctx, "k")
	check("Delete", err)
	_, err = c.Delete(ctx, "k", "l")
	check("Delete many", err)
	_, err = c.MGet(ctx, "k", "l")
	check("MGet", err)
	_, err = c.MPut(ctx, []Pair{{"k", value}, {"l", value}})
	check("MPut", err)
	_, err = c.Count(ctx)
	check("Count", err)
	_, err = c.Info(ctx, c.Owner("k"))
	check("Info", err)
	for _, err := range c.Scan(ctx, ScanOptions{}) {
		check("Scan", err)
	}
}

func TestALostWriteThatNeverLeftIsSentAgain(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		// The first connection takes a part of one request and then nothing any more.
		var stuck net.Conn
		var dials atomic.Int64
		c := open(t, ctx, f, WithDialer(func(ctx context.Context, address string) (Conn, error) {
			if dials.Add(1) != 2 { // the first is the seed's
				return f.Dial(ctx, address)
			}
			here, there := net.Pipe()
			stuck = there
			return here, nil
		}))
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- c.Put(ctx, "first", []byte("1")) }()
		synctest.Wait() // there is a connection
		for got, one := "", make([]byte, 1); !strings.Contains(got, "first"); got += string(one) {
			if _, err := stuck.Read(one); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // the writer hangs in the middle of the request
		go func() { second <- c.Put(ctx, "second", []byte("2")) }()
		synctest.Wait()
		stuck.Close()
		wantIs(t, <-first, ErrOutcomeUnknown)
		must(t, <-second)
		wantValue(t, c, "second", "2")
	})
}

func TestASilentNodeIsNoticed(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f, WithHealthInterval(10*time.Second))
		must(t, c.Put(ctx, "k", []byte("v")))
		release := make(chan struct{})
		defer close(release)
		f.Node(1).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		start := time.Now()
		wantIs(t, c.Put(ctx, "k", []byte("w")), errSilent)
		if d := time.Since(start); d < 10*time.Second || d > 15*time.Second {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestAnIdleLinkIsKeptAliveAndFoundDead(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f, WithHealthInterval(10*time.Second))
		n := f.Node(1)
		must(t, c.Put(ctx, "k", []byte("v")))
		pass(time.Hour)
		if pings := n.Served("PING"); pings < 200 || pings > 400 {
			t.Errorf("%d pings in an hour", pings)
		}
		release := make(chan struct{})
		n.Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		pass(time.Minute)
		links := c.routing.Load().nodes[fakeAddress(1)].links()
		close(release)
		n.Script(nil)
		if len(links) != 0 {
			t.Error("a dead idle link was not found out")
		}
		// So the next write does not fall into it.
		must(t, c.Put(ctx, "k", []byte("w")))
	})
}

func TestBusyIsNotSilent(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f, WithHealthInterval(10*time.Second))
		must(t, c.Put(ctx, "k", []byte("v")))
		// Each reply takes 8 s, the queue never gets empty: slow, but alive.
		f.Node(1).Script(func(name string, _ [][]byte) fakeAct {
			if name != "GET" {
				return fakeAct{}
			}
			slow := make(chan struct{})
			time.AfterFunc(8*time.Second, func() { close(slow) })
			return fakeAct{wait: slow}
		})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := c.Get(ctx, "k"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestADialThatHangs(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		var hang atomic.Bool
		c := open(t, ctx, f, WithDialTimeout(3*time.Second), WithDialer(func(ctx context.Context, address string) (Conn, error) {
			if hang.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return f.Dial(ctx, address)
		}))
		must(t, c.Put(ctx, "k", []byte("v")))
		hang.Store(true)
		f.Node(1).Stop()
		f.Node(1).Start()
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Get(short, "k")
		wantIs(t, err, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v", d)
		}
		pass(5 * time.Second)
		hang.Store(false)
		wantValue(t, c, "k", "v")
	})
}
