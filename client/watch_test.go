package client

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// viewer is a consumer that takes all it is told.
type viewer struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	changes  []Change
	seen     int // of changes, given by told
	versions map[string]Version
	faults   []string
	err      error
}

// view watches keys with a prefix until the test ends.
func view(t *testing.T, ctx context.Context, c *Client, prefix string, o WatchOptions) *viewer {
	ctx, cancel := context.WithCancel(ctx)
	return viewSeq(t, cancel, c.Watch(ctx, prefix, o))
}

func viewSeq(t *testing.T, cancel context.CancelFunc, changes iter.Seq2[Change, error]) *viewer {
	v := &viewer{cancel: cancel, done: make(chan struct{}), versions: map[string]Version{}}
	go func() {
		defer close(v.done)
		for change, err := range changes {
			v.take(change, err)
		}
	}()
	t.Cleanup(func() { v.end() })
	return v
}

func (v *viewer) take(change Change, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.err = err
		return
	}
	if change.Key != "" && change.Version <= v.versions[change.Key] {
		v.faults = append(v.faults, "version "+change.Version.String()+" of "+change.Key+" after "+v.versions[change.Key].String())
	}
	v.versions[change.Key] = change.Version
	v.changes = append(v.changes, change)
}

// end ends the watch and returns its error.
func (v *viewer) end() error {
	v.cancel()
	<-v.done
	return v.err
}

// told is what came since the last call: "a=1", "-a", "synced", "resync".
func (v *viewer) told() string {
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []string
	for _, c := range v.changes[v.seen:] {
		switch c.Kind {
		case ChangePut:
			all = append(all, c.Key+"="+string(c.Value))
		case ChangeDelete:
			all = append(all, "-"+c.Key)
		default:
			all = append(all, c.Kind.String())
		}
	}
	v.seen = len(v.changes)
	return strings.Join(all, " ")
}

// sorted puts the words of told in order, where that of the keys is open.
func sorted(words string) string {
	all := strings.Fields(words)
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (v *viewer) want(t *testing.T, want string) {
	t.Helper()
	if got := v.told(); sorted(got) != sorted(want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if len(v.faults) > 0 {
		t.Error(v.faults)
	}
	if v.err != nil {
		t.Error(v.err)
	}
}

func TestAWatchTellsWhatComes(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Put("a:old", "0")
		v := view(t, ctx, c, "a:", WatchOptions{})
		v.want(t, "synced")
		must(t, c.Put(ctx, "a:1", []byte("x"), WithTTL(time.Hour)))
		must(t, c.Put(ctx, "b:1", []byte("x")))
		v.want(t, "a:1=x")
		if got := v.changes[1].ExpiresAt; time.Until(got) != time.Hour {
			t.Errorf("expires at %v", got)
		}
		_, err := c.Delete(ctx, "a:1", "a:old")
		must(t, err)
		v.want(t, "-a:1 -a:old")
		must(t, c.Put(ctx, "a:1", nil))
		v.want(t, "a:1=")
		wantIs(t, v.end(), context.Canceled)
		synctest.Wait()
		f.mu.Lock()
		for w := range f.everyWatch {
			t.Errorf("%s is still watched", w.node.address)
		}
		f.mu.Unlock()
	})
}

func TestStateComesFirst(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		for _, key := range []string{"a:1", "a:2", "a:3", "b:1"} {
			f.Put(key, key[2:])
		}
		v := view(t, ctx, c, "a:", WatchOptions{State: true})
		got := v.told()
		if sorted(got) != sorted("a:1=1 a:2=2 a:3=3 synced") || !strings.HasSuffix(got, "synced") {
			t.Errorf("told %q", got)
		}
		f.Put("a:4", "4")
		v.want(t, "a:4=4")
	})
}

