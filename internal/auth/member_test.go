package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/protocol"
)

const (
	clusterSecret = "a secret of this cluster, long enough"
	otherSecret   = "a secret of that cluster, long enough"
	nodeA         = "127.0.0.1:7401"
)

// server is a member that others dial, as far as proofs go.
type server struct {
	members *Members
	tls     *tlsconf.Server // nil: none
	mu      sync.Mutex
	proved  []*Principal // guarded by mu
	running sync.WaitGroup
}

func startServer(t *testing.T, c Config, files *tlsconf.Config) *server {
	t.Helper()
	c.TokenKeysFile = "keys.json" // authentication is on
	s := &server{members: newMembers(&c, newSecrets(c.ClusterSecret, nil, nil), files != nil && files.Members())}
	if files != nil {
		var err error
		if s.tls, err = tlsconf.NewServer(*files, tlsconf.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.running.Wait)
	return s
}

func withSecret(secret string) Config { return Config{ClusterSecret: config.NewSecret(secret)} }

// dial is a connection to it, before anything is said.
func (s *server) dial(context.Context, string) (net.Conn, error) {
	near, far, err := pipe()
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		far = tls.Server(far, s.tls.Config())
	}
	s.running.Go(func() {
		defer tlsconf.Cut(far)
		s.answer(far)
	})
	return near, nil
}

// pipe is a connection with a little room in it: in TLS both sides may say something at
// the same time.
func pipe() (near, far net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = l.Accept(); err != nil {
		_ = near.Close()
	}
	return near, far, err
}

// answer does what a node's connection does: it proves, or closes.
func (s *server) answer(nc net.Conn) {
	if tlsconf.Handshake(context.Background(), nc, time.Minute) != nil {
		return
	}
	p, err := s.members.Certified(nc)
	if err != nil {
		return
	}
	s.note(p)
	var claim *Claim
	for args := range requests(nc) {
		var out []byte
		switch cmd, _ := protocol.Lookup(args[0]); cmd {
		case protocol.CmdChallenge:
			msg, _ := protocol.ParseChallenge(args)
			if claim, err = s.members.Challenge(nc, claim, msg); err == nil {
				out = protocol.AppendProof(out, claim.Nonce())
			}
		case protocol.CmdProve:
			msg, _ := protocol.ParseProve(args)
			var mac [protocol.ProofSize]byte
			if mac, p, err = claim.Prove(msg); err == nil {
				s.note(p)
				out = protocol.AppendProof(out, mac)
			}
		default:
			out = protocol.AppendOK(out)
		}
		if err != nil {
			out = protocol.AppendError(out, protocol.AsError(err))
		}
		if _, failed := nc.Write(out); failed != nil || err != nil {
			return
		}
	}
}

// requests are what comes over a connection.
func requests(nc net.Conn) func(yield func([][]byte) bool) {
	return func(yield func([][]byte) bool) {
		var parser protocol.RequestParser
		var in []byte
		piece := make([]byte, 4<<10)
		for {
			args, n, err := parser.Next(in)
			if err != nil || n > 0 && !yield(args) {
				return
			}
			if in = in[n:]; n > 0 {
				continue
			}
			n, err = nc.Read(piece)
			if in = append(in, piece[:n]...); err != nil {
				return
			}
		}
	}
}

func (s *server) note(p *Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p != nil {
		s.proved = append(s.proved, p)
	}
}

// knows says whom the server takes for a member, as "role name".
func (s *server) knows() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, p := range s.proved {
		all = append(all, strings.TrimSpace(p.Role().String()+" "+p.Name()))
	}
	return strings.Join(all, ", ")
}

