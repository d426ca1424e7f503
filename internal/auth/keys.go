package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/quoitdb/quoit/protocol"
)

// Why a token is not taken. An error of Verify is one of these, with a reason for a log.
var (
	ErrInvalid = errors.New("the token is not valid here")
	ErrExpired = errors.New("the token has expired")
	ErrEarly   = errors.New("the token is not valid yet")
	ErrClaims  = errors.New("the token is signed well, but it says what it must not")
)

// Refusal is what a client is told about an error of Verify. Why a signature is not good
// stays here.
func Refusal(err error) *protocol.Error {
	e := &protocol.Error{Code: protocol.NOAUTH, Message: ErrInvalid.Error()}
	switch {
	case errors.Is(err, ErrExpired):
		e.Message = ErrExpired.Error() + ": get a new one"
	case errors.Is(err, ErrEarly):
		e.Message = ErrEarly.Error() + ": the clocks of whoever made it and of this server differ"
	case errors.Is(err, ErrClaims):
		e.Message = err.Error()
	}
	return e
}

// verifier is a key in use. Those who have shown a token of it hold on to it, and see
// when it is gone.
type verifier struct {
	Key
	gone atomic.Bool
}

// Keys verifies tokens with the keys of a file.
type Keys struct {
	file string

	mu    sync.Mutex        // of those who change it
	sum   [sha256.Size]byte // of the file, as it was last read well
	table atomic.Pointer[map[string]*verifier]

	exposed atomic.Bool
}

// LoadKeys reads the file for the first time. It must have a key.
func LoadKeys(file string) (*Keys, error) {
	k := &Keys{file: file}
	f, err := ReadKeyFile(file)
	if err != nil {
		return nil, err
	}
	if len(f.Keys) == 0 {
		return nil, fmt.Errorf("%s: no key in it, so that no token could ever be good", file)
	}
	k.use(f)
	return k, nil
}

// NewKeys verifies with keys that do not come from a file.
func NewKeys(keys ...Key) *Keys {
	k := &Keys{}
	k.use(KeyFile{Keys: keys})
	return k
}

// Replace takes these keys instead; tokens of keys that are gone end.
func (k *Keys) Replace(keys ...Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.use(KeyFile{Keys: keys})
}

// use puts keys into force, and ends those that are not among them.
func (k *Keys) use(f KeyFile) {
	old := k.table.Load()
	table := make(map[string]*verifier, len(f.Keys))
	for _, key := range f.Keys {
		if public, ok := key.Public(); ok {
			key = public // what is not needed here is not kept
		}
		table[key.ID] = &verifier{Key: key}
		if old == nil {
			continue
		}
		if was := (*old)[key.ID]; was != nil && was.same(key) {
			table[key.ID] = was
		}
	}
	k.sum = f.sum
	k.exposed.Store(f.Exposed)
	k.table.Store(&table)
	if old == nil {
		return
	}
	for id, was := range *old {
		if table[id] != was {
			was.gone.Store(true)
		}
	}
}

// Reload reads the file again and says whether the keys are others now. After an error
// they are the ones from before.
func (k *Keys) Reload() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := ReadKeyFile(k.file)
	if err != nil || f.sum == k.sum {
		return false, err
	}
	k.use(f)
	return true, nil
}

// Follow reloads the file again and again until ctx ends. It tells of keys that have
// changed (nil), and of an error, once as long as it stays the same.
func (k *Keys) Follow(ctx context.Context, every time.Duration, tell func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := k.Reload()
		switch {
		case err == nil:
			last = ""
			if changed {
				tell(nil)
			}
		case err.Error() != last:
			last = err.Error()
			tell(err)
		}
	}
}

// Exposed says that the file has secrets, and that others on this machine than its owner
// may read it.
func (k *Keys) Exposed() bool { return k.exposed.Load() }

// Len is how many keys are in force.
func (k *Keys) Len() int { return len(*k.table.Load()) }

