package integration

import (
	"context"
	"crypto/tls"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
)

// guarded is a cluster with everything on: TLS, tokens, a secret, a gateway with a token
// of its own and a Redis door; and all that anybody has got to see of it.
type guarded struct {
	*fleet
	tls                    tlsconf.Config
	secret, keys, token    string // the first two are files
	gatewayToken           string
	node, gateway          *process
	web, door              string
	seen                   strings.Builder
	adminManager, adminWeb string
}

func newGuarded(t *testing.T) *guarded {
	g := &guarded{fleet: newFleet(t, 1), tls: tlstest.NewAuthority(t).Config(false), web: freeAddress(t), door: freeAddress(t)}
	g.secret, g.keys, g.token = g.secrets()
	g.gatewayToken = strings.TrimSpace(g.run(0, nil, "token", "create", "--key", g.keys, "--sub", "gateway", "--cluster", "read"))
	g.seen.Reset() // a token is what it prints
	g.adminManager, g.adminWeb = freeAddress(t), freeAddress(t)
	env := []string{
		"QUOIT_CLUSTER_SECRET_FILE=" + g.secret, "QUOIT_TOKEN_KEYS_FILE=" + g.keys, "QUOIT_LOG_LEVEL=debug", "QUOIT_S3_ACCESS_KEY=quoit", "QUOIT_S3_SECRET_KEY=" + canaryBucket,
		"QUOIT_TLS_CERT_FILE=" + g.tls.TLSCert, "QUOIT_TLS_KEY_FILE=" + g.tls.TLSKey, "QUOIT_TLS_CA_FILE=" + g.tls.TLSCA,
	}
	g.manager.env = append(append(g.manager.env, env...), "QUOIT_MANAGER_ADMIN_ADDR="+g.adminManager)
	g.node = g.fleet.node()
	g.node.env = append(append(g.node.env, env...), "QUOIT_WAL_SEGMENT=1MiB")
	g.gateway = g.process("gateway", "QUOIT_GATEWAY_ADDR="+g.web, "QUOIT_GATEWAY_REDIS_ADDR="+g.door, "QUOIT_GATEWAY_ADMIN_ADDR="+g.adminWeb, "QUOIT_MANAGER_ADDR="+g.address,
		"QUOIT_TOKEN="+g.gatewayToken, "QUOIT_TOKEN_KEYS_FILE="+g.keys, "QUOIT_LOG_LEVEL=debug", "QUOIT_TLS_CA_FILE="+g.tls.TLSCA,
		"QUOIT_GATEWAY_TLS_CERT_FILE="+g.tls.TLSCert, "QUOIT_GATEWAY_TLS_KEY_FILE="+g.tls.TLSKey)
	for _, p := range []*process{g.manager, g.node, g.gateway} {
		p.start(t, "")
	}
	return g
}

// tool is the environment of somebody who has the token.
func (g *guarded) tool(token string) []string {
	return []string{"QUOIT_TOKEN=" + token, "QUOIT_TLS_CA_FILE=" + g.tls.TLSCA, "QUOIT_SERVERS=" + g.address, "QUOIT_MANAGER_ADDR=" + g.address}
}

// run runs a command, to be seen by everyone; code is how it is to end, -1 for either way.
func (g *guarded) run(code int, env []string, args ...string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); code >= 0 && got != code {
		g.t.Fatalf("quoit %q ended with %d (%v), want %d:\n%s", args, got, err, code, out)
	}
	g.seen.Write(out)
	return string(out)
}

// TestSecretsAreLeftNowhere: a cluster over TLS, a gateway with a token of its own, tools,
// and servers whose settings are wrong or whose bucket is away. Neither logs, output,
// pages nor command lines show a secret, and when all have ended none is in any file that
// they have left: data folders, bucket, logs.
func TestSecretsAreLeftNowhere(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	friend, stranger := g.tool(g.token), g.tool(g.token[:len(g.token)-4]+"AAAA")
	g.useTools(friend, stranger)
	g.useGateway()
	g.startWrongly()
	for _, p := range []*process{g.manager, g.node, g.gateway} {
		g.seen.WriteString(p.commandLine(t))
	}
	for _, admin := range []string{g.adminManager, g.adminWeb} {
		for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
			g.seen.WriteString(page(t, admin, path))
		}
	}
	for _, p := range []*process{g.gateway, g.node, g.manager} {
		p.stop()
	}
	g.lookAtFiles()
	if !strings.Contains(g.seen.String(), "a token was not taken") {
		t.Error("the logs do not tell of tokens that are wrong: have they been read?")
	}
	for what, canary := range g.canaries() {
		if at := strings.Index(g.seen.String(), canary); at >= 0 {
			t.Errorf("%s is to be seen: ...%q...", what, g.seen.String()[max(0, at-200):min(g.seen.Len(), at+100)])
		}
	}
}

