package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/quoitdb/quoit/ring"
)

// MaxBytes bounds the encoded document.
const MaxBytes = 8 << 20

// maxCommas bounds what decoding can be made to allocate: no list of the text can
// have more elements than the text has commas. A document as large as the other
// bounds allow has fewer.
const maxCommas = 12*MaxMoves + (10+2*ring.MaxEndpoints)*ring.MaxNodes + 100

// The document as JSON, on one line; broken here to be read:
//
//	{"format":1,"cluster":"6f1c2d0e","counter":41,"nonce":"...","recent":["...","..."],
//	 "epoch":7,"incarnations":5,"moveCount":300,
//	 "nodes":[{"address":"10.0.0.1:7401","id":"1b9d","incarnation":4,"since":2,"gained":40,"tokens":128,
//	           "state":"active","endpoints":[{"kind":"ws","url":"wss://..."}]}],
//	 "moves":[{"id":"m300","start":1073741823,"end":1090519039,
//	           "source":"10.0.0.1:7401","target":"10.0.0.2:7401","phase":"committed",
//	           "committedAt":40,"sourceDropped":true}],
//	 "settings":{"moveBytesPerSecond":0,"movesPaused":false}}
//
// Positions, counters and epochs are plain numbers, up to 2^64-1. What a move has
// not come to yet is left out.
type wireDocument struct {
	Format       int          `json:"format"`
	Cluster      string       `json:"cluster"`
	Counter      uint64       `json:"counter"`
	Nonce        string       `json:"nonce"`
	Recent       []string     `json:"recent"`
	Epoch        ring.Epoch   `json:"epoch"`
	Incarnations Incarnation  `json:"incarnations"`
	MoveCount    uint64       `json:"moveCount"`
	Nodes        []wireMember `json:"nodes"`
	Moves        []wireMove   `json:"moves"`
	Settings     wireSettings `json:"settings"`
}

type wireMember struct {
	Address     string         `json:"address"`
	ID          NodeID         `json:"id"`
	Incarnation Incarnation    `json:"incarnation"`
	Since       uint64         `json:"since"`
	Gained      uint64         `json:"gained,omitempty"`
	Tokens      int            `json:"tokens"`
	State       State          `json:"state"`
	Endpoints   []wireEndpoint `json:"endpoints,omitempty"`
}

type wireEndpoint struct {
	Kind string `json:"kind"`
	URL  string `json:"url"`
}

type wireMove struct {
	ID            MoveID        `json:"id"`
	Start         ring.Position `json:"start"`
	End           ring.Position `json:"end"`
	Source        string        `json:"source"`
	Target        string        `json:"target"`
	Phase         Phase         `json:"phase"`
	CommittedAt   uint64        `json:"committedAt,omitempty"`
	SourceDropped bool          `json:"sourceDropped,omitempty"`
	TargetActive  bool          `json:"targetActive,omitempty"`
	Lost          bool          `json:"lost,omitempty"`
}

type wireSettings struct {
	MoveBytesPerSecond int64 `json:"moveBytesPerSecond"`
	MovesPaused        bool  `json:"movesPaused"`
}

// Encode returns the document as JSON. It refuses one that Decode would refuse.
func (d Document) Encode() ([]byte, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	w := wireDocument{
		Format: Format, Cluster: d.Cluster, Counter: d.Counter, Nonce: d.Nonce, Recent: d.Recent, Epoch: d.Epoch,
		Incarnations: d.Incarnations, MoveCount: d.MoveCount, Settings: wireSettings(d.Settings),
		Nodes: make([]wireMember, len(d.Nodes)), Moves: make([]wireMove, len(d.Moves)),
	}
	for i, m := range d.Nodes {
		w.Nodes[i] = wireMember{m.Address, m.ID, m.Incarnation, m.Since, m.Gained, m.Tokens, m.State, nil}
		for _, e := range m.Endpoints {
			w.Nodes[i].Endpoints = append(w.Nodes[i].Endpoints, wireEndpoint(e))
		}
	}
	for i, m := range d.Moves {
		w.Moves[i] = wireMove{
			m.ID, m.Range.Start, m.Range.End, m.Source, m.Target, m.Phase,
			m.CommittedAt, m.SourceDropped, m.TargetActive, m.Lost,
		}
	}
	b, err := json.Marshal(w)
	if err == nil && len(b) >= MaxBytes {
		err = fmt.Errorf("%w: the document takes %d bytes, want at most %d", ErrLimit, len(b), MaxBytes-1)
	}
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Decode reads a document, strictly: bounded, no unknown field, nothing after
// it, consistent in itself. All else is a [FormatError], a format from the future
// one that says so.
func Decode(b []byte) (Document, error) {
	if len(b) > MaxBytes || bytes.Count(b, []byte{','}) > maxCommas {
		return Document{}, &FormatError{fmt.Sprintf("%d bytes are more than a document can have", len(b))}
	}
	w, err := decodeStrictly(b)
	if err != nil || w.Format != Format {
		// A format from the future has fields that this one does not know.
		if version := versionOf(b); version != Format {
			return Document{}, futureFormat(version)
		}
		return Document{}, &FormatError{err.Error()}
	}
	d := w.document()
	if err := d.validate(); err != nil {
		return Document{}, err
	}
	return d, nil
}

// decodeStrictly reads with the second version of the JSON package, which is several
// times faster: every node reads every document, and in a rebalancing there are many.
func decodeStrictly(b []byte) (wireDocument, error) {
	var w wireDocument
	err := jsonv2.Unmarshal(b, &w, jsonv2.RejectUnknownMembers(true))
	return w, err
}

// versionOf returns the format that a text claims, whatever else it holds, or 0.
func versionOf(b []byte) int {
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(b, &head) != nil {
		return 0
	}
	return head.Format
}

func futureFormat(version int) error {
	if version > Format {
		return &FormatError{fmt.Sprintf("format %d is not supported, only %d is: "+
			"upgrade this program to the release that the cluster runs", version, Format)}
	}
	return &FormatError{"not a cluster document, or a damaged one"}
}

func (w wireDocument) document() Document {
	d := Document{
		Cluster: w.Cluster, Counter: w.Counter, Nonce: w.Nonce, Recent: w.Recent, Epoch: w.Epoch,
		Incarnations: w.Incarnations, MoveCount: w.MoveCount, Settings: Settings(w.Settings),
		Nodes: make([]Member, len(w.Nodes)), Moves: make([]Move, len(w.Moves)),
	}
	for i, m := range w.Nodes {
		d.Nodes[i] = Member{m.Address, m.ID, m.Incarnation, m.Since, m.Gained, m.Tokens, m.State, nil}
		for _, e := range m.Endpoints {
			d.Nodes[i].Endpoints = append(d.Nodes[i].Endpoints, ring.Endpoint(e))
		}
	}
	for i, m := range w.Moves {
		d.Moves[i] = Move{
			m.ID,
			ring.Range{Start: m.Start, End: m.End},
			m.Source, m.Target, m.Phase,
			m.CommittedAt, m.SourceDropped, m.TargetActive, m.Lost,
		}
	}
	return d
}
