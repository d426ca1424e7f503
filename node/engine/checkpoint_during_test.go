package engine

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/ring"
)

// during takes the picture of partition 0, which holds keys "1" to "20" at the
// positions of their names, entry by entry, and does something when the scan has
// come to position 11.
func during(t *testing.T, m *machine, do func(s *Session)) *parts {
	t.Helper()
	cp, err := m.BeginCheckpoint()
	must(t, err)
	defer cp.Close()
	steps := 0
	cp.chunk, cp.delta = 1, 0
	cp.pause = func() {
		if steps++; steps == 10 {
			do(m.NewSession())
		}
	}
	p := &parts{}
	for i := range p {
		p.take(t, cp, i)
	}
	s, err := cp.Finish()
	must(t, err)
	m.base = &Base{State: s.Encode(), Load: p.load}
	return p
}

// lowRange is the part of partition 0 in which the keys of numbered lie.
var lowRange = ring.Range{Start: ring.MaxPosition, End: 20}

// numbered boots a machine with keys "1" to "20" at positions 1 to 20.
func numbered(t *testing.T) *machine {
	t.Helper()
	m := newOwner(t)
	s := m.NewSession()
	for i := range 20 {
		expireAt := int64(0)
		if i == 3 {
			expireAt = startedAt + 1000
		}
		_, err := s.Put(ring.Position(i+1), []byte(strconv.Itoa(i+1)), []byte("old"), PutOptions{ExpireAt: expireAt})
		must(t, err)
	}
	must(t, s.Wait())
	return m
}

func (p *parts) all() map[string]got {
	all := map[string]got{}
	for _, part := range p {
		for _, e := range part {
			all[e.key] = e.got
		}
	}
	return all
}

// Whatever happens behind and before the scan, the picture is what memory is at the
// cut, and a restart comes back to it.
func TestWhatChangesDuringAScanIsInThePicture(t *testing.T) {
	r := lowRange
	quarter := ring.Range{Start: ring.MaxPosition, End: 1 << 30}
	step := func(m *machine, steps ...func() error) {
		t.Helper()
		for _, do := range steps {
			must(t, do())
		}
	}
	for name, do := range map[string]func(m *machine, s *Session) error{
		"new key": func(_ *machine, s *Session) error {
			_, err := s.Put(3, []byte("new"), []byte("v"), PutOptions{})
			return err
		},
		"overwritten": func(_ *machine, s *Session) error {
			_, err := s.Put(3, []byte("3"), []byte("v"), PutOptions{})
			return err
		},
		"deleted": func(_ *machine, s *Session) error { _, err := s.Delete(3, []byte("3"), nil); return err },
		"deleted and written again": func(_ *machine, s *Session) error {
			_, err := s.Delete(3, []byte("3"), nil)
			must(t, err)
			_, err = s.Put(3, []byte("3"), []byte("v"), PutOptions{})
			return err
		},
		"appended": func(_ *machine, s *Session) error { _, err := s.Append(3, []byte("3"), []byte("+")); return err },
		"expiry set": func(_ *machine, s *Session) error {
			_, err := s.Expire(3, []byte("3"), startedAt+9999, ExpireAlways)
			return err
		},
		"expiry removed": func(_ *machine, s *Session) error { _, err := s.Persist(4, []byte("4")); return err },
		"expired": func(m *machine, _ *Session) error {
			m.clock.add(2000)
			for m.Tick(5000) {
			}
			return nil
		},
		"sealed":  func(m *machine, _ *Session) error { _, err := m.Seal("m", r); return err },
		"dropped": func(m *machine, _ *Session) error { m.sync(m.Seal("m", r)); m.sync(m.Drop("m")); return nil },
		"dropped and freed": func(m *machine, _ *Session) error {
			m.sync(m.Seal("m", r))
			m.sync(m.Drop("m"))
			tickAll(m)
			return nil
		},
		"dropped and freed with its whole partition": func(m *machine, _ *Session) error {
			m.sync(m.Seal("m", quarter))
			m.sync(m.Drop("m"))
			tickAll(m)
			return nil
		},
		"dropped and owned again": func(m *machine, s *Session) error {
			m.sync(m.Seal("m", quarter))
			m.sync(m.Drop("m"))
			step(m, func() error { return m.SetOwnership([]ring.Range{wholeRing}) })
			_, err := s.Put(2, []byte("2"), []byte("of the next life"), PutOptions{})
			return err
		},
		"given up and wiped": func(m *machine, _ *Session) error {
			step(m, func() error { return m.SetOwnership([]ring.Range{{Start: 20, End: ring.MaxPosition}}) })
			m.sync(m.WipeForeign())
			return nil
		},
		"given up and not wiped": func(m *machine, _ *Session) error {
			return m.SetOwnership([]ring.Range{{Start: 20, End: ring.MaxPosition}})
		},
		"received anew": func(m *machine, _ *Session) error {
			step(m, func() error { return m.SetOwnership([]ring.Range{{Start: 20, End: ring.MaxPosition}}) })
			m.sync(m.Stage("m", r))
			m.sync(m.StageApply("m", appendEntry(nil, entry{
				kind: kindPut, pos: 4, version: m.Version(), key: []byte("4"), value: []byte("sent"),
			})))
			m.sync(m.StageComplete("m", m.Version(), 1))
			_, err := m.Activate("m")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := numbered(t)
			p := during(t, m, func(s *Session) { must(t, do(m, s)) })
			want := m.contents()
			if got := p.all(); !maps.Equal(got, want) {
				t.Fatalf("the picture is %v, want %v", got, want)
			}
			sealed, staged := m.Held()
			m.crash(lose)
			if got := m.contents(); !maps.Equal(got, want) {
				t.Fatalf("came back as %v, want %v", got, want)
			}
			if s, g := m.Held(); fmt.Sprint(s, g) != fmt.Sprint(sealed, staged) {
				t.Fatalf("came back holding %v and %v, want %v and %v", s, g, sealed, staged)
			}
		})
	}
}

