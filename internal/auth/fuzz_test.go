package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// FuzzToken: whatever is shown as a token is taken only if it carries the signature of the
// secret, which is computed here by hand, and what is taken says nothing that it must not.
func FuzzToken(f *testing.F) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "oct", "kid": "k1", "k": base64.RawURLEncoding.EncodeToString(secret)}}})
	if err != nil {
		f.Fatal(err)
	}
	parsed, err := ParseKeys(set)
	if err != nil {
		f.Fatal(err)
	}
	keys := NewKeys(parsed...)
	made := lasting(PrefixScope("cart:", WriteAccess), KeyScope("\xff", ReadAccess))
	made.Cluster, made.Rate = ClusterRead, 5
	f.Add(sign(f, parsed[0], made), "", "")
	f.Add("", `{"alg":"HS256","kid":"k1"}`, `{"jti":"a","aud":"quoit","exp":1796043600,"quoit":{"scopes":[{"prefix":"a:","access":"read"}]}}`)
	f.Add("", `{"alg":"none","kid":"k1"}`, `{"jti":"a","aud":["quoit"],"exp":1.79e9,"nbf":-1}`)
	f.Add("", `{"alg":"HS256","kid":"k1","crit":[]}`, `{"quoit":{"scopes":[{"key64":"_w","access":"write"}],"rate":1e9}}`)
	f.Add("hunter2", `{}`, `null`)
	f.Fuzz(func(t *testing.T, token, header, claims string) {
		mac := func(text string) string {
			h := hmac.New(sha256.New, secret)
			h.Write([]byte(text))
			return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
		}
		signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		for _, text := range []string{token, signed + "." + mac(signed), signed + "."} {
			p, err := keys.Authenticate([]byte(text), noon)
			if err != nil {
				Refusal(err)
				continue
			}
			if at := strings.LastIndexByte(text, '.'); at < 0 || text[at+1:] != mac(text[:at]) {
				t.Fatalf("taken without a signature: %q", text)
			}
			if c := p.Claims(); c.Validate() != nil || c.ID == "" || p.Ended(noon.UnixMilli()) != nil {
				t.Fatalf("taken with %+v", c)
			}
		}
	})
}

// FuzzKeySet: a set of keys that is taken is the same after it was written and read again,
// and an error shows nothing of it.
func FuzzKeySet(f *testing.F) {
	for _, a := range []Algorithm{EdDSA, HS256} {
		k, err := NewKey(a, "k1")
		if err != nil {
			f.Fatal(err)
		}
		text, err := FormatKeys([]Key{k})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"a","k":"AAAA"},{"kty":"RSA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if err != nil {
			return
		}
		text, err := FormatKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKeys(text)
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%d keys, %d of them again: %v", len(keys), len(again), err)
		}
		for i := range keys {
			if !keys[i].same(again[i]) || keys[i].HasSecret() != again[i].HasSecret() {
				t.Fatalf("%v is %v now", keys[i], again[i])
			}
		}
	})
}

// FuzzScope: a scope that people write comes back from a token as it was, opens the key or
// prefix that it names, and nothing that only looks like it.
func FuzzScope(f *testing.F) {
	for _, text := range []string{"flags", "cart:*", "*", `a\*`, "user:1*", "\xff*", "a\uFFFD", "", `"`, `\`, "\x1b:*"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScope(text, ReadAccess)
		if err != nil {
			return
		}
		encoded, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Scope
		if err := json.Unmarshal(encoded, &again); err != nil || fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", s) {
			t.Fatalf("%q is %#v, and %#v after %s (%v)", text, s, again, encoded, err)
		}
		if shown := s.String(); shown != text && !strings.HasPrefix(shown, `"`) {
			t.Fatalf("%q is shown as %q", text, shown)
		}
		if longer := append(s.Bytes[:len(s.Bytes):len(s.Bytes)], 'x'); !s.covers(s.Bytes) || s.covers(longer) != s.Prefix {
			t.Fatalf("%q opens the wrong keys", text)
		}
	})
}
