package bucket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

const roleVariable = "QUOIT_BUCKET_TEST_ROLE"

// play runs one role of a cross-process test in the folder args[0]. A role waits
// for its input to end, so that all processes of a race start together.
func play(role string, args []string) int {
	f, err := bucket.OpenFolder(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	roles := map[string]func(*bucket.Folder, []string) error{
		"increment": playIncrement, "create": playCreate, "write": playWrite, "die": playDie, "probe": playProbe,
	}
	if err := errors.Join(roles[role](f, args[1:]), f.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// playIncrement counts an object up so many times.
func playIncrement(f *bucket.Folder, args []string) error {
	times, err := strconv.Atoi(args[0])
	for range times {
		err = errors.Join(err, buckettest.Increment(context.Background(), f, "counter"))
	}
	return err
}

// playCreate tries to create race/0, race/1, ... and prints which it won.
func playCreate(f *bucket.Folder, args []string) error {
	rounds, err := strconv.Atoi(args[0])
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		_, putErr := f.PutIfAbsent(context.Background(), key, fmt.Append(nil, os.Getpid()))
		switch {
		case putErr == nil:
			fmt.Println(key)
		case !errors.Is(putErr, bucket.ErrConditionFailed):
			err = errors.Join(err, putErr)
		}
	}
	return err
}

// playWrite swaps bodies of growing numbers into an object until it is killed,
// and prints each number once it is acknowledged.
func playWrite(f *bucket.Folder, _ []string) error {
	ctx := context.Background()
	for {
		o, err := f.Get(ctx, "object")
		if err != nil {
			return err
		}
		n := numberOf(o.Body) + 1
		if _, err := f.PutIfMatch(ctx, "object", numbered(n), o.ETag); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// playDie makes one kind of write and kills its process as a step begins.
func playDie(f *bucket.Folder, args []string) error {
	at, kind := args[0], args[1]
	f.OnStep(func(step string) error {
		if step == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // The signal is on its way.
		}
		return nil
	})
	return change(f, kind)
}

func playProbe(f *bucket.Folder, _ []string) error { return bucket.Probe(context.Background(), f) }

// change makes one write of "object", which holds "old", so that it holds "new"
// (or nothing, for a deletion).
func change(f *bucket.Folder, kind string) error {
	ctx := context.Background()
	switch kind {
	case "put":
		_, err := f.Put(ctx, "object", strings.NewReader("new"), 3)
		return err
	case "delete":
		return f.Delete(ctx, "object")
	case "create":
		_, err := f.PutIfAbsent(ctx, "object", []byte("new"))
		return err
	}
	o, err := f.Get(ctx, "object")
	if err == nil {
		_, err = f.PutIfMatch(ctx, "object", []byte("new"), o.ETag)
	}
	return err
}

// numbered returns a body of several pages, all of which say n.
func numbered(n int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%015d\n", n), 1000))
}

// numberOf returns what every line of the body says, or -1 for a mixture.
func numberOf(body []byte) int {
	if len(body) != 16000 {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimLeft(string(body[:15]), "0"))
	if err != nil && string(body[:15]) == strings.Repeat("0", 15) {
		n, err = 0, nil
	}
	if err != nil || string(numbered(n)) != string(body) {
		return -1
	}
	return n
}

// process is the test binary in a role.
type process struct {
	*exec.Cmd
	start  io.WriteCloser // close it to let the role begin
	out    io.Reader
	errors strings.Builder
}

func start(t *testing.T, role, dir string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], append([]string{dir}, args...)...)}
	p.Env = append(os.Environ(), roleVariable+"="+role)
	p.Stderr = &p.errors
	var err error
	if p.start, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.out, err = p.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// lines waits for the process to end and returns what it printed.
func (p *process) lines(t *testing.T) []string {
	t.Helper()
	b, err := io.ReadAll(p.out)
	if err := errors.Join(err, p.Wait()); err != nil {
		t.Errorf("process: %v: %s", err, p.errors.String())
	}
	return strings.Fields(string(b))
}

// race starts four processes in one role and lets them begin together.
func race(t *testing.T, role, dir string, args ...string) (printed [][]string) {
	t.Helper()
	var all []*process
	for range 4 {
		all = append(all, start(t, role, dir, args...))
	}
	for _, p := range all {
		_ = p.start.Close()
	}
	for _, p := range all {
		printed = append(printed, p.lines(t))
	}
	return printed
}

func TestProcessesThatSwapLoseNothing(t *testing.T) {
	const times = 40
	dir := t.TempDir()
	f := opened(t, dir)
	mustCreate(t, f, "counter", "0")
	race(t, "increment", dir, strconv.Itoa(times))
	wantBody(t, f, "counter", strconv.Itoa(4*times))
}

func TestProcessesThatCreateHaveOneWinner(t *testing.T) {
	const rounds = 60
	dir := t.TempDir()
	wins := map[string]int{}
	for _, printed := range race(t, "create", dir, strconv.Itoa(rounds)) {
		for _, key := range printed {
			wins[key]++
		}
	}
	for round := range rounds {
		if key := fmt.Sprintf("race/%d", round); wins[key] != 1 {
			t.Errorf("%s has %d winners", key, wins[key])
		}
	}
}

// TestProcessesThatOpenAtOnce: a folder is laid out once, however many come first.
func TestProcessesThatOpenAtOnce(t *testing.T) {
	race(t, "probe", filepath.Join(t.TempDir(), "not", "there", "yet"))
}

// TestKillAtEveryStep kills a writer at each step of each kind of write. The
// object is the old one or the new one, whole; and the next writer and reader are
// not held up.
func TestKillAtEveryStep(t *testing.T) {
	for _, kind := range []string{"put", "create", "swap", "delete"} {
		for _, step := range bucket.Steps {
			if kind == "delete" && (step == "create" || step == "write" || step == "sync") {
				continue // A deletion has no body.
			}
			t.Run(kind+" at "+step, func(t *testing.T) { killAt(t, kind, step) })
		}
	}
}

func killAt(t *testing.T, kind, step string) {
	dir := t.TempDir()
	f := opened(t, dir)
	before, after := "old", "new"
	if kind == "create" {
		before = ""
	} else {
		mustCreate(t, f, "object", "old")
	}
	if kind == "delete" {
		after = ""
	}
	p := start(t, "die", dir, step, kind)
	_ = p.start.Close()
	if err := p.Wait(); err == nil || p.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer was not killed: %v: %s", err, p.errors.String())
	}
	want := before
	if step == "sync-dir" || step == "clear" { // The rename is what counts.
		want = after
	}
	if got := bodyOf(t, f, "object"); got != want {
		t.Errorf("object holds %q, want %q", got, want)
	}
	if _, err := f.Put(t.Context(), "object", strings.NewReader("next"), 4); err != nil {
		t.Errorf("Put after the kill: %v", err)
	}
	wantBody(t, opened(t, dir), "object", "next")
}

// TestKillAnywhere kills a busy writer wherever it happens to be. What it had
// acknowledged is there, or the one write that was under way, and it is whole.
func TestKillAnywhere(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, dir)
	mustCreate(t, f, "object", string(numbered(0)))
	for round := range 12 {
		p := start(t, "write", dir)
		_ = p.start.Close()
		acked := 0
		for out := bufio.NewScanner(p.out); out.Scan(); {
			acked, _ = strconv.Atoi(out.Text())
			if acked >= 25*(round+1) {
				_ = p.Process.Kill() // What it still prints is read to the end.
			}
		}
		_ = p.Wait()
		got := numberOf([]byte(bodyOf(t, f, "object")))
		if got != acked && got != acked+1 {
			t.Fatalf("round %d: acknowledged %d, found %d: %s", round, acked, got, p.errors.String())
		}
		// The next round begins where this one ended.
		mustPut(t, f, "object", string(numbered(25*(round+1))))
	}
}
