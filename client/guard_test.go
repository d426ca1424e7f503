//go:build !js

package client

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The browser pays for every package that this one links. What a browser needs
// is injected; texts are put together by hand.
func TestTheBrowserBuildLinksNoSocketsAndNoReflection(t *testing.T) {
	deps := goList(t, "list", "-deps", ".")
	if len(deps) < 20 {
		t.Fatalf("only %d dependencies listed: the check would prove nothing", len(deps))
	}
	for _, dep := range deps {
		switch dep {
		case "net", "net/http", "net/url", "fmt", "encoding/json", "log", "log/slog", "os/exec", "reflect", "regexp", "crypto/tls":
			t.Errorf("GOOS=js links %s", dep)
		}
	}
}

func TestItCompilesForTheBrowser(t *testing.T) {
	goList(t, "vet", ".") // go build ./... on this machine would not notice
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	return strings.Fields(string(out))
}
