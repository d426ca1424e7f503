package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxKeysFile bounds a file with keys.
	MaxKeysFile = 64 << 10

	minSecret = 32 // bytes in an HS256 secret: as many as the hash has
)

// Algorithm is how a key signs.
type Algorithm string

// The algorithms.
const (
	EdDSA Algorithm = "EdDSA"
	HS256 Algorithm = "HS256"
)

// Key is one JSON Web Key: Ed25519 with or without its private half, or a secret for
// HS256. Nothing that prints a Key shows what is secret in it.
type Key struct {
	ID        string
	Algorithm Algorithm

	public string  // Ed25519: 32 bytes
	secret *string // Ed25519's seed, or HS256's secret; fmt shows the pointer only
}

// NewKey makes a key at random.
func NewKey(a Algorithm, id string) (Key, error) {
	k := Key{ID: id, Algorithm: a}
	random := make([]byte, minSecret)
	if _, err := io.ReadFull(rand.Reader, random); err != nil {
		return Key{}, err
	}
	k.setSecret(random)
	return k, k.validate()
}

func (k *Key) setSecret(b []byte) {
	secret := string(b)
	k.secret = &secret
	if k.Algorithm == EdDSA && len(b) == ed25519.SeedSize {
		k.public = string(ed25519.NewKeyFromSeed(b).Public().(ed25519.PublicKey))
	}
}

// HasSecret says whether whoever has this key can sign with it.
func (k Key) HasSecret() bool { return k.secret != nil }

// Public is the half of an Ed25519 key that verifies; false for a secret, which has none.
func (k Key) Public() (Key, bool) {
	return Key{ID: k.ID, Algorithm: k.Algorithm, public: k.public}, k.Algorithm == EdDSA
}

// String is the key's name and algorithm.
func (k Key) String() string { return string(k.Algorithm) + " key " + k.ID }

// same says whether two keys verify the same tokens.
func (k Key) same(other Key) bool {
	if k.ID != other.ID || k.Algorithm != other.Algorithm || k.public != other.public {
		return false
	}
	return k.Algorithm == EdDSA || *k.secret == *other.secret
}

func (k Key) validate() error {
	switch {
	case k.ID == "":
		return errors.New("it has no kid: every key needs a name")
	case !isName(k.ID):
		return fmt.Errorf("its kid is longer than %d bytes, or a terminal could not show it", maxName)
	case k.Algorithm == EdDSA && len(k.public) != ed25519.PublicKeySize:
		return fmt.Errorf("x of an Ed25519 key has %d bytes", ed25519.PublicKeySize)
	case k.Algorithm == HS256 && (k.secret == nil || len(*k.secret) < minSecret):
		return fmt.Errorf("k of an HS256 key has at least %d bytes: what is shorter can be guessed", minSecret)
	}
	return nil
}

// verifies and signs are what the library takes for the key: the type of either belongs
// to one algorithm only.
func (k Key) verifies() any {
	if k.Algorithm == EdDSA {
		return ed25519.PublicKey(k.public)
	}
	return []byte(*k.secret)
}

func (k Key) signs() any {
	if k.Algorithm == EdDSA {
		return ed25519.NewKeyFromSeed([]byte(*k.secret))
	}
	return []byte(*k.secret)
}

// Sign makes a token. The key needs its secret; c.KeyID is ignored.
func Sign(k Key, c Claims) (string, error) {
	if !k.HasSecret() {
		return "", fmt.Errorf("the %s is public: only its private half signs", k)
	}
	if err := c.Validate(); err != nil {
		return "", err
	}
	w, err := c.wire()
	if err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(string(k.Algorithm)), w)
	t.Header["kid"] = k.ID
	text, err := t.SignedString(k.signs())
	if err == nil && len(text) > MaxToken {
		return "", fmt.Errorf("the token would have %d bytes, and %d is the limit: give it fewer scopes", len(text), MaxToken)
	}
	return text, err
}

