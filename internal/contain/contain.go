// Package contain is for bugs that one connection brings to light: its goroutine
// panics, and the server closes it and serves the others. So that such a bug is not
// overlooked, it is counted in the server's metrics and logged with its stack; and it
// fails the tests: package leak looks at Unasked when the tests of a package are over,
// and Told finds a panic in the log of a server that was a process of its own.
//
// A test that makes a server panic on purpose says so with Panics.Asked. All functions
// and methods may be called from any goroutine.
package contain

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// closed is how the line ends that a server logs of a panic: Told looks for it.
const closed = "panicked and was closed"

// Panics counts those of one server. The zero value is ready.
type Panics struct{ count atomic.Uint64 }

// process is what no test has asked for, of all servers of the process.
var process struct {
	mu    sync.Mutex
	count uint64 // guarded by mu
	last  string // guarded by mu
}

// Caught counts a panic whose reason recover has returned, and logs it with the stack
// that led to it. It is called in the deferred function that has recovered. What is what
// is closed because of it, "a connection" say, and args are as those of slog.
func (p *Panics) Caught(log *slog.Logger, what string, reason any, args ...any) {
	stack := string(debug.Stack())
	p.count.Add(1)
	process.mu.Lock()
	process.count++
	process.last = fmt.Sprintf("%v\n%s", reason, stack)
	process.mu.Unlock()
	log.Error(what+" "+closed, append(args, "panic", reason, "stack", stack)...)
}

// Load returns how many there were.
func (p *Panics) Load() uint64 { return p.count.Load() }

// Asked returns how many there were, and forgets them: the test wanted them.
func (p *Panics) Asked() uint64 {
	n := p.count.Swap(0)
	process.mu.Lock()
	defer process.mu.Unlock()
	process.count -= n
	return n
}

// Unasked returns an error, with the last reason and its stack, if a server of this
// process has contained a panic that no test has asked for.
func Unasked() error {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.count == 0 {
		return nil
	}
	return fmt.Errorf("%d panics were contained that no test has asked for (Panics.Asked), the last: %s", process.count, process.last)
}

// Told returns an error with the line of a server's log, and what follows it, that tells
// of a panic, contained or not.
func Told(log []byte) error {
	const much = 4 << 10
	at := 0
	for line := range bytes.Lines(log) {
		if tells(line) {
			return errors.New("the server has panicked: " + string(log[at:min(len(log), at+much)]))
		}
		at += len(line)
	}
	return nil
}

// tells knows the words of Caught, of the Go runtime and of net/http.
func tells(line []byte) bool {
	return bytes.Contains(line, []byte(closed)) || bytes.HasPrefix(line, []byte("panic: ")) ||
		bytes.HasPrefix(line, []byte("fatal error: ")) || bytes.Contains(line, []byte("http: panic serving"))
}
