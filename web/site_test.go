package web

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// TestASiteIsWhatBrowsersLoad, and nothing of how it is made.
func TestASiteIsWhatBrowsersLoad(t *testing.T) {
	s := New()
	defer func() { _ = s.Close() }()
	for _, name := range []string{"quoit.js", "quoit.d.ts"} {
		if data, err := fs.ReadFile(s, name); err != nil || len(data) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	for _, name := range []string{"site.go", "dist", "dist/README.md", "dist/quoit.wasm.gz", "nobody.js"} {
		if _, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Open("../site.go"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a path that goes up: %v", err)
	}
}

// TestAClientThatCannotBeBuilt: the error says why, and what to do; and so it stays.
func TestAClientThatCannotBeBuilt(t *testing.T) {
	for name, b := range map[string]*builder{"no source": newBuilder(), "no Go": newBuilder(), "a fault": newBuilder()} {
		s := &Site{builder: b}
		switch name {
		case "no source":
			b.source = ""
		case "no Go":
			t.Setenv("PATH", t.TempDir())
		case "a fault":
			b.cancel()
		}
		for range 2 {
			_, err := s.Open("quoit.wasm")
			var why *UnavailableError
			if !errors.As(err, &why) || why.Soon || !strings.Contains(why.Reason, "`task wasm`") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := s.Open("quoit.js"); err != nil {
			t.Errorf("%s: the rest of the site: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestASiteThatIsClosed has nothing running, also when a build was under way.
func TestASiteThatIsClosed(t *testing.T) {
	s := FromSource()
	begun := make(chan error, 1)
	go func() {
		_, err := s.Open("quoit.wasm")
		begun <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.builder.cancel() // one that begins after Close ends at once
	if err := <-begun; err == nil || !strings.Contains(err.Error(), "cannot be built") && !errors.Is(err, context.Canceled) {
		t.Errorf("the build's error: %v", err)
	}
}