// member dials as one.
func member(t *testing.T, o MemberOptions, address string) (*peer.Conn, error) {
	t.Helper()
	conn, err := peer.Dial(t.Context(), MemberDialer(o), address, time.Minute)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func asNode(s *server, secret string) MemberOptions {
	return MemberOptions{Dial: s.dial, Secret: secret, Role: RoleNode, Name: nodeA}
}

func TestMembersProveTheClusterSecretToEachOther(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	conn, err := member(t, asNode(s, clusterSecret), "b:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Do("PING"); err != nil {
		t.Errorf("the connection is of no use: %v", err)
	}
	manager := MemberOptions{Dial: s.dial, Secret: clusterSecret, Role: RoleManager, Name: "manager"}
	if _, err := member(t, manager, "b:1"); err != nil {
		t.Error(err)
	}
	if got := s.knows(); got != "node "+nodeA+", manager manager" {
		t.Errorf("the server knows %s", got)
	}
}

func TestAMemberWithAnotherSecretIsRefused(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	_, err := member(t, asNode(s, otherSecret), "b:1")
	if !errors.Is(err, ErrProof) || !strings.Contains(err.Error(), "QUOIT_CLUSTER_SECRET") || strings.Contains(err.Error(), otherSecret) {
		t.Errorf("it hears %v", err)
	}
	if got := s.knows(); got != "" {
		t.Errorf("the server takes it for %s", got)
	}
}

// TestAServerThatCannotProveItself is told nothing, be it that it has another secret, none,
// or says back what it has heard.
func TestAServerThatCannotProveItself(t *testing.T) {
	for name, reply := range map[string]func(args [][]byte) string{
		"it makes something up":          func([][]byte) string { return strings.Repeat("ab", 32) },
		"it says back what it heard":     func(args [][]byte) string { return string(args[len(args)-1]) },
		"it says yes":                    func([][]byte) string { return "OK" },
		"it says nothing of substance":   func([][]byte) string { return "" },
		"it says more than it was asked": nil,
	} {
		var heard []string
		var squatting sync.WaitGroup
		squatter := func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			squatting.Go(func() {
				defer far.Close()
				for args := range requests(far) {
					heard = append(heard, string(args[0]))
					if reply == nil {
						c := claim{role: "node", name: nodeA, channel: nil}
						c.client, _ = protocol.ParseProof(args[len(args)-1])
						_, _ = far.Write(append(protocol.AppendProof(nil, c.server), "+surprise\r\n"...))
						continue
					}
					_, _ = far.Write(protocol.AppendBulkString(nil, reply(args)))
				}
			})
			return near, nil
		}
		conn, err := member(t, MemberOptions{Dial: squatter, Secret: clusterSecret, Role: RoleNode, Name: nodeA}, "b:1")
		if err == nil {
			_ = conn.Close()
		}
		squatting.Wait()
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(heard, " "); got != "CHALLENGE PROVE" && got != "CHALLENGE" {
			t.Errorf("%s: it was told %s", name, got)
		}
	}
}

// TestWhatIsSaidBehindAProofIsNotTaken: bytes that a server sends before it is asked would
// be taken for the reply to what is asked next.
func TestWhatIsSaidBehindAProofIsNotTaken(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	eager := func(ctx context.Context, address string) (net.Conn, error) {
		nc, err := s.dial(ctx, address)
		return &eagerConn{Conn: nc}, err
	}
	if _, err := member(t, MemberOptions{Dial: eager, Secret: clusterSecret, Role: RoleNode, Name: nodeA}, "b:1"); !errors.Is(err, ErrProof) {
		t.Errorf("it is taken: %v", err)
	}
}

// eagerConn adds a reply to the second that comes.
type eagerConn struct {
	net.Conn
	reads int
}

func (e *eagerConn) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if e.reads++; e.reads == 2 {
		n += copy(b[n:], "+surprise\r\n")
	}
	return n, err
}

// raw is a connection on which a test says what it likes.
func raw(t *testing.T, s *server) *peer.Conn {
	t.Helper()
	nc, err := s.dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return peer.New(nc, time.Minute)
}

// challenged is a connection of nodeA's, and what it has to prove on it.
func challenged(t *testing.T, s *server) (*peer.Conn, claim) {
	t.Helper()
	conn, c := raw(t, s), claim{role: "node", name: nodeA, client: proof{1, 2, 3}}
	var err error
	if c.server, err = proofFrom(conn, protocol.CmdChallenge, c.role, c.name, hexOf(c.client)); err != nil {
		t.Fatal(err)
	}
	return conn, c
}

func refusedProof(err error) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Code == protocol.NOAUTH
}

