package tlsconf_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds what should take milliseconds.
const patience = time.Minute

// clock is a time that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
	log bytes.Buffer
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Write takes the log.
func (c *clock) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(b)
}

func (c *clock) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

func (c *clock) options() tlsconf.Options {
	return tlsconf.Options{Now: c.Now, Logger: slog.New(slog.NewTextHandler(c, nil))}
}

// echoing is a server that says back what it hears.
type echoing struct {
	*tlsconf.Server
	address string
	heard   chan error // of each connection: how its handshake ended
}

func serve(t *testing.T, c tlsconf.Config, o tlsconf.Options) *echoing {
	t.Helper()
	s, err := tlsconf.NewServer(c, o)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := s.Listener(plain)
	e := &echoing{s, plain.Addr().String(), make(chan error, 100)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				e.heard <- tlsconf.Handshake(t.Context(), nc, patience)
				_, _ = io.Copy(nc, nc)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return e
}

// dial connects with these settings and waits for an echo, without which nobody knows
// what the server thinks of the certificate that it was shown.
func (e *echoing) dial(t *testing.T, c tlsconf.Config) (*tls.Conn, error) {
	t.Helper()
	client, err := tlsconf.NewClient(c, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := client.Dial(t.Context(), e.address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*tls.Conn), said(nc, "hello")
}

// said sends something and reads it back.
func said(nc net.Conn, text string) error {
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	_, err := io.ReadFull(nc, got)
	return err
}

func serial(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }

func TestACertificateIsReplacedWithoutARestart(t *testing.T) {
	ca, clock := tlstest.NewAuthority(t), newClock()
	files, believes := ca.Config(false), tlsconf.Config{TLSCA: ca.File}
	s := serve(t, files, clock.options())
	old, err := s.dial(t, believes)
	if err != nil {
		t.Fatal(err)
	}

	tlstest.Replace(t, files, ca.Issue(tlstest.Until(time.Now().AddDate(3, 0, 0))))
	if c, err := s.dial(t, believes); err != nil || serial(c) != serial(old) {
		t.Errorf("files are looked at more than once a second (%v)", err)
	}
	clock.pass(time.Second)
	c, err := s.dial(t, believes)
	if err != nil || serial(c) == serial(old) {
		t.Errorf("a second later the old certificate is still shown (%v)", err)
	}
	if f := s.Figures(); f.Loads != 1 || f.Failures != 0 || f.Expires.Before(time.Now().AddDate(2, 0, 0)) {
		t.Errorf("figures: %+v", f)
	}
	if err := said(old, "still here"); err != nil {
		t.Errorf("the connection that was open has ended: %v", err)
	}
}

// TestAFolderSwappedByALink is how Kubernetes replaces a secret: the files are links
// through ..data, which one rename points elsewhere.
func TestAFolderSwappedByALink(t *testing.T) {
	ca, clock, dir := tlstest.NewAuthority(t), newClock(), t.TempDir()
	link := func(to string) {
		if err := errors.Join(os.Symlink(to, filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	first, second := tlstest.Files(t, ca.Issue()), tlstest.Files(t, ca.Issue())
	link(filepath.Dir(first.TLSCert))
	files := tlsconf.Config{TLSCert: filepath.Join(dir, "..data", "cert.pem"), TLSKey: filepath.Join(dir, "..data", "key.pem")}
	s := serve(t, files, clock.options())
	old, err := s.dial(t, tlsconf.Config{TLSCA: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	link(filepath.Dir(second.TLSCert))
	clock.pass(time.Second)
	if c, err := s.dial(t, tlsconf.Config{TLSCA: ca.File}); err != nil || serial(c) == serial(old) {
		t.Errorf("the old certificate is still shown (%v)", err)
	}
}

// TestAPairThatDoesNotFit is what a handshake meets between the writing of the two files,
// and what mistakes look like: the old pair stays, until there is a good one.
func TestAPairThatDoesNotFit(t *testing.T) {
	ca, clock := tlstest.NewAuthority(t), newClock()
	files, believes := ca.Config(false), tlsconf.Config{TLSCA: ca.File}
	s := serve(t, files, clock.options())
	old, err := s.dial(t, believes)
	if err != nil {
		t.Fatal(err)
	}
	next := ca.Issue()
	for i, bad := range []func(){
		func() { tlstest.Rename(t, files.TLSCert, next.Cert) }, // with the key of the old one
		func() { tlstest.Rename(t, files.TLSCert, []byte("not a certificate")) },
		func() { tlstest.Replace(t, files, ca.Issue(tlstest.Expired)) },
		func() { tlstest.Replace(t, files, ca.Issue(tlstest.NotYet)) },
		func() { _ = os.Remove(files.TLSCert) },
	} {
		bad()
		clock.pass(time.Second)
		if c, err := s.dial(t, believes); err != nil || serial(c) != serial(old) {
			t.Fatalf("%d: the good pair has not stayed (%v)", i, err)
		}
		clock.pass(time.Second)
		if c, err := s.dial(t, believes); err != nil || serial(c) != serial(old) {
			t.Fatalf("%d: looked at again, the good pair has not stayed (%v)", i, err)
		}
		if f := s.Figures(); f.Failures != uint64(i)+1 || strings.Count(clock.logged(), "cannot be used") != i+1 {
			t.Fatalf("%d: it is not told once: %+v\n%s", i, f, clock.logged())
		}
	}
	tlstest.Replace(t, files, next)
	clock.pass(time.Second)
	if c, err := s.dial(t, believes); err != nil || serial(c) == serial(old) {
		t.Errorf("the good pair is not taken (%v)", err)
	}
}

func TestWhatAStartRefuses(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	good, other := ca.Config(false), ca.Config(false)
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    tlsconf.Config
		want string
	}{
		{"a certificate that has expired", tlstest.Files(t, ca.Issue(tlstest.Expired)), "has expired on 20"},
		{"one that is not valid yet", tlstest.Files(t, ca.Issue(tlstest.NotYet)), "set this machine's clock"},
		{"one without a host", tlstest.Files(t, ca.Issue(tlstest.For())), "names no host"},
		{"a key of another certificate", tlsconf.Config{TLSCert: good.TLSCert, TLSKey: other.TLSKey}, "private key does not match"},
		{"no such file", tlsconf.Config{TLSCert: garbage + "x", TLSKey: good.TLSKey}, "no such file"},
		{"no certificate in it", tlsconf.Config{TLSCert: garbage, TLSKey: good.TLSKey}, garbage},
		{"an authority that is none", tlsconf.Config{TLSCert: good.TLSCert, TLSKey: good.TLSKey, TLSMemberCA: garbage}, "holds no certificate"},
	} {
		if _, err := tlsconf.NewServer(tt.c, tlsconf.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := tlsconf.NewClient(tlsconf.Config{TLSCA: garbage}, tlsconf.Options{}); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("a client with an authority that is none: %v", err)
	}
}

func TestWhomAClientBelieves(t *testing.T) {
	ca, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	for _, tt := range []struct {
		name     string
		pair     tlsconf.Pair
		believes *tlstest.Authority
		want     string // empty: it is believed
	}{
		{"an IP address in the certificate", ca.Issue(tlstest.For("127.0.0.1")), ca, ""},
		{"another address", ca.Issue(tlstest.For("127.0.0.2", "node-1.example.org")), ca, "127.0.0.1"},
		{"only a name, dialled by its address", ca.Issue(tlstest.For("localhost")), ca, "127.0.0.1"},
		{"another authority", ca.Issue(), other, "QUOIT_TLS_CA_FILE"},
		{"an authority that the system does not know", ca.Issue(), nil, "QUOIT_TLS_CA_FILE"},
		{"a certificate that only itself has issued", tlstest.SelfSigned(t), ca, "QUOIT_TLS_CA_FILE"},
	} {
		s := serve(t, tlstest.Files(t, tt.pair), tlsconf.Options{})
		var c tlsconf.Config
		if tt.believes != nil {
			c.TLSCA = tt.believes.File
		}
		_, err := s.dial(t, c)
		var handshake *tlsconf.HandshakeError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s is not believed: %v", tt.name, err)
		case tt.want != "" && (!errors.As(err, &handshake) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestACertificateThatExpiresWhileItIsShown is not believed any more by those who dial.
func TestACertificateThatExpiresWhileItIsShown(t *testing.T) {
	ca, late := tlstest.NewAuthority(t), newClock()
	s := serve(t, tlstest.Files(t, ca.Issue(tlstest.Until(time.Now().Add(time.Hour)))), tlsconf.Options{})
	late.pass(2 * time.Hour)
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, late.options())
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := client.Dial(t.Context(), s.address); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v, %v", nc, err)
	}
}

// TestMembersCertificates: a client may have none; one that it shows must be good.
func TestMembersCertificates(t *testing.T) {
	ca, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	s := serve(t, ca.Config(true), tlsconf.Options{})
	for _, tt := range []struct {
		name string
		pair *tlsconf.Pair
		good bool
	}{
		{"none", nil, true},
		{"one of the authority", new(ca.Issue(tlstest.Role("quoit://manager"))), true},
		{"one of another authority", new(other.Issue(tlstest.Role("quoit://manager"))), false},
		{"one that nobody has issued", new(tlstest.SelfSigned(t, tlstest.Role("quoit://manager"))), false},
	} {
		c := tlsconf.Config{}
		if tt.pair != nil {
			c = tlstest.Files(t, *tt.pair)
		}
		c.TLSCA = ca.File
		if _, err := s.dial(t, c); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := <-s.heard; (err == nil) != tt.good {
			t.Errorf("%s, at the server: %v", tt.name, err)
		}
	}
}

// TestAMemberWhoseCertificateHasExpired opens no new connection, although it still has
// the file, and its program does not know better.
func TestAMemberWhoseCertificateHasExpired(t *testing.T) {
	ca, late := tlstest.NewAuthority(t), newClock()
	s := serve(t, ca.Config(true), late.options())
	c := tlstest.Files(t, ca.Issue(tlstest.Until(time.Now().Add(time.Hour))))
	c.TLSCA = ca.File
	if _, err := s.dial(t, c); err != nil {
		t.Fatal(err)
	}
	late.pass(2 * time.Hour)
	if _, err := s.dial(t, c); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("it hears %v", err)
	}
}

// TestAnAuthorityIsReplaced at both ends, without a restart.
func TestAnAuthorityIsReplaced(t *testing.T) {
	ca, next, clock := tlstest.NewAuthority(t), tlstest.NewAuthority(t), newClock()
	server := ca.Config(true)
	server.TLSMemberCA = filepath.Join(t.TempDir(), "members.pem")
	if err := os.WriteFile(server.TLSMemberCA, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, server, clock.options())
	newcomer := tlstest.Files(t, next.Issue())
	newcomer.TLSCA = ca.File
	if _, err := s.dial(t, newcomer); err == nil {
		t.Fatal("the newcomer is let in before its authority is known")
	}
	tlstest.Rename(t, server.TLSMemberCA, append(ca.PEM(), next.PEM()...))
	clock.pass(time.Second)
	if _, err := s.dial(t, newcomer); err != nil {
		t.Errorf("the new authority is not believed: %v", err)
	}

	believes := tlsconf.Config{TLSCA: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(believes.TLSCA, next.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := tlsconf.NewClient(believes, clock.options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Dial(t.Context(), s.address); err == nil {
		t.Fatal("a client believes an authority that it does not know")
	}
	tlstest.Rename(t, believes.TLSCA, ca.PEM())
	clock.pass(time.Second)
	nc, err := client.Dial(t.Context(), s.address)
	if err != nil {
		t.Fatalf("the client does not look at its file again: %v", err)
	}
	_ = nc.Close()
}

// TestNothingOlderThanTLS13, at either end.
func TestNothingOlderThanTLS13(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	s := serve(t, ca.Config(false), tlsconf.Options{})
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := client.Config()
	old.MinVersion, old.MaxVersion, old.ServerName = tls.VersionTLS12, tls.VersionTLS12, "127.0.0.1"
	if nc, err := tls.Dial("tcp", s.address, old); err == nil {
		t.Errorf("the server speaks version %x", nc.ConnectionState().Version)
		_ = nc.Close()
	}

	near, far := net.Pipe()
	p := ca.Issue()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
		_ = far.Close()
	}()
	if c, err := client.Handshake(t.Context(), near, "127.0.0.1"); err == nil {
		t.Errorf("the client speaks version %x", c.ConnectionState().Version)
	}
}

// TestWhoSpeaksPlain at a TLS port is told apart, and waits for nothing.
func TestWhoSpeaksPlain(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	s := serve(t, ca.Config(false), tlsconf.Options{})
	nc, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "GET user:1\r\n")
	if err := <-s.heard; err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("the server says %v", err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	if text, err := io.ReadAll(nc); !strings.HasPrefix(string(text), "-NOPROTO this port speaks TLS alone") || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it hears %q, %v", text, err)
	}

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		if nc, err := plain.Accept(); err == nil {
			_, _ = io.WriteString(nc, "-ERR Protocol error\r\n")
			_ = nc.Close()
		}
	}()
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Dial(t.Context(), plain.Addr().String()); err == nil || !strings.Contains(err.Error(), "QUOIT_TLS=off") {
		t.Errorf("a client at a plain port: %v", err)
	}
}

// TestAHandshakeThatDoesNotGoOn is given up, and its connection closed.
func TestAHandshakeThatDoesNotGoOn(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	s, err := tlsconf.NewServer(ca.Config(false), tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	if err := tlsconf.Handshake(t.Context(), tls.Server(far, s.Config()), time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v", err)
	}
	if err := tlsconf.Handshake(t.Context(), near, 0); err != nil {
		t.Errorf("a connection without TLS: %v", err)
	}
}

// TestCut does not wait for a client that reads nothing.
func TestCut(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	s, err := tlsconf.NewServer(ca.Config(false), tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	if err := tlsconf.Cut(tls.Server(far, s.Config())); err != nil {
		t.Error(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other side reads %v", err)
	}
	if err := tlsconf.Cut(near); err != nil {
		t.Error(err)
	}
}

func TestAKeyThatEverybodyCanRead(t *testing.T) {
	ca, clock := tlstest.NewAuthority(t), newClock()
	files := ca.Config(false)
	if _, err := tlsconf.NewServer(files, clock.options()); err != nil || strings.Contains(clock.logged(), "WARN") {
		t.Errorf("%v\n%s", err, clock.logged())
	}
	if err := os.Chmod(files.TLSKey, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsconf.NewServer(files, clock.options()); err != nil || !strings.Contains(clock.logged(), "everybody on this machine can read the private key") {
		t.Errorf("%v\n%s", err, clock.logged())
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name           string
		c              tlsconf.Config
		enabled        bool
		server, client string // what is wrong, empty for nothing
	}{
		{"nothing", tlsconf.Config{}, false, "", ""},
		{"a pair", tlsconf.Config{TLSCert: "c", TLSKey: "k"}, true, "", ""},
		{"an authority alone", tlsconf.Config{TLSCA: "a"}, true, "QUOIT_TLS_CERT_FILE", ""},
		{"on", tlsconf.Config{TLSMode: "on"}, true, "QUOIT_TLS_CERT_FILE", ""},
		{"off", tlsconf.Config{TLSMode: "off", TLSCA: "a"}, false, "", ""},
		{"half a pair", tlsconf.Config{TLSCert: "c"}, true, "QUOIT_TLS_KEY_FILE", "QUOIT_TLS_KEY_FILE"},
		{"the other half", tlsconf.Config{TLSKey: "k"}, true, "QUOIT_TLS_CERT_FILE", "QUOIT_TLS_CERT_FILE"},
	} {
		if tt.c.Enabled() != tt.enabled {
			t.Errorf("%s: enabled is %v", tt.name, tt.c.Enabled())
		}
		for want, err := range map[string]error{"server " + tt.server: tt.c.ValidateServer(), "client " + tt.client: tt.c.ValidateClient()} {
			who, variable, _ := strings.Cut(want, " ")
			if (err == nil) != (variable == "") || err != nil && !strings.Contains(err.Error(), variable) {
				t.Errorf("%s, for a %s: %v", tt.name, who, err)
			}
		}
	}
	for _, p := range []tlsconf.Public{{PublicCert: "c"}, {PublicKey: "k"}} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "QUOIT_GATEWAY_TLS_") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if p := (tlsconf.Public{PublicCert: "c", PublicKey: "k"}); p.Validate() != nil || !p.Enabled() || p.Server().TLSKey != "k" {
		t.Errorf("%+v", p)
	}
	var m tlsconf.Mode
	if m.UnmarshalText([]byte("on")) != nil || m.UnmarshalText([]byte("yes")) == nil {
		t.Error("modes are on and off")
	}
}

// TestAnAuthorityFromItsFiles issues what the one that was just made would.
func TestAnAuthorityFromItsFiles(t *testing.T) {
	_, pair, err := tlsconf.NewAuthority("x", time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlsconf.OpenAuthority(pair); err != nil {
		t.Error(err)
	}
	leaf, err := tlsconf.SelfSigned(tlsconf.Request{Hosts: []string{"a"}, From: time.Now(), Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]tlsconf.Pair{
		"nothing": {}, "a certificate that is no authority's": leaf, "somebody else's key": {Cert: pair.Cert, Key: leaf.Key},
		"the wrong way round": {Cert: pair.Key, Key: pair.Cert},
	} {
		if _, err := tlsconf.OpenAuthority(p); err == nil {
			t.Errorf("%s is an authority", name)
		}
	}
}

// TestWhatHasArrivedIsReadWithoutWaiting: many records, and a part of one.
func TestWhatHasArrivedIsReadWithoutWaiting(t *testing.T) {
	ca := tlstest.NewAuthority(t)
	s, err := tlsconf.NewServer(ca.Config(false), tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	client, err := tlsconf.NewClient(tlsconf.Config{TLSCA: ca.File}, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const records = 300
	sent := make(chan error, 1)
	go func() {
		nc, err := client.Dial(t.Context(), plain.Addr().String())
		for range records {
			if err == nil {
				_, err = io.WriteString(nc, "0123456789")
			}
		}
		sent <- err
		if err == nil {
			_, _ = io.Copy(io.Discard, nc)
			_, err = io.WriteString(nc, "more")
			_ = nc.Close()
		}
		sent <- err
	}()
	nc, err := s.Listener(plain).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	n, err := nc.Read(buf)
	if err != nil || n != 10 {
		t.Fatalf("a Read gives %d bytes, %v: nothing is to be shown here", n, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	arrived := tlsconf.Now(nc)
	if arrived == nil {
		t.Skip("this system has no reading without waiting")
	}
	for n < 10*records { // what was sent is in this machine's kernel, or about to be
		more, err := arrived.Read(buf[n:])
		if n += more; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if more, err := arrived.Read(buf); more != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of nothing it reads %d bytes, %v", more, err)
	}
	if err := nc.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(nc, buf[:4]); err != nil || string(buf[:n]) != "more" {
		t.Errorf("afterwards the connection gives %q, %v", buf[:n], err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if tlsconf.Now(plainConn(t)) != nil {
		t.Error("a connection without TLS has one as well")
	}
}

func plainConn(t *testing.T) net.Conn {
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near
}
