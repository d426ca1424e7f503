package client

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// PutOption changes what a write does. Of two that contradict each other the
// later counts.
type PutOption struct {
	condition string // NX or XX
	expiry    string // PX, PXAT or KEEPTTL
	millis    int64  // of PX and PXAT
}

// WithTTL makes the key disappear after d. Parts of a millisecond count as one.
func WithTTL(d time.Duration) PutOption {
	return PutOption{expiry: "PX", millis: milliseconds(d)}
}

// WithExpireAt makes the key disappear at t.
func WithExpireAt(t time.Time) PutOption {
	return PutOption{expiry: "PXAT", millis: t.UnixMilli()}
}

// IfAbsent writes only when there is no such key; otherwise ErrExists.
func IfAbsent() PutOption { return PutOption{condition: "NX"} }

// IfPresent writes only when the key exists; otherwise ErrNotFound.
func IfPresent() PutOption { return PutOption{condition: "XX"} }

// KeepTTL leaves the time at which the key disappears as it is. Without it, and
// without a new one, a write makes the key stay.
func KeepTTL() PutOption { return PutOption{expiry: "KEEPTTL"} }

// NoExpiry is what TTL returns for a key that stays.
const NoExpiry time.Duration = -1

// merge makes one option of many.
func merge(opts []PutOption) PutOption {
	var all PutOption
	for _, o := range opts {
		if o.condition != "" {
			all.condition = o.condition
		}
		if o.expiry != "" {
			all.expiry, all.millis = o.expiry, o.millis
		}
	}
	return all
}

var errExpiry = errors.New("client: a time to live must be positive, and an expiry after 1970")

// check finds what the node would refuse, before anything is sent.
func (o PutOption) check() error {
	if (o.expiry == "PX" || o.expiry == "PXAT") && o.millis <= 0 {
		return errExpiry
	}
	return nil
}

// arguments is how many words append adds.
func (o PutOption) arguments() int {
	n := 0
	if o.condition != "" {
		n++
	}
	if o.expiry != "" {
		n++
	}
	if o.expiry == "PX" || o.expiry == "PXAT" {
		n++
	}
	return n
}

func (o PutOption) append(b []byte) []byte {
	if o.condition != "" {
		b = protocol.AppendBulkString(b, o.condition)
	}
	if o.expiry != "" {
		b = protocol.AppendBulkString(b, o.expiry)
	}
	if o.expiry == "PX" || o.expiry == "PXAT" {
		b = protocol.AppendBulkInt(b, o.millis)
	}
	return b
}

// milliseconds rounds away from zero, so that the smallest duration is not none.
func milliseconds(d time.Duration) int64 {
	if d > 0 {
		return int64((d + time.Millisecond - 1) / time.Millisecond)
	}
	return int64(d / time.Millisecond)
}

// begin writes the header of a request of n words and its first one.
func (k *call) begin(name string, n int) {
	k.name = name
	k.buf = protocol.AppendCommandHeader(k.buf, n)
	k.buf = protocol.AppendBulkString(k.buf, name)
}

// word adds one argument.
func (k *call) word(s string) { k.buf = protocol.AppendBulkString(k.buf, s) }

// number adds one argument.
func (k *call) number(n int64) { k.buf = protocol.AppendBulkInt(k.buf, n) }

// value leaves room for an argument of n bytes that send fills in.
func (k *call) value(n int) {
	k.buf = append(k.buf, '$')
	k.buf = strconv.AppendInt(k.buf, int64(n), 10)
	k.buf = append(k.buf, '\r', '\n')
	k.cut = len(k.buf)
	k.buf = append(k.buf, '\r', '\n')
}

// read sends a command that changes nothing and has no argument but the key.
// When there is an error the call is gone.
func (c *Client) read(ctx context.Context, name, key string) (*call, error) {
	k := c.env.newCall()
	k.begin(name, 2)
	k.word(key)
	return k, c.trip(ctx, query{call: k, position: ring.PositionOfString(key), harmless: true, command: name, key: key})
}

// write sends a command that changes something.
func (c *Client) write(ctx context.Context, k *call, key string, body []byte) error {
	return c.trip(ctx, query{call: k, body: body, position: ring.PositionOfString(key), command: k.name, key: key})
}

// integer takes the answer of a command that answers with a number.
func (k *call) integer(command string) (int64, error) {
	defer k.release()
	if k.reply.Kind != ':' {
		return 0, unexpected(k.node, command)
	}
	return k.reply.Int, nil
}

// Get returns the value of key, or ErrNotFound.
func (c *Client) Get(ctx context.Context, key string) ([]byte, error) {
	k, err := c.read(ctx, "GET", key)
	if err != nil {
		return nil, err
	}
	defer k.release()
	return decodeValue(k.node, k.reply)
}

func decodeValue(n *node, r protocol.Reply) ([]byte, error) {
	switch {
	case r.Kind != '$':
		return nil, unexpected(n, "GET")
	case r.Null:
		return nil, ErrNotFound
	}
	return r.Bytes, nil
}

// GetVersion returns the value of key and its version, or ErrNotFound.
func (c *Client) GetVersion(ctx context.Context, key string) ([]byte, Version, error) {
	k, err := c.read(ctx, "GETV", key)
	if err != nil {
		return nil, 0, err
	}
	defer k.release()
	return decodeVersioned(k.node, k.reply)
}