// Authenticate makes the principal of who shows a token, or says why it is not taken.
func (k *Keys) Authenticate(token []byte, now time.Time) (*Principal, error) {
	claims, key, err := k.verify(token, now)
	if err != nil {
		return nil, err
	}
	return application(claims, key), nil
}

// Verify says what a token says, if it is good at the time now. The error is (or wraps)
// ErrInvalid, ErrExpired, ErrEarly or ErrClaims.
func (k *Keys) Verify(token []byte, now time.Time) (*Claims, error) {
	claims, _, err := k.verify(token, now)
	return claims, err
}

func (k *Keys) verify(token []byte, now time.Time) (*Claims, *verifier, error) {
	if len(token) > MaxToken {
		return nil, nil, fmt.Errorf("%w: it has %d bytes, and %d is the limit", ErrInvalid, len(token), MaxToken)
	}
	if bytes.ContainsAny(token, "\r\n") {
		return nil, nil, fmt.Errorf("%w: it has line ends in it", ErrInvalid) // which base64 would pass over
	}
	var w wireClaims
	var used *verifier
	var noKey error
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{string(EdDSA), string(HS256)}), jwt.WithStrictDecoding(),
		jwt.WithAudience(Audience), jwt.WithExpirationRequired(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(func() time.Time { return now }),
	)
	_, err := parser.ParseWithClaims(string(token), &w, func(t *jwt.Token) (any, error) {
		if used, noKey = k.keyOf(t); noKey != nil {
			return nil, noKey
		}
		return used.verifies(), nil
	})
	if err != nil {
		return nil, nil, refused(err, noKey)
	}
	claims, err := w.claims(used.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return claims, used, nil
}

// keyOf finds the key that a token names. The key says which algorithm is the right one.
func (k *Keys) keyOf(t *jwt.Token) (*verifier, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, errors.New("its header has crit: nothing beyond RFC 7519 is known here")
	}
	id, _ := t.Header["kid"].(string)
	if id == "" {
		return nil, errors.New("its header has no kid")
	}
	key := (*k.table.Load())[id]
	if key == nil {
		return nil, errors.New("no key here has its kid")
	}
	if t.Method.Alg() != string(key.Algorithm) {
		return nil, errors.New("its alg is not that of the key with its kid")
	}
	return key, nil
}

// refused sorts what the library says, without its words, which may repeat what is no
// token but somebody's password. Whether a token has ended it says only of one whose
// signature is good.
func refused(err, noKey error) error {
	why := "it is no JSON Web Token, or one that says something twice"
	switch {
	case noKey != nil:
		why = noKey.Error()
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return ErrEarly
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		why = "its signature is not that of the key with its kid, or its alg is not taken"
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		why = `its aud is not "` + Audience + `"`
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		why = "it lacks exp or aud"
	}
	return fmt.Errorf("%w: %s", ErrInvalid, why)
}

// Look reads a token without believing it: nothing that it says is proved. An error is
// about what no server takes, whoever has signed it; what could be read is there all the same.
func Look(token []byte) (algorithm string, c *Claims, err error) {
	if len(token) > MaxToken {
		return "", nil, fmt.Errorf("it has %d bytes, and %d is the limit", len(token), MaxToken)
	}
	var w wireClaims
	t, _, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(string(token), &w)
	if err != nil {
		return "", nil, errors.New("it is no JSON Web Token") // the library's words may repeat a password
	}
	kid, _ := t.Header["kid"].(string)
	c, err = w.claims(kid)
	switch algorithm = t.Method.Alg(); {
	case algorithm != string(EdDSA) && algorithm != string(HS256):
		err = fmt.Errorf("its alg is %q, and only %s and %s are taken", algorithm, EdDSA, HS256)
	case kid == "":
		err = errors.New("its header has no kid")
	case !slices.Contains(w.Audience, Audience):
		err = fmt.Errorf("its aud is not %q", Audience)
	}
	return algorithm, c, err
}
