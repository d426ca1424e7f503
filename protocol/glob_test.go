package protocol_test

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no string // words that match, words that do not
	}{
		{"user:1", "user:1", "user:2 user:11 User:1"},
		{"*", "a abc *", ""},
		{"a*", "a ab a*b", "ba"},
		{"*a", "a ba aa", "ab"},
		{"*a*b", "ab xaxb aab aabab", "a b ba aba"},
		{"a**b", "ab axb", "a"},
		{"h?llo", "hello h?llo", "hllo heello"},
		{"h[ae]llo", "hello hallo", "hillo hllo"},
		{"h[^e]llo", "hallo h^llo", "hello"},
		{"[a-c]", "a b c", "d - A"},
		{"[c-a]", "a b c", "d"},
		{"[a-]", "a", "-"}, // not closed: the range from a to ]
		{"[]a]", "", "a ] ]a] a]"},
		{`[\]a]`, "a ]", `\`},
		{`[\-a]`, "a -", `\ b`},
		{`[^\^]`, `a \`, "^"},
		{"[abc", "a b", "d ["},
		{"[", "", "["},
		{"[^", "a [", ""},
		{`\*`, "*", `a \*`},
		{`\\`, `\`, `\\`},
		{`a\`, `a\`, "a"},
		{`\a`, "a", `\a`},
		{"*[0-9]*", "a1b 1", "ab"},
		{"[^a]*z", "bz zz", "az z"},
		{"é*", "é éa", "e"},
	} {
		for _, s := range strings.Fields(tt.yes) {
			if !protocol.Match([]byte(tt.pattern), []byte(s)) {
				t.Errorf("%q does not match %q", tt.pattern, s)
			}
		}
		for _, s := range strings.Fields(tt.no) {
			if protocol.Match([]byte(tt.pattern), []byte(s)) {
				t.Errorf("%q matches %q", tt.pattern, s)
			}
		}
	}
	for pattern, want := range map[string]bool{"": true, "*": true, "**": true, "?": false, "a": false, "[^a]": false} {
		if protocol.Match([]byte(pattern), nil) != want {
			t.Errorf("%q and nothing: %v", pattern, !want)
		}
	}
}

// matchSlowly says the same in the plainest way: it tries everything.
func matchSlowly(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		for i := range len(s) + 1 {
			if matchSlowly(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	}
	if s == "" {
		return false
	}
	set, rest := firstElement(pattern)
	return set[s[0]] && matchSlowly(rest, s[1:])
}

// firstElement is the set of bytes that the first element of a pattern stands for.
func firstElement(pattern string) (set [256]bool, rest string) {
	switch {
	case pattern[0] == '?':
		for c := range set {
			set[c] = true
		}
	case pattern[0] == '\\' && len(pattern) > 1:
		set[pattern[1]] = true
		return set, pattern[2:]
	case pattern[0] == '[':
		return class(pattern[1:])
	default:
		set[pattern[0]] = true
	}
	return set, pattern[1:]
}

func class(p string) (set [256]bool, rest string) {
	p, negated := strings.CutPrefix(p, "^")
	for p != "" && p[0] != ']' {
		switch {
		case p[0] == '\\' && len(p) > 1:
			set[p[1]] = true
			p = p[2:]
		case len(p) > 2 && p[1] == '-':
			for c := int(min(p[0], p[2])); c <= int(max(p[0], p[2])); c++ {
				set[c] = true
			}
			p = p[3:]
		default:
			set[p[0]] = true
			p = p[1:]
		}
	}
	for c := range set {
		set[c] = set[c] != negated
	}
	return set, strings.TrimPrefix(p, "]")
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("[a-c][^x]", "bz")
	f.Add("[", "[")
	f.Add(`\*[\]]**`, "*]")
	f.Add("*a*a*a", "aaaaaaab")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := protocol.Match([]byte(pattern), []byte(s))
		if len(s) > 12 || strings.Count(pattern, "*") > 6 {
			return // the slow way would not come to an end
		}
		if want := matchSlowly(pattern, s); got != want {
			t.Errorf("%q and %q: %v, want %v", pattern, s, got, want)
		}
	})
}

// The pattern that takes others an age: it is done in steps in proportion to
// the product of the lengths, so this test simply ends.
func TestMatchDoesNotExplode(t *testing.T) {
	pattern := []byte(strings.Repeat("a*", 500) + "b")
	s := []byte(strings.Repeat("a", 60_000))
	if protocol.Match(pattern, s) {
		t.Error("matches")
	}
}
