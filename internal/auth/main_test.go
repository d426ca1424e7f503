package auth

import (
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/protocol"
)

func TestMain(m *testing.M) { leak.Main(m) }

// noon is when these stories happen.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, a Algorithm, id string) Key {
	t.Helper()
	k, err := NewKey(a, id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lasting are claims for an hour from noon.
func lasting(scopes ...Scope) Claims {
	return Claims{ID: "t-1", Subject: "shop", Issued: noon, NotBefore: noon, Expires: noon.Add(time.Hour), Scopes: scopes}
}

func sign(t testing.TB, k Key, c Claims) string {
	t.Helper()
	token, err := Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// holder is who has shown a token with these claims at noon.
func holder(t testing.TB, c Claims) *Principal {
	t.Helper()
	k := newKey(t, HS256, "k1")
	p, err := NewKeys(k).Authenticate([]byte(sign(t, k, c)), noon)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func request(words ...string) [][]byte {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	return args
}

// ask is what p is told at noon about a request.
func ask(t testing.TB, p *Principal, words ...string) *protocol.Error {
	t.Helper()
	args := request(words...)
	cmd, ok := protocol.Lookup(args[0])
	if !ok {
		t.Fatalf("no command %s", words[0])
	}
	if err := protocol.DefaultLimits().Check(cmd, args); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return Authorize(p, noon.UnixMilli(), cmd, args)
}

func codeOf(e *protocol.Error) protocol.Code {
	if e == nil {
		return ""
	}
	return e.Code
}
