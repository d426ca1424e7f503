// Package demo is the proof that a person can watch: a cluster of real processes
// on this machine, real data in it, steady reads and writes that are each checked,
// and meanwhile a node joins, a node leaves, a node is killed and comes back, and
// the manager is killed in the middle of a move. At the end every acknowledged
// write is read back.
//
// It promises nothing about speed: latencies are what a client saw on this machine
// while everything ran on it. What it does promise is to say so, and to fail, when
// anything that had been acknowledged is missing, has changed, or has come back
// from the dead; and to leave no process behind however it ends, nor a folder,
// unless there is something in it to look at.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/transfer"
	"github.com/quoitdb/quoit/manager"
)

// Options says how the demo runs.
type Options struct {
	Binary string        // the quoit binary whose servers are started
	Source string        // folder whose files are imported
	Limit  int64         // stop importing after so many bytes; 0: all
	Steady time.Duration // how long the quiet parts last
	Rate   int           // operations a second
	// Workers do the operations, each its own keys.
	Workers int
	Keep    bool      // leave data and logs, also when all is well
	Out     io.Writer // where it tells what happens
	// Live redraws a line with the current rate; for terminals.
	Live bool
}

// Result is the table at the end, and the verdict.
type Result struct {
	Rows       []Row         `json:"phases"`
	Imported   int64         `json:"imported_keys"`
	ImportSize int64         `json:"imported_bytes"`
	ImportRate float64       `json:"imported_keys_per_second"`
	Joins      []JoinFigures `json:"joins"`
	Checked    int           `json:"audited"`
	Wrong      int64         `json:"wrong"`
	Lost       []string      `json:"lost"`
	Faults     []string      `json:"faults,omitempty"`
}

// JoinFigures compare what moved with what had to.
type JoinFigures struct {
	What    string  `json:"what"`
	Moved   int64   `json:"keys_moved"`
	Total   int64   `json:"keys"`
	Share   float64 `json:"share"` // of the ring that the node was to get
	Ideal   float64 `json:"ideal"` // 1/N
	Seconds float64 `json:"seconds"`
}

// Failed says whether anything was lost or wrong.
func (r *Result) Failed() bool {
	for _, row := range r.Rows {
		if row.Errors > 0 {
			return true
		}
	}
	return r.Wrong > 0 || len(r.Lost) > 0
}

// Longest is the row with the operation that took longest.
func (r *Result) Longest() Row {
	var worst Row
	for _, row := range r.Rows {
		if row.Longest > worst.Longest {
			worst = row
		}
	}
	return worst
}

// stage is the demo while it runs.
type stage struct {
	Options
	fleet   *fleet
	db      *client.Client
	files   corpus
	traffic *traffic
	result  Result
	began   time.Time
	nodes   []*process

	drawing sync.Mutex // one writes to Out at a time
}

// Run runs the demo from beginning to end. The error is about the demo itself; the
// verdict on the data is in the result. When ctx ends, so does the demo, with its
// error.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	if err := hasFiles(o.Source); err != nil {
		return nil, err
	}
	s, err := newStage(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if ctx.Err() != nil {
			err = ctx.Err() // whatever else that broke
			s.say("interrupted: stopping every process")
		}
		s.fleet.stopAll()
		err = errors.Join(err, s.fleet.panics())
		err = errors.Join(err, s.leave(ctx.Err() != nil, err))
	}()
	return &s.result, s.play(ctx)
}

// hasFiles makes sure that there is something to import.
func hasFiles(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", name)
	}
	for _, err := range transfer.Folder(name, transfer.MaxValue) {
		return err // one is enough
	}
	return fmt.Errorf("%s has no files to import", name)
}

