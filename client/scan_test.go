package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// collect walks to the end.
func collect(ctx context.Context, c *Client, o ScanOptions) (keys []string, err error) {
	last := ring.Position(0)
	for e, err := range c.Scan(ctx, o) {
		if err != nil {
			return keys, err
		}
		if e.Position < last || e.Position != ring.PositionOfString(e.Key) {
			return keys, fmt.Errorf("%q at %d after %d", e.Key, e.Position, last)
		}
		last = e.Position
		keys = append(keys, e.Key)
	}
	return keys, nil
}

func wantKeys(t *testing.T, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
}

func TestScanFindsEveryKeyOnceInRingOrder(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		pairs, keys := somePairs(1000)
		_, err := c.MPut(ctx, pairs)
		must(t, err)
		for _, count := range []int{0, 1, 7, 100, 1 << 30} {
			got, err := collect(ctx, c, ScanOptions{Count: count})
			must(t, err)
			wantKeys(t, got, keys)
		}
		before := f.Node(1).Served("SCAN")
		_, err = collect(ctx, c, ScanOptions{})
		must(t, err)
		if n := f.Node(1).Served("SCAN") - before; n != 1 {
			t.Errorf("%d pages of a node whose keys fit in one, in spite of its many arcs", n)
		}
		for range c.Scan(ctx, ScanOptions{}) {
			break // a walk may stop anywhere
		}
	})
}

func TestScanOfAnEmptyCluster(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		got, err := collect(ctx, open(t, ctx, f), ScanOptions{Values: true})
		if err != nil || len(got) != 0 {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestScanOptions(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		long := strings.Repeat("long", 300)
		all := []string{"cart:1", "cart:2", "cart:22", "car[t]:1", "user:1", "user:2", long, long + "er"}
		for _, k := range all {
			f.Put(k, "value of "+k)
		}
		for _, tc := range []struct {
			name string
			o    ScanOptions
			want []string
		}{
			{"a prefix", ScanOptions{Prefix: "cart:"}, all[:3]},
			{"a prefix is no pattern", ScanOptions{Prefix: "car[t]"}, all[3:4]},
			{"a pattern", ScanOptions{Match: "*:2"}, []string{"cart:2", "user:2"}},
			{"both", ScanOptions{Prefix: "cart:", Match: "*2"}, all[1:3]},
			{"a prefix longer than a node takes", ScanOptions{Prefix: long}, all[6:]},
			{"that and a pattern", ScanOptions{Prefix: long, Match: "*er"}, all[7:]},
			{"nothing", ScanOptions{Prefix: "x"}, nil},
		} {
			got, err := collect(ctx, c, tc.o)
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			wantKeys(t, got, tc.want)
		}
	})
}

func TestScanValues(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, keys := somePairs(3*valueBatch + 5)
		for _, k := range keys {
			f.Put(k, "value of "+k)
		}
		f.Put("gone", "before its value was asked for")
		var got []string
		for e, err := range c.Scan(ctx, ScanOptions{Values: true}) {
			must(t, err)
			if len(got) == 0 {
				_, err := c.Delete(ctx, "gone")
				must(t, err)
			}
			if string(e.Value) != "value of "+e.Key && e.Key != "gone" || e.Version == 0 {
				t.Errorf("%s: %q, version %s", e.Key, e.Value, e.Version)
			}
			got = append(got, e.Key)
		}
		if len(got) < len(keys) {
			t.Errorf("%d keys of %d", len(got), len(keys))
		}
		// An error after some pages: what was walked over is given first.
		f.Node(2).Stop()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for _, err := range c.Scan(short, ScanOptions{Values: true}) {
			if err != nil {
				wantIs(t, err, errRefused)
			}
		}
	})
}

