package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// insider is a member that is dialled, and that dials others, with its secrets in a file.
type insider struct {
	t    *testing.T
	file string
	now  time.Time
	*server
	logs  bytes.Buffer
	trust *Trust
	other *insider
}

func newInsider(t *testing.T, role Role, name, secrets string) *insider {
	t.Helper()
	in := &insider{t: t, file: filepath.Join(t.TempDir(), "cluster-secret"), now: time.Now()}
	in.write(secrets)
	c := Config{TokenKeysFile: "keys.json"}
	if err := config.Load(&c, map[string]string{"QUOIT_CLUSTER_SECRET_FILE": in.file, "QUOIT_TOKEN_KEYS_FILE": "keys.json"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(false); err != nil {
		t.Fatal(err)
	}
	var err error
	in.trust, err = NewTrust(&c, tlsconf.Config{}, TrustOptions{
		Role: role, Name: name, Logger: slog.New(slog.NewTextHandler(&in.logs, nil)), Now: func() time.Time { return in.now },
		Dial: func(ctx context.Context, address string) (net.Conn, error) { return in.other.dial(ctx, address) },
	})
	if err != nil {
		t.Fatal(err)
	}
	in.server = &server{members: in.trust.Members}
	t.Cleanup(in.running.Wait)
	return in
}

// write gives it other secrets, and the time to notice.
func (in *insider) write(secrets string) {
	in.t.Helper()
	if err := os.WriteFile(in.file, []byte(secrets), 0o600); err != nil {
		in.t.Fatal(err)
	}
	in.now = in.now.Add(secretsEvery)
}

// proves says whether it and the other one prove themselves to each other, whoever dials.
func (in *insider) proves() error {
	for _, end := range []*insider{in, in.other} {
		nc, err := end.trust.Dial(in.t.Context(), nodeA)
		if err != nil {
			return err
		}
		_ = nc.Close()
	}
	return nil
}

// TestTheClusterSecretIsRotatedUnderRunningMembers, one of them after the other, and at every
// moment all of them prove themselves to all. At the end the old one is good for nothing.
func TestTheClusterSecretIsRotatedUnderRunningMembers(t *testing.T) {
	old, next := clusterSecret, otherSecret
	manager, node := newInsider(t, RoleManager, "manager", old), newInsider(t, RoleNode, nodeA, old)
	manager.other, node.other = node, manager
	for _, step := range []string{old + "\n" + next + "\n", next + "\r\n" + old, next + "\n\n"} {
		for _, member := range []*insider{node, manager} {
			member.write(step)
			if err := node.proves(); err != nil {
				t.Fatalf("%q: %v", step, err)
			}
		}
	}
	if _, err := member(t, asNode(node.server, old), "b:1"); !errors.Is(err, ErrProof) {
		t.Errorf("the old secret: %v", err)
	}
	if _, err := member(t, asNode(node.server, next), "b:1"); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if logs := node.logs.String(); strings.Count(logs, "others now") != 3 || strings.Contains(logs, old) || strings.Contains(logs, next) {
		t.Errorf("the log: %s", logs)
	}
}

// TestSecretsThatCannotBeReadChangeNothing: the ones from before stay, and the log says why
// once.
func TestSecretsThatCannotBeReadChangeNothing(t *testing.T) {
	node := newInsider(t, RoleNode, nodeA, clusterSecret)
	node.other = node
	for _, wrong := range []string{"", "short", otherSecret + "\nshort", strings.Repeat(otherSecret+"\n", maxSecrets+1)} {
		node.write(clusterSecret)
		if err := node.proves(); err != nil {
			t.Fatal(err)
		}
		node.logs.Reset()
		for range 3 {
			node.write(wrong)
			if err := node.proves(); err != nil {
				t.Errorf("%q: %v", wrong, err)
			}
		}
		if logs := node.logs.String(); strings.Count(logs, "stay in force (QUOIT_CLUSTER_SECRET_FILE)") != 1 || strings.Contains(logs, otherSecret) {
			t.Errorf("%q: the log: %s", wrong, logs)
		}
	}
}

// TestAProofBegunBeforeASecretWasTakenOut ends by the secrets of its beginning: a member is
// not refused in the middle of a proof.
func TestAProofBegunBeforeASecretWasTakenOut(t *testing.T) {
	node := newInsider(t, RoleNode, nodeA, clusterSecret)
	claimed, err := node.members.Challenge(nil, nil, protocol.Challenge{Role: []byte("node"), Name: []byte(nodeA)})
	if err != nil {
		t.Fatal(err)
	}
	node.write(otherSecret)
	if _, _, err := claimed.Prove(protocol.Prove{MAC: claimed.mac(clusterSecret, clientLabel)}); err != nil {
		t.Error(err)
	}
}

// TestTheFileWithTheSecretsIsFollowed: the log tells of it before anybody proves anything.
func TestTheFileWithTheSecretsIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newInsider(t, RoleNode, nodeA, clusterSecret)
		node.trust.secrets.now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			node.trust.Follow(ctx)
		}()
		node.write(otherSecret)
		<-time.After(2 * secretsEvery)
		synctest.Wait()
		if logs := node.logs.String(); !strings.Contains(logs, "others now") {
			t.Errorf("the log: %s", logs)
		}
		cancel()
		<-done
	})
}
