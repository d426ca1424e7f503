package migrate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// message is what a member sends.
type message interface{ Append([]byte) []byte }

// say gives a node a message as if it came on a connection, and returns the reply.
func (n *machine) say(link *any, m message) (string, error) {
	var parser protocol.RequestParser
	args, _, err := parser.Next(m.Append(nil))
	if err != nil {
		return "", err
	}
	cmd, _ := protocol.Lookup(args[0])
	reply, lsn, err := n.mover.Command(n.ctx, link, cmd, args, nil)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(reply)), n.log.Wait(lsn)
}

// hello is a right handshake for the world's move.
func (w *world) hello() protocol.StageRange {
	m := w.document().Moves[0]
	return protocol.StageRange{
		Move: []byte(m.ID), Start: uint32(m.Range.Start), End: uint32(m.Range.End), Source: []byte(m.Source),
	}
}

// records is a batch as node A would send it for some keys of the range.
func (w *world) records(from, to int) []byte {
	w.t.Helper()
	e := w.a.e
	box := newOutbox(&Options{BatchBytes: 1 << 20, WindowBytes: 1 << 20, BufferBytes: 1 << 20})
	c := must(e.Capture("records", w.r, box))(w.t)
	defer c.Close()
	if _, err := c.CopyNext(1 << 20); err != nil {
		w.t.Fatal(err)
	}
	s := e.NewSession()
	for i := from; i < to; i++ {
		pos, key := w.key(i)
		must(s.Put(pos, key, []byte("v"), engine.PutOptions{}))(w.t)
	}
	batch, _, err := box.take()
	must(batch, err)(w.t)
	sealBatch(batch)
	return batch
}

// conversation is a connection to the target, and what it should answer.
type conversation struct {
	t    *testing.T
	n    *machine
	link any
}

func (c *conversation) expect(m message, want string) {
	c.t.Helper()
	if got, err := c.n.say(&c.link, m); err != nil || got != want {
		c.t.Fatalf("%T: %q (%v), want %q", m, got, err, want)
	}
}

func (c *conversation) refuses(m message, why error) {
	c.t.Helper()
	if got, err := c.n.say(&c.link, m); !errors.Is(err, why) {
		c.t.Fatalf("%T: %q (%v), want %v", m, got, err, why)
	}
}

func TestATargetVerifiesTheHandshakeInTheDocument(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		right := w.hello()
		wrong := func(change func(*protocol.StageRange)) protocol.StageRange {
			m := right
			change(&m)
			return m
		}
		for name, tt := range map[string]struct {
			m   protocol.StageRange
			n   *machine
			why error
		}{
			"no such move":    {wrong(func(m *protocol.StageRange) { m.Move = []byte("m99") }), w.b, cluster.ErrUnknownMove},
			"another range":   {wrong(func(m *protocol.StageRange) { m.End++ }), w.b, errMismatch},
			"another source":  {wrong(func(m *protocol.StageRange) { m.Source = []byte("c:1") }), w.b, errMismatch},
			"not this target": {right, w.a, cluster.ErrNotTarget},
		} {
			t.Log(name)
			(&conversation{t: t, n: tt.n}).refuses(tt.m, tt.why)
		}
		_, staged := w.b.e.Held()
		if len(staged) > 0 {
			t.Errorf("a refused handshake has staged %v", staged)
		}
	})
}

// TestAHandshakeReadsTheDocument: what the target followed last may be old.
func TestAHandshakeReadsTheDocument(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		old := w.hello()
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.Abort(d.Moves[0].ID) })
		c := &conversation{t: t, n: w.b}
		c.refuses(old, cluster.ErrUnknownMove)
		c.expect(w.hello(), "+READY")
	})
}

func TestATargetTakesBatchesInOrderOnce(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		c := &conversation{t: t, n: w.b}
		hello, batch := w.hello(), w.records(0, 10)
		data := func(seq uint64) protocol.StageData {
			return protocol.StageData{Move: hello.Move, Seq: seq, Payload: batch}
		}
		c.refuses(data(1), errNoMove)
		c.expect(hello, "+READY")
		c.expect(data(1), ":1")
		c.expect(data(1), ":1")
		c.expect(data(2), ":2")
		c.expect(data(1), ":2")
		c.refuses(data(4), errGap)
		c.refuses(data(3), errFenced)
		c.expect(hello, "+READY")
		c.expect(data(1), ":1")
		if s := w.b.e.Stats(); s.Staged != 10 || w.b.e.Count() != 0 {
			t.Errorf("%d staged, %d counted", s.Staged, w.b.e.Count())
		}
	})
}

