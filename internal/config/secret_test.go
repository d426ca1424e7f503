package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type guarded struct {
	Secret Secret `env:"QUOIT_TEST_SECRET" help:"what members know"`
	Other  string `env:"QUOIT_TEST_OTHER" help:"something else"`
}

const canary = "canary-4f1d-do-not-print"

func secretFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestASecretComesFromItsVariable(t *testing.T) {
	var g guarded
	if err := Load(&g, map[string]string{"QUOIT_TEST_SECRET": canary}); err != nil {
		t.Fatal(err)
	}
	if g.Secret.Reveal() != canary || !g.Secret.IsSet() {
		t.Error("the secret is not what the variable says")
	}
}

func TestASecretComesFromAFileWithoutItsLineEnd(t *testing.T) {
	for text, want := range map[string]string{
		canary: canary, canary + "\n": canary, canary + "\r\n": canary, canary + "\n\n": canary + "\n", " " + canary + " ": " " + canary + " ",
	} {
		var g guarded
		if err := Load(&g, map[string]string{"QUOIT_TEST_SECRET_FILE": secretFile(t, text)}); err != nil {
			t.Fatal(err)
		}
		if g.Secret.Reveal() != want {
			t.Errorf("%q is read as %q", text, g.Secret.Reveal())
		}
	}
}

func TestASecretFileIsReadAgainWhenAsked(t *testing.T) {
	name := secretFile(t, "old\n")
	var g guarded
	if err := Load(&g, map[string]string{"QUOIT_TEST_SECRET_FILE": name}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := g.Secret.Latest(); got != "new" || err != nil {
		t.Errorf("latest %q, %v", got, err)
	}
	if g.Secret.Reveal() != "old" {
		t.Errorf("what was loaded became %q", g.Secret.Reveal())
	}
	if got, err := NewSecret("x").Latest(); got != "x" || err != nil {
		t.Errorf("a secret without a file: %q, %v", got, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Secret.Latest(); err == nil {
		t.Error("the file is gone and nobody says so")
	}
}

func TestASecretThatCannotBeHadIsSaidWithTheVariable(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nobody")
	for name, c := range map[string]struct {
		environ map[string]string
		want    string
	}{
		"both":    {map[string]string{"QUOIT_TEST_SECRET": canary, "QUOIT_TEST_SECRET_FILE": "/x"}, `QUOIT_TEST_SECRET_FILE="/x": want either it or QUOIT_TEST_SECRET, not both`},
		"missing": {map[string]string{"QUOIT_TEST_SECRET_FILE": missing}, fmt.Sprintf("QUOIT_TEST_SECRET_FILE=%q: want a file with the secret in it: no such file or directory", missing)},
		"empty":   {map[string]string{"QUOIT_TEST_SECRET_FILE": secretFile(t, "\n")}, "the file is empty"},
		"huge":    {map[string]string{"QUOIT_TEST_SECRET_FILE": secretFile(t, canary+strings.Repeat("x", maxSecretFile))}, "larger than 65536 bytes"},
		"folder":  {map[string]string{"QUOIT_TEST_SECRET_FILE": t.TempDir()}, "want a file with the secret in it"},
	} {
		var g guarded
		err := Load(&g, c.environ)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %s", name, err, c.want)
		}
		var one *Error
		if !errors.As(err, &one) || one.Variable != "QUOIT_TEST_SECRET_FILE" {
			t.Errorf("%s: the variable is not named in %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), canary) {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

// inside has a secret where fmt cannot call its methods.
type inside struct {
	g    guarded
	also *guarded
	list []Secret
	m    map[string]Secret
}

func TestNothingPrintsASecret(t *testing.T) {
	g := guarded{Secret: NewSecret(canary)}
	in := inside{g: g, also: &g, list: []Secret{g.Secret}, m: map[string]Secret{"a": g.Secret}}
	var log bytes.Buffer
	for _, l := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil)),
	} {
		l.Info("settings", "secret", g.Secret, "pointer", &g.Secret, "settings", g, "in", in)
	}
	encoded, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := json.Marshal(map[Secret]int{g.Secret: 1})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{log.String(), string(encoded), string(keyed), Wrong(&g, "Secret", "longer").Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		for _, v := range []any{g.Secret, &g.Secret, g, &g, in, &in, []any{g.Secret}, fmt.Errorf("in an error: %v", g)} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
	}
	for _, text := range shown {
		if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary)) {
			t.Errorf("the secret is in %s", text)
		}
	}
	if got := fmt.Sprint(g.Secret); got != "(secret)" {
		t.Errorf("it says %q", got)
	}
	if got := Wrong(&g, "Secret", "32 bytes or more").Error(); got != `QUOIT_TEST_SECRET="(secret)": want 32 bytes or more` {
		t.Errorf("got %s", got)
	}
	if got := Wrong(&guarded{}, "Secret", "32 bytes or more").Error(); got != `QUOIT_TEST_SECRET="": want 32 bytes or more` {
		t.Errorf("got %s", got)
	}
}

func TestTheFileOfASecretIsASetting(t *testing.T) {
	if err := Unknown(map[string]string{"QUOIT_TEST_SECRET_FILE": "x", "QUOIT_TEST_SECRET": "y"}, "QUOIT_TEST_", guarded{}); err != nil {
		t.Errorf("got %v", err)
	}
	if err := Unknown(map[string]string{"QUOIT_TEST_OTHER_FILE": "x"}, "QUOIT_TEST_", guarded{}); err == nil {
		t.Error("what is no secret comes from no file")
	}
	var table strings.Builder
	if err := WriteTable(&table, guarded{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"QUOIT_TEST_SECRET       -", "QUOIT_TEST_SECRET_FILE  -", "or the file that it is in"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}
