package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node/keeper"
)

// keepers is a fleet whose nodes take snapshots when they are told to, and archive
// their log promptly.
func keepers(t *testing.T, n int, env ...string) (*fleet, []*process) {
	t.Helper()
	f := newFleet(t, n)
	f.manager.start(t, "")
	nodes := make([]*process, n)
	for i := range nodes {
		nodes[i] = f.keeper(env...)
		nodes[i].start(t, "")
	}
	f.until("the nodes to serve", settled(n))
	return f, nodes
}

func (f *fleet) keeper(env ...string) *process {
	p := f.node()
	p.env = append(p.env, "QUOIT_SNAPSHOT_INTERVAL=0s", "QUOIT_WAL_ARCHIVE_INTERVAL=200ms", "QUOIT_NODE_POLL=500ms", "QUOIT_NODE_MAX_VALUE=64KiB", "QUOIT_WAL_SEGMENT=1MiB")
	p.env = append(p.env, env...)
	return p
}

// snapshot has a node take a snapshot, and returns what it says; an error if the
// connection ends before.
func snapshot(p *process) (string, error) { return ask(p, "SNAPSHOT") }

// ask sends a node one line, and returns the first of its answer.
func ask(p *process, request string) (string, error) {
	line, _, err := askAt(p.name, request)
	return line, err
}

// askAt returns the first line of an answer, and the text that follows if there is one.
func askAt(address, request string) (line, text string, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return "", "", err
	}
	r := bufio.NewReader(c)
	line, err = r.ReadString('\n')
	if err == nil && line[0] == '$' && line[1] != '-' {
		text, err = r.ReadString('\n')
	}
	return strings.TrimSpace(line), strings.TrimSpace(text), err
}

func mustSnapshot(t *testing.T, nodes ...*process) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for _, p := range nodes {
		for {
			got, err := snapshot(p)
			if err == nil && strings.HasPrefix(got, ":") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("SNAPSHOT of %s: %q, %v", p.name, got, err)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// archived is met when the bucket has the whole log of every node. The nodes are asked
// themselves: what they have told the manager is from before the last writes.
func archived(s manager.Status) bool {
	for _, n := range s.Nodes {
		if n.State == cluster.Active && !isArchived(n.Address) {
			return false
		}
	}
	return true
}

func isArchived(node string) bool {
	_, text, err := askAt(node, "SNAPSHOT STATUS")
	if err != nil {
		return false
	}
	var s keeper.Status
	return json.Unmarshal([]byte(text), &s) == nil && s.ArchiveLag == 0 && s.State == "ok"
}

// loseDisk kills a node and removes its data folder.
func (p *process) loseDisk(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended()
	for _, v := range p.env {
		if dir, ok := strings.CutPrefix(v, "QUOIT_NODE_DATA="); ok {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no data folder")
}

// Ranges have come and gone between the snapshots, and then every disk is lost, one
// after the other: every key is back, and none that went away.
func TestEveryDiskIsLostAfterMovesInBothDirections(t *testing.T) {
	t.Parallel()
	f, nodes := keepers(t, 2)
	l := startLoad(t, nodes[0].name)
	mustSnapshot(t, nodes...)
	third := f.keeper()
	third.start(t, "")
	f.until("the third node", known(third.name))
	operate(t, f.address, func(c *manager.Control) error { return c.Add(third.name) })
	f.until("three nodes", settled(3))
	mustSnapshot(t, nodes[0], third)
	operate(t, f.address, func(c *manager.Control) error { return c.Remove(nodes[1].name) })
	f.until("the second node to go", settled(2))
	nodes[1].stop()
	mustSnapshot(t, third)
	l.work.Halt()
	f.until("the archive", archived)
	for _, p := range []*process{nodes[0], third} {
		p.loseDisk(t)
		p.start(t, "")
		f.until(p.name+" to be back", func(s manager.Status) bool { return settled(2)(s) && archived(s) })
	}
	l.audit()
}

// TestAMoveIsInTheBucketSoon: the interval of the archive is an hour here, and what a
// restore needs to know of a move, and of the keys that moved, is there all the same.
func TestAMoveIsInTheBucketSoon(t *testing.T) {
	t.Parallel()
	f, nodes := keepers(t, 2, "QUOIT_WAL_ARCHIVE_INTERVAL=1h")
	l := startLoad(t, nodes[0].name)
	l.work.Halt()
	mustSnapshot(t, nodes...)
	third := f.keeper("QUOIT_WAL_ARCHIVE_INTERVAL=1h")
	third.start(t, "")
	f.until("the third node", known(third.name))
	operate(t, f.address, func(c *manager.Control) error { return c.Add(third.name) })
	f.until("three nodes whose logs are in the bucket", func(s manager.Status) bool { return settled(3)(s) && archived(s) })
	third.loseDisk(t)
	third.start(t, "")
	f.until("the third node to be back", settled(3))
	l.audit()
}
