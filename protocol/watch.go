package protocol

import (
	"math"
	"strconv"
)

// Watching: WATCH and UNWATCH, and what a node sends on a connection that
// watches. Such a connection has no replies any more, only pushes: arrays whose
// first element is a bulk string with the push's name.
//
//	*3 $8 watching :id                                       -- it begins
//	*6 $3 put :id $key :version :expireAt $value
//	*4 $6 delete :id $key :version
//	*4 $5 state :id :start :end                              -- puts only until synced
//	*5 $6 synced :id :start :end :version
//	*3 $8 progress :id :version
//	*2 $6 behind :id
//	*7 $5 moved :id :start :end :version :epoch $address
//	*3 $7 refused :id $message
//	*2 $9 unwatched :id
//	*2 $4 pong $message

const (
	// MaxWatchRanges bounds the ranges of one WATCH.
	MaxWatchRanges = 4096

	// MaxWatches bounds the watches of one connection.
	MaxWatches = 1024
)

// Watch is WATCH id KEY|PREFIX selector [STATE] start end version [...]: tell of
// every change of a key, or of all keys with a prefix, in some ranges.
type Watch struct {
	ID       int64 // chosen by the client, from 1
	Prefix   bool  // Selector is a prefix, else a key
	Selector []byte
	State    bool // current values first, where a range's version is 0
	Ranges   []WatchRange
}

// WatchRange is (Start, End] in ring positions; Start == End is the whole ring.
// All changes in it up to Version have been seen; 0: none.
type WatchRange struct {
	Start, End uint32
	Version    uint64
}

// watchHead is how many arguments WATCH has before STATE or its ranges.
const watchHead = 4

// ParseWatch parses WATCH. Selector aliases the request.
func ParseWatch(args [][]byte) (Watch, error) {
	f := fieldsOf(CmdWatch, args)
	w := Watch{ID: f.watchID(), Prefix: f.choice("selector", "key", "prefix"), Selector: f.next()}
	if f.more() && isWord(f.rest[0], "state") {
		w.State = true
		f.next()
	}
	const numbers = 3
	count := len(f.rest) / numbers
	switch {
	case f.err != nil:
	case count == 0 || len(f.rest)%numbers != 0:
		f.fail("ranges are not triples of start, end and version")
	case count > MaxWatchRanges:
		f.fail(strconv.Itoa(count) + " ranges, and the limit is " + strconv.Itoa(MaxWatchRanges))
	default:
		w.Ranges = make([]WatchRange, 0, count)
	}
	for f.more() {
		w.Ranges = append(w.Ranges, WatchRange{f.position("start"), f.position("end"), f.uint("version", math.MaxInt64)})
	}
	return w, f.result()
}

// Append appends the request.
func (w Watch) Append(b []byte) []byte {
	const numbers = 3
	b = AppendCommandHeader(b, watchHead+btoi(w.State)+numbers*len(w.Ranges))
	b = AppendBulkString(b, CmdWatch.Spec().Name)
	b = AppendBulkInt(b, w.ID)
	if w.Prefix {
		b = AppendBulkString(b, "PREFIX")
	} else {
		b = AppendBulkString(b, "KEY")
	}
	b = AppendBulk(b, w.Selector)
	if w.State {
		b = AppendBulkString(b, "STATE")
	}
	for _, r := range w.Ranges {
		b = AppendBulkUint(b, uint64(r.Start))
		b = AppendBulkUint(b, uint64(r.End))
		b = AppendBulkUint(b, r.Version)
	}
	return b
}

