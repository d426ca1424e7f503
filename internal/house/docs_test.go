package house

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// files are the contents of all files of the repository whose names end in one of the
// suffixes, by their paths from its root.
func files(t *testing.T, suffixes ...string) map[string]string {
	t.Helper()
	root, all := root(t), map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root):
			return filepath.SkipDir
		case d.IsDir() || !slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) }):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		all[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var fenced = regexp.MustCompile("(?ms)^```.*?^```")

// anchors are the names of a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var all []string
	for line := range strings.Lines(fenced.ReplaceAllString(page, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return all
}

// TestLinksInDocsLeadSomewhere: a link to another file of the repository names one that
// is there, and a heading that it has.
func TestLinksInDocsLeadSomewhere(t *testing.T) {
	pages := files(t, ".md")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	followed := 0
	for name, page := range pages {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			followed++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
			}
			if _, err := os.Stat(filepath.Join(root(t), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if anchor != "" && !slices.Contains(anchors(pages[target]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading, but %q", name, m[1], target, anchors(pages[target]))
			}
		}
	}
	if followed < 50 {
		t.Errorf("only %d links were followed: the check proves nothing", followed)
	}
}

// TestEveryVariableIsInTheOperationsPage, and every one that a page, a script or a manifest
// names is one that a program reads.
func TestEveryVariableIsInTheOperationsPage(t *testing.T) {
	variable := regexp.MustCompile(`QUOIT_[A-Z0-9]+(?:_[A-Z0-9]+)*`)
	// What the source has as a whole string, or as a field's tag with its _FILE, is read.
	read := regexp.MustCompile(`"(QUOIT_[A-Z0-9_]*[A-Z0-9])"|env:"(QUOIT_[A-Z0-9_]*[A-Z0-9])`)
	secret := regexp.MustCompile("config\\.Secret\\s+`env:\"(QUOIT_[A-Z0-9_]+)\"")
	known, tests := map[string]bool{}, map[string]bool{}
	for name, source := range files(t, ".go") {
		into := known
		switch {
		case strings.HasPrefix(name, "wasmclient/"):
			continue // a page has no environment
		case strings.HasSuffix(name, "_test.go"), strings.HasPrefix(name, "tools/"), strings.HasPrefix(name, "internal/need/"), strings.HasPrefix(name, "snapshot/bucket/buckettest/"):
			into = tests
		}
		for _, m := range read.FindAllStringSubmatch(source, -1) {
			into[m[1]+m[2]] = true
			if strings.HasPrefix(m[1], "QUOIT_S3_") && !strings.HasSuffix(m[1], "_FILE") { // package bucket reads the file of each
				into[m[1]+"_FILE"] = true
			}
		}
		for _, m := range secret.FindAllStringSubmatch(source, -1) {
			into[m[1]+"_FILE"] = true
		}
	}
	named := map[string]bool{}
	for name, page := range files(t, ".md", ".yaml", ".yml", "Dockerfile", ".sh") {
		for _, v := range variable.FindAllString(page, -1) {
			if name == "docs/operations.md" {
				named[v] = true
			}
			prefix := slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, v+"_") }) // QUOIT_TLS_ stands for all of them
			if !known[v] && !tests[v] && !prefix {
				t.Errorf("%s names %s, which nothing reads", name, v)
			}
		}
	}
	for v := range known {
		if !named[v] {
			t.Errorf("%s is read, and docs/operations.md does not say what it does", v)
		}
	}
	if len(known) < 70 {
		t.Errorf("only %d variables were found: the check proves nothing", len(known))
	}
}

// TestMetricsInDocsAreThere: an alarm on a metric that nobody writes never rings.
func TestMetricsInDocsAreThere(t *testing.T) {
	var source strings.Builder
	for name, text := range files(t, ".go") {
		if !strings.HasSuffix(name, "_test.go") {
			source.WriteString(text)
		}
	}
	metric := regexp.MustCompile("`(quoit_[a-z0-9_]+)[`{]")
	looked := 0
	for name, page := range files(t, ".md") {
		for _, m := range metric.FindAllStringSubmatch(page, -1) {
			if looked++; !strings.Contains(source.String(), m[1]) {
				t.Errorf("%s names the metric %s, which nothing writes", name, m[1])
			}
		}
	}
	if looked < 25 {
		t.Errorf("only %d metrics were looked for: the check proves nothing", looked)
	}
}
