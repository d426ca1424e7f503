package leak

import (
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestAGoroutineThatStaysIsFound(t *testing.T) {
	end := make(chan struct{})
	done := make(chan struct{})
	go func() { defer close(done); <-end }()
	if err := find(time.Now()); err == nil || !strings.Contains(err.Error(), "TestAGoroutineThatStaysIsFound") {
		t.Errorf("found %v", err)
	}
	close(end)
	<-done
	if err := Find(); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}
