package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// hostile are answers to WATCH that no node gives.
func hostile() map[string]string {
	push := func(p protocol.Push) string { return string(p.Append(nil)) }
	watching := push(protocol.Push{Kind: protocol.PushWatching, ID: watchID})
	return map[string]string{
		"no reply":                 "?",
		"a reply of another kind":  "+OK\r\n",
		"an array of something":    "*2\r\n:1\r\n:2\r\n",
		"a push that lacks things": "*2\r\n$3\r\nput\r\n:1\r\n",
		"a number that is none":    "*3\r\n$8\r\nprogress\r\n:1\r\n$1\r\nx\r\n",
		"a watch that is not":      watching + push(protocol.Push{Kind: protocol.PushProgress, ID: 2, Version: 7}),
		"unwatched":                watching + push(protocol.Push{Kind: protocol.PushUnwatched, ID: watchID}),
		"a key that is not":        watching + push(protocol.Push{Kind: protocol.PushPut, ID: watchID, Key: []byte("z"), Version: 7}),
		"a key with a long name":   watching + push(protocol.Push{Kind: protocol.PushDelete, ID: watchID, Key: bytes.Repeat([]byte("z"), 1000), Version: 7}),
		"refused, for another":     watching + push(protocol.Push{Kind: protocol.PushRefused, ID: 7, Message: []byte("OVERLOADED")}),
		"a range that moves twice": watching + strings.Repeat(push(protocol.Push{Kind: protocol.PushMoved, ID: watchID, Start: 5, End: 5, Address: []byte("n9:1")}), 2),
		"a number too large":       "*3\r\n$8\r\nprogress\r\n:1\r\n:99999999999999999999\r\n",
	}
}

func TestANodeThatTalksNonsense(t *testing.T) {
	for name, answer := range hostile() {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
				c := open(t, ctx, f)
				times := maxOffences - 1
				f.Node(1).OnWatch(func(w *fakeWatch, what protocol.Watch) {
					if times--; times < 0 {
						w.node.onWatch = nil
						w.node.answerWatch(w, what)
						return
					}
					w.queue = append(w.queue, fakePush{raw: []byte(answer)})
					w.nudge()
				})
				v := view(t, ctx, c, "a", WatchOptions{})
				pass(time.Minute)
				v.want(t, "synced") // it has come to its senses
				wantIs(t, v.end(), context.Canceled)

				f.Node(1).OnWatch(func(w *fakeWatch, _ protocol.Watch) {
					w.queue = append(w.queue, fakePush{raw: []byte(answer)})
					w.nudge()
				})
				var last error
				for _, err := range c.Watch(ctx, "a", WatchOptions{}) {
					last = err
				}
				var e *ReplyError
				if !errors.As(last, &e) || e.Node != fakeAddress(1) || e.Command != "WATCH" || len(last.Error()) > 300 {
					t.Errorf("got %v", last)
				}
			})
		})
	}
}

// What a newer node says beside, and a range of which nobody knows the owner.
func TestPushesThatAreUnusual(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var times int
		f.Node(1).OnWatch(func(w *fakeWatch, what protocol.Watch) {
			switch times++; times {
			case 1:
				w.queue = append(w.queue, fakePush{raw: []byte("*2\r\n$7\r\nweather\r\n$4\r\nfair\r\n")})
				w.push(protocol.Push{Kind: protocol.PushPong}, protocol.Push{Kind: protocol.PushWatching, ID: what.ID})
				for _, r := range what.Ranges {
					w.push(protocol.Push{Kind: protocol.PushMoved, ID: what.ID, Start: r.Start, End: r.End, Epoch: 1})
				}
			default:
				w.node.answerWatch0(w, what)
			}
		})
		v := view(t, ctx, c, "", WatchOptions{})
		pass(time.Minute)
		v.want(t, "synced")
	})
}

// answerWatch0 answers as the node does, whatever was set with OnWatch.
func (n *FakeNode) answerWatch0(w *fakeWatch, what protocol.Watch) {
	n.onWatch = nil
	n.answerWatch(w, what)
}

// breaking is a dialer whose connections that watch break after so many bytes
// were read from all of them together, in the middle of a message or not.
type breaking struct {
	f *FakeCluster

	mu   sync.Mutex
	left int // guarded by mu
}

type breakingConn struct {
	Conn
	b        *breaking
	watching bool // of the writer, set before anything can be read that counts
}