// What changes once more while it is copied again is in the picture as it is last,
// and a key that never rests does not keep the cut from coming.
func TestAKeyThatNeverRestsIsCutAsItIsLast(t *testing.T) {
	m := numbered(t)
	s := m.NewSession()
	cp, err := m.BeginCheckpoint()
	must(t, err)
	defer cp.Close()
	n := 0
	cp.chunk, cp.delta = 1, 0
	cp.pause = func() {
		n++
		_, err := s.Put(1, []byte("1"), []byte(strconv.Itoa(n)), PutOptions{})
		must(t, err)
	}
	p := &parts{}
	p.take(t, cp, 0)
	if v := p[0][0].value; v != strconv.Itoa(n) || n < maxRounds {
		t.Fatalf("after %d changes the picture has %q", n, v)
	}
	if cp.Stats().Again < maxRounds {
		t.Fatalf("%+v: the key was not copied again", cp.Stats())
	}
}

// A cut lies between two records of one group, and right behind one that would do
// something else if it were done twice.
func TestACutInTheMiddleOfAGroupIsExact(t *testing.T) {
	m := newOwner(t)
	s := m.NewSession()
	for i := range 5 {
		key := []byte(strconv.Itoa(i))
		for range 20 {
			_, err := s.Append(ring.Position(i), key, []byte("+"))
			must(t, err)
		}
		cp, err := m.BeginCheckpoint()
		must(t, err)
		p := &parts{}
		for j := range p {
			p.take(t, cp, j)
			_, err := s.Append(ring.Position(j)*partitionSpan, []byte("every"), []byte("."))
			must(t, err)
		}
		if i < 4 {
			cp.Close()
			continue // Only the last is published; all is one group until then.
		}
		if m.log.Durable() != 0 {
			t.Fatal("the log was synced before the checkpoint was finished")
		}
		st, err := cp.Finish()
		must(t, err)
		cp.Close()
		m.base = &Base{State: st.Encode(), Load: p.load}
	}
	want := m.contents()
	m.crash(lose)
	if got := m.contents(); !maps.Equal(got, want) {
		t.Fatalf("came back as %v, want %v", got, want)
	}
}

