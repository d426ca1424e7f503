package client

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

func ask(reads bool, args ...string) Request {
	return Request{
		Position: ring.PositionOfString(args[1]), Reads: reads,
		Wire: protocol.AppendRequestStrings(nil, args[0], args[1:]...),
	}
}

func TestExchangeAnswersEachRequest(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var all []Request
		for i := range 500 {
			key := "k" + strconv.Itoa(i)
			all = append(all, ask(false, "PUT", key, "v"+key), ask(true, "GET", key), ask(false, "DEL", key), ask(true, "GET", key))
		}
		c.Exchange(ctx, all, nil)
		for i := 0; i < len(all); i += 4 {
			for j := range 4 {
				must(t, all[i+j].Err)
			}
			if string(all[i].Reply.Bytes) != "OK" || string(all[i+1].Reply.Bytes) != "vk"+strconv.Itoa(i/4) || all[i+2].Reply.Int != 1 || !all[i+3].Reply.Null {
				t.Fatalf("request %d: %v %v %v %v", i, all[i].Reply, all[i+1].Reply, all[i+2].Reply, all[i+3].Reply)
			}
		}
		one := []Request{ask(true, "GET", "nobody")}
		if c.Exchange(ctx, one, nil); one[0].Err != nil || !one[0].Reply.Null {
			t.Errorf("a single one: %+v", one[0])
		}
	})
}

// TestExchangeNeverLetsARequestOvertake has the node refuse the first write of a key
// and take the second: the first must then not be sent again.
func TestExchangeNeverLetsARequestOvertake(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		key, other := f.Node(1).KeyOf("a"), f.Node(1).KeyOf("b")
		var seen atomic.Int64
		f.Node(1).Script(func(name string, args [][]byte) fakeAct {
			if name == "PUT" && string(args[1]) == key && seen.Add(1) == 1 {
				return fakeAct{reply: []byte("-TRYAGAIN in a moment\r\n")}
			}
			return fakeAct{}
		})
		all := []Request{ask(false, "PUT", key, "first"), ask(false, "PUT", other, "x"), ask(false, "PUT", key, "second"), ask(true, "GET", key)}
		c.Exchange(ctx, all, nil)
		var refused *ServerError
		if !errors.As(all[0].Err, &refused) || refused.Code != protocol.TRYAGAIN {
			t.Errorf("the first write: %v", all[0].Err)
		}
		for _, r := range all[1:] {
			must(t, r.Err)
		}
		if got := string(all[3].Reply.Bytes); got != "second" || seen.Load() != 2 {
			t.Errorf("%q after %d writes", got, seen.Load())
		}
	})
}

// TestExchangeTriesAgainInOrder has a whole run for one key refused: then all of it
// is sent again, in its order.
func TestExchangeTriesAgainInOrder(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		key := f.Node(1).KeyOf("a")
		var refused atomic.Int64
		f.Node(1).Script(func(name string, _ [][]byte) fakeAct {
			if name == "PUT" && refused.Add(1) <= 20 {
				return fakeAct{reply: []byte("-TRYAGAIN in a moment\r\n")}
			}
			return fakeAct{}
		})
		var all []Request
		for i := range 20 {
			all = append(all, ask(false, "PUT", key, strconv.Itoa(i)))
		}
		c.Exchange(ctx, all, nil)
		for _, r := range all {
			must(t, r.Err)
		}
		value, err := c.Get(ctx, key)
		if must(t, err); string(value) != "19" {
			t.Errorf("the last write was %q", value)
		}
	})
}

func TestExchangeKeepsWhatIsAdmitted(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var all []Request
		for i := range 10 {
			f.Put("k"+strconv.Itoa(i), "value")
			all = append(all, ask(true, "GET", "k"+strconv.Itoa(i)), ask(false, "DEL", "k"+strconv.Itoa(i)))
		}
		var left atomic.Int64
		left.Store(3)
		c.Exchange(ctx, all, func(bytes int) bool { return bytes > 0 && left.Add(-1) >= 0 })
		kept := 0
		for i := 0; i < len(all); i += 2 {
			if all[i].Err == nil {
				kept++
			} else {
				wantIs(t, all[i].Err, ErrNotAdmitted)
			}
			must(t, all[i+1].Err) // what changes something is always told
		}
		if kept > 3 {
			t.Errorf("%d kept", kept)
		}
		one := []Request{ask(true, "GET", "k1")}
		c.Exchange(ctx, one, func(int) bool { return false })
		wantIs(t, one[0].Err, ErrNotAdmitted)
	})
}

func TestExchangeSaysWhatIsUnknown(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		key, safe := f.Node(1).KeyOf("a"), f.Node(2).KeyOf("b")
		f.Node(1).Script(func(name string, _ [][]byte) fakeAct { return fakeAct{cut: name == "PUT"} })
		all := []Request{ask(false, "PUT", key, "x"), ask(false, "PUT", safe, "x")}
		c.Exchange(ctx, all, nil)
		wantIs(t, all[0].Err, ErrOutcomeUnknown)
		must(t, all[1].Err)
	})
}