func TestWatchOfOneKeyAsksItsOwnerOnly(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Put("a", "1")
		f.Put("ab", "1")
		ctx, cancel := context.WithCancel(ctx)
		v := viewSeq(t, cancel, c.WatchKey(ctx, "a", WatchOptions{State: true}))
		v.want(t, "a=1 synced")
		f.Put("a", "2")
		f.Put("ab", "2")
		v.want(t, "a=2")
		asked := 0
		for i := range 3 {
			asked += f.Node(i + 1).Served("WATCH")
		}
		if asked != 1 {
			t.Errorf("%d WATCHes", asked)
		}
	})
}

func TestAWatchFollowsRangesThatMove(t *testing.T) {
	for _, state := range []bool{false, true} {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			v := view(t, ctx, c, "", WatchOptions{State: state})
			v.want(t, "synced")
			f.Add(fakeAddress(3))
			f.Publish(f.Topology(1, 2), fakeAddress(3)) // it knows of no change yet
			next := f.Topology(2, 3)
			keys := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
			write := func(value string) {
				for _, k := range keys {
					f.Put(k, value)
				}
			}
			write("1")
			v.told()
			f.Publish(next, fakeAddress(1)) // the old owner lets go first
			write("2")
			for _, k := range keys[5:] {
				f.Delete(k)
			}
			f.Publish(next, fakeAddress(2))
			f.Publish(next, fakeAddress(3))
			pass(5 * time.Second)
			write("3")
			pass(time.Second)
			got := v.told()
			for _, k := range keys {
				if !strings.Contains(got, k+"=3") {
					t.Errorf("%s: told %q", k, got)
				}
			}
			if len(v.faults) > 0 {
				t.Error(v.faults)
			}
			// And back, in the other order.
			back := f.Topology(3, 2)
			f.Publish(back, fakeAddress(1), fakeAddress(2))
			f.Publish(back, fakeAddress(3))
			f.Node(3).Stop()
			write("4")
			pass(5 * time.Second)
			v.want(t, "a=4 b=4 c=4 d=4 e=4 f=4 g=4 h=4 i=4 j=4")
		})
	}
}

func TestNothingIsMissedWhileANodeIsAway(t *testing.T) {
	for _, state := range []bool{false, true} {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			n := f.Node(2)
			a, b := n.KeyOf("a"), n.KeyOf("b")
			f.Put(a, "1")
			v := view(t, ctx, c, "", WatchOptions{State: state})
			v.told()
			f.Put(b, "1")
			v.want(t, b+"=1")
			n.Stop()
			pass(time.Minute)
			f.Put(b, "2")
			f.Put(b, "3")
			f.Delete(a)
			v.want(t, "")
			n.Start()
			pass(10 * time.Second)
			v.want(t, "-"+a+" "+b+"=3")
			f.Progress()
			n.CutWatches() // nothing happened: nothing is told
			pass(10 * time.Second)
			v.want(t, "")
		})
	}
}

func TestAWatchThatWasAwayForTooLong(t *testing.T) {
	away := func(state bool, want string) {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			f.Put("gone", "1")
			f.Put("stays", "1")
			f.Put("changes", "1")
			v := view(t, ctx, c, "", WatchOptions{State: state})
			v.told()
			for i := range 2 {
				f.Node(i + 1).Stop()
			}
			f.Put("new", "1")
			f.Put("changes", "2")
			f.Put("short", "1")
			f.Delete("short")
			f.Delete("gone")
			f.Forget()
			for i := range 2 {
				f.Node(i + 1).Start()
			}
			pass(10 * time.Second)
			v.want(t, want)
		})
	}
	away(true, "new=1 changes=2 -gone")
	away(false, "new=1 changes=2 resync resync") // one for each node
}

