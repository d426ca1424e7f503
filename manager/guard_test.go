package manager

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/protocol"
)

// issuer makes tokens that a manager takes.
type issuer struct {
	t    *testing.T
	key  auth.Key
	file string
	n    int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, file: filepath.Join(t.TempDir(), "keys.json")}
	i.renew("k1")
	return i
}

// renew puts another key in the place of the one that there was.
func (i *issuer) renew(id string) {
	i.t.Helper()
	key, err := auth.NewKey(auth.HS256, id)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := auth.FormatKeys([]auth.Key{key})
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(i.file, text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	i.key = key
}

// claims are those of a token with access to the cluster that is good for an hour.
func (i *issuer) claims(access auth.ClusterAccess, scopes ...auth.Scope) auth.Claims {
	i.n++
	return auth.Claims{Subject: "test", ID: fmt.Sprintf("t-%d", i.n), Expires: time.Now().Add(time.Hour), Cluster: access, Scopes: scopes}
}

func (i *issuer) sign(c auth.Claims) string {
	i.t.Helper()
	token, err := auth.Sign(i.key, c)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// guarded has the manager ask who is there.
func (i *issuer) guarded(c *Config, _ *Seams) {
	c.Auth.TokenKeysFile = i.file
	c.Auth.ClusterSecret = config.NewSecret(strings.Repeat("s", auth.MinClusterSecret))
}

// want fails where a reply does not begin as it should.
func (c *client) want(want string, words ...string) {
	c.t.Helper()
	if got := c.do(words...); !strings.HasPrefix(got, want) {
		c.t.Fatalf("%q: %s, want %s", words, got, want)
	}
}

// requests has one request for each command that the manager has a word to say about.
func requests() [][]string {
	all := [][]string{
		{"REGISTER", registration("z:1")},
		{"HEARTBEAT", "{}"},
		{"COMMIT_MOVE", "m-1"},
		{"MOVE_DONE", "active", "m-1"},
		{"CLUSTER", "STATUS"},
		{"CLUSTER", "PLAN", "ADD", nodeB},
		{"CLUSTER", "ADD", nodeB},
		{"CLUSTER", "REMOVE", nodeA},
		{"CLUSTER", "FORGET", nodeA},
		{"CLUSTER", "ABORT", "m-1"},
		{"CLUSTER", "PAUSE"},
		{"CLUSTER", "RESUME"},
		{"CLUSTER", "THROTTLE", "1"},
		{"CLUSTER", "NOSUCH"},
	}
	for _, cmd := range protocol.Commands() {
		switch cmd {
		case protocol.CmdAuth, protocol.CmdHello, protocol.CmdQuit, protocol.CmdReset, protocol.CmdChallenge, protocol.CmdProve:
		default:
			least := cmd.Spec().Arity
			words := []string{cmd.String()}
			for range max(least, -least) - 1 {
				words = append(words, "1")
			}
			all = append(all, words)
		}
	}
	return all
}

// TestAStrangerIsToldNothing, neither alone nor in a pipeline, and changes nothing.
func TestAStrangerIsToldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, w := newIssuer(t), newWorld(t).with(documentOf(t, nodeA))
		m := w.manager(i.guarded)
		before := w.document().Counter
		c := m.dial()
		c.want("-NOAUTH ", "HELLO", "2", "SETNAME", "x")
		for _, words := range requests() {
			c.want("-NOAUTH ", words...)
			m.dial().want("-NOAUTH ", words...)
		}
		c.want("-NOAUTH ", "NOSUCHCOMMAND")
		c.want("-NOAUTH ", "CLUSTER")
		large := m.dial()
		large.send("*2\r\n$8\r\nREGISTER\r\n$10000\r\n")
		if got := large.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("a large request: %s", got)
		}
		large.expectClosed()
		if after := w.document().Counter; after != before {
			t.Errorf("the document went from %d to %d", before, after)
		}
	})
}

// TestWhoDoesNotAuthenticateInTimeIsClosed, whatever else it says meanwhile.
func TestWhoDoesNotAuthenticateInTimeIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		m := newWorld(t).manager(i.guarded)
		silent, busy, half, known := m.dial(), m.dial(), m.dial(), m.dial()
		known.ok("AUTH", i.sign(i.claims(auth.ClusterNone)))
		half.send("AUTH ey")
		pass(DefaultConfig().Handshake - time.Second)
		busy.ok("RESET")
		busy.want("-NOAUTH ", "PING")
		pass(2 * time.Second)
		for _, c := range []*client{silent, busy, half} {
			if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH nobody has authenticated within 5s") {
				t.Errorf("got %s", got)
			}
			c.expectClosed()
		}
		known.ok("PING")
		known.ok("RESET")
		pass(DefaultConfig().Handshake + time.Second)
		if got := known.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("after RESET: %s", got)
		}
	})
}

