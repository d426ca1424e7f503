package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
)

// Start says what a node may start from.
type Start struct {
	FS  vfs.FS
	Dir string // of the local snapshot
	// Origin is where the log began that has nothing before it: 0 as a rule.
	Origin wal.LSN
	// Bases are what a lost disk comes back from, best first; none for a node that has
	// its folder.
	Bases []*Base
	Store *snapshot.Store
	// Older allows a snapshot that is known to lack something.
	Older bool
	// OpenLog opens the log; start is where it begins if it does not exist. It may be
	// called several times, after what it returned was closed.
	OpenLog func(start wal.LSN) (*wal.Log, error)
	// Engine is completed with log and base.
	Engine engine.Options
	// Reach calls try until the bucket can be reached.
	Reach  func(ctx context.Context, doing string, try func(context.Context) error) error
	Logger *slog.Logger
}

// Found is what a node has started from.
type Found struct {
	Log    *wal.Log
	Engine *engine.Engine
	Base   *Base // nil if the log alone was enough
}

// Recover opens log and engine with the first of these that can be used and that
// the log joins up with: the snapshot in the folder, none at all, those of the
// bucket from the newest on. The bucket is asked only when it is needed.
func (s Start) Recover(ctx context.Context) (Found, error) {
	if len(s.Bases) > 0 {
		return s.any(ctx, s.Bases, s.Bases[0].Start)
	}
	var found Found
	local, err := Local(s.FS, s.Dir)
	if err == nil {
		found, err = s.with(ctx, local, s.Origin)
	}
	if !damaged(err) {
		return found, err
	}
	s.Logger.Warn("the node cannot go on from its own folder as it is", "why", err)
	var bases []*Base
	err = s.Reach(ctx, "the node needs a snapshot from the bucket", func(ctx context.Context) error {
		bases, err = s.others(ctx)
		return err
	})
	if err != nil {
		return Found{}, err
	}
	return s.any(ctx, bases, s.Origin)
}

// damaged says whether another base may do: this one is damaged, or the log does not
// reach back to it.
func damaged(err error) bool {
	var (
		damage *DamageError
		gap    *wal.GapError
	)
	return errors.As(err, &damage) || errors.As(err, &gap)
}

// others returns what goes together with the log besides the local snapshot.
func (s Start) others(ctx context.Context) ([]*Base, error) {
	log, err := s.OpenLog(s.Origin)
	if err != nil {
		return nil, err
	}
	have := Extent{Start: log.Start()}
	if err := log.Close(); err != nil {
		return nil, err
	}
	if have.Start <= s.Origin {
		return []*Base{nil}, nil // nothing was ever dropped from it
	}
	return Find(ctx, Search{Store: s.Store, Have: &have, Older: s.Older})
}

// any tries bases until one is not damaged.
func (s Start) any(ctx context.Context, bases []*Base, start wal.LSN) (Found, error) {
	var (
		found Found
		errs  []error
	)
	for _, base := range bases {
		if base != nil && base.Start > 0 {
			start = base.Start
		}
		err := s.Reach(ctx, "the node is being restored from the bucket", func(ctx context.Context) (err error) {
			found, err = s.with(ctx, base, start)
			return err
		})
		if !damaged(err) {
			return found, err
		}
		s.Logger.Error("a snapshot cannot be used", "err", err)
		errs = append(errs, err)
	}
	return found, &RefusedError{
		Reason: "no snapshot that this node could go on from can be used", Err: errors.Join(errs...),
		Hint: "repair the bucket; or set QUOIT_ALLOW_OLDER_SNAPSHOT=true to go on from an older state",
	}
}

// with opens log and engine with one base; nil is for a log from its origin on.
func (s Start) with(ctx context.Context, base *Base, start wal.LSN) (Found, error) {
	log, err := s.OpenLog(start)
	if err != nil {
		return Found{}, err
	}
	if base == nil && log.Start() > 0 && log.Start() <= s.Origin {
		base = Empty(log.Start())
	}
	o := s.Engine
	o.Log = log
	var e *engine.Engine
	if base == nil {
		e, err = engine.Open(o)
	} else {
		err = base.With(ctx, base.Reaches(log), func(b *engine.Base) (err error) {
			o.Base = b
			e, err = engine.Open(o)
			return err
		})
	}
	if err != nil {
		if e != nil {
			err = errors.Join(err, e.Close())
		}
		return Found{}, errors.Join(fmt.Errorf("read the log: %w", err), log.Close())
	}
	return Found{log, e, base}, nil
}
