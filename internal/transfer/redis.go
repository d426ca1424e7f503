package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

const (
	redisTimeout = 30 * time.Second
	redisPage    = "1000"
	// redisBytes bounds the values that are asked for at once, but for one alone.
	redisBytes = 4 << 20
)

// Redis yields every string key of a running Redis, with its remaining time to
// live. Keys of other types are an error that names the first of them, unless
// skip is called with each. Keys that are written meanwhile come as they were at
// some moment of the walk.
//
// The address is redis://[[user]:password@]host[:port][/database].
func Redis(ctx context.Context, address string, skip func(key, kind string)) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		target, err := parseRedisURL(address)
		if err != nil {
			yield(Item{}, err)
			return
		}
		c, err := target.dial(ctx)
		if peer.Refused(err) {
			yield(Item{}, fmt.Errorf("the Redis at %s refuses: %w", target.host, err))
			return
		}
		if err != nil {
			yield(Item{}, fmt.Errorf("no Redis at %s: %w", target.host, cause(ctx, err)))
			return
		}
		defer func() { _ = c.Close() }()
		// A wait for a reply knows no context: hanging up ends it.
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		w := &redisWalk{c: c, skip: skip, yield: yield}
		if err := w.walk(); err != nil && !errors.Is(err, errEnough) {
			yield(Item{}, fmt.Errorf("read from Redis at %s: %w", target.host, cause(ctx, err)))
		}
	}
}

// cause is why a connection broke: the context, if that ended.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// errEnough says that the receiver of the items wants no more.
var errEnough = errors.New("enough")

// redisTarget is an address taken apart. Errors never show more of it than host.
type redisTarget struct {
	host     string // with port
	auth     []string
	database string
}

// CheckRedis says whether an address is one that [Redis] takes, without asking
// anyone.
func CheckRedis(address string) error {
	_, err := parseRedisURL(address)
	return err
}

func parseRedisURL(address string) (redisTarget, error) {
	const want = "want redis://[[user]:password@]host[:port][/database]"
	u, err := url.Parse(address)
	switch {
	case err != nil: // the text of the error would show the password
		return redisTarget{}, errors.New("this Redis address is no URL: " + want)
	case u.Scheme == "rediss":
		return redisTarget{}, errors.New("rediss:// (Redis over TLS) is not supported yet: use redis://, through a tunnel where the network is not yours")
	case u.Scheme != "redis" || u.Hostname() == "":
		return redisTarget{}, fmt.Errorf("%q is no address of a Redis: %s", u.Redacted(), want)
	}
	t := redisTarget{host: u.Host, database: strings.TrimPrefix(u.Path, "/")}
	if u.Port() == "" {
		t.host = net.JoinHostPort(u.Hostname(), "6379")
	}
	if password, ok := u.User.Password(); ok {
		if name := u.User.Username(); name != "" {
			t.auth = append(t.auth, name)
		}
		t.auth = append(t.auth, password)
	}
	return t, nil
}

// dial connects and says who and which database.
func (t redisTarget) dial(ctx context.Context) (*peer.Conn, error) {
	c, err := peer.Dial(ctx, peer.TCP, t.host, redisTimeout)
	if err != nil {
		return nil, err
	}
	if len(t.auth) > 0 {
		_, err = c.DoStrings("AUTH", t.auth...)
	}
	if err == nil && t.database != "" {
		_, err = c.DoStrings("SELECT", t.database)
	}
	if err == nil {
		_, err = c.DoStrings("PING")
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// redisWalk goes over all keys with SCAN. For each page it asks first what the keys
// are and how large, then for the values, so many at once as are not too large.
type redisWalk struct {
	c     *peer.Conn
	skip  func(key, kind string)
	yield func(Item, error) bool
}

func (w *redisWalk) walk() error {
	for cursor := "0"; ; {
		keys, next, err := w.scan(cursor)
		if err != nil {
			return err
		}
		all, err := w.describe(keys)
		if err != nil {
			return err
		}
		for len(all) > 0 {
			n := fitting(all)
			if err := w.values(all[:n]); err != nil {
				return err
			}
			all = all[n:]
		}
		if cursor = next; cursor == "0" {
			return nil
		}
	}
}

func (w *redisWalk) scan(cursor string) (keys []string, next string, err error) {
	r, err := w.c.DoStrings("SCAN", cursor, "COUNT", redisPage)
	if err != nil {
		return nil, "", err
	}
	if len(r.Array) != 2 {
		return nil, "", fmt.Errorf("SCAN answered with %d elements, not 2", len(r.Array))
	}
	next = string(r.Array[0].Bytes)
	for _, k := range r.Array[1].Array {
		keys = append(keys, string(k.Bytes))
	}
	return keys, next, nil
}

// redisKey is a string key and the size of its value.
type redisKey struct {
	name string
	size int64
}

// fitting is how many of the keys to ask for at once: one at least.
func fitting(all []redisKey) int {
	n, bytes := 1, all[0].size
	for n < len(all) && bytes+all[n].size <= redisBytes {
		bytes += all[n].size
		n++
	}
	return n
}

// describe asks for the type and size of each key, and keeps the strings.
func (w *redisWalk) describe(keys []string) ([]redisKey, error) {
	for _, k := range keys {
		w.c.Queue("TYPE", []byte(k))
		w.c.Queue("STRLEN", []byte(k))
	}
	if err := w.c.Flush(); err != nil {
		return nil, err
	}
	all := make([]redisKey, 0, len(keys))
	for _, k := range keys {
		r, err := w.c.Receive()
		if err != nil {
			return nil, err
		}
		kind := string(r.Bytes)
		r, err = w.c.Receive()
		if err != nil && (kind == "string" || !peer.Refused(err)) {
			return nil, err // of another type it is refused
		}
		switch {
		case kind == "string" && r.Int > MaxValue:
			return nil, fmt.Errorf("the value of %s has %d bytes, more than %d", quoted(k), r.Int, MaxValue)
		case kind == "string":
			all = append(all, redisKey{k, r.Int})
		case kind == "none": // expired or deleted since the page was read
		case w.skip != nil:
			w.skip(k, kind)
		default:
			return nil, fmt.Errorf("%s is a %s, and Quoit holds strings (leave the others out with --skip-other-types)", quoted(k), kind)
		}
	}
	return all, nil
}

// values asks for the values and times to live, and hands the items on.
func (w *redisWalk) values(keys []redisKey) error {
	for _, k := range keys {
		w.c.Queue("GET", []byte(k.name))
		w.c.Queue("PTTL", []byte(k.name))
	}
	if err := w.c.Flush(); err != nil {
		return err
	}
	items := make([]Item, 0, len(keys))
	for _, k := range keys {
		value, err := w.c.Receive()
		if err != nil && !wrongType(err) {
			return err
		}
		missing := value.Null || err != nil // gone, or replaced by something else, since it was described
		item := Item{Key: k.name, Value: append([]byte(nil), value.Bytes...)}
		ttl, err := w.c.Receive()
		if err != nil {
			return err
		}
		const forEver, over = -1, 0
		if missing || ttl.Int <= over && ttl.Int != forEver {
			continue
		}
		item.TTL = time.Duration(max(ttl.Int, 0)) * time.Millisecond
		items = append(items, item)
	}
	for _, item := range items {
		if !w.yield(item, nil) {
			return errEnough
		}
	}
	return nil
}

func wrongType(err error) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Code == protocol.WRONGTYPE
}
