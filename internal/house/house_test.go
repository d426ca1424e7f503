// Package house guards the architecture: which package may import which, that
// every package says what it promises, and what the browser build may pull in.
// It has no code of its own; a failure names the rule and the way out.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/quoitdb/quoit"

// layers lists, for each package or subtree of this module, what it may import
// from this module. Anything not listed here fails: a new package is placed in
// the house on purpose, with a line in this table.
var layers = map[string][]string{
	"ring":                       {},
	"protocol":                   {},
	"snapshot":                   {"snapshot/bucket", "ring"},
	"snapshot/bucket":            {},
	"snapshot/bucket/buckettest": {"snapshot/bucket", "internal/freeport", "internal/need"},
	"internal/house":             {},
	"internal/places":            {},
	"internal/tlsconf":           {"internal/config"},
	"internal/tlsconf/tlstest":   {"internal/tlsconf"},
	"internal/freeport":          {},
	"internal/vfs":               {},
	"internal/vfs/vfstest":       {"internal/vfs"},
	"internal/md5lanes":          {"ring"},
	"internal/prefetch":          {},
	"internal/failpoint":         {},
	"internal/contain":           {},
	"internal/discreet":          {"protocol"},
	"internal/seldom":            {},
	"internal/admin":             {},
	"internal/cluster":           {"ring", "snapshot/bucket"},
	"node/wal":                   {"internal/failpoint", "internal/vfs"},
	"node/engine/table":          {"internal/prefetch", "ring"},
	"node/engine":                {"internal/prefetch", "node/engine/table", "node/wal", "internal/vfs", "ring", "internal/failpoint"},
	"node/keeper":                {"internal/discreet", "node/engine", "node/wal", "internal/vfs", "internal/failpoint", "snapshot", "snapshot/bucket", "ring"},
	"node/migrate":               {"internal/discreet", "snapshot/bucket", "internal/member", "internal/peer", "node/engine", "node/wal", "internal/cluster", "internal/failpoint", "protocol", "ring"},
	"node":                       {"internal/seldom", "internal/tlsconf", "internal/discreet", "internal/auth", "internal/contain", "internal/places", "internal/inbox", "internal/md5lanes", "internal/member", "internal/peer", "node/engine", "node/keeper", "node/migrate", "node/wal", "internal/vfs", "internal/cluster", "internal/failpoint", "internal/admin", "internal/config", "snapshot", "snapshot/bucket", "protocol", "ring"},
	"manager":                    {"internal/seldom", "internal/tlsconf", "internal/discreet", "internal/auth", "internal/contain", "internal/places", "internal/member", "internal/peer", "internal/cluster", "internal/admin", "internal/config", "internal/failpoint", "snapshot/bucket", "protocol", "ring"},
	"client":                     {"protocol", "ring"},
	"gateway":                    {"internal/seldom", "internal/discreet", "internal/auth", "internal/tlsconf", "client", "internal/contain", "internal/places", "internal/inbox", "internal/peer", "internal/admin", "internal/config", "protocol", "ring"},
	"wasmclient/border":          {"client", "protocol", "ring"},
	"wasmclient":                 {"wasmclient/border"},
	"web":                        {},
	"internal/config":            {},
	"internal/auth":              {"internal/config", "internal/peer", "internal/tlsconf", "protocol"},
	"internal/inbox":             {},
	"internal/need":              {},
	"internal/leak":              {"internal/contain"},
	"internal/peer":              {"protocol"},
	"internal/local":             {"manager", "node", "client", "internal/", "snapshot/bucket", "ring"},
	"internal/bench":             {"client", "protocol", "ring", "internal/"},
	"internal/demo":              {"manager", "client", "protocol", "ring", "internal/"},
	"internal/member":            {"internal/cluster", "ring"},
	"internal/oracle":            {"client"},
	"internal/sim":               {"manager", "node", "client", "internal/", "snapshot", "snapshot/bucket", "snapshot/bucket/buckettest", "protocol", "ring"},
	"internal/transfer":          {"client", "protocol", "ring", "internal/"},
	"internal/restoretest":       {"snapshot", "snapshot/bucket", "node/wal", "node/engine", "internal/vfs", "ring"},
	"internal/restore":           {"snapshot", "snapshot/bucket", "node/wal", "node/engine", "internal/cluster", "internal/transfer", "client", "ring"},
	"cmd/quoit":                  {"manager", "node", "gateway", "web", "client", "snapshot", "snapshot/bucket", "internal/", "protocol", "ring"},
	"tools/compare":              {"client", "snapshot", "snapshot/bucket", "internal/freeport", "internal/restore"},
	"tools/planted":              {},
	"tools/sim":                  {},
	"integration":                {"manager", "node", "node/wal", "node/keeper", "node/migrate", "client", "snapshot", "snapshot/bucket", "internal/", "protocol", "ring"},
	"integration/browser":        {"gateway", "web", "client", "internal/", "protocol", "ring"},
	"integration/containers":     {"manager", "node", "gateway", "client", "snapshot/bucket", "internal/"},
}

// pure packages are linked into the browser client and into test oracles.
var pure = []string{"ring", "protocol"}

// pureDenied are the standard packages a pure package must not touch.
var pureDenied = []string{"fmt", "net", "os", "time", "log", "log/slog", "sync", "sync/atomic", "encoding/json", "io/fs", "context"}

