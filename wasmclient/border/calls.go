package border

import (
	"context"
	"errors"
	"time"

	"github.com/quoitdb/quoit/client"
)

// operation is what a call does. The numbers are those of web/quoit.js.
type operation uint8

const (
	opOpen       operation = iota + 1 // list gateways, flag straight, u32 connections, u32 source of tokens (0: none) -> u32 database, topology
	opClose                           //
	opGet                             // bytes key -> the value
	opGetVersion                      // bytes key -> u64 version, then the value
	opMGet                            // list keys -> outcomes
	opExists                          // bytes key -> flag
	opPut                             // bytes key, options; body
	opMPut                            // options, u32 n, n times bytes key and bytes value -> outcomes
	opSwap                            // bytes key, u64 version, options; body -> u64 version
	opDelete                          // list keys -> outcomes, each one flag: there was such a key
	opIncrement                       // bytes key, u64 delta -> u64 sum (both signed)
	opAppend                          // bytes key; body -> f64 length
	opTTL                             // bytes key -> f64 milliseconds, -1: it stays
	opExpire                          // bytes key, flag at, f64 milliseconds
	opPersist                         // bytes key -> flag
	opCount                           // -> f64
	opScan                            // bytes prefix, bytes match, flag values, u32 start, u32 count: begins a stream
	opWatch                           // bytes key, flag exact, flag state: begins a stream
	opNext                            // u32 stream -> flag last, u32 n, n items
	opStop                            // u32 stream
	opRefresh                         // -> topology
	opInfo                            // bytes address -> the text
	opPing                            // bytes address -> f64 milliseconds
	opObserve                         // flag on
	opPanic                           // for tests: a call that panics
)

// job is a call while it runs.
type job struct {
	*reader
	border *Border
	db     *database // nil for opOpen
	id     uint32
	body   []byte
}

type run func(ctx context.Context, j *job) ([]byte, error)

// run is what the operation does, nil if there is none of that number. Each reads its
// fields before it does anything. (A switch, because a map would be made anew for each
// call, or be one that somebody could write to.)
func (op operation) run() run {
	switch op {
	case opOpen:
		return open
	case opClose:
		return closeDatabase
	case opGet:
		return get
	case opGetVersion:
		return getVersion
	case opMGet:
		return mget
	case opExists:
		return exists
	case opPut:
		return put
	case opMPut:
		return mput
	case opSwap:
		return swap
	case opDelete:
		return remove
	case opIncrement:
		return increment
	case opAppend:
		return appendTo
	case opTTL:
		return ttl
	case opExpire:
		return expire
	case opPersist:
		return persist
	case opCount:
		return count
	case opScan:
		return scan
	case opWatch:
		return watch
	case opNext:
		return next
	case opStop:
		return stopStream
	case opRefresh:
		return refresh
	case opInfo:
		return info
	case opPing:
		return ping
	case opObserve:
		return observe
	case opPanic:
		return func(context.Context, *job) ([]byte, error) { panic("as it was asked to") }
	}
	return nil
}

// orMissing makes the absence of a key an answer.
func orMissing(err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return errMissing
	}
	return err
}

func get(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	value, err := j.db.client.Get(ctx, key)
	return value, orMissing(err)
}

func getVersion(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	value, version, err := j.db.client.GetVersion(ctx, key)
	if err != nil {
		return nil, orMissing(err)
	}
	return append(appendU64(nil, uint64(version)), value...), nil
}

// appendOutcome appends what became of one key of many: u8 status, and then the
// value or the error as bytes.
func appendOutcome(b []byte, value []byte, err error) []byte {
	switch {
	case errors.Is(err, client.ErrNotFound) && codeOf(err) == "NOT_FOUND":
		return append(b, byte(Missing))
	case err != nil:
		return appendBytes(append(b, byte(Failed)), appendError(nil, err))
	}
	return appendBytes(append(b, byte(OK)), value)
}

func mget(ctx context.Context, j *job) ([]byte, error) {
	keys := j.list()
	if err := j.end(); err != nil {
		return nil, err
	}
	results, _ := j.db.client.MGet(ctx, keys...) // each result has its own error
	var answer []byte
	for _, r := range results {
		answer = appendOutcome(answer, r.Value, r.Err)
	}
	return answer, nil
}

func exists(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	yes, err := j.db.client.Exists(ctx, key)
	return appendFlag(nil, yes), err
}

// The flags of a write's options.
const (
	flagIfAbsent = 1 << iota
	flagIfPresent
	flagKeepTTL
	flagTTL
	flagExpireAt
)

