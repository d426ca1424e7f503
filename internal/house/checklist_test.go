package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheSecurityChecklistNamesTestsThatExist: each line of docs/security-checklist.md
// has tests, and each is one of the package that stands before it.
func TestTheSecurityChecklistNamesTestsThatExist(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "security-checklist.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := testsByFolder(t, root)
	group, name := regexp.MustCompile("([a-z]+) ((?:`(?:Test|Fuzz)\\w+`(?:, )?)+)"), regexp.MustCompile(`(?:Test|Fuzz)\w+`)
	lines, named := 0, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| **") {
			continue
		}
		lines++
		groups := group.FindAllStringSubmatch(cells[3], -1)
		if len(groups) == 0 {
			t.Errorf("no test keeps watch over %s", strings.TrimSpace(cells[1]))
		}
		for _, g := range groups {
			for _, test := range name.FindAllString(g[2], -1) {
				if named++; !slices.Contains(have[test], g[1]) {
					t.Errorf("%s: %s is no test of %s, but of %q", strings.TrimSpace(cells[1]), test, g[1], have[test])
				}
			}
		}
	}
	if lines < 20 || named < 50 {
		t.Errorf("%d lines with %d tests: the check proves nothing", lines, named)
	}
}

// testsByFolder is where there is a test of each name, by the last part of the folder.
func testsByFolder(t *testing.T, root string) map[string][]string {
	t.Helper()
	test := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range test.FindAllSubmatch(source, -1) {
			all[string(m[1])] = append(all[string(m[1])], filepath.Base(filepath.Dir(path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestProofsAreComparedInConstantTime: in internal/auth nothing that is secret is
// compared by what stops at the first difference. Signatures of tokens are the
// library's; scopes are no secret.
func TestProofsAreComparedInConstantTime(t *testing.T) {
	files, err := filepath.Glob("../auth/*.go")
	if err != nil {
		t.Fatal(err)
	}
	hasty := regexp.MustCompile(`bytes\.Equal\(|reflect\.DeepEqual\(|slices\.Equal\(|(?i:\bmac\b|\.mac\b|\.MAC\b|digest|signature)(\[:\])? [!=]= [^n]`)
	constant := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		constant += strings.Count(string(source), "hmac.Equal(") + strings.Count(string(source), "subtle.ConstantTimeCompare(")
		for line := range strings.Lines(string(source)) {
			if hasty.MatchString(line) && filepath.Base(file) != "scope.go" {
				t.Errorf("%s compares in a time that tells: %s", file, strings.TrimSpace(line))
			}
		}
	}
	if constant < 2 {
		t.Errorf("%d comparisons in constant time, want one for each side of a member's proof", constant)
	}
}
