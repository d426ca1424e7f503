package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/need"
)

func TestSixtyMegabytesGoInAndOut(t *testing.T) {
	start(t, 2)
	value := make([]byte, 60_000_000)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(value)
	const patience = "--timeout=3m" // a slow machine takes a while for so much
	if o := quoitWith(t.Context(), bytes.NewReader(value), "put", "big", patience); o.code != 0 {
		t.Fatalf("exit code %d: %s", o.code, o.err)
	}
	if got := must(t, "get", "big", patience); got != string(value) {
		t.Errorf("%d bytes come back of %d, or others", len(got), len(value))
	}
	file := filepath.Join(t.TempDir(), "big.jsonl")
	mustSay(t, must(t, "export", "-o", file, patience), "exported 1 key, 57.2 MiB")
	mustSay(t, must(t, "import", file, "--prefix", "copy:", patience), "imported 1 key, 57.2 MiB")
	if got := must(t, "get", "copy:big", patience); got != string(value) {
		t.Errorf("%d bytes come back of an export, or others", len(got))
	}

	o := quoitWith(t.Context(), io.LimitReader(zeros{}, 64<<20+1), "put", "too big")
	if o.code != exitFailure || o.err != "quoit: the value has more than 67108864 bytes, the most that a node takes\n" {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	if o := quoit(t, "get", "too big"); o.code != exitNotFound {
		t.Errorf("what was too big is there: exit code %d", o.code)
	}
	if o := quoit(t, "put", strings.Repeat("k", 70_000), "x"); o.code != exitFailure || len(o.err) > 1000 {
		t.Errorf("a key of 70 kB: exit code %d: %s", o.code, o.err)
	}
}

// zeros reads as zeros for ever.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// What has any bytes, lives for a while, or is empty comes back from an export as it
// was.
func TestAnExportIsACopy(t *testing.T) {
	start(t, 2)
	var lines bytes.Buffer
	const n = 20_000
	for i := range n {
		fmt.Fprintf(&lines, `{"key":"key:%d","value":"value %d"}`+"\n", i, i)
	}
	lines.WriteString(`{"key_base64":"/wA=","base64":"/wA="}` + "\n" + `{"key":"","value":""}` + "\n" + `{"key":"session","value":"x","ttl_ms":3600000}` + "\n")
	if o := quoitWith(t.Context(), &lines, "import", "-", "--format", "jsonl"); o.code != 0 {
		t.Fatalf("exit code %d: %s", o.code, o.err)
	}
	first := must(t, "export")
	for _, line := range []string{`{"key_base64":"/wA=","base64":"/wA="}`, `{"key":"","value":""}`, `{"key":"key:17","value":"value 17"}`, `{"key":"session","value":"x","ttl_ms":3`} {
		mustSay(t, first, line)
	}
	if got := strings.Count(first, "\n"); got != n+3 {
		t.Errorf("%d lines for %d keys", got, n+3)
	}
	start(t, 3) // another cluster
	if o := quoitWith(t.Context(), strings.NewReader(first), "import", "-", "--format", "jsonl"); o.code != 0 {
		t.Fatalf("exit code %d: %s", o.code, o.err)
	}
	if second := must(t, "export"); !slices.Equal(sortedLines(first), sortedLines(second)) {
		t.Error("the copy of the copy is another one")
	}
}

// sortedLines are all lines but those that change as time goes by.
func sortedLines(text string) []string {
	all := slices.Sorted(strings.Lines(text))
	return slices.DeleteFunc(all, func(line string) bool { return strings.Contains(line, "ttl_ms") })
}

// A read of standard input knows nothing of Ctrl-C.
func TestCtrlCEndsWhatWaitsForStandardInput(t *testing.T) {
	start(t, 1)
	for _, args := range [][]string{{"put", "key"}, {"import", "-", "--format", "jsonl"}} {
		ctx, cancel := context.WithCancel(t.Context())
		in, hold := io.Pipe()
		reading := make(chan struct{})
		_, errs, ended := background(ctx, &noticing{Reader: in, read: reading}, args...)
		<-reading
		cancel()
		mustSay(t, errs.until(t, nil, "quoit: "), "interrupted")
		if code := <-ended; code != exitFailure {
			t.Errorf("%q: exit code %d", args, code)
		}
		hold.Close()
	}
	if o := quoit(t, "get", "key"); o.code != exitNotFound {
		t.Errorf("an interrupted put has written something: exit code %d, %q", o.code, o.out)
	}
}

// noticing tells when it is read.
type noticing struct {
	io.Reader
	read chan struct{}
}

func (n *noticing) Read(b []byte) (int, error) {
	select {
	case <-n.read:
	default:
		close(n.read)
	}
	return n.Reader.Read(b)
}

func TestAnInterruptedImportSaysHowFarItCame(t *testing.T) {
	start(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, to := io.Pipe()
	defer to.Close()
	_, errs, ended := background(ctx, in, "import", "-", "--format", "jsonl", "--workers", "1")
	for i := range 300 { // more than a batch
		if _, err := fmt.Fprintf(to, `{"key":"k%d","value":"v"}`+"\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for quoit(t, "get", "k0").code != 0 { // until the batch has been written
		if t.Context().Err() != nil {
			t.Fatal("nothing is written")
		}
	}
	cancel()
	mustSay(t, errs.until(t, nil, "quoit: "), "interrupted")
	// What has been written and not been answered is not counted.
	mustSay(t, errs.until(t, nil, "quoit: "), "at least ", " keys had been written until then; running the import again finishes it")
	if code := <-ended; code != exitFailure {
		t.Errorf("exit code %d", code)
	}
}

func TestARunningRedisIsImported(t *testing.T) {
	server := need.Program(t, "redis-server")
	start(t, 2)
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for log := bufio.NewScanner(out); log.Scan(); {
		if strings.Contains(log.Text(), "Ready to accept connections") {
			break
		}
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	commands := "SET user:1 Ada\r\nSET session:1 x PX 3600000\r\nLPUSH queue a\r\nHSET profile name Ada\r\n"
	if _, err := io.WriteString(c, commands); err != nil {
		t.Fatal(err)
	}
	for replies, i := bufio.NewScanner(c), 0; i < 4 && replies.Scan(); i++ {
		if strings.HasPrefix(replies.Text(), "-") {
			t.Fatal(replies.Text())
		}
	}

	o := quoit(t, "import", "redis://"+address)
	if o.code != exitFailure {
		t.Errorf("lists and hashes: exit code %d", o.code)
	}
	mustSay(t, o.err, "Quoit holds strings (leave the others out with --skip-other-types)")
	mustSay(t, must(t, "import", "redis://"+address, "--skip-other-types", "--prefix", "r:"), "imported 2 keys", "left out 2 keys that hold no string")
	if got := must(t, "get", "r:user:1"); got != "Ada" {
		t.Errorf("user:1 holds %q", got)
	}
	mustSay(t, must(t, "export", "r:session"), `"ttl_ms":3`)
	mustSay(t, must(t, "import", "redis://"+address, "--skip-other-types", "--json"), `"keys": 2`, `"skipped": 2`)

	o = quoit(t, "import", "redis://:secret@"+freeAddress(t))
	if o.code != exitFailure || strings.Contains(o.err, "secret") {
		t.Errorf("nobody there: exit code %d, %s", o.code, o.err)
	}
	mustSay(t, o.err, "no Redis at ", "connection refused")
}

func TestABenchmarkOfARunningCluster(t *testing.T) {
	start(t, 2)
	args := []string{"bench", "--callers", "4", "--keys", "1000", "--size", "10", "--duration", "100ms"}
	out := must(t, args...)
	mustSay(t, out, "4 callers, 1,000 keys of 10 B values, 50% reads, ", " ops/s   p50 ", "misses 0   errors 0")
	if !regexp.MustCompile(`reads, \d+\.\ds\n`).MatchString(out) { // 0.1 s, or a little more where the machine stalls
		t.Errorf("it does not say how long it measured: %q", out)
	}
	if strings.ContainsAny(out, "\r\x1b") {
		t.Errorf("control characters, and this is no terminal: %q", out)
	}
	var f struct {
		Ops     int64
		Errors  int64
		Seconds float64
	}
	decode(t, must(t, append(args, "--json")...), &f)
	if f.Ops == 0 || f.Errors > 0 || f.Seconds < 0.1 {
		t.Errorf("%+v", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shown, _, ended := background(ctx, nil, "bench", "--fill=false", "--keys", "9000", "--duration", "1h")
	for strings.Count(must(t, "scan"), "\n") == 1000 { // until it has written a key that is new
		if t.Context().Err() != nil {
			t.Fatal("nothing is measured")
		}
	}
	cancel()
	shown.until(t, ended, "ops/s")
	if code := <-ended; code != 0 {
		t.Errorf("interrupted, it ends with exit code %d", code)
	}
}
