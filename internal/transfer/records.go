package transfer

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"
)

// A record is one key as JSON:
//
//	{"key":"user:1","value":"Ada","ttl_ms":60000}
//
// A value that is any other JSON than a string is taken as its text. Bytes that are
// no UTF-8 are in "base64" instead of "value", and "key_base64" instead of "key".

// record is a record as it is read.
type record struct {
	Key       *string         `json:"key"`
	KeyBase64 *string         `json:"key_base64"`
	Value     json.RawMessage `json:"value"`
	Base64    *string         `json:"base64"`
	TTL       int64           `json:"ttl_ms"`
}

// written is a record as it is written.
type written struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"`
	Value     *string `json:"value,omitempty"`
	Base64    []byte  `json:"base64,omitempty"`
	TTL       int64   `json:"ttl_ms,omitempty"`
}

const (
	// maxLine bounds one line: a text that doubles when it is escaped, or base64,
	// and its key.
	maxLine = 2*MaxValue + 1<<20
	// maxTTL keeps arithmetic with times far from its ends.
	maxTTL = 100 * 365 * 24 * time.Hour
)

// Mistakes in a record.
var (
	errNoKey    = errors.New(`there is no "key"`)
	errTwoKeys  = errors.New(`there are both "key" and "key_base64"`)
	errNoValue  = errors.New(`there is no "value"`)
	errTwoValue = errors.New(`there are both "value" and "base64"`)
	errNotText  = errors.New(`this is not UTF-8: bytes that are no text go into "base64" or "key_base64"`)
	errNoRecord = errors.New(`want a record such as {"key":"user:1","value":"Ada"} on each line`)
)

// JSONLines yields an item from each line. An error names the line.
func JSONLines(r io.Reader) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxLine)
		n := 0
		for lines.Scan() {
			n++
			line := lines.Bytes()
			if n == 1 {
				line = bytes.TrimPrefix(line, []byte(byteOrderMark))
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			item, err := parseRecord(line)
			if err != nil {
				err = fmt.Errorf("line %d: %w", n, err)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(Item{}, fmt.Errorf("line %d: it is longer than %d bytes", n+1, maxLine))
		case err != nil:
			yield(Item{}, fmt.Errorf("line %d: read: %w", n+1, err))
		}
	}
}

// byteOrderMark is what some programs put before UTF-8.
const byteOrderMark = "\ufeff"

func parseRecord(line []byte) (Item, error) {
	var r record
	if !utf8.Valid(line) {
		return Item{}, errNotText
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return Item{}, explainJSON(err)
	}
	if r.TTL < 0 || r.TTL > maxTTL.Milliseconds() {
		return Item{}, fmt.Errorf(`"ttl_ms" is %d, not 0 to %d`, r.TTL, maxTTL.Milliseconds())
	}
	key, err := r.key()
	if err != nil {
		return Item{}, err
	}
	value, err := r.value()
	if err != nil {
		return Item{}, err
	}
	if len(value) > MaxValue {
		return Item{}, fmt.Errorf("the value has %d bytes, more than %d", len(value), MaxValue)
	}
	return Item{Key: key, Value: value, TTL: time.Duration(r.TTL) * time.Millisecond}, nil
}

// explainJSON says what is wrong in words of the file, not of this program.
func explainJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, at column %d: %w; %w", syntax.Offset, syntax, errNoRecord)
	case errors.As(err, &kind) && kind.Field != "":
		want := "a string"
		if kind.Field == "ttl_ms" {
			want = "a whole number"
		}
		return fmt.Errorf("%q is a %s, not %s", kind.Field, kind.Value, want)
	case errors.As(err, &kind):
		return fmt.Errorf("this is a %s; %w", kind.Value, errNoRecord)
	}
	return err
}

func (r *record) key() (string, error) {
	switch {
	case r.Key != nil && r.KeyBase64 != nil:
		return "", errTwoKeys
	case r.Key != nil:
		return *r.Key, nil
	case r.KeyBase64 != nil:
		key, err := base64.StdEncoding.DecodeString(*r.KeyBase64)
		if err != nil {
			return "", fmt.Errorf(`"key_base64": %w`, err)
		}
		return string(key), nil
	}
	return "", errNoKey
}

func (r *record) value() ([]byte, error) {
	given := len(r.Value) > 0 && string(r.Value) != "null"
	switch {
	case given && r.Base64 != nil:
		return nil, errTwoValue
	case r.Base64 != nil:
		value, err := base64.StdEncoding.DecodeString(*r.Base64)
		if err != nil {
			return nil, fmt.Errorf(`"base64": %w`, err)
		}
		return value, nil
	case !given:
		return nil, errNoValue
	case r.Value[0] == '"':
		var text string
		if err := json.Unmarshal(r.Value, &text); err != nil {
			return nil, explainJSON(err)
		}
		return []byte(text), nil
	}
	return r.Value, nil
}

// newRecord is the record of a key, the inverse of parseRecord.
func newRecord(key string, value []byte, ttl time.Duration) written {
	var w written
	if utf8.ValidString(key) {
		w.Key = &key
	} else {
		w.KeyBase64 = []byte(key)
	}
	if text := string(value); len(value) == 0 || utf8.ValidString(text) && escaped(value) <= 2*len(value) {
		w.Value = &text
	} else {
		w.Base64 = value
	}
	if ttl > 0 {
		w.TTL = max(1, ttl.Milliseconds()) // 0 would be for ever
	}
	return w
}

// escaped is about how many bytes a text takes as a JSON string.
func escaped(text []byte) int {
	n := len(text)
	for _, c := range text {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}