// Holds are what the base says, not what records before it would add up to: the end
// of a hold may not have got into a full log.
func TestTheBaseKnowsBetterThanTheRecordsBeforeIt(t *testing.T) {
	m := numbered(t)
	m.sync(m.Seal("m", lowRange))
	s, p := m.checkpoint()
	s.Sealed = nil
	m.base = &Base{State: s.Encode(), Load: p.load}
	m.crash(lose)
	if sealed, _ := m.Held(); len(sealed) != 0 {
		t.Fatalf("holds %v", sealed)
	}
	m.sync(m.Stage("n", ring.Range{Start: 5, End: 7}))
	m.crash(lose)
	if _, staged := m.Held(); len(staged) != 1 || staged[0].Move != "n" {
		t.Fatalf("holds %v: what came after the base is gone", staged)
	}
}

// The clock of a base covers deletes, which no entry remembers, also when the wall
// clock has gone back.
func TestVersionsRiseOverABase(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	m.clock.add(1_000_000)
	u.put("k", "v")
	u.delete("k")
	newest := m.Version()
	m.checkpoint()
	m.clock.step(-900_000)
	must(t, m.log.Truncate(m.log.Appended()))
	m.crash(lose)
	if v := m.Version(); v <= newest-1<<counterBits {
		t.Fatalf("version %s comes after %s", v, newest)
	}
	if m.Recovered().Ahead == 0 {
		t.Fatal("nobody is told that the clock has gone back")
	}
}

// Many writers, moves both ways and upkeep beside checkpoints; then a crash.
func TestCheckpointsBesideWritersAndMoves(t *testing.T) {
	m := newOwner(t)
	here, away := shapes["a quarter"], ring.Range{Start: 1 << 31, End: 1<<31 + 1<<29}
	var work sync.WaitGroup
	quit := make(chan struct{})
	until := func(do func(i int)) {
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
					do(i)
					runtime.Gosched() // Or, on one processor, a step of the checkpoint waits for a time slice of each.
				}
			}
		})
	}
	for w := range 3 {
		s := m.NewSession()
		until(func(i int) {
			key := fmt.Sprint(w, ":", i%700)
			_, _ = s.Append(at(key), []byte(key), []byte("+")) // May be refused: a move holds it.
			if i%5 == 0 {
				_, _ = s.Delete(at(key), []byte(key), nil)
			}
			if i%100 == 0 {
				_ = s.Wait()
			}
		})
	}
	until(func(int) { comeAndGo(t, m, here, away) })
	until(func(int) { m.Tick(500) })
	var last *State
	again := 0
	p := &parts{}
	for range 6 {
		cp, err := m.BeginCheckpoint()
		must(t, err)
		for i := range p {
			if last != nil && i%2 == 0 {
				_, same, err := cp.Unchanged(i, last.Cuts[i])
				must(t, err)
				if same {
					again++
					continue
				}
			}
			p.take(t, cp, i)
		}
		last, err = cp.Finish()
		must(t, err)
		if m.log.Durable() < last.LSN {
			t.Fatalf("finished at %d, durable up to %d", last.LSN, m.log.Durable())
		}
		cp.Close()
		must(t, m.log.Truncate(last.MinCut()))
	}
	close(quit)
	work.Wait()
	must(t, m.log.SyncTo(m.log.Appended()))
	m.base = &Base{State: last.Encode(), Load: p.load}
	want := m.contents()
	sealed, staged := m.Held()
	m.crash(lose)
	if got := m.contents(); !maps.Equal(got, want) {
		t.Fatalf("%d entries came back, want %d", len(got), len(want))
	}
	if s, g := m.Held(); fmt.Sprint(s, g) != fmt.Sprint(sealed, staged) {
		t.Fatalf("came back holding %v and %v, want %v and %v", s, g, sealed, staged)
	}
	checkSegments(t, m)
}