func (b *breaking) Dial(ctx context.Context, address string) (Conn, error) {
	conn, err := b.f.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &breakingConn{Conn: conn, b: b}, nil
}

func (c *breakingConn) Write(p []byte) (int, error) {
	c.b.mu.Lock()
	c.watching = c.watching || bytes.Contains(p, []byte("\r\nWATCH\r\n"))
	c.b.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *breakingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if !c.watching || c.b.left < 0 {
		return n, err
	}
	if c.b.left -= n; c.b.left < 0 {
		c.Close()
		return n + c.b.left, io.ErrUnexpectedEOF
	}
	return n, err
}

// aStory has a bit of everything: a state, changes, a slow moment, a move.
func aStory(f *FakeCluster) {
	f.Put("a", "1")
	f.Put("b", "1")
	pass(time.Second)
	f.Put("a", "2")
	f.Delete("b")
	pass(time.Second)
	f.Progress()
	f.Put("c", "1")
	pass(time.Second)
	f.Publish(f.Topology(2, 1))
	pass(time.Second)
	f.Put("b", "2")
	f.Put("d", "1")
	f.Delete("a")
	pass(time.Second)
	f.Progress()
	f.Delete("d")
	pass(20 * time.Second)
}

func TestAConnectionMayBreakAtEveryByte(t *testing.T) {
	for _, state := range []bool{true, false} {
		whole := -1
		for left := 0; whole < 0; left += 3 {
			inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
				f.Put("b", "0")
				b := &breaking{f: f, left: left}
				c := open(t, ctx, f, WithDialer(b.Dial))
				v := view(t, ctx, c, "", WatchOptions{State: state})
				pass(10 * time.Second)
				aStory(f)
				v.told()
				v.check(t, f, state)
				if b.left >= 0 {
					whole = left
				}
			})
			if t.Failed() {
				t.Fatalf("after %d bytes (state: %v)", left, state)
			}
		}
		t.Logf("%d bytes", whole)
	}
}

// check compares what a viewer knows with what is there, and what it was told
// with what happened.
func (v *viewer) check(t *testing.T, f *FakeCluster, state bool) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	has, resynced := map[string]string{}, false
	for _, c := range v.changes {
		switch c.Kind {
		case ChangePut:
			has[c.Key] = string(c.Value)
		case ChangeDelete:
			delete(has, c.Key)
		case ChangeResync:
			resynced = true
		}
	}
	if len(v.faults) > 0 || v.err != nil {
		t.Errorf("%v, %v", v.faults, v.err)
	}
	if state && resynced {
		t.Error("a watch that keeps the state said that something is missing")
	}
	first := v.firstVersions()
	for key, c := range f.history {
		value, there := has[key]
		switch {
		case !state && first > c.version: // it began later
		case c.deleted && there && !resynced, !c.deleted && value != string(c.value), !c.deleted && !there:
			t.Errorf("%s is %q (%v) to the viewer; really %+v", key, value, there, c)
		}
		delete(has, key)
	}
	if len(has) > 0 {
		t.Errorf("%v never was", has)
	}
}

// firstVersions is the lowest version that a viewer must know of: the one of
// the first change that it was told after synced. Called with mu held.
func (v *viewer) firstVersions() uint64 {
	synced := false
	for _, c := range v.changes {
		if c.Kind == ChangeSynced {
			synced = true
		} else if synced && c.Version > 0 {
			return uint64(c.Version)
		}
	}
	return 1 << 63
}

func TestAWatchMayEndAtEveryPoint(t *testing.T) {
	// By its consumer, after so many changes.
	for n := range 9 {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			go aStory(f)
			for range c.Watch(ctx, "", WatchOptions{State: true}) {
				if n--; n < 0 {
					break
				}
			}
			pass(time.Minute)
		})
	}
	// By its context, and by the client, at some moment.
	for step := range 60 {
		at := time.Duration(step) * 100 * time.Millisecond
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			b := &breaking{f: f, left: step * 20}
			c := open(t, ctx, f, WithDialer(b.Dial))
			v := view(t, ctx, c, "", WatchOptions{State: true})
			go aStory(f)
			pass(at)
			if step%2 == 0 {
				wantIs(t, v.end(), context.Canceled)
			} else {
				must(t, c.Close())
				<-v.done
				wantIs(t, v.err, ErrClosed)
			}
			pass(time.Minute)
		})
	}
}

