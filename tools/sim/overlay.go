package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// change is a place in a file of the Go runtime and what is there instead.
type change struct{ file, old, new string }

// changes make the runtime repeatable. Chances are drawn from the seed by goroutines of
// a bubble only: all others go on as ever.
var changes = []change{
	// The process begins with the same random numbers: hashes of maps rest on them.
	{
		"rand.go", "	if len(startupRand) >= 16 &&",
		"	if steadyStart := true; steadyStart {\n		seed[0] = 1\n	} else if len(startupRand) >= 16 &&",
	},
	// math/rand/v2, seeds and iterations of maps.
	{
		"rand.go", "	mp := getg().m\n	c := &mp.chacha8\n",
		"	mp := getg().m\n	if gp := mp.curg; gp != nil && gp.bubble != nil {\n		return steadyNext()\n	}\n	c := &mp.chacha8\n",
	},
	// The order of a select.
	{"select.go", "		j := cheaprandn(uint32(norder + 1))\n", "		j := uint32(uint64(steadyCheap()) * uint64(norder+1) >> 32)\n"},
	// Who waits for a mutex, in the tree of those who wait.
	{"sema.go", "	s.ticket = cheaprand() | 1\n", "	s.ticket = steadyCheap() | 1\n"},
	// The order of timers of one moment.
	{"time.go", "			t.rand = cheaprand()\n", "			t.rand = steadyCheap()\n"},
	{
		"rand.go", "func legacy_fastrand64() uint64 {\n	return rand()\n}\n",
		`func legacy_fastrand64() uint64 {
	return rand()
}

var steadyState uint64

//go:linkname steadySeed
func steadySeed(seed uint64) { steadyState = seed }

func steadyCheap() uint32 {
	if gp := getg().m.curg; gp != nil && gp.bubble != nil {
		return uint32(steadyNext() >> 32)
	}
	return cheaprand()
}

//go:nosplit
func steadyNext() uint64 {
	steadyState += 0x9e3779b97f4a7c15
	z := steadyState
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
`,
	},
	// Nobody is interrupted because real time has passed.
	{
		"proc.go", "func retake(now int64) uint32 {\n	n := 0\n",
		"func retake(now int64) uint32 {\n	n := 0\n	if now != 0 {\n		return 0\n	}\n",
	},
	// What has yielded comes after what is ready, not every 61st time before it.
	{"proc.go", "	if pp.schedtick%61 == 0 && !sched.runq.empty() {", "	if false && !sched.runq.empty() {"},
	// A goroutine's stack begins large enough: to grow them was a twentieth of a run.
	{"stack.go", "var startingStackSize uint32 = fixedStack\n", "var startingStackSize uint32 = 4 * fixedStack\n"},
	// A mutex does not change its ways because real time has passed.
	{"sema.go", "func internal_sync_nanotime() int64 {\n	return nanotime()\n", "func internal_sync_nanotime() int64 {\n	return 0\n"},
}

// writeOverlay writes the changed files and returns the overlay's name.
func writeOverlay(ctx context.Context, dir string) (string, error) {
	folder, err := runtimeFolder(ctx)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, source := range changedFiles(folder) {
		if source.err != nil {
			return "", source.err
		}
		copied := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(copied, []byte(source.text), 0o600); err != nil {
			return "", err
		}
		replace[name] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, overlay, 0o600)
}

// runtimeFolder is where the toolchain that builds has its runtime.
func runtimeFolder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the toolchain: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src", "runtime"), nil
}

type source struct {
	text string
	err  error
}

// changedFiles applies the changes to the runtime in a folder.
func changedFiles(dir string) map[string]source {
	files := map[string]source{}
	for _, c := range changes {
		name := filepath.Join(dir, c.file)
		s, read := files[name]
		if !read {
			b, err := os.ReadFile(name)
			s = source{string(b), err}
		}
		if n := strings.Count(s.text, c.old); s.err == nil && n != 1 {
			s.err = fmt.Errorf("%s has the text to be changed %d times, want once: this toolchain's runtime is another one, bring overlay.go up to date; it is\n%s", name, n, c.old)
		}
		s.text = strings.Replace(s.text, c.old, c.new, 1)
		files[name] = s
	}
	return files
}