// The heart of the matter: ranges move while the walk is under way, the nodes
// learn of it one after another in any order, other keys come and go. Every key
// that is there all the time is found, and none is found twice.
func TestScanWhileRangesMove(t *testing.T) {
	for seed := range uint64(60) {
		inCluster(t, 4, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			dice := rand.New(rand.NewPCG(seed, 1))
			_, keys := somePairs(dice.IntN(400))
			for _, k := range keys {
				f.Put(k, "stays")
			}
			c := open(t, ctx, f)
			unrest := &unrest{f: f, dice: dice, epoch: 1, moves: dice.IntN(30)}
			for i := range 4 {
				f.Node(i + 1).Script(func(name string, _ [][]byte) (act fakeAct) {
					if name == "SCAN" || name == "TOPOLOGY" {
						act.before = unrest.step
					}
					return act
				})
			}
			got, err := collect(ctx, c, ScanOptions{Count: 1 + dice.IntN(30)})
			must(t, err)
			got = slices.DeleteFunc(got, func(k string) bool { return strings.HasPrefix(k, "volatile") })
			wantKeys(t, got, keys)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// unrest changes who owns what, one node at a time, as walks go by.
type unrest struct {
	mu      sync.Mutex
	f       *FakeCluster
	dice    *rand.Rand
	epoch   ring.Epoch
	moves   int
	next    ring.Topology
	unaware []string // nodes that have not learnt of next
}

func (u *unrest) step() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for range u.dice.IntN(3) {
		u.f.Put("volatile"+strconv.Itoa(u.dice.IntN(100)), "")
	}
	u.move()
}

// move takes the next node, or the next move.
func (u *unrest) move() {
	if len(u.unaware) > 0 {
		u.f.Publish(u.next, u.unaware[0])
		u.unaware = u.unaware[1:]
		return
	}
	if u.moves == 0 {
		return
	}
	u.moves--
	u.epoch++
	u.next = u.f.Topology(u.epoch, 4)
	for i := range u.next.Nodes {
		u.next.Nodes[i].Tokens = u.dice.IntN(20)
		u.unaware = append(u.unaware, fakeAddress(i+1))
	}
	u.next.Nodes[0].Tokens++ // somebody owns it
	u.dice.Shuffle(4, func(i, j int) { u.unaware[i], u.unaware[j] = u.unaware[j], u.unaware[i] })
}

func TestScanGoesOnWhenANodeLeaves(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, keys := somePairs(500)
		for _, k := range keys {
			f.Put(k, "v")
		}
		var got []string
		for e, err := range c.Scan(ctx, ScanOptions{Count: 10}) {
			must(t, err)
			got = append(got, e.Key)
			switch len(got) {
			case 100: // leaves, and is switched off
				f.Publish(f.Topology(2, 2))
				f.Node(3).Stop()
			case 300: // comes back, with others
				f.Node(3).Start()
				f.Add(fakeAddress(4))
				f.Publish(f.Topology(3, 4))
			}
		}
		wantKeys(t, got, keys)
	})
}

func TestScanWaitsForAHeldRange(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, keys := somePairs(50)
		for _, k := range keys {
			f.Put(k, "v")
		}
		f.Node(1).Script(failing("SCAN", 7, protocol.TRYAGAIN))
		f.Node(2).Script(failing("TOPOLOGY", 3, protocol.UNAVAILABLE))
		got, err := collect(ctx, c, ScanOptions{})
		must(t, err)
		wantKeys(t, got, keys)
	})
}

func TestScanCanBeResumed(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, keys := somePairs(200)
		for _, k := range keys {
			f.Put(k, "v")
		}
		f.Node(2).Stop()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		first, err := collect(short, c, ScanOptions{Count: 5})
		wantIs(t, err, errRefused)
		wantIs(t, err, context.DeadlineExceeded)
		f.Node(2).Start()
		start := ring.Position(0)
		if len(first) > 0 {
			start = ring.PositionOfString(first[len(first)-1]) + 1
		}
		rest, err := collect(ctx, c, ScanOptions{Start: start})
		must(t, err)
		wantKeys(t, append(first, rest...), keys)
		top, err := collect(ctx, c, ScanOptions{Start: ring.MaxPosition})
		if len(top) != 0 || err != nil {
			t.Errorf("from the top: %q, %v", top, err)
		}
	})
}

func TestCountWhileRangesMove(t *testing.T) {
	for seed := range uint64(20) {
		inCluster(t, 4, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			_, keys := somePairs(300)
			for _, k := range keys {
				f.Put(k, "stays")
			}
			c := open(t, ctx, f)
			// All nodes change hands between the first answer and the second.
			u := &unrest{f: f, dice: rand.New(rand.NewPCG(seed, 2)), epoch: 1, moves: 1}
			f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
				if name == "DBSIZE" {
					act.before = func() {
						for range u.dice.IntN(4) {
							u.move()
						}
					}
				}
				return act
			})
			n, err := c.Count(ctx)
			must(t, err)
			if n != 300 {
				t.Errorf("seed %d: %d keys", seed, n)
			}
		})
	}
}

