package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
)

// saveKeys writes keys to a file that only its owner reads, and returns its name.
func saveKeys(t *testing.T, dir, name string, keys ...auth.Key) string {
	t.Helper()
	text, err := auth.FormatKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, dir, name, string(text))
}

func save(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newAuthKey(t *testing.T, a auth.Algorithm, kid string) auth.Key {
	t.Helper()
	k, err := auth.NewKey(a, kid)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t *testing.T, k auth.Key, c auth.Claims) string {
	t.Helper()
	token, err := auth.Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// withoutTokens has nobody's tokens in the environment.
func withoutTokens(t *testing.T) {
	t.Helper()
	for _, name := range []string{"QUOIT_TOKEN", "QUOIT_TOKEN_FILE", "QUOIT_TOKEN_KEYS_FILE"} {
		t.Setenv(name, "")
	}
}

func TestTokenScripts(t *testing.T) {
	withoutTokens(t)
	values := words(t, "127.0.0.1:1")
	dir := values["DIR"]
	july := newAuthKey(t, auth.EdDSA, "2026-07")
	saveKeys(t, dir, "july.json", july)
	saveKeys(t, dir, "two.json", newAuthKey(t, auth.EdDSA, "one"), newAuthKey(t, auth.HS256, "two"))
	saveKeys(t, dir, "shared.json", newAuthKey(t, auth.HS256, "shared"))
	if err := os.Chmod(saveKeys(t, dir, "open.json", newAuthKey(t, auth.EdDSA, "open")), 0o644); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	save(t, dir, "token", signed(t, july, auth.Claims{
		ID: "t-1", Subject: "shop", Issued: now, NotBefore: now, Expires: now.Add(time.Hour),
		Scopes:  []auth.Scope{auth.PrefixScope("cart:", auth.WriteAccess), auth.KeyScope("flags", auth.ReadAccess), auth.KeyScope("\xff", auth.ReadAccess)},
		Cluster: auth.ClusterRead, Connections: 3, Rate: 500,
	})+"\n")
	save(t, dir, "ended", signed(t, july, auth.Claims{
		ID: "t-2", Expires: time.Unix(1e9, 0), Scopes: []auth.Scope{auth.PrefixScope("", auth.ReadAccess)},
	}))
	runScript(t, "token.txt", values)
}

func TestATokenThatWasMadeIsTakenByWhoHasThePublicHalf(t *testing.T) {
	withoutTokens(t)
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private.json"), filepath.Join(dir, "keys.json")
	for _, args := range [][]string{{"token", "key", private}, {"token", "public", private, "--out", public}} {
		if got := quoitWith(t.Context(), strings.NewReader(""), args...); got.code != 0 {
			t.Fatalf("%v: %s", args, got.err)
		}
	}
	made := quoitWith(t.Context(), strings.NewReader(""), "token", "create", "--key", private, "--sub", "shop", "--ttl", "10m", "--write", "cart:*", "--connections", "2")
	if made.code != 0 || strings.Count(made.out, "\n") != 1 {
		t.Fatalf("made %q, %s", made.out, made.err)
	}
	keys, err := auth.LoadKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.Verify([]byte(strings.TrimSpace(made.out)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "shop" || c.ID == "" || c.Connections != 2 || len(c.Scopes) != 1 || c.Expires.Sub(c.Issued) != 10*time.Minute {
		t.Errorf("it says %+v", c)
	}
	t.Setenv("QUOIT_TOKEN", strings.TrimSpace(made.out))
	t.Setenv("QUOIT_TOKEN_KEYS_FILE", public)
	if got := quoitWith(t.Context(), strings.NewReader(""), "token", "inspect"); got.code != 0 || !strings.Contains(got.out, "signature   good") {
		t.Errorf("inspect says %s%s", got.out, got.err)
	}
}

func TestAKeyFileIsForItsOwnerAndAPublicOneForAll(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private.json"), filepath.Join(dir, "keys.json")
	for _, args := range [][]string{
		{"token", "key", private},
		{"token", "public", private, "--out", public},
		{"token", "public", private, "--out", public}, // once more: it is replaced
	} {
		if got := quoitWith(t.Context(), strings.NewReader(""), args...); got.code != 0 {
			t.Fatalf("%v: %s", args, got.err)
		}
	}
	for name, want := range map[string]os.FileMode{private: 0o600, public: 0o644} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	f, err := auth.ReadKeyFile(public)
	if err != nil || len(f.Keys) != 1 || f.Keys[0].HasSecret() {
		t.Errorf("the public file has %v, %v", f.Keys, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".keys-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