func btoi(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Unwatch is UNWATCH id.
type Unwatch struct{ ID int64 }

// ParseUnwatch parses UNWATCH.
func ParseUnwatch(args [][]byte) (Unwatch, error) {
	f := fieldsOf(CmdUnwatch, args)
	u := Unwatch{ID: f.watchID()}
	return u, f.result()
}

// Append appends the request.
func (u Unwatch) Append(b []byte) []byte {
	b = AppendBulkString(AppendCommandHeader(b, 2), CmdUnwatch.Spec().Name)
	return AppendBulkInt(b, u.ID)
}

// WatchID is the id that a WATCH or UNWATCH names, for the answer to one that is
// wrong otherwise; 0 when that is wrong, too.
func WatchID(args [][]byte) int64 {
	if len(args) < 2 {
		return 0
	}
	n, ok := ParseUint(args[1])
	if !ok || n > math.MaxInt64 {
		return 0
	}
	return int64(n)
}

func (f *fields) watchID() int64 {
	id := f.uint("id", math.MaxInt64)
	if id == 0 {
		f.fail("id is not a number from 1 to 9223372036854775807")
	}
	return int64(id)
}

// choice is a word that is one of two, in lower case here; it says whether it is
// the second.
func (f *fields) choice(what, first, second string) bool {
	switch word := f.next(); {
	case isWord(word, second):
		return true
	case !isWord(word, first):
		f.fail(what + " is neither " + first + " nor " + second)
	}
	return false
}

// PushKind is the name of a push; 0 is one that this package does not know.
type PushKind uint8

// The pushes.
const (
	// PushWatching: the watch begins.
	PushWatching PushKind = iota + 1
	// PushPut: Key has Value, at Version, until ExpireAt (0: for ever).
	PushPut
	// PushDelete: Key is gone (deleted, or its time has passed).
	PushDelete
	// PushState: what follows for (Start, End] is all that is there, until PushSynced.
	PushState
	// PushSynced: (Start, End] is live; everything up to Version has been told.
	PushSynced
	// PushProgress: everything up to Version in all live ranges has been told.
	PushProgress
	// PushBehind: the reader was too slow; its ranges catch up again.
	PushBehind
	// PushMoved: (Start, End] is not watched here any more; Address owns it.
	PushMoved
	// PushRefused: the watch has ended, or never began. Err says why.
	PushRefused
	// PushUnwatched: the watch has ended as asked.
	PushUnwatched
	// PushPong answers PING with Message.
	PushPong

	pushEnd // one past the last
)

// pushField is one element of a push behind its name.
type pushField uint8

const (
	noField pushField = iota
	fieldID
	fieldStart
	fieldEnd
	fieldKey
	fieldVersion
	fieldExpireAt
	fieldValue
	fieldEpoch
	fieldAddress
	fieldMessage
)

// maxPushFields is how many elements the longest push has behind its name.
const maxPushFields = 6

// pushSpecs says what each push is called and made of. It is never changed.
var pushSpecs = [pushEnd]struct {
	name   string
	fields [maxPushFields]pushField // up to the first noField
}{
	PushWatching:  {"watching", [maxPushFields]pushField{fieldID}},
	PushPut:       {"put", [maxPushFields]pushField{fieldID, fieldKey, fieldVersion, fieldExpireAt, fieldValue}},
	PushDelete:    {"delete", [maxPushFields]pushField{fieldID, fieldKey, fieldVersion}},
	PushState:     {"state", [maxPushFields]pushField{fieldID, fieldStart, fieldEnd}},
	PushSynced:    {"synced", [maxPushFields]pushField{fieldID, fieldStart, fieldEnd, fieldVersion}},
	PushProgress:  {"progress", [maxPushFields]pushField{fieldID, fieldVersion}},
	PushBehind:    {"behind", [maxPushFields]pushField{fieldID}},
	PushMoved:     {"moved", [maxPushFields]pushField{fieldID, fieldStart, fieldEnd, fieldVersion, fieldEpoch, fieldAddress}},
	PushRefused:   {"refused", [maxPushFields]pushField{fieldID, fieldMessage}},
	PushUnwatched: {"unwatched", [maxPushFields]pushField{fieldID}},
	PushPong:      {"pong", [maxPushFields]pushField{fieldMessage}},
}

// String is the name on the wire.
func (k PushKind) String() string {
	if k >= pushEnd {
		k = 0
	}
	return pushSpecs[k].name
}

// count is how many elements a push has behind its name.
func (k PushKind) count() int {
	n := 0
	for n < maxPushFields && pushSpecs[k].fields[n] != noField {
		n++
	}
	return n
}

// Push is one message on a connection that watches. Only the fields that its
// Kind has are set.
type Push struct {
	Kind       PushKind
	ID         int64 // of the watch; 0 in PushRefused when the request had none
	Start, End uint32
	Key, Value []byte
	Version    uint64
	ExpireAt   int64  // unix milliseconds, 0: never
	Epoch      uint64 // of the topology in which Address owns the range
	Address    []byte // empty when nobody knows
	Message    []byte
}

// Err is the error of PushRefused, nil for other pushes. It is a copy.
func (p *Push) Err() *Error {
	if p.Kind != PushRefused {
		return nil
	}
	return Reply{Kind: '-', Bytes: p.Message}.Err()
}

// Append appends the push, of a known kind. A version or an epoch is at most 2^63-1.
func (p *Push) Append(b []byte) []byte {
	spec := &pushSpecs[p.Kind]
	n := p.Kind.count()
	b = AppendArray(b, 1+n)
	b = AppendBulkString(b, spec.name)
	for _, field := range spec.fields[:n] {
		if bytes := p.bytes(field); bytes != nil {
			b = AppendBulk(b, *bytes)
		} else {
			b = AppendInt(b, p.number(field))
		}
	}
	return b
}

// AppendPutHead appends a PushPut up to its value of so many bytes: these, and CRLF,
// are still to follow. For a value that is sent from where it lies.
func (p *Push) AppendPutHead(b []byte, valueLen int) []byte {
	b = AppendArray(b, 1+PushPut.count())
	b = AppendBulkString(b, PushPut.String())
	b = AppendInt(b, p.ID)
	b = AppendBulk(b, p.Key)
	b = AppendInt(b, int64(p.Version))
	b = AppendInt(b, p.ExpireAt)
	return appendHeader(b, '$', int64(valueLen))
}

// bytes is the field that is a bulk string, nil for a number.
func (p *Push) bytes(field pushField) *[]byte {
	switch field {
	case fieldKey:
		return &p.Key
	case fieldValue:
		return &p.Value
	case fieldAddress:
		return &p.Address
	case fieldMessage:
		return &p.Message
	}
	return nil
}

func (p *Push) number(field pushField) int64 {
	switch field {
	case fieldID:
		return p.ID
	case fieldStart:
		return int64(p.Start)
	case fieldEnd:
		return int64(p.End)
	case fieldVersion:
		return int64(p.Version)
	case fieldExpireAt:
		return p.ExpireAt
	default:
		return int64(p.Epoch)
	}
}

func (p *Push) setNumber(field pushField, n int64) {
	switch field {
	case fieldID:
		p.ID = n
	case fieldStart:
		p.Start = uint32(n)
	case fieldEnd:
		p.End = uint32(n)
	case fieldVersion:
		p.Version = uint64(n)
	case fieldExpireAt:
		p.ExpireAt = n
	default:
		p.Epoch = uint64(n)
	}
}

// ParsePush reads what a ReplyParser has found on a connection that watches. A
// push of a newer node has Kind 0 and is to be passed over, as are elements behind
// those that are known. An error is a *ProtocolError: the connection is to be
// closed. The bytes alias the reply.
func ParsePush(r Reply) (Push, error) {
	if r.Kind != '*' || len(r.Array) == 0 || !r.Array[0].isBulk() {
		return Push{}, broken("a push is not an array that begins with its name")
	}
	p := Push{Kind: pushKind(r.Array[0].Bytes)}
	if p.Kind == 0 {
		return p, nil
	}
	n := p.Kind.count()
	if len(r.Array) < 1+n {
		return Push{}, broken("push '" + p.Kind.String() + "' lacks elements")
	}
	for i, field := range pushSpecs[p.Kind].fields[:n] {
		if !p.set(field, &r.Array[1+i]) {
			return Push{}, broken("push '" + p.Kind.String() + "': element " + strconv.Itoa(1+i) + " is not what it should be")
		}
	}
	return p, nil
}

func (r *Reply) isBulk() bool { return r.Kind == '$' && !r.Null }

func pushKind(name []byte) PushKind {
	for k := PushWatching; k < pushEnd; k++ {
		if string(name) == pushSpecs[k].name {
			return k
		}
	}
	return 0
}

// set takes one element over, if it is of the right kind and within its bounds.
func (p *Push) set(field pushField, r *Reply) bool {
	if bytes := p.bytes(field); bytes != nil {
		*bytes = r.Bytes
		return r.isBulk()
	}
	limit := int64(math.MaxInt64)
	if field == fieldStart || field == fieldEnd {
		limit = math.MaxUint32
	}
	if r.Kind != ':' || r.Int < 0 || r.Int > limit {
		return false
	}
	p.setNumber(field, r.Int)
	return true
}
