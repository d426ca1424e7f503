package gateway

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/ring"
)

func TestWhoMayUseANodesOwnGateway(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7481}
	for name, c := range map[string]struct {
		environ        map[string]string
		url            string
		hosts, origins List
	}{
		"all on this machine": {
			nil, "ws://127.0.0.1:7481/v1/node/127.0.0.1:7401",
			List{"127.0.0.1:7481", "localhost:7481", "[::1]:7481"},
			List{
				"http://127.0.0.1:7481", "http://localhost:7481", "http://[::1]:7481",
				"http://localhost:7480", "http://127.0.0.1:7480", "http://[::1]:7480", // pages of the gateway
			},
		},
		"the gateway elsewhere on it": {
			map[string]string{"QUOIT_GATEWAY_ADDR": "127.0.0.1:80"},
			"ws://127.0.0.1:7481/v1/node/127.0.0.1:7401",
			List{"127.0.0.1:7481", "localhost:7481", "[::1]:7481"},
			List{"http://127.0.0.1:7481", "http://localhost:7481", "http://[::1]:7481", "http://localhost", "http://127.0.0.1", "http://[::1]"},
		},
		"a node behind TLS": {
			nil, "wss://N1.example.org:443/v1/node/10.0.0.1:7401",
			List{"n1.example.org", "localhost:7481", "127.0.0.1:7481", "[::1]:7481"},
			List{
				"http://n1.example.org", "https://n1.example.org", "http://localhost:7481", "https://localhost:7481", "http://127.0.0.1:7481",
				"https://127.0.0.1:7481", "http://[::1]:7481", "https://[::1]:7481", "http://localhost:7480", "https://localhost:7480",
				"http://127.0.0.1:7480", "https://127.0.0.1:7480", "http://[::1]:7480", "https://[::1]:7480",
			},
		},
		"the settings of its gateway": {
			map[string]string{"QUOIT_GATEWAY_HOSTS": "app.example.org"},
			"wss://n1.example.org:8443/1",
			List{"n1.example.org:8443", "app.example.org"},
			List{"http://n1.example.org:8443", "https://n1.example.org:8443", "http://app.example.org", "https://app.example.org"},
		},
		"a list of origins": {
			map[string]string{"QUOIT_GATEWAY_HOSTS": "app.example.org", "QUOIT_GATEWAY_ORIGINS": "https://shop.example.org"},
			"wss://n1.example.org/1",
			List{"n1.example.org", "app.example.org"},
			List{"https://shop.example.org"},
		},
	} {
		base, err := LoadConfig(c.environ)
		if err != nil {
			t.Fatal(err)
		}
		got := base.ForNode(Own{Address: "10.0.0.1:7401", Dial: "127.0.0.1:7401", URL: c.url, At: at})
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(got.Hosts, c.hosts) || !slices.Equal(got.Origins, c.origins) {
			t.Errorf("%s:\nhosts   %v\norigins %v", name, got.Hosts, got.Origins)
		}
		if got.hasDoor() || got.AdminAddr != "off" || got.Console != ConsoleOff {
			t.Errorf("%s: it has more than it should: %+v", name, got)
		}
	}
}

// ownOf starts a gateway for one node of a cluster alone.
func ownOf(t *testing.T, c *local.Cluster, address string, o options) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	then := o.config
	o.config = func(c *Config) {
		if then != nil {
			then(c)
		}
		*c = c.ForNode(Own{Address: address, Dial: address, URL: "ws://" + l.Addr().String() + "/v1/node/" + address, At: l.Addr()})
	}
	o.seams = func(s *Seams) { s.Listener, s.Assets = l, files() }
	return start(t, c.Manager(), o).ready()
}

