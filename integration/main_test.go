package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/internal/leak"
)

// binary is the quoit that the tests start, built once for all of them.
var binary string

// parallel is how many clusters run at once: they wait for faults and timeouts more
// than they work.
const parallel = "8"

// toxics are where goroutines of toxiproxy stay when it has cut a connection short.
var toxics = []string{
	"github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run",
	"github.com/Shopify/toxiproxy/v2.(*ToxicLink).read",
}

func TestMain(m *testing.M) {
	if text := os.Getenv(attackVariable); text != "" {
		if err := attackers(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "quoit-integration-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "quoit")
		build := exec.CommandContext(context.Background(), "go", "build", "-o", binary, "../cmd/quoit")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the quoit binary: %v\n%s", err, out)
			return 1
		}
		code := m.Run()
		if code == 0 {
			if err := errors.Join(contain.Unasked(), leak.Find(toxics...)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}
