package keeper

import (
	"fmt"
	"time"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

const (
	phaseIdle    = "idle"
	phaseWrite   = "write"
	phaseUpload  = "upload"
	phasePublish = "publish"
)

// Status is how a node's snapshots are doing.
type Status struct {
	// State is "ok", "starting", or what is wrong, for people.
	State string `json:"state"`
	// Sequence of the newest snapshot, 0 before the first; the rest is about it too.
	Sequence uint64 `json:"sequence"`
	Created  int64  `json:"created_ms"` // Unix time in milliseconds
	AgeMS    int64  `json:"age_ms"`     // -1 before the first
	Size     int64  `json:"size"`
	Entries  uint64 `json:"entries"`
	// Uncovered is how many bytes of log the newest snapshot does not have, and
	// ArchiveLag how many are in no archive either: what a lost disk takes along. It
	// is -1 with an archive that is off.
	Uncovered  int64 `json:"log_bytes_not_covered"`
	ArchiveLag int64 `json:"archive_lag_bytes"`
	// Phase is idle, write, upload or publish; Done and Total are bytes of the upload.
	Phase string `json:"phase"`
	Done  int64  `json:"upload_done"`
	Total int64  `json:"upload_total"`
	// Published and Failures count since the start of the process.
	Published uint64 `json:"published"`
	Failures  uint64 `json:"failures"`
	Fenced    bool   `json:"fenced,omitempty"`
	Last      Cost   `json:"last"`

	what string
	err  error
	at   time.Time // of the first failure since the last success
}

// Cost is what the last snapshot of this process cost.
type Cost struct {
	MS       int64 `json:"ms"`       // from the first entry to the publication
	WriteMS  int64 `json:"write_ms"` // of these until the part files were written
	Keys     int64 `json:"keys"`     // written; those of parts referred to again are not counted
	Written  int64 `json:"written"`
	Uploaded int64 `json:"uploaded"`
	Reused   int   `json:"reused"` // parts of an older snapshot
	// HoldUS is the longest time that a part of memory was locked, HeldUS all of them
	// together in so many Holds, BufferBytes the most memory that was taken for copying.
	HoldUS      int64 `json:"longest_hold_us"`
	HeldUS      int64 `json:"held_us"`
	Holds       int   `json:"holds"`
	BufferBytes int64 `json:"buffer_bytes"`
}

func (c *Cost) add(s engine.CheckpointStats) {
	c.HoldUS, c.BufferBytes = s.LongestHold.Microseconds(), s.Buffered
	c.HeldUS, c.Holds = s.Held.Microseconds(), s.Steps
}

// fail notes what went wrong, and says whether that is news.
func (s *Status) fail(what string, err error, now time.Time) bool {
	if err == nil {
		s.what, s.err, s.at = "", nil, time.Time{}
		return false
	}
	s.Failures++
	news := s.err == nil || s.err.Error() != err.Error()
	if s.err == nil {
		s.at = now
	}
	s.what, s.err = what, err
	return news
}

// Status returns how the snapshots are doing now.
func (k *Keeper) Status() Status {
	uncovered := k.uncovered()
	lag, archiveErr := k.archive.lag(k.o)
	k.mu.Lock()
	defer k.mu.Unlock()
	s, now := k.status, k.o.Now()
	s.Uncovered, s.ArchiveLag, s.AgeMS = uncovered, lag, -1
	since := "there is no snapshot yet"
	if m := k.newest.manifest; k.newest.known {
		created := time.UnixMilli(m.Created)
		s.Sequence, s.Created, s.Size, s.Entries = m.Sequence, m.Created, m.Size(), m.Entries()
		s.AgeMS = max(0, now.Sub(created).Milliseconds())
		since = "no snapshot since " + created.UTC().Format(time.RFC3339)
	}
	s.State = "ok"
	switch {
	case k.ended != nil && k.ended != ErrStopped: //nolint:errorlint // it is our own, unwrapped
		s.State, s.Fenced = "snapshots have ended: "+discreet.Text(k.ended), true
	case s.err != nil:
		s.State = fmt.Sprintf("%s; %s: %v", since, s.what, why(s.err))
	case archiveErr != nil:
		s.State = fmt.Sprintf("the log's archive is %d bytes behind: %v", lag, why(archiveErr))
	case k.stall.silent(now) > 0:
		s.State = fmt.Sprintf("%s; the bucket has not answered for %s", since, k.stall.silent(now))
	case k.archive.stall.silent(now) > 0:
		s.State = fmt.Sprintf("the log's archive is %d bytes behind; the bucket has not answered for %s", lag, k.archive.stall.silent(now))
	case !k.claimed:
		s.State = "starting" // nobody has asked the bucket yet
	}
	return s
}

// why is what people may read of an error; the log has had all of it.
func why(err error) string {
	return discreet.Text(err, bucket.ErrInDoubt, bucket.ErrConditionFailed, bucket.ErrUnavailable, bucket.ErrNotFound)
}

func (k *Keeper) progress(phase string, fn func(*Status)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Phase = phase
	if fn != nil {
		fn(&k.status)
	}
}