func decodeVersioned(n *node, r protocol.Reply) ([]byte, Version, error) {
	switch {
	case r.Null && (r.Kind == '*' || r.Kind == '$'):
		return nil, 0, ErrNotFound
	case r.Kind != '*' || len(r.Array) != 2 || r.Array[0].Kind != '$' || r.Array[0].Null || r.Array[1].Kind != ':':
		return nil, 0, unexpected(n, "GETV")
	}
	return r.Array[0].Bytes, Version(r.Array[1].Int), nil
}

// Put writes a value.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...PutOption) error {
	o := merge(opts)
	if err := o.check(); err != nil {
		return err
	}
	k := c.env.newCall()
	k.begin("PUT", 3+o.arguments())
	k.word(key)
	k.value(len(value))
	k.buf = o.append(k.buf)
	if err := c.write(ctx, k, key, value); err != nil {
		return err
	}
	defer k.release()
	return decodePut(k.node, k.reply, o)
}

// decodePut reads the answer of a write: OK, or null when its condition failed.
func decodePut(n *node, r protocol.Reply, o PutOption) error {
	switch {
	case r.Kind == '+':
		return nil
	case r.Null && o.condition == "NX":
		return ErrExists
	case r.Null && o.condition == "XX":
		return ErrNotFound
	}
	return unexpected(n, "PUT")
}

// CompareAndPut writes a value if the key has the given version, 0 meaning that
// there must be no such key, and returns the new version. When the key has
// another the error is a *VersionError.
func (c *Client) CompareAndPut(ctx context.Context, key string, value []byte, version Version, opts ...PutOption) (Version, error) {
	o := merge(opts)
	if err := o.check(); err != nil {
		return 0, err
	}
	k := c.env.newCall()
	k.begin("PUT", 5+o.arguments())
	k.word(key)
	k.value(len(value))
	k.word("IFVERSION")
	k.buf = protocol.AppendBulkUint(k.buf, uint64(version))
	k.buf = o.append(k.buf)
	if err := c.write(ctx, k, key, value); err != nil {
		return 0, err
	}
	v, err := k.integer("PUT IFVERSION")
	return Version(v), err
}

// Increment adds delta to the number that key holds, 0 if there is no such key,
// and returns the sum.
func (c *Client) Increment(ctx context.Context, key string, delta int64) (int64, error) {
	k := c.env.newCall()
	k.begin("INCRBY", 3)
	k.word(key)
	k.number(delta)
	if err := c.write(ctx, k, key, nil); err != nil {
		return 0, err
	}
	return k.integer("INCRBY")
}

// Append adds bytes to the end of a value and returns its new length. A key
// that does not exist is made.
func (c *Client) Append(ctx context.Context, key string, data []byte) (int64, error) {
	k := c.env.newCall()
	k.begin("APPEND", 3)
	k.word(key)
	k.value(len(data))
	if err := c.write(ctx, k, key, data); err != nil {
		return 0, err
	}
	return k.integer("APPEND")
}

// Exists reports whether there is such a key.
func (c *Client) Exists(ctx context.Context, key string) (bool, error) {
	k, err := c.read(ctx, "EXISTS", key)
	if err != nil {
		return false, err
	}
	n, err := k.integer("EXISTS")
	return n > 0, err
}

// Expire makes a key disappear after d; ErrNotFound if there is no such key.
// A d that is not positive deletes it.
func (c *Client) Expire(ctx context.Context, key string, d time.Duration) error {
	return c.expire(ctx, "PEXPIRE", key, milliseconds(d))
}

// ExpireAt makes a key disappear at t; ErrNotFound if there is no such key.
func (c *Client) ExpireAt(ctx context.Context, key string, t time.Time) error {
	return c.expire(ctx, "PEXPIREAT", key, t.UnixMilli())
}

func (c *Client) expire(ctx context.Context, command, key string, millis int64) error {
	k := c.env.newCall()
	k.begin(command, 3)
	k.word(key)
	k.number(millis)
	if err := c.write(ctx, k, key, nil); err != nil {
		return err
	}
	n, err := k.integer(command)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// Persist makes a key stay. It reports whether there was an expiry to remove.
func (c *Client) Persist(ctx context.Context, key string) (bool, error) {
	k := c.env.newCall()
	k.begin("PERSIST", 2)
	k.word(key)
	if err := c.write(ctx, k, key, nil); err != nil {
		return false, err
	}
	n, err := k.integer("PERSIST")
	return n > 0, err
}

// TTL returns how long a key has to live, NoExpiry if it stays, or ErrNotFound.
func (c *Client) TTL(ctx context.Context, key string) (time.Duration, error) {
	k, err := c.read(ctx, "PTTL", key)
	if err != nil {
		return 0, err
	}
	n, err := k.integer("PTTL")
	switch {
	case err != nil:
		return 0, err
	case n == -1:
		return NoExpiry, nil
	case n < 0:
		return 0, ErrNotFound
	}
	return time.Duration(min(n, maxMillis)) * time.Millisecond, nil
}

// maxMillis is the longest time that a time.Duration can tell.
const maxMillis = int64(1<<63-1) / int64(time.Millisecond)
