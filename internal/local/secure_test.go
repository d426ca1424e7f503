package local

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/protocol"
)

// fortress is a cluster with everything on: a secret, TLS, tokens.
type fortress struct {
	*Cluster
	t       *testing.T
	ca      *tlstest.Authority
	knows   *tlsconf.Client // what clients need
	key     auth.Key        // that tokens are signed with
	token   string          // may do everything that a token can
	node    node.Config
	manager manager.Config
}

const fortressSecret = "what only members of this cluster know"

func newFortress(t *testing.T, nodes int) *fortress {
	t.Helper()
	f := prepareFortress(t)
	f.Cluster = start(t, Options{Dir: t.TempDir(), Nodes: nodes, Port: -1, Node: &f.node, Manager: &f.manager})
	return f
}

// prepareFortress makes everything but the cluster.
func prepareFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{t: t, ca: tlstest.NewAuthority(t), node: node.DefaultConfig(), manager: manager.DefaultConfig()}
	key, err := auth.NewKey(auth.EdDSA, "k1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := auth.FormatKeys([]auth.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f.key = key
	f.token = f.issue("t-1", auth.ClusterOperate, auth.PrefixScope("", auth.WriteAccess))
	f.node.Auth = auth.Config{ClusterSecret: config.NewSecret(fortressSecret), TokenKeysFile: file}
	f.node.TLS = f.ca.Config(false)
	f.manager.Auth, f.manager.TLS = f.node.Auth, f.ca.Config(false)
	if err := f.node.Log.Fsync.UnmarshalText([]byte("never")); err != nil { // durability is tested elsewhere
		t.Fatal(err)
	}
	f.node.Tokens, f.manager.MovesPerNode = 16, 8 // few ranges move fast
	f.node.Times.Poll, f.manager.Poll = 50*time.Millisecond, 50*time.Millisecond
	f.node.Times.Handshake, f.manager.Handshake = patience, patience // a test may be slow to authenticate
	f.manager.NodeTimeout = time.Hour                                // a node that is down for a moment is still sent its ranges
	if f.knows, err = tlsconf.NewClient(tlsconf.Config{TLSCA: f.ca.File}, tlsconf.Options{}); err != nil {
		t.Fatal(err)
	}
	return f
}

