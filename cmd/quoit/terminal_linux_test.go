package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quoitdb/quoit/manager"
)

// terminal is a pseudo terminal: what the program writes to it can be read.
type terminal struct {
	*os.File // the program's end
	person   *os.File

	mu      sync.Mutex
	written bytes.Buffer
	changed chan struct{} // gets a token when something was written
}

func newTerminal(t *testing.T, width, height int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)}); err != nil {
		t.Fatal(err)
	}
	p := &terminal{File: slave, person: master, changed: make(chan struct{}, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.written.Write(buf[:n])
			p.mu.Unlock()
			select {
			case p.changed <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close() // which ends the reading
		<-ended
		master.Close()
	})
	return p
}

func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written.String()
}

// until waits until the terminal shows a word, and returns all that it has shown.
func (p *terminal) until(t *testing.T, word string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		if text := p.text(); strings.Contains(text, word) {
			return text
		}
		select {
		case <-p.changed:
		case <-limit:
			t.Fatalf("the terminal never shows %q, but\n%q", word, p.text())
		}
	}
}

func TestOnATerminalTheStatusIsDrawnInPlace(t *testing.T) {
	heard(t, start(t, 2))
	t.Setenv("TERM", "xterm")
	screen := newTerminal(t, 100, 20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"cluster", "status", "--watch", "--every", "50ms"}, nil, screen.File, screen.File)
	}()
	screen.until(t, "\x1b[?25l\x1b[H\x1b[2J") // cleared once, the cursor hidden
	text := screen.until(t, "\x1b[J")         // the end of a picture
	mustSay(t, text, "\x1b[1mquoit-", "\x1b[32mactive\x1b[0m", "\x1b[K\r\n", "\x1b[J")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	screen.until(t, "\x1b[?25h") // the cursor is back
	if n := strings.Count(screen.text(), "\x1b[2J"); n != 1 {
		t.Errorf("cleared %d times: that flickers", n)
	}
}

func TestALowTerminalIsNotScrolled(t *testing.T) {
	screen := newTerminal(t, 80, 5)
	p := newPlace(screen.File)
	p.show([]string{"1", "2", "3", "4", "5", "6", "7"}, 5)
	p.leave()
	text := screen.until(t, "\x1b[?25h")
	mustSay(t, text, "1\x1b[K", "3\x1b[K", "...")
	if strings.Contains(text, "4") || strings.Count(text, "\n") > 4 {
		t.Errorf("%q scrolls", text)
	}
}

func TestColoursAreForThoseWhoWantThem(t *testing.T) {
	screen := newTerminal(t, 80, 20)
	for _, c := range []struct {
		noColor, term string
		want          paint
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		if got := paintFor(screen.File); got != c.want {
			t.Errorf("NO_COLOR=%q TERM=%q: %v", c.noColor, c.term, got)
		}
	}
	if w, h := screenSize(&output{Writer: screen.File}); w != 80 || h != 20 {
		t.Errorf("the terminal is %d by %d", w, h)
	}
}

func TestOnATerminalProgressIsShown(t *testing.T) {
	c := start(t, 2)
	t.Setenv("TERM", "xterm")
	file := filepath.Join(t.TempDir(), "all.jsonl")
	var lines bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&lines, `{"key":"key:%d","value":"x"}`+"\n", i)
	}
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func(word string, args ...string) {
		t.Helper()
		screen := newTerminal(t, 100, 20)
		var out bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, screen.File); code != 0 {
			t.Errorf("%q: exit code %d: %s", args, code, screen.text())
		}
		screen.until(t, word)
		if strings.ContainsAny(out.String(), "\r\x1b") {
			t.Errorf("%q: control characters on standard output, which is no terminal", args)
		}
	}
	on("importing", "import", file)
	on("exporting", "export", "-o", file)
	on("exporting", "export")
	on("filling", "bench", "--keys", "20000", "--duration", "50ms", "--callers", "2")
	must(t, "cluster", "pause") // or they may have moved before there is a bar
	screen := newTerminal(t, 100, 20)
	ended := make(chan int, 1)
	go func() {
		var out bytes.Buffer
		code := run(t.Context(), []string{"cluster", "remove", c.Addresses()[0]}, strings.NewReader(""), &out, screen.File)
		if strings.ContainsAny(out.String(), "\r\x1b") {
			t.Error("control characters on standard output, which is no terminal")
		}
		ended <- code
	}()
	screen.until(t, "moving")
	must(t, "cluster", "resume")
	if code := <-ended; code != 0 {
		t.Errorf("remove: exit code %d: %s", code, screen.text())
	}

	screen = newTerminal(t, 100, 20)
	if code := run(t.Context(), []string{"get", "key:1"}, nil, screen.File, screen.File); code != 0 {
		t.Errorf("exit code %d", code)
	}
	screen.until(t, "x\r\n") // a terminal gets its newline
	waitStatus(t, c, func(s manager.Status) bool { return len(s.Moves) == 0 })
}

// Also because the bar looks from a goroutine of its own whether it was ever drawn, which
// must not change while it looks.
func TestACounterIsDrawnBeforeAnythingIsCounted(t *testing.T) {
	start(t, 1)
	t.Setenv("TERM", "xterm")
	screen := newTerminal(t, 100, 20)
	in, to := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"import", "-", "--format", "jsonl"}, in, io.Discard, screen.File)
	}()
	screen.until(t, "importing")
	to.Close()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, screen.text())
	}
}

func TestAPersonIsToldWhatIsWaitedFor(t *testing.T) {
	start(t, 1)
	screen := newTerminal(t, 100, 20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"put", "key"}, screen.File, screen.File, screen.File) }()
	screen.until(t, "reading the value from the terminal; end it with Ctrl-D")
	cancel()
	if code := <-ended; code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	screen.until(t, "interrupted")
	const ctrlD = 4 // in a process, the read that is under way ends with it
	if _, err := screen.person.Write([]byte{ctrlD}); err != nil {
		t.Fatal(err)
	}
}

// A value that somebody else has written might clear the screen of who looks at it, set its
// title, or type into it.
func TestAValueCommandsNoTerminal(t *testing.T) {
	start(t, 1)
	const evil = "fine\x1b]0;title\a"
	if code := run(t.Context(), []string{"put", "key"}, strings.NewReader(evil), io.Discard, io.Discard); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	screen := newTerminal(t, 100, 20)
	if code := run(t.Context(), []string{"get", "key"}, nil, screen.File, screen.File); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if text := screen.until(t, "title"); strings.ContainsAny(text, "\x1b\a") || !strings.Contains(text, strconv.Quote(evil)) {
		t.Errorf("the terminal got %q", text)
	}
	var pipe bytes.Buffer
	if code := run(t.Context(), []string{"get", "key"}, nil, &pipe, io.Discard); code != 0 || pipe.String() != evil {
		t.Errorf("exit code %d and %q for who is no terminal", code, pipe.String())
	}
}
