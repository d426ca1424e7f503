package main

import (
	"path/filepath"
	"runtime"
	"testing"
)

// TestTheChangesFitThisToolchain finds out early that the runtime has moved on.
func TestTheChangesFitThisToolchain(t *testing.T) {
	//nolint:staticcheck // The toolchain that runs the tests is the one that builds.
	files := changedFiles(filepath.Join(runtime.GOROOT(), "src", "runtime"))
	for _, f := range files {
		if f.err != nil {
			t.Error(f.err)
		}
	}
	if len(files) == 0 {
		t.Error("nothing is changed")
	}
}