func TestADamagedBatchIsRefused(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello, batch := w.hello(), w.records(0, 10)
		foreign := w.records(0, 1)
		foreign[batchHeader+1] ^= 0xff // the position
		sealBatch(foreign)
		for name, tt := range map[string]struct {
			payload []byte
			why     error
		}{
			"bit flipped":       {append(append([]byte(nil), batch[:40]...), append([]byte{batch[40] ^ 1}, batch[41:]...)...), errBatch},
			"cut short":         {batch[:len(batch)-1], errBatch},
			"nothing":           {nil, errBatch},
			"outside the range": {foreign, engine.ErrRecord},
		} {
			t.Log(name)
			c := &conversation{t: t, n: w.b}
			c.expect(hello, "+READY")
			c.refuses(protocol.StageData{Move: hello.Move, Seq: 1, Payload: tt.payload}, tt.why)
			c.refuses(protocol.StageData{Move: hello.Move, Seq: 1, Payload: batch}, errFenced)
			if s := w.b.e.Stats(); s.Staged != 0 {
				t.Errorf("%d keys of it are staged", s.Staged)
			}
		}
	})
}

// TestLateBytesOfAnOlderConnectionChangeNothing is the reconnect: what the first
// connection still has on its way arrives after the second one's handshake.
func TestLateBytesOfAnOlderConnectionChangeNothing(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello := w.hello()
		data := func(from, to int) protocol.StageData {
			return protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(from, to)}
		}
		end := protocol.StageSeal{Move: hello.Move, Seq: 1, HLC: uint64(w.a.e.Version()), Count: 0}
		first, second := &conversation{t: t, n: w.b}, &conversation{t: t, n: w.b}
		first.expect(hello, "+READY")
		second.expect(hello, "+READY")
		first.refuses(data(0, 5), errFenced)
		first.refuses(end, errFenced)
		second.expect(data(5, 7), ":1")
		first.refuses(data(0, 5), errFenced)
		w.b.mover.Closed(first.link)
		end.Seq, end.Count = 2, 7 // all that A has put meanwhile
		second.expect(end, "+COMPLETE")
	})
}

func TestCompleteIsForGood(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello := w.hello()
		c := &conversation{t: t, n: w.b}
		c.expect(hello, "+READY")
		c.expect(protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(0, 5)}, ":1")
		end := protocol.StageSeal{Move: hello.Move, Seq: 2, HLC: uint64(w.a.e.Version()), Count: 6}
		c.refuses(end, engine.ErrCount)
		c.refuses(protocol.StageSeal{Move: hello.Move, Seq: 2, HLC: end.HLC, Count: 5}, errFenced)

		c.expect(hello, "+READY")
		c.expect(protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(0, 5)}, ":1")
		end.Count = 5
		c.refuses(protocol.StageSeal{Move: hello.Move, Seq: 3, HLC: end.HLC, Count: 5}, errGap)

		c.expect(hello, "+READY")
		c.expect(protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(0, 5)}, ":1")
		c.expect(end, "+COMPLETE")
		c.expect(end, "+COMPLETE")
		c.refuses(protocol.StageData{Move: hello.Move, Seq: 2, Payload: w.records(5, 6)}, errGap)
		again := &conversation{t: t, n: w.b}
		again.expect(hello, "+COMPLETE")
		again.refuses(protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(5, 6)}, errGap)

		// After a power failure the node registers, and its moves have new ids.
		w.b.crash(nothing)
		w.reboot(w.b)
		if sealed, staged := w.b.e.Held(); len(sealed)+len(staged) > 0 {
			t.Errorf("a registered node still holds %v for a move that has a new id", staged)
		}
	})
}

// TestCompleteSurvivesTheMover: the word was given, and a mover that begins anew on
// the same log stands by it.
func TestCompleteSurvivesTheMover(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello := w.hello()
		c := &conversation{t: t, n: w.b}
		c.expect(hello, "+READY")
		c.expect(protocol.StageSeal{Move: hello.Move, Seq: 1, HLC: uint64(w.a.e.Version()), Count: 0}, "+COMPLETE")
		w.b.renewMover()
		// It also goes and looks for the decision, though nobody tells it.
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.Commit(d.Moves[0].ID) })
		wait(2 * lastLook)
		w.unheld()
		w.mustOwn(w.b)
	})
}

// TestCompleteIsRepeated also by a mover that begins anew.
func TestCompleteIsRepeated(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello := w.hello()
		c := &conversation{t: t, n: w.b}
		c.expect(hello, "+READY")
		c.expect(protocol.StageSeal{Move: hello.Move, Seq: 1, HLC: uint64(w.a.e.Version()), Count: 0}, "+COMPLETE")
		w.b.renewMover()
		(&conversation{t: t, n: w.b}).expect(hello, "+COMPLETE")
	})
}

