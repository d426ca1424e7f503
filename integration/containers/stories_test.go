package containers

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/redis/go-redis/v9"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
)

func TestAClusterFromTheImage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, together)

	// Every server is nobody, on a root that cannot be written, and healthy.
	for _, s := range append(c.nodes, c.manager) {
		var is container.InspectResponse
		c.wait(func() (healthy bool) {
			var err error
			is, err = c.engine.inspect(t.Context(), s)
			return err == nil && is.State.Health != nil && is.State.Health.Status == container.Healthy
		}, func() string { return "for " + s.name + " to be healthy" })
		if is.Config.User != "65532:65532" || !is.HostConfig.ReadonlyRootfs {
			t.Errorf("%s runs as %q, read-only root: %v", s.name, is.Config.User, is.HostConfig.ReadonlyRootfs)
		}
		if h := is.HostConfig; !slices.Contains(h.CapDrop, "ALL") || len(h.CapAdd) > 0 || h.Privileged || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") || h.PidsLimit == nil || h.Memory == 0 {
			t.Errorf("%s has capabilities -%v +%v, privileged %v, %v, processes %v, memory %d", s.name, h.CapDrop, h.CapAdd, h.Privileged, h.SecurityOpt, h.PidsLimit, h.Memory)
		}
	}

	// Nothing but the volumes can be written, and a node knows what memory it has.
	for _, file := range []string{"/keys", "/tmp/keys", "/etc/keys"} {
		code, said, err := c.nodes[0].ctr.Exec(t.Context(), []string{"/quoit", "export", "--servers", "manager:7400", "-o", file}, c.asOperator())
		c.must(err)
		if text, _ := io.ReadAll(said); code == 0 {
			t.Errorf("%s was written: %s", file, text)
		}
	}
	node := c.redis(c.nodes[0].address(), c.secrets.operator, patience)
	info, err := node.Info(t.Context()).Result()
	c.must(err)
	if most := fmt.Sprintf("maxmemory:%d\r\n", containerMemory/100*80*3/4); !strings.Contains(info, most) {
		t.Errorf("a node with %d bytes of memory does not say %q:\n%s", containerMemory, most, info)
	}

	// What the Go client writes a stock Redis client reads.
	db := c.client()
	for i := range 50 {
		key, value := fmt.Sprintf("greeting:%d", i), fmt.Sprintf("hello %d", i)
		c.must(db.Put(t.Context(), key, []byte(value)))
		if got, err := c.redisGet(c.nodes[0].address(), key); err != nil || got != value {
			t.Errorf("GET %s: %q, %v", key, got, err)
		}
		_, err := db.Delete(t.Context(), key)
		c.must(err)
	}

	// The tools in the image speak to the cluster that they are in.
	c.quoit("put", "--servers", "manager:7400", "greeting", "hello")
	c.quoit("del", "--servers", "manager:7400", "greeting")
	c.quoit("healthcheck", "--ready")

	// SIGTERM under traffic: a server ends by itself, with 0, and nothing is lost.
	l := startLoad(c)
	l.goesOn(c, 200)
	leaving := c.nodes[2]
	c.endsWell(leaving)
	c.again(leaving)
	c.until("three nodes to serve again", serving(3))
	l.audit()
	for _, s := range append(c.nodes, c.manager) {
		c.endsWell(s)
	}
}

// asOperator has a tool that runs in a container show the operator's token.
func (c *cluster) asOperator() tcexec.ProcessOption {
	return tcexec.WithEnv([]string{"QUOIT_TOKEN=" + c.secrets.operator})
}

// quoit runs a tool in the first node's container.
func (c *cluster) quoit(words ...string) {
	c.t.Helper()
	code, said, err := c.nodes[0].ctr.Exec(c.t.Context(), append([]string{"/quoit"}, words...), c.asOperator())
	c.must(err)
	text, err := io.ReadAll(said)
	c.must(err)
	if code != 0 {
		c.t.Errorf("quoit %v ended with exit code %d: %s", words, code, text)
	}
}

// endsWell stops a server as docker stop does: SIGTERM, and SIGKILL much later.
func (c *cluster) endsWell(s *server) {
	c.t.Helper()
	grace := patience
	c.must(s.ctr.Stop(c.t.Context(), &grace))
	is, err := c.engine.inspect(c.t.Context(), s)
	c.must(err)
	if is.State.ExitCode != 0 {
		c.t.Errorf("%s was told to end and did with exit code %d:\n%s", s.name, is.State.ExitCode, logOf(s.ctr))
	}
}

