package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNilAndUnarmedSetsDoNothing(t *testing.T) {
	var none *Set
	if none.Hit("x") != nil || none.Hits("x") != 0 {
		t.Error("a nil Set did something")
	}
	if New().Hit("x") != nil {
		t.Error("an empty Set did something")
	}
	if s, err := Parse(""); s != nil || err != nil {
		t.Errorf("Parse of nothing = %v, %v", s, err)
	}
}

func TestErrorOnTheNthHitOnly(t *testing.T) {
	s, err := Parse("a=error@2, b=error")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, ErrInjected, nil} {
		if got := s.Hit("a"); !errors.Is(got, want) {
			t.Errorf("hit %d = %v, want %v", i+1, got, want)
		}
	}
	if s.Hits("a") != 3 || s.Hits("b") != 0 || s.Hits("c") != 0 {
		t.Errorf("hits %d %d %d", s.Hits("a"), s.Hits("b"), s.Hits("c"))
	}
	for range 2 {
		if s.Hit("b") == nil || s.Hit("c") != nil {
			t.Error("b acts on every hit, c never")
		}
	}
}

func TestWhatFiresIsToldOnceAndBefore(t *testing.T) {
	var none *Set
	none.Fired(nil)
	s, err := Parse("a=error@2,b=error")
	if err != nil {
		t.Fatal(err)
	}
	var fired []string
	s.Fired(func(name string) { fired = append(fired, name) })
	s.On("c", func() error { fired = append(fired, "and acts"); return nil })
	for range 3 {
		_, _, _ = s.Hit("a"), s.Hit("b"), s.Hit("c")
	}
	if got := strings.Join(fired, " "); got != "b c and acts a and acts and acts" {
		t.Errorf("told %s", got)
	}
}

func TestSleepWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Parse("a=sleep:50ms")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := s.Hit("a"); err != nil || time.Since(start) != 50*time.Millisecond {
			t.Errorf("err %v after %v", err, time.Since(start))
		}
	})
}

func TestOwnFunctionsComeAndGo(t *testing.T) {
	s, mine := New(), errors.New("mine")
	s.On("a", func() error { return mine })
	s.OnHit("b", 2, func() error { s.Off("b"); return mine })
	if !errors.Is(s.Hit("a"), mine) || s.Hit("b") != nil || !errors.Is(s.Hit("b"), mine) {
		t.Error("armed functions were not called")
	}
	s.Off("a")
	if s.Hit("a") != nil || s.Hit("b") != nil {
		t.Error("disarmed points still act")
	}
}

func TestWrongTextsAreExplained(t *testing.T) {
	for text, want := range map[string]string{
		"a":           "want name=action",
		"=kill":       "want name=action",
		"a=explode":   "want kill, pause, error or sleep",
		"a=sleep:x":   "such as sleep:50ms",
		"a=sleep:-1s": "such as sleep:50ms",
		"a=kill@0":    "want a number from 1",
		"a=kill,":     "want name=action",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestKillEndsTheProcess runs this test binary again with a point armed.
func TestKillEndsTheProcess(t *testing.T) {
	if text := os.Getenv(Variable); text != "" {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Fatal("still alive after", s.Hit("here"))
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestKillEndsTheProcess")
	cmd.Env = append(os.Environ(), Variable+"=here=kill")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strings.Contains(string(out), "still alive") {
		t.Errorf("err %v, output %s", err, out)
	}
}
