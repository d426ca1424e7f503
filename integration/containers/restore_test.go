package containers

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// archived is met when the bucket has everything that the nodes have.
func archived(s status) bool {
	for _, n := range s.Nodes {
		if n.State == "active" && (n.Snapshot == nil || n.Snapshot.State != "ok" || n.Snapshot.ArchiveLag != 0) {
			return false
		}
	}
	return s.Trouble == ""
}

// snapshots has every node take a snapshot, and returns when all are published.
func (c *cluster) snapshots() {
	c.t.Helper()
	for _, n := range c.nodes {
		db := c.redis(n.address(), c.secrets.operator, patience)
		var err error
		c.wait(func() bool {
			_, err = db.Do(c.t.Context(), "SNAPSHOT").Int64()
			return err == nil
		}, func() string { return fmt.Sprintf("for a snapshot of %s: %v", n.name, err) })
	}
}

// loseDisk kills a node, and removes its container and its volume.
func (c *cluster) loseDisk(n *server) {
	c.t.Helper()
	c.kill(n)
	is, err := c.engine.inspect(c.t.Context(), n)
	c.must(err)
	c.must(testcontainers.TerminateContainer(n.ctr, testcontainers.StopTimeout(0)))
	for _, m := range is.Mounts {
		if m.Type != mount.TypeVolume {
			continue // a secret
		}
		_, err := c.engine.api.VolumeRemove(c.t.Context(), m.Name, client.VolumeRemoveOptions{})
		c.must(err)
	}
}

// replace starts a container in the place of one that is gone: with its name, and an
// empty disk.
func (c *cluster) replace(n *server) {
	c.t.Helper()
	n.ctr = c.startNode(n.name).ctr
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[n.name] = n
}

// TestALostDiskComesBackFromMinIO: machine after machine dies with its disk, in the end
// all at once, and another takes its place with nothing but its name.
func TestALostDiskComesBackFromMinIO(t *testing.T) {
	t.Parallel()
	c, _ := newClusterOnMinIO(t, 3, together)
	l := startLoad(c)
	l.goesOn(c, 300)
	c.snapshots()
	l.goesOn(c, 300) // which the log has alone
	l.pause()
	c.until("the bucket to have everything", archived)
	c.loseDisk(c.nodes[1])
	c.until("the manager to miss the node", shown(c.nodes[1], false))
	c.replace(c.nodes[1])
	c.until("the node to be back", serving(3))
	l.goOn()
	l.goesOn(c, 300)

	l.pause()
	c.until("the bucket to have everything", archived)
	for _, n := range c.nodes {
		c.loseDisk(n)
	}
	c.replaceManager(3)
	for _, n := range c.nodes {
		c.replace(n)
	}
	c.until("all nodes to be back", serving(3))
	l.goOn()
	l.goesOn(c, 300)
	l.audit()
}

// beside is another cluster in the same store and network, with a bucket and secrets of
// its own.
func (c *cluster) beside(name string, nodes int) *cluster {
	c.t.Helper()
	other := &cluster{t: c.t, engine: c.engine, links: c.links, secrets: newSecrets(c.t).inStoreOf(c.t, c.secrets), prefix: name + "-", names: make(map[string]*server), bucket: maps.Clone(c.bucket)}
	other.bucket["QUOIT_BUCKET"] = bucketAt(name)
	other.form(nodes)
	return other
}