// renewMover gives a node a new mover, as after a restart that kept the log.
func (n *machine) renewMover() {
	n.t.Helper()
	must(0, n.mover.Close())(n.t)
	next := must(New(n.mover.o))(n.t)
	n.reading.Lock()
	n.mu.Lock()
	n.mover = next
	n.mu.Unlock()
	n.reading.Unlock()
	must(n.refresh(n.t.Context()))(n.t)
}

func TestADocumentEndsASession(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello, batch := w.hello(), w.records(0, 5)
		c := &conversation{t: t, n: w.b}
		c.expect(hello, "+READY")
		w.update(func(d cluster.Document) (cluster.Document, error) { return d.Abort(d.Moves[0].ID) })
		must(w.b.refresh(t.Context()))(t)
		c.refuses(protocol.StageData{Move: hello.Move, Seq: 1, Payload: batch}, errFenced)
		w.unheld()
	})
}

func TestMigrateRangeIsVerifiedInTheDocument(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		m := w.document().Moves[0]
		right := protocol.MigrateRange{
			Start: uint32(m.Range.Start), End: uint32(m.Range.End), Target: []byte(m.Target), Move: []byte(m.ID),
		}
		c := &conversation{t: t, n: w.a}
		// An empty range moves so fast that the second request could come too late.
		repeated := make(chan struct{})
		w.a.points.OnHit(pointSourcePlan, 1, func() error { <-repeated; return nil })
		wrong := right
		wrong.Move = []byte("m99")
		c.refuses(wrong, cluster.ErrUnknownMove)
		wrong = right
		wrong.Target = []byte("c:1")
		c.refuses(wrong, errMismatch)
		wrong = right
		wrong.Start++
		c.refuses(wrong, errMismatch)
		(&conversation{t: t, n: w.b}).refuses(right, errMismatch)
		c.expect(right, "+OK")
		c.expect(right, "+OK")
		close(repeated)
		w.settled()
		w.mustOwn(w.b)
		c.refuses(right, cluster.ErrUnknownMove)
	})
}

func TestUnknownCommandsAndGarbageAreRefused(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		var link any
		for _, args := range [][]string{
			{"GET", "x"},
			{"STAGE_RANGE", "m1"},
			{"STAGE_RANGE", "m1", "-1", "5", "a:1"},
			{"STAGE_DATA", "m1", "x", "y"},
			{"STAGE_SEAL", "m1", "1", "2"},
			{"MIGRATE_RANGE", "1", "2", "b:1"},
		} {
			raw := make([][]byte, len(args))
			for i, a := range args {
				raw[i] = []byte(a)
			}
			cmd, _ := protocol.Lookup(raw[0])
			if _, _, err := w.b.mover.Command(w.b.ctx, &link, cmd, raw, nil); err == nil {
				t.Errorf("%q was accepted", args)
			}
		}
	})
}

func TestAFullDiskAtTheTargetIsToldAndSurvived(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		hello, c := w.hello(), &conversation{t: t, n: w.b}
		c.expect(hello, "+READY")
		w.b.points.OnHit(pointTargetCopy, 1, func() error { return engine.ErrReadOnly })
		_, err := w.b.say(&c.link, protocol.StageData{Move: hello.Move, Seq: 1, Payload: w.records(0, 5)})
		if e := protocol.AsError(err); e == nil || e.Code != protocol.READONLY {
			t.Errorf("a full disk is told as %v", err)
		}
	})
	withTraffic(t, func(w *world) {
		w.b.points.OnHit(pointTargetCopy, 2, func() error { return engine.ErrReadOnly })
	})
}

func FuzzOpenBatch(f *testing.F) {
	whole := append(startBatch(nil), "records"...)
	sealBatch(whole)
	f.Add(whole)
	f.Add(whole[:3])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := openBatch(b)
		if err != nil {
			return
		}
		again := append(startBatch(nil), records...)
		if sealBatch(again); string(again) != string(b) {
			t.Errorf("%x opens to %x, which seals to %x", b, records, again)
		}
	})
}

// A full disk and a log that cannot make its next segment are not the same trouble.
func TestATargetSaysWhyItTakesNothing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", engine.ErrReadOnly, wal.ErrDiskFull), "disk is full"},
		{fmt.Errorf("%w: %w", engine.ErrReadOnly, fmt.Errorf("%w: too many open files", wal.ErrNoSegment)), "too many open files"},
		{engine.ErrCount, "do not match"},
	} {
		if got := refusal(c.err); !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v: the source is told %q, want %q", c.err, got, c.want)
		}
	}
}
