package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCommandsInDocsAreThere: what the pages call quoit with is a command, and takes the
// flags that it is given.
func TestCommandsInDocsAreThere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "compose.yaml", "Taskfile.yml"} {
		pages = append(pages, filepath.Join("../..", name))
	}
	// In code: at the beginning of a line or behind a backquote, a prompt or an operator.
	call := regexp.MustCompile("(?m)(?:^|[`$&|(]) ?(?:[A-Z_]+=\\S+ )*(?:go run \\./cmd/quoit|/?quoit) ([^`\n]*)")
	calls := 0
	for _, name := range pages {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(inCode(string(text)), -1) {
			calls++
			if why := mistake(m[1]); why != "" {
				t.Errorf("%s has quoit %s: %s", filepath.Base(name), m[1], why)
			}
		}
	}
	if calls < 60 {
		t.Errorf("only %d calls were found: the check proves nothing", calls)
	}
}

// inCode is what a page has between backquotes, a line each, and in blocks.
func inCode(page string) string {
	blocks := regexp.MustCompile("(?ms)^```.*?^```")
	inline := regexp.MustCompile("`[^`]+`")
	return strings.Join(blocks.FindAllString(page, -1), "\n") + "\n" + strings.Join(inline.FindAllString(blocks.ReplaceAllString(page, ""), -1), "\n")
}

// mistake says what is wrong with a call, by the names of its commands and flags alone.
func mistake(call string) string {
	call, _, _ = strings.Cut(call, " #")
	call, _, _ = strings.Cut(call, " &")
	call, _, _ = strings.Cut(call, " | ")
	words := strings.Fields(call)
	c := newRoot()
	addCompletion(c)
	for len(words) > 0 {
		next := child(c, words[0])
		if next == nil {
			break
		}
		c, words = next, words[1:]
	}
	c.InitDefaultHelpFlag()
	if c.HasSubCommands() && len(words) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
		return "there is no command " + words[0]
	}
	for _, w := range words {
		if w == "--" {
			break
		}
		flag, long := strings.CutPrefix(w, "--")
		flag, _, _ = strings.Cut(strings.TrimRight(flag, ".,;:)'\"]"), "=")
		if long && flag != "version" && c.Flags().Lookup(flag) == nil && c.InheritedFlags().Lookup(flag) == nil {
			return c.CommandPath() + " has no --" + flag
		}
	}
	return ""
}

func child(c *cobra.Command, name string) *cobra.Command {
	for _, sub := range c.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}