// jwk is a key in a file (RFC 7517, RFC 8037).
type jwk struct {
	Type       string   `json:"kty"`
	Curve      string   `json:"crv,omitempty"`
	ID         string   `json:"kid"`
	Use        string   `json:"use,omitempty"`
	Algorithm  string   `json:"alg,omitempty"`
	Operations []string `json:"key_ops,omitempty"`
	X          string   `json:"x,omitempty"`
	D          string   `json:"d,omitempty"`
	K          string   `json:"k,omitempty"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// ParseKeys reads a JSON Web Key Set. A key of another type, one without a kid, one that
// is too weak and two with the same kid are refused.
func ParseKeys(data []byte) ([]Key, error) {
	if len(data) > MaxKeysFile {
		return nil, fmt.Errorf("larger than %d bytes, which no set of keys is", MaxKeysFile)
	}
	var set struct {
		Keys *[]jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %s", jsonFault(err))
	}
	if set.Keys == nil {
		return nil, errors.New(`not a JSON Web Key Set: it has no "keys"`)
	}
	keys := make([]Key, 0, len(*set.Keys))
	for i, j := range *set.Keys {
		k, err := j.key()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return other.ID == k.ID }) {
			return nil, fmt.Errorf("key %d: another key has its kid, %q", i+1, k.ID)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// jsonFault is what is wrong with JSON, without any of its text: that may be a secret.
func jsonFault(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("no JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("%q is not what it should be at byte %d", kind.Field, kind.Offset)
	}
	return "no JSON"
}

func (j jwk) key() (Key, error) {
	k := Key{ID: j.ID}
	var err error
	switch {
	case j.Type == "OKP" && j.Curve == "Ed25519":
		k.Algorithm = EdDSA
		err = k.readPair(j)
	case j.Type == "oct":
		k.Algorithm = HS256
		err = k.readSecret(j)
	default:
		return Key{}, errors.New(`of another type: want kty "OKP" with crv "Ed25519", or kty "oct"`)
	}
	if err != nil {
		return Key{}, err
	}
	switch {
	case j.Algorithm != "" && j.Algorithm != string(k.Algorithm) && (k.Algorithm != EdDSA || j.Algorithm != "Ed25519"):
		return Key{}, fmt.Errorf("its alg is not that of its kty: want %q", k.Algorithm)
	case j.Use != "" && j.Use != "sig":
		return Key{}, errors.New(`its use is not "sig"`)
	case len(j.Operations) > 0 && !slices.Contains(j.Operations, "verify") && !slices.Contains(j.Operations, "sign"):
		return Key{}, errors.New(`its key_ops have neither "sign" nor "verify"`)
	}
	return k, k.validate()
}

func (k *Key) readPair(j jwk) error {
	public, err := decode64("x", j.X)
	if err != nil {
		return err
	}
	k.public = string(public)
	if j.D == "" {
		return nil
	}
	seed, err := decode64("d", j.D)
	if err != nil {
		return err
	}
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("d of an Ed25519 key has %d bytes", ed25519.SeedSize)
	}
	k.setSecret(seed)
	if k.public != string(public) {
		return errors.New("its x is not the public half of its d")
	}
	return nil
}

func (k *Key) readSecret(j jwk) error {
	secret, err := decode64("k", j.K)
	if err == nil {
		k.setSecret(secret)
	}
	return err
}

func decode64(name, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("its %s is not base64url without padding", name)
	}
	return b, nil
}

// FormatKeys writes a JSON Web Key Set, with the secrets of keys that have them.
func FormatKeys(keys []Key) ([]byte, error) {
	set := jwks{Keys: []jwk{}}
	for _, k := range keys {
		j := jwk{ID: k.ID, Use: "sig", Algorithm: string(k.Algorithm)}
		if k.Algorithm == EdDSA {
			j.Type, j.Curve, j.X = "OKP", "Ed25519", base64.RawURLEncoding.EncodeToString([]byte(k.public))
			if k.HasSecret() {
				j.D = base64.RawURLEncoding.EncodeToString([]byte(*k.secret))
			}
		} else {
			j.Type, j.K = "oct", base64.RawURLEncoding.EncodeToString([]byte(*k.secret))
		}
		set.Keys = append(set.Keys, j)
	}
	text, err := json.MarshalIndent(set, "", "  ")
	return append(text, '\n'), err
}

// KeyFile is a file with keys as it was read.
type KeyFile struct {
	Keys []Key
	// Exposed: it has secrets, and others on this machine than its owner may read it.
	Exposed bool
	sum     [sha256.Size]byte
}

// ReadKeyFile reads a JSON Web Key Set from a file.
func ReadKeyFile(name string) (KeyFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return KeyFile{}, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, MaxKeysFile+1))
	if err != nil {
		return KeyFile{}, err
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return KeyFile{}, fmt.Errorf("%s: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return KeyFile{}, err
	}
	const others = 0o077
	open := runtime.GOOS != "windows" && info.Mode().Perm()&others != 0
	return KeyFile{Keys: keys, Exposed: open && slices.ContainsFunc(keys, Key.HasSecret), sum: sha256.Sum256(text)}, nil
}
