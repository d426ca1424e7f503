// Package leak fails the tests of a package for what outlives them unseen: goroutines
// (whatever is closed, cut off or cancelled must end), and panics that a server has
// contained. It looks once, after all of them, and so does not say which test it was.
package leak

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quoitdb/quoit/internal/contain"
)

// patience is how long goroutines that were told to end may take. goleak's own, half a
// second, is too short for a machine that is busy with other tests.
const patience = 30 * time.Second

// Main is what a package's TestMain calls. Each end ends what tests have shared.
func Main(m *testing.M, ends ...func()) {
	code := m.Run()
	for _, end := range ends {
		end()
	}
	if code == 0 {
		if err := errors.Join(contain.Unasked(), Find()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find returns what is left when everything has had its time to end, but for goroutines
// that stand in one of these functions: those of a library that leaves some behind.
func Find(except ...string) error { return find(time.Now().Add(patience), except...) }

// find looks until nothing is left, or until it is late.
func find(late time.Time, except ...string) error {
	// In WebAssembly the runtime waits for the host's events in a goroutine of its own.
	ignored := []goleak.Option{goleak.IgnoreAnyFunction("runtime.handleEvent")}
	for _, function := range except {
		ignored = append(ignored, goleak.IgnoreAnyFunction(function))
	}
	for {
		if err := goleak.Find(ignored...); err == nil || time.Now().After(late) {
			return err
		}
	}
}
