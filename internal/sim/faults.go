package sim

import (
	"context"
	"fmt"
	"io"
	"time"
)

// fault is one kind of thing that happens to a cluster: from somewhere in the beginning to
// the end, how often by its weight.
type fault struct {
	name   string
	weight int
	strike func(w *World, d dice)
}

// everyFault is in the order in which a seed draws from it.
var everyFault = []fault{
	{"crash", 3, (*World).crashNode},
	{"power failure", 2, (*World).powerFailure},
	{"manager crash", 2, (*World).crashManager},
	{"freeze", 3, (*World).freeze},
	{inAMove, 4, (*World).lieInWait},
	{"successor", 2, (*World).succeed},
	{"link cut", 3, (*World).cutLink},
	{"stream cut", 4, (*World).cutStream},
	{"clock jump", 2, (*World).jumpClock},
	{"slow disk", 1, (*World).slowDisk},
	{"failing sync", 1, (*World).failSync},
	{"full disk", 1, (*World).fillDisk},
	{"join or leave", 6, (*World).joinOrLeave},
	{"snapshot", 2, (*World).takeSnapshot},
}

// suffer makes faults happen for as long as the plan says.
func (w *World) suffer(ctx context.Context) {
	d := w.dice("faults")
	var chosen []fault
	for _, name := range w.plan.faults {
		for _, f := range everyFault {
			for range f.weight {
				if f.name == name {
					chosen = append(chosen, f)
				}
			}
		}
	}
	if w.second != nil {
		time.AfterFunc(between(d, 0, w.plan.length/2), func() {
			if w.second.boot(); w.second.running() != nil && w.manager.running() != nil {
				w.trace.fault("second manager started beside the first", "")
			}
		})
	}
	if w.plan.lossy {
		time.AfterFunc(between(d, w.plan.length/4, w.plan.length), func() { w.loseDiskEarly(w.dice("loss")) })
	}
	end := time.Now().Add(w.plan.length)
	for time.Now().Before(end) {
		if !sleep(ctx, between(d, w.plan.pause/4, 7*w.plan.pause/4)) {
			return
		}
		if len(chosen) > 0 {
			one(d, chosen...).strike(w, d)
		}
	}
}

func (w *World) anyNode(d dice) *machine { return w.nodes[d.IntN(len(w.nodes))] }

func (w *World) crashOf(m *machine, d dice, how string, silent bool) {
	if !m.crash(nil, how, silent) {
		return
	}
	w.trace.fault(how, m.host)
	time.AfterFunc(between(d, 10*time.Millisecond, 1500*time.Millisecond), m.boot)
}

func (w *World) crashNode(d dice)    { w.crashOf(w.anyNode(d), d, "node killed", false) }
func (w *World) powerFailure(d dice) { w.crashOf(w.anyNode(d), d, "node without power", true) }

func (w *World) crashManager(d dice) {
	w.crashOf(w.anyManager(d), d, "manager killed", d.chance(0.5))
}

func (w *World) anyManager(d dice) *machine {
	if w.second != nil && d.chance(0.5) {
		return w.second
	}
	return w.manager
}

// sealed is longer than a range may be sealed without a decision (node/migrate).
const sealed = 2 * time.Second

// freeze has a process stop and go on later, as it was: half of the time longer than a
// range may be sealed, and than a manager waits for a node.
func (w *World) freeze(d dice) {
	m := w.anyNode(d)
	if d.chance(0.2) {
		m = w.anyManager(d)
	}
	all := m.processes()
	length := between(d, 50*time.Millisecond, sealed)
	if d.chance(0.5) {
		length = between(d, sealed, 3*time.Second)
	}
	if len(all) == 0 {
		return
	}
	p := one(d, all...)
	if !p.freeze() {
		return
	}
	w.goesOnAfter(p, length)
}

// goesOnAfter has a process that was frozen go on.
func (w *World) goesOnAfter(p *process, length time.Duration) {
	w.trace.note("FAULT process frozen", fmt.Sprint(p.name, " ", length), nil)
	began := time.Now()
	time.AfterFunc(length, func() {
		if p.isDead() || !p.isFrozen() {
			return
		}
		kind := "process frozen, goes on"
		if time.Since(began) > sealed {
			kind = "process frozen for longer than a seal may last, goes on"
		}
		w.trace.fault(kind, p.name)
		p.thaw()
	})
}

// succeed starts the next process of a node while its last one runs, or is frozen.
func (w *World) succeed(d dice) {
	m := w.anyNode(d)
	if w.loss.took(m) {
		return // It may be waiting for its place, and then it waits beside its successor, too.
	}
	for _, p := range m.processes() {
		if p.isFrozen() {
			defer w.trace.fault("successor started beside a frozen process", p.name)
		}
	}
	if m.supersede() {
		w.trace.fault("successor started beside its process", m.host)
	}
}

// hosts are all machines on the network.
func (w *World) hosts() []string {
	all := []string{bucketHost}
	for _, m := range w.machines() {
		all = append(all, m.host)
	}
	for i := range w.plan.clients {
		all = append(all, clientHost(i))
	}
	return all
}

// cutLink takes one link down, in one direction or both, for a while.
func (w *World) cutLink(d dice) {
	from, to := one(d, w.hosts()...), one(d, w.hosts()...)
	if from == to {
		return
	}
	there, back := link{from, to}, link{to, from}
	both := d.chance(0.6)
	w.net.cut(there)
	if both {
		w.net.cut(back)
		w.trace.fault("link cut both ways", there.String())
	} else {
		w.trace.fault("link cut one way", there.String())
	}
	time.AfterFunc(between(d, 20*time.Millisecond, 1200*time.Millisecond), func() {
		w.net.heal(there)
		if both {
			w.net.heal(back)
		}
	})
}