// issue makes a token that is good for an hour.
func (f *fortress) issue(id string, cluster auth.ClusterAccess, scopes ...auth.Scope) string {
	f.t.Helper()
	token, err := auth.Sign(f.key, auth.Claims{Subject: "test", ID: id, Expires: time.Now().Add(time.Hour), Cluster: cluster, Scopes: scopes})
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// open is a client with the token that may do everything.
func (f *fortress) open() *client.Client {
	f.t.Helper()
	return f.openWith(f.token)
}

func (f *fortress) openWith(token string) *client.Client {
	f.t.Helper()
	db, err := client.Open(within(f.t), f.Addresses(), client.WithTLS(f.knows.Config()),
		client.WithToken(func(context.Context) (string, error) { return token, nil }))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

// operate sends the manager an operator's command.
func (f *fortress) operate(words ...string) protocol.Reply {
	f.t.Helper()
	conn, err := peer.Dial(within(f.t), f.knows.Dial, f.Manager(), time.Minute)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.DoStrings("AUTH", f.token); err != nil {
		f.t.Fatal(err)
	}
	reply, err := conn.DoStrings("CLUSTER", words...)
	if err != nil {
		f.t.Fatalf("CLUSTER %q: %v", words, err)
	}
	reply.Bytes = []byte(string(reply.Bytes))
	return reply
}

// owners are the nodes that own something.
func (f *fortress) owners(db *client.Client) string {
	f.t.Helper()
	if err := db.RefreshTopology(within(f.t)); err != nil {
		f.t.Fatal(err)
	}
	t := db.Topology()
	m, err := t.Map()
	if err != nil {
		f.t.Fatal(err)
	}
	var all []string
	for _, n := range t.Nodes {
		if len(m.ArcsOf(n.Address)) > 0 {
			all = append(all, n.Address)
		}
	}
	return strings.Join(all, " ")
}

// squatter listens on an address of the cluster, with a certificate that is good for it,
// and writes down what it is told.
type squatter struct {
	l      net.Listener
	all    sync.WaitGroup
	mu     sync.Mutex
	heard  []string // guarded by mu
	events chan struct{}
}

func squat(t *testing.T, address string, ca *tlstest.Authority) *squatter {
	t.Helper()
	s, err := tlsconf.NewServer(ca.Config(false), tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	q := &squatter{l: s.Listener(plain), events: make(chan struct{}, 1000)}
	q.all.Go(func() {
		for {
			nc, err := q.l.Accept()
			if err != nil {
				return
			}
			q.all.Go(func() { q.answer(nc) })
		}
	})
	return q
}

// answer says what a member would, as far as one can without the secret.
func (q *squatter) answer(nc net.Conn) {
	defer tlsconf.Cut(nc)
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	lines := bufio.NewScanner(nc)
	for lines.Scan() {
		switch word := lines.Text(); word {
		case "CHALLENGE", "PROVE", "STAGE_RANGE", "MIGRATE_RANGE", "REFRESH":
			q.mu.Lock()
			q.heard = append(q.heard, word)
			q.mu.Unlock()
			q.events <- struct{}{}
			var made [protocol.ProofSize]byte
			_, _ = nc.Write(protocol.AppendProof(nil, made))
		}
	}
}

func (q *squatter) end() string {
	_ = q.l.Close()
	q.all.Wait()
	return strings.Join(q.heard, " ")
}

// TestAClusterWithEverythingOn: nodes join, clients work, ranges move, and whoever squats on
// the address of a node that is away is sent nothing, until that node is back.
func TestAClusterWithEverythingOn(t *testing.T) {
	f := newFortress(t, 2)
	db := f.open()
	const keys = 500
	fill(t, db, keys)
	if _, err := f.AddNode(within(t), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the third node to own something", func() bool { return len(strings.Fields(f.owners(db))) == 3 })
	verify(t, db, keys)

	addresses := f.Addresses()
	stays, leaves, away := addresses[0], addresses[1], addresses[2]
	f.operate("REMOVE", stays) // so that two are left, of which one is away
	waitFor(t, "the first node to own nothing", func() bool { return !strings.Contains(f.owners(db), stays) })
	verify(t, db, keys)

	var gone *node.Node
	for _, n := range f.Nodes() {
		if n.Address() == away {
			gone = n
		}
	}
	if err := gone.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	q := squat(t, away, f.ca)
	f.operate("REMOVE", leaves)
	for range 6 { // two tries, each with a challenge and a proof, and some of the manager's
		select {
		case <-q.events:
		case <-within(t).Done():
			t.Fatal("nobody dials the node that is away")
		}
	}
	if heard := q.end(); strings.Contains(heard, "STAGE") || strings.Contains(heard, "MIGRATE") || strings.Contains(heard, "REFRESH") {
		t.Errorf("the squatter was told %s", heard)
	}
	if _, err := f.AddNode(within(t), away); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "everything to be at the node that is back", func() bool { return f.owners(db) == away })
	verify(t, db, keys)
}

// TestForeignMembersOfACluster: a node with another secret has no place in it, a manager
// with another secret moves nothing, and a certificate of the cluster's authority alone
// is none of a member.
func TestForeignMembersOfACluster(t *testing.T) {
	f := newFortress(t, 1)
	db := f.open()
	c := f.node
	c.Auth.ClusterSecret = config.NewSecret(strings.Repeat("another ", 8))
	c.Addr, c.AdminAddr, c.DataDir = "127.0.0.1:0", "off", t.TempDir()
	c.ManagerAddr, c.Bucket = f.Manager(), f.options.bucketURL()
	rogue, err := node.Start(within(t), c, node.Seams{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rogue.Shutdown(context.Background()) }()
	waitFor(t, "the rogue to be refused", func() bool {
		err := rogue.Ready()
		return err != nil && strings.Contains(err.Error(), "QUOIT_CLUSTER_SECRET")
	})
	if status := string(f.operate("STATUS").Bytes); strings.Contains(status, rogue.Address()) {
		t.Errorf("the rogue has a place: %s", status)
	}
	if got := f.owners(db); got != f.Addresses()[0] {
		t.Errorf("owners: %s", got)
	}

	victim := f.Addresses()[0]
	for name, o := range map[string]auth.MemberOptions{
		"another secret": {TLS: f.knows, Secret: strings.Repeat("another ", 8), Role: auth.RoleManager, Name: "manager"},
		"no TLS":         {Secret: fortressSecret, Role: auth.RoleManager, Name: "manager"},
	} {
		if _, err := auth.MemberDialer(o)(within(t), victim); !errors.Is(err, auth.ErrProof) {
			t.Errorf("a manager with %s: %v", name, err)
		}
	}
	mine := tlstest.Files(t, f.ca.Issue(tlstest.Role("quoit://manager")))
	mine.TLSCA = f.ca.File
	shown, err := tlsconf.NewClient(mine, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := peer.Dial(within(t), shown.Dial, victim, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var refused *protocol.Error
	if _, err := conn.DoStrings("MIGRATE_RANGE", "1", "2", victim, "m-1"); !errors.As(err, &refused) || refused.Code != protocol.NOAUTH {
		t.Errorf("a certificate where the secret is what counts: %v", err)
	}
}