// TestANodesOwnGatewayLeadsToItAlone: to no other node, and to whoever may see it.
func TestANodesOwnGatewayLeadsToItAlone(t *testing.T) {
	cluster := startCluster(t, 2)
	here, there := cluster.Addresses()[0], cluster.Addresses()[1]
	g := ownOf(t, cluster, here, options{config: func(c *Config) { c.Addr = "127.0.0.1:7480" }})
	if got := g.channel(here).do("PING"); got != "+PONG" {
		t.Errorf("the node: %s", got)
	}
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"its page":                   {g.handshake("/v1/node/" + here), 101},
		"a page of the gateway":      {g.handshake("/v1/node/"+here, "Origin", "http://localhost:7480"), 101},
		"the topology":               {g.handshake("/v1/cluster", "Origin", "http://127.0.0.1:7480"), 101},
		"the other node":             {g.handshake("/v1/node/" + there), 404},
		"the manager":                {g.handshake("/v1/node/" + cluster.Manager()), 404},
		"another site":               {g.handshake("/v1/node/"+here, "Origin", "https://evil.example"), 403},
		"a page of another port":     {g.handshake("/v1/node/"+here, "Origin", "http://localhost:7482"), 403},
		"a rebound name":             {g.handshake("/v1/node/"+here, "Host", "evil.example"), 403},
		"the status, for the page":   {"GET /v1/status HTTP/1.1\nHost: " + g.Addr() + "\n\n", 404},
		"the page, which is not its": {"GET / HTTP/1.1\nHost: " + g.Addr() + "\n\n", 404},
	} {
		if status, _, body := g.get(c.request); status != c.want {
			t.Errorf("%s: %d, want %d\n%s", name, status, c.want, body)
		}
	}
	if g.RedisAddr() != "" {
		t.Error("it has a Redis door")
	}
	if got := g.channel(here).do("MIGRATE_RANGE", "0", "1", "127.0.0.1:1", "m"); !strings.HasPrefix(got, "-NOPERM") {
		t.Errorf("between members: %s", got)
	}
}

