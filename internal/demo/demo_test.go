package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// corpusFolder has so many small files.
func corpusFolder(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		name := filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "file %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// story is a demo that takes a few seconds.
func story(t *testing.T) (Options, *bytes.Buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	out := &bytes.Buffer{}
	return Options{Binary: self(), Source: corpusFolder(t, 300), Steady: 100 * time.Millisecond, Rate: 300, Workers: 4, Out: out}, out
}

// leftBehind are the folders of demos.
func leftBehind(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "quoit-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestTheDemoLosesNothingAndLeavesNothing(t *testing.T) {
	o, out := story(t)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r.Failed() {
		t.Fatalf("%+v\n%s", r, out)
	}
	t.Log(out.String())
	if r.Imported != 300 || r.Checked < 300 {
		t.Errorf("%d files imported, %d keys audited", r.Imported, r.Checked)
	}
	events := 0
	for _, row := range r.Rows {
		if row.Event {
			events++
		}
		if row.Ops == 0 {
			t.Errorf("nothing was measured %s", row.Phase)
		}
	}
	if events != 4 || len(r.Rows) != 9 {
		t.Errorf("%d events in %d phases, want 4 in 9", events, len(r.Rows))
	}
	for _, j := range r.Joins {
		if j.Ideal != 0.25 || j.Share < 0.15 || j.Share > 0.4 || j.Moved == 0 || j.Moved >= j.Total/2 {
			t.Errorf("join: %+v", j)
		}
	}
	mustSay(t, out.String(), "each a process of its own", "imported "+o.Source+": 300 files", "joins: only its ranges move",
		"leaves", "killed with SIGKILL", "from its log", "the manager is killed", "traffic stopped")
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Error("control characters, and this is no terminal")
	}
	if left := leftBehind(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A proof that cannot fail proves nothing: what is taken away behind its back must
// be missed.
func TestTheDemoMissesWhatIsTakenAway(t *testing.T) {
	o, out := story(t)
	s, err := newStage(o)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(s.fleet.dir)
	defer s.fleet.stopAll()
	ctx := t.Context()
	if err := s.open(ctx); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer s.db.Close()
	if err := s.fill(ctx); err != nil {
		t.Fatal(err)
	}
	s.traffic = newTraffic(s.db, &s.files, 2, 500)
	s.traffic.Start(ctx)
	if err := s.steady(ctx); err != nil {
		t.Fatal(err)
	}
	s.traffic.Halt()
	if _, err := s.db.Delete(ctx, "3/3"); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Put(ctx, "4/4", []byte("something else")); err != nil {
		t.Fatal(err)
	}
	if err := s.audit(ctx); err != nil {
		t.Fatal(err)
	}
	if !s.result.Failed() {
		t.Fatal("a deleted and a changed file, and the verdict is good")
	}
	mustSay(t, strings.Join(s.result.Lost, "\n"), `"3/3" is gone`, `"4/4" has changed`)
	if err := s.leave(false, nil); err != nil {
		t.Fatal(err)
	}
	mustSay(t, out.String(), "logs and data are left in "+s.fleet.dir)
	if _, err := os.Stat(s.fleet.manager.logName); err != nil {
		t.Error("there is nothing to look at:", err)
	}
}

// interrupting cancels a context when a word is written.
type interrupting struct {
	bytes.Buffer
	word   string
	cancel context.CancelFunc
}

func (w *interrupting) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.word) {
		w.cancel()
	}
	return w.Buffer.Write(b)
}

func TestAnInterruptedDemoTakesEverythingAway(t *testing.T) {
	for _, word := range []string{"starting a manager", "joins: only its ranges"} {
		t.Run(word, func(t *testing.T) {
			o, _ := story(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &interrupting{word: word, cancel: cancel}
			o.Out = out
			if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
				t.Fatalf("err = %v\n%s", err, out.String())
			}
			mustSay(t, out.String(), "interrupted: stopping every process")
			if left := leftBehind(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestASourceIsLookedAtBeforeAnythingStarts(t *testing.T) {
	o, out := story(t)
	file := filepath.Join(o.Source, "0", "0")
	for source, want := range map[string]string{
		file: "is no folder", filepath.Join(o.Source, "nothing"): "no such file", t.TempDir(): "no files to import",
	} {
		o.Source = source
		_, err := Run(t.Context(), o)
		if err == nil {
			t.Fatal("no error")
		}
		mustSay(t, err.Error(), want)
	}
	if out.Len() > 0 || len(leftBehind(t)) > 0 {
		t.Errorf("said %q, left %q", out, leftBehind(t))
	}
}

func TestAMoveIsMeasured(t *testing.T) {
	_, out := story(t)
	for _, saturate := range []bool{false, true} {
		o := MoveOptions{Binary: self(), Keys: 2000, Size: 50, Rate: 300, Workers: 4, Steady: 100 * time.Millisecond, Saturate: saturate, Out: out}
		r, err := MeasureMove(t.Context(), o)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if r.Wrong > 0 || len(r.Lost) > 0 || r.Before.Errors > 0 || r.During.Errors > 0 {
			t.Errorf("saturate %v: %+v", saturate, r)
		}
		if r.Keys < 2000 || r.Moved == 0 || r.Moved >= r.Keys || // what is written at full speed moves
			r.Before.Ops == 0 || r.During.Ops == 0 {
			t.Errorf("saturate %v: %+v", saturate, r)
		}
		if left := leftBehind(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}