func TestAProofThatWasOverheardProvesNothing(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	conn, c := challenged(t, s)
	good := hexOf(c.mac(clusterSecret, clientLabel))
	if _, err := proofFrom(conn, protocol.CmdProve, good); err != nil {
		t.Fatal(err)
	}
	again, other := challenged(t, s) // with the same nonce of the client's
	if other.server == c.server {
		t.Error("two connections have one nonce")
	}
	if _, err := proofFrom(again, protocol.CmdProve, good); !refusedProof(err) {
		t.Errorf("the proof of another connection: %v", err)
	}
	if got := s.knows(); got != "node "+nodeA {
		t.Errorf("the server knows %s", got)
	}
}

// TestEachSideHasItsOwnProof: the server's is not the member's, else who knows no secret
// could have one server make the proof for another.
func TestEachSideHasItsOwnProof(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	conn, c := challenged(t, s)
	if _, err := proofFrom(conn, protocol.CmdProve, hexOf(c.mac(clusterSecret, serverLabel))); !refusedProof(err) {
		t.Errorf("the server's own proof: %v", err)
	}
}

// TestAProofIsAboutEveryWordOfTheClaim, with no way to move a letter from one to the next.
func TestAProofIsAboutEveryWordOfTheClaim(t *testing.T) {
	base := claim{role: "node", name: "a:1", client: proof{1}, server: proof{2}, channel: []byte("c")}
	seen := map[proof]string{base.mac(clusterSecret, clientLabel): "the claim"}
	for name, change := range map[string]func(*claim){
		"the role":             func(c *claim) { c.role = "manager" },
		"the name":             func(c *claim) { c.name = "a:2" },
		"the client's nonce":   func(c *claim) { c.client = proof{3} },
		"the server's nonce":   func(c *claim) { c.server = proof{3} },
		"the channel":          func(c *claim) { c.channel = nil },
		"a letter moved":       func(c *claim) { c.role, c.name = "nodea", ":1" },
		"the nonces exchanged": func(c *claim) { c.client, c.server = c.server, c.client },
	} {
		c := base
		change(&c)
		mac := c.mac(clusterSecret, clientLabel)
		if other, twice := seen[mac]; twice {
			t.Errorf("%s and %s have one proof", name, other)
		}
		seen[mac] = name
	}
	if mac := base.mac(otherSecret, clientLabel); seen[mac] != "" {
		t.Error("two secrets make one proof")
	}
}

func TestAConnectionHasOneChallengeAndOneProof(t *testing.T) {
	s := startServer(t, withSecret(clusterSecret), nil)
	if _, err := proofFrom(raw(t, s), protocol.CmdProve, hexOf(proof{})); !refusedProof(err) {
		t.Errorf("a proof before the challenge: %v", err)
	}

	conn, c := challenged(t, s)
	if _, err := proofFrom(conn, protocol.CmdChallenge, c.role, c.name, hexOf(c.client)); !refusedProof(err) {
		t.Errorf("a second challenge: %v", err)
	}
	if _, err := conn.Do("PING"); err == nil {
		t.Error("the connection lives on")
	}

	m := s.members
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	claimed, err := m.Challenge(far, nil, protocol.Challenge{Role: []byte("node"), Name: []byte(nodeA)})
	if err != nil {
		t.Fatal(err)
	}
	good := protocol.Prove{MAC: claimed.mac(clusterSecret, clientLabel)}
	if _, _, err := claimed.Prove(protocol.Prove{}); !refusedProof(err) {
		t.Errorf("a wrong proof: %v", err)
	}
	if _, _, err := claimed.Prove(good); !refusedProof(err) {
		t.Errorf("a second try: %v", err)
	}
	if _, err := m.Challenge(far, claimed, protocol.Challenge{}); !refusedProof(err) {
		t.Errorf("a challenge after that: %v", err)
	}
}

