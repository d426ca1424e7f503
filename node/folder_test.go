package node

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/internal/vfs"
)

// TestNoLinkInTheDataFolderLeadsOutOfIt: whoever can write into the data folder
// cannot make the node write, cut or lock a file elsewhere.
func TestNoLinkInTheDataFolderLeadsOutOfIt(t *testing.T) {
	for _, name := range []string{lockName, identityName, logName, snapshotName} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			data, outside := filepath.Join(above, "data"), filepath.Join(above, "outside")
			for _, dir := range []string{data, outside} {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			target := outside
			if name == lockName || name == identityName {
				target = filepath.Join(outside, "file")
				if err := os.WriteFile(target, []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := newTestCluster(t)
			c.form()
			onDisk := func(cfg *Config, s *Seams) { cfg.DataDir, s.FS = data, vfs.OS() }
			if name == logName || name == snapshotName { // of a node that has worked there
				c.stop(c.mustStart(onDisk))
				if err := os.RemoveAll(filepath.Join(data, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(target, filepath.Join(data, name)); err != nil {
				t.Fatal(err)
			}
			n, err := c.start(onDisk)
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err = n.WaitReady(ctx)
			}
			if !errors.Is(err, vfs.ErrOutside) || !strings.Contains(err.Error(), filepath.Join(data, name)) || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("%v, want an error that names the link", err)
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) > 0 && target == outside || len(entries) > 1 {
				t.Errorf("outside holds %v, %v", entries, err)
			}
			if target == outside {
				return
			}
			if body, err := os.ReadFile(target); err != nil || string(body) != "mine" {
				t.Errorf("the file outside holds %q, %v", body, err)
			}
		})
	}
}

func TestTheDataFolderIsPrivate(t *testing.T) {
	data := filepath.Join(t.TempDir(), "deep", "data")
	c := newTestCluster(t)
	n := c.serving(func(cfg *Config, s *Seams) { cfg.DataDir, s.FS = data, vfs.OS() })
	client := dial(t, n.Address())
	if got := client.do("SET a 1"); got != "+OK" {
		t.Fatal(got)
	}
	waitFor(t, "a snapshot", func() bool { return !strings.HasPrefix(client.do("SNAPSHOT"), "-UNAVAILABLE ") }) // the node may not have claimed its place in the bucket yet
	seen := 0
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if seen++; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || seen < 8 {
		t.Errorf("%d files and folders, %v", seen, err)
	}
}

// TestAWrongSettingLeavesNothingBehind: what a node can be refused for by its settings alone
// is found before its data folder is made.
func TestAWrongSettingLeavesNothingBehind(t *testing.T) {
	secret := config.NewSecret(strings.Repeat("s", auth.MinClusterSecret))
	missing := filepath.Join(t.TempDir(), "missing")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config, *Seams)
		want   string
	}{
		"keys":        {func(c *Config, _ *Seams) { c.Auth = auth.Config{ClusterSecret: secret, TokenKeysFile: missing} }, "QUOIT_TOKEN_KEYS_FILE"},
		"no keys":     {func(c *Config, _ *Seams) { c.Auth.ClusterSecret = secret }, "QUOIT_TOKEN_KEYS_FILE"},
		"certificate": {func(c *Config, _ *Seams) { c.TLS = tlsconf.Config{TLSCert: missing, TLSKey: missing} }, missing},
		"somebody else's certificate": {func(c *Config, _ *Seams) {
			c.Auth = auth.Config{ClusterSecret: secret, TokenKeysFile: missing}
			c.TLS = tlstest.NewAuthority(t).Config(true, tlstest.Role("quoit://gateway"))
		}, "--role node"},
		"bucket":          {func(c *Config, s *Seams) { s.Bucket, c.Bucket = nil, "ftp://x" }, "QUOIT_BUCKET"},
		"bucket's folder": {func(c *Config, s *Seams) { s.Bucket, c.Bucket = nil, "file://"+filepath.Join(file, "bucket") }, file},
		"advertised":      {func(_ *Config, s *Seams) { s.Listener = everywhere(t) }, "QUOIT_NODE_ADVERTISE"},
		"gateway": {func(c *Config, s *Seams) {
			c.GatewayAddr = "127.0.0.1:0"
			s.NewGateway = func(context.Context, GatewayHost) (Gateway, error) { return nil, errors.New("no certificate") }
		}, "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			_, err := newTestCluster(t).start(func(cfg *Config, s *Seams) {
				cfg.DataDir, s.FS = data, vfs.OS()
				c.change(cfg, s)
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the data folder: %v", err)
			}
		})
	}
}

func everywhere(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