func TestPagesThatMakeNoSense(t *testing.T) {
	a, b := "a", "b"
	if ring.PositionOfString(a) > ring.PositionOfString(b) {
		a, b = b, a
	}
	pos := func(s string) uint64 { return uint64(ring.PositionOfString(s)) }
	scanReply := func(cursor uint64, keys ...string) []byte {
		out := protocol.AppendBulkUint(protocol.AppendArray(nil, 2), cursor)
		out = protocol.AppendArray(out, len(keys))
		for _, k := range keys {
			out = protocol.AppendBulkString(out, k)
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		at    uint64
		reply []byte
		good  bool
	}{
		{"two keys and the end", 0, scanReply(0, a, b), true},
		{"a page", 0, scanReply(pos(a)+1, a), true},
		{"an empty page", 5, scanReply(6), true},
		{"the wrong order", 0, scanReply(0, b, a), false},
		{"a key from before", pos(b), scanReply(0, a), false},
		{"a key from behind the cursor", 0, scanReply(pos(b), b), false},
		{"a cursor that stands still", 7, scanReply(7), false},
		{"a cursor that goes back", 7, scanReply(6), false},
		{"a cursor off the ring", 0, scanReply(ringSize), false},
		{"a cursor that is none", 0, []byte("*2\r\n$1\r\nx\r\n*0\r\n"), false},
		{"no cursor", 0, []byte("*2\r\n$-1\r\n*0\r\n"), false},
		{"a key that is none", 0, []byte("*2\r\n$1\r\n0\r\n*1\r\n:1\r\n"), false},
		{"one element", 0, []byte("*1\r\n$1\r\n0\r\n"), false},
	} {
		parser := protocol.ReplyParser{Limits: protocol.DefaultLimits()}
		r, _, err := parser.Next(tc.reply)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		_, err = decodePage(&node{address: "n"}, r, tc.at)
		var wrong *ReplyError
		if tc.good != (err == nil) || err != nil && !errors.As(err, &wrong) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// What a page tells about is exactly what the node owns.
func TestOwnershipIsThatOfTheMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topology := ring.Topology{Cluster: "c"}
		for i := range rapid.IntRange(0, 4).Draw(t, "nodes") {
			topology.Nodes = append(topology.Nodes, ring.Node{
				Address: fakeAddress(i + 1), Tokens: rapid.IntRange(0, 3).Draw(t, "tokens"),
			})
		}
		m, err := topology.Map()
		if err != nil {
			t.Fatal(err)
		}
		o := ownership{ranges: m.ArcsOf(fakeAddress(1))}
		for at := uint64(0); at < ringSize; {
			p := ring.Position(at)
			owned := m.Owner(p) == fakeAddress(1)
			end := o.until(at)
			if (end > 0) != owned || end > ringSize {
				t.Fatalf("at %d: owned %v, until %d", at, owned, end)
			}
			if !owned {
				end = nextArc(m, p)
			} else if m.Owner(ring.Position(end-1)) != fakeAddress(1) {
				t.Fatalf("at %d: until %d, whose last is not owned", at, end)
			}
			at = end
		}
	})
}

// nextArc is the first position after the arc around p.
func nextArc(m *ring.Map, p ring.Position) uint64 {
	for _, a := range m.Arcs() {
		if a.Contains(p) && a.End >= p {
			return uint64(a.End) + 1
		}
	}
	return ringSize
}

func TestAnEscapedPrefixMatchesItselfOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := []byte(`ab*?[]\^-`)
		prefix := string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 6).Draw(t, "prefix"))
		key := string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 8).Draw(t, "key"))
		if rapid.Bool().Draw(t, "begin so") {
			key = prefix + key
		}
		got := protocol.Match([]byte(escapeGlob(prefix)+"*"), []byte(key))
		if got != strings.HasPrefix(key, prefix) {
			t.Fatalf("prefix %q, key %q: %v", prefix, key, got)
		}
	})
}

func FuzzPage(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"), uint64(0))
	f.Add([]byte("*2\r\n$10\r\n4294967295\r\n*0\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, at uint64) {
		parser := protocol.ReplyParser{Limits: protocol.DefaultLimits()}
		r, n, err := parser.Next(data)
		if err != nil || n == 0 {
			return
		}
		at %= ringSize
		p, err := decodePage(&node{address: "n"}, r, at)
		if err != nil {
			return
		}
		if p.to <= at || p.to > ringSize {
			t.Fatalf("a page from %d to %d", at, p.to)
		}
		if !slices.IsSortedFunc(p.keys, func(a, b Entry) int { return bytes.Compare(be(a), be(b)) }) {
			t.Fatal("out of order")
		}
	})
}

func be(e Entry) []byte {
	p := e.Position
	return []byte{byte(p >> 24), byte(p >> 16), byte(p >> 8), byte(p)}
}
