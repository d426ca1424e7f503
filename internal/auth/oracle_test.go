package auth

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/protocol"
)

// grant is a scope as the oracle sees it.
type grant struct {
	text          string
	prefix, write bool
}

// letters are behind a prefix in a key that no scope has drawn, and no prefix ends in: what
// opens it opens every key with that prefix.
const letters = "qqqqqqqq"

// mayUse is the oracle: does one of the grants open the key?
func mayUse(grants []grant, key string, write bool) bool {
	for _, g := range grants {
		if (g.write || !write) && (g.text == key || g.prefix && strings.HasPrefix(key, g.text)) {
			return true
		}
	}
	return false
}

// mayDo is the oracle for requests: all keys, or nothing.
func mayDo(grants []grant, cluster string, cmd string, keys []string, write bool, more string) bool {
	switch cmd {
	case "DBSIZE":
		return mayUse(grants, letters, false) || cluster != ""
	case "SCAN":
		return len(grants) > 0
	case "CLUSTER", "SNAPSHOT":
		return cluster == "operate" || cluster == "read" && (more == "STATUS" || cmd == "CLUSTER" && more == "PLAN")
	case "WATCH PREFIX":
		return mayUse(grants, keys[0]+letters, false)
	}
	for _, key := range keys {
		if !mayUse(grants, key, write) {
			return false
		}
	}
	return true
}

// stems are keys and prefixes that are each other's neighbours.
var stems = []string{
	"", "user:", "user:1", "user:1:", "user:10", "user:10:", "user", "User:1", "user;", "user:\x00", "user:\xff", "\x00", "\xff", "\xff\xff",
	"u", "flags", "flags2", "flag", "cart:", "cart:é", "cart:é:", "*", "user:*", "a b", "\r\n", "\uFFFD", "user:1:name", "ünï:",
}

func stem() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom(stems).Draw(t, "stem")
		if rapid.IntRange(0, 9).Draw(t, "wild") == 0 {
			s = string(rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "bytes"))
		}
		return s
	})
}

// near is one of the grants' texts as it is, longer, shorter or a little else; or any stem.
func near(t *rapid.T, grants []grant) string {
	if len(grants) == 0 || rapid.Bool().Draw(t, "elsewhere") {
		return stem().Draw(t, "key")
	}
	s := rapid.SampledFrom(grants).Draw(t, "near").text
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 1:
		s += string([]byte{rapid.SampledFrom([]byte(":0a\x00\xff*")).Draw(t, "longer")})
	case 2:
		s = s[:max(0, len(s)-1)]
	case 3:
		if s != "" {
			s = s[:len(s)-1] + string([]byte{s[len(s)-1] + 1})
		}
	case 4:
		s = s + stem().Draw(t, "behind")
	}
	return s
}

// drawToken draws grants and signs them. A prefix that has no end must not be signed, and
// is drawn as a key then.
func drawToken(t *rapid.T, k Key) (grants []grant, cluster string, token string) {
	c := lasting()
	for range rapid.IntRange(0, 5).Draw(t, "scopes") {
		g := grant{stem().Draw(t, "text"), rapid.Bool().Draw(t, "prefix"), rapid.Bool().Draw(t, "write")}
		access := ReadAccess
		if g.write {
			access = WriteAccess
		}
		const open = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		if g.prefix && g.text != "" && strings.IndexByte(open, g.text[len(g.text)-1]) >= 0 {
			if _, err := Sign(k, lasting(PrefixScope(g.text, access))); err == nil {
				t.Fatalf("a token for the prefix %q was signed", g.text)
			}
			g.prefix = false
		}
		grants = append(grants, g)
		c.Scopes = append(c.Scopes, Scope{Bytes: []byte(g.text), Prefix: g.prefix, Access: access})
	}
	cluster = rapid.SampledFrom([]string{"", "", "read", "operate"}).Draw(t, "cluster")
	if err := c.Cluster.UnmarshalText([]byte(cluster)); err != nil {
		t.Fatal(err)
	}
	token, err := Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return grants, cluster, token
}

