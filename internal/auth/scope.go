package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Access is what a scope allows.
type Access uint8

// The accesses; each includes those before it.
const (
	NoAccess Access = iota
	ReadAccess
	WriteAccess
)

// String is the word in a token.
func (a Access) String() string {
	switch a {
	case ReadAccess:
		return "read"
	case WriteAccess:
		return "write"
	}
	return "none"
}

// Scope is what a token opens: one key, or all keys with a prefix.
type Scope struct {
	Bytes  []byte // of the key, or of the prefix
	Prefix bool
	Access Access
}

// PrefixScope opens all keys that begin with prefix, KeyScope one key.
func PrefixScope(prefix string, a Access) Scope {
	return Scope{Bytes: []byte(prefix), Prefix: true, Access: a}
}

// KeyScope opens one key.
func KeyScope(key string, a Access) Scope { return Scope{Bytes: []byte(key), Access: a} }

// ParseScope reads what people write: "cart:*" is a prefix, "*" every key, and anything
// else one key; a star that ends a key is written "\*".
func ParseScope(text string, a Access) (Scope, error) {
	s := KeyScope(text, a)
	if name, ok := strings.CutSuffix(text, `\*`); ok {
		s = KeyScope(name+"*", a)
	} else if prefix, ok := strings.CutSuffix(text, "*"); ok {
		s = PrefixScope(prefix, a)
	}
	return s, s.Validate()
}

// String is what ParseScope reads. A scope that it cannot read so, or that a terminal would
// not show, is quoted.
func (s Scope) String() string {
	text, end := string(s.Bytes), ""
	if s.Prefix {
		end = "*"
	}
	if s.isQuoted() {
		return strconv.QuoteToASCII(text) + end
	}
	if key, ok := strings.CutSuffix(text, "*"); ok && !s.Prefix {
		return key + `\*`
	}
	return text + end
}

func (s Scope) isQuoted() bool {
	text := string(s.Bytes)
	return text == "" && !s.Prefix || s.Prefix && strings.HasSuffix(text, `\`) ||
		strings.HasPrefix(text, `"`) || strings.ContainsFunc(text, isUnseen)
}

func isUnseen(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }

// Validate refuses a scope that would open more than it says.
func (s Scope) Validate() error {
	if s.Access != ReadAccess && s.Access != WriteAccess {
		return errors.New(`a scope's access is "read" or "write"`)
	}
	if s.Prefix && len(s.Bytes) > 0 && isWordByte(s.Bytes[len(s.Bytes)-1]) {
		p := shown(s.Bytes)
		return fmt.Errorf("the prefix %s would open %s, too: end it with a delimiter, such as %s, or name the one key",
			p, shown(append(s.Bytes[:len(s.Bytes):len(s.Bytes)], '0')), shown(append(s.Bytes[:len(s.Bytes):len(s.Bytes)], ':')))
	}
	return nil
}

// isWordByte says whether a prefix that ends in b may end in the middle of a name.
func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

// covers says whether the scope has the key, whatever it allows with it.
func (s *Scope) covers(key []byte) bool {
	if s.Prefix {
		return bytes.HasPrefix(key, s.Bytes)
	}
	return bytes.Equal(key, s.Bytes)
}

// coversPrefix says whether it has every key with that prefix.
func (s *Scope) coversPrefix(prefix []byte) bool {
	return s.Prefix && bytes.HasPrefix(prefix, s.Bytes)
}

// wireScope is a scope in a token. Exactly one of the four names is there.
type wireScope struct {
	Prefix   *string `json:"prefix,omitempty"`
	Prefix64 *string `json:"prefix64,omitempty"`
	Key      *string `json:"key,omitempty"`
	Key64    *string `json:"key64,omitempty"`
	Access   string  `json:"access"`
}

// MarshalJSON writes the scope as it stands in a token.
func (s Scope) MarshalJSON() ([]byte, error) {
	w := wireScope{Access: s.Access.String()}
	text, encoded := string(s.Bytes), base64.RawURLEncoding.EncodeToString(s.Bytes)
	switch plain := isPlain(text); {
	case s.Prefix && plain:
		w.Prefix = &text
	case s.Prefix:
		w.Prefix64 = &encoded
	case plain:
		w.Key = &text
	default:
		w.Key64 = &encoded
	}
	return json.Marshal(w)
}

// isPlain says whether text comes back from JSON as it was. The replacement character may
// stand for bytes that a decoder could not read, so it does not count as plain.
func isPlain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
}

// UnmarshalJSON reads a scope, and refuses one that it does not understand whole.
func (s *Scope) UnmarshalJSON(data []byte) error {
	var w wireScope
	if err := strictly(data, &w, "prefix", "prefix64", "key", "key64", "access"); err != nil {
		return fmt.Errorf("a scope: %w", err)
	}
	read := Scope{Prefix: w.Prefix != nil || w.Prefix64 != nil}
	names := 0
	for _, name := range []*string{w.Prefix, w.Key} {
		if name == nil {
			continue
		}
		if !isPlain(*name) {
			return errors.New(`a scope has bytes that are not UTF-8: write them as base64url in "prefix64" or "key64"`)
		}
		read.Bytes = []byte(*name)
		names++
	}
	for _, name := range []*string{w.Prefix64, w.Key64} {
		if name == nil {
			continue
		}
		b, err := base64.RawURLEncoding.Strict().DecodeString(*name)
		if err != nil {
			return errors.New(`a scope's "prefix64" or "key64" is not base64url without padding`)
		}
		read.Bytes = b
		names++
	}
	if names != 1 {
		return errors.New(`a scope names one of "prefix", "key", "prefix64" and "key64"`)
	}
	switch w.Access {
	case ReadAccess.String():
		read.Access = ReadAccess
	case WriteAccess.String():
		read.Access = WriteAccess
	}
	*s = read
	return s.Validate()
}

// strictly decodes a JSON object that has no other names than these.
func strictly(data []byte, into any, names ...string) error {
	all, err := members(data)
	if err != nil {
		return err
	}
	for _, m := range all {
		if !slices.Contains(names, m.name) {
			return fmt.Errorf("unknown field %+q", m.name)
		}
	}
	return json.Unmarshal(data, into)
}

// jsonMember is one name of a JSON object with its value.
type jsonMember struct {
	name  string
	value json.RawMessage
}

// members takes a JSON object apart. Its names are what they are, byte by byte, where
// json.Unmarshal would take QUOIT for quoit; and none stands there twice, where others
// might believe the one and this program the other.
func members(data []byte) (all []jsonMember, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := jsonMember{}
		m.name, _ = name.(string) // JSON has no other names
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other jsonMember) bool { return other.name == m.name }) {
			return nil, fmt.Errorf("%+q stands there twice", m.name)
		}
		all = append(all, m)
	}
	return all, nil
}

// shown is a key as an error shows it: quoted, in ASCII, and short.
func shown(key []byte) string {
	const enough = 64
	if len(key) > enough {
		return strconv.QuoteToASCII(string(key[:enough])) + "..."
	}
	return strconv.QuoteToASCII(string(key))
}