func TestThePolicyNamesWhatNodesPublish(t *testing.T) {
	node := func(urls ...string) ring.Node {
		n := ring.Node{Address: "127.0.0.1:1", Tokens: 1}
		for _, u := range urls {
			n.Endpoints = append(n.Endpoints, ring.Endpoint{Kind: "ws", URL: u})
		}
		return n
	}
	for name, c := range map[string]struct {
		nodes []ring.Node
		want  string
	}{
		"none":                  {nil, "'self'"},
		"two":                   {[]ring.Node{node("ws://127.0.0.1:7481/v1/node/127.0.0.1:7401"), node("wss://n2.example.org/2")}, "'self' ws://127.0.0.1:7481/v1/node/127.0.0.1:7401 wss://n2.example.org/2"},
		"the same":              {[]ring.Node{node("wss://n.example.org/"), node("wss://n.example.org/")}, "'self' wss://n.example.org/"},
		"another kind":          {[]ring.Node{{Endpoints: []ring.Endpoint{{Kind: "tcp", URL: "ws://a/"}}}}, "'self'"},
		"what pages cannot":     {[]ring.Node{node("https://n.example.org/"), node("ws://[fd00::1]:7481/"), node("ws://"), node("nonsense"), node("ws://*/")}, "'self'"},
		"a rule in the path":    {[]ring.Node{node("ws://a/x;script-src", "ws://b/x,y", "ws://c/'unsafe-inline'")}, "'self' ws://a ws://b ws://c"},
		"a rule in the host":    {[]ring.Node{node("ws://a;script-src/", "ws://a'b/", "ws://user@a/", "ws://a,b/")}, "'self' ws://a/"},
		"escaped in the path":   {[]ring.Node{node("ws://a/%5Bfd00::1%5D:1", "ws://b/%3Bx")}, "'self' ws://a/%5Bfd00::1%5D:1 ws://b/%3Bx"},
		"a query is left out":   {[]ring.Node{node("ws://a/x?y=1;z")}, "'self' ws://a/x"},
		"and so is a fragment":  {[]ring.Node{node("ws://a/x#y;z")}, "'self' ws://a/x"},
		"upper case":            {[]ring.Node{node("WS://A.example/x")}, "'self' ws://A.example/x"},
		"a port that is no one": {[]ring.Node{node("ws://a:x/")}, "'self'"},
	} {
		_, rest, _ := strings.Cut(policyFor(c.nodes), "connect-src ")
		if got, _, _ := strings.Cut(rest, ";"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	var many []ring.Node
	for i := range ring.MaxNodes {
		many = append(many, node("wss://"+strings.Repeat("x", 100)+string(rune('a'+i%26))+strings.Repeat("y", i/26)+".example.org/"))
	}
	if got := policyFor(many); len(got) > policyBytes+1000 || !strings.HasSuffix(got, policyEnd) {
		t.Errorf("with %d nodes it has %d bytes", len(many), len(got))
	}
}

// TestPagesLearnOfNewEndpoints: the policy of a page is that of the topology when it is served.
func TestPagesLearnOfNewEndpoints(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{seams: func(s *Seams) { s.Assets = files() }})
	policy := func() string {
		_, h, _ := g.get("GET / HTTP/1.1\nHost: " + g.Addr() + "\n\n")
		return h.Get("Content-Security-Policy")
	}
	if got := policy(); got != policyFor(nil) {
		t.Errorf("before there is a topology: %s", got)
	}
	nodes := []ring.Node{{Address: "127.0.0.1:1", Endpoints: []ring.Endpoint{{Kind: "ws", URL: "wss://n.example.org/1"}}}}
	g.source.view.Store(&view{policy: policyFor(nodes), next: make(chan struct{})})
	if got := policy(); !strings.Contains(got, "connect-src 'self' wss://n.example.org/1;") {
		t.Errorf("with one: %s", got)
	}
}

// TestAGatewayThatKnowsNoClusterYet says so, and a node's own leads to its node all the same.
func TestAGatewayThatKnowsNoClusterYet(t *testing.T) {
	node, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	address := node.Addr().String()
	g := start(t, "127.0.0.1:1", options{})
	if status, h, body := g.get(g.handshake("/v1/node/" + address)); status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, "does not know the cluster yet") {
		t.Errorf("any: %d %s", status, body)
	}
	own := start(t, "127.0.0.1:1", options{config: func(c *Config) {
		*c = c.ForNode(Own{Address: address, Dial: address, URL: "ws://127.0.0.1/", At: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	}})
	if status, _, body := own.get(own.handshake("/v1/node/"+address, "Host", "localhost", "Origin", "")); status != 101 {
		t.Errorf("its own: %d %s", status, body)
	}
}

// TestANodesOwnGatewayDrains: with the code that says to go elsewhere.
func TestANodesOwnGatewayDrains(t *testing.T) {
	cluster := startCluster(t, 1)
	g := ownOf(t, cluster, cluster.Addresses()[0], options{})
	p := g.channel(cluster.Addresses()[0])
	p.do("PING")
	done := make(chan error, 1)
	go func() { done <- g.Shutdown(t.Context()) }()
	if got := p.reply(); got != "closed 4000" || CloseDraining != websocket.StatusCode(4000) {
		t.Errorf("the page hears %s", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestANodesOwnGatewayNeedsNoToken: a node that asks for tokens starts with the keys
// alone, and what else is wrong with the settings is still said.
func TestANodesOwnGatewayNeedsNoToken(t *testing.T) {
	keys := map[string]string{"QUOIT_TOKEN_KEYS_FILE": "keys.json"}
	if c, err := LoadConfigForNode(keys); err != nil || c.KeysFile != "keys.json" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := LoadConfig(keys); err == nil {
		t.Error("a gateway for all nodes has no token to learn the topology with")
	}
	if _, err := LoadConfigForNode(map[string]string{"QUOIT_GATEWAY_HOSTS": "*"}); err == nil || !strings.Contains(err.Error(), "QUOIT_GATEWAY_HOSTS") {
		t.Errorf("error %v", err)
	}
}
