package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
)

// archive is the log's way into the bucket.
type archive struct {
	turn  chan struct{} // held by whoever sends pieces
	moved chan struct{} // a token: ranges have come or gone
	stall stall

	mu   sync.Mutex
	to   wal.LSN   // up to which the bucket has the log; guarded by mu
	tail int       // pieces in the head; guarded by mu
	part int       // of these in the manifest that is being made; guarded by mu
	err  error     // of the last try; guarded by mu
	told time.Time // when the log was told of err; guarded by mu
}

func (a *archive) init() { a.turn, a.moved = make(chan struct{}, 1), make(chan struct{}, 1) }

// resume finds out where the archive ends. One that goes on behind the end of this
// node's own log is somebody else's.
func (a *archive) resume(h snapshot.Head, current, local snapshot.Manifest, log *wal.Log) error {
	end := max(lastOf(current.Log), lastOf(h.Log), lastOf(local.Log))
	if now := log.Appended(); end > now {
		return fmt.Errorf("the archive of this node's log in the bucket ends at position %d, and the log itself at %d: it is another log, or has lost its end; "+
			"start the node with an empty folder to have it restored from the bucket", end, now)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to, a.tail = max(end, log.Start()), len(h.Log)
	return nil
}

func (a *archive) end() wal.LSN {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.to
}

// crowded says that the head has so many pieces that a snapshot should take them over.
func (a *archive) crowded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tail >= snapshot.MaxTail/2
}

// room is how many pieces the head still takes.
func (a *archive) room() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return snapshot.MaxTail - a.tail
}

// errCrowded keeps room in the head for the pieces that a snapshot needs.
var errCrowded = errors.New("there are too many pieces of log since the newest snapshot; the archive waits for the next one")

// taking notes that a manifest will have all pieces of a head, taken that it has
// been published.
func (a *archive) taking(h snapshot.Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.part = len(h.Log)
}

func (a *archive) taken() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tail, a.part = max(0, a.tail-a.part), 0
}