func TestAServerWithoutASecretProvesNothing(t *testing.T) {
	for name, c := range map[string]*Config{"authentication is off": {}, "there are only tokens": {TokenKeysFile: "keys.json"}} {
		m := newMembers(c, newSecrets(c.ClusterSecret, nil, nil), false)
		if _, err := m.Challenge(nil, nil, protocol.Challenge{Role: []byte("node")}); !refusedProof(err) {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := m.Certified(nil); p != nil || err != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// TestAProofIsWorthNothingThroughSomebodyInBetween, not even to one who has a good
// certificate for the name and passes on every word.
func TestAProofIsWorthNothingThroughSomebodyInBetween(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	files, stolen := ca.Config(false), ca.Config(false)
	s := startServer(t, withSecret(clusterSecret), &files)
	between, err := tlsconf.NewServer(stolen, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relay := func(ctx context.Context, address string) (net.Conn, error) {
		near, far, err := pipe()
		if err != nil {
			return nil, err
		}
		onward, err := s.dial(ctx, address)
		if err != nil {
			return nil, err
		}
		inward := tls.Server(far, between.Config())
		relays.Go(func() {
			defer tlsconf.Cut(inward)
			defer onward.Close()
			out, err := client.Handshake(ctx, onward, "127.0.0.1")
			if err != nil {
				t.Errorf("the relay does not get through: %v", err)
				return
			}
			relays.Go(func() { _, _ = io.Copy(out, inward); _ = tlsconf.Cut(out) })
			_, _ = io.Copy(inward, out)
		})
		return near, nil
	}
	o := MemberOptions{Dial: relay, TLS: client, Secret: clusterSecret, Role: RoleNode, Name: nodeA}
	conn, err := member(t, o, "127.0.0.1:7402")
	if err == nil {
		_ = conn.Close()
	}
	relays.Wait()
	if !errors.Is(err, ErrProof) || s.knows() != "" {
		t.Errorf("through somebody in between: %v, and the server knows %s", err, s.knows())
	}
	o.Dial = s.dial
	if _, err := member(t, o, "127.0.0.1:7402"); err != nil || s.knows() != "node "+nodeA {
		t.Errorf("without him: %v, and the server knows %s", err, s.knows())
	}
}

// TestRolesOfCertificates is whom a server takes a connection for by its certificate, with
// and without a secret to prove besides.
func TestRolesOfCertificates(t *testing.T) {
	ca, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	files := ca.Config(true, tlstest.Role("quoit://node"))
	for _, tt := range []struct {
		name         string
		pair         *tlsconf.Pair
		alone        string // whom the server knows by the certificate alone
		secret, role string // whom with CHALLENGE role 127.0.0.1:7401 and a secret; both empty: not tried
		refused      bool   // not even the connection stays
	}{
		{"none", nil, "", "", "node", false},
		{"a node's", new(ca.Issue(tlstest.Role("quoit://node/" + nodeA))), "node " + nodeA, "node " + nodeA, "node", false},
		{"any node's", new(ca.Issue(tlstest.Role("quoit://node"))), "node", "node " + nodeA, "node", false},
		{"another node's", new(ca.Issue(tlstest.Role("quoit://node/b:1"))), "node b:1", "", "node", false},
		{"a node's that says it is the manager", new(ca.Issue(tlstest.Role("quoit://node"))), "node", "", "manager", false},
		{"the manager's", new(ca.Issue(tlstest.Role("quoit://manager"))), "manager", "manager " + nodeA, "manager", false},
		{"a gateway's", new(ca.Issue(tlstest.Role("quoit://gateway"))), "gateway", "", "node", false},
		{"an operator's", new(ca.Issue(tlstest.Role("quoit://operator"))), "operator", "", "manager", false},
		{"one without a role", new(ca.Issue()), "", "", "", true},
		{"one with another kind of URI", new(ca.Issue(tlstest.Role("spiffe://node"))), "", "", "", true},
		{"one with an unknown role", new(ca.Issue(tlstest.Role("quoit://king"))), "", "", "", true},
		{"one with two roles", new(ca.Issue(tlstest.Role("quoit://node", "quoit://manager"))), "", "", "", true},
		{"a manager's with a name", new(ca.Issue(tlstest.Role("quoit://manager/a:1"))), "", "", "", true},
		{"one that has expired", new(ca.Issue(tlstest.Role("quoit://node"), tlstest.Expired)), "", "", "", true},
		{"one of another authority", new(other.Issue(tlstest.Role("quoit://node"))), "", "", "", true},
		{"one that nobody has issued", new(tlstest.SelfSigned(t, tlstest.Role("quoit://node"))), "", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tlsconf.Config{}
			if tt.pair != nil {
				p := *tt.pair
				c = tlstest.Files(t, p)
			}
			expired := tt.name == "one that has expired"
			c.TLSCA = ca.File
			o := MemberOptions{Role: RoleNode, Name: nodeA}
			o.TLS = newClient(t, c, expired)

			s := startServer(t, Config{}, &files)
			o.Dial = s.dial
			conn, err := member(t, o, nodeA)
			if err == nil {
				_, err = conn.Do("PING") // whether a certificate is taken shows then
				_ = conn.Close()
			}
			if (err != nil) != tt.refused {
				t.Errorf("the connection: %v", err)
			}
			if s.running.Wait(); s.knows() != tt.alone {
				t.Errorf("the server knows %q", s.knows())
			}
			if tt.role == "" {
				return
			}

			s = startServer(t, withSecret(clusterSecret), &files)
			o.Dial, o.Secret = s.dial, clusterSecret
			o.Role, _ = ParseRole(tt.role)
			want := tt.secret
			if tt.alone == "gateway" || tt.alone == "operator" {
				want = tt.alone // they have no secret: the certificate is enough for what they may do
			}
			conn, err = member(t, o, nodeA)
			if (err == nil) != (tt.secret != "") {
				t.Errorf("with the secret: %v", err)
			}
			if err == nil {
				_ = conn.Close()
			}
			if s.running.Wait(); s.knows() != want {
				t.Errorf("with the secret the server knows %q, want %q", s.knows(), want)
			}
		})
	}
}

// newClient may be one whose clock is behind, so that it has an expired certificate.
func newClient(t *testing.T, c tlsconf.Config, behind bool) *tlsconf.Client {
	t.Helper()
	o := tlsconf.Options{}
	if behind {
		o.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) }
	}
	client, err := tlsconf.NewClient(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestWhoIsDialledIsAMemberToo: where members have certificates, so has a server that is
// told anything.
func TestWhoIsDialledIsAMemberToo(t *testing.T) {
	ca, web := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	mine := ca.Config(true, tlstest.Role("quoit://node/"+nodeA))
	mine.TLSCA = filepath.Join(t.TempDir(), "ca.pem") // servers of the web are believed, too
	if err := os.WriteFile(mine.TLSCA, append(ca.PEM(), web.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		pair tlsconf.Pair
		good bool
	}{
		{"the node that is dialled", ca.Issue(tlstest.Role("quoit://node/127.0.0.1:7402")), true},
		{"any node", ca.Issue(tlstest.Role("quoit://node")), true},
		{"the manager", ca.Issue(tlstest.Role("quoit://manager")), true},
		{"another node", ca.Issue(tlstest.Role("quoit://node/127.0.0.1:7403")), false},
		{"a gateway", ca.Issue(tlstest.Role("quoit://gateway")), false},
		{"nobody in particular", ca.Issue(), false},
		{"a node of another authority", web.Issue(tlstest.Role("quoit://node")), false},
	} {
		files := tlstest.Files(t, tt.pair)
		files.TLSMemberCA = ca.File
		s := startServer(t, Config{}, &files)
		o := MemberOptions{Dial: s.dial, TLS: newClient(t, mine, false), Certificates: true, Role: RoleNode, Name: nodeA}
		if _, err := member(t, o, "127.0.0.1:7402"); (err == nil) != tt.good || err != nil && !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestAProofThatDoesNotGoOn ends with the time that the dialling has.
func TestAProofThatDoesNotGoOn(t *testing.T) {
	silent := func(context.Context, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		return near, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	o := MemberOptions{Dial: silent, Secret: clusterSecret, Role: RoleNode, Name: nodeA}
	if _, err := MemberDialer(o)(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v", err)
	}
	gone := errors.New("nobody there")
	o.Dial = func(context.Context, string) (net.Conn, error) { return nil, gone }
	if _, err := MemberDialer(o)(t.Context(), "b:1"); !errors.Is(err, gone) || errors.Is(err, ErrProof) {
		t.Errorf("nobody there: %v", err)
	}
}
