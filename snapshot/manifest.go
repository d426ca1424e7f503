package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Bounds of a manifest: far more than a node of a terabyte needs, and few enough
// to be read at once.
const (
	MaxParts   = 1 << 14
	MaxPieces  = 1 << 14
	MaxOwned   = 1 << 14
	MaxCuts    = 1 << 12
	MaxState   = 2 << 20
	MaxCluster = 256 // characters of a cluster's id

	maxManifest = bucket.MaxConditional
	// maxListed bounds what decoding can be made to allocate: no list of a text has
	// more elements than the text has commas.
	maxListed = 16*(MaxParts+MaxPieces+MaxOwned) + MaxCuts + 64
)

// Slice is a piece of the ring from First to Last, both included.
type Slice struct {
	First ring.Position `json:"first"`
	Last  ring.Position `json:"last"`
}

// Range returns the same piece as a range.
func (s Slice) Range() ring.Range { return ring.Range{Start: s.First - 1, End: s.Last} }

// Slices cuts the whole ring into 2^bits equal slices, bits from 0 to 14. Slices
// with more bits lie inside those with fewer.
func Slices(bits int) []Slice {
	bits = max(0, min(bits, 14))
	slices := make([]Slice, 1<<bits)
	size := uint64(1) << (32 - bits)
	for i := range slices {
		slices[i] = Slice{ring.Position(uint64(i) * size), ring.Position(uint64(i+1)*size - 1)}
	}
	return slices
}

// SliceBits returns how many bits of slices make parts of at most about 128 MiB
// of a node that holds this many bytes on this many positions of the ring.
func SliceBits(held, positions uint64) int {
	whole := float64(held) * float64(1<<32) / float64(max(positions, 1)) // If all of the ring were as full.
	bits := 0
	for bits < 14 && whole/float64(uint64(1)<<bits) > 128<<20 {
		bits++
	}
	return bits
}

// Part is a part file as a manifest refers to it: perhaps one of an older snapshot.
type Part struct {
	Key   string `json:"key"`   // of the object
	Slice Slice  `json:"slice"` // of the ring: the file holds all entries of it
	PartInfo
}

// LogPiece is a piece of the node's log in the bucket.
type LogPiece struct {
	Key         string `json:"key"`
	Incarnation uint64 `json:"incarnation"` // of the node that wrote it
	From        uint64 `json:"from"`        // log position of its first record
	To          uint64 `json:"to"`          // log position behind its last
	Size        int64  `json:"size"`
	CRC         uint32 `json:"crc"`     // CRC-32C of the object
	FirstMS     int64  `json:"firstMs"` // of its oldest version, Unix time in milliseconds
	LastMS      int64  `json:"lastMs"`  // of its newest
}

// DocumentMark says how new the cluster document was that the node had read.
type DocumentMark struct {
	Cluster string `json:"cluster"`
	Epoch   uint64 `json:"epoch"`
	Counter uint64 `json:"counter"`
}

