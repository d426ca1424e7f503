package main

import "testing"

// TestTheChangesFitThisToolchain finds out early that the runtime has moved on.
func TestTheChangesFitThisToolchain(t *testing.T) {
	folder, err := runtimeFolder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files := changedFiles(folder)
	for _, f := range files {
		if f.err != nil {
			t.Error(f.err)
		}
	}
	if len(files) == 0 {
		t.Error("nothing is changed")
	}
}
