package browser

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quoitdb/quoit/internal/need"
)

// tell runs a story of testdata/fake.mjs: quoit.js as it is, with a gateway and a client
// that do what no real one does on demand. It returns what came of it, as JSON.
func tell(t *testing.T, story string) string {
	t.Helper()
	node, dir := need.Program(t, "node"), t.TempDir()
	for name, from := range map[string]string{"quoit.js": filepath.Join("..", "..", "web", "quoit.js"), "fake.mjs": filepath.Join("testdata", "fake.mjs")} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type": "module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return need.Run(t, "", node, filepath.Join(dir, "fake.mjs"), story)
}

// TestAWatchThatIsLeftFromOutside: return ends a next that waits, without an error, and
// the other side hears of it also when the watch had not quite begun. It did not, and the
// next waited for a change that nobody wanted any more.
func TestAWatchThatIsLeftFromOutside(t *testing.T) {
	t.Parallel()
	if got := tell(t, "ended"); got != "[true,[18,20,18,19,20]]\n" { // of quoit.js: watch, stop; watch, next, stop
		t.Errorf("watches that are left: %s", got)
	}
}

// TestASignalEndsAWatchAtOnce, also one of which more has come than was taken.
func TestASignalEndsAWatchAtOnce(t *testing.T) {
	t.Parallel()
	if got := tell(t, "aborted"); got != `["synced","ABORTED",true]`+"\n" {
		t.Errorf("a watch that is aborted: %s", got)
	}
}

// TestWordsThatAreNoText: an error keeps its class whatever bytes a node puts into its
// message.
func TestWordsThatAreNoText(t *testing.T) {
	t.Parallel()
	if got := tell(t, "garbled"); got != `["ServerError","ERR","h:1","b`+"\ufffd"+`"]`+"\n" {
		t.Errorf("an error that is no UTF-8: %s", got)
	}
}