// redisGet reads a key as a stock client does that knows nothing of the ring: it
// follows one redirect.
func (c *cluster) redisGet(address, key string) (string, error) {
	c.t.Helper()
	ask := func(address string) (string, error) {
		db := c.redis(address, c.secrets.operator, patience)
		defer func() { _ = db.Close() }()
		return db.Get(c.t.Context(), key).Result()
	}
	value, err := ask(address)
	if err != nil && strings.HasPrefix(err.Error(), "MOVED ") {
		return ask(err.Error()[strings.LastIndexByte(err.Error(), ' ')+1:])
	}
	return value, err
}

func TestAFolderThatCannotBeWrittenIsNamed(t *testing.T) {
	t.Parallel()
	e := docker(t)
	for folder, settings := range map[string]map[string]string{
		"/bucket":  {"QUOIT_NODE_DATA": "/nowhere", "QUOIT_BUCKET": "file:///bucket"},
		"/nowhere": {"QUOIT_NODE_DATA": "/nowhere", "QUOIT_BUCKET": "s3://far/away?endpoint=http://127.0.0.1:1", "QUOIT_S3_ACCESS_KEY": "a", "QUOIT_S3_SECRET_KEY": "b"},
	} {
		ctr := run(t, e.image, testcontainers.WithCmd("node"), testcontainers.WithEnv(settings),
			testcontainers.WithWaitStrategy(wait.ForExit().WithExitTimeout(patience)))
		is, err := e.inspect(t.Context(), &server{ctr: ctr})
		if err != nil {
			t.Fatal(err)
		}
		if said := logOf(ctr); is.State.ExitCode != 1 || !strings.Contains(said, folder) || !strings.Contains(said, "read-only") {
			t.Errorf("%s: exit code %d: %s", folder, is.State.ExitCode, said)
		}
	}
}

func TestKilledAndPausedNodesKeepEveryAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, together)
	l := startLoad(c)
	l.goesOn(c, 300)

	killed := c.nodes[1]
	c.kill(killed)
	c.until("the manager to miss the killed node", shown(killed, false))
	c.again(killed)
	c.until("the killed node to serve again", serving(3))
	l.goesOn(c, 300)

	paused := c.nodes[2]
	_, err := c.engine.api.ContainerPause(t.Context(), paused.ctr.GetContainerID(), client.ContainerPauseOptions{})
	c.must(err)
	c.until("the manager to miss the paused node", shown(paused, false))
	_, err = c.engine.api.ContainerUnpause(t.Context(), paused.ctr.GetContainerID(), client.ContainerUnpauseOptions{})
	c.must(err)
	c.until("the paused node to serve again", serving(3))
	l.goesOn(c, 300)

	for _, n := range c.nodes { // all at once, as when the machine dies
		c.kill(n)
	}
	for _, n := range c.nodes {
		c.again(n)
	}
	c.until("all nodes to serve again", serving(3))
	l.goesOn(c, 300)
	l.audit()
}

// TestGrowFromThreeToFiveAndBackUnderTraffic: every link between servers and clients is
// encrypted, and members have certificates.
func TestGrowFromThreeToFiveAndBackUnderTraffic(t *testing.T) {
	t.Parallel()
	c, _ := newClusterOnMinIO(t, 3, together, "manager", "node-1", "node-2", "node-3", "node-4", "node-5")
	l := startLoad(c)

	fourth, fifth := c.addNode(), c.addNode()
	c.until("two more nodes to register", func(s status) bool { return shown(fourth, true)(s) && shown(fifth, true)(s) })
	c.order("PAUSE") // so that they are not over before the manager goes
	c.order("ADD", fourth.address(), fifth.address())
	c.until("ranges to move", moving)
	c.replaceManager(3)
	c.until("the new manager to know of the moves", moving)
	c.order("RESUME")
	c.until("five nodes to serve", serving(5))
	l.goesOn(c, 300)

	first, second := c.nodes[0], c.nodes[3]
	c.order("REMOVE", first.address(), second.address())
	c.until("three nodes to serve", serving(3))
	for _, gone := range []*server{first, second} {
		c.endsWell(gone) // it owns nothing any more
	}
	l.goesOn(c, 300)
	l.audit()
}

