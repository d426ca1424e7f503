package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/quoitdb/quoit/protocol"
)

// forged signs any header and claims with any method and key.
func forged(t *testing.T, method jwt.SigningMethod, key any, header, claims map[string]any) []byte {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// plain are claims that nothing is wrong with.
func plain() map[string]any {
	return map[string]any{
		"jti": "t-1", "sub": "shop", "aud": "quoit", "exp": noon.Add(time.Hour).Unix(),
		"quoit": map[string]any{"scopes": []any{map[string]any{"prefix": "cart:", "access": "write"}}},
	}
}

func with(name string, value any) map[string]any {
	claims := plain()
	if value == nil {
		delete(claims, name)
	} else {
		claims[name] = value
	}
	return claims
}

func TestATokenSaysWhatItWasMadeWith(t *testing.T) {
	for _, a := range []Algorithm{EdDSA, HS256} {
		k := newKey(t, a, "k1")
		made := lasting(PrefixScope("cart:", WriteAccess), KeyScope("flags", ReadAccess), PrefixScope("", ReadAccess), KeyScope("", ReadAccess), KeyScope("\xff\x00", WriteAccess), PrefixScope("\xffa\xfe", ReadAccess), KeyScope("\uFFFD", ReadAccess))
		made.Cluster, made.Connections, made.Rate = ClusterOperate, 3, 500
		got, err := NewKeys(k).Verify([]byte(sign(t, k, made)), noon)
		if err != nil {
			t.Fatal(err)
		}
		made.KeyID = "k1"
		if fmt.Sprintf("%+v", got.Scopes) != fmt.Sprintf("%+v", made.Scopes) || got.Cluster != made.Cluster || got.Connections != 3 || got.Rate != 500 ||
			got.ID != made.ID || got.Subject != made.Subject || got.KeyID != "k1" || !got.Expires.Equal(made.Expires) || !got.Issued.Equal(noon) || !got.NotBefore.Equal(noon) {
			t.Errorf("%s: made %+v, got %+v", a, made, got)
		}
	}
}

func TestWhatOthersMakeByTheBookIsTaken(t *testing.T) {
	k := newKey(t, EdDSA, "k1")
	keys := NewKeys(k)
	for name, claims := range map[string]map[string]any{
		"as short as it may be": plain(),
		"several audiences":     with("aud", []any{"other", "quoit"}),
		"with fractions":        with("exp", float64(noon.Unix())+0.5),
		"nothing granted":       with("quoit", nil),
		"claims of others":      with("roles", []any{"admin"}),
	} {
		if _, err := keys.Verify(forged(t, jwt.SigningMethodEdDSA, k.signs(), map[string]any{"kid": "k1"}, claims), noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATokenLivesFromItsBeginningToItsEndAndTheLeewayMore(t *testing.T) {
	k := newKey(t, HS256, "k1")
	keys, token := NewKeys(k), []byte(sign(t, k, lasting()))
	end := noon.Add(time.Hour)
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{noon.Add(-Leeway - time.Second), ErrEarly},
		{noon.Add(-Leeway), nil},
		{end.Add(Leeway - time.Second), nil},
		{end.Add(Leeway), ErrExpired},
		{end.Add(24 * time.Hour), ErrExpired},
	} {
		if _, err := keys.Verify(token, c.at); !errors.Is(err, c.want) {
			t.Errorf("at %s: %v, want %v", c.at, err, c.want)
		}
	}
}

func TestWhatIsWrongWithATokenIsNotTaken(t *testing.T) {
	pair, secret, other := newKey(t, EdDSA, "pair"), newKey(t, HS256, "secret"), newKey(t, EdDSA, "pair")
	keys := NewKeys(pair, secret)
	byPair := map[string]any{"kid": "pair"}
	good := string(forged(t, jwt.SigningMethodEdDSA, pair.signs(), byPair, plain()))
	if _, err := keys.Verify([]byte(good), noon); err != nil {
		t.Fatal(err)
	}
	scope := func(s map[string]any) map[string]any { return with("quoit", map[string]any{"scopes": []any{s}}) }
	edDSA := func(claims map[string]any) []byte {
		return forged(t, jwt.SigningMethodEdDSA, pair.signs(), byPair, claims)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"pair"}`))
	for name, c := range map[string]struct {
		token []byte
		want  error
	}{
		"nothing":                     {nil, ErrInvalid},
		"a password":                  {[]byte("hunter2"), ErrInvalid},
		"dots":                        {[]byte(".."), ErrInvalid},
		"a part more":                 {[]byte(good + ".x"), ErrInvalid},
		"a line end behind it":        {[]byte(good + "\n"), ErrInvalid},
		"no signature":                {[]byte(parts[0] + "." + parts[1] + "."), ErrInvalid},
		"alg none":                    {[]byte(none + "." + parts[1] + "."), ErrInvalid},
		"alg none, signed":            {[]byte(none + "." + parts[1] + "." + parts[2]), ErrInvalid},
		"another key of that name":    {forged(t, jwt.SigningMethodEdDSA, other.signs(), byPair, plain()), ErrInvalid},
		"an unknown kid":              {forged(t, jwt.SigningMethodEdDSA, pair.signs(), map[string]any{"kid": "else"}, plain()), ErrInvalid},
		"no kid":                      {forged(t, jwt.SigningMethodEdDSA, pair.signs(), nil, plain()), ErrInvalid},
		"a kid that is a number":      {forged(t, jwt.SigningMethodEdDSA, pair.signs(), map[string]any{"kid": 1}, plain()), ErrInvalid},
		"a critical header":           {forged(t, jwt.SigningMethodEdDSA, pair.signs(), map[string]any{"kid": "pair", "crit": []any{"b64"}}, plain()), ErrInvalid},
		"HS512":                       {forged(t, jwt.SigningMethodHS512, secret.signs(), map[string]any{"kid": "secret"}, plain()), ErrInvalid},
		"no jti":                      {edDSA(with("jti", nil)), ErrClaims},
		"a jti for a terminal":        {edDSA(with("jti", "\x1b[2J")), ErrClaims},
		"no exp":                      {edDSA(with("exp", nil)), ErrInvalid},
		"an exp that is a word":       {edDSA(with("exp", "never")), ErrInvalid},
		"an exp beyond all time":      {edDSA(with("exp", 1e12)), ErrClaims},
		"an exp beyond all numbers":   {edDSA(with("exp", 1e300)), nil}, // whichever: see below
		"no aud":                      {edDSA(with("aud", nil)), ErrInvalid},
		"another aud":                 {edDSA(with("aud", "other")), ErrInvalid},
		"an aud in part":              {edDSA(with("aud", "quoit2")), ErrInvalid},
		"not yet":                     {edDSA(with("nbf", noon.Add(time.Minute).Unix())), ErrEarly},
		"past":                        {edDSA(with("exp", noon.Add(-time.Minute).Unix())), ErrExpired},
		"a prefix without an end":     {edDSA(scope(map[string]any{"prefix": "user:1", "access": "read"})), ErrClaims},
		"the same in base64":          {edDSA(scope(map[string]any{"prefix64": "dXNlcjox", "access": "read"})), ErrClaims},
		"no access":                   {edDSA(scope(map[string]any{"prefix": "a:"})), ErrClaims},
		"an access of another kind":   {edDSA(scope(map[string]any{"prefix": "a:", "access": "admin"})), ErrClaims},
		"neither key nor prefix":      {edDSA(scope(map[string]any{"access": "read"})), ErrClaims},
		"key and prefix":              {edDSA(scope(map[string]any{"key": "a", "prefix": "a:", "access": "read"})), ErrClaims},
		"base64 with padding":         {edDSA(scope(map[string]any{"key64": "YQ==", "access": "read"})), ErrClaims},
		"half a character":            {edDSA(scope(map[string]any{"prefix": "\uFFFD", "access": "read"})), ErrClaims},
		"a limit of another version":  {edDSA(scope(map[string]any{"prefix": "a:", "access": "read", "until": "noon"})), ErrClaims},
		"a grant of another version":  {edDSA(with("quoit", map[string]any{"addresses": []any{"10.0.0.1"}})), ErrClaims},
		"a cluster access of another": {edDSA(with("quoit", map[string]any{"cluster": "write"})), ErrClaims},
		"fewer than no connections":   {edDSA(with("quoit", map[string]any{"connections": -1})), ErrClaims},
		"half a request":              {edDSA(with("quoit", map[string]any{"rate": 0.5})), ErrClaims},
		"grants that are a list":      {edDSA(with("quoit", []any{})), ErrClaims},
	} {
		claims, err := keys.Verify(c.token, noon)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if claims != nil {
			t.Errorf("%s: refused, and yet it says something", name)
		}
		if reply := Refusal(err); reply.Code != protocol.NOAUTH || errors.Is(err, ErrInvalid) && reply.Message != ErrInvalid.Error() {
			t.Errorf("%s: the client is told %v", name, reply)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error has the password in it: %v", name, err)
		}
	}
}

// TestNamesInATokenAreWhatTheyAre: an issuer lets users choose claims that mean nothing to
// it, such as QUOIT, and they mean nothing here either. What stands there twice is
// refused: the issuer may have looked at the other one.
func TestNamesInATokenAreWhatTheyAre(t *testing.T) {
	pair := newKey(t, EdDSA, "k1")
	keys := NewKeys(pair)
	const all = `{"scopes":[{"prefix":"","access":"write"}],"cluster":"operate"}`
	const some = `{"scopes":[{"key":"a","access":"read"}]}`
	exp := noon.Add(time.Hour).Unix()
	claims := func(more string) string {
		return fmt.Sprintf(`{"jti":"t-1","aud":"quoit","exp":%d,%s}`, exp, more)
	}
	for name, c := range map[string]struct {
		claims string
		want   error
	}{
		"ours":                     {claims(`"quoit":` + some), nil},
		"a QUOIT behind it":        {claims(`"quoit":` + some + `,"QUOIT":` + all), nil},
		"a Quoit before it":        {claims(`"Quoit":` + all + `,"quoit":` + some), nil},
		"an escaped name":          {claims(`"\u0071uoit":` + some), nil},
		"another EXP":              {strings.Replace(claims(`"quoit":`+some), `"jti"`, `"EXP":1,"Aud":"other","jti"`, 1), nil},
		"an EXP alone":             {fmt.Sprintf(`{"jti":"t-1","aud":"quoit","EXP":%d,"quoit":%s}`, exp, some), ErrInvalid},
		"an AUD alone":             {fmt.Sprintf(`{"jti":"t-1","AUD":"quoit","exp":%d,"quoit":%s}`, exp, some), ErrInvalid},
		"a long s":                 {claims(`"quoit":{"\u017fcopes":[{"prefix":"","access":"write"}]}`), ErrClaims},
		"Scopes":                   {claims(`"quoit":{"Scopes":[{"prefix":"","access":"write"}]}`), ErrClaims},
		"a Prefix behind a prefix": {claims(`"quoit":{"scopes":[{"prefix":"a:","Prefix":"","access":"write"}]}`), ErrClaims},
		"two prefixes":             {claims(`"quoit":{"scopes":[{"prefix":"a:","prefix":"","access":"write"}]}`), ErrClaims},
		"two accesses":             {claims(`"quoit":{"scopes":[{"key":"a","access":"read","access":"write"}]}`), ErrClaims},
		"two lists of scopes":      {claims(`"quoit":{"scopes":[],"scopes":[{"prefix":"","access":"write"}]}`), ErrClaims},
		"two quoits":               {claims(`"quoit":` + some + `,"quoit":` + all), ErrInvalid},
		"two quoits, one escaped":  {claims(`"quoit":` + some + `,"\u0071uoit":` + all), ErrInvalid},
		"two exps":                 {claims(`"quoit":` + some + `,"exp":1`), ErrInvalid},
		"a list":                   {`[1]`, ErrInvalid},
		"null":                     {`null`, ErrInvalid},
	} {
		signing := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"k1"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(c.claims))
		signature, err := jwt.SigningMethodEdDSA.Sign(signing, pair.signs())
		if err != nil {
			t.Fatal(err)
		}
		p, err := keys.Authenticate([]byte(signing+"."+base64.RawURLEncoding.EncodeToString(signature)), noon)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && (!p.MayRead([]byte("a")) || p.MayRead([]byte("b")) || p.MayWrite([]byte("a")) || p.Cluster() != ClusterNone) {
			t.Errorf("%s: it opens something else than the key a", name)
		}
	}
}

// The oldest attack on tokens: what everybody may know, the public key, is taken as the
// secret of an HMAC.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	pair := newKey(t, EdDSA, "k1")
	public := []byte(pair.public)
	keys := NewKeys(pair)
	set, err := FormatKeys([]Key{pair})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{public, []byte(base64.RawURLEncoding.EncodeToString(public)), set} {
		if _, err := keys.Verify(forged(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": "k1"}, plain()), noon); !errors.Is(err, ErrInvalid) {
			t.Errorf("signed with the public key: %v", err)
		}
	}
	secret := newKey(t, HS256, "k2")
	private := ed25519.NewKeyFromSeed([]byte(*secret.secret))
	if _, err := NewKeys(secret).Verify(forged(t, jwt.SigningMethodEdDSA, private, map[string]any{"kid": "k2"}, plain()), noon); !errors.Is(err, ErrInvalid) {
		t.Errorf("EdDSA for a secret: %v", err)
	}
}

func TestATokenThatIsTooLongIsNotEvenRead(t *testing.T) {
	k := newKey(t, HS256, "k1")
	long := lasting()
	for i := range 200 {
		long.Scopes = append(long.Scopes, KeyScope(fmt.Sprintf("key-%d", i), ReadAccess))
	}
	if _, err := Sign(k, long); err == nil || !strings.Contains(err.Error(), "fewer scopes") {
		t.Errorf("it was made: %v", err)
	}
	token := forged(t, jwt.SigningMethodHS256, k.signs(), map[string]any{"kid": "k1"}, with("more", strings.Repeat("x", MaxToken)))
	if _, err := NewKeys(k).Verify(token, noon); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "4096 is the limit") {
		t.Errorf("it was read: %v", err)
	}
}

func TestClaimsThatNoTokenMayHaveAreNotSigned(t *testing.T) {
	pair := newKey(t, EdDSA, "k1")
	public, _ := pair.Public()
	if _, err := Sign(public, lasting()); err == nil || !strings.Contains(err.Error(), "private half") {
		t.Errorf("a public key signed: %v", err)
	}
	for name, spoil := range map[string]func(*Claims){
		"no name":     func(c *Claims) { c.ID = "" },
		"no end":      func(c *Claims) { c.Expires = time.Time{} },
		"too far":     func(c *Claims) { c.Expires = noon.AddDate(9000, 0, 0) },
		"wide prefix": func(c *Claims) { c.Scopes = []Scope{PrefixScope("user:1", ReadAccess)} },
		"no access":   func(c *Claims) { c.Scopes = []Scope{{Bytes: []byte("a")}} },
		"rate":        func(c *Claims) { c.Rate = -1 },
		"connections": func(c *Claims) { c.Connections = maxConnections + 1 },
		"long sub":    func(c *Claims) { c.Subject = strings.Repeat("x", maxName+1) },
	} {
		c := lasting()
		spoil(&c)
		if _, err := Sign(pair, c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func keysFile(t *testing.T, keys ...Key) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys.json")
	writeKeys(t, name, keys...)
	return name
}

func writeKeys(t *testing.T, name string, keys ...Key) {
	t.Helper()
	text, err := FormatKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func loadKeys(t *testing.T, name string) *Keys {
	t.Helper()
	keys, err := LoadKeys(name)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func reload(t *testing.T, keys *Keys, want bool) {
	t.Helper()
	if changed, err := keys.Reload(); err != nil || changed != want {
		t.Fatalf("changed %v, %v", changed, err)
	}
}

func TestAKeyThatIsGoneTakesItsTokensAlong(t *testing.T) {
	old, fresh := newKey(t, EdDSA, "2026-11"), newKey(t, EdDSA, "2026-12")
	name := keysFile(t, old)
	keys := loadKeys(t, name)
	token := []byte(sign(t, old, lasting(PrefixScope("", ReadAccess))))
	p, err := keys.Authenticate(token, noon)
	if err != nil {
		t.Fatal(err)
	}
	reload(t, keys, false)

	writeKeys(t, name, old, fresh) // the first step of a rotation: both are good
	reload(t, keys, true)
	if err := p.Ended(noon.UnixMilli()); err != nil {
		t.Errorf("its key is still there: %v", err)
	}
	if _, err := keys.Verify([]byte(sign(t, fresh, lasting())), noon); err != nil {
		t.Errorf("the new key: %v", err)
	}

	writeKeys(t, name, fresh)
	reload(t, keys, true)
	if _, err := keys.Verify(token, noon); !errors.Is(err, ErrInvalid) {
		t.Errorf("a token of a key that is gone: %v", err)
	}
	if err := ask(t, p, "GET", "a"); codeOf(err) != protocol.NOAUTH {
		t.Errorf("a connection with such a token: %v", err)
	}
	writeKeys(t, name, old, fresh) // what came back is not what was withdrawn
	reload(t, keys, true)
	if p.Ended(noon.UnixMilli()) == nil {
		t.Error("a connection that had lost its key has it again")
	}
}

func TestAKeyThatIsAnotherUnderTheSameNameIsAnother(t *testing.T) {
	for _, a := range []Algorithm{EdDSA, HS256} {
		old := newKey(t, a, "k")
		name := keysFile(t, old)
		keys := loadKeys(t, name)
		p, err := keys.Authenticate([]byte(sign(t, old, lasting())), noon)
		if err != nil {
			t.Fatal(err)
		}
		writeKeys(t, name, newKey(t, a, "k"))
		reload(t, keys, true)
		if p.Ended(noon.UnixMilli()) == nil {
			t.Errorf("%s: the old key's token is still good", a)
		}
	}
}

func TestAKeysFileThatBecameWrongChangesNothing(t *testing.T) {
	k := newKey(t, EdDSA, "k1")
	name := keysFile(t, k)
	keys := loadKeys(t, name)
	p, err := keys.Authenticate([]byte(sign(t, k, lasting())), noon)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"half written": func() error { return os.WriteFile(name, []byte(`{"keys":[{"kty":`), 0o600) },
		"empty":        func() error { return os.WriteFile(name, nil, 0o600) },
		"too large":    func() error { return os.WriteFile(name, make([]byte, MaxKeysFile+1), 0o600) },
		"gone":         func() error { return os.Remove(name) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if changed, err := keys.Reload(); err == nil || changed {
			t.Errorf("%s: changed %v, %v", what, changed, err)
		}
		if err := p.Ended(noon.UnixMilli()); err != nil || keys.Len() != 1 {
			t.Errorf("%s: the keys are not those from before: %v", what, err)
		}
	}
	writeKeys(t, name)
	reload(t, keys, true)
	if p.Ended(noon.UnixMilli()) == nil {
		t.Error("a set that says that there are no keys locks everyone out")
	}
}

func TestTheKeysFileIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := newKey(t, EdDSA, "old"), newKey(t, EdDSA, "fresh")
		name := keysFile(t, old)
		keys := loadKeys(t, name)
		told := make(chan error, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			keys.Follow(t.Context(), time.Second, func(err error) { told <- err })
		}()
		pass := func(d time.Duration) (got []error) {
			<-time.After(d)
			synctest.Wait()
			for len(told) > 0 {
				got = append(got, <-told)
			}
			return got
		}
		if got := pass(10 * time.Second); len(got) != 0 {
			t.Errorf("nothing has changed, and it tells %v", got)
		}
		writeKeys(t, name, fresh)
		if got := pass(3 * time.Second); len(got) != 1 || got[0] != nil {
			t.Errorf("of a change it tells %v", got)
		}
		if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := pass(10 * time.Second); len(got) != 1 || got[0] == nil {
			t.Errorf("of a bad file it tells %v", got)
		}
		writeKeys(t, name, fresh)
		if got := pass(10 * time.Second); len(got) != 0 {
			t.Errorf("of the same keys again it tells %v", got)
		}
		if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := pass(10 * time.Second); len(got) != 1 || got[0] == nil {
			t.Errorf("of a file that is bad once more it tells %v", got)
		}
	})
}

func TestKeySetsThatAreNotTaken(t *testing.T) {
	pair, secret := newKey(t, EdDSA, "a"), newKey(t, HS256, "b")
	x := base64.RawURLEncoding.EncodeToString([]byte(pair.public))
	d := base64.RawURLEncoding.EncodeToString([]byte(*pair.secret))
	k := base64.RawURLEncoding.EncodeToString([]byte(*secret.secret))
	for _, good := range []string{
		`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `"}`,
		`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","d":"` + d + `","alg":"EdDSA","use":"sig","key_ops":["sign","verify"]}`,
		`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","alg":"Ed25519","x5t":"who knows"}`,
		`{"kty":"oct","kid":"a","k":"` + k + `","alg":"HS256"}`,
	} {
		if keys, err := ParseKeys([]byte(`{"keys":[` + good + `]}`)); err != nil || len(keys) != 1 {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		``:                       "not a JSON Web Key Set",
		`[]`:                     "not a JSON Web Key Set",
		`{}`:                     `it has no "keys"`,
		`{"keys":{}}`:            "not a JSON Web Key Set",
		`{"keys":[]} x`:          "not a JSON Web Key Set",
		`{"keys":["` + k + `"]}`: "not a JSON Web Key Set",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k + `"},{"kty":"oct","kid":"a","k":"` + k + `"}]}`: `another key has its kid, "a"`,
		`{"keys":[{"kty":"oct","k":"` + k + `"}]}`:                                                   "no kid",
		`{"keys":[{"kty":"oct","kid":"\u001b","k":"` + k + `"}]}`:                                    "its kid",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k[:40] + `"}]}`:                                    "at least 32 bytes",
		`{"keys":[{"kty":"oct","kid":"a"}]}`:                                                         "at least 32 bytes",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k + `="}]}`:                                        "its k is not base64url",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k + `","alg":"HS512"}]}`:                           "its alg",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k + `","use":"enc"}]}`:                             "its use",
		`{"keys":[{"kty":"oct","kid":"a","k":"` + k + `","key_ops":["encrypt"]}]}`:                   "its key_ops",
		`{"keys":[{"kty":"RSA","kid":"a","n":"x","e":"AQAB"}]}`:                                      `want kty "OKP"`,
		`{"keys":[{"kty":"OKP","crv":"X25519","kid":"a","x":"` + x + `"}]}`:                          `want kty "OKP"`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x[:40] + `"}]}`:                    "32 bytes",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","d":"` + d[:40] + `"}]}`:    "32 bytes",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","d":"` + k + `"}]}`:         "not the public half",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x + `","alg":"HS256"}]}`:           "its alg",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","d":"` + d + `"}]}`:                         "not the public half",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + x[:20] + "\\n" + x[20:] + `"}]}`:   "its x is not base64url",
	} {
		_, err := ParseKeys([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v does not say %s", bad, err, want)
		}
		for _, hidden := range []string{k, k[:40], d, d[:40]} {
			if strings.Contains(fmt.Sprint(err), hidden) {
				t.Errorf("the error shows a secret: %v", err)
			}
		}
	}
}

func TestAServerWithoutAnyKeyDoesNotStart(t *testing.T) {
	if _, err := LoadKeys(keysFile(t)); err == nil || !strings.Contains(err.Error(), "no key in it") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadKeys(filepath.Join(t.TempDir(), "nobody")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestOfAPairServersKeepThePublicHalfOnly(t *testing.T) {
	pair := newKey(t, EdDSA, "k1")
	for _, v := range *NewKeys(pair).table.Load() {
		if v.HasSecret() {
			t.Error("the private half is kept")
		}
	}
	if public, ok := pair.Public(); !ok || public.HasSecret() {
		t.Error("the public half has a secret")
	}
	if _, ok := newKey(t, HS256, "k").Public(); ok {
		t.Error("a secret has a public half")
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	type holds struct{ key Key }
	for _, a := range []Algorithm{EdDSA, HS256} {
		k := newKey(t, a, "k1")
		secret := *k.secret
		encoded, err := json.Marshal([]any{k, holds{k}})
		if err != nil {
			t.Fatal(err)
		}
		shown := []string{string(encoded)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			for _, v := range []any{k, &k, holds{k}, &holds{k}, []Key{k}, NewKeys(k), KeyFile{Keys: []Key{k}}} {
				shown = append(shown, fmt.Sprintf(verb, v))
			}
		}
		for _, text := range shown {
			for _, hidden := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%q", secret), base64.RawURLEncoding.EncodeToString([]byte(secret)), fmt.Sprintf("%d", []byte(secret))} {
				if strings.Contains(text, strings.Trim(hidden, `"[]`)) {
					t.Errorf("%s: the secret is in %s", a, text)
				}
			}
		}
	}
}

func TestAFileWithSecretsThatOthersMayReadIsNoticed(t *testing.T) {
	name := keysFile(t, newKey(t, EdDSA, "k1"))
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if f, err := ReadKeyFile(name); err != nil || f.Exposed != want {
			t.Errorf("%o: exposed %v, %v", mode, f.Exposed, err)
		}
	}
	public, _ := newKey(t, EdDSA, "k1").Public()
	writeKeys(t, name, public)
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadKeyFile(name); err != nil || f.Exposed {
		t.Errorf("a public key: exposed %v, %v", f.Exposed, err)
	}
}
