package node

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/protocol"
)

const clusterSecret = "a secret of this cluster, long enough"

// dialTLS is dial over TLS, with these settings.
func (s *solo) dialTLS(c tlsconf.Config) (*testClient, error) {
	s.t.Helper()
	client, err := tlsconf.NewClient(c, tlsconf.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := client.Dial(s.t.Context(), s.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return talk(s.t, nc), nil
}

// overTLS is a node with a certificate, and what a client of it has to know.
func overTLS(t *testing.T, o soloOptions) (*solo, *tlstest.Authority, tlsconf.Config) {
	t.Helper()
	ca := tlstest.NewAuthority(t)
	if o.tls == nil {
		files := ca.Config(false)
		o.tls = &files
	}
	return startSolo(t, o), ca, tlsconf.Config{TLSCA: ca.File}
}

func TestClientsOverTLS(t *testing.T) {
	s, _, knows := overTLS(t, soloOptions{})
	c, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 3<<20)
	if got := c.set("large", large); got != "+OK" {
		t.Fatal(got)
	}
	if got := c.do("GET large"); got != large {
		t.Errorf("a value of %d bytes comes back with %d", len(large), len(got))
	}
	const requests = 1000
	c.send(strings.Repeat("INCR n\r\n", requests))
	for i := range requests {
		if got := c.reply(); got != ":"+itoa(uint64(i)+1) {
			t.Fatalf("reply %d is %s", i, got)
		}
	}
	if got := c.do("QUIT"); got != "+OK" {
		t.Error(got)
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection ends with %v, not as TLS ends", err)
	}

	w, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	w.send("WATCH 1 KEY n STATE 0 0 0\r\n")
	for _, want := range []string{"[watching", "[state", "[put"} {
		if got := w.heard(); !strings.HasPrefix(got, want) {
			t.Errorf("a watch is told %s, want %s", got, want)
		}
	}
}

func TestAPlainClientAtATLSPort(t *testing.T) {
	s, _, knows := overTLS(t, soloOptions{})
	for _, hello := range []string{"GET a\r\n", "*1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c := s.dial()
		c.send(hello)
		if rest, err := io.ReadAll(c.r); !strings.HasPrefix(string(rest), "-NOPROTO this port speaks TLS alone") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q is answered %q (%v)", hello, rest, err)
		}
	}
	if n := s.stats.handshakes.Load(); n != 3 {
		t.Errorf("%d are counted", n)
	}
	if !strings.Contains(s.logs.String(), "does not speak TLS") {
		t.Error("the log says nothing")
	}
	if c, err := s.dialTLS(knows); err != nil || c.do("PING") != "+PONG" {
		t.Errorf("others notice: %v", err)
	}
}

// TestAConnectionThatBeginsNoHandshake takes a place no longer than it may.
func TestAConnectionThatBeginsNoHandshake(t *testing.T) {
	s, _, _ := overTLS(t, soloOptions{config: func(c *Config) { c.Times.Handshake = 10 * time.Millisecond }})
	c := s.dial()
	c.expectClosed()
	waitFor(t, "it to be counted", func() bool { return s.stats.handshakes.Load() == 1 })
}

// TestNoRoomOverTLS is told in TLS, and who does not even shake hands to hear it does not
// keep the node from stopping.
func TestNoRoomOverTLS(t *testing.T) {
	full := func(farewell time.Duration) (*solo, tlsconf.Config) {
		s, _, knows := overTLS(t, soloOptions{farewell: farewell, config: func(c *Config) { c.Limits.Connections = 1 }})
		if c, err := s.dialTLS(knows); err != nil || c.do("PING") != "+PONG" {
			t.Fatal(err)
		}
		return s, knows
	}
	s, knows := full(time.Minute)
	c, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED") {
		t.Errorf("one too many hears %s", got)
	}
	s, _ = full(10 * time.Millisecond)
	s.dial().expectClosed()
}