// replaceManager kills the manager's container, deletes it, and starts another in its
// place: it keeps nothing but what is in the bucket.
func (c *cluster) replaceManager(initial int) {
	c.t.Helper()
	c.kill(c.manager)
	c.must(testcontainers.TerminateContainer(c.manager.ctr))
	c.manager = c.startManager(initial)
}

func TestCutNetworksLoseNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, apart("manager", "node-1", "node-2", "node-3", "node-4"))
	l := startLoad(c)

	// Between a node and the manager: the node is shown as down, and serves on.
	alone := c.nodes[0]
	c.links.cut(alone, c.manager)
	c.until("the manager to miss the node", shown(alone, false))
	c.writesTo(l, alone)
	c.links.mend(alone, c.manager)
	c.until("the manager to hear of the node again", serving(3))

	// Between the two ends of a move: it stands still, and ends when they meet again.
	joins, source := c.addNode(), c.nodes[1]
	c.until("the node to register", shown(joins, true))
	c.order("PAUSE") // or its few keys would be over before the cut
	c.order("ADD", joins.address())
	c.until("ranges to move", moving)
	c.links.cut(source, joins)
	c.order("RESUME")
	c.until("all ranges to have moved but those of "+source.name, func(s status) bool { return onlyFrom(s, source) })
	l.goesOn(c, 300)
	c.links.mend(source, joins)
	c.until("four nodes to serve", serving(4))
	l.goesOn(c, 300)
	l.audit()
}

func TestTheObjectStoreGoesAndComesBackWhileNodesServe(t *testing.T) {
	t.Parallel()
	c, store := newClusterOnMinIO(t, 3, star("store", "manager", "node-1", "node-2", "node-3", "node-4"))
	l := startLoad(c)
	l.goesOn(c, 300)

	// Away for one node: it serves on, and what is to move from it waits.
	alone := c.nodes[0]
	c.links.cut(alone, store)
	c.writesTo(l, alone)
	joins := c.addNode()
	c.until("another node to register", shown(joins, true))
	c.order("ADD", joins.address())
	c.until("all ranges to have moved but those of "+alone.name, func(s status) bool { return onlyFrom(s, alone) })
	c.writesTo(l, alone)
	c.links.mend(alone, store)
	c.until("four nodes to serve", serving(4))

	// Away for all: nodes that serve do so, the manager says what is the matter, and a node
	// that starts now waits, because its log alone is no right to serve.
	c.endsWell(store)
	c.until("the manager to say that the bucket is away", func(s status) bool { return s.Trouble != "" })
	l.goesOn(c, 300)
	c.kill(c.nodes[2])
	c.again(c.nodes[2])
	var refusal error
	c.wait(func() bool {
		_, refusal = c.redisGet(c.nodes[2].address(), "any")
		return refusal != nil && strings.HasPrefix(refusal.Error(), "UNAVAILABLE ")
	}, func() string {
		return fmt.Sprintf("for the started node to say that it cannot serve; last it said %v", refusal)
	})

	// Back: all is as before, and ranges move.
	c.again(store)
	c.until("four nodes to serve again", serving(4))
	c.order("REMOVE", joins.address())
	c.until("three nodes to serve", serving(3))
	l.goesOn(c, 300)
	l.audit()

	// And the bucket gets what it has missed.
	c.until("the bucket to have everything", archived)
}

// writesTo wants a node to take writes to a key of its own.
func (c *cluster) writesTo(l *load, n *server) {
	c.t.Helper()
	key := c.keyOf(n)
	for i := range 20 {
		if err := l.db.Put(c.t.Context(), key, fmt.Append(nil, i)); err != nil {
			c.t.Fatalf("write %d to %s: %v", i, n.name, err)
		}
	}
	_, err := l.db.Delete(c.t.Context(), key)
	c.must(err)
}

// onlyFrom is met when ranges move, and all of them from one node.
func onlyFrom(s status, source *server) bool {
	for _, m := range s.Moves {
		if m.Source != source.address() {
			return false
		}
	}
	return len(s.Moves) > 0
}

// keyOf finds a key that the node owns, by asking it.
func (c *cluster) keyOf(n *server) string {
	c.t.Helper()
	db := c.redis(n.address(), c.secrets.operator, patience)
	for i := range 10000 {
		key := fmt.Sprintf("own:%d", i)
		if err := db.Get(c.t.Context(), key).Err(); err == nil || errors.Is(err, redis.Nil) {
			return key
		}
	}
	c.t.Fatalf("none of 10000 keys is %s's", n.name)
	return ""
}