// Manifest describes one snapshot. It never changes once published.
type Manifest struct {
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`        // address
	Incarnation uint64 `json:"incarnation"` // of the node that published it
	Snapshot    ID     `json:"snapshot"`
	Sequence    uint64 `json:"sequence"` // 1 for the node's first snapshot
	Created     int64  `json:"created"`  // Unix time in milliseconds
	HLC         uint64 `json:"hlc"`      // the newest version in it

	// The cut. What these positions mean is known to the engine alone.
	Cuts      []uint64     `json:"cuts,omitempty"` // log position for each partition
	LedgerLSN uint64       `json:"ledgerLsn"`
	State     []byte       `json:"state,omitempty"` // the engine's ledger, opaque
	Document  DocumentMark `json:"document"`
	Owned     []ring.Range `json:"-"` // the ranges that the node owned

	Parts []Part `json:"parts,omitempty"` // by slice
	// Log has the pieces archived since the snapshot before, in order.
	Log []LogPiece `json:"log,omitempty"`
}

// Entries returns how many entries the snapshot has.
func (m Manifest) Entries() (n uint64) {
	for _, p := range m.Parts {
		n += p.Entries
	}
	return n
}

// Size returns how many bytes its parts have, those of older snapshots among them.
func (m Manifest) Size() (n int64) {
	for _, p := range m.Parts {
		n += p.Size
	}
	return n
}

// clone returns a manifest that shares no memory with m.
func (m Manifest) clone() Manifest {
	m.Cuts, m.State, m.Owned = slices.Clone(m.Cuts), slices.Clone(m.State), slices.Clone(m.Owned)
	m.Parts, m.Log = slices.Clone(m.Parts), slices.Clone(m.Log)
	return m
}

// wireManifest is the text: JSON on one line, in exactly the form in which Encode
// writes it.
type wireManifest struct {
	Format int `json:"format"`
	Manifest
	Owned []wireRange `json:"owned,omitempty"`
}

type wireRange struct {
	Start ring.Position `json:"start"`
	End   ring.Position `json:"end"`
}

const (
	manifestFormat = 1
	headFormat     = 1
)

// Encode returns the manifest as JSON. It refuses one that DecodeManifest would refuse.
func (m Manifest) Encode() ([]byte, error) {
	if fault := m.fault(); fault != "" {
		return nil, &FormatError{"manifest", fault}
	}
	w := wireManifest{Format: manifestFormat, Manifest: m}
	for _, r := range m.Owned {
		w.Owned = append(w.Owned, wireRange(r))
	}
	return encodeText("manifest", w, maxManifest)
}

// DecodeManifest reads a manifest, strictly: bounded, consistent in itself, and
// byte for byte as Encode writes it. All else is a [*FormatError] or, from the
// future, a [*VersionError].
func DecodeManifest(b []byte) (Manifest, error) {
	var w wireManifest
	if err := decodeText("manifest", b, maxManifest, manifestFormat, &w); err != nil {
		return Manifest{}, err
	}
	m := w.Manifest
	for _, r := range w.Owned {
		m.Owned = append(m.Owned, ring.Range(r))
	}
	if fault := m.fault(); fault != "" {
		return Manifest{}, &FormatError{"manifest", fault}
	}
	return m, canonical("manifest", b, m.Encode)
}

func encodeText(what string, v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, &FormatError{what, err.Error()}
	}
	if len(b) >= limit {
		return nil, fmt.Errorf("%w: the %s takes %d bytes, want less than %d", ErrLimit, what, len(b), limit)
	}
	return append(b, '\n'), nil
}

// decodeText reads JSON of a known format into v.
func decodeText(what string, b []byte, limit, format int, v any) error {
	if len(b) > limit || bytes.Count(b, []byte{','}) > maxListed {
		return &FormatError{what, fmt.Sprintf("%d bytes are more than it can have", len(b))}
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	var claim struct {
		Format int `json:"format"`
	}
	switch {
	case json.NewDecoder(bytes.NewReader(b)).Decode(&claim) != nil:
		return &FormatError{what, "it is no JSON object, or a damaged one"}
	case claim.Format > format:
		return &VersionError{what, uint32(min(claim.Format, 1<<31)), uint32(format)}
	case claim.Format != format:
		return &FormatError{what, fmt.Sprintf("format is %d, want %d", claim.Format, format)}
	case err != nil:
		return &FormatError{what, err.Error()}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &FormatError{what, "something follows it"}
	}
	return nil
}

// canonical refuses a text that is not the one that encode writes: a field twice,
// another spelling, another order.
func canonical(what string, b []byte, encode func() ([]byte, error)) error {
	again, err := encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return &FormatError{what, "it is not in the form in which Quoit writes it"}
	}
	return nil
}

// fault says what is wrong with the manifest, or nothing.
func (m *Manifest) fault() string {
	k, err := keysOf(m.Node)
	switch {
	case err != nil:
		return err.Error()
	case !validCluster(m.Cluster) || m.Document.Cluster != "" && !validCluster(m.Document.Cluster):
		return "the cluster's id is not 1 to 256 printable ASCII characters"
	case m.Sequence == 0:
		return "sequence is 0, want 1 or more"
	case len(m.Parts) > MaxParts, len(m.Log) > MaxPieces, len(m.Owned) > MaxOwned, len(m.Cuts) > MaxCuts, len(m.State) > MaxState:
		return fmt.Sprintf("%d parts, %d pieces of log, %d ranges, %d cuts or %d bytes of state are too many",
			len(m.Parts), len(m.Log), len(m.Owned), len(m.Cuts), len(m.State))
	}
	if fault := m.partsFault(k); fault != "" {
		return fault
	}
	return logFault(k, m.Log)
}

func (m *Manifest) partsFault(k keys) string {
	seen := make(map[string]bool, len(m.Parts))
	for i, p := range m.Parts {
		switch {
		case p.Key != k.part(p.Snapshot, p.Number) || seen[p.Key]:
			return fmt.Sprintf("part %d has key %.200q, which is not its own", i, p.Key)
		case p.Slice.First > p.Slice.Last, i > 0 && p.Slice.First <= m.Parts[i-1].Slice.Last:
			return fmt.Sprintf("part %d: slices are not in ring order", i)
		case p.layoutFault() != "":
			return fmt.Sprintf("part %d: %s", i, p.layoutFault())
		case p.Entries > 0 && (p.First < p.Slice.First || p.Last > p.Slice.Last):
			return fmt.Sprintf("part %d has positions outside its slice", i)
		case p.Newest > m.HLC:
			return fmt.Sprintf("part %d has newer versions than the snapshot", i)
		}
		seen[p.Key] = true
	}
	return ""
}

func logFault(k keys, pieces []LogPiece) string {
	for i, p := range pieces {
		switch {
		case p.Key != k.log(p.Incarnation, p.From, p.To):
			return fmt.Sprintf("piece of log %d has key %.200q, which is not its own", i, p.Key)
		case p.From > p.To || p.Size <= 0 || p.FirstMS > p.LastMS:
			return fmt.Sprintf("piece of log %d: its bounds contradict each other", i)
		case i > 0 && comparePieces(pieces[i-1], p) >= 0:
			return fmt.Sprintf("piece of log %d is out of order", i)
		}
	}
	return ""
}

// comparePieces orders pieces of log: their keys are written to that end.
func comparePieces(a, b LogPiece) int { return strings.Compare(a.Key, b.Key) }

func validCluster(id string) bool {
	return id != "" && len(id) <= MaxCluster && !slices.ContainsFunc([]byte(id), func(c byte) bool { return c <= ' ' || c > '~' })
}