// drawRequest draws a request of a command: what to send, its keys, and its first argument
// where that is a subcommand. What is no key is drawn like one, so that mistaking it for a
// key is noticed.
func drawRequest(t *rapid.T, cmd protocol.Command, grants []grant) (name string, args [][]byte, keys []string, more string) {
	name = cmd.String()
	words := []string{name}
	key := func() string {
		keys = append(keys, near(t, grants))
		return keys[len(keys)-1]
	}
	other := func() string { return near(t, grants) }
	switch spec := cmd.Spec(); {
	case cmd == protocol.CmdWatch:
		kind := rapid.SampledFrom([]string{"KEY", "PREFIX", "key", "prefix"}).Draw(t, "kind")
		name += " " + strings.ToUpper(kind)
		words = append(words, "1", kind, key(), "0", "0", "0")
	case cmd == protocol.CmdCluster || cmd == protocol.CmdSnapshot:
		more = rapid.SampledFrom([]string{"STATUS", "PLAN", "ADD", "STATUS ", "PLANS", "PAUSE", ""}).Draw(t, "sub")
		words = append(words, rapid.SampledFrom([]string{more, strings.ToLower(more)}).Draw(t, "case"))
	case spec.LastKey == -1: // all the rest, each or each second
		for range rapid.IntRange(1, 4).Draw(t, "keys") {
			words = append(words, key())
			for range spec.KeyStep - 1 {
				words = append(words, other())
			}
		}
	case spec.FirstKey == 1:
		words = append(words, key())
	}
	for least := max(cmd.Spec().Arity, -cmd.Spec().Arity); len(words) < least; {
		words = append(words, other())
	}
	return name, request(words...), keys, more
}

// A ten-line oracle says what random tokens may do with random requests of every command.
func TestAuthorizeAgreesWithTheOracle(t *testing.T) {
	k := newKey(t, HS256, "k1")
	keys := NewKeys(k)
	rapid.Check(t, func(t *rapid.T) {
		grants, cluster, token := drawToken(t, k)
		p, err := keys.Authenticate([]byte(token), noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, cmd := range protocol.Commands() {
			name, args, used, more := drawRequest(t, cmd, grants)
			spec := cmd.Spec()
			want := mayDo(grants, cluster, name, used, spec.Has(protocol.Write), more)
			if spec.Has(protocol.Cluster) && cmd != protocol.CmdChallenge && cmd != protocol.CmdProve {
				want = false
			}
			if err := protocol.DefaultLimits().Check(cmd, args); err != nil {
				t.Fatalf("%q is no request: %v", args, err)
			}
			got := Authorize(p, noon.UnixMilli(), cmd, args)
			if want != (got == nil) {
				t.Fatalf("%q with %+v and cluster %q: %v, and the oracle says %v", args, grants, cluster, got, want)
			}
			if got != nil && got.Code != protocol.NOPERM {
				t.Fatalf("%q is refused with %v", args, got)
			}
		}
	})
}

// What SCAN gives and a watch tells is asked key by key.
func TestMayReadAndMayWriteAgreeWithTheOracle(t *testing.T) {
	k := newKey(t, HS256, "k1")
	keys := NewKeys(k)
	rapid.Check(t, func(t *rapid.T) {
		grants, _, token := drawToken(t, k)
		p, err := keys.Authenticate([]byte(token), noon)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			key := near(t, grants)
			if p.MayRead([]byte(key)) != mayUse(grants, key, false) || p.MayWrite([]byte(key)) != mayUse(grants, key, true) {
				t.Fatalf("%q with %+v: read %v, write %v", key, grants, p.MayRead([]byte(key)), p.MayWrite([]byte(key)))
			}
			if covers := mayDo(grants, "", "WATCH PREFIX", []string{key}, false, ""); p.CoversPrefix([]byte(key)) != covers {
				t.Fatalf("the prefix %q with %+v: %v", key, grants, p.CoversPrefix([]byte(key)))
			}
		}
	})
}