// putOptions reads u8 flags and f64 milliseconds, of flagTTL or flagExpireAt.
func (j *job) putOptions() []client.PutOption {
	flags, ms := j.u8(), j.f64()
	var all []client.PutOption
	for _, o := range []struct {
		flag   byte
		option client.PutOption
	}{
		{flagIfAbsent, client.IfAbsent()},
		{flagIfPresent, client.IfPresent()},
		{flagKeepTTL, client.KeepTTL()},
		{flagTTL, client.WithTTL(millis(ms))},
		{flagExpireAt, client.WithExpireAt(time.UnixMilli(int64(ms)))},
	} {
		if flags&o.flag != 0 {
			all = append(all, o.option)
		}
	}
	return all
}

func put(ctx context.Context, j *job) ([]byte, error) {
	key, options := j.string(), j.putOptions()
	if err := j.end(); err != nil {
		return nil, err
	}
	return nil, j.db.client.Put(ctx, key, j.body, options...)
}

func mput(ctx context.Context, j *job) ([]byte, error) {
	options := j.putOptions()
	n := int(j.u32())
	if n > len(j.rest)/8 {
		return nil, errRequest
	}
	pairs := make([]client.Pair, 0, n)
	for range n {
		pairs = append(pairs, client.Pair{Key: j.string(), Value: j.bytes()})
	}
	if err := j.end(); err != nil {
		return nil, err
	}
	errs, err := j.db.client.MPut(ctx, pairs, options...)
	if errs == nil {
		return nil, err // nothing was sent
	}
	var answer []byte
	for _, err := range errs {
		if err != nil {
			answer = appendBytes(append(answer, byte(Failed)), appendError(nil, err))
			continue
		}
		answer = appendOutcome(answer, nil, nil)
	}
	return answer, nil
}

func swap(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	version := uint64(j.u32())
	version |= uint64(j.u32()) << 32
	options := j.putOptions()
	if err := j.end(); err != nil {
		return nil, err
	}
	v, err := j.db.client.CompareAndPut(ctx, key, j.body, client.Version(version), options...)
	return appendU64(nil, uint64(v)), err
}

func remove(ctx context.Context, j *job) ([]byte, error) {
	keys := j.list()
	if err := j.end(); err != nil {
		return nil, err
	}
	results, _ := j.db.client.MDelete(ctx, keys...) // each result has its own error
	var answer []byte
	for _, r := range results {
		answer = appendOutcome(answer, appendFlag(nil, r.Existed), r.Err)
	}
	return answer, nil
}

func increment(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	delta := uint64(j.u32())
	delta |= uint64(j.u32()) << 32
	if err := j.end(); err != nil {
		return nil, err
	}
	sum, err := j.db.client.Increment(ctx, key, int64(delta))
	return appendU64(nil, uint64(sum)), err
}

func appendTo(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	n, err := j.db.client.Append(ctx, key, j.body)
	return appendF64(nil, float64(n)), err
}

func ttl(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	d, err := j.db.client.TTL(ctx, key)
	if d == client.NoExpiry {
		return appendF64(nil, -1), err
	}
	return appendF64(nil, float64(d.Milliseconds())), err
}

func expire(ctx context.Context, j *job) ([]byte, error) {
	key, at, ms := j.string(), j.flag(), j.f64()
	if err := j.end(); err != nil {
		return nil, err
	}
	if at {
		return nil, j.db.client.ExpireAt(ctx, key, time.UnixMilli(int64(ms)))
	}
	if ms <= 0 {
		return nil, j.db.client.Expire(ctx, key, 0)
	}
	return nil, j.db.client.Expire(ctx, key, millis(ms))
}

func persist(ctx context.Context, j *job) ([]byte, error) {
	key := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	had, err := j.db.client.Persist(ctx, key)
	return appendFlag(nil, had), err
}

func count(ctx context.Context, j *job) ([]byte, error) {
	if err := j.end(); err != nil {
		return nil, err
	}
	n, err := j.db.client.Count(ctx)
	return appendF64(nil, float64(n)), err
}

func refresh(ctx context.Context, j *job) ([]byte, error) {
	if err := j.end(); err != nil {
		return nil, err
	}
	if err := j.db.client.RefreshTopology(ctx); err != nil {
		return nil, err
	}
	return appendTopology(nil, j.db.client.Topology())
}

func info(ctx context.Context, j *job) ([]byte, error) {
	address := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	text, err := j.db.client.Info(ctx, address)
	return []byte(text), err
}

func ping(ctx context.Context, j *job) ([]byte, error) {
	address := j.string()
	if err := j.end(); err != nil {
		return nil, err
	}
	d, err := j.db.client.Ping(ctx, address)
	return appendF64(nil, float64(d)/float64(time.Millisecond)), err
}
