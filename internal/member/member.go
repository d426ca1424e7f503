// Package member is what nodes and manager tell each other, apart from moves:
// REGISTER and HEARTBEAT carry one of these as JSON, in one argument.
//
//	REGISTER  <Registration>  -> :<counter>  the document of that counter or a later one knows the node
//	HEARTBEAT <Heartbeat>     -> :<counter>  the newest document the manager knows: read it if yours is older
//
// Both are facts and wishes, never authority: what a node owns is in the
// document alone. Decoding is bounded, since the bytes come from outside; a field
// that this build does not know is ignored, so that versions can be mixed.
package member

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/ring"
)

// MaxBytes bounds an encoded message. A heartbeat of a node with a hundred moves
// under way takes a tenth of it.
const MaxBytes = 256 << 10

// Registration asks the manager to note a node that has started.
type Registration struct {
	Cluster   string          `json:"cluster,omitempty"`
	ID        cluster.NodeID  `json:"id"`
	Address   string          `json:"address"`
	Tokens    int             `json:"tokens"`
	Endpoints []ring.Endpoint `json:"endpoints,omitempty"`
}

// Heartbeat is how a node is doing at one moment.
type Heartbeat struct {
	Address     string              `json:"address"`
	ID          cluster.NodeID      `json:"id"`
	Incarnation cluster.Incarnation `json:"incarnation"`
	// Counter and Epoch are of the document that the node follows.
	Counter uint64     `json:"counter"`
	Epoch   ring.Epoch `json:"epoch"`
	// Serving is false while the node recovers or drains.
	Serving bool `json:"serving"`
	// State is a word and a reason for people: "serving", "disk full: ...".
	State string `json:"condition,omitempty"`

	Keys        int64 `json:"keys"`
	Bytes       int64 `json:"bytes"`        // of live entries
	MemoryBytes int64 `json:"memory_bytes"` // what the entries' memory takes
	LogBytes    int64 `json:"log_bytes"`
	DurableLSN  int64 `json:"durable_lsn"`
	Connections int64 `json:"connections"`
	// Ops counts the commands since the start; rates are the reader's business.
	Ops      int64 `json:"ops"`
	UptimeMS int64 `json:"uptime_ms"`

	Snapshot *Snapshot `json:"snapshot,omitempty"` // nil: nothing is known

	Moves []MoveProgress `json:"moves,omitempty"`
}

// Snapshot is how a node's snapshots are doing.
type Snapshot struct {
	// State is "ok", "starting", or what is wrong, for people.
	State    string `json:"state"`
	Sequence uint64 `json:"sequence"` // of the newest, 0 before the first
	AgeMS    int64  `json:"age_ms"`   // -1 before the first
	Size     int64  `json:"size"`     // bytes of its parts
	// Uncovered is how many bytes of log it does not have, ArchiveLag how many are in
	// no archive either; -1 where none is kept.
	Uncovered  int64  `json:"log_bytes_not_covered"`
	ArchiveLag int64  `json:"archive_lag_bytes"`
	Phase      string `json:"phase"` // idle, write, upload, publish
}

// MoveProgress is how far one outgoing move has come.
type MoveProgress struct {
	ID     cluster.MoveID `json:"id"`
	Phase  string         `json:"phase"` // copy, seal, commit, drop, waiting
	Keys   int64          `json:"keys"`
	Bytes  int64          `json:"bytes"`
	Share  float64        `json:"share"` // of the range that the copy has passed, 0 to 1
	ForMS  int64          `json:"for_ms"`
	Pause  float64        `json:"pause_ms"` // how long requests have been held, so far
	Reason string         `json:"reason,omitempty"`
}

// Encode returns the message as one argument.
func Encode(message any) ([]byte, error) { return json.Marshal(message) }

// Decode reads one argument into a *Registration or a *Heartbeat.
func Decode(arg []byte, message any) error {
	if len(arg) > MaxBytes {
		return fmt.Errorf("message of %d bytes, at most %d are allowed", len(arg), MaxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(arg))
	if err := d.Decode(message); err != nil {
		return fmt.Errorf("not a member message: %.200s", err.Error()) // it may repeat what was sent
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("not a member message: something follows it")
	}
	return nil
}
