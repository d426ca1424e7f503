package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxToken bounds a token's text; what is longer is refused unread.
	MaxToken = 4 << 10

	// Leeway is how far the clocks of who makes tokens and who checks them may be apart:
	// a token lives so much longer on both ends.
	Leeway = 5 * time.Second

	// Audience is what a token for Quoit says in aud.
	Audience = "quoit"

	maxName        = 128     // bytes in sub, jti and kid
	maxConnections = 1 << 20 // and
	maxRate        = 1 << 30 // are beyond what any server does
)

// lastSecond is the end of the year 9999: what is later is a mistake in a unit.
const lastSecond = 253402300799

// ClusterAccess is what a token may ask about the cluster beside keys.
type ClusterAccess uint8

// The accesses; each includes those before it.
const (
	ClusterNone    ClusterAccess = iota
	ClusterRead                  // see how it does: INFO, DBSIZE, CLUSTER STATUS and PLAN, SNAPSHOT STATUS
	ClusterOperate               // and change it: every CLUSTER command, SNAPSHOT
)

// String is the word in a token, "" for none.
func (c ClusterAccess) String() string {
	switch c {
	case ClusterRead:
		return "read"
	case ClusterOperate:
		return "operate"
	}
	return ""
}

// UnmarshalText reads the word in a token.
func (c *ClusterAccess) UnmarshalText(text []byte) error {
	for _, known := range []ClusterAccess{ClusterNone, ClusterRead, ClusterOperate} {
		if known.String() == string(text) {
			*c = known
			return nil
		}
	}
	return errors.New(`access to the cluster is "read" or "operate"`)
}

// MarshalText is String.
func (c ClusterAccess) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Claims is what a token says.
type Claims struct {
	KeyID   string // of the key that it is signed with
	Subject string // who has it, for people
	ID      string // this token's own name
	// Issued and NotBefore may be zero.
	Issued, NotBefore, Expires time.Time

	Scopes  []Scope
	Cluster ClusterAccess
	// Connections is how many connections of one server may have shown this token at the
	// same time, Rate how many requests a second one node takes with it; 0: any number.
	Connections, Rate int
}

// grants is the claim "quoit".
type grants struct {
	Scopes      []Scope       `json:"scopes"`
	Cluster     ClusterAccess `json:"cluster,omitempty"`
	Connections int           `json:"connections,omitempty"`
	Rate        int           `json:"rate,omitempty"`
}

// wireClaims are the claims as they stand in a token. What "quoit" says is read only
// after the signature has been found good.
type wireClaims struct {
	jwt.RegisteredClaims
	Quoit json.RawMessage `json:"quoit"`
}

// UnmarshalJSON reads the claims that have a meaning here. Others are passed over, also one
// that differs from ours in nothing but case: whoever issues tokens may let users choose it.
func (w *wireClaims) UnmarshalJSON(data []byte) error {
	all, err := members(data)
	if err != nil {
		return err
	}
	known := make(map[string]json.RawMessage)
	for _, m := range all {
		switch m.name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "quoit":
			known[m.name] = m.value
		}
	}
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	type plain wireClaims // without this method
	return json.Unmarshal(text, (*plain)(w))
}

// Validate refuses claims that no token may have.
func (c *Claims) Validate() error {
	switch {
	case c.ID == "":
		return errors.New("the token has no jti: it needs a name of its own")
	case !isName(c.ID) || !isName(c.Subject):
		return fmt.Errorf("jti and sub are at most %d bytes, and a terminal can show them", maxName)
	case c.Expires.IsZero():
		return errors.New("the token has no exp: it must end some day")
	case !isDate(c.Expires), !c.NotBefore.IsZero() && !isDate(c.NotBefore), !c.Issued.IsZero() && !isDate(c.Issued):
		return errors.New("exp, nbf and iat are seconds since 1970")
	case c.Connections < 0 || c.Connections > maxConnections:
		return fmt.Errorf("connections is 0 (any number) to %d", maxConnections)
	case c.Rate < 0 || c.Rate > maxRate:
		return fmt.Errorf("rate is 0 (no limit) to %d requests a second", maxRate)
	}
	for i := range c.Scopes {
		if err := c.Scopes[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

func isName(text string) bool {
	return len(text) <= maxName && !strings.ContainsFunc(text, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

func isDate(t time.Time) bool { return t.Unix() > 0 && t.Unix() <= lastSecond }

// wire is the claims as they stand in a token.
func (c *Claims) wire() (*wireClaims, error) {
	scopes := c.Scopes
	if scopes == nil {
		scopes = []Scope{}
	}
	quoit, err := json.Marshal(grants{scopes, c.Cluster, c.Connections, c.Rate})
	if err != nil {
		return nil, err
	}
	return &wireClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: c.Subject, ID: c.ID, Audience: jwt.ClaimStrings{Audience},
			IssuedAt: date(c.Issued), NotBefore: date(c.NotBefore), ExpiresAt: date(c.Expires),
		},
		Quoit: quoit,
	}, nil
}

func date(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return jwt.NewNumericDate(t)
}

// claims takes the claims of a token apart. They are there also beside an error, as far as
// they could be read.
func (w *wireClaims) claims(kid string) (*Claims, error) {
	c := &Claims{
		KeyID: kid, Subject: w.Subject, ID: w.ID,
		Issued: moment(w.IssuedAt), NotBefore: moment(w.NotBefore), Expires: moment(w.ExpiresAt),
	}
	if len(w.Quoit) > 0 {
		var g grants
		if err := strictly(w.Quoit, &g, "scopes", "cluster", "connections", "rate"); err != nil {
			return c, fmt.Errorf(`the claim "quoit": %w`, err)
		}
		c.Scopes, c.Cluster, c.Connections, c.Rate = g.Scopes, g.Cluster, g.Connections, g.Rate
	}
	return c, c.Validate()
}

func moment(d *jwt.NumericDate) time.Time {
	if d == nil {
		return time.Time{}
	}
	return d.Time
}
