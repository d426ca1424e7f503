//go:build !js

package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// certificate is one that signs itself, for a name, and whoever believes it.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestOverTLS(t *testing.T) {
	cert, pool := certificate(t, "127.0.0.1")
	f, addresses := overListeners(t, 2, func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	})
	f.Tokens(map[string]fakeToken{secret: {}})
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := Open(ctx, addresses[:1], WithTLS(&tls.Config{RootCAs: pool}), WithToken(TokenFile(file)))
	must(t, err)
	defer c.Close()
	for _, key := range []string{"a", "b", "c", "d"} {
		must(t, c.Put(ctx, key, []byte(key)))
		wantValue(t, c, key, key)
	}
	for change, err := range c.Watch(ctx, "", WatchOptions{}) {
		must(t, err)
		if change.Kind == ChangeSynced {
			break
		}
	}

	_, others := certificate(t, "127.0.0.1")
	_, err = Open(t.Context(), addresses[:1], WithTLS(&tls.Config{RootCAs: others}), WithToken(TokenFile(file)), WithRetryBudget(0))
	if err == nil {
		t.Error("a node was believed whose certificate nobody knows")
	}
	_, err = Open(t.Context(), addresses[:1], WithTLS(&tls.Config{RootCAs: pool, ServerName: "elsewhere"}), WithRetryBudget(0))
	if err == nil {
		t.Error("a certificate of another name was believed")
	}
}

func TestATokenFileIsReadEachTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	source := TokenFile(file)
	if _, err := source(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]string{"one": "one", "two\n": "two", "three\r\n": "three", "": ""} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if got, err := source(t.Context()); err != nil || got != want {
			t.Errorf("%q gives %q, %v", text, got, err)
		}
	}
	must(t, os.WriteFile(file, []byte(secret+"\nand more\n"), 0o600))
	_, err := source(t.Context())
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

// TestACertificateThatIsNotBelievedIsToldAtOnce: whoever opens a client, calls or watches
// learns that the node's certificate is no good, instead of waiting until its time is over.
func TestACertificateThatIsNotBelievedIsToldAtOnce(t *testing.T) {
	cert, pool := certificate(t, "127.0.0.1")
	_, others := certificate(t, "127.0.0.1")
	_, addresses := overListeners(t, 1, func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	})
	patient := WithRetryBudget(time.Hour) // the test would end before that
	told := func(what string, err error) {
		t.Helper()
		var bad *tls.CertificateVerificationError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), addresses[0]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, config := range map[string]*tls.Config{
		"an authority that is not known": {RootCAs: others},
		"a certificate that has expired": {RootCAs: pool, Time: func() time.Time { return time.Now().Add(48 * time.Hour) }},
		"a certificate of another host":  {RootCAs: pool, ServerName: "elsewhere"},
	} {
		_, err := Open(t.Context(), addresses, WithTLS(config), patient)
		told(what, err)
	}

	var late atomic.Bool // the certificate has expired while the client was there
	c, err := Open(t.Context(), addresses, patient, WithTLS(&tls.Config{RootCAs: pool, Time: func() time.Time {
		if late.Load() {
			return time.Now().Add(48 * time.Hour)
		}
		return time.Now()
	}}))
	must(t, err)
	defer c.Close()
	late.Store(true)
	for _, n := range c.everyNode() {
		for _, l := range n.links() {
			l.fail(errors.New("the network"))
		}
	}
	told("a call", c.Put(t.Context(), "a", []byte("b")))
	for _, err := range c.Watch(t.Context(), "", WatchOptions{}) {
		told("a watch", err)
	}
}
