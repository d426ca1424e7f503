package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// forever is the moment of whoever asks for the newest state.
const forever = math.MaxInt64

// view is what one node's objects say of one life of its log: a snapshot, if there is
// one, and the log behind it. It does not change once read.
type view struct {
	node     string
	store    *snapshot.Store
	manifest *snapshot.Manifest  // nil: the log alone, from its beginning
	before   []snapshot.Manifest // those of older snapshots, oldest first
	state    *engine.State       // of the manifest
	pieces   []snapshot.LogPiece
	behind   []snapshot.LogPiece // those that are too new
	complete snapshot.Complete   // what the node says of the end of its log, if this is its newest
	at       int64               // the moment asked for

	ledger *ledger
	tail   [engine.Partitions][]logged
	end    wal.LSN // up to where the log was read
	until  int64   // the newest moment known, Unix milliseconds
	whole  bool    // the log is known to go on behind the moment asked for, without a gap
	gaps   []Gap
}

// logged is a record about a key, with its place in the log.
type logged struct {
	lsn wal.LSN
	rec []byte
}

// cut returns the position as of which the base has a partition.
func (v *view) cut(partition int) wal.LSN {
	if v.state == nil {
		return 0
	}
	return v.state.Cuts[partition]
}

// sealedAfter returns the moment of the newest snapshot before this one that a move had
// not sealed anything in.
func (v *view) sealedAfter(move string) engine.Version {
	for i := len(v.before) - 1; i >= 0; i-- {
		s, _ := engine.DecodeState(v.before[i].State) // Checked when it was read.
		if !slices.ContainsFunc(s.Sealed, func(h engine.HeldRange) bool { return h.Move == move }) {
			return s.HLC
		}
	}
	return 0
}

// read reads the log behind the base. What is missing or damaged there ends the
// reading and becomes a gap; an error is one of the bucket.
func (v *view) read(ctx context.Context) error {
	v.ledger = newLedger(0)
	if v.state != nil {
		v.ledger = ledgerOf(v.state, v.sealedAfter)
		v.end, v.until = v.state.MinCut(), v.state.HLC.Millis()
	}
	r := wal.NewArchiveReader(v.end)
	for _, p := range v.wanted() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.piece(ctx, r, p); err != nil {
			if !isLoss(err) {
				return err
			}
			v.lost(err)
			break
		}
	}
	v.end = r.End()
	v.whole = v.ledger.late || v.completeUntil() >= v.at || slices.ContainsFunc(v.behind, func(p snapshot.LogPiece) bool { return wal.LSN(p.From) <= v.end && wal.LSN(p.To) > v.end })
	v.until = max(v.until, v.ledger.newest.Millis())
	if v.state != nil && v.end < v.state.LSN {
		v.gaps = append(v.gaps, Gap{
			Kind: GapTorn, Node: v.node, From: v.until, To: v.at,
			Reason: fmt.Sprintf("snapshot %d needs the log from position %d to %d to be of one moment, and the archive has it to %d",
				v.manifest.Sequence, v.state.MinCut(), v.state.LSN, v.end),
		})
	}
	return nil
}

// completeUntil returns the moment up to which the node itself says that this is all, 0
// if it does not.
func (v *view) completeUntil() int64 {
	if uint64(v.end) < v.complete.To {
		return 0
	}
	return v.complete.At
}

// wanted returns the pieces to read: from the base on, up to the last one that has
// something not newer than the moment.
func (v *view) wanted() []snapshot.LogPiece {
	last := -1
	for i, p := range v.pieces {
		if p.FirstMS <= v.at {
			last = i
		}
	}
	v.behind = v.pieces[last+1:]
	var wanted []snapshot.LogPiece
	for _, p := range v.pieces[:last+1] {
		if wal.LSN(p.To) > v.end {
			wanted = append(wanted, p)
		}
	}
	return wanted
}

func (v *view) piece(ctx context.Context, r *wal.ArchiveReader, p snapshot.LogPiece) error {
	body, err := v.store.ReadLog(ctx, p)
	if err != nil {
		return err
	}
	return r.Read(p.Key, bytes.NewReader(body), v.group)
}

// isLoss tells what is not there, or not as it was, from a bucket that cannot be read.
func isLoss(err error) bool {
	var part *snapshot.CorruptionError
	var piece *wal.CorruptionError
	var version *snapshot.VersionError
	var gap *wal.GapError
	return errors.Is(err, snapshot.ErrMissing) || errors.As(err, &part) || errors.As(err, &piece) || errors.As(err, &gap) ||
		errors.As(err, &version) || errors.Is(err, engine.ErrRecord)
}

func (v *view) lost(err error) {
	from := max(v.until, v.ledger.newest.Millis())
	v.gaps = append(v.gaps, Gap{Kind: GapLog, Node: v.node, From: from, To: v.at, Reason: err.Error()})
}

// group takes in one group of records.
func (v *view) group(payload []byte, end wal.LSN) error {
	at := wal.PayloadStart(payload, end)
	for {
		rec, rest, err := wal.NextRecord(payload)
		if err != nil || rec == nil {
			return err
		}
		at += wal.LSN(len(payload) - len(rest))
		payload = rest
		if at <= v.end {
			continue // Before the base, or read already.
		}
		if err := v.record(rec, at); err != nil {
			return fmt.Errorf("log position %d: %w", at, err)
		}
		v.end = at
	}
}

func (v *view) record(rec []byte, lsn wal.LSN) error {
	r, err := engine.DecodeRecord(rec)
	if err != nil {
		return err
	}
	known := v.state != nil && lsn <= v.state.LSN // The ledger has it.
	switch {
	case r.Kind > engine.RecordAppend && known:
		v.ledger.forgets(r, lsn)
	case r.Kind > engine.RecordAppend:
		v.ledger.apply(r, lsn)
	default:
		v.write(r, rec, lsn, known)
	}
	return nil
}

// write keeps a record about a key, unless the base has it or it is too new.
func (v *view) write(r engine.Record, rec []byte, lsn wal.LSN, known bool) {
	if !known {
		v.ledger.wrote(r.Position)
	}
	if r.Version.Millis() > v.at {
		v.ledger.late = true
		return
	}
	v.ledger.newest = max(v.ledger.newest, r.Version)
	if i := partitionOf(r.Position); lsn > v.cut(i) {
		v.tail[i] = append(v.tail[i], logged{lsn, rec})
	}
}

func partitionOf(p ring.Position) int { return int(uint64(p) * engine.Partitions >> 32) }
