package protocol_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

const docs = "../docs/protocol.md"

// The table of commands in the documentation is the one in the code.
func TestDocumentedCommands(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(page), "do not edit -->\n")
	_, tail, closed := strings.Cut(rest, "<!-- end of commands -->")
	if !found || !closed {
		t.Fatal("the marks around the table are gone")
	}
	want := head + "do not edit -->\n" + commandTables() + "<!-- end of commands -->" + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatal(`docs/protocol.md differs from the code; run "go test ./protocol -update"`)
	}
	if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// commandTables describes all commands, those of a kind in one table.
func commandTables() string {
	var out strings.Builder
	for _, group := range []struct {
		title string
		flags protocol.Flags
	}{
		{"Data", protocol.Write | protocol.Readonly},
		{"Session", protocol.Session},
		{"Between members and operators", protocol.Cluster | protocol.Admin},
	} {
		out.WriteString("\n### " + group.title + "\n\n| command | what it does | reply |\n|---|---|---|\n")
		for _, c := range protocol.Commands() {
			if c.Spec().Flags&group.flags != 0 {
				out.WriteString("| " + usageOf(c) + " | " + c.Doc().Summary + " | " + c.Doc().Reply + " |\n")
			}
		}
	}
	return out.String() + "\n"
}

func usageOf(c protocol.Command) string {
	text := "`" + strings.ReplaceAll(c.Synopsis(), "|", `\|`) + "`"
	if aliases := c.Spec().Aliases; len(aliases) > 0 {
		text += ", also `" + strings.Join(aliases, "`, `") + "`"
	}
	return text
}

// Every code is explained, and none that does not exist.
func TestDocumentedCodes(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "| code |")
	section, _, _ = strings.Cut(section, "\n\n")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+)` ").FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
	}
	var want []string
	for _, c := range codes {
		want = append(want, string(c))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("documented: %v\nexisting:   %v", got, want)
	}
}

// The limits that the documentation names are those of the code.
func TestDocumentedLimits(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	d := protocol.DefaultLimits()
	for row, right := range map[string]bool{
		"| a line | 64 KiB |":                            d.MaxInline == 64<<10,
		"| arguments in a request | 1,048,576 |":         d.MaxArgs == 1_048_576,
		"| a key | 64 KiB |":                             d.MaxKey == 64<<10,
		"| a value | 64 MiB |":                           d.MaxValue == 64<<20,
		"| a request | 512 MiB |":                        d.MaxRequest == 512<<20,
		"| a pattern | 1,024 bytes |":                    protocol.MaxPattern == 1024,
		"| keys looked at for a page of SCAN | 10,000 |": protocol.MaxScanCount == 10_000,
	} {
		if !right || !strings.Contains(string(page), row) {
			t.Errorf("not so in code or documentation: %s", row)
		}
	}
}
