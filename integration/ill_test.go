package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/manager"
)

// order has the disk of a running node do as [vfs.Ailing] says.
func (p *process) order(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(p.orders+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.orders+".new", p.orders); err != nil {
		t.Fatal(err)
	}
}

// smallDisk is a disk that a test can fill to the last byte, and make room on.
type smallDisk struct {
	name string
	// prepare gives the disk to a node that does not run yet.
	prepare    func(t *testing.T, p *process)
	fill, free func(t *testing.T, p *process)
}

// smallDisks are a file system that is really full, where the test may mount one, and
// one that says so, anywhere.
func smallDisks() []smallDisk {
	full := func(t *testing.T, p *process) { t.Helper(); p.order(t, "full") }
	well := func(t *testing.T, p *process) { t.Helper(); p.order(t, "") }
	return []smallDisk{
		{"ordered to be full", func(*testing.T, *process) {}, full, well},
		{"a file system that is full", mountSmallDisk, fillFolder, emptyFolder},
	}
}

// The names in a mounted disk: the node's folder, and what takes the rest of the room.
const (
	nodesFolder = "data"
	filler      = "filler"
)

// mountSmallDisk gives a node a file system of its own.
func mountSmallDisk(t *testing.T, p *process) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(p.log), "disk-"+filepath.Base(p.log))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	switch err := mountMemory(dir, 24<<20); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.Is(err, errors.ErrUnsupported):
		t.Skipf("no file system can be mounted here, so only an ordered disk is tested: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	p.env = append(p.env, "QUOIT_NODE_DATA="+filepath.Join(dir, nodesFolder))
	p.disk = dir
}

// fillFolder takes every byte that is left.
func fillFolder(t *testing.T, p *process) {
	t.Helper()
	f, err := os.Create(filepath.Join(p.disk, filler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2] // the last bytes, too
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func emptyFolder(t *testing.T, p *process) {
	t.Helper()
	if err := os.Remove(filepath.Join(p.disk, filler)); err != nil {
		t.Fatal(err)
	}
}

// own returns keys that a node owns, of those that do not change.
func (l *load) own(p *process) (keys []string) {
	l.t.Helper()
	for i := 0; i < l.static && len(keys) < 64; i++ {
		switch got, err := ask(p, "STRLEN "+staticKey(i)); {
		case err != nil:
			l.t.Fatal(err)
		case strings.HasPrefix(got, ":"):
			keys = append(keys, staticKey(i))
		}
	}
	if len(keys) == 0 {
		l.t.Fatalf("%s owns nothing", p.name)
	}
	return keys
}

// fresh writes a key of its own to a node, and returns it.
func (l *load) fresh(p *process) string {
	l.t.Helper()
	for i := range l.static {
		key := fmt.Sprintf("fresh:%d", i)
		switch got, err := ask(p, "SET "+key+" v"); {
		case err != nil:
			l.t.Fatal(err)
		case got == "+OK":
			return key
		}
	}
	l.t.Fatalf("%s takes no key", p.name)
	return ""
}

// untilAnswer writes large values to a node until it answers as wanted.
func (l *load) untilAnswer(p *process, keys []string, want string) string {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ {
		key := keys[i%len(keys)]
		got, err := ask(p, "SET "+key+" \""+key+" "+strings.Repeat("w", 48<<10)+"\"")
		if err == nil && strings.HasPrefix(got, want) {
			return got
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("a write to %s is answered %q, %v; want %s", p.name, got, err, want)
		}
	}
}

// TestAFullDiskRefusesWritesAndNothingElse: reads, deletes and moving data away go on,
// the status says what is the matter, and once there is room the same process takes
// writes again. Nothing that was acknowledged is lost, also if the node is killed; then
// it needs some room to start, and says so.
func TestAFullDiskRefusesWritesAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, disk := range smallDisks() {
		t.Run(disk.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2)
			f.manager.start(t, "")
			victim, other := f.keeper(), f.keeper()
			disk.prepare(t, victim)
			for _, p := range []*process{victim, other} {
				p.start(t, "")
			}
			f.until("the nodes to serve", settled(2))
			l := startLoad(t, f.address)
			t.Cleanup(l.work.Halt)
			mustSnapshot(t, victim, other)
			keys := l.own(victim)
			old := victim.pid()
			goes := l.fresh(victim)
			disk.fill(t, victim)
			if got := l.untilAnswer(victim, keys, "-READONLY "); !strings.Contains(got, "disk is full") || !strings.Contains(got, "QUOIT_NODE_DATA") {
				t.Errorf("a write is refused with %q", got)
			}
			f.until("the status to say so", func(s manager.Status) bool {
				for _, n := range s.Nodes {
					if n.Address == victim.name && strings.HasPrefix(n.Heartbeat.State, "disk full") {
						return true
					}
				}
				return false
			})
			l.readAll(t.Context(), l.db)
			for _, step := range [][2]string{{"EXISTS", ":1"}, {"DEL", ":1"}, {"EXISTS", ":0"}} {
				if got, err := ask(victim, step[0]+" "+goes); got != step[1] {
					t.Errorf("%s: %q, %v; want %s", step[0], got, err, step[1])
				}
			}
			third := f.keeper()
			third.start(t, "")
			f.until("the third node", known(third.name))
			operate(t, f.address, func(c *manager.Control) error { return c.Add(third.name) })
			f.until("ranges to be moved away from the full disk", settled(3))
			l.readAll(t.Context(), l.db)
			if keys = l.own(victim); len(keys) == 0 {
				t.Fatal("everything has moved away")
			}
			l.untilAnswer(victim, keys, "-READONLY ")

			disk.free(t, victim)
			l.untilAnswer(victim, keys, "+OK")
			if victim.pid() != old {
				t.Error("it took a restart")
			}
			mustSnapshot(t, victim, other, third)

			disk.fill(t, victim)
			l.untilAnswer(victim, keys, "-READONLY ")
			victim.signal(syscall.SIGKILL)
			<-victim.ended()
			victim.start(t, "") // there is no byte for the segment that a start goes on in
			victim.untilEnded(t)
			if said, err := os.ReadFile(victim.log); err != nil || !strings.Contains(string(said), "quoit: open the log: wal: disk full: ") {
				t.Errorf("it ends without the reason: %v", err)
			}
			disk.free(t, victim)
			victim.start(t, "")
			f.until("the node to be back", settled(3))
			l.untilAnswer(victim, keys, "+OK")
			l.audit()
		})
	}
}

// TestASlowDiskCostsTimeAndNothingElse: with every sync taking long on each node, moves
// come to their end and snapshots are published.
func TestASlowDiskCostsTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	f, nodes := keepers(t, 2)
	l := startLoad(t, nodes[0].name)
	third := f.keeper()
	for _, p := range append(nodes, third) {
		p.order(t, "slow:50ms")
	}
	third.start(t, "")
	f.until("the third node", known(third.name))
	operate(t, f.address, func(c *manager.Control) error { return c.Add(third.name) })
	mustSnapshot(t, nodes...)
	f.until("three nodes", settled(3))
	mustSnapshot(t, nodes[0], third)
	l.audit()
}
