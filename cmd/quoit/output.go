package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// output is standard output. It remembers that a write failed, so that nobody
// takes a table on a full disk for success.
type output struct {
	io.Writer
	failed error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil && o.failed == nil {
		o.failed = err
	}
	return n, err
}

// terminalOf returns the terminal that a person is likely to look at through w.
func terminalOf(w any) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

func isTerminal(w any) bool {
	_, ok := terminalOf(w)
	return ok
}

// screenSize is the size of the terminal behind w; 0 by 0 if there is none.
func screenSize(w any) (width, height int) {
	f, ok := terminalOf(w)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// printValue writes a value as it is. Somebody at a terminal gets a line, and no bytes
// that would command the terminal: a value may be a stranger's.
func printValue(w io.Writer, value []byte) error {
	if isTerminal(w) {
		value = []byte(harmless(value) + "\n")
	}
	_, err := w.Write(value)
	return err
}

// harmless is a value as it is, or quoted if it is more than text.
func harmless(value []byte) string {
	commands := func(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }
	if !utf8.Valid(value) || bytes.ContainsFunc(value, commands) {
		return strconv.Quote(string(value))
	}
	return string(value)
}

// printJSON writes one value as indented JSON.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// printLine writes one value as JSON on one line.
func printLine(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// paint colours text on terminals of people who like that, and leaves it as it is
// elsewhere.
type paint bool

// paintFor follows https://no-color.org.
func paintFor(w any) paint {
	return paint(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p paint) with(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string   { return p.with("1", text) }
func (p paint) dim(text string) string    { return p.with("2", text) }
func (p paint) red(text string) string    { return p.with("31", text) }
func (p paint) green(text string) string  { return p.with("32", text) }
func (p paint) yellow(text string) string { return p.with("33", text) }

// widthOf is how many cells a text takes, colours not counted.
func widthOf(text string) int {
	n := 0
	for {
		before, after, found := strings.Cut(text, "\x1b[")
		n += utf8.RuneCountInString(before)
		if !found {
			return n
		}
		_, text, _ = strings.Cut(after, "m")
	}
}

// table is text in columns.
type table struct {
	titles []string
	right  []bool // columns that are numbers
	rows   [][]string
}

// newTable takes the titles; those that begin with > are of columns of numbers.
func newTable(titles ...string) *table {
	t := &table{}
	for _, title := range titles {
		name, right := strings.CutPrefix(title, ">")
		t.titles, t.right = append(t.titles, name), append(t.right, right)
	}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// lines are the rows, below the titles if there are any, each column as wide as it
// has to be.
func (t *table) lines(p paint) []string {
	rows := t.rows
	if strings.Join(t.titles, "") != "" {
		titles := make([]string, len(t.titles))
		for i, title := range t.titles {
			titles[i] = p.dim(title)
		}
		rows = append([][]string{titles}, rows...)
	}
	widths := make([]int, len(t.titles))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], widthOf(cell))
		}
	}
	all := make([]string, len(rows))
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			gap := strings.Repeat(" ", widths[i]-widthOf(cell))
			if t.right[i] {
				b.WriteString(gap + cell)
			} else {
				b.WriteString(cell + gap)
			}
		}
		all[n] = strings.TrimRight(b.String(), " ")
	}
	return all
}

// write prints the table, each line after an indent.
func (t *table) write(w io.Writer, indent string) {
	for _, line := range t.lines(paintFor(w)) {
		fmt.Fprintln(w, indent+line)
	}
}

// bar draws a share from 0 to 1 as a bar of a width, to an eighth of a cell.
func bar(share float64, width int) string {
	const eighths = " ▏▎▍▌▋▊▉"
	n := min(max(int(share*float64(width*8)+0.5), 0), width*8)
	text := strings.Repeat("█", n/8)
	if part := n % 8; part > 0 {
		text += string([]rune(eighths)[part])
	}
	return text + strings.Repeat("·", width-utf8.RuneCountInString(text))
}

// count writes a number with thousands set apart.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is a number of things: "1 node", "3 nodes".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(int64(n)) + " " + thing + "s"
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, letter := float64(n)/unit, 0
	for value >= unit-0.05 && letter < 5 { // what would be written as 1024.0
		value /= unit
		letter++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[letter])
}

// span writes a duration for people: three digits are enough.
func span(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second && d%time.Second == 0:
		return d.String()
	case d >= time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	}
	return fmt.Sprintf("%dµs", d.Microseconds())
}

// percent writes a share from 0 to 1.
func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }
