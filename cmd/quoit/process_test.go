//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/contain"
)

// process starts the program as a process of its own.
func process(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asQuoit+"=1")
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if err := contain.Told(said.Bytes()); err != nil {
			t.Error(err)
		}
	})
	return cmd, bufio.NewReader(out)
}

func TestSignalsEndTheProgramInOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, out := process(t, "up", "--data", t.TempDir(), "--port", "0", "--nodes", "1", "--json")
			line, err := out.ReadString('\n')
			var hello welcome
			if err != nil || json.Unmarshal([]byte(line), &hello) != nil {
				t.Fatalf("%q, %v", line, err)
			}
			must(t, "put", "a", "b", "-s", hello.Manager)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if signal.Ignored(sig) { // These tests were started by nohup, so the program stays too.
				must(t, "get", "a", "-s", hello.Manager)
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = io.Copy(io.Discard, out)
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

// Who presses Ctrl-C a second time has waited long enough.
func TestASecondCtrlCEndsTheProgramAtOnce(t *testing.T) {
	cmd, out := process(t, "up", "--data", t.TempDir(), "--port", "0", "--nodes", "1")
	for line := ""; !strings.Contains(line, "Ctrl-C stops it"); {
		var err error
		if line, err = out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for line := ""; !strings.Contains(line, "stopping"); {
		_ = cmd.Process.Signal(syscall.SIGINT)
		var err error
		if line, err = out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // by the signal, or in order if it was faster
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() && status.ExitStatus() != 0 {
		t.Errorf("it ends with %v", cmd.ProcessState)
	}
}

// quoit scan | head: who has seen enough ends the program without a word.
func TestAReaderThatHasSeenEnoughEndsTheProgramQuietly(t *testing.T) {
	start(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd := exec.Command(self, "cluster", "status", "--watch", "--every", "50ms")
	cmd.Env = append(os.Environ(), asQuoit+"=1")
	cmd.Stdout, cmd.Stderr = to, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	to.Close()
	if _, err := bufio.NewReader(from).ReadString('\n'); err != nil {
		t.Error(err)
	}
	from.Close()
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGPIPE || complaints.Len() > 0 {
		t.Errorf("it ends with %v and says %q", cmd.ProcessState, complaints.String())
	}
}
