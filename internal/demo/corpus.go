package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
	"github.com/quoitdb/quoit/internal/transfer"
)

// reader is what a check needs of a client.
type reader interface {
	Get(ctx context.Context, key string) ([]byte, error)
	MGet(ctx context.Context, keys ...string) ([]client.Result, error)
}

// corpus is the real data: every imported key, and the hash of its value.
type corpus struct {
	keys   []string
	hashes map[string][sha256.Size]byte
	bytes  int64
}

// remember passes items on and notes what they hold, until there are limit bytes
// (0: no limit).
func (c *corpus) remember(items iter.Seq2[transfer.Item, error], limit int64) iter.Seq2[transfer.Item, error] {
	c.hashes = make(map[string][sha256.Size]byte)
	return func(yield func(transfer.Item, error) bool) {
		for item, err := range items {
			if limit > 0 && c.bytes >= limit {
				return
			}
			if err == nil {
				c.keys = append(c.keys, item.Key)
				c.hashes[item.Key] = sha256.Sum256(item.Value)
				c.bytes += int64(len(item.Value))
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// check reads one key at random and compares it with what was imported.
func (c *corpus) check(ctx context.Context, db reader, random *rand.Rand) error {
	return c.checkKey(ctx, db, c.keys[random.IntN(len(c.keys))])
}

func (c *corpus) checkKey(ctx context.Context, db reader, key string) error {
	value, err := db.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return &oracle.WrongAnswer{Text: fmt.Sprintf("%q is gone", key)}
	}
	if err != nil {
		return err
	}
	if sha256.Sum256(value) != c.hashes[key] {
		return &oracle.WrongAnswer{Text: fmt.Sprintf("%q has changed", key)}
	}
	return nil
}

// audit reads everything back, and returns what is not as it was imported.
func (c *corpus) audit(ctx context.Context, db reader) (checked int, lost []string, err error) {
	const page = 256
	for start := 0; start < len(c.keys); start += page {
		keys := c.keys[start:min(start+page, len(c.keys))]
		results, err := db.MGet(ctx, keys...)
		if err != nil {
			return checked, lost, fmt.Errorf("audit: %w", err)
		}
		for i, r := range results {
			checked++
			switch {
			case r.Err != nil: // as the call as a whole succeeded, that the key is not there
				lost = append(lost, fmt.Sprintf("%q is gone", keys[i]))
			case sha256.Sum256(r.Value) != c.hashes[keys[i]]:
				lost = append(lost, fmt.Sprintf("%q has changed", keys[i]))
			}
		}
	}
	return checked, lost, nil
}
