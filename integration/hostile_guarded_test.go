package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/manager"
)

// wall is what a cluster with everything on has against strangers: TLS, tokens, a secret
// among members and certificates with their roles.
type wall struct {
	b       *besieged
	ca      *tlstest.Authority
	knows   *tlsconf.Client
	key     auth.Key
	env     []string // of every server
	secret  string   // of the members, in a file
	auditor string   // a token that reads everything
	epoch   uint64   // of the cluster's document before the attack
}

func newWall(b *besieged) *wall {
	b.t.Helper()
	w := &wall{b: b, ca: tlstest.NewAuthority(b.t)}
	var err error
	if w.knows, err = tlsconf.NewClient(tlsconf.Config{TLSCA: w.ca.File}, tlsconf.Options{}); err != nil {
		b.t.Fatal(err)
	}
	w.key = w.newKey()
	public, _ := w.key.Public()
	keys, err := auth.FormatKeys([]auth.Key{public})
	if err != nil {
		b.t.Fatal(err)
	}
	w.auditor = w.token("auditor", func(c *auth.Claims) { c.Cluster = auth.ClusterRead }, auth.PrefixScope("", auth.ReadAccess))
	gateway := w.token("gateway", func(c *auth.Claims) { c.Cluster = auth.ClusterRead })
	w.secret = w.file("secret", canarySecret)
	w.env = []string{
		"QUOIT_TOKEN_KEYS_FILE=" + w.file("keys.json", string(keys)), "QUOIT_TOKEN_FILE=" + w.file("gateway-token", gateway),
		"QUOIT_GATEWAY_MAX_VALUE=256KiB", "QUOIT_GATEWAY_MAX_INFLIGHT=64MiB",
	}
	return w
}

func (w *wall) newKey() auth.Key {
	w.b.t.Helper()
	key, err := auth.NewKey(auth.EdDSA, "k1")
	if err != nil {
		w.b.t.Fatal(err)
	}
	return key
}

func (w *wall) file(name, text string) string {
	w.b.t.Helper()
	name = filepath.Join(w.b.dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		w.b.t.Fatal(err)
	}
	return name
}

// settings are those of a server besides.
func (w *wall) settings(role string) []string {
	files := w.ca.Config(true, tlstest.Role("quoit://"+role))
	env := append(w.env[:len(w.env):len(w.env)], "QUOIT_TLS_CA_FILE="+files.TLSCA, "QUOIT_TLS_CERT_FILE="+files.TLSCert, "QUOIT_TLS_KEY_FILE="+files.TLSKey)
	public := tlstest.Files(w.b.t, w.ca.Issue())
	env = append(env, "QUOIT_GATEWAY_TLS_CERT_FILE="+public.TLSCert, "QUOIT_GATEWAY_TLS_KEY_FILE="+public.TLSKey)
	if role != "gateway" {
		env = append(env, "QUOIT_TLS_MEMBER_CA_FILE="+files.TLSMemberCA, "QUOIT_CLUSTER_SECRET_FILE="+w.secret)
	}
	return env
}

// token is one for two hours.
func (w *wall) token(name string, change func(*auth.Claims), scopes ...auth.Scope) string {
	w.b.t.Helper()
	return w.signed(w.key, name, change, scopes...)
}

func (w *wall) signed(key auth.Key, name string, change func(*auth.Claims), scopes ...auth.Scope) string {
	w.b.t.Helper()
	now := time.Now()
	c := auth.Claims{ID: name, Subject: name, NotBefore: now.Add(-time.Minute), Expires: now.Add(2 * time.Hour), Scopes: scopes}
	if change != nil {
		change(&c)
	}
	token, err := auth.Sign(key, c)
	if err != nil {
		w.b.t.Fatal(err)
	}
	return token
}

