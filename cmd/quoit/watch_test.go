//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
)

// TestWatchShowsWhatHappens: what is there, a put, an expiry to come, a delete.
func TestWatchShowsWhatHappens(t *testing.T) {
	start(t, 2)
	must(t, "put", "a:1", "old")
	must(t, "put", "b:1", "other")
	out, done := watching(t, t.Context(), "watch", "a:", "--state", "--count", "4")
	want := func(words ...string) {
		t.Helper()
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		mustSay(t, line, words...)
	}
	want("put", "a:1", "old")
	want("synced", "every change")
	must(t, "put", "a:2", "x\ny", "--ttl", "1h")
	want("put", "a:2", `"x\ny"`, "until ")
	must(t, "put", "a:long", strings.Repeat("é", 1000))
	want("put", "a:long", strings.Repeat("é", 60)+"…")
	must(t, "del", "a:1")
	want("delete", "a:1")
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestWatchForPrograms: one JSON object a line, the whole value in it.
func TestWatchForPrograms(t *testing.T) {
	start(t, 1)
	out, done := watching(t, t.Context(), "watch", "\xffkey", "--key", "--json", "--count", "2")
	read := func() (line changeLine) {
		t.Helper()
		text, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(text, err)
		}
		return line
	}
	if line := read(); line.Change != "synced" || line.Key != nil || line.Version != "" {
		t.Errorf("%+v", line)
	}
	must(t, "put", "\xffkey2", "not this one")
	must(t, "put", "\xffkey", "v", "--ttl", "1h")
	if line := read(); line.Change != "put" || string(line.keyName.Binary) != "\xffkey" || *line.Value != "v" || line.ExpiresAt == nil {
		t.Errorf("%+v", line)
	}
	must(t, "del", "\xffkey")
	if line := read(); line.Change != "delete" || line.Value != nil || line.Version == "" || line.ExpiresAt != nil {
		t.Errorf("%+v", line)
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// watching runs a command whose output is read as it comes.
func watching(t *testing.T, ctx context.Context, args ...string) (*bufio.Reader, <-chan int) {
	t.Helper()
	from, to := io.Pipe()
	done := make(chan int, 1)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	go func() {
		var complaints bytes.Buffer
		code := run(ctx, args, strings.NewReader(""), to, &complaints)
		if complaints.Len() > 0 {
			t.Log(complaints.String())
		}
		to.Close()
		done <- code
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		from.Close()
		<-done
	})
	return bufio.NewReader(from), done
}

func TestCtrlCEndsAWatchInOrder(t *testing.T) {
	start(t, 1)
	cmd, out := process(t, "watch")
	if line, err := out.ReadString('\n'); err != nil || !strings.Contains(line, "synced") {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil || len(rest) > 0 {
		t.Errorf("it ends with %v and %q", err, rest)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.ExitStatus() != 0 {
		t.Errorf("it ends with %v", cmd.ProcessState)
	}
}

func TestResyncIsSaidAloud(t *testing.T) {
	var b bytes.Buffer
	if err := new(watchFlags).line(&b, client.Change{Kind: client.ChangeResync}); err != nil {
		t.Fatal(err)
	}
	mustSay(t, b.String(), "resync", "gone")
	b.Reset()
	if err := printChange(&b, client.Change{Kind: client.ChangeResync}); err != nil || b.String() != `{"change":"resync"}`+"\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