// jsDenied are packages the browser's build must not link, each with its reason.
var jsDenied = map[string]string{
	"net":           "the browser has no sockets; the transport is injected",
	"net/http":      "adds about 2 MB to the wasm module",
	"net/url":       "pulls in fmt",
	"fmt":           "reflection; about 60 kB gzip for a few error texts",
	"encoding/json": "about 150 kB gzip; the topology has a line format",
	"log":           "a library does not log",
	"log/slog":      "a library does not log",
	"os/exec":       "a library does not start programs",
	"os":            "a file system that no page has, 50 kB",
	"crypto":        "links AES and SHA-3 for an MD5, 75 kB gzip; ring has its own for browsers",
	"reflect":       "as fmt",
}

type goPackage struct {
	ImportPath, Dir, Name     string
	Imports, Deps             []string
	GoFiles, TestGoFiles      []string
	XTestGoFiles, CgoFiles    []string
	IgnoredGoFiles            []string
	TestImports, XTestImports []string
}

func list(t *testing.T, env []string, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []goPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// allowed says whether an import of this module is permitted by a layer's list.
// An entry ending in a slash opens a subtree.
func allowed(list []string, imp string) bool {
	for _, a := range list {
		if a == imp || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a) {
			return true
		}
	}
	return false
}

// forBrowsers are the packages that only a browser's build has.
func forBrowsers(t *testing.T) []goPackage {
	t.Helper()
	return list(t, []string{"GOOS=js", "GOARCH=wasm"}, "./wasmclient/...")
}

func TestImportsRunDownwardOnly(t *testing.T) {
	pkgs := append(list(t, nil, "./..."), forBrowsers(t)...)
	if len(pkgs) < 5 {
		t.Fatalf("go list found only %d packages: the check would prove nothing", len(pkgs))
	}
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		may, known := layers[name]
		if !known {
			t.Errorf("package %s has no line in layers: decide what it may import and add it", name)
			continue
		}
		for _, imp := range p.Imports {
			rel, ours := strings.CutPrefix(imp, module+"/")
			if ours && !allowed(may, rel) {
				t.Errorf("%s imports %s: arrows run cmd -> servers -> engine/client -> wal/snapshot -> ring/protocol", name, rel)
			}
		}
	}
}

// servers contain what one connection brings to light; see package contain.
var servers = []string{module + "/node", module + "/manager", module + "/gateway"}

// A panic that is contained would be seen by nobody, if the tests did not look for it.
func TestWhereServersRunInTestsTheirPanicsAreLookedFor(t *testing.T) {
	deps, pkgs := map[string][]string{}, list(t, nil, "./...")
	for _, p := range pkgs {
		deps[p.ImportPath] = append(p.Deps, p.ImportPath)
	}
	looking := 0
	for _, p := range pkgs {
		linked, source := slices.Clone(deps[p.ImportPath]), []byte{}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			linked = append(linked, deps[imp]...)
		}
		for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			source = append(source, text...)
		}
		runs := slices.ContainsFunc(servers, func(s string) bool { return slices.Contains(linked, s) })
		looks := bytes.Contains(source, []byte("leak.Main(")) || bytes.Contains(source, []byte("contain.Unasked("))
		if runs && len(source) > 0 && !looks {
			t.Errorf("the tests of %s link servers, and nobody looks for panics in them: let its TestMain call leak.Main", p.ImportPath)
		}
		if runs && looks {
			looking++
		}
	}
	if looking < 5 {
		t.Errorf("only %d packages look for panics: the check proves nothing", looking)
	}
}

func TestPurePackagesStayPure(t *testing.T) {
	for _, name := range pure {
		for _, p := range list(t, nil, "./"+name) {
			for _, imp := range p.Imports {
				if slices.Contains(pureDenied, imp) || strings.Contains(imp, ".") {
					t.Errorf("%s imports %s: pure packages take values and return values", name, imp)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range append(list(t, nil, "./..."), forBrowsers(t)...) {
		var longest int
		for _, f := range slices.Concat(p.GoFiles, p.TestGoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				longest = max(longest, len(file.Doc.Text()))
			}
		}
		if longest < 80 {
			t.Errorf("%s: no package comment worth the name (%d characters); say what it promises and what it does not", p.ImportPath, longest)
		}
	}
}

func TestBrowserBuildOfClientStaysSmall(t *testing.T) {
	for _, p := range list(t, []string{"GOOS=js", "GOARCH=wasm"}, "./client", "./wasmclient") {
		for _, dep := range p.Deps {
			if why, denied := jsDenied[dep]; denied {
				t.Errorf("%s links %s under GOOS=js: %s", p.ImportPath, dep, why)
			}
		}
	}
}

func TestNoInitFunctionsAndNoSleepingTests(t *testing.T) {
	for _, p := range append(list(t, nil, "./..."), forBrowsers(t)...) {
		for _, f := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			src, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(src, []byte("\nfunc init()")) {
				t.Errorf("%s/%s has an init function: wire it in main", p.ImportPath, f)
			}
			if strings.HasSuffix(f, "_test.go") && bytes.Contains(src, []byte("time"+".Sleep(")) {
				t.Errorf("%s/%s sleeps: inject time, use testing/synctest, or wait for the event itself", p.ImportPath, f)
			}
		}
	}
}
