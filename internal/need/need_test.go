package need

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// verdict is a test that only notes how it is ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (*verdict) Helper() {}

func (v *verdict) Skipf(format string, args ...any) {
	v.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func judged(test func(t testing.TB)) *verdict {
	v := &verdict{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(v)
	}()
	<-done
	return v
}

func TestWhatIsMissingSkipsUnlessItIsRequired(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	look := func(t testing.TB) { Program(t, "redis-cli") }
	t.Setenv(Variable, "redis-clients,python3")
	if v := judged(look); v.failed != "" || !strings.Contains(v.skipped, "redis-cli is missing: apt-get install redis-tools") {
		t.Errorf("not required: %+v", v)
	}
	t.Setenv(Variable, "python3,redis")
	if v := judged(look); v.skipped != "" || !strings.Contains(v.failed, "asks for redis: apt-get install redis-tools") {
		t.Errorf("required: %+v", v)
	}
}

func TestAProgramThatFailsFailsTheTest(t *testing.T) {
	if out := Run(t, "in", Program(t, "cat")); out != "in" {
		t.Errorf("cat wrote %q", out)
	}
	v := judged(func(t testing.TB) { Run(t, "", Program(t, "cat"), "/no/such/file") })
	if !strings.Contains(v.failed, "/no/such/file") {
		t.Errorf("a failure: %+v", v)
	}
}
