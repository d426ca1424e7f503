package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/restoretest"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// A bucket of a cluster of two nodes that is gone: 3,000 keys, a snapshot of each node,
// then a range that moved, keys that were deleted and one that will end.
type leftBehind struct {
	dir, url string
	clock    *restoretest.Clock
	a, b     *restoretest.Node
	before   int64 // after the snapshots, before all else
}

const (
	nodeA = "10.0.0.1:7401"
	nodeB = "10.0.0.2:7401"
)

func leaveBehind(t *testing.T) *leftBehind {
	t.Helper()
	l := &leftBehind{dir: filepath.Join(t.TempDir(), "bucket"), clock: restoretest.NewClock()}
	l.url = "file://" + l.dir
	b, err := bucket.OpenFolder(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.a = restoretest.Boot(t, b, l.clock, nodeA, 1)
	l.b = restoretest.Boot(t, b, l.clock, nodeB, 2)
	t.Cleanup(func() {
		l.a.Stop()
		l.b.Stop()
		b.Close()
	})
	lower, upper := ring.Range{Start: ring.MaxPosition, End: 1 << 31}, ring.Range{Start: 1 << 31, End: ring.MaxPosition}
	for n, r := range map[*restoretest.Node]ring.Range{l.a: lower, l.b: upper} {
		if err := n.SetOwnership([]ring.Range{r}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		l.owner(key(i)).Put(key(i), fmt.Sprintf("value %d", i))
	}
	l.a.Bits = 3
	l.clock.Add(10)
	l.a.Snapshot(nil)
	l.b.Snapshot(nil)
	l.before = l.clock.Add(10)
	l.clock.Add(10)
	(&restoretest.Handover{ID: "m1", Range: ring.Range{Start: 1 << 30, End: 1 << 31}, Source: l.a, Target: l.b}).ToTheEnd()
	for i := range 100 {
		l.newOwner(key(i)).Delete(key(i))
	}
	l.newOwner("session").PutUntil("session", "secret", time.Now().Add(time.Hour).UnixMilli())
	l.clock.Add(10)
	l.a.Archive()
	l.b.Archive()
	return l
}

func key(i int) string { return fmt.Sprintf("key:%d", i) }

// owner is who had a key at first.
func (l *leftBehind) owner(key string) *restoretest.Node {
	if ring.PositionOfString(key) <= 1<<31 {
		return l.a
	}
	return l.b
}

// newOwner is who has it at the end.
func (l *leftBehind) newOwner(key string) *restoretest.Node {
	if ring.PositionOfString(key) <= 1<<30 {
		return l.a
	}
	return l.b
}

func TestABucketIsLookedIntoWithoutACluster(t *testing.T) {
	l := leaveBehind(t)
	t.Setenv("QUOIT_BUCKET", l.url)
	mustSay(t, must(t, "snapshot", "list"), nodeA, nodeB, "SNAPSHOT", "2023-11-14T22:13:20")
	mustSay(t, must(t, "snapshot", "show", nodeA), "snapshot 1 of node "+nodeA, "50.0% of the ring", "8 files", "parts/", "LOG PIECE")
	mustSay(t, must(t, "snapshot", "verify", "--level", "restore", "--mark"), "good, marked", "together they restore 2,901 keys")
	mustSay(t, must(t, "snapshot", "list"), "2023", fmt.Sprint(time.Now().UTC().Year()))
	mustSay(t, must(t, "snapshot", "prune", "--dry-run"), "1 snapshot kept")
	if got := must(t, "snapshot", "cat", "key:500"); got != "value 500" {
		t.Errorf("cat prints %q", got)
	}
	if o := quoit(t, "snapshot", "cat", "key:5"); o.code != exitNotFound {
		t.Errorf("a deleted key: exit code %d, %s%s", o.code, o.out, o.err)
	}
	if got := must(t, "snapshot", "cat", "key:5", "--at", fmt.Sprint(l.before)); got != "value 5" {
		t.Errorf("before it was deleted: %q", got)
	}
	var result verification
	if err := json.Unmarshal([]byte(must(t, "snapshot", "verify", "--json", "--level", "manifest", nodeB+"/1")), &result); err != nil ||
		len(result.Snapshots) != 1 || result.Snapshots[0].Node != nodeB || result.Snapshots[0].Damage != nil || result.Snapshots[0].Keys == 0 {
		t.Errorf("verify --json: %+v, %v", result, err)
	}
	var one map[string]any
	if err := json.Unmarshal([]byte(must(t, "snapshot", "cat", "--json", "session")), &one); err != nil || one["value"] != "secret" || one["expires_ms"] == 0.0 {
		t.Errorf("cat --json: %v, %v", one, err)
	}
	if got := must(t, "__complete", "snapshot", "show", "10.0"); !strings.Contains(got, nodeA+"\n"+nodeB+"\n") {
		t.Errorf("completion suggests %q", got)
	}
	var listed []map[string]any
	if err := json.Unmarshal([]byte(must(t, "snapshot", "list", "--json")), &listed); err != nil || len(listed) != 2 {
		t.Errorf("list --json: %v, %v", listed, err)
	}
}

func TestABucketIsRestoredIntoAClusterOfAnotherSize(t *testing.T) {
	l := leaveBehind(t)
	c := start(t, 3)
	mustSay(t, must(t, "snapshot", "restore", "--bucket", l.url, "--check"), "restored 2,901 keys", "compared 2,901 keys", c.Addresses()[0])
	if got := must(t, "get", "key:500"); got != "value 500" {
		t.Errorf("got %q", got)
	}
	if o := quoit(t, "get", "key:5"); o.code != exitNotFound {
		t.Errorf("a deleted key is back: exit code %d", o.code)
	}
	if o := quoit(t, "get", "quoit:restore:progress"); o.code != exitNotFound {
		t.Errorf("the note of the restore stays: exit code %d", o.code)
	}
	export := must(t, "export", "session")
	mustSay(t, export, `"secret"`, `"ttl_ms":3`)
	o := quoit(t, "snapshot", "restore", "--bucket", l.url)
	if o.code != exitFailure {
		t.Errorf("into a cluster that holds keys: exit code %d", o.code)
	}
	mustSay(t, o.err, "not empty", "2901", "--into-nonempty")
	mustSay(t, must(t, "snapshot", "restore", "--bucket", l.url, "--into-nonempty", "--at", fmt.Sprint(l.before)), "restored 3,000 keys")
	if got := must(t, "get", "key:5"); got != "value 5" {
		t.Errorf("as of before: %q", got)
	}
}

func TestABucketIsRestoredIntoAFile(t *testing.T) {
	l := leaveBehind(t)
	file := filepath.Join(t.TempDir(), "all.jsonl")
	mustSay(t, must(t, "snapshot", "restore", "--bucket", l.url, "--to-file", file), "restored 2,901 keys", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 2901 {
		t.Errorf("%d lines", n)
	}
	mustSay(t, string(text), `{"key":"key:500","value":"value 500"}`, `{"key":"session","value":"secret","ttl_ms":3`)
	if got := must(t, "snapshot", "restore", "--bucket", l.url, "--to-file", "-"); strings.Count(got, "\n") != 2901 {
		t.Errorf("%d lines on standard output", strings.Count(got, "\n"))
	}
}

// A restore that is not exact writes nothing, unless it is told to.
func TestWhatIsMissingIsToldBeforeAnythingIsWritten(t *testing.T) {
	l := leaveBehind(t)
	late := fmt.Sprint(l.clock.Now() + 1000)
	file := filepath.Join(t.TempDir(), "all.jsonl")
	args := []string{"snapshot", "restore", "--bucket", l.url, "--at", late, "--to-file", file}
	o := quoit(t, args...)
	if o.code != exitFailure {
		t.Errorf("exit code %d", o.code)
	}
	mustSay(t, o.err, "not exact: node "+nodeA, "from 2023-11-14T22:13:20", "nothing was written", "--accept-gaps")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a file is there: %v", err)
	}
	mustSay(t, must(t, append(args, "--accept-gaps")...), "restored 2,901 keys")
}

// Old snapshots leave the list at once, and the bucket after the grace; what restores the
// newest state stays.
func TestPruningLeavesWhatIsNeeded(t *testing.T) {
	l := leaveBehind(t)
	t.Setenv("QUOIT_BUCKET", l.url)
	for range 3 {
		l.clock.Add(10)
		l.a.Put("key:2", "again") // which has not moved
		l.a.Snapshot(nil)
	}
	mustSay(t, must(t, "snapshot", "prune", nodeA, "--keep", "1", "--keep-for", "0s", "--grace", "0s", "--dry-run"), "would have 1 snapshot kept, 3 snapshots let go")
	if n := strings.Count(must(t, "snapshot", "list", nodeA), nodeA); n != 4 {
		t.Errorf("a dry run leaves %d snapshots", n)
	}
	must(t, "snapshot", "prune", nodeA, "--keep", "1", "--keep-for", "0s", "--grace", "0s")
	if n := strings.Count(must(t, "snapshot", "list", nodeA), nodeA); n != 1 {
		t.Errorf("%d snapshots are left", n)
	}
	mustSay(t, must(t, "snapshot", "verify", "--level", "restore"), "together they restore 2,902 keys")
	o := quoit(t, "snapshot", "restore", "--at", fmt.Sprint(l.before), "--to-file", "-")
	if o.code != exitFailure || o.out != "" {
		t.Errorf("a moment that is gone: exit code %d, %d bytes", o.code, len(o.out))
	}
	mustSay(t, o.err, "the oldest that the bucket keeps of it is of", nodeA)
}

// damage flips a byte of the first object whose key contains a word, or removes it.
func (l *leftBehind) damage(t *testing.T, word string, remove bool) string {
	t.Helper()
	b, err := bucket.OpenFolder(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for info, err := range b.List(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(info.Key, word) {
			continue
		}
		if remove {
			if err := b.Delete(t.Context(), info.Key); err != nil {
				t.Fatal(err)
			}
			return info.Key
		}
		o, err := b.Get(t.Context(), info.Key)
		if err != nil {
			t.Fatal(err)
		}
		o.Body[len(o.Body)/2] ^= 1
		if _, err := b.Put(t.Context(), info.Key, strings.NewReader(string(o.Body)), int64(len(o.Body))); err != nil {
			t.Fatal(err)
		}
		return info.Key
	}
	t.Fatalf("no object has %q in its key", word)
	return ""
}

func TestDamageIsToldWithTheObjectAndWhatItConcerns(t *testing.T) {
	for name, c := range map[string]struct {
		word   string
		remove bool
		verify []string
		code   int
	}{
		"a flipped bit in a part":  {"parts/", false, []string{"damaged", "positions"}, exitFailure},
		"a part that is gone":      {"parts/", true, []string{"damaged", "missing"}, exitFailure},
		"a piece of log is gone":   {"/log/", true, []string{"damaged", "missing"}, exitFailure},
		"a manifest that is wrong": {"/manifests/", false, []string{"damaged", "SHA-256"}, exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			l := leaveBehind(t)
			key := l.damage(t, c.word, c.remove)
			o := quoit(t, "snapshot", "verify", "--bucket", l.url)
			if o.code != c.code {
				t.Errorf("verify: exit code %d: %s%s", o.code, o.out, o.err)
			}
			mustSay(t, o.out, append(c.verify, key)...)
			file := filepath.Join(t.TempDir(), "all.jsonl")
			o = quoit(t, "snapshot", "restore", "--bucket", l.url, "--to-file", file)
			if _, err := os.Stat(file); o.code == exitFailure && !os.IsNotExist(err) {
				t.Errorf("a partial file is there: %v", err)
			}
			if o.code != exitFailure {
				t.Errorf("restore: exit code %d: %s%s", o.code, o.out, o.err)
			}
			mustSay(t, o.err, key)
		})
	}
}

func TestMistakesInSnapshotCommandsSayWhatWouldBeRight(t *testing.T) {
	l := leaveBehind(t)
	for line, c := range map[string]struct {
		code int
		say  string
	}{
		"list":                                          {exitUsage, "--bucket or QUOIT_BUCKET"},
		"list --bucket file:///no/such/place":           {exitFailure, "there is no folder /no/such/place"},
		"list --bucket ftp://x":                         {exitUsage, "ftp"},
		"show --bucket " + l.url + " nobody":            {exitUsage, "nobody"},
		"show --bucket " + l.url + " 10.9.9.9:1":        {exitFailure, "quoit snapshot list"},
		"show --bucket " + l.url + " " + nodeA + "/x":   {exitUsage, "NODE/NUMBER"},
		"show --bucket " + l.url + " " + nodeA + "/7":   {exitFailure, "no such snapshot"},
		"verify --bucket " + l.url + " --level deep":    {exitUsage, "manifest, blocks or restore"},
		"cat --bucket " + l.url + " k --at yesterday":   {exitUsage, "Unix milliseconds"},
		"cat --bucket " + l.url + " k --at 2999-01-01":  {exitUsage, "future"},
		"restore --bucket " + l.url + " --workers 0":    {exitUsage, "--workers"},
		"prune --bucket " + l.url + " --keep 0":         {exitUsage, "--keep"},
		"restore --bucket " + l.url + " -s 127.0.0.1:1": {exitFailure, "nobody listens"},
	} {
		o := quoit(t, append([]string{"snapshot"}, strings.Fields(line)...)...)
		if o.code != c.code || !strings.Contains(o.err, c.say) {
			t.Errorf("%s: exit code %d, want %d with %q: %s", line, o.code, c.code, c.say, o.err)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-01-31T11:00:00Z":      now.Add(-time.Hour),
		"2026-01-31T12:30:00+01:00": now.Add(-30 * time.Minute),
		"2026-01-31 11:59:59":       now.Add(-time.Second),
		"2026-01-31 11:59":          now.Add(-time.Minute),
		"2026-01-31":                now.Add(-12 * time.Hour),
		"10m":                       now.Add(-10 * time.Minute),
		"1769857200000":             now.Add(-time.Hour),
	} {
		if got, err := parseMoment(text, now); err != nil || got != want.UnixMilli() {
			t.Errorf("%s is %s, %v, want %s", text, time.UnixMilli(got).UTC(), err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-5m", "2026-13-01", "12:00"} {
		if got, err := parseMoment(text, now); err == nil {
			t.Errorf("%q is taken for %s", text, time.UnixMilli(got))
		}
	}
}

// Nodes of this build may not know the command yet: what they say is passed on.
func TestCreateAsksEveryNode(t *testing.T) {
	start(t, 2)
	o := quoit(t, "snapshot", "create", "--json")
	var answers []made
	if err := json.Unmarshal([]byte(o.out), &answers); err != nil || len(answers) != 2 {
		t.Fatalf("%v: exit code %d, %s%s", err, o.code, o.out, o.err)
	}
	for _, a := range answers {
		if (a.Error == "") != (o.code == 0) || a.Error == "" && a.Snapshot == 0 {
			t.Errorf("exit code %d, and node %s answers %d, %q, %q", o.code, a.Node, a.Snapshot, a.Answer, a.Error)
		}
	}
}