// creed is what the attackers have.
func (w *wall) creed() *creed {
	w.b.t.Helper()
	all := auth.PrefixScope("", auth.WriteAccess)
	at := func(from, until time.Duration) func(*auth.Claims) {
		return func(c *auth.Claims) { c.NotBefore, c.Expires = time.Now().Add(from), time.Now().Add(until) }
	}
	return &creed{
		CA: w.ca.File, Stranger: tlstest.Files(w.b.t, tlstest.SelfSigned(w.b.t, tlstest.Role("quoit://manager"))),
		Tokens: []string{
			w.token("attackers", nil, auth.PrefixScope(hostile, auth.WriteAccess)),
			w.token("attackers too", func(c *auth.Claims) { c.Rate = 50 }, auth.PrefixScope(hostile, auth.ReadAccess), auth.KeyScope(hostile+"1", auth.WriteAccess)),
			w.token("a few", func(c *auth.Claims) { c.Connections = 3 }, auth.PrefixScope(hostile, auth.WriteAccess)),
			w.token("watcher of the cluster", func(c *auth.Claims) { c.Cluster = auth.ClusterRead }),
			w.token("nothing", nil),
		},
		Broken: []string{
			w.token("expired", at(-2*time.Hour, -time.Hour), all), w.token("early", at(time.Hour, 2*time.Hour), all),
			w.signed(w.newKey(), "of another key", nil, all), w.token("cut", nil, all)[:120], "hunter2",
		},
	}
}

// by is how somebody with a token dials servers.
func (w *wall) by(token string) peer.Dialer {
	return func(ctx context.Context, address string) (net.Conn, error) {
		nc, err := w.knows.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		c := peer.New(nc, patience)
		if _, err := c.DoStrings("AUTH", token); err != nil {
			_ = nc.Close()
			return nil, err
		}
		return nc, c.Release()
	}
}

func (w *wall) status() (s manager.Status, err error) {
	m, err := manager.DialBy(w.b.t.Context(), w.by(w.auditor), w.b.address, patience)
	if err != nil {
		return s, err
	}
	defer func() { _ = m.Close() }()
	return m.Status()
}

// untilSettled waits until the nodes serve, and their own gateways are published.
func (w *wall) untilSettled() {
	w.b.t.Helper()
	w.b.wait("the nodes to serve", func() bool {
		s, err := w.status()
		if err != nil || !settled(len(w.b.nodes))(s) {
			return false
		}
		for _, n := range s.Nodes {
			if n.Endpoints["ws"] == "" {
				return false
			}
		}
		w.epoch = uint64(s.Epoch)
		return true
	})
}

// audit wants no key in the cluster but those of the attackers and of the clients beside
// them, and its members to be who they were.
func (w *wall) audit() {
	w.b.t.Helper()
	foreign, there := 0, false
	db := w.b.open(client.WithToken(text(w.auditor)))
	ctx, cancel := context.WithTimeout(w.b.t.Context(), 2*patience)
	defer cancel()
	seen := 0
	for entry, err := range db.Scan(ctx, client.ScanOptions{}) {
		if err != nil {
			w.b.t.Fatal(err)
		}
		seen++
		there = there || entry.Key == certain
		if strings.HasPrefix(entry.Key, hostile) {
			foreign++
		} else if !befriended(entry.Key) {
			w.b.t.Errorf("somebody has written %q", entry.Key)
		}
	}
	if !there || seen-foreign < statics {
		w.b.t.Errorf("a scan gives %d keys, %d of them of the attackers (what they have written for certain among them: %v)", seen, foreign, there)
	}
	w.b.t.Logf("%8d  keys of the attackers' own are there", foreign)
	var s manager.Status
	w.b.wait("the nodes to be heard of as serving", func() bool { // it may have been a while on a busy machine
		var err error
		s, err = w.status()
		return err == nil && settled(len(w.b.nodes))(s)
	})
	if uint64(s.Epoch) != w.epoch || s.Paused || s.Throttle != 0 {
		w.b.t.Errorf("the cluster is another: %+v, want epoch %d", s, w.epoch)
	}
}

// befriended says whether a key is one that the clients beside the attackers have.
func befriended(key string) bool {
	worker, register := 0, 0
	for _, friend := range friends() {
		if rest, is := strings.CutPrefix(key, friend); is {
			_, err := fmt.Sscanf(rest, "%d:%d", &worker, &register)
			return err == nil && worker < goodWorkers && register < goodRegisters && rest == fmt.Sprintf("%d:%d", worker, register)
		}
	}
	_, err := fmt.Sscanf(key, "static:%d", &register)
	return err == nil && register < statics && key == staticKey(register)
}

// text is a source of one token.
func text(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// config is for clients that know the authority; nil without a wall.
func (w *wall) config() *tls.Config {
	if w == nil {
		return nil
	}
	return w.knows.Config()
}

// friend is the token of a client beside the attackers.
func (w *wall) friend(name string) string {
	w.b.t.Helper()
	return w.token(name, nil, auth.PrefixScope(name+":", auth.WriteAccess), auth.PrefixScope("static:", auth.WriteAccess))
}
