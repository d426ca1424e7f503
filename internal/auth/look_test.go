package auth

import (
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestATokenIsLookedIntoWithoutBelievingIt(t *testing.T) {
	k := newKey(t, EdDSA, "k1")
	kid := map[string]any{"kid": "k1"}
	for name, c := range map[string]struct {
		token []byte
		want  string
	}{
		"good":            {forged(t, jwt.SigningMethodEdDSA, k.signs(), kid, plain()), ""},
		"another method":  {forged(t, jwt.SigningMethodHS512, []byte("x"), kid, plain()), `its alg is "HS512", and only EdDSA and HS256 are taken`},
		"no kid":          {forged(t, jwt.SigningMethodEdDSA, k.signs(), nil, plain()), "its header has no kid"},
		"another service": {forged(t, jwt.SigningMethodEdDSA, k.signs(), kid, with("aud", "other")), `its aud is not "quoit"`},
		"no end":          {forged(t, jwt.SigningMethodEdDSA, k.signs(), kid, with("exp", nil)), "it must end some day"},
		"odd grants":      {forged(t, jwt.SigningMethodEdDSA, k.signs(), kid, with("quoit", []any{})), `the claim "quoit"`},
	} {
		_, claims, err := Look(c.token)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %s", name, err, c.want)
		}
		if claims == nil || claims.Subject != "shop" {
			t.Errorf("%s: what can be read is not shown: %+v", name, claims)
		}
	}
	for _, none := range []string{"", "hunter2", "a.b.c", strings.Repeat("x", MaxToken+1)} {
		if _, claims, err := Look([]byte(none)); err == nil || claims != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.20s: %+v, %v", none, claims, err)
		}
	}
}
