package containers

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/testcontainers/testcontainers-go/log"

	"github.com/quoitdb/quoit/internal/contain"
)

// parallel is how many stories run at once: they wait for servers, Docker and timeouts
// more than they work.
const parallel = "4"

// workplace is a folder of this run's own.
var workplace string

func TestMain(m *testing.M) {
	flag.Parse()
	err := flag.Set("test.parallel", parallel)
	if err == nil {
		workplace, err = os.MkdirTemp("", "quoit-containers-")
	}
	if err != nil {
		panic(err)
	}
	// The library's own cleaner is an image that only a registry has; docker_test.go
	// has ours.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		panic(err)
	}
	log.SetDefault(quiet{})
	code := m.Run()
	if err := contain.Unasked(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := errors.Join(removeOwn(context.Background()), os.RemoveAll(workplace)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// quiet is for the library's log: what matters of it is in the errors.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
