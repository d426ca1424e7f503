package main

import (
	"context"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsScript(t *testing.T) {
	withoutTokens(t)
	runScript(t, "secrets.txt", words(t, "127.0.0.1:1"))
}

// modesIn are the permissions of everything in a folder, itself included as ".".
func modesIn(t *testing.T, folder string) map[string]os.FileMode {
	t.Helper()
	all := map[string]os.FileMode{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		all[name] = info.Mode().Perm()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSecretsAreForWhoMadeThem(t *testing.T) {
	dir := t.TempDir()
	own, mounted := filepath.Join(dir, "own"), filepath.Join(dir, "mounted")
	if err := os.Mkdir(mounted, 0o755); err != nil { // it is closed to others
		t.Fatal(err)
	}
	must(t, "secrets", "create", own, "--bucket-keys", "--tls", "manager=10.0.0.5,gateway=localhost")
	must(t, "secrets", "create", mounted, "--mounted", "--bucket-keys", "--tls", "manager=10.0.0.5,gateway=localhost")
	const inFolders, always, never, whenMounted = 0, 1, 2, 3
	modes := map[string]int{
		".": inFolders, "tls": inFolders,
		"token-keys.json": always, "tls/ca.pem": always, "tls/manager.pem": always, "tls/gateway.pem": always,
		"signing-key.json": never, "operator-token": never, "tls/ca.key": never,
		"cluster-secret": whenMounted, "gateway-token": whenMounted, "bucket-access-key": whenMounted, "bucket-secret-key": whenMounted,
		"tls/manager.key": whenMounted, "tls/gateway.key": whenMounted,
	}
	for folder, want := range map[string][]os.FileMode{own: {0o700, 0o644, 0o600, 0o600}, mounted: {0o700, 0o644, 0o600, 0o644}} {
		got := modesIn(t, folder)
		for name, kind := range modes {
			if got[name] != want[kind] {
				t.Errorf("%s has %v, want %v", filepath.Join(folder, name), got[name], want[kind])
			}
		}
		if len(got) != len(modes) {
			t.Errorf("%s has %v", folder, got)
		}
	}
}

func TestNoTwoClustersHaveSecretsInCommon(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]string{}
	for _, name := range []string{"a", "b"} {
		folder := filepath.Join(dir, name)
		must(t, "secrets", "create", folder, "--bucket-keys", "--tls", "node-1=10.0.0.7")
		for file, mode := range modesIn(t, folder) {
			if mode == 0o700 {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil || len(text) < 20 {
				t.Errorf("%s/%s holds %d bytes, %v", name, file, len(text), err)
			}
			if other, twice := seen[string(text)]; twice {
				t.Errorf("%s/%s is %s", name, file, other)
			}
			seen[string(text)] = name + "/" + file
		}
	}
}

// TestSecretsThatCannotAllBeMadeAreNotMadeAtAll: half a set would look like a whole one.
func TestSecretsThatCannotAllBeMadeAreNotMadeAtAll(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "secrets")
	o := &secretsOrder{folder: folder}
	good := secretFile{Name: "cluster-secret", text: line("x")}
	err := o.write([]secretFile{good, {Name: filepath.Join("tls", "ca.pem"), text: line("x")}, good})
	if err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("left behind: %v, %v", modesIn(t, folder), err)
	}
}

// TestAClusterOfWhatOneCommandMade: manager, node and gateway have the files that are for
// them, and nothing else; a node has a gateway of its own.
func TestAClusterOfWhatOneCommandMade(t *testing.T) {
	withoutTokens(t)
	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets")
	in := func(name string) string { return filepath.Join(secrets, name) }
	must(t, "secrets", "create", secrets, "--tls", "manager=127.0.0.1,node-1=127.0.0.1,gateway=127.0.0.1")
	managerAddr, nodeAddr, web, door := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	for name, value := range map[string]string{
		"QUOIT_BUCKET": (&url.URL{Scheme: "file", Path: filepath.Join(dir, "bucket")}).String(), "QUOIT_MANAGER_ADDR": managerAddr, "QUOIT_MANAGER_ADMIN_ADDR": "off",
		"QUOIT_NODE_ADDR": nodeAddr, "QUOIT_NODE_DATA": filepath.Join(dir, "data"), "QUOIT_NODE_ADMIN_ADDR": "off", "QUOIT_NODE_GATEWAY_ADDR": freeAddress(t),
		"QUOIT_GATEWAY_ADDR": web, "QUOIT_GATEWAY_REDIS_ADDR": door, "QUOIT_GATEWAY_ADMIN_ADDR": "off",
		"QUOIT_TLS_CA_FILE": in("tls/ca.pem"),
	} {
		t.Setenv(name, value)
	}
	set := func(values map[string]string) {
		t.Helper()
		for _, name := range []string{"CLUSTER_SECRET", "TOKEN_KEYS", "TOKEN", "TLS_CERT", "TLS_KEY", "TLS_MEMBER_CA", "GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"} {
			file := values[name]
			if file != "" {
				file = in(file)
			}
			t.Setenv("QUOIT_"+name+"_FILE", file)
		}
	}
	member := func(name string) map[string]string {
		return map[string]string{
			"CLUSTER_SECRET": "cluster-secret", "TOKEN_KEYS": "token-keys.json",
			"TLS_CERT": "tls/" + name + ".pem", "TLS_KEY": "tls/" + name + ".key", "TLS_MEMBER_CA": "tls/ca.pem",
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	set(member("manager"))
	_, log, managerEnded := background(ctx, nil, "manager")
	log.until(t, managerEnded, `"msg":"manager is ready"`)
	set(member("node-1"))
	_, log, nodeEnded := background(ctx, nil, "node")
	log.until(t, nodeEnded, `"msg":"serving"`)
	set(map[string]string{"TOKEN_KEYS": "token-keys.json", "TOKEN": "gateway-token", "GATEWAY_TLS_CERT": "tls/gateway.pem", "GATEWAY_TLS_KEY": "tls/gateway.key"})
	_, log, gatewayEnded := background(ctx, nil, "gateway")
	log.until(t, gatewayEnded, `"msg":"serving"`)

	set(nil)
	if got := quoit(t, "put", "greeting", "hello", "--servers", nodeAddr); got.code != exitFailure || !strings.Contains(got.err, "QUOIT_TOKEN_FILE") {
		t.Errorf("without a token: exit code %d, %s", got.code, got.err)
	}
	set(map[string]string{"TOKEN": "operator-token"})
	must(t, "put", "greeting", "hello", "--servers", managerAddr)
	if got := must(t, "get", "greeting", "--servers", nodeAddr); got != "hello" {
		t.Errorf("greeting holds %q", got)
	}
	must(t, "cluster", "pause", "--manager", managerAddr)
	set(map[string]string{"TOKEN": "gateway-token"})
	mustSay(t, must(t, "cluster", "status", "--manager", managerAddr), nodeAddr)
	if got := quoit(t, "get", "greeting", "--servers", nodeAddr); got.code != exitFailure || !strings.Contains(got.err, "NOPERM") {
		t.Errorf("the gateway's token reads a key: exit code %d, %s%s", got.code, got.out, got.err)
	}
	cancel()
	for _, ended := range []chan int{gatewayEnded, nodeEnded, managerEnded} {
		if code := <-ended; code != 0 {
			t.Errorf("a server ended with exit code %d", code)
		}
	}
}
