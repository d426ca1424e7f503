package main

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAClusterOverTLS is made of nothing but what these commands make: certificates with
// roles, keys, tokens, a secret.
func TestAClusterOverTLS(t *testing.T) {
	withoutTokens(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	managerAddr, nodeAddr := freeAddress(t), freeAddress(t)
	must(t, "cert", "ca", dir)
	must(t, "cert", "issue", dir, "manager", "--host", "127.0.0.1", "--role", "manager")
	must(t, "cert", "issue", dir, "node", "--host", "127.0.0.1,localhost", "--role", "node", "--address", nodeAddr)
	must(t, "token", "key", file("private.json"))
	must(t, "token", "public", file("private.json"), "--out", file("keys.json"))
	save(t, dir, "token", must(t, "token", "create", "--key", file("private.json"), "--sub", "test", "--ttl", "1h", "--write", "*", "--cluster", "operate"))
	save(t, dir, "secret", strings.Repeat("only members know ", 3))

	for name, value := range map[string]string{
		"QUOIT_BUCKET": (&url.URL{Scheme: "file", Path: file("bucket")}).String(), "QUOIT_MANAGER_ADDR": managerAddr, "QUOIT_MANAGER_ADMIN_ADDR": "off",
		"QUOIT_NODE_GATEWAY_ADDR": freeAddress(t), "QUOIT_GATEWAY_TLS_CERT_FILE": file("node.pem"), "QUOIT_GATEWAY_TLS_KEY_FILE": file("node.key"),
		"QUOIT_NODE_ADDR": nodeAddr, "QUOIT_NODE_DATA": file("data"), "QUOIT_NODE_ADMIN_ADDR": "off", "QUOIT_SERVERS": nodeAddr,
		"QUOIT_TOKEN_KEYS_FILE": file("keys.json"), "QUOIT_CLUSTER_SECRET_FILE": file("secret"),
		"QUOIT_TLS_CA_FILE": file("ca.pem"), "QUOIT_TLS_MEMBER_CA_FILE": file("ca.pem"),
	} {
		t.Setenv(name, value)
	}
	own := func(name string) {
		t.Setenv("QUOIT_TLS_CERT_FILE", file(name+".pem"))
		t.Setenv("QUOIT_TLS_KEY_FILE", file(name+".key"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	own("manager")
	_, log, managerEnded := background(ctx, nil, "manager")
	log.until(t, managerEnded, `"msg":"manager is ready"`)
	own("node")
	_, log, nodeEnded := background(ctx, nil, "node")
	log.until(t, nodeEnded, `"msg":"serving"`)

	// Tools have no certificate, and a token.
	for _, name := range []string{"QUOIT_TLS_CERT_FILE", "QUOIT_TLS_KEY_FILE", "QUOIT_TLS_MEMBER_CA_FILE", "QUOIT_CLUSTER_SECRET_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("QUOIT_TOKEN_FILE", file("token"))
	must(t, "put", "greeting", "hello")
	if got := must(t, "get", "greeting"); got != "hello" {
		t.Errorf("greeting holds %q", got)
	}
	mustSay(t, must(t, "cluster", "status", "--manager", managerAddr), nodeAddr, "also reached at", "wss://127.0.0.1:")
	nc, err := net.Dial("tcp", nodeAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = nc.Write([]byte("GET greeting\r\n"))
	if text, _ := io.ReadAll(nc); !strings.HasPrefix(string(text), "-NOPROTO this port speaks TLS alone") || strings.Count(string(text), "\n") != 1 {
		t.Errorf("a plain client is answered %q", text)
	}
	cancel()
	<-nodeEnded
	<-managerEnded
}

func TestCertificatesAreNotWrittenOverOthers(t *testing.T) {
	dir := t.TempDir()
	mustSay(t, must(t, "cert", "ca", dir, "--name", "Test", "--json"), `"key": "`)
	must(t, "cert", "issue", dir, "a", "--host", "a.example.org")
	for name, want := range map[string]os.FileMode{"ca.pem": 0o644, "ca.key": 0o600, "a.pem": 0o644, "a.key": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"ca", dir}, "there already"},
		{[]string{"issue", dir, "a", "--host", "a"}, "there already"},
		{[]string{"issue", dir, "b"}, "--host says"},
		{[]string{"issue", dir, "b", "--host", "a:1"}, "without a port"},
		{[]string{"issue", dir, "b", "--host", "a", "--role", "king"}, "want node, manager"},
		{[]string{"issue", dir, "b", "--host", "a", "--address", "a:1"}, "--address is for --role node"},
		{[]string{"issue", dir, "b", "--host", "a", "--role", "node", "--address", "a"}, "--address: "},
		{[]string{"issue", dir, "b", "--host", "a", "--days", "0"}, "1 or more"},
		{[]string{"issue", dir, "../b", "--host", "a"}, "no name for files"},
		{[]string{"issue", dir, "ca", "--host", "a"}, "no name for files"},
		{[]string{"issue", t.TempDir(), "b", "--host", "a"}, "quoit cert ca"},
	} {
		if got := quoit(t, append([]string{"cert"}, tt.args...)...); got.code == 0 || !strings.Contains(got.err, tt.want) {
			t.Errorf("%v: exit code %d, %s", tt.args, got.code, got.err)
		}
	}
}