// restore runs quoit snapshot restore in a container, from this cluster's bucket into
// another cluster, and returns what it says.
func (c *cluster) restore(into *cluster, flags ...string) string {
	c.t.Helper()
	env, binds := c.secrets.mount(map[string]string{"QUOIT_S3_ACCESS_KEY_FILE": bucketAccessKey, "QUOIT_S3_SECRET_KEY_FILE": bucketSecretKey})
	maps.Copy(env, c.bucket)
	env["QUOIT_SERVERS"], env["QUOIT_TOKEN"] = into.manager.name+":"+managerPort, into.secrets.operator
	tool := &server{ctr: run(c.t, c.engine.image, testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.Binds = binds }),
		testcontainers.WithCmd(append([]string{"snapshot", "restore", "--check", "--timeout", "1m"}, flags...)...), testcontainers.WithEnv(env),
		c.links.join("restore-into-"+into.manager.name), testcontainers.WithWaitStrategy(wait.ForExit().WithExitTimeout(2*patience)))}
	is, err := c.engine.inspect(c.t.Context(), tool)
	c.must(err)
	said := logOf(tool.ctr)
	if is.State.ExitCode != 0 {
		c.t.Fatalf("quoit snapshot restore %v ended with exit code %d:\n%s", flags, is.State.ExitCode, said)
	}
	return said
}

// holds wants a cluster that was restored to have what the load knows, and the keys
// that it does not change to have these values.
func (c *cluster) holds(l *load, static func(i int) string) {
	c.t.Helper()
	db := c.client()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	checked, lost, err := l.work.AuditOf(ctx, db)
	if err != nil || len(lost) > 0 || checked == 0 {
		c.t.Errorf("audit of %d restored keys: %v, lost %v", checked, err, lost)
	}
	keys := make([]string, l.static)
	for i := range keys {
		keys[i] = staticKey(i)
	}
	results, err := db.MGet(ctx, keys...)
	c.must(err)
	wrong := 0
	for i, r := range results {
		if want := static(i); string(r.Value) != want {
			wrong++
			if wrong < 5 {
				c.t.Errorf("%s holds %q, want %q", keys[i], r.Value, want)
			}
		}
	}
	if wrong > 0 {
		c.t.Errorf("%d of %d keys are wrong", wrong, len(keys))
	}
}

// TestARestoreIntoTwoAndIntoSevenNodes: of a cluster of three there is the bucket alone.
// It comes back as of a moment in two nodes, and as it was at last in seven.
func TestARestoreIntoTwoAndIntoSevenNodes(t *testing.T) {
	t.Parallel()
	c, _ := newClusterOnMinIO(t, 3, together)
	l := startLoad(c)
	l.goesOn(c, 300)
	c.snapshots()
	joins := c.addNode() // a range that has moved is in more than one node's log
	c.until("another node to register", shown(joins, true))
	c.order("ADD", joins.address())
	c.until("four nodes to serve", serving(4))
	c.order("REMOVE", c.nodes[0].address())
	c.until("three nodes to serve", serving(3))
	l.goesOn(c, 300)
	l.pause()
	moment := time.Now()
	c.wait(func() bool { return time.Since(moment) > 10*time.Millisecond }, func() string { return "for the moment to pass" })

	const changed = 500 // of the keys that the load leaves alone
	for i := range changed {
		if i%2 == 0 {
			c.must(l.db.Put(t.Context(), staticKey(i), []byte("changed afterwards")))
			continue
		}
		_, err := l.db.Delete(t.Context(), staticKey(i))
		c.must(err)
	}
	c.nodes = c.nodes[1:]
	c.snapshots()
	c.until("the bucket to have everything", archived)
	for _, s := range append(c.nodes, c.manager) {
		c.kill(s)
	}

	before := func(i int) string { return staticValue(i) }
	two := c.beside("two", 2)
	said := c.restore(two, "--at", fmt.Sprint(moment.UnixMilli()))
	if !strings.Contains(said, two.nodes[1].address()) {
		t.Errorf("it said %s", said)
	}
	two.holds(l, before)

	seven := c.beside("seven", 7)
	c.restore(seven)
	seven.holds(l, func(i int) string {
		switch {
		case i >= changed:
			return before(i)
		case i%2 == 0:
			return "changed afterwards"
		}
		return ""
	})
	seven.until("every node to have keys", func(s status) bool {
		for _, n := range s.Nodes {
			if n.Keys == 0 {
				return false
			}
		}
		return serving(7)(s)
	})
}
