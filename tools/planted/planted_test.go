package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The list must not rot: every mistake still has its place in the code, says what
// it is, and names tests that exist. Whether they notice is for `task planted`.
func TestEveryMistakeCanBePlanted(t *testing.T) {
	root := filepath.Join("..", "..")
	names, tests := map[string]bool{}, map[string]map[string]bool{}
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			if names[m.name] {
				t.Error("the name is taken")
			}
			names[m.name] = true
			if m.what == "" || !strings.HasSuffix(m.what, ".") {
				t.Errorf("want a sentence, not %q", m.what)
			}
			source, err := os.ReadFile(filepath.Join(root, m.file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.apply(string(source)); err != nil {
				t.Error(err)
			}
			if tests[m.pkg] == nil {
				tests[m.pkg] = testsOf(t, filepath.Join(root, m.pkg))
			}
			if len(m.tests) == 0 {
				t.Error("no test is named")
			}
			for _, name := range m.tests {
				if !tests[m.pkg][name] {
					t.Errorf("%s has no test %s", m.pkg, name)
				}
			}
		})
	}
}

func TestTheSimulatorHasItsMistakes(t *testing.T) {
	if got := simulatorMistakes(mistakes()); len(got) != len(simulated) {
		t.Errorf("%d of the names %v are in the lists", len(got), simulated)
	}
}

func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names, declared := map[string]bool{}, regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllSubmatch(source, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}

func TestAMistakeThatFitsTwiceOrNeverIsRefused(t *testing.T) {
	m := mistake{file: "x.go", old: "a := b", new: "a := c"}
	for _, source := range []string{"", "a := b; a := b"} {
		if _, err := m.apply(source); err == nil || !strings.Contains(err.Error(), "want once") {
			t.Errorf("%q: %v", source, err)
		}
	}
	if got, err := m.apply("x; a := b; y"); err != nil || got != "x; a := c; y" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (mistake{old: "a", new: "a"}).apply("a"); err == nil {
		t.Error("a change that changes nothing was planted")
	}
}

func TestTheCulpritIsTheTestThatFailed(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN   TestA\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/b (0.00s)\n": "TestA/b",
		"=== RUN   TestA\npanic: test timed out after 1s":                           "TestA (never ended)",
		"=== RUN   TestA\n=== RUN   TestB\npanic: boom":                             "TestB (died)",
		"fatal error": "the process died",
	} {
		if got := culprit([]byte(out)); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
