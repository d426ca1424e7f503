// Package tlstest makes authorities and certificates for tests, good ones and every
// kind of bad one, as files in folders that end with their test. It is for tests only:
// what goes wrong in it ends the test.
package tlstest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/tlsconf"
)

// Authority issues certificates to one test.
type Authority struct {
	t    testing.TB
	a    *tlsconf.Authority
	pair tlsconf.Pair
	File string // its certificate
}

// NewAuthority makes one of its own kind: no other believes what it issues.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a, pair, err := tlsconf.NewAuthority("an authority of "+t.Name(), time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{t: t, a: a, pair: pair, File: write(t, filepath.Join(t.TempDir(), "ca.pem"), pair.Cert)}
}

// PEM is its certificate.
func (a *Authority) PEM() []byte { return a.pair.Cert }

// Option changes a certificate that is asked for.
type Option func(*tlsconf.Request)

// Role gives it a role in the cluster, such as quoit://manager.
func Role(uris ...string) Option { return func(r *tlsconf.Request) { r.Roles = uris } }

// For has it speak for these hosts, instead of 127.0.0.1 and localhost.
func For(hosts ...string) Option { return func(r *tlsconf.Request) { r.Hosts = hosts } }

// Expired has it end an hour ago.
func Expired(r *tlsconf.Request) {
	r.From, r.Until = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
}

// NotYet has it begin in an hour.
func NotYet(r *tlsconf.Request) { r.From = time.Now().Add(time.Hour) }

// Until has it end then.
func Until(end time.Time) Option { return func(r *tlsconf.Request) { r.Until = end } }

// Issue makes a certificate for this machine, valid now and for a year.
func (a *Authority) Issue(options ...Option) tlsconf.Pair {
	a.t.Helper()
	pair, err := a.a.Issue(request(options))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func request(options []Option) tlsconf.Request {
	r := tlsconf.Request{Hosts: []string{"127.0.0.1", "localhost"}, From: time.Now().Add(-49 * time.Hour), Until: time.Now().AddDate(1, 0, 0)}
	for _, o := range options {
		o(&r)
	}
	return r
}

// SelfSigned makes a certificate that nobody but itself has issued.
func SelfSigned(t testing.TB, options ...Option) tlsconf.Pair {
	t.Helper()
	pair, err := tlsconf.SelfSigned(request(options))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Config is the settings of somebody who shows a new certificate of this authority, and
// believes those of others; with members, also that they are members.
func (a *Authority) Config(members bool, options ...Option) tlsconf.Config {
	a.t.Helper()
	c := Files(a.t, a.Issue(options...))
	c.TLSCA = a.File
	if members {
		c.TLSMemberCA = a.File
	}
	return c
}

// Files writes a pair into a folder of its own, and returns settings that name it.
func Files(t testing.TB, p tlsconf.Pair) tlsconf.Config {
	t.Helper()
	dir := t.TempDir()
	return tlsconf.Config{TLSCert: write(t, filepath.Join(dir, "cert.pem"), p.Cert), TLSKey: write(t, filepath.Join(dir, "key.pem"), p.Key)}
}

// Replace swaps the pair that the settings name for another, each file by a rename.
func Replace(t testing.TB, c tlsconf.Config, p tlsconf.Pair) {
	t.Helper()
	Rename(t, c.TLSCert, p.Cert)
	Rename(t, c.TLSKey, p.Key)
}

// Rename puts a new file in the place of another, which is never half there.
func Rename(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.Rename(write(t, file+".new", text), file); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, file string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