// comeAndGo takes a range out of service and back, and another one away and back
// with new entries.
func comeAndGo(t *testing.T, m *machine, here, away ring.Range) {
	t.Helper()
	steps := []func() error{
		func() error { _, err := m.Seal("here", here); return err },
		func() error { _, err := m.Unseal("here"); return err },
		func() error { _, err := m.Seal("away", away); return err },
		func() error { _, err := m.Drop("away"); return err },
		func() error { _, err := m.Stage("back", away); return err },
		func() error {
			var records []byte
			for i := range 50 {
				records = appendEntry(records, entry{
					kind: kindPut, pos: away.Start + 1 + ring.Position(i), version: m.Version(),
					key: []byte("back" + strconv.Itoa(i)), value: []byte("v"),
				})
			}
			_, err := m.StageApply("back", records)
			return err
		},
		func() error { _, err := m.StageComplete("back", m.Version(), 50); return err },
		func() error { _, err := m.Activate("back"); return err },
	}
	for i, do := range steps {
		if err := do(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
}

func TestOnlyOneCheckpointAtATime(t *testing.T) {
	m := newOwner(t)
	cp, err := m.BeginCheckpoint()
	must(t, err)
	_, err = m.BeginCheckpoint()
	wantErr(t, err, ErrConflict)
	_, err = cp.Finish()
	wantErr(t, err, ErrConflict) // Nothing was taken.
	cp.Close()
	cp.Close()
	_, err = cp.Partition(0, func(Entry) error { return nil })
	wantErr(t, err, ErrConflict)
	_, _, err = cp.Unchanged(0, 1)
	wantErr(t, err, ErrConflict)
	cp, err = m.BeginCheckpoint()
	must(t, err)
	must(t, m.Close())
	_, err = cp.Partition(0, func(Entry) error { return nil })
	wantErr(t, err, ErrConflict)
	_, err = m.BeginCheckpoint()
	wantErr(t, err, ErrConflict)
	cp.Close()
}

// A reader that fails can take the partition again, and nothing is locked or noted
// meanwhile.
func TestAReaderThatFailsMayTakeThePartitionAgain(t *testing.T) {
	m := numbered(t)
	cp, err := m.BeginCheckpoint()
	must(t, err)
	defer cp.Close()
	_, err = cp.Partition(0, func(Entry) error {
		_, err := m.NewSession().Put(2, []byte("2"), []byte("meanwhile"), PutOptions{})
		must(t, err)
		return ErrTooLarge
	})
	wantErr(t, err, ErrTooLarge)
	if m.parts[0].picture != nil {
		t.Fatal("the partition still notes changes")
	}
	p := &parts{}
	p.take(t, cp, 0)
	if p.all()["2"].value != "meanwhile" {
		t.Fatalf("the picture is %v", p.all())
	}
}

// A range record is logged before all of memory says so. A cut between the two would
// keep what the log has forgotten: it waits for the whole change.
func TestACutWaitsForARangeThatIsBeingChanged(t *testing.T) {
	m := numbered(t)
	must(t, m.SetOwnership([]ring.Range{{Start: 20, End: ring.MaxPosition}}))
	cp, err := m.BeginCheckpoint()
	must(t, err)
	defer cp.Close()
	// Nothing pauses after the last step of the scan but the cut.
	scanned, done := make(chan struct{}), make(chan struct{})
	cp.pause = func() {
		if m.parts[0].picture.through {
			close(scanned)
			cp.pause = func() {}
		}
	}
	p := &parts{}
	release := make(chan struct{})
	go func() {
		defer close(done)
		<-release
		p.take(t, cp, 0)
	}()
	attached := cp.pause
	cp.pause = func() {
		m.ranges.Lock()
		_, err := m.logEvent(event{kind: kindWipe, r: lowRange})
		must(t, err)
		_, err = m.NewSession().Put(21, []byte("21"), []byte("v"), PutOptions{})
		must(t, err)
		attached()
	}
	close(release)
	<-scanned
	for range 1000 {
		runtime.Gosched() // A cut that did not wait would be taken now.
	}
	m.setState(lowRange, doomed, nil)
	m.ranges.Unlock()
	<-done
	if all := p.all(); len(all) != 1 || all["21"].value != "v" {
		t.Fatalf("the picture is %v", all)
	}
}

// At every operation of the disk in the life of a checkpoint, the power may fail:
// the base that was published last and the log come back with all that was
// acknowledged.
func TestPowerFailsAtEveryStepOfACheckpoint(t *testing.T) {
	o := &outage{t: t, acknowledged: map[string]string{}}
	started := newMachine(t, o.strike)
	must(t, started.SetOwnership([]ring.Range{wholeRing}))
	o.begin(started)
	t.Cleanup(func() { o.begin(nil); started.stop() })
	u, tried := started.user(), 0
	write := func(n int) {
		for range n {
			key, value := "k"+strconv.Itoa(tried%7), fmt.Sprintf("%06d", tried)+string(make([]byte, 20_000))
			tried++
			u.put(key, value)
			o.acknowledge(key, value)
		}
	}
	for range 3 {
		write(20)
		cp, err := started.BeginCheckpoint()
		must(t, err)
		p := &parts{}
		for i := range p {
			p.take(t, cp, i)
			if i%60 == 0 {
				write(1)
			}
		}
		s, err := cp.Finish()
		must(t, err)
		cp.Close()
		o.publish(&Base{State: s.Encode(), Load: p.load})
		must(t, started.log.Truncate(s.MinCut()))
	}
	write(3)
	if n := o.struck(); started.log.Start() == 0 || n < 100 {
		t.Fatalf("the log begins at %d, the power failed %d times", started.log.Start(), n)
	}
}

// outage looks, before every operation that changes the disk, at what a node would
// come back as. Operations come from several goroutines.
type outage struct {
	t            *testing.T
	mu           sync.Mutex
	m            *machine
	published    *Base             // what the node would find in its bucket
	acknowledged map[string]string // rising values
	strikes      int
}

func (o *outage) begin(m *machine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m = m
}

func (o *outage) publish(b *Base) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.published = b
}

func (o *outage) acknowledge(key, value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acknowledged[key] = value
}

// struck is how often the power failed. A segment may still be being reserved.
func (o *outage) struck() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.strikes
}

