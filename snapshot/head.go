package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Bounds of a head. Whoever reaches one of them has not pruned for long.
const (
	MaxKept = 1 << 10 // snapshots kept, and as many condemned
	MaxTail = 1 << 10 // pieces of log since the newest snapshot

	maxHead   = 2 << 20
	maxRecent = 16
)

// Kept is a snapshot that the head refers to.
type Kept struct {
	Sequence    uint64 `json:"sequence"`
	Manifest    string `json:"manifest"` // key
	SHA256      string `json:"sha256"`   // of the manifest, in hexadecimal
	Snapshot    ID     `json:"snapshot"`
	Incarnation uint64 `json:"incarnation"` // that published it
	Created     int64  `json:"created"`     // Unix time in milliseconds
	HLC         uint64 `json:"hlc"`
	Entries     uint64 `json:"entries"`
	Size        int64  `json:"size"` // of its parts, in bytes
	// Verified says that it passed verification, VerifiedAt when (Unix time in milliseconds).
	Verified   bool  `json:"verified,omitempty"`
	VerifiedAt int64 `json:"verifiedAt,omitempty"`
}

// Condemned is a snapshot that is not kept any more, and whose objects may be
// deleted when the grace is over. It never comes back.
type Condemned struct {
	Kept
	At int64 `json:"at"` // Unix time in milliseconds
}

// Head is the only object of a node that changes. Whatever it does not refer to,
// directly or by a manifest, is garbage.
type Head struct {
	Cluster     string   `json:"cluster"`
	Node        string   `json:"node"`
	Incarnation uint64   `json:"incarnation"` // that may write
	Counter     uint64   `json:"counter"`     // of changes
	Nonce       string   `json:"nonce"`       // of this change
	Recent      []string `json:"recent,omitempty"`
	// Snapshots are those kept, without gaps in age: oldest first, the last one is current.
	Snapshots []Kept      `json:"snapshots,omitempty"`
	Condemned []Condemned `json:"condemned,omitempty"`
	// Log has the pieces of log archived since the current snapshot was published.
	Log []LogPiece `json:"log,omitempty"`
	// Complete tells an idle node from one whose archive lags.
	Complete Complete `json:"complete,omitzero"`
}

// Complete says that whatever the node had written up to a moment lies before a
// position of its log.
type Complete struct {
	At int64  `json:"at"` // Unix time in milliseconds
	To uint64 `json:"to"` // log position
}

// Current returns the newest snapshot, if there is one.
func (h Head) Current() (Kept, bool) {
	if len(h.Snapshots) == 0 {
		return Kept{}, false
	}
	return h.Snapshots[len(h.Snapshots)-1], true
}

// Sequence returns that of the newest snapshot, 0 before the first.
func (h Head) Sequence() uint64 {
	k, _ := h.Current()
	return k.Sequence
}

// has reports whether the head is, or comes from, the one with this nonce.
func (h Head) has(nonce string) bool { return h.Nonce == nonce || slices.Contains(h.Recent, nonce) }

// clone returns a head whose lists can be changed.
func (h Head) clone() Head {
	h.Recent, h.Snapshots = slices.Clone(h.Recent), slices.Clone(h.Snapshots)
	h.Condemned, h.Log = slices.Clone(h.Condemned), slices.Clone(h.Log)
	return h
}

type wireHead struct {
	Format int `json:"format"`
	Head
}

// Encode returns the head as JSON. It refuses one that DecodeHead would refuse.
func (h Head) Encode() ([]byte, error) {
	if fault := h.fault(); fault != "" {
		return nil, &FormatError{"head", fault}
	}
	return encodeText("head", wireHead{headFormat, h}, maxHead)
}

// DecodeHead reads a head, as strictly as [DecodeManifest].
func DecodeHead(b []byte) (Head, error) {
	var w wireHead
	if err := decodeText("head", b, maxHead, headFormat, &w); err != nil {
		return Head{}, err
	}
	if fault := w.fault(); fault != "" {
		return Head{}, &FormatError{"head", fault}
	}
	return w.Head, canonical("head", b, w.Encode)
}

// Encode of a wireHead is that of its head.
func (w wireHead) Encode() ([]byte, error) { return w.Head.Encode() }

func (h *Head) fault() string {
	k, err := keysOf(h.Node)
	switch {
	case err != nil:
		return err.Error()
	case !validCluster(h.Cluster):
		return "the cluster's id is not 1 to 256 printable ASCII characters"
	case h.Counter == 0 || h.Nonce == "" || len(h.Nonce) > 64 || len(h.Recent) > maxRecent:
		return "it lacks a counter or a nonce, or has too many of them"
	case h.Complete.At < 0 || h.Complete.At == 0 && h.Complete.To != 0:
		return "it is complete as of no moment"
	case len(h.Snapshots) > MaxKept || len(h.Condemned) > MaxKept || len(h.Log) > MaxTail:
		return fmt.Sprintf("%d snapshots, %d condemned or %d pieces of log are too many: prune", len(h.Snapshots), len(h.Condemned), len(h.Log))
	}
	last := uint64(0)
	for _, c := range h.Condemned {
		if fault := c.fault(k, last); fault != "" {
			return fault
		}
		last = c.Sequence
	}
	for _, s := range h.Snapshots {
		if fault := s.fault(k, last); fault != "" {
			return fault
		}
		last = s.Sequence
	}
	return logFault(k, h.Log)
}

func (k *Kept) fault(own keys, last uint64) string {
	prefix := own.manifest(k.Sequence, "")
	switch {
	case k.Sequence <= last:
		return fmt.Sprintf("snapshot %d comes after snapshot %d", k.Sequence, last)
	case !strings.HasPrefix(k.Manifest, prefix) || bucket.ValidateKey(k.Manifest) != nil:
		return fmt.Sprintf("snapshot %d has the manifest %.200q, which is not its own", k.Sequence, k.Manifest)
	case len(k.SHA256) != 64 || k.Size < 0 || !k.Verified && k.VerifiedAt != 0:
		return fmt.Sprintf("snapshot %d: its facts contradict each other", k.Sequence)
	}
	return ""
}