// Nodes come, go, fall, lag, forget and cut; watches see the truth in the end,
// nothing twice, and no version go back.
func TestWatchesOfARestlessCluster(t *testing.T) {
	for seed := range uint64(60) {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			restless(t, ctx, f, rand.New(rand.NewPCG(seed, 7)))
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func restless(t *testing.T, ctx context.Context, f *FakeCluster, random *rand.Rand) {
	const most = 4 // nodes
	for i := 3; i <= most; i++ {
		f.Add(fakeAddress(i))
		f.Publish(f.Topology(1, 2), fakeAddress(i))
	}
	if random.IntN(2) == 0 {
		f.patience = 1 + random.IntN(8)
	}
	forgetful := random.IntN(2) == 0
	c := open(t, ctx, f, WithHealthInterval(5*time.Second))
	with := view(t, ctx, c, "k", WatchOptions{State: true})
	without := view(t, ctx, c, "k", WatchOptions{})
	pass(10 * time.Second)
	epoch, down := 1, 0
	for range 150 {
		key := "k" + strconv.Itoa(random.IntN(20))
		switch random.IntN(30) {
		case 0:
			members := 1 + random.IntN(most)
			epoch++
			for _, i := range random.Perm(most) {
				f.Publish(f.Topology(ring.Epoch(epoch), members), fakeAddress(i+1))
				pass(time.Duration(random.IntN(50)) * time.Millisecond)
			}
		case 1:
			if down == 0 {
				down = 1 + random.IntN(most)
				f.Node(down).Stop()
			}
		case 2:
			if down > 0 {
				f.Node(down).Start()
				down = 0
			}
		case 3:
			f.Node(1 + random.IntN(most)).CutWatches()
		case 4:
			if forgetful {
				f.Forget()
			}
		case 5, 6, 7:
			f.Progress()
		case 8, 9, 10, 11, 12:
			pass(time.Duration(random.IntN(300)) * time.Millisecond)
		case 13, 14, 15, 16, 17:
			f.Delete(key)
		default:
			f.Put(key, strconv.Itoa(random.IntN(1000)))
		}
	}
	if down > 0 {
		f.Node(down).Start()
	}
	pass(time.Minute)
	with.told()
	with.check(t, f, true)
	without.told()
	without.check(t, f, false)
}

// FuzzWatch lets a node answer WATCH with arbitrary bytes. Nothing may panic,
// hang, or be left running.
func FuzzWatch(f *testing.F) {
	for _, answer := range hostile() {
		f.Add([]byte(answer))
	}
	all := ""
	for _, p := range []protocol.Push{
		{Kind: protocol.PushWatching, ID: 1},
		{Kind: protocol.PushState, ID: 1, Start: 9, End: 9},
		{Kind: protocol.PushPut, ID: 1, Key: []byte("a"), Version: 5, ExpireAt: 1 << 62},
		{Kind: protocol.PushDelete, ID: 1, Key: []byte("a"), Version: 3},
		{Kind: protocol.PushSynced, ID: 1, Start: 1 << 31, End: 5, Version: 4},
		{Kind: protocol.PushSynced, ID: 1, Start: 5, End: 1 << 31, Version: 9},
		{Kind: protocol.PushProgress, ID: 1, Version: 2},
		{Kind: protocol.PushBehind, ID: 1},
		{Kind: protocol.PushMoved, ID: 1, Start: 3, End: 2, Version: 1, Epoch: 99, Address: []byte("n1:7401")},
		{Kind: protocol.PushRefused, ID: 1, Message: []byte("OVERLOADED wait")},
	} {
		all += string(p.Append(nil))
		f.Add([]byte(all))
	}
	topology := protocol.AppendBulk(nil, NewFakeCluster(1).Node(1).text)
	f.Fuzz(func(t *testing.T, answer []byte) {
		synctest.Test(t, func(t *testing.T) {
			first := true
			c, err := Open(t.Context(), []string{fakeAddress(1)}, WithRetryBudget(0), WithDialer(func(context.Context, string) (Conn, error) {
				if first {
					first = false
					return newScriptedConn(topology), nil
				}
				return newScriptedConn(answer), nil
			}))
			must(t, err)
			defer c.Close()
			for _, state := range []bool{false, true} {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				n := 0
				for _, err := range c.Watch(ctx, "", WatchOptions{State: state}) {
					if n++; err == nil && n > 10000 {
						break
					}
				}
				cancel()
			}
		})
	})
}
