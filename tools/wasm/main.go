// Wasm builds the client for browsers into web/dist, where the binary takes it from:
//
//	go run -C tools/wasm .
//
// It writes quoit.wasm.gz and quoit.wasm.br, compressed as well as can be, and the
// wasm_exec.js of the Go that built them, and says how large they are. Nothing is
// compressed again that has not changed.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/andybalholm/brotli"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wasm:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	dist := filepath.Join(root, "web", "dist")
	dir, err := os.MkdirTemp("", "quoit-wasm-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "quoit.wasm")
	if _, err := golang(root, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./wasmclient"); err != nil {
		return err
	}
	home, err := golang(root, "env", "GOROOT")
	if err != nil {
		return err
	}
	script, err := os.ReadFile(filepath.Join(strings.TrimSpace(home), "lib", "wasm", "wasm_exec.js"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dist, "wasm_exec.js"), script, 0o644); err != nil {
		return err
	}
	plain, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	return pack(dist, plain)
}

// golang runs the go command for a browser.
func golang(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return string(out), nil
}

// pack writes the compressed twins, unless they are those of these bytes already.
func pack(dist string, plain []byte) error {
	sum := sha256.Sum256(plain)
	mark, stamp := filepath.Join(dist, ".sum"), hex.EncodeToString(sum[:])
	name := func(suffix string) string { return filepath.Join(dist, "quoit.wasm"+suffix) }
	if old, err := os.ReadFile(mark); err == nil && string(old) == stamp && exists(name(".gz")) && exists(name(".br")) {
		fmt.Println("web/dist is up to date")
		return nil
	}
	zipped, err := through(plain, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestCompression) })
	if err != nil {
		return err
	}
	br, err := through(plain, func(w io.Writer) (io.WriteCloser, error) {
		return brotli.NewWriterLevel(w, brotli.BestCompression), nil
	})
	if err != nil {
		return err
	}
	for suffix, data := range map[string][]byte{".gz": zipped, ".br": br} {
		if err := os.WriteFile(name(suffix), data, 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("web/dist: quoit.wasm %d bytes, gzip %d, brotli %d\n", len(plain), len(zipped), len(br))
	return os.WriteFile(mark, []byte(stamp), 0o644)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func through(data []byte, open func(w io.Writer) (io.WriteCloser, error)) ([]byte, error) {
	var out bytes.Buffer
	w, err := open(&out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
