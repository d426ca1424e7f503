package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
)

const (
	// hidden is what every way of printing a Secret says.
	hidden = "(secret)"

	// fileSuffix names the variable that holds not a secret but the file it is in.
	fileSuffix = "_FILE"

	// maxSecretFile bounds a file that a secret is read from.
	maxSecretFile = 64 << 10
)

// Secret is a setting that nobody may see: however it is printed, encoded or logged, it
// says "(secret)", and nothing where it is not set. Load takes it from its variable NAME,
// or from the file that NAME_FILE names, without the line end that editors add.
//
// Inside is a pointer to a string, of which fmt shows no more than the address even where
// it cannot call methods, in an unexported field.
type Secret struct {
	held *string
	file string // where it came from, "" for none
}

// NewSecret holds a value; an empty one is no secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{held: &value}
}

// IsSet says whether there is one.
func (s Secret) IsSet() bool { return s.held != nil }

// Reveal is the secret itself, as it was when it was loaded; "" where there is none.
func (s Secret) Reveal() string {
	if s.held == nil {
		return ""
	}
	return *s.held
}

// HasFile says whether it comes from a file.
func (s Secret) HasFile() bool { return s.file != "" }

// Latest is the secret as it is now: its file, where it has one, is read again.
func (s Secret) Latest() (string, error) {
	if s.file == "" {
		return s.Reveal(), nil
	}
	return readSecret(s.file)
}

// String says that there is a secret, and not which.
func (s Secret) String() string {
	if s.held == nil {
		return ""
	}
	return hidden
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, for encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText takes the value of the variable.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// readSecret reads a file with nothing but a secret in it.
func readSecret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s: larger than %d bytes, which no secret is", name, maxSecretFile)
	case len(text) == 0:
		return "", fmt.Errorf("%s: the file is empty", name)
	}
	return string(text), nil
}

// loadSecretFiles fills the secrets whose NAME_FILE is set.
func loadSecretFiles(dst any, environ map[string]string) (errs []error) {
	for _, f := range fieldsOf(reflect.TypeOf(dst)) {
		name := environ[f.variable+fileSuffix]
		if !f.secret || name == "" {
			continue
		}
		if environ[f.variable] != "" {
			errs = append(errs, &Error{Variable: f.variable + fileSuffix, Value: name, Want: "either it or " + f.variable + ", not both"})
			continue
		}
		value, err := readSecret(name)
		if err != nil {
			errs = append(errs, &Error{Variable: f.variable + fileSuffix, Value: name, Want: "a file with the secret in it: " + cause(err)})
			continue
		}
		*f.in(dst).Addr().Interface().(*Secret) = Secret{&value, name}
	}
	return errs
}

// cause is err without the name of a file that stands beside it.
func cause(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