func (o *outage) strike(op vfs.Op) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch op.Kind {
	case vfs.OpWriteAt, vfs.OpSync, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir, vfs.OpCreate:
	default:
		return nil
	}
	if o.m == nil {
		return nil
	}
	o.strikes++
	for _, keep := range []func() bool{lose, coin(uint64(o.strikes))} {
		after := &machine{t: o.t, disk: o.m.disk.CrashClone(keep), clock: o.m.clock, base: o.published}
		after.boot()
		must(o.t, after.SetOwnership([]ring.Range{wholeRing}))
		for key, value := range o.acknowledged {
			if g := after.user().get(key); g < value {
				o.t.Errorf("before %v: %s came back as %.6q, %.6q was acknowledged", op, key, g, value)
			}
		}
		after.stop()
	}
	return nil
}

// A checkpoint whose log cannot be synced is not finished.
func TestAFailedSyncKeepsACheckpointFromBeingFinished(t *testing.T) {
	broken := errors.New("the disk is ill")
	ill := false
	m := newMachine(t, func(op vfs.Op) error {
		if ill && op.Kind == vfs.OpSync {
			return broken
		}
		return nil
	})
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	_, err := m.NewSession().Put(1, []byte("k"), []byte("v"), PutOptions{})
	must(t, err)
	cp, err := m.BeginCheckpoint()
	must(t, err)
	p := &parts{}
	for i := range p {
		p.take(t, cp, i)
	}
	ill = true
	_, err = cp.Finish()
	wantErr(t, err, broken)
	cp.Close()
	must(t, m.Close())
	_ = m.log.Close() // It is poisoned.
}
