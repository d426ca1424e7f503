package client

import (
	"context"
	"iter"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// Change is something that a watch tells.
type Change struct {
	Kind      ChangeKind
	Key       string    // of ChangePut and ChangeDelete
	Value     []byte    // of ChangePut
	Version   Version   // of ChangePut and ChangeDelete
	ExpiresAt time.Time // of ChangePut; zero: the key stays
}

// ChangeKind says what a Change is about.
type ChangeKind uint8

const (
	// ChangePut means that Key has Value.
	ChangePut ChangeKind = iota + 1
	// ChangeDelete means that Key is gone: deleted, or its time has passed.
	ChangeDelete
	// ChangeSynced is told once in a watch, when every node has told what it
	// had to tell: every change from here on follows. With WatchOptions.State
	// the changes before it are the whole state.
	ChangeSynced
	// ChangeResync is told only without WatchOptions.State, when a node was out
	// of reach for longer than it remembers deletes: keys may have gone before
	// this point without a ChangeDelete. It may come once for each node.
	ChangeResync
)

// String is "put", "delete", "synced" or "resync".
func (k ChangeKind) String() string {
	switch k {
	case ChangePut:
		return "put"
	case ChangeDelete:
		return "delete"
	case ChangeSynced:
		return "synced"
	case ChangeResync:
		return "resync"
	}
	return "unknown"
}

// WatchOptions says what a watch tells beside the changes to come. The zero
// value is nothing.
type WatchOptions struct {
	// State asks for the values that are there already, as changes before
	// ChangeSynced. The watch then remembers which keys it has told, about 100
	// bytes and the key for each, and so it never leaves a gap: where a node no
	// longer remembers what was deleted, the watch finds out by itself.
	State bool
}

// Watch tells of every change of the keys that begin with prefix, all keys if
// it is "", from now on and until the loop is left or ctx ends:
//
//   - For each key changes come in order, with rising versions, and none twice.
//     Changes of different keys come in no particular order.
//   - While a consumer keeps up it is told every change. One that does not, and
//     one whose connection was lost, is told the latest state of every key that
//     has changed meanwhile, deletes included; what was in between may be left
//     out. Nothing is left out without a word: see ChangeResync.
//   - Nodes that join, leave, restart or cannot be reached for a while, and a
//     gateway that does, end nothing: the watch goes on where it was, at
//     whoever owns the keys then. A node that is away is waited for.
//
// The watch begins with the loop. It has a connection of its own to each node,
// from which it reads no faster than the loop takes changes, so a slow consumer
// holds up nobody and fills no memory. When the loop ends, all of that has.
//
// An error is the last thing told, and only for what time does not heal: ctx
// has ended, the client was closed (ErrClosed), a node refuses for good
// (*ServerError) or answers what is no answer, time and again (*ReplyError).
//
// Of a node that has lost acknowledged writes (QUOIT_FSYNC is not always, and
// the machine died) versions may go back.
func (c *Client) Watch(ctx context.Context, prefix string, o WatchOptions) iter.Seq2[Change, error] {
	return c.watchAll(ctx, protocol.Watch{Prefix: true, Selector: []byte(prefix), State: o.State})
}

// WatchKey is Watch for exactly one key.
func (c *Client) WatchKey(ctx context.Context, key string, o WatchOptions) iter.Seq2[Change, error] {
	return c.watchAll(ctx, protocol.Watch{Selector: []byte(key), State: o.State})
}

func (c *Client) watchAll(ctx context.Context, what protocol.Watch) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w := newWatcher(c, ctx, what)
		if err := w.run(func(change Change) bool { return yield(change, nil) }); err != nil {
			yield(Change{}, err)
		}
	}
}