func TestASlowConsumerHoldsUpNobodyAndConverges(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.patience = 20
		c := open(t, ctx, f)
		wait, last := make(chan struct{}), map[string]string{}
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		count := 0
		go func() {
			defer close(done)
			for change, err := range c.Watch(ctx, "", WatchOptions{}) {
				switch {
				case err != nil:
					return
				case change.Kind == ChangePut:
					last[change.Key] = string(change.Value)
				case change.Kind == ChangeDelete:
					delete(last, change.Key)
				}
				if count++; count == 1 {
					<-wait
				}
			}
		}()
		synctest.Wait()
		for i := range 1000 {
			f.Put(string(rune('a'+i%10)), string(rune('A'+i%26)))
		}
		f.Delete("a")
		pass(time.Hour) // the node is not silent, the consumer is
		must(t, c.Put(ctx, "b", []byte("last")))
		close(wait)
		pass(time.Minute)
		synctest.Wait()
		if len(last) != 9 || last["b"] != "last" || last["j"] != string(rune('A'+999%26)) {
			t.Errorf("it has %v", last)
		}
		if count > 200 {
			t.Errorf("%d changes were kept for it", count)
		}
		if _, dials := f.Node(1).Conns(); dials != 3 { // the seed, what is shared, and the watch
			t.Errorf("%d dials", dials)
		}
		cancel()
		<-done
	})
}

func TestAWatchEnds(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Put("a", "1")
		for range c.Watch(ctx, "", WatchOptions{State: true}) {
			break // the consumer has enough
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var last error
		for _, err := range c.Watch(short, "", WatchOptions{}) {
			last = err
		}
		wantIs(t, last, context.DeadlineExceeded)
		for change, err := range c.Watch(ctx, "", WatchOptions{State: true}) {
			if last = err; change.Kind == ChangePut {
				must(t, c.Close()) // from within
			}
		}
		wantIs(t, last, ErrClosed)
		for _, err := range c.Watch(ctx, "", WatchOptions{}) {
			last = err
		}
		wantIs(t, last, ErrClosed)
	})
}

func TestAWatchThatIsRefusedForGood(t *testing.T) {
	for _, plain := range []bool{false, true} {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			f.Node(2).refuse(1<<30, "NOPERM not with this token", plain)
			var last error
			for _, err := range c.Watch(ctx, "", WatchOptions{}) {
				last = err
			}
			var e *ServerError
			if !errors.As(last, &e) || e.Code != protocol.NOPERM || e.Node != fakeAddress(2) {
				t.Errorf("got %v", last)
			}
		})
	}
}

func TestAWatchThatIsRefusedForNow(t *testing.T) {
	for _, plain := range []bool{false, true} {
		inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f)
			f.Node(2).refuse(5, "UNAVAILABLE it starts", plain)
			v := view(t, ctx, c, "", WatchOptions{})
			v.want(t, "")
			pass(10 * time.Second)
			v.want(t, "synced")
			if n := f.Node(2).Served("WATCH"); n != 6 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// refuse refuses n WATCHes, with a push or a plain error.
func (n *FakeNode) refuse(times int, message string, plain bool) {
	n.OnWatch(func(w *fakeWatch, what protocol.Watch) {
		if times--; times < 0 {
			n.onWatch = nil
			n.answerWatch(w, what)
			return
		}
		if plain {
			w.queue = append(w.queue, fakePush{raw: []byte("-" + message + "\r\n")})
			w.nudge()
			return
		}
		w.push(protocol.Push{Kind: protocol.PushRefused, ID: what.ID, Message: []byte(message)})
	})
}

func TestANodeThatGivesNoSignOfLife(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		v := view(t, ctx, c, "", WatchOptions{})
		v.want(t, "synced")
		pass(time.Hour)
		if n := f.Node(1).Served("WATCH"); n != 1 {
			t.Fatalf("asked %d times of a node that is well", n)
		}
		f.mu.Lock()
		f.nodes[fakeAddress(1)].deaf = true
		f.mu.Unlock()
		pass(time.Minute)
		if n := f.Node(1).Served("WATCH"); n < 2 {
			t.Errorf("asked %d times of one that is not", n)
		}
		v.want(t, "")
	})
}

func TestEndsOfAMap(t *testing.T) {
	m, err := ring.NewMap([]ring.Node{{Address: "a:1", Tokens: 3}, {Address: "b:1", Tokens: 3}})
	must(t, err)
	for i, a := range m.Arcs() {
		if m.Ends()[i] != a.End {
			t.Errorf("end %d is %v, want %v", i, m.Ends()[i], a.End)
		}
	}
}
