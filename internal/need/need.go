// Package need finds what a test needs beside Go. A test whose need is missing is
// skipped with the command that brings it; where QUOIT_TEST_REQUIRE names the need,
// as in continuous integration, the test fails.
package need

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Variable lists needs that must be there, parted by commas, such as redis,docker.
const Variable = "QUOIT_TEST_REQUIRE"

// toolTime is how long Run waits for a program.
const toolTime = 3 * time.Minute

// required says whether a test that needs this must not be skipped.
func required(need string) bool {
	return slices.Contains(strings.Split(os.Getenv(Variable), ","), need)
}

// Missing ends a test that cannot go on: what is missing, and the remedy, a command
// that brings it.
func Missing(t testing.TB, need, what, remedy string) {
	t.Helper()
	if required(need) {
		t.Fatalf("%s is missing, and %s asks for %s: %s", what, Variable, need, remedy)
	}
	t.Skipf("%s is missing: %s", what, remedy)
}

// Program returns the path of a program that a Debian package brings, or ends the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	need, pkg := name, name
	switch name {
	case "redis-cli", "redis-benchmark":
		need, pkg = "redis", "redis-tools"
	case "redis-server":
		need = "redis"
	case "node":
		pkg = "nodejs"
	}
	Missing(t, need, name, "apt-get install "+pkg)
	return ""
}

// Run gives a program its input, and returns what it writes. A program that fails, or
// does not end, fails the test.
func Run(t testing.TB, input, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", program, args, err, out, stderr.String())
	}
	return string(out)
}