// useTools does what people do, with a token that is good and one that is not.
func (g *guarded) useTools(friend, stranger []string) {
	g.wait("the cluster to serve", func() bool { return g.run(-1, friend, "put", "cart:1", "apples") == "" })
	for _, args := range [][]string{
		{"get", "cart:1"}, {"scan", "--json"}, {"cluster", "status", "--json"}, {"cluster", "topology", "--json"}, {"snapshot", "create"}, {"token", "inspect", "--keys", g.keys},
	} {
		g.run(0, friend, args...)
	}
	for _, args := range [][]string{
		{"get", "cart:1"}, {"cluster", "status"}, {"snapshot", "create"}, {"token", "inspect", "--keys", g.keys}, {"token", "public", g.keys}, {"cluster", "pause"},
	} {
		g.run(1, stranger, args...)
	}
	g.run(2, append(friend, "QUOIT_TOKEN_FILE="+g.secret), "get", "cart:1")
	g.run(1, []string{"QUOIT_TOKEN=" + g.token, "QUOIT_SERVERS=" + g.address}, "get", "cart:1", "--timeout", "2s") // no TLS
}

// useGateway asks by both of its doors, with tokens that are good, bad and missing.
func (g *guarded) useGateway() {
	believe, err := tlsconf.NewClient(tlsconf.Config{TLSCA: g.tls.TLSCA}, tlsconf.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: believe.Config(), DisableKeepAlives: true}, Timeout: patience}
	for bearer, want := range map[string]int{g.token: http.StatusOK, "canary-wrong": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		g.wait("the status page", func() bool {
			r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "https://"+g.web+"/v1/status", nil)
			if err != nil {
				g.t.Fatal(err)
			}
			if bearer != "" {
				r.Header.Set("Authorization", "Bearer "+bearer)
			}
			res, err := web.Do(r)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			g.seen.Write(body)
			return err == nil && res.StatusCode == want
		})
	}
	for _, lines := range []string{"AUTH " + g.token + "\r\nGET cart:1\r\nINFO\r\n", "AUTH canary-wrong\r\n", "HELLO 2 AUTH any canary-wrong\r\n", "GET cart:1\r\n"} {
		nc, err := believe.Dial(g.t.Context(), g.door)
		if err != nil {
			g.t.Fatal(err)
		}
		g.seen.WriteString(talk(nc, lines+"QUIT\r\n"))
	}
	// And those who know nothing of TLS, or of whom to believe.
	for _, address := range []string{g.address, g.node.name, g.door, g.web} {
		if nc, err := net.Dial("tcp", address); err == nil {
			g.seen.WriteString(talk(nc, "AUTH "+g.token+"\r\n"))
		}
		if nc, err := tls.Dial("tcp", address, &tls.Config{MinVersion: tls.VersionTLS13}); err == nil {
			g.t.Errorf("a certificate that nobody vouches for is believed at %s", address)
			_ = nc.Close()
		}
	}
}

// talk sends a text and returns all that comes back.
func talk(nc net.Conn, text string) string {
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(nc, text)
	all, _ := io.ReadAll(nc)
	return string(all)
}

