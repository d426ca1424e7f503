package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// starts, naked and clear are how a server may come up; any other outcome is the variable
// that it refuses to start for.
const (
	starts = "starts"
	naked  = "starts, and warns that nobody is authenticated"
	clear_ = "starts, and warns that tokens pass in the clear"
)

// outcomes are those of a server behind a loopback address, and behind any other.
type outcomes struct{ here, anywhere string }

// beginning is a start that is tried: a server's listeners are on loopback in truth,
// whatever its settings say.
type beginning struct {
	t       *testing.T
	environ map[string]string
}

// TestSafeStart is the whole matrix: where a server listens, whether it authenticates
// anybody, and whether it speaks TLS, say whether it starts, with a warning or without, or
// which variable keeps it from it.
func TestSafeStart(t *testing.T) {
	t.Parallel()
	ca, keys := tlstest.NewAuthority(t), keysFile(t)
	authentication := map[string][]string{
		"none": {}, "open": {"QUOIT_ALLOW_UNAUTHENTICATED=true"},
		"secret": {"QUOIT_CLUSTER_SECRET=" + fortressSecret}, "keys": {"QUOIT_TOKEN_KEYS_FILE=" + keys},
		"both": {"QUOIT_CLUSTER_SECRET=" + fortressSecret, "QUOIT_TOKEN_KEYS_FILE=" + keys},
		// And of gateways:
		"token": {"QUOIT_TOKEN=gateway's"}, "keys and token": {"QUOIT_TOKEN_KEYS_FILE=" + keys, "QUOIT_TOKEN=gateway's"},
	}
	member := map[string]outcomes{
		"none, no TLS":          {starts, "ADDR"},
		"none, certificate":     {starts, "ADDR"},
		"none, members":         {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"open, no TLS":          {starts, naked},
		"open, certificate":     {starts, naked},
		"open, members":         {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"secret, no TLS":        {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"secret, certificate":   {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"secret, members":       {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"keys, no TLS":          {"QUOIT_CLUSTER_SECRET", "QUOIT_CLUSTER_SECRET"},
		"keys, certificate":     {"QUOIT_CLUSTER_SECRET", "QUOIT_CLUSTER_SECRET"},
		"keys, members":         {starts, starts},
		"keys, members but off": {"QUOIT_CLUSTER_SECRET", "QUOIT_CLUSTER_SECRET"},
		"keys, members alone":   {"QUOIT_TLS_CERT_FILE", "QUOIT_TLS_CERT_FILE"},
		"both, no TLS":          {starts, clear_},
		"both, certificate":     {starts, starts},
		"both, members":         {starts, starts},
		"both, members but off": {starts, clear_},
	}
	for _, server := range []struct {
		name, addr string // the variable
		more       []string
		begin      func(*beginning) (string, error)
		table      map[string]outcomes
	}{
		{"node", "QUOIT_NODE_ADDR", nil, (*beginning).node, member},
		{"a node's own gateway", "QUOIT_NODE_GATEWAY_ADDR", []string{"QUOIT_NODE_GATEWAY_URL=wss://node-1.example.org"}, (*beginning).node, map[string]outcomes{
			"none, no TLS": {starts, "ADDR"},
			"open, no TLS": {starts, starts}, // it has a log of its own, and it warns there
			"both, no TLS": {starts, starts},
		}},
		{"node's admin listener", "QUOIT_NODE_ADMIN_ADDR", nil, (*beginning).node, map[string]outcomes{"none, no TLS": {starts, starts}, "both, members": {starts, starts}}},
		{"manager", "QUOIT_MANAGER_ADDR", nil, (*beginning).manager, member},
		{"manager's admin listener", "QUOIT_MANAGER_ADMIN_ADDR", nil, (*beginning).manager, map[string]outcomes{"none, no TLS": {starts, starts}, "both, members": {starts, starts}}},
		{"gateway", "QUOIT_GATEWAY_ADDR", nil, (*beginning).gateway, doors()},
		{"gateway's Redis door", "QUOIT_GATEWAY_REDIS_ADDR", nil, (*beginning).gateway, doors()},
		{"gateway's admin listener", "QUOIT_GATEWAY_ADMIN_ADDR", nil, (*beginning).gateway, map[string]outcomes{"none, no TLS": {starts, starts}, "keys and token, members": {starts, starts}}},
	} {
		role := "quoit://" + strings.Fields(server.name)[0]
		if strings.Contains(server.name, "node") {
			role = "quoit://node"
		}
		mine := ca.Config(false, tlstest.Role(strings.TrimSuffix(role, "'s")))
		transport := map[string][]string{
			"no TLS":        {},
			"certificate":   {"QUOIT_TLS_CERT_FILE=" + mine.TLSCert, "QUOIT_TLS_KEY_FILE=" + mine.TLSKey, "QUOIT_TLS_CA_FILE=" + ca.File},
			"members alone": {"QUOIT_TLS_MEMBER_CA_FILE=" + ca.File},
			"public":        {"QUOIT_GATEWAY_TLS_CERT_FILE=" + mine.TLSCert, "QUOIT_GATEWAY_TLS_KEY_FILE=" + mine.TLSKey},
		}
		transport["members"] = append(transport["certificate"], transport["members alone"]...)
		transport["members but off"] = append(transport["members"], "QUOIT_TLS=off")
		for row, want := range server.table {
			how, over, _ := strings.Cut(row, ", ")
			common := setAll(map[string]string{}, authentication[how], transport[over], server.more)
			for addr, want := range map[string]string{
				"127.0.0.1:0": want.here, "[::1]:0": want.here, "localhost:0": want.here,
				"0.0.0.0:0": want.anywhere, "[::]:0": want.anywhere, ":0": want.anywhere, "host.example.org:0": want.anywhere, "10.9.8.7:0": want.anywhere,
			} {
				t.Run(server.name+", "+row+", "+addr, func(t *testing.T) {
					t.Parallel()
					b := &beginning{t: t, environ: maps.Clone(common)}
					b.environ[server.addr] = addr
					if want == "ADDR" {
						want = server.addr
					}
					logs, err := server.begin(b)
					b.judge(want, logs, err)
				})
			}
		}
	}
}

// doors is the matrix of a gateway's public side.
func doors() map[string]outcomes {
	return map[string]outcomes{
		"none, no TLS":                {starts, "ADDR"},
		"none, public":                {starts, "ADDR"},
		"none, members":               {starts, "ADDR"}, // it proves itself to others, and nobody to it
		"open, no TLS":                {starts, naked},
		"open, public":                {starts, naked},
		"secret, no TLS":              {starts, "ADDR"}, // none of its settings
		"keys, no TLS":                {"QUOIT_TOKEN", "QUOIT_TOKEN"},
		"keys, members":               {"QUOIT_TOKEN", "QUOIT_TOKEN"},
		"both, public":                {"QUOIT_TOKEN", "QUOIT_TOKEN"},
		"token, no TLS":               {"QUOIT_TOKEN_KEYS_FILE", "QUOIT_TOKEN_KEYS_FILE"},
		"keys and token, no TLS":      {starts, clear_},
		"keys and token, certificate": {starts, clear_}, // of the other side
		"keys and token, members":     {starts, clear_},
		"keys and token, public":      {starts, starts},
	}
}

func setAll(into map[string]string, lists ...[]string) map[string]string {
	for _, list := range lists {
		for _, one := range list {
			name, value, _ := strings.Cut(one, "=")
			into[name] = value
		}
	}
	return into
}

// judge compares how a server began with how it should have.
func (b *beginning) judge(want, logs string, err error) {
	b.t.Helper()
	warnings := map[string]int{naked: strings.Count(logs, "nobody is authenticated"), clear_: strings.Count(logs, "tokens pass in the clear")}
	switch want {
	case starts, naked, clear_:
		if err != nil {
			b.t.Fatalf("it refuses: %v", err)
		}
		for text, n := range warnings {
			if (n == 1) != (text == want) || n > 1 {
				b.t.Errorf("%q: %d times in the log\n%s", text, n, logs)
			}
		}
	default:
		named := func(line string) bool {
			return strings.HasPrefix(line, want+"=") || strings.Contains(line, want+" is not: ")
		}
		if err == nil || !slices.ContainsFunc(strings.Split(err.Error(), "\n"), named) {
			b.t.Errorf("%v; want a refusal that names %s", err, want)
		}
	}
}

// keysFile is a file with the public half of a key.
func keysFile(t *testing.T) string {
	t.Helper()
	key, err := auth.NewKey(auth.EdDSA, "k1")
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.Public()
	text, err := auth.FormatKeys([]auth.Key{public})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// listen is where the server listens instead of where its settings say.
func (b *beginning) listen() net.Listener {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = l.Close() }) // who has refused to start has not got it
	return l
}

func nowhere(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }

// log is a logger, and what it has written.
func log() (*slog.Logger, *logText) {
	text := &logText{}
	return slog.New(slog.NewTextHandler(text, nil)), text
}

type logText struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// node starts a node and ends it.
func (b *beginning) node() (string, error) {
	environ := setAll(b.environ, []string{"QUOIT_NODE_DATA=/node", "QUOIT_BUCKET=file:///unused"})
	c, err := node.LoadConfig(environ)
	if err != nil {
		return "", err
	}
	logger, text := log()
	n, err := node.Start(b.t.Context(), c, node.Seams{
		Listener: b.listen(), AdminListener: b.listen(), GatewayListener: b.listen(), Logger: logger,
		FS: vfs.NewMem(), Bucket: buckettest.NewMemory(), Dial: nowhere,
		NewGateway: func(context.Context, node.GatewayHost) (node.Gateway, error) { return noGateway{}, nil },
	})
	if err == nil {
		err = n.Shutdown(within(b.t))
	}
	return text.String(), err
}

// noGateway stands for a node's own.
type noGateway struct{}

func (noGateway) Wait(ctx context.Context) error { <-ctx.Done(); return nil }
func (noGateway) Shutdown(context.Context) error { return nil }
func (noGateway) WriteMetrics(io.Writer)         {}

// manager starts a manager and ends it.
func (b *beginning) manager() (string, error) {
	environ := setAll(b.environ, []string{"QUOIT_BUCKET=file:///unused"})
	c, err := manager.LoadConfig(environ)
	if err != nil {
		return "", err
	}
	logger, text := log()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	ready := false
	err = manager.Run(ctx, c, manager.Seams{
		Listener: b.listen(), AdminListener: b.listen(), Logger: logger, Bucket: buckettest.NewMemory(), Dial: nowhere,
		Ready: func(string) { ready = true; cancel() },
	})
	if err == nil && !ready {
		err = errors.New("the manager ended before it was ready")
	}
	return text.String(), err
}

// gateway starts a gateway and ends it.
func (b *beginning) gateway() (string, error) {
	for name, value := range map[string]string{"QUOIT_MANAGER_ADDR": "127.0.0.1:1", "QUOIT_GATEWAY_ADMIN_ADDR": "off"} {
		if b.environ[name] == "" {
			b.environ[name] = value
		}
	}
	c, err := gateway.LoadConfig(b.environ)
	if err != nil {
		return "", err
	}
	if c.AdminAddr != "off" {
		c.AdminAddr = "127.0.0.1:0" // it was taken, and has no seam
	}
	logger, text := log()
	g, err := gateway.Start(b.t.Context(), c, gateway.Seams{Listener: b.listen(), RedisListener: b.listen(), Logger: logger, Dial: nowhere})
	if err == nil {
		err = g.Shutdown(within(b.t))
	}
	return text.String(), err
}

// TestAServerShowsACertificateOfItsOwn: where certificates make members, each server is
// told at the start when it has somebody else's, and how it gets its own. A gateway with a
// node's would make a node of every page, so that is refused in any case.
func TestAServerShowsACertificateOfItsOwn(t *testing.T) {
	t.Parallel()
	ca, keys := tlstest.NewAuthority(t), keysFile(t)
	const address = "10.0.0.7:7401"
	begin := map[string]func(*beginning) (string, error){"node": (*beginning).node, "manager": (*beginning).manager, "gateway": (*beginning).gateway}
	for _, c := range []struct {
		server, shows string // "": no role
		members       bool
		want          []string // none: it starts
	}{
		{"node", "quoit://node", true, nil},
		{"node", "quoit://node/" + address, true, nil},
		{"node", "quoit://node/10.0.0.8:7401", true, []string{"is for quoit://node/10.0.0.8:7401", "this is the node " + address, "--role node --address " + address}},
		{"node", "quoit://gateway", true, []string{"is for quoit://gateway", "--role node --address " + address}},
		{"node", "quoit://manager", true, []string{"is for quoit://manager", "--role node"}},
		{"node", "", true, []string{"names no role", "--role node"}},
		{"node", "", false, nil},
		{"node", "quoit://manager", false, nil},
		{"manager", "quoit://manager", true, nil},
		{"manager", "quoit://node", true, []string{"is for quoit://node", "this is the manager", "--role manager"}},
		{"manager", "quoit://operator", true, []string{"is for quoit://operator", "--role manager"}},
		{"manager", "quoit://king", true, []string{`names "quoit://king"`, "--role manager"}},
		{"manager", "", true, []string{"names no role", "--role manager"}},
		{"gateway", "quoit://gateway", true, nil},
		{"gateway", "quoit://gateway", false, nil},
		{"gateway", "", false, nil},
		{"gateway", "", true, []string{"names no role", "--role gateway"}},
		{"gateway", "quoit://node", false, []string{"is for quoit://node", "this is a gateway", "quoit cert issue", "--role gateway"}},
		{"gateway", "quoit://manager", false, []string{"is for quoit://manager", "--role gateway"}},
		{"gateway", "quoit://operator", true, []string{"is for quoit://operator", "--role gateway"}},
	} {
		t.Run(fmt.Sprint(c.server, " with ", c.shows, ", members ", c.members), func(t *testing.T) {
			t.Parallel()
			var role []tlstest.Option
			if c.shows != "" {
				role = append(role, tlstest.Role(c.shows))
			}
			files := ca.Config(c.members, role...)
			b := &beginning{t: t, environ: setAll(map[string]string{}, []string{
				"QUOIT_TOKEN_KEYS_FILE=" + keys, "QUOIT_TLS_CERT_FILE=" + files.TLSCert, "QUOIT_TLS_KEY_FILE=" + files.TLSKey, "QUOIT_TLS_CA_FILE=" + files.TLSCA,
				"QUOIT_TLS_MEMBER_CA_FILE=" + files.TLSMemberCA,
			})}
			if c.server == "gateway" {
				b.environ["QUOIT_TOKEN"] = "gateway's"
			} else {
				b.environ["QUOIT_CLUSTER_SECRET"] = fortressSecret
			}
			if c.server == "node" {
				b.environ["QUOIT_NODE_ADVERTISE"] = address
			}
			_, err := begin[c.server](b)
			if (err == nil) != (len(c.want) == 0) {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), files.TLSCert) {
					t.Errorf("%v does not say %q, or of which file", err, want)
				}
			}
		})
	}
}

// TestAClusterWithWrongFilesMakesNoFolder: quoit up with keys or a certificate that are not
// there leaves nothing behind.
func TestAClusterWithWrongFilesMakesNoFolder(t *testing.T) {
	t.Parallel()
	missing, dir := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "cluster")
	keys, tls := manager.DefaultConfig(), manager.DefaultConfig()
	keys.Auth.TokenKeysFile = missing
	tls.TLS.TLSCert, tls.TLS.TLSKey = missing, missing
	for _, c := range []*manager.Config{&keys, &tls} {
		_, err := Start(within(t), Options{Dir: dir, Nodes: 1, Port: -1, Manager: c})
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder: %v", err)
		}
	}
}
