package bucket_test

import (
	"os"
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// TestMain lets the test binary play a second process: with roleVariable set it
// is one of those in roles, not a run of the tests.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	bucket.HurryAll()
	leak.Main(m)
}
