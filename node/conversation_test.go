package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestConversations plays the scripts in testdata/conversations, each against a
// server of its own:
//
//	> PUT a 1        a request as a line
//	raw> "*1\r\n..."  bytes, quoted as in Go
//	+OK              the reply, as readReply shows it; a quoted string for binary ones
//	-ERR no...       "..." at the end stands for anything
//	:$1              a number that is remembered; $1 later stands for it
//	advance 2ms      moves the server's clock
//	closed           the server has closed the connection
func TestConversations(t *testing.T) {
	scripts, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
			s := startSolo(t, soloOptions{clock: clock.now})
			play(t, s.dial(), clock, string(text))
		})
	}
}

// fakeClock is a clock that tests move.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (f *fakeClock) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fakeClock) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(d)
}

func play(t *testing.T, c *testClient, clock *fakeClock, script string) {
	t.Helper()
	known := map[string]string{}
	for i, line := range strings.Split(script, "\n") {
		for name, value := range known {
			line = strings.ReplaceAll(line, name, value)
		}
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || word == "#":
		case word == ">":
			c.send(rest + "\r\n")
		case word == "raw>":
			c.send(unquote(t, rest))
		case word == "advance":
			d, err := time.ParseDuration(rest)
			if err != nil {
				t.Fatal(err)
			}
			clock.advance(d)
		case line == "closed":
			c.expectClosed()
		default:
			if got := c.reply(); !matches(t, line, got, known) {
				t.Fatalf("line %d: got %q, want %q", i+1, got, line)
			}
		}
	}
}

// matches compares a reply with its pattern and learns what $1 stands for.
func matches(t *testing.T, want, got string, known map[string]string) bool {
	if strings.HasPrefix(want, `"`) {
		want = unquote(t, want)
	}
	if at := strings.Index(want, "$"); at >= 0 && len(want) > at+1 && len(got) > at {
		name := want[at : at+2]
		value := got[at:]
		value = value[:len(value)-len(strings.TrimLeft(value, "0123456789"))]
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return false
		}
		known[name] = value
		want = strings.Replace(want, name, value, 1)
	}
	if prefix, ok := strings.CutSuffix(want, "..."); ok {
		return strings.HasPrefix(got, prefix)
	}
	return got == want
}

func unquote(t *testing.T, text string) string {
	t.Helper()
	s, err := strconv.Unquote(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}
