package browser

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/need"
)

// budget is how many bytes of gzip -9 a page loads before its first call. Go's runtime
// alone is 570,000 of them, and with context, time and sync 680,000.
const budget = 1_020_000

// golang runs the go command, for a browser, in the root of the module.
func golang(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0"), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTheClientStaysSmall: what is loaded before anything works has a budget. Who goes
// over it sees with `go tool nm -size` and `go list -deps` what for.
func TestTheClientStaysSmall(t *testing.T) {
	out := filepath.Join(t.TempDir(), "quoit.wasm")
	golang(t, nil, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./wasmclient")
	plain, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, %d with gzip -9", len(plain), packed.Len())
	if packed.Len() > budget {
		t.Errorf("quoit.wasm has %d bytes with gzip -9, and may have %d", packed.Len(), budget)
	}
}

// TestTheUnitTestsInWebAssembly: what pages link is tested as they link it, the golden
// vectors of the ring among it.
func TestTheUnitTestsInWebAssembly(t *testing.T) {
	t.Parallel()
	need.Program(t, "node")
	home := strings.TrimSpace(golang(t, nil, "env", "GOROOT"))
	// What these tests need beside Go, no page has: they skip then.
	golang(t, []string{need.Variable + "="}, "test", "-exec="+filepath.Join(home, "lib", "wasm", "go_js_wasm_exec"),
		"./ring", "./protocol", "./client", "./wasmclient/...")
}
