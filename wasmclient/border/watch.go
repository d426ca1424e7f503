package border

import (
	"context"

	"github.com/quoitdb/quoit/client"
)

func watch(_ context.Context, j *job) ([]byte, error) {
	key, exact, o := j.string(), j.flag(), client.WatchOptions{State: j.flag()}
	if err := j.end(); err != nil {
		return nil, err
	}
	begin := j.db.client.Watch
	if exact {
		begin = j.db.client.WatchKey
	}
	return j.begin(func(ctx context.Context, s *stream) error {
		for change, err := range begin(ctx, key, o) {
			if err != nil {
				return err
			}
			if !s.add(ctx, func(b []byte) []byte { return appendChange(b, change) }) {
				return ctx.Err()
			}
		}
		return nil
	})
}

// appendChange appends u8 kind, and for a put and a delete bytes key, u64 version, and
// for a put bytes value, f64 unix milliseconds at which it disappears (0: it stays).
// Kinds are those of the client: 1 put, 2 delete, 3 synced, 4 resync.
func appendChange(b []byte, c client.Change) []byte {
	b = append(b, byte(c.Kind))
	if c.Kind != client.ChangePut && c.Kind != client.ChangeDelete {
		return b
	}
	b = appendU64(appendBytes(b, c.Key), uint64(c.Version))
	if c.Kind == client.ChangeDelete {
		return b
	}
	expires := float64(0)
	if !c.ExpiresAt.IsZero() {
		expires = float64(c.ExpiresAt.UnixMilli())
	}
	return appendF64(appendBytes(b, c.Value), expires)
}
