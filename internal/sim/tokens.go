package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// The keys of all simulated worlds. Nothing else trusts them.
const (
	worldKeys   = `{"keys":[{"kty":"oct","kid":"world","alg":"HS256","k":"c2ltdWxhdGVkLXdvcmxkcy1vbmx5LW5vdC1hLXNlY3JldCE"}]}`
	worldSecret = "simulated worlds only, not a secret at all"
)

// trust is authentication where a run has it.
type trust struct {
	config auth.Config
	key    auth.Key
}

// newTrust writes the file with the keys that all servers of a world verify with.
func newTrust(t *testing.T) *trust {
	t.Helper()
	keys, err := auth.ParseKeys([]byte(worldKeys))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(worldKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	return &trust{auth.Config{ClusterSecret: config.NewSecret(worldSecret), TokenKeysFile: file}, keys[0]}
}

// authConfig is a server's part of it.
func (w *World) authConfig() auth.Config {
	if w.trust == nil {
		return auth.Config{}
	}
	return w.trust.config
}

// token signs one that holds for longer than any run.
func (w *World) token(c auth.Claims) string {
	c.ID, c.Subject, c.Expires = "sim", "sim", w.trace.began.Add(24*time.Hour)
	token, err := auth.Sign(w.trust.key, c)
	if err != nil {
		panic(err) // the claims are of our own making
	}
	return token
}

// everything opens all keys, and the cluster.
func (w *World) everything() string {
	return w.token(auth.Claims{Scopes: []auth.Scope{auth.PrefixScope("", auth.WriteAccess)}, Cluster: auth.ClusterOperate})
}

// with has a client show a token, where there are tokens.
func (w *World) with(token func() string) []client.Option {
	if w.trust == nil {
		return nil
	}
	t := token()
	return []client.Option{client.WithToken(func(context.Context) (string, error) { return t, nil })}
}

// operate connects to a member as the person does who may do everything.
func (w *World) operate(ctx context.Context, addr string, timeout time.Duration) (*peer.Conn, error) {
	p := &process{w: w, host: "c0", name: "admin"}
	c, err := peer.Dial(ctx, w.net.dialler(p), addr, timeout)
	if err != nil || w.trust == nil {
		return c, err
	}
	if _, err := c.DoStrings("AUTH", w.everything()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// scopes are requests of clients that may read registers and nothing else, and of some
// that have shown nothing: whatever goes wrong, they are never given more.
type scopes struct {
	w      *World
	r      *registers
	narrow *client.Client // may read the registers
	closed []string       // keys that it must not see
}

func newScopes(ctx context.Context, w *World, r *registers) (*scopes, error) {
	s := &scopes{w: w, r: r, closed: w.keyNames("x", 3)}
	var opened []auth.Scope
	for _, key := range r.keys {
		opened = append(opened, auth.KeyScope(key, auth.ReadAccess))
	}
	var err error
	s.narrow, err = w.openClient(ctx, &process{w: w, host: "c0", name: "narrow"}, time.Second,
		w.with(func() string { return w.token(auth.Claims{Scopes: opened}) })...)
	return s, err
}

func (s *scopes) step(ctx context.Context, c *client.Client, d dice, id, n int) {
	key := one(d, s.closed...)
	var err error
	what := one(d, "fill", "get", "get at", "put", "delete", "increment", "read", "scan", "stranger")
	switch what {
	case "fill":
		err = c.Put(ctx, key, fmt.Appendf(nil, "%d.%d", id, n))
	case "get":
		_, err = s.narrow.Get(ctx, key)
		s.wantForbidden(what, key, err)
	case "get at":
		_, err = getFrom(ctx, s.narrow, one(d, s.w.nodes...).addr, key)
		s.wantForbidden(what, key, err)
	case "put":
		key = one(d, s.r.keys...)
		err = s.narrow.Put(ctx, key, []byte("forbidden"))
		s.wantForbidden(what, key, err)
	case "delete":
		key = one(d, s.r.keys...)
		_, err = s.narrow.Delete(ctx, key)
		s.wantForbidden(what, key, err)
	case "increment":
		_, err = s.narrow.Increment(ctx, key, 1)
		s.wantForbidden(what, key, err)
	case "read":
		_, err = s.narrow.Get(ctx, one(d, s.r.keys...))
		s.wantAllowed(what, err)
	case "scan":
		err = s.scan(ctx)
	case "stranger":
		err = s.strange(ctx, one(d, s.w.nodes...).addr, one(d, s.r.keys...))
	}
	s.w.trace.note("op", fmt.Sprintf("c%d token %s %s -> %v", id+1, what, key, err), nil)
}

// wantForbidden is for what the token does not open: the only answer is NOPERM, and it
// comes before anything is looked at.
func (s *scopes) wantForbidden(what, key string, err error) {
	var answer *client.ServerError
	switch {
	case errors.Is(err, client.ErrForbidden):
		s.w.trace.count("requests out of scope refused", 1)
	case err == nil || errors.Is(err, client.ErrNotFound):
		s.w.fail("token: %s of %s was done with a token that does not open it: %v", what, key, err)
	case errors.As(err, &answer) && answer.Code != protocol.UNAVAILABLE:
		s.w.fail("token: %s of %s, which the token does not open, was answered %v", what, key, err)
	}
}

// wantAllowed is for what the token opens.
func (s *scopes) wantAllowed(what string, err error) {
	switch {
	case errors.Is(err, client.ErrForbidden) || errors.Is(err, client.ErrUnauthenticated):
		s.w.fail("token: %s is refused, and the token opens it: %v", what, err)
	case err == nil || errors.Is(err, client.ErrNotFound):
		s.w.trace.count("requests in scope answered", 1)
	}
}

// scan gives what the token opens and no more.
func (s *scopes) scan(ctx context.Context) error {
	for e, err := range s.narrow.Scan(ctx, client.ScanOptions{Count: 10}) {
		if err != nil {
			s.wantAllowed("scan", err)
			return err
		}
		if e.Key[0] != 'r' {
			s.w.fail("token: a scan gives %s, which the token does not open", e.Key)
		}
	}
	s.wantAllowed("scan", nil)
	return nil
}

// strange asks without having shown anything.
func (s *scopes) strange(ctx context.Context, addr, key string) error {
	c, err := peer.Dial(ctx, s.w.net.dialler(&process{w: s.w, host: "c0", name: "stranger"}), addr, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.DoStrings("GET", key)
	var answer *protocol.Error
	switch {
	case err == nil:
		s.w.fail("token: a stranger was told what %s is", key)
	case errors.As(err, &answer) && answer.Code == protocol.NOAUTH:
		s.w.trace.count("requests without a token refused", 1)
	case errors.As(err, &answer):
		s.w.fail("token: a stranger who asks for %s is answered %v", key, err)
	}
	return err
}

// audit asks for what is closed once more, of a cluster in peace: it is refused.
func (s *scopes) audit(ctx context.Context, when string) {
	for _, key := range s.closed {
		_, err := s.narrow.Get(ctx, key)
		if !errors.Is(err, client.ErrForbidden) {
			s.w.fail("token: %s %s, which the token does not open, is %v", when, key, err)
		}
	}
}

func (s *scopes) check() {}
