package keeper

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
)

// ArchiveMode says how much of the log goes to the bucket.
type ArchiveMode uint8

const (
	// ArchiveInterval sends every interval what is durable by then.
	ArchiveInterval ArchiveMode = iota
	// ArchiveSegment sends segments of the log when they are full.
	ArchiveSegment
	// ArchiveOff sends only the log that a snapshot itself needs.
	ArchiveOff
)

// UnmarshalText reads off, segment or interval.
func (m *ArchiveMode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "interval":
		*m = ArchiveInterval
	case "segment":
		*m = ArchiveSegment
	case "off":
		*m = ArchiveOff
	default:
		return errors.New("want off, segment or interval")
	}
	return nil
}

// String is the word that UnmarshalText reads.
func (m ArchiveMode) String() string {
	switch m {
	case ArchiveSegment:
		return "segment"
	case ArchiveOff:
		return "off"
	}
	return "interval"
}

// MarshalText is String for encoders.
func (m ArchiveMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Options say what a [Keeper] works on and when.
type Options struct {
	FS     vfs.FS // default vfs.OS()
	Dir    string // of the local snapshot; made if missing, used by nothing else
	Store  *snapshot.Store
	Engine *engine.Engine
	Log    *wal.Log

	Cluster     string
	Incarnation uint64
	// Base is what the engine was opened with, if that was the local snapshot.
	Base *Base

	LogBytes int64         // a snapshot when the log has grown by this since the last; 0 never
	Interval time.Duration // a snapshot this often; 0 never
	Keep     int           // snapshots kept in the bucket; default 3
	KeepFor  time.Duration // and what it takes to go back so far

	Archive      ArchiveMode
	ArchiveEvery time.Duration // default 10 s

	// Lost is told once when another process has taken this node's place.
	Lost func(error)

	Points *failpoint.Set
	Logger *slog.Logger
	Now    func() time.Time // default time.Now

	// Pace is how often the triggers are looked at, and Retry the first pause after a
	// failure; defaults 1 s each.
	Pace, Retry time.Duration
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lost == nil {
		o.Lost = func(error) {}
	}
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.Keep = max(o.Keep, 0)
	if o.Keep == 0 {
		o.Keep = 3
	}
	o.ArchiveEvery = cmp.Or(o.ArchiveEvery, 10*time.Second)
	o.Pace, o.Retry = cmp.Or(o.Pace, time.Second), cmp.Or(o.Retry, time.Second)
	return o
}
