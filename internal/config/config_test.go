package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Addr   string        `env:"QUOIT_TEST_ADDR" envDefault:"127.0.0.1:1" help:"where to listen"`
	Wait   time.Duration `env:"QUOIT_TEST_WAIT" envDefault:"50ms" help:"how long to wait"`
	Mode   mode          `env:"QUOIT_TEST_MODE" envDefault:"a" help:"which" want:"one of a, b"`
	Nested struct {
		Size  Bytes `env:"QUOIT_TEST_SIZE" envDefault:"64MiB" help:"how big" want:"a size such as 64MiB"`
		Count int   `env:"QUOIT_TEST_COUNT" help:"how many"`
	}
}

type mode string

func (m *mode) UnmarshalText(b []byte) error {
	if s := string(b); s != "a" && s != "b" {
		return errors.New("neither")
	}
	*m = mode(b)
	return nil
}

func TestDefaultsAndValues(t *testing.T) {
	var s sample
	if err := Load(&s, map[string]string{"QUOIT_TEST_COUNT": "7", "QUOIT_TEST_WAIT": ""}); err != nil {
		t.Fatal(err)
	}
	if s.Addr != "127.0.0.1:1" || s.Wait != 50*time.Millisecond || s.Mode != "a" || s.Nested.Size != 64<<20 || s.Nested.Count != 7 {
		t.Fatalf("got %+v", s)
	}
}

func TestWrongValuesAreNamedAllAtOnce(t *testing.T) {
	var s sample
	err := Load(&s, map[string]string{
		"QUOIT_TEST_WAIT": "soon", "QUOIT_TEST_MODE": "c", "QUOIT_TEST_SIZE": "-1", "QUOIT_TEST_COUNT": "many",
	})
	for _, want := range []string{
		`QUOIT_TEST_WAIT="soon": want a duration such as 500ms, 10s or 2m`,
		`QUOIT_TEST_MODE="c": want one of a, b`,
		`QUOIT_TEST_SIZE="-1": want a size such as 64MiB`,
		`QUOIT_TEST_COUNT="many": want a whole number`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	var one *Error
	if !errors.As(err, &one) || one.Variable == "" {
		t.Errorf("no *Error in %v", err)
	}
}

func TestWrongNamesTheVariableOfAField(t *testing.T) {
	s := sample{}
	s.Nested.Count = -3
	if got := Wrong(&s, "Count", "1 or more").Error(); got != `QUOIT_TEST_COUNT="-3": want 1 or more` {
		t.Errorf("got %s", got)
	}
	if got := Wrong(&s, "Nobody", "x").Error(); got != `Nobody="": want x` {
		t.Errorf("got %s", got)
	}
}

func TestAMisspelledVariableIsPointedOut(t *testing.T) {
	err := Unknown(map[string]string{"QUOIT_TEST_ADR": "x", "QUOIT_TEST_ADDR": "y", "HOME": "/"}, "QUOIT_TEST_", sample{})
	if err == nil || err.Error() != "QUOIT_TEST_ADR is not a setting; did you mean QUOIT_TEST_ADDR?" {
		t.Errorf("got %v", err)
	}
	if err := Unknown(map[string]string{"QUOIT_TEST_ADDR": "y"}, "QUOIT_TEST_", sample{}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestTableListsEverySetting(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, sample{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"VARIABLE", "QUOIT_TEST_ADDR", "127.0.0.1:1", "how big", "QUOIT_TEST_COUNT  -"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, b.String())
		}
	}
	if lines := strings.Count(b.String(), "\n"); lines != 6 {
		t.Errorf("%d lines, want 6:\n%s", lines, b.String())
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "4096": 4096, "64MiB": 64 << 20, "1 GiB": 1 << 30, "500KB": 500_000, "10B": 10, "2TiB": 2 << 40, "3TB": 3e12, "1KiB": 1024, "7MB": 7e6, "9GB": 9e9,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q = %d, %v; want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5GiB", "MiB", "9999999999999TiB", "9223372036854775808"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q = %d, want an error", text, b)
		}
	}
	for b, want := range map[Bytes]string{0: "0", 4096: "4KiB", 64 << 20: "64MiB", 1000: "1000", 3 << 40: "3TiB"} {
		if b.String() != want {
			t.Errorf("%d prints %s, want %s", int64(b), b, want)
		}
	}
}