// TestWhoMayAskWhatOfTheManager: everyone for the topology, who may see the cluster for
// how it does, who operates it for changes, and no token speaks for a member.
func TestWhoMayAskWhatOfTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, w := newIssuer(t), newWorld(t).with(documentOf(t, nodeA))
		m := w.manager(i.guarded)
		login := func(access auth.ClusterAccess) *client {
			c := m.dial()
			c.ok("AUTH", i.sign(i.claims(access, auth.PrefixScope("", auth.WriteAccess))))
			return c
		}
		for access, allowed := range map[auth.ClusterAccess][]string{
			auth.ClusterNone:    {},
			auth.ClusterRead:    {"STATUS", "PLAN"},
			auth.ClusterOperate: {"STATUS", "PLAN", "ADD", "REMOVE", "FORGET", "ABORT", "PAUSE", "RESUME", "THROTTLE", "NOSUCH", "1"},
		} {
			c := login(access)
			for _, words := range requests() {
				got, refused := c.do(words...), false
				switch cmd, _ := protocol.Lookup([]byte(words[0])); {
				case cmd.Spec().Has(protocol.Cluster):
					refused = true
				case cmd == protocol.CmdCluster:
					refused = !slices.Contains(allowed, words[1])
				case cmd == protocol.CmdSnapshot:
					refused = access != auth.ClusterOperate
				}
				if strings.HasPrefix(got, "-NOPERM ") != refused {
					t.Errorf("access %q, %q: %s", access, words, got)
				}
			}
		}
		few := m.dial()
		few.ok("AUTH", i.sign(i.claims(auth.ClusterNone)))
		few.want("quoit-topology", "TOPOLOGY")
		if got := few.ok("INFO"); strings.Contains(got, "nodes:") {
			t.Errorf("INFO for who may not see the cluster: %s", got)
		}
		if got := login(auth.ClusterRead).ok("INFO"); !strings.Contains(got, "nodes:") {
			t.Errorf("INFO for who may: %s", got)
		}
	})
}

// TestATokenEndsOnAConnectionThatIsOpen: it expires, or its key is taken out of the file;
// then the connection has as long as a new one to show another.
func TestATokenEndsOnAConnectionThatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		m := newWorld(t).manager(i.guarded)
		c := m.dial()
		c.ok("AUTH", i.sign(i.claims(auth.ClusterOperate)))
		c.ok("CLUSTER", "PAUSE")
		pass(time.Minute)
		i.renew("k2")
		pass(2 * time.Second)
		if got := c.do("CLUSTER", "RESUME"); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "withdrawn") {
			t.Errorf("after its key was withdrawn: %s", got)
		}
		short := i.claims(auth.ClusterOperate)
		short.Expires = time.Now().Add(time.Minute)
		c.ok("AUTH", i.sign(short))
		c.ok("CLUSTER", "RESUME")
		pass(2 * time.Minute)
		if got := c.do("CLUSTER", "PAUSE"); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "expired") {
			t.Errorf("after it expired: %s", got)
		}
		pass(DefaultConfig().Handshake + time.Second)
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("without a new one: %s", got)
		}
		c.expectClosed()
	})
}

// TestATokenThatIsNotGoodEndsTheConnection, after that has been told.
func TestATokenThatIsNotGoodEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, other := newIssuer(t), newIssuer(t)
		m := newWorld(t).manager(i.guarded)
		for _, words := range [][]string{
			{"AUTH", "nonsense"}, {"AUTH", "me", other.sign(other.claims(auth.ClusterOperate))}, {"HELLO", "2", "AUTH", "me", "nonsense"},
		} {
			c := m.dial()
			c.want("-NOAUTH the token is not valid here", words...)
			c.expectClosed()
		}
		claims := i.claims(auth.ClusterNone)
		claims.Connections = 1
		token := i.sign(claims)
		m.dial().ok("AUTH", token)
		over := m.dial()
		over.want("-OVERLOADED the token has as many connections", "AUTH", token)
		over.expectClosed()
	})
}

// TestKeysThatCannotBeReadStopTheStart.
func TestKeysThatCannotBeReadStopTheStart(t *testing.T) {
	i, c := newIssuer(t), DefaultConfig()
	c.Bucket = "file:///unused"
	i.guarded(&c, nil)
	c.Auth.TokenKeysFile = filepath.Join(t.TempDir(), "none.json")
	if err := Run(t.Context(), c, Seams{}); err == nil || !strings.Contains(err.Error(), "QUOIT_TOKEN_KEYS_FILE: ") {
		t.Errorf("got %v", err)
	}
}