// startWrongly starts servers that must not start, and says why. One of them has a bucket
// that is away, which it may wait for.
func (g *guarded) startWrongly() {
	bad := filepath.Join(g.dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"keys":[{"kty":"oct","kid":"`+canaryBucket+`","k":"`+canaryBucket+`"`), 0o600); err != nil {
		g.t.Fatal(err)
	}
	// An order of variables as Go has it: the last one with a name counts.
	base := []string{"QUOIT_MANAGER_ADDR=" + freeAddress(g.t), "QUOIT_MANAGER_ADMIN_ADDR=off", "QUOIT_BUCKET=file://" + filepath.Join(g.dir, "none"), "QUOIT_NODE_DATA=" + filepath.Join(g.dir, "none"), "QUOIT_NODE_ADDR=" + freeAddress(g.t)}
	for _, env := range [][]string{
		{"QUOIT_CLUSTER_SECRET=" + canarySecret, "QUOIT_CLUSTER_SECRET_FILE=" + g.secret, "QUOIT_TOKEN_KEYS_FILE=" + g.keys},
		{"QUOIT_CLUSTER_SECRET=" + canarySecret},
		{"QUOIT_CLUSTER_SECRET=canary-wrong", "QUOIT_TOKEN_KEYS_FILE=" + g.keys},
		{"QUOIT_CLUSTER_SECRET=" + canarySecret, "QUOIT_TOKEN_KEYS_FILE=" + bad},
		{"QUOIT_CLUSTER_SECRET=" + canarySecret, "QUOIT_TOKEN_KEYS_FILE=" + g.tls.TLSKey},
		{"QUOIT_CLUSTER_SECRET=" + canarySecret, "QUOIT_TOKEN_KEYS_FILE=" + g.keys, "QUOIT_TLS_CERT_FILE=" + g.secret, "QUOIT_TLS_KEY_FILE=" + g.tls.TLSKey},
		{"QUOIT_CLUSTER_SECRET=" + canarySecret, "QUOIT_TOKEN_KEYS_FILE=" + g.keys, "QUOIT_TLS_CERT_FILE=" + g.tls.TLSCert, "QUOIT_TLS_KEY_FILE=" + g.secret},
		{"QUOIT_BUCKET=s3://quoit:" + canaryBucket + "@bucket/prefix"},
		{"QUOIT_BUCKET=s3://bucket/prefix?secret_key=" + canaryBucket},
		{"QUOIT_BUCKET=s3://bucket", "QUOIT_S3_SECRET_KEY=" + canaryBucket},
	} {
		for _, server := range []string{"manager", "node"} {
			if out := g.run(-1, append(base[:len(base):len(base)], env...), server); out == "" {
				g.t.Errorf("quoit %s with %q ended and did not say why", server, env)
			}
		}
	}
	away := g.process("manager", append(base, "QUOIT_LOG_LEVEL=debug", "QUOIT_S3_ACCESS_KEY=quoit", "QUOIT_S3_SECRET_KEY="+canaryBucket, "QUOIT_CLUSTER_SECRET="+canarySecret, "QUOIT_TOKEN_KEYS_FILE="+g.keys)...)
	away.name, away.log = "away", filepath.Join(g.dir, "away.log")
	away.env = append(away.env, "QUOIT_BUCKET=s3://bucket?endpoint=http://"+freeAddress(g.t))
	away.start(g.t, "")
	g.wait("a word about the bucket", func() bool {
		log, err := os.ReadFile(away.log)
		return err == nil && strings.Contains(string(log), "bucket")
	})
	away.stop()
}

// lookAtFiles reads all that the servers have left: every file but those that the secrets
// were given in.
func (g *guarded) lookAtFiles() {
	given := map[string]bool{g.secret: true, g.keys: true, filepath.Join(g.dir, "bad.json"): true}
	files := 0
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || given[path] {
			return err
		}
		text, err := os.ReadFile(path)
		g.seen.WriteString(path + "\n" + string(text))
		files++
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	const least = 6 // three logs, the document, a segment of a log, an identity
	if files < least {
		g.t.Errorf("only %d files were left", files)
	}
}

// canaries are the secrets of this cluster, by what they are. A value is no secret from
// those who may read it.
func (g *guarded) canaries() map[string]string {
	all := canaries(g.token)
	delete(all, "a key")
	delete(all, "a value")
	all["the signature of the gateway's token"] = g.gatewayToken[strings.LastIndexByte(g.gatewayToken, '.')+1:]
	pem, err := os.ReadFile(g.tls.TLSKey)
	if err != nil {
		g.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(pem)), "\n")
	all["the private key of the certificate"] = lines[len(lines)/2]
	return all
}
