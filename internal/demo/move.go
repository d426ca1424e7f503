package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/bench"
	"github.com/quoitdb/quoit/internal/oracle"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

// MoveOptions says how [MeasureMove] measures.
type MoveOptions struct {
	Binary string
	Keys   int // loaded before the move
	Size   int // bytes in a value
	Rate   int // checked operations a second
	// Saturate writes as fast as it can, and only keys that will move.
	Saturate bool
	Workers  int
	Steady   time.Duration // measured before the move
	Out      io.Writer
}

// MoveResult is what a move of a part of the cluster cost.
type MoveResult struct {
	Keys    int64         `json:"keys"`
	Moved   int64         `json:"keys_moved"`
	Seconds float64       `json:"seconds"`
	Rate    float64       `json:"keys_per_second"`
	Before  bench.Figures `json:"before"`
	During  bench.Figures `json:"during"`
	Wrong   int64         `json:"wrong"`
	Lost    []string      `json:"lost"`
}

// MeasureMove loads a cluster of three processes, runs a checked load, lets a
// fourth node in, and measures how long its share takes to arrive and what the
// load sees of it.
func MeasureMove(ctx context.Context, o MoveOptions) (_ *MoveResult, err error) {
	s, err := newStage(Options{Binary: o.Binary, Out: o.Out, Steady: o.Steady})
	if err != nil {
		return nil, err
	}
	defer func() {
		s.fleet.stopAll()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = errors.Join(err, os.RemoveAll(s.fleet.dir))
	}()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	defer func() { _ = s.db.Close() }()
	return measureMove(ctx, s, o)
}

func measureMove(ctx context.Context, s *stage, o MoveOptions) (*MoveResult, error) {
	if err := bench.Fill(ctx, s.db, bench.Options{Keys: o.Keys, Size: o.Size}, nil); err != nil {
		return nil, fmt.Errorf("load %d keys: %w", o.Keys, err)
	}
	s.say("loaded %d keys with values of %d B", o.Keys, o.Size)
	n, err := s.newNode(ctx)
	if err != nil {
		return nil, err
	}
	times := &split{}
	options := oracle.Options{
		Prefix: "checked:", Workers: o.Workers, Registers: 256, Rate: o.Rate, Timeout: operationTimeout, Observe: times.observe,
	}
	if o.Saturate {
		options.Rate = 0
		if options.Keys, err = s.movingKeys(ctx, n.name, o.Workers); err != nil {
			return nil, err
		}
	}
	load := oracle.New(s.db, options)
	load.Start(ctx)
	began := time.Now()
	err = measured(ctx, s.Steady, func() int { return int(times.before.Figures(0).Ops) })
	steady := time.Since(began)
	times.cut.Store(time.Now().UnixNano())
	r := &MoveResult{}
	if err == nil {
		err = s.timeMove(ctx, n.name, r)
	}
	if err != nil {
		_ = s.db.Close() // nobody waits for answers any more
	}
	load.Halt()
	if err != nil {
		return nil, err
	}
	r.Before, r.During = times.before.Figures(steady), times.during.Figures(time.Duration(r.Seconds*float64(time.Second)))
	r.Wrong, _ = load.Wrong()
	_, r.Lost, err = load.Audit(ctx)
	return r, err
}

// split tells the operations that began before a moment from those after it.
type split struct {
	cut            atomic.Int64 // unix nanoseconds; 0: not yet
	before, during bench.Recorder
}

func (s *split) observe(began time.Time, took time.Duration, err error) {
	if cut := s.cut.Load(); cut > 0 && began.UnixNano() >= cut {
		s.during.Record(took, err)
		return
	}
	s.before.Record(took, err)
}

// timeMove lets the node in and waits for its share.
func (s *stage) timeMove(ctx context.Context, address string, r *MoveResult) error {
	began := time.Now()
	if err := s.fleet.operate(ctx, func(m *manager.Control) error { return m.Add(address) }); err != nil {
		return err
	}
	_, err := s.fleet.until(ctx, "the ranges to move", 5*time.Minute, func(st manager.Status) bool {
		return len(st.Moves) == 0 && share(st, address) > 0
	})
	if err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	if r.Keys, err = s.db.Count(ctx); err != nil {
		return err
	}
	reply, err := s.db.DoNode(ctx, address, "DBSIZE")
	r.Moved, r.Rate = reply.Int, float64(reply.Int)/r.Seconds
	return err
}

// movingKeys returns a choice of keys that all lie in ranges which will move.
func (s *stage) movingKeys(ctx context.Context, address string, workers int) (func(worker, register int) string, error) {
	var plan manager.Plan
	err := s.fleet.operate(ctx, func(m *manager.Control) (err error) {
		plan, err = m.Plan([]string{address}, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	moving := func(key string) bool {
		p := ring.PositionOfString(key)
		return slices.ContainsFunc(plan.Moves, func(m ring.Move) bool { return m.Range.Contains(p) })
	}
	keys := make([][]string, workers)
	for w := range keys {
		for i := 0; len(keys[w]) < 256; i++ {
			if key := fmt.Sprintf("moving:%d:%d", w, i); moving(key) {
				keys[w] = append(keys[w], key)
			}
		}
	}
	return func(worker, register int) string { return keys[worker][register] }, nil
}