// cutStream breaks one connection, in one of the ways in which they break.
func (w *World) cutStream(d dice) {
	all := w.net.some(func(s *stream) bool { return s.ends[0].p != nil })
	if len(all) == 0 {
		return
	}
	s := one(d, all...)
	members := s.ends[0].host()[0] != 'c'
	how := d.IntN(5)
	if how == 4 && !members {
		how = 0
	}
	s.cut(w, d, how)
}

// cut breaks the stream: at once, within a message, for one side only, late, or so that what
// was sent is sent once more.
func (s *stream) cut(w *World, d dice, how int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, b := s.ends[0], s.ends[1]
	about := fmt.Sprintf("#%d %s", s.id, a.inbound())
	both := func() { a.breakLater(); b.breakLater() }
	switch how {
	case 0:
		w.trace.fault("stream reset", about)
		both()
	case 1:
		if s.cutAt > 0 {
			return
		}
		s.cutAt = between(d, 1, 400)
		s.breaks = func() {
			w.trace.fault("stream cut within a message", about)
			a.reset()
			b.reset()
		}
	case 2:
		w.trace.fault("stream half open", about)
		dead, deaf := a, b
		if d.chance(0.5) {
			dead, deaf = b, a
		}
		deaf.goDeaf()
		dead.breakLater()
	case 3:
		w.trace.fault("stream left behind, arrives late", about)
		a.breakLater()
		rest := b.flight
		b.flight, b.flying, b.held = nil, 0, false
		time.AfterFunc(between(d, 50*time.Millisecond, 2*time.Second), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, m := range rest {
				b.put(m)
			}
			b.put(message{err: io.EOF})
		})
	case 4:
		w.trace.fault("stream sent once more", about)
		both()
		sent, to := s.sent, string(b.local)
		from := a.p
		time.AfterFunc(between(d, time.Millisecond, time.Second), func() { w.net.replay(from.host, to, sent) })
	}
}

// replay sends what a stream has carried over another one. Nobody reads the answers.
func (n *network) replay(from, to string, sent []byte) {
	n.mu.Lock()
	l := n.listeners[to]
	n.dialled++
	id := n.dialled
	n.mu.Unlock()
	if l == nil || len(sent) == 0 {
		return
	}
	s := n.open(id, n.w.dice(fmt.Sprint("stream ", id)), nil, l.p, address(fmt.Sprintf("%s:%d", from, 40000+id)), l.addr)
	if !l.take(s.ends[1]) {
		n.forget(s)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[0].deaf = true
	s.ends[1].put(message{data: sent})
	n.w.trace.count("bytes sent once more", len(sent))
	time.AfterFunc(2*time.Second, func() { _ = s.ends[0].Close() })
}

// jumpClock sets the clock of a machine.
func (w *World) jumpClock(d dice) {
	if !w.plan.clocks {
		return
	}
	m := w.anyNode(d)
	by := m.clock.jump(between(d, -maxSkew/2, maxSkew/2))
	kind := "clock set forward"
	if by < 0 {
		kind = "clock set back"
	}
	w.trace.fault(kind, fmt.Sprint(m.host, " ", by))
}

func (w *World) slowDisk(d dice) {
	m := w.anyNode(d)
	w.trace.fault("disk slow", m.host)
	m.disk.set(func(d *disk) { d.slow = true })
	time.AfterFunc(between(d, 50*time.Millisecond, time.Second), func() { m.disk.set(func(d *disk) { d.slow = false }) })
}

func (w *World) failSync(d dice) {
	m := w.anyNode(d)
	m.disk.set(func(d *disk) { d.failSync = 1 })
}

// fillDisk leaves a disk little or no room, for a while.
func (w *World) fillDisk(d dice) {
	m, room := w.anyNode(d), one[int64](d, 0, 512, 8<<10, 64<<10)
	w.trace.fault("disk full", fmt.Sprint(m.host, " but for ", room))
	m.disk.set(func(d *disk) { d.mem.SetCapacity(max(1, d.mem.Used()+room)) })
	time.AfterFunc(between(d, 50*time.Millisecond, time.Second), func() { m.disk.set(func(d *disk) { d.mem.SetCapacity(0) }) })
}

// admin asks the manager for something, as a person would.
func (w *World) admin(words ...string) {
	w.working.Go(func() {
		c, err := w.operate(context.Background(), w.manager.addr, 2*time.Second)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, err = c.DoStrings(words[0], words[1:]...)
		w.trace.note("admin", fmt.Sprint(words, " ", err), nil)
	})
}

// joinOrLeave has a spare join, or leave.
func (w *World) joinOrLeave(d dice) {
	if w.plan.spares == 0 {
		return
	}
	m := w.nodes[w.plan.nodes+d.IntN(w.plan.spares)]
	verb, kind := "ADD", "join asked for"
	if d.chance(0.4) {
		verb, kind = "REMOVE", "leave asked for"
	}
	w.trace.count(kind, 1)
	w.admin("CLUSTER", verb, m.addr)
}

func (w *World) takeSnapshot(d dice) {
	m := w.anyNode(d)
	w.working.Go(func() {
		err := w.snapshotOf(context.Background(), m)
		if err == nil {
			w.trace.count("snapshot asked for and taken", 1)
		}
		w.trace.note("snapshot", fmt.Sprint(m.host, " ", err), nil)
	})
}
