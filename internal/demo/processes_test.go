package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/manager"
)

// waitLimit is far above what anything here takes on a busy machine.
const waitLimit = 30 * time.Second

func testFleet(t *testing.T) *fleet {
	t.Helper()
	f, err := newFleet(self(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.stopAll()
		if err := f.panics(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// A server that has panicked in a connection goes on; the demo does not call that well.
func TestAPanicThatAServerHasSurvivedIsNotOverlooked(t *testing.T) {
	f, err := newFleet(self(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.panics(); err != nil {
		t.Errorf("nobody was started: %v", err)
	}
	text := "{\"msg\":\"serving\"}\n{\"msg\":\"a connection panicked and was closed\",\"panic\":\"a bug\"}\n"
	if err := os.WriteFile(f.manager.logName, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err = f.panics()
	if err == nil {
		t.Fatal("no error")
	}
	mustSay(t, err.Error(), "manager: ", "a bug")
}

func TestAContextEndsWithThePipe(t *testing.T) {
	from, to := io.Pipe()
	ctx := WhileParentLives(t.Context(), from)
	if _, err := to.Write([]byte("what is written does not matter")); err != nil || ctx.Err() != nil {
		t.Fatalf("%v, %v", err, ctx.Err())
	}
	to.Close()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, io.EOF) {
		t.Errorf("it ended because of %v", cause)
	}
}

func TestAServerThatEndsByItselfEndsTheWaitingAndSaysWhy(t *testing.T) {
	f := testFleet(t)
	f.manager.env = append(f.manager.env, roleVariable+"=broken")
	if err := f.manager.start(); err != nil {
		t.Fatal(err)
	}
	_, err := f.until(t.Context(), "the manager to answer", waitLimit, serving(3))
	if err == nil {
		t.Fatal("no error")
	}
	mustSay(t, err.Error(), "while waiting for the manager to answer", "manager has ended by itself", "the disk is on fire")
}

func TestABinaryThatIsNotThere(t *testing.T) {
	f := testFleet(t)
	f.manager.binary = filepath.Join(t.TempDir(), "nothing")
	err := f.manager.start()
	if err == nil {
		t.Fatal("no error")
	}
	mustSay(t, err.Error(), "start manager", "no such file")
	if err := f.manager.fault(); err != nil {
		t.Errorf("what never ran has not ended: %v", err)
	}
}

func TestWaitingEndsInTimeAndWithItsContext(t *testing.T) {
	f := testFleet(t) // nothing runs
	_, err := f.until(t.Context(), "a miracle", time.Second, serving(3))
	if err == nil {
		t.Fatal("no error")
	}
	mustSay(t, err.Error(), "a miracle", "in vain", "no manager answers")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.until(ctx, "a miracle", waitLimit, serving(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestAProcessIsKilledStoppedAndStartedAgain(t *testing.T) {
	f := testFleet(t)
	answers := func(manager.Status) bool { return true }
	for _, end := range []func(){f.manager.kill, f.manager.stop, f.manager.stop} {
		if err := f.manager.start(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.until(t.Context(), "the manager to answer", waitLimit, answers); err != nil {
			t.Fatal(err)
		}
		end()
		if err := f.fault(); err != nil {
			t.Errorf("what was ended on purpose is no fault: %v", err)
		}
		if _, err := f.status(t.Context()); err == nil {
			t.Error("it answers although it was ended")
		}
		end() // does no harm
	}
}

// Killed with SIGKILL, the demo can do nothing any more; its servers end all the
// same.
func TestServersEndWithTheDemoHoweverItEnds(t *testing.T) {
	cmd := exec.Command(self())
	cmd.Env = append(os.Environ(), roleVariable+"=parent", "QUOIT_DEMO_TEST_DIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	server, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatalf("%s", line[:n])
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	alive := time.NewTicker(10 * time.Millisecond)
	defer alive.Stop()
	limit := time.After(waitLimit)
	for syscall.Kill(server, 0) == nil {
		select {
		case <-alive.C:
		case <-limit:
			_ = syscall.Kill(server, syscall.SIGKILL)
			t.Fatal("a server outlives the demo")
		}
	}
}

func TestTheLastLineOfALogIsTheOneThatSaysSomething(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ log, want string }{
		"empty": {"", "it has logged nothing"},
		"lines": {"one\ntwo\n\n  \n", "two"},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(file); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	mustSay(t, lastLine(filepath.Join(dir, "nothing")), "no such file")
}

func TestABucketMayLieInAFolderOfAnyName(t *testing.T) {
	f, err := newFleet("quoit", filepath.Join(t.TempDir(), "a b%c#d"))
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, strings.Join(f.manager.env, "\n"), "a%20b%25c%23d/bucket")
}

func TestOnATerminalALineIsReplacedElsewhereNothingIs(t *testing.T) {
	for _, live := range []bool{false, true} {
		var out bytes.Buffer
		s := &stage{Options: Options{Out: &out, Live: live}, began: time.Now()}
		s.traffic = &traffic{timeline: newTimeline("before", time.Now())}
		stop := s.live()
		s.show("%d files", 7)
		s.say("imported")
		stop()
		text := out.String()
		mustSay(t, text, "0.0s  imported\n")
		if control := strings.ContainsAny(text, "\r\x1b"); control != live {
			t.Errorf("live %v: %q", live, text)
		}
		if shown := strings.Contains(text, "7 files"); shown != live {
			t.Errorf("live %v: %q", live, text)
		}
	}
}