// TestASlowReaderOverTLS is cut off although its connection cannot even say goodbye, and
// nobody else waits for that.
func TestASlowReaderOverTLS(t *testing.T) {
	clock := &fakeClock{at: time.Now()} // stands still, so that nobody is cut off for a slow machine
	s, _, knows := overTLS(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
	slow, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	if got := slow.set("k", strings.Repeat("x", 1<<20)); got != "+OK" {
		t.Fatal(got)
	}
	go func() {
		for {
			if _, err := io.WriteString(slow.Conn, "GET k\r\n"); err != nil {
				return
			}
		}
	}()
	s.atRest()
	waitFor(t, "the slow reader to be cut off", func() bool {
		clock.advance(time.Second) // again and again: kernels may still take something
		return s.stats.slowReaders.Load() == 1
	})
	if c, err := s.dialTLS(knows); err != nil || c.do("STRLEN k") != ":1048576" {
		t.Errorf("others notice: %v", err)
	}
}

func TestACertificateIsReplacedUnderARunningNode(t *testing.T) {
	var later atomic.Int64
	ca := tlstest.NewAuthority(t)
	files, knows := ca.Config(false), tlsconf.Config{TLSCA: ca.File}
	s := startSolo(t, soloOptions{tls: &files, clock: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	old, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	tlstest.Replace(t, files, ca.Issue())
	later.Store(int64(2 * time.Second))
	c, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	if serialOf(c) == serialOf(old) {
		t.Error("a new connection is shown the old certificate")
	}
	if got := old.do("SET a 1"); got != "+OK" {
		t.Errorf("a connection that was open is answered %s", got)
	}
	if got := c.do("GET a"); got != "1" {
		t.Error(got)
	}
}

func serialOf(c *testClient) string {
	return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// messages are what members send each other, and what a node answers to one that may.
var messages = map[string]string{
	"REFRESH 7":                       "+OK",
	"MIGRATE_RANGE 1 2 127.0.0.1:1 m": "-UNAVAILABLE",
	"STAGE_RANGE m 1 2 127.0.0.1:1":   "-UNAVAILABLE",
	"STAGE_RANGE m 1 2 127.0.0.1:2":   "-UNAVAILABLE",
	"GET a":                           "(nil)",
}

// TestWhatMembersMaySay, by what they have proved.
func TestWhatMembersMaySay(t *testing.T) {
	i := newIssuer(t, time.Now)
	s := startSolo(t, soloOptions{keys: i.keys, secret: clusterSecret})
	for _, tt := range []struct {
		who    string
		role   auth.Role
		secret string
		may    []string
	}{
		{"the node at port 1", auth.RoleNode, clusterSecret, []string{"REFRESH 7", "STAGE_RANGE m 1 2 127.0.0.1:1"}},
		{"the manager", auth.RoleManager, clusterSecret, []string{"REFRESH 7", "MIGRATE_RANGE 1 2 127.0.0.1:1 m"}},
	} {
		for message, answer := range messages {
			o := auth.MemberOptions{Secret: tt.secret, Role: tt.role, Name: "127.0.0.1:1"}
			nc, err := auth.MemberDialer(o)(t.Context(), s.listener.Addr().String())
			if err != nil {
				t.Fatalf("%s: %v", tt.who, err)
			}
			want := "-NOPERM"
			for _, m := range tt.may {
				if m == message {
					want = answer
				}
			}
			if got := talk(t, nc).do(message); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is answered %s, want %s", tt.who, message, got, want)
			}
		}
	}
	for message := range messages {
		if got := s.dial().do(message); !strings.HasPrefix(got, "-NOAUTH") {
			t.Errorf("a stranger: %s is answered %s", message, got)
		}
		if got := s.login(i.token(root())).do(message); !strings.HasPrefix(got, "-NOPERM") && message != "GET a" {
			t.Errorf("an application: %s is answered %s", message, got)
		}
	}
}

// TestWhoCannotProveItself hears why, and the connection ends.
func TestWhoCannotProveItself(t *testing.T) {
	i := newIssuer(t, time.Now)
	s := startSolo(t, soloOptions{keys: i.keys, secret: clusterSecret})
	o := auth.MemberOptions{Secret: strings.Repeat("another secret ", 4), Role: auth.RoleManager, Name: "manager"}
	if _, err := auth.MemberDialer(o)(t.Context(), s.listener.Addr().String()); !errors.Is(err, auth.ErrProof) {
		t.Errorf("another secret: %v", err)
	}
	nonce := strings.Repeat("0f", 32)
	for _, said := range [][]string{
		{"PROVE " + nonce},
		{"CHALLENGE node 127.0.0.1:1 " + nonce, "PROVE " + nonce},
		{"CHALLENGE node 127.0.0.1:1 " + nonce, "CHALLENGE node 127.0.0.1:1 " + nonce},
		{"CHALLENGE node 127.0.0.1:1 " + nonce, "REFRESH 7", "PROVE " + nonce},
	} {
		c := s.dial()
		last := ""
		for _, line := range said {
			last = c.do(line)
		}
		if !strings.HasPrefix(last, "-NOAUTH") {
			t.Errorf("%q is answered %s", said, last)
		}
		c.expectClosed()
	}
	if n := s.stats.proofs.Load(); n != 5 {
		t.Errorf("%d are counted", n)
	}
	open := startSolo(t, soloOptions{})
	if got := open.dial().do("CHALLENGE node 127.0.0.1:1 " + nonce); !strings.Contains(got, "no cluster secret") {
		t.Errorf("a node without authentication: %s", got)
	}
}

// TestCertificatesAtARealListener is whom a node lets say what by a certificate alone.
func TestCertificatesAtARealListener(t *testing.T) {
	ca, other, i := tlstest.NewAuthority(t), tlstest.NewAuthority(t), newIssuer(t, time.Now)
	files := ca.Config(true, tlstest.Role("quoit://node"))
	s := startSolo(t, soloOptions{keys: i.keys, tls: &files})
	const closed = "closed"
	for _, tt := range []struct {
		name              string
		pair              tlsconf.Pair
		refresh, topology string
	}{
		{"a node", ca.Issue(tlstest.Role("quoit://node/127.0.0.1:1")), "+OK", "quoit"},
		{"the manager", ca.Issue(tlstest.Role("quoit://manager")), "+OK", "quoit"},
		{"a gateway", ca.Issue(tlstest.Role("quoit://gateway")), "-NOPERM", "quoit"},
		{"an operator", ca.Issue(tlstest.Role("quoit://operator")), "-NOPERM", "quoit"},
		{"an unknown role", ca.Issue(tlstest.Role("quoit://king")), closed, closed},
		{"no role", ca.Issue(), closed, closed},
		{"expired", ca.Issue(tlstest.Role("quoit://node"), tlstest.Expired), closed, closed},
		{"not valid yet", ca.Issue(tlstest.Role("quoit://node"), tlstest.NotYet), closed, closed},
		{"self-signed", tlstest.SelfSigned(t, tlstest.Role("quoit://node")), closed, closed},
		{"of another authority", other.Issue(tlstest.Role("quoit://node")), closed, closed},
	} {
		for line, want := range map[string]string{"REFRESH 7": tt.refresh, "TOPOLOGY": tt.topology} {
			if got := s.asWith(ca, tt.pair, line); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is answered %s, want %s", tt.name, line, got, want)
			}
		}
	}
	if c, err := s.dialTLS(tlsconf.Config{TLSCA: ca.File}); err != nil || !strings.HasPrefix(c.do("REFRESH 7"), "-NOAUTH") {
		t.Errorf("without a certificate: %v", err)
	}
}

// asWith says a line with a certificate, whatever its owner should know about it.
func (s *solo) asWith(ca *tlstest.Authority, p tlsconf.Pair, line string) string {
	s.t.Helper()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, tlsconf.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	config := client.Config()
	config.ServerName = "127.0.0.1"
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	nc, err := tls.Dial("tcp", s.listener.Addr().String(), config)
	if err != nil {
		return "closed: " + err.Error()
	}
	defer nc.Close()
	reply, err := peer.New(nc, time.Minute).DoStrings(strings.Fields(line)[0], strings.Fields(line)[1:]...)
	var refused *protocol.Error
	switch {
	case errors.As(err, &refused):
		return "-" + refused.Error()
	case err != nil:
		return "closed: " + err.Error()
	case reply.Kind == '+':
		return "+" + string(reply.Bytes)
	}
	return string(reply.Bytes)
}

// TestSomebodyElseAtTheNodesAddress, who does not prove to be a member, is not taken for
// nobody: a node with an empty folder does not push it aside.
func TestSomebodyElseAtTheNodesAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(nc, "-ERR what is that?\r\n")
			_ = nc.Close()
		}
	}()
	n := newNode(DefaultConfig(), Seams{})
	n.config.Auth.ClusterSecret, n.identity.Address = config.NewSecret(clusterSecret), l.Addr().String()
	if err := n.openTrust(n.identity.Address); err != nil {
		t.Fatal(err)
	}
	var occupied *occupiedError
	if err := n.alone(t.Context()); !errors.As(err, &occupied) || !errors.Is(occupied.err, auth.ErrProof) {
		t.Errorf("it says %v", err)
	}
}

// TestRequestsInManyRecordsShareASync: callers that share a connection each write a record
// of their own. While the disk is busy with the first they gather, and then wait once.
func TestRequestsInManyRecordsShareASync(t *testing.T) {
	g := newGate()
	s, _, knows := overTLS(t, soloOptions{disk: g.disk})
	c, err := s.dialTLS(knows)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.do("SET a 0"); got != "+OK" {
		t.Fatal(got)
	}
	g.shut.Store(true)
	c.send("SET a 1\r\n")
	<-g.entered
	const requests = 200
	for range requests {
		c.send("SET a 2\r\n")
	}
	before := s.state.store.Load().log.Stats().Syncs
	g.open(nil)
	for range 1 + requests {
		if got := c.reply(); got != "+OK" {
			t.Fatal(got)
		}
	}
	if n := s.state.store.Load().log.Stats().Syncs - before; n > requests/4 {
		t.Errorf("%d requests took %d syncs", requests, n)
	}
}
