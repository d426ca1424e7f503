package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A script in testdata is a conversation with the program:
//
//	# a remark
//	$ quoit get missing       the command; '...' and "..." as in a shell, \n in the latter
//	< a line                  of its standard input
//	text                      a line of its standard output
//	! text                    a line of its standard error
//	= 3                       its exit code, where that is not 0
//
// In expected lines * stands for anything. $MANAGER, $NODE1... are addresses, in
// ring of their ports; $DIR is an empty folder.

// exchange is one command of a script and what is expected of it.
type exchange struct {
	line     int
	args     []string
	in       string
	out, err []string
	code     int
}

// runScript plays a script, with words replaced by values.
func runScript(t *testing.T, name string, values map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for word, value := range values {
		pairs = append(pairs, "$"+word, value)
	}
	exchanges, err := parseScript(strings.NewReplacer(pairs...).Replace(string(text)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, x := range exchanges {
		got := quoitWith(t.Context(), strings.NewReader(x.in), x.args...)
		where := fmt.Sprintf("%s:%d: quoit %q", name, x.line, x.args)
		if got.code != x.code {
			t.Errorf("%s: exit code %d, want %d", where, got.code, x.code)
		}
		compare(t, where+": standard output", got.out, x.out)
		compare(t, where+": standard error", got.err, x.err)
	}
}

func parseScript(text string) (all []exchange, err error) {
	for i, line := range strings.Split(text, "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "$ quoit"):
			x := exchange{line: i + 1}
			if x.args, err = splitWords(strings.TrimPrefix(line, "$ quoit")); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			all = append(all, x)
			continue
		case len(all) == 0:
			return nil, fmt.Errorf("line %d: nothing was asked yet", i+1)
		}
		x := &all[len(all)-1]
		switch text, mark := line[min(2, len(line)):], line[:min(2, len(line))]; mark {
		case "< ":
			x.in += text + "\n"
		case "! ":
			x.err = append(x.err, text)
		case "= ":
			if _, err := fmt.Sscan(text, &x.code); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		default:
			x.out = append(x.out, line)
		}
	}
	return all, nil
}

// splitWords takes a command line apart.
func splitWords(line string) (words []string, err error) {
	escapes := strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`, `\"`, `"`, `\xff`, "\xff")
	word := regexp.MustCompile(`^\s+(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"]\S*))`)
	for strings.TrimSpace(line) != "" {
		m := word.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("cannot read %q", line)
		}
		words = append(words, m[1]+escapes.Replace(m[2])+m[3])
		line = line[len(m[0]):]
	}
	return words, nil
}

func compare(t *testing.T, where, got string, want []string) {
	t.Helper()
	var lines []string // empty ones left out, as scripts cannot have any
	for line := range strings.Lines(got) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			lines = append(lines, line)
		}
	}
	same := len(lines) == len(want)
	for i := 0; same && i < len(lines); i++ {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(want[i], " ")), `\*`, ".*")
		same = regexp.MustCompile("^" + pattern + "$").MatchString(lines[i])
	}
	if !same {
		t.Errorf("%s is\n%s\nwant\n%s", where, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// words are what scripts may call by name.
func words(t *testing.T, manager string, nodes ...string) map[string]string {
	t.Helper()
	values := map[string]string{"MANAGER": manager, "DIR": t.TempDir()}
	for i, n := range nodes {
		values[fmt.Sprintf("NODE%d", i+1)] = n
	}
	return values
}

func TestScriptsWithoutACluster(t *testing.T) {
	t.Setenv("QUOIT_SERVERS", "127.0.0.1:1") // nobody listens there
	t.Setenv("QUOIT_MANAGER_ADDR", "127.0.0.1:1")
	for _, name := range []string{"usage.txt", "nobody.txt", "hash.txt"} {
		t.Run(name, func(t *testing.T) { runScript(t, name, words(t, "127.0.0.1:1")) })
	}
}

func TestScriptsOnACluster(t *testing.T) {
	c := start(t, 3)
	heard(t, c)
	values := words(t, c.Manager(), c.Addresses()...)
	for file, content := range map[string]string{
		"good.jsonl":      `{"key":"in:1","value":"Ada"}` + "\n" + `{"key":"in:2","base64":"/wA=","ttl_ms":3600000}` + "\n",
		"bad.jsonl":       `{"key":"in:1","value":"Ada"}` + "\n" + `{"key":"in:2"}` + "\n",
		"good.csv":        "key,value\nin:3,Grace\nin:4,\n",
		"rows.csv":        "id,name,born\nin:5,Ada,1815\n",
		"bad.csv":         "key,value\nin:3,a\nin:4,b,c\n",
		"what.txt":        "in:6",
		"tree/index.html": "<html>",
		"tree/css/a.css":  "body{}",
	} {
		path := filepath.Join(values["DIR"], file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The cluster first: what the nodes hold is in the status a second later.
	for _, name := range []string{"cluster.txt", "keys.txt", "scan.txt", "transfer.txt"} {
		t.Run(name, func(t *testing.T) { runScript(t, name, values) })
	}
}

func TestTheScriptReaderReadsWords(t *testing.T) {
	got, err := splitWords(` put "a\nb\"" 'x y' -- -5 ''`)
	if err != nil || fmt.Sprintf("%q", got) != `["put" "a\nb\"" "x y" "--" "-5" ""]` {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{` put "a`, ` put 'a`} {
		if got, err := splitWords(bad); err == nil {
			t.Errorf("%s reads as %q", bad, got)
		}
	}
	if _, err := parseScript("out of nowhere"); err == nil {
		t.Error("an answer without a question is no script")
	}
}
