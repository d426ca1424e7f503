package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNumbersForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"},
		{count(999), "999"},
		{count(1000), "1,000"},
		{count(1234567), "1,234,567"},
		{count(-1234), "-1,234"},
		{count(-123), "-123"},
		{plural(0, "node"), "0 nodes"},
		{plural(1, "node"), "1 node"},
		{plural(1200, "key"), "1,200 keys"},
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1024), "1.0 KiB"},
		{size(1536), "1.5 KiB"},
		{size(1<<20 - 1), "1.0 MiB"}, // and not 1024.0 KiB
		{size(60_000_000), "57.2 MiB"},
		{size(5 << 40), "5.0 TiB"},
		{size(1<<63 - 1), "8.0 EiB"},
		{span(0), "0µs"},
		{span(1500 * time.Nanosecond), "1µs"},
		{span(1234 * time.Microsecond), "1.2ms"},
		{span(3 * time.Second), "3s"},
		{span(3456 * time.Millisecond), "3.5s"},
		{span(90 * time.Second), "1m30s"},
		{span(26*time.Hour + 400*time.Millisecond), "26h0m0s"},
		{percent(0), "0.0%"},
		{percent(0.2345), "23.4%"},
		{percent(1), "100.0%"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestBarsAreAsWideAsTheyShouldBe(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  string
	}{
		{0, "····"},
		{0.01, "····"},
		{0.0625, "▎···"},
		{0.5, "██··"},
		{0.53, "██▏·"},
		{0.99, "████"},
		{1, "████"},
		{1.5, "████"},
		{-1, "····"},
	} {
		if got := bar(c.share, 4); got != c.want || utf8.RuneCountInString(got) != 4 {
			t.Errorf("%v: %q, want %q", c.share, got, c.want)
		}
	}
	if got := bar(0.5, 0); got != "" {
		t.Errorf("a bar without width is %q", got)
	}
}

func TestTablesLineUpWhateverIsInThem(t *testing.T) {
	table := newTable("NAME", ">NUMBER", "BAR")
	table.add("a", "1", bar(0.5, 4))
	table.add("longer", "1,000", paint(true).red("████"))
	table.add("", "", "")
	want := []string{
		"NAME    NUMBER  BAR",
		"a            1  ██··",
		"longer   1,000  \x1b[31m████\x1b[0m",
		"",
	}
	for i, line := range table.lines(false) {
		if line != want[i] {
			t.Errorf("line %d is %q, want %q", i, line, want[i])
		}
	}
	var out bytes.Buffer
	table.write(&out, "> ")
	if !strings.HasPrefix(out.String(), "> NAME    NUMBER  BAR\n> a") {
		t.Errorf("written as %q", out.String())
	}
	bare := newTable("", ">")
	bare.add("only", "rows")
	if got := bare.lines(true); len(got) != 1 || got[0] != "only  rows" {
		t.Errorf("a table without titles is %q", got)
	}
}

func TestColoursTakeNoRoom(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "→ ░": 3, paint(true).green("active"): 6, "a" + paint(true).dim("b") + "c": 3} {
		if got := widthOf(text); got != want {
			t.Errorf("%q is %d wide, want %d", text, got, want)
		}
	}
	if got := paint(false).red("x"); got != "x" {
		t.Errorf("no colours, and yet %q", got)
	}
	if got := paint(true).bold(""); got != "" {
		t.Errorf("nothing in colour is %q", got)
	}
}

func TestOnlyTerminalsGetColours(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	if bool(paintFor(&bytes.Buffer{})) || isTerminal(&output{Writer: &bytes.Buffer{}}) {
		t.Error("a buffer is no terminal")
	}
	if w, h := screenSize(&bytes.Buffer{}); w != 0 || h != 0 {
		t.Errorf("a buffer is %d by %d", w, h)
	}
}

func TestKeysStayOnOneLine(t *testing.T) {
	seen := make(map[string]string)
	for _, key := range []string{"plain", "two words", "a\nb", `a\nb`, "\x1b[2J", "tab\t", "", `""`, `"quoted"`, "\xff", "�", "ключ", "鍵", "é", "\u202eabc", "\x00"} {
		got := visible(key)
		if strings.ContainsAny(got, "\n\r\t\x1b\x00") || got == "" || !utf8.ValidString(got) {
			t.Errorf("%q is shown as %q", key, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q are both shown as %s", key, other, got)
		}
		seen[got] = key
	}
	for _, key := range []string{"plain", "two words", "ключ", `a\nb`} {
		if got := visible(key); got != key {
			t.Errorf("%q is shown as %s for no reason", key, got)
		}
	}
}

// broken is an output that cannot be written to.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatGoesNowhereIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"hash", "--nodes", "h:1", "a"}, {"help"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, broken{}, &stderr); code != exitFailure {
			t.Errorf("%q: exit code %d", args, code)
		}
		mustSay(t, stderr.String(), "no space left on device")
	}
}

func TestWhatIsTextIsShownAsItIs(t *testing.T) {
	for value, want := range map[string]string{
		"":                     "",
		"{\n\t\"a\": \"ä\"\n}": "{\n\t\"a\": \"ä\"\n}",
		"a\rb":                 `"a\rb"`,
		"\x1b[2J":              `"\x1b[2J"`,
		"\u202egpj.exe":        `"\u202egpj.exe"`,
		"\xff\x00":             `"\xff\x00"`,
		"\u009b2J":             `"\u009b2J"`,
	} {
		if got := harmless([]byte(value)); got != want {
			t.Errorf("%q is shown as %q, want %q", value, got, want)
		}
	}
}

func TestADeletionInPartSaysWhatWasDone(t *testing.T) {
	failed := errors.New("no")
	for deleted, want := range map[int]string{0: "no", 1: "no\n1 other key was deleted", 2: "no\n2 other keys were deleted"} {
		if got := inPart(deleted, failed); got.Error() != want || !errors.Is(got, failed) {
			t.Errorf("%d: %q, want %q", deleted, got, want)
		}
	}
}