// lag is how much of the log is in no archive, and why.
func (a *archive) lag(o Options) (int64, error) {
	if o.Archive == ArchiveOff {
		return -1, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(0, int64(o.Log.Appended())-int64(a.to)), a.err
}

// afterMove is how soon the log is archived when a range has come or gone: ranges of one
// rebalancing come one after the other, and each piece costs requests.
const afterMove = 2 * time.Second

// moveAgain is how soon that is tried again if it fails.
const moveAgain = 10 * time.Second

// Moved says that a range has come, or gone, for good. Its new owner's writes are in no
// archive but this one, and while the old owner's archive is ahead, a restore would
// have to say that they may be missing: so the log is archived soon, whatever the
// interval is, unless it is archived only for snapshots.
func (k *Keeper) Moved() {
	select {
	case k.archive.moved <- struct{}{}:
	default:
	}
}

// runArchive sends what is due until ctx ends.
func (k *Keeper) runArchive(ctx context.Context) {
	if k.o.Archive == ArchiveOff {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(k.o.ArchiveEvery)
	defer tick.Stop()
	moved := false
	for {
		err := errCrowded
		if !k.archive.crowded() {
			err = k.send(ctx, k.archive.end(), math.MaxUint64, k.o.Archive == ArchiveSegment && !moved)
		}
		if k.final(err) {
			return
		}
		k.archiveFailed(ctx, err)
		moved = moved && err != nil
		var again <-chan time.Time
		if moved {
			again = time.After(moveAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-again:
		case <-k.archive.moved:
			moved = true
			pause(ctx, min(afterMove, k.o.ArchiveEvery))
		}
	}
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (k *Keeper) archiveFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	a := &k.archive
	a.mu.Lock()
	defer a.mu.Unlock()
	switch now := k.o.Now(); {
	case err != nil && (a.err == nil || now.Sub(a.told) >= tellAgain):
		// Its words change with every try, as the log grows: they are no news.
		k.o.Logger.Warn("the log's archive falls behind; it is tried again", "err", err)
		a.told = now
	case err == nil && a.err != nil:
		k.o.Logger.Info("the log's archive gets on again", "to", a.to)
		k.reached()
	}
	a.err = err
}

// tellAgain is how often the log says that the archive still fails.
const tellAgain = time.Minute

// send archives the log behind from, until the archive has reached enough. With closed
// only segments that are full; else what the log's mode has not synced yet is synced
// first, or a node that syncs never, or has nothing to sync for, would never archive it.
func (k *Keeper) send(ctx context.Context, from, enough wal.LSN, closed bool) error {
	select {
	case k.archive.turn <- struct{}{}:
		defer func() { <-k.archive.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	from = max(from, k.archive.end(), k.o.Log.Start())
	if from >= min(enough, k.o.Log.Appended()) {
		return nil
	}
	var whole snapshot.Complete
	whole.At, whole.To = k.settled() // before what is there is synced
	if want := min(enough, k.o.Log.Appended()); !closed && want > max(from, k.o.Log.Durable()) {
		if err := k.o.Log.SyncTo(want); err != nil {
			return fmt.Errorf("archive the log: %w", err)
		}
	}
	if from >= k.o.Log.Durable() {
		return nil
	}
	defer k.archive.stall.rest()
	pieces, err := k.o.Log.Pieces(from)
	if err != nil {
		return fmt.Errorf("archive the log: %w", err)
	}
	for _, p := range pieces {
		if closed && !p.Closed || p.From >= enough {
			return nil
		}
		if err := k.sendPiece(ctx, p, whole); err != nil {
			return fmt.Errorf("archive the log from %s to %s: %w", p.From, p.To, err)
		}
	}
	return nil
}

// settled is the engine's, in the words of a head.
func (k *Keeper) settled() (at int64, to uint64) {
	at, end := k.o.Engine.Settled()
	return max(at, 0), uint64(end)
}

// vouch has the bucket know that the archive has everything up to now, if it has. A
// node that goes on writing says so with each piece; this is for one that does not.
func (k *Keeper) vouch(ctx context.Context) error {
	if k.o.Archive != ArchiveOff {
		if err := k.send(ctx, 0, math.MaxUint64, false); err != nil {
			return err
		}
	}
	var c snapshot.Complete
	if c.At, c.To = k.settled(); uint64(k.archive.end()) < c.To {
		return nil // written since, or kept by nobody
	}
	return k.o.Store.Vouch(ctx, c)
}

// sendPiece sends one piece; whole is what the archive is when it has come so far.
func (k *Keeper) sendPiece(ctx context.Context, p wal.Piece, whole snapshot.Complete) error {
	if uint64(p.To) < whole.To {
		whole = snapshot.Complete{}
	}
	if err := k.o.Points.Hit(pointArchive); err != nil {
		return err
	}
	var body bytes.Buffer
	body.Grow(int(p.Size()))
	if err := k.o.Log.CopyPiece(&body, p); err != nil {
		return err
	}
	piece := snapshot.LogPiece{From: uint64(p.From), To: uint64(p.To)}
	var err error
	if piece.FirstMS, piece.LastMS, err = k.times(p, body.Bytes()); err != nil {
		return err
	}
	k.archive.stall.ask(k.o.Now(), int64(body.Len()))
	if _, err := k.o.Store.ArchiveUntil(ctx, piece, body.Bytes(), whole); err != nil {
		return err
	}
	k.archive.mu.Lock()
	k.archive.to = max(k.archive.to, p.To)
	k.archive.tail++
	k.archive.mu.Unlock()
	return k.o.Points.Hit(pointArchived)
}

// times returns the wall clock parts of the oldest and the newest version in a
// piece, the present where it has none.
func (k *Keeper) times(p wal.Piece, body []byte) (first, last int64, err error) {
	first = math.MaxInt64
	r := wal.NewArchiveReader(p.From)
	err = r.Read("a piece of log", bytes.NewReader(body), func(payload []byte, _ wal.LSN) error {
		for {
			rec, rest, err := wal.NextRecord(payload)
			if err != nil || rec == nil {
				return err
			}
			if v, ok := engine.RecordVersion(rec); ok {
				first, last = min(first, v.Millis()), max(last, v.Millis())
			}
			payload = rest
		}
	})
	if first > last {
		now := k.o.Engine.Now()
		first, last = now, now
	}
	return first, last, err
}

// cover makes sure that the bucket has the log between two positions, and returns
// the pieces for the manifest of a snapshot with these cuts.
func (k *Keeper) cover(ctx context.Context, from, to wal.LSN) ([]snapshot.LogPiece, error) {
	begin := max(k.archive.end(), k.o.Log.Start())
	if due, err := k.o.Log.Pieces(begin); err != nil {
		return nil, err
	} else if k.o.Archive == ArchiveOff || len(due) > k.archive.room() {
		begin = max(begin, from) // what lies before is covered by the snapshot itself
	}
	if err := k.send(ctx, begin, to, false); err != nil {
		return nil, err
	}
	h, err := k.o.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	current, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	var pieces []snapshot.LogPiece
	for _, p := range current.Log {
		if wal.LSN(p.To) > from {
			pieces = append(pieces, p)
		}
	}
	pieces = append(pieces, h.Log...)
	k.archive.taking(h)
	sortPieces(pieces)
	if end, err := joined(pieces, from); err != nil || end < to {
		return nil, errors.Join(err, fmt.Errorf("the archive of the log has a gap behind position %d; it goes from %d to %d", end, from, to))
	}
	return pieces, nil
}
