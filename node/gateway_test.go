package node

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/ring"
)

// fakeGateway is a gateway as its node sees it.
type fakeGateway struct {
	host   GatewayHost
	broken chan error // what Wait returns

	mu  sync.Mutex
	did []string // guarded by mu
}

func (g *fakeGateway) note(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.did = append(g.did, what)
}

func (g *fakeGateway) Wait(ctx context.Context) error {
	select {
	case err := <-g.broken:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Shutdown asks the node for a sign of life, the first time: pages are still to be
// answered then.
func (g *fakeGateway) Shutdown(context.Context) error {
	if again := g.host.Listener.Close(); again != nil {
		return nil //nolint:nilerr // that is no error
	}
	nc, err := net.Dial("tcp", g.host.Dial)
	if err != nil {
		return err
	}
	g.note("down, beside the node")
	return nc.Close()
}

func (g *fakeGateway) WriteMetrics(w io.Writer) { _, _ = io.WriteString(w, "quoit_gateway_ready 1\n") }

// withGateway gives a node one, at a URL if it has one.
func withGateway(g *fakeGateway, url string) func(*Config, *Seams) {
	return func(c *Config, s *Seams) {
		c.GatewayAddr, c.GatewayURL = "127.0.0.1:0", url
		s.NewGateway = func(_ context.Context, h GatewayHost) (Gateway, error) {
			g.host = h
			return g, nil
		}
	}
}

func (c *testCluster) endpoints(address string) []ring.Endpoint {
	c.t.Helper()
	d, _, err := c.documents.Load(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	m, _ := d.Member(address)
	return m.Endpoints
}

// TestANodePublishesItsGateway: in the document, so in the topology; and when it
// changes at a restart clients learn of it by the epoch.
func TestANodePublishesItsGateway(t *testing.T) {
	c := newTestCluster(t)
	first := &fakeGateway{}
	n := c.serving(withGateway(first, ""))
	want := "ws://" + first.host.Listener.Addr().String() + "/v1/node/" + n.Address()
	if first.host.URL != want || first.host.Address != n.Address() || first.host.Dial != n.Addr().String() || first.host.Manager != c.manager.addr() {
		t.Errorf("the gateway is told %+v, want %s", first.host, want)
	}
	if got := c.endpoints(n.Address()); !slices.Equal(got, []ring.Endpoint{{Kind: "ws", URL: want}}) {
		t.Errorf("published is %v", got)
	}
	before := n.state.view().topology
	if len(before.Nodes) != 1 || len(before.Nodes[0].Endpoints) != 1 {
		t.Errorf("its topology is %+v", before)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(first.did) == 0 || first.did[0] != "down, beside the node" {
		t.Errorf("the gateway went %q", first.did)
	}

	n = c.mustStart(withGateway(&fakeGateway{}, "wss://node-1.example.org/one"))
	c.ready(n)
	if got := c.endpoints(n.Address()); !slices.Equal(got, []ring.Endpoint{{Kind: "ws", URL: "wss://node-1.example.org/one"}}) {
		t.Errorf("after a restart elsewhere published is %v", got)
	}
	if after := n.state.view().topology; after.Epoch <= before.Epoch {
		t.Errorf("epoch %d, then %d: clients would not learn of it", before.Epoch, after.Epoch)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	n = c.mustStart(nil)
	c.ready(n)
	if got := c.endpoints(n.Address()); len(got) != 0 {
		t.Errorf("without a gateway published is %v", got)
	}
}

// TestANodeServesOnWithoutItsGateway: browsers have others, and keys have this node only.
func TestANodeServesOnWithoutItsGateway(t *testing.T) {
	c := newTestCluster(t)
	g := &fakeGateway{broken: make(chan error)}
	n := c.serving(withGateway(g, ""))
	g.broken <- errors.New("the listener is gone")
	waitFor(t, "it to be logged", func() bool { return strings.Contains(c.logs.String(), "the listener is gone") })
	if err := n.Ready(); err != nil {
		t.Errorf("the node is %v", err)
	}
	var metrics strings.Builder
	n.writeMetrics(&metrics)
	if !strings.Contains(metrics.String(), "quoit_gateway_ready 1") {
		t.Error("the gateway's figures are missing")
	}
}

func TestAGatewayThatCannotBe(t *testing.T) {
	c := newTestCluster(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, change := range map[string]struct {
		how  func(*Config, *Seams)
		want string
	}{
		"none in the program": {func(c *Config, _ *Seams) { c.GatewayAddr = "127.0.0.1:0" }, "no gateway in it"},
		"its port is taken": {func(c *Config, s *Seams) {
			withGateway(&fakeGateway{}, "")(c, s)
			c.GatewayAddr = taken.Addr().String()
		}, "QUOIT_NODE_GATEWAY_ADDR"},
		"it refuses": {func(c *Config, s *Seams) {
			c.GatewayAddr = "127.0.0.1:0"
			s.NewGateway = func(context.Context, GatewayHost) (Gateway, error) { return nil, errors.New("no wish to") }
		}, "the node's gateway: no wish to"},
		"nobody would reach it": {func(c *Config, s *Seams) {
			withGateway(&fakeGateway{}, "")(c, s)
			c.Advertise = "10.0.0.1:7401"
		}, "QUOIT_NODE_GATEWAY_URL"},
	} {
		_, err := c.start(func(c *Config, s *Seams) {
			c.DataDir = "/" + strings.ReplaceAll(name, " ", "-") // whoever fails may have left its name in it
			change.how(c, s)
		})
		if err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v, want %q", name, err, change.want)
		}
	}
}

func TestWhatIsPublished(t *testing.T) {
	at := func(address string) net.Addr {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return tcp
	}
	for _, c := range []struct{ setting, address, listening, want string }{
		{"TLS", "127.0.0.1:7401", "127.0.0.1:7481", "wss://127.0.0.1:7481/v1/node/127.0.0.1:7401"},
		{"TLS wss://n1.example.org", "10.0.0.1:7401", "127.0.0.1:7481", "wss://n1.example.org/v1/node/10.0.0.1:7401"},
		{"", "127.0.0.1:7401", "127.0.0.1:7481", "ws://127.0.0.1:7481/v1/node/127.0.0.1:7401"},
		{"", "node-1.internal:7401", "0.0.0.0:7481", "ws://node-1.internal:7481/v1/node/node-1.internal:7401"},
		{"", "[fd00::1]:7401", "[::]:7481", "ws://[fd00::1]:7481/v1/node/%5Bfd00::1%5D:7401"},
		{"wss://n1.example.org", "10.0.0.1:7401", "127.0.0.1:7481", "wss://n1.example.org/v1/node/10.0.0.1:7401"},
		{"wss://n1.example.org:8443/", "10.0.0.1:7401", "127.0.0.1:7481", "wss://n1.example.org:8443/v1/node/10.0.0.1:7401"},
		{"wss://example.org/quoit/1", "10.0.0.1:7401", "127.0.0.1:7481", "wss://example.org/quoit/1"},
	} {
		setting, overTLS := strings.CutPrefix(c.setting, "TLS")
		config := Config{GatewayURL: strings.TrimSpace(setting)}
		if got, err := config.gatewayURL(c.address, at(c.listening), overTLS); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	long := Config{GatewayURL: "wss://" + strings.Repeat("x", 1000) + ".org"}
	if _, err := long.gatewayURL("10.0.0.1:7401", at("127.0.0.1:7481"), false); err == nil || !strings.Contains(err.Error(), "QUOIT_NODE_GATEWAY_URL") {
		t.Errorf("too long with the path: %v", err)
	}
	plain := Config{GatewayURL: "ws://n1.example.org"}
	if _, err := plain.gatewayURL("10.0.0.1:7401", at("127.0.0.1:7481"), true); err == nil || !strings.Contains(err.Error(), "want a wss:// URL") {
		t.Errorf("published without TLS where the gateway speaks it: %v", err)
	}
	for listening, want := range map[string]string{"127.0.0.1:7401": "127.0.0.1:7401", "0.0.0.0:7401": "127.0.0.1:7401", "[::]:7401": "127.0.0.1:7401", "10.0.0.1:1": "10.0.0.1:1"} {
		if got := dialled(at(listening)); got != want {
			t.Errorf("what listens at %s is dialled at %s", listening, got)
		}
	}
}

// TestAnEndpointOfANodeThatIsNotInTheRing: it waits to be let in, and is published then.
func TestAnEndpointOfANodeThatIsNotInTheRing(t *testing.T) {
	c := newTestCluster(t)
	c.form()
	c.other("127.0.0.1:9999")
	n := c.mustStart(withGateway(&fakeGateway{}, "wss://n.example.org/x"))
	c.ready(n)
	if got := c.endpoints(n.Address()); len(got) != 1 {
		t.Errorf("the document has %v", got)
	}
	d := c.join(n.Address())
	c.follow(n, d)
	for _, member := range n.state.view().topology.Nodes {
		if member.Address == n.Address() && len(member.Endpoints) != 1 {
			t.Errorf("the topology has %+v", member)
		}
	}
	if m, _ := d.Member(n.Address()); m.State != cluster.Active {
		t.Errorf("it is %s", m.State)
	}
}