// newStage prepares everything and starts nothing.
func newStage(o Options) (*stage, error) {
	dir, err := os.MkdirTemp("", "quoit-demo-")
	if err != nil {
		return nil, err
	}
	f, err := newFleet(o.Binary, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &stage{Options: o, fleet: f, began: time.Now()}, nil
}

// leave takes data and logs away, unless somebody will want to look at them.
func (s *stage) leave(interrupted bool, err error) error {
	wrong := err != nil || s.result.Failed()
	if s.Keep || wrong && !interrupted {
		s.say("logs and data are left in %s", s.fleet.dir)
		return nil
	}
	return os.RemoveAll(s.fleet.dir)
}

// play goes through the acts. Whatever happens, nothing of it runs on afterwards but
// the processes.
func (s *stage) play(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() { _ = s.db.Close() }()
	if err := s.fill(ctx); err != nil {
		return err
	}
	s.traffic = newTraffic(s.db, &s.files, s.Workers, s.Rate)
	s.traffic.Start(ctx)
	s.say("traffic: %d checked reads and writes a second from %d workers", s.Rate, s.Workers)
	stopLive := s.live()
	for _, act := range []func(context.Context) error{s.steady, s.join, s.depart, s.killNode, s.killManager, s.settle} {
		if err := act(ctx); err != nil {
			stopLive()
			_ = s.db.Close() // nobody waits for answers any more
			s.traffic.Halt()
			return err
		}
	}
	s.traffic.Halt()
	stopLive()
	return s.audit(ctx)
}

// say tells what has happened.
func (s *stage) say(format string, args ...any) {
	s.drawing.Lock()
	defer s.drawing.Unlock()
	if s.Live {
		fmt.Fprint(s.Out, clearLine)
	}
	fmt.Fprintf(s.Out, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// clearLine goes to the beginning of the line and wipes it.
const clearLine = "\r\x1b[K"

// show draws a line that the next one replaces; for terminals only.
func (s *stage) show(format string, args ...any) {
	if !s.Live {
		return
	}
	s.drawing.Lock()
	defer s.drawing.Unlock()
	fmt.Fprint(s.Out, clearLine+"         "+fmt.Sprintf(format, args...))
}

// live shows what goes on between the events; the returned function ends it.
func (s *stage) live() (stop func()) {
	if !s.Live {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				r := s.traffic.current().row(now)
				s.show("%-22s %6d ops  p50 %-8s p99 %-8s longest %s", r.Phase, r.Ops, short(r.P50), short(r.P99), short(r.Longest))
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		s.show("")
	}
}

func short(d time.Duration) string {
	if d > time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// open starts a manager and three nodes.
func (s *stage) open(ctx context.Context) error {
	s.say("starting a manager and 3 nodes, each a process of its own")
	if err := s.fleet.manager.start(); err != nil {
		return err
	}
	for range 3 {
		n, err := s.fleet.startNode()
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
	}
	if _, err := s.fleet.until(ctx, "three nodes to serve", time.Minute, serving(3)); err != nil {
		return err
	}
	var err error
	s.db, err = client.Open(ctx, []string{s.fleet.address}, client.WithConnections(2), client.WithRetryBudget(operationTimeout))
	return err
}

// serving is met when n nodes serve and nothing moves.
func serving(n int) func(manager.Status) bool {
	return func(st manager.Status) bool {
		members, up := 0, 0
		for _, node := range st.Nodes {
			if node.State == cluster.Known {
				continue // a node that has left, or waits to be asked in
			}
			members++
			if node.Up && node.Serving {
				up++
			}
		}
		return st.Formed && len(st.Moves) == 0 && up == n && members == n
	}
}

// fill imports the files.
func (s *stage) fill(ctx context.Context) error {
	items := s.files.remember(transfer.Folder(s.Source, transfer.MaxValue), s.Limit)
	p, err := transfer.Import(ctx, s.db, items, transfer.Options{Workers: 8, Report: func(p transfer.Progress) {
		s.show("importing: %d files, %.1f MB, %.0f files/s", p.Keys, float64(p.Bytes)/1e6, p.KeysPerSecond())
	}})
	if err != nil {
		return fmt.Errorf("import %s: %w", s.Source, err)
	}
	s.result.Imported, s.result.ImportSize, s.result.ImportRate = p.Keys, p.Bytes, p.KeysPerSecond()
	s.say("imported %s: %d files, %.1f MB, %.0f files/s, every one fsynced before it was acknowledged", s.Source, p.Keys, float64(p.Bytes)/1e6, p.KeysPerSecond())
	return nil
}

// steady leaves everything alone for a while: long enough to have measured something,
// also on a machine that has just stalled.
func (s *stage) steady(ctx context.Context) error {
	return measured(ctx, s.Steady, func() int { return s.traffic.current().count() })
}

// measured pauses, and longer while next to nothing has been counted.
func measured(ctx context.Context, d time.Duration, count func() int) error {
	const enough, patience = 10, 30 * time.Second
	began := time.Now()
	err := pause(ctx, d)
	for err == nil && count() < enough && time.Since(began) < patience {
		err = pause(ctx, 10*time.Millisecond)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// join starts a node, lets it into the ring, and waits until its ranges are there.
func (s *stage) join(ctx context.Context) error {
	n, err := s.newNode(ctx)
	if err != nil {
		return err
	}
	s.say("node %s joins: only its ranges move", n.name)
	s.traffic.enter("a node joins", true, time.Now())
	began := time.Now()
	if err := s.fleet.operate(ctx, func(m *manager.Control) error { return m.Add(n.name) }); err != nil {
		return err
	}
	st, err := s.fleet.until(ctx, "the ranges of the new node to move", 5*time.Minute, func(st manager.Status) bool {
		return len(st.Moves) == 0 && share(st, n.name) > 0
	})
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, n)
	if err := s.figures(ctx, "a node joins", n.name, st, time.Since(began)); err != nil {
		return err
	}
	s.traffic.enter("after the join", false, time.Now())
	return s.steady(ctx)
}

// newNode starts a node and waits until the manager knows it.
func (s *stage) newNode(ctx context.Context) (*process, error) {
	n, err := s.fleet.startNode()
	if err != nil {
		return nil, err
	}
	_, err = s.fleet.until(ctx, "node "+n.name+" to register", time.Minute, func(st manager.Status) bool {
		for _, node := range st.Nodes {
			if node.Address == n.name {
				return true
			}
		}
		return false
	})
	return n, err
}

func share(st manager.Status, address string) float64 {
	for _, n := range st.Nodes {
		if n.Address == address {
			return n.Share
		}
	}
	return 0
}

// figures compares the keys on a node with the share that it had to get.
func (s *stage) figures(ctx context.Context, what, address string, st manager.Status, took time.Duration) error {
	f := JoinFigures{What: what, Share: share(st, address), Ideal: 1 / float64(max(members(st), 1)), Seconds: took.Seconds()}
	var err error
	if f.Total, err = s.db.Count(ctx); err != nil {
		return fmt.Errorf("count the keys: %w", err)
	}
	r, err := s.db.DoNode(ctx, address, "DBSIZE")
	if err != nil {
		return fmt.Errorf("count the keys of %s: %w", address, err)
	}
	f.Moved = r.Int
	s.result.Joins = append(s.result.Joins, f)
	s.say("%d of %d keys moved in %.1fs (%.1f%%; the node's share of the ring is %.1f%%, 1/N is %.1f%%)",
		f.Moved, f.Total, f.Seconds, 100*float64(f.Moved)/float64(max(f.Total, 1)), 100*f.Share, 100*f.Ideal)
	return nil
}

// members is how many nodes have a part of the ring.
func members(st manager.Status) int {
	n := 0
	for _, node := range st.Nodes {
		if node.Share > 0 {
			n++
		}
	}
	return n
}

// depart has a node hand over all it has.
func (s *stage) depart(ctx context.Context) error {
	n := s.nodes[0]
	s.say("node %s leaves: it hands over everything while it serves", n.name)
	s.traffic.enter("a node leaves", true, time.Now())
	began := time.Now()
	if err := s.fleet.operate(ctx, func(m *manager.Control) error { return m.Remove(n.name) }); err != nil {
		return err
	}
	_, err := s.fleet.until(ctx, "node "+n.name+" to leave", 5*time.Minute, func(st manager.Status) bool {
		for _, node := range st.Nodes {
			if node.Address == n.name {
				return node.State == cluster.Known
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	n.stop()
	s.nodes = s.nodes[1:]
	s.say("it has left, in %.1fs; its process is stopped", time.Since(began).Seconds())
	s.traffic.enter("after the leave", false, time.Now())
	return s.steady(ctx)
}

// killNode kills a node without warning and starts it again a second later.
func (s *stage) killNode(ctx context.Context) error {
	n := s.nodes[0]
	s.say("node %s is killed with SIGKILL", n.name)
	s.traffic.enter("a node is killed", true, time.Now())
	began := time.Now()
	n.kill()
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return err
	}
	back := time.Now()
	if err := s.answers(ctx, n); err != nil {
		return err
	}
	s.say("it was started again after %.1fs and served %.1fs later, from its log", back.Sub(began).Seconds(), time.Since(back).Seconds())
	if _, err := s.fleet.until(ctx, "node "+n.name+" to come back", 5*time.Minute, serving(len(s.nodes))); err != nil {
		return err
	}
	s.traffic.enter("after the kill", false, time.Now())
	return s.steady(ctx)
}

// answers waits until a node serves: its own word, not what the manager has heard,
// nor what a client finds that has learnt to wait between its tries.
func (s *stage) answers(ctx context.Context, n *process) error {
	const limit = 5 * time.Minute
	until := time.Now().Add(limit)
	for {
		err := ask(ctx, n.name, "DBSIZE")
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(until):
			return fmt.Errorf("waited %s for node %s to serve: %w", limit, n.name, err)
		}
		if fault := n.fault(); fault != nil {
			return fault
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// ask sends one command over a connection of its own.
func ask(ctx context.Context, address, command string) error {
	c, err := peer.Dial(ctx, peer.TCP, address, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.DoStrings(command)
	return err
}

// killManager kills the manager while ranges move to one more node.
func (s *stage) killManager(ctx context.Context) error {
	n, err := s.newNode(ctx)
	if err != nil {
		return err
	}
	s.say("node %s joins, and the manager is killed with SIGKILL in the middle of it", n.name)
	s.traffic.enter("manager killed in a move", true, time.Now())
	began := time.Now()
	if err := s.fleet.operate(ctx, func(m *manager.Control) error { return m.Add(n.name) }); err != nil {
		return err
	}
	mid, err := s.fleet.until(ctx, "the move to begin", time.Minute, func(st manager.Status) bool { return share(st, n.name) > 0 })
	if err != nil {
		return err
	}
	s.fleet.manager.kill()
	s.say("killed with %d ranges still to move; nodes go on serving", len(mid.Moves))
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if err := s.fleet.manager.start(); err != nil {
		return err
	}
	st, err := s.fleet.until(ctx, "the moves to finish", 5*time.Minute, serving(len(s.nodes)+1))
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, n)
	return s.figures(ctx, "manager killed in a move", n.name, st, time.Since(began))
}

// settle is the last quiet part.
func (s *stage) settle(ctx context.Context) error {
	s.traffic.enter("after it all", false, time.Now())
	if err := s.steady(ctx); err != nil {
		return err
	}
	s.traffic.current().end(time.Now())
	return nil
}

// audit reads everything back and draws the conclusions.
func (s *stage) audit(ctx context.Context) error {
	s.say("traffic stopped; reading back every acknowledged write")
	registers, lostRegisters, err := s.traffic.Audit(ctx)
	if err != nil {
		return err
	}
	files, lostFiles, err := s.files.audit(ctx, s.db)
	if err != nil {
		return err
	}
	s.result.Checked = registers + files
	s.result.Lost = append(lostRegisters, lostFiles...)
	s.result.Wrong, s.result.Faults = s.traffic.Wrong()
	for _, p := range s.traffic.phases() {
		s.result.Rows = append(s.result.Rows, p.row(time.Now()))
		for _, text := range p.failures {
			s.result.Faults = append(s.result.Faults, p.name+": "+text)
		}
	}
	return ctx.Err()
}
