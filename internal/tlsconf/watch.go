package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what tests replace; the zero value is production.
type Options struct {
	Logger *slog.Logger     // instead of none
	Now    func() time.Time // instead of time.Now
	// Fits says what makes a certificate one that must not be shown, in words that follow
	// "the certificate in FILE"; nil finds nothing.
	Fits func(*x509.Certificate) error
}

// Figures are for metrics.
type Figures struct {
	Expires  time.Time // of the certificate that is shown; zero if there is none
	Loads    uint64    // how often changed files were taken
	Failures uint64    // how often they were not, and the last good ones stayed
}

// lookEvery is how often files are looked at, at most.
const lookEvery = time.Second

type kind int

const (
	certificate kind = iota
	privateKey
	serverCA
	memberCA
	kinds
)

// source is one file; an empty name is a thing that is not there.
type source struct {
	kind kind
	file string
	what string // for errors
}

// material is what all files together make, never changed once it is published.
type material struct {
	cert    *tls.Certificate // nil: none
	servers *x509.CertPool   // nil: the system's
	members *x509.CertPool   // nil: none
}

// watched is files that are read again when they have changed.
type watched struct {
	files [kinds]source
	o     Options

	current  atomic.Pointer[material]
	next     atomic.Int64 // unix nanoseconds: not looked at before
	loads    atomic.Uint64
	failures atomic.Uint64

	looking sync.Mutex
	seen    [kinds]fs.FileInfo // of what was last read, or refused; guarded by looking
}

func newWatched(list []source, o Options) *watched {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Fits == nil {
		o.Fits = func(*x509.Certificate) error { return nil }
	}
	w := &watched{o: o}
	for _, s := range list {
		w.files[s.kind] = s
	}
	return w
}

// begin reads the files for the first time.
func (w *watched) begin() error {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.next.Store(w.o.Now().Add(lookEvery).UnixNano())
	w.seen = w.stat()
	m, err := w.read()
	if err != nil {
		return err
	}
	w.warnAboutKey()
	w.current.Store(m)
	return nil
}

// now is what holds for a handshake that begins now. One goroutine looks at the files,
// others need not wait for it.
func (w *watched) now() *material {
	if now := w.o.Now().UnixNano(); now >= w.next.Load() && w.looking.TryLock() {
		w.next.Store(now + int64(lookEvery))
		w.look()
		w.looking.Unlock()
	}
	return w.current.Load()
}

// look reads the files if one of them is another than before. They are told apart before
// they are read: what changes meanwhile is noticed the next time. The caller holds
// looking.
func (w *watched) look() {
	found := w.stat()
	if same(w.seen, found) {
		return
	}
	w.seen = found
	m, err := w.read()
	if err != nil {
		w.failures.Add(1)
		w.o.Logger.Error("changed TLS files cannot be used; what was read before stays", "err", err)
		return
	}
	w.loads.Add(1)
	w.warnAboutKey()
	w.current.Store(m)
	if m.cert != nil {
		w.o.Logger.Info("took changed TLS files", "certificate", w.files[certificate].file, "expires", m.cert.Leaf.NotAfter)
	}
}

// stat follows symbolic links, so that a link that leads elsewhere is a change.
func (w *watched) stat() (all [kinds]fs.FileInfo) {
	for i, s := range w.files {
		if s.file != "" {
			all[i], _ = os.Stat(s.file) // nil for one that is not there: read says why
		}
	}
	return all
}

func same(a, b [kinds]fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil:
			return false
		case !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() ||
			a[i].Mode() != b[i].Mode() || !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

// read makes the material of the files as they are.
func (w *watched) read() (*material, error) {
	var m material
	var errs [kinds]error
	if w.files[certificate].file != "" {
		m.cert, errs[certificate] = w.readPair()
	}
	m.servers, errs[serverCA] = readPool(w.files[serverCA])
	m.members, errs[memberCA] = readPool(w.files[memberCA])
	return &m, errors.Join(errs[:]...)
}

func (w *watched) readPair() (*tls.Certificate, error) {
	file := w.files[certificate].file
	pair, err := tls.LoadX509KeyPair(file, w.files[privateKey].file)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with private key %s: %w", file, w.files[privateKey].file, err)
	}
	now := w.o.Now()
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("the certificate in %s has expired on %s: nobody would believe it; replace it", file, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("the certificate in %s is valid from %s on only: wait, or set this machine's clock", file, day(leaf.NotBefore))
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return nil, fmt.Errorf("the certificate in %s names no host: want the host that others dial as a subject alternative name", file)
	}
	if err := w.o.Fits(pair.Leaf); err != nil {
		return nil, fmt.Errorf("the certificate in %s %w", file, err)
	}
	return &pair, nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// readPool reads authorities, nil for no file.
func readPool(s source) (*x509.CertPool, error) {
	if s.file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.what, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", s.what, s.file)
	}
	return pool, nil
}

// warnAboutKey says when every user of this machine can read the private key. It is no
// error: files that Kubernetes mounts are often like that, in a container of their own.
func (w *watched) warnAboutKey() {
	const others = 0o004
	if info := w.seen[privateKey]; info != nil && info.Mode().Perm()&others != 0 {
		w.o.Logger.Warn("everybody on this machine can read the private key", "file", w.files[privateKey].file, "mode", info.Mode().Perm().String(), "right", "0600")
	}
}

func (w *watched) figures() Figures {
	f := Figures{Loads: w.loads.Load(), Failures: w.failures.Load()}
	if m := w.current.Load(); m.cert != nil {
		f.Expires = m.cert.Leaf.NotAfter
	}
	return f
}
