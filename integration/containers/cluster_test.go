package containers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/redis/go-redis/v9"
	"github.com/testcontainers/testcontainers-go"

	quoit "github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/contain"
)

const (
	managerPort = "7400"
	nodePort    = "7401"
)

// cluster is a manager and nodes, each a container. Its names mean something on its
// networks only; [cluster.dial] looks them up for clients outside.
type cluster struct {
	t       *testing.T
	engine  *engine
	links   *links
	secrets *secrets
	prefix  string            // of its servers' names
	bucket  map[string]string // settings of the bucket
	volume  string            // what is mounted on /bucket, if anything
	manager *server
	nodes   []*server
	manage  *redis.Client // to the manager

	mu    sync.Mutex
	names map[string]*server // who is called what at present; guarded by mu
}

// server is one container.
type server struct {
	name string
	ctr  testcontainers.Container
}

// newCluster starts a manager and nodes with the bucket in a folder, and waits until
// they serve.
func newCluster(t *testing.T, nodes int, l func(*testing.T) *links) *cluster {
	t.Helper()
	e := docker(t)
	c := &cluster{t: t, engine: e, links: l(t), secrets: newSecrets(t), volume: volume(t, e), names: make(map[string]*server)}
	c.bucket = map[string]string{"QUOIT_BUCKET": "file:///bucket"}
	c.form(nodes)
	return c
}

// newClusterOnMinIO is newCluster with the bucket in a MinIO of its own, which is the
// server "store". The servers called by name speak TLS; if there are some, all must be.
func newClusterOnMinIO(t *testing.T, nodes int, l func(*testing.T) *links, withTLS ...string) (c *cluster, store *server) {
	t.Helper()
	e := docker(t)
	c = &cluster{t: t, engine: e, links: l(t), secrets: newSecrets(t, withTLS...), names: make(map[string]*server)}
	env, binds := c.secrets.mount(map[string]string{"MINIO_ROOT_USER_FILE": bucketAccessKey, "MINIO_ROOT_PASSWORD_FILE": bucketSecretKey})
	env["MINIO_BROWSER"] = "off"
	binds = append(binds, volume(t, e)+":/data")
	store = &server{name: "store", ctr: run(t, minio(t), c.links.join("store"), testcontainers.WithEnv(env),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.Binds = binds }))}
	c.bucket = map[string]string{"QUOIT_BUCKET": bucketAt("cluster")}
	c.form(nodes)
	return c, store
}

// bucketAt is the URL of a part of the bucket in MinIO.
func bucketAt(prefix string) string { return "s3://quoit/" + prefix + "?endpoint=http://store:9000" }

// form starts the servers of a cluster that has a bucket.
func (c *cluster) form(nodes int) {
	c.t.Helper()
	c.manager = c.startManager(nodes)
	c.manage = c.redis(c.manager.name+":"+managerPort, c.secrets.operator, 5*time.Second)
	for range nodes {
		c.addNode()
	}
	c.until("the nodes to serve", serving(nodes))
}

// volume makes a named volume that ends with the test.
func volume(t *testing.T, e *engine) string {
	t.Helper()
	v, err := e.api.VolumeCreate(t.Context(), client.VolumeCreateOptions{Labels: labels()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Forced, one that is gone is no error: a story may lose a disk.
		if _, err := e.api.VolumeRemove(context.Background(), v.Volume.Name, client.VolumeRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return v.Volume.Name
}

// startManager starts a manager's container.
func (c *cluster) startManager(initial int) *server {
	c.t.Helper()
	return c.start(c.prefix+"manager", []string{"manager"}, nil, map[string]string{
		"QUOIT_MANAGER_ADDR": "0.0.0.0:" + managerPort, "QUOIT_MANAGER_INITIAL_NODES": fmt.Sprint(initial),
		"QUOIT_MANAGER_MOVES_PER_NODE": "16", "QUOIT_MANAGER_NODE_TIMEOUT": "2s",
	})
}

// addNode starts the container of one more node, with a volume of its own. It has
// enough tokens that a new node takes something from each of the others, and few
// enough that a test is short.
func (c *cluster) addNode() *server {
	c.t.Helper()
	n := c.startNode(fmt.Sprintf("%snode-%d", c.prefix, len(c.nodes)+1))
	c.nodes = append(c.nodes, n)
	return n
}

// startNode starts a node of this name with an empty volume.
func (c *cluster) startNode(name string) *server {
	c.t.Helper()
	return c.start(name, []string{"node"}, []string{volume(c.t, c.engine) + ":/data"}, map[string]string{
		"QUOIT_NODE_ADDR": "0.0.0.0:" + nodePort, "QUOIT_NODE_ADVERTISE": name + ":" + nodePort,
		"QUOIT_NODE_DATA": "/data", "QUOIT_MANAGER_ADDR": c.manager.name + ":" + managerPort, "QUOIT_NODE_TOKENS": "16",
		"QUOIT_NODE_POLL": "1s", "QUOIT_WAL_ARCHIVE_INTERVAL": "1s",
	})
}

// start starts a container of the image as compose.yaml and deploy/ do: with a
// read-only root, no capability, and the secrets of a member in files.
func (c *cluster) start(name string, command, binds []string, env map[string]string) *server {
	c.t.Helper()
	return c.startWith(c.secrets.member(name), name, command, binds, env)
}

// startWith is start with such secrets.
func (c *cluster) startWith(files map[string]string, name string, command, binds []string, env map[string]string) *server {
	c.t.Helper()
	variables, mounts := c.secrets.mount(files)
	binds = append(binds, mounts...)
	maps.Copy(env, variables)
	maps.Copy(env, c.bucket)
	if c.volume != "" {
		binds = append(binds, c.volume+":/bucket")
	}
	s := &server{name: name, ctr: run(c.t, c.engine.image,
		testcontainers.WithCmd(command...), testcontainers.WithEnv(env), c.links.join(name),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.Binds = binds }))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[name] = s
	return s
}

// What a container of a test may have, as in compose.yaml.
const (
	containerProcesses = 512
	containerMemory    = 1 << 30
)

// run starts a container that ends with the test.
func run(t *testing.T, image string, options ...testcontainers.ContainerCustomizer) testcontainers.Container {
	t.Helper()
	ctr, err := testcontainers.Run(t.Context(), image, append(options, testcontainers.WithLabels(labels()),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.ReadonlyRootfs, h.CapDrop, h.SecurityOpt = true, []string{"ALL"}, []string{"no-new-privileges:true"}
			processes := int64(containerProcesses)
			h.PidsLimit, h.Memory = &processes, containerMemory
		}))...)
	t.Cleanup(func() {
		if ctr != nil {
			said := allOf(ctr)
			if err := contain.Told([]byte(said)); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			if t.Failed() {
				t.Logf("log of %s:\n%s", image, endOf(said))
			}
		}
		if err := testcontainers.TerminateContainer(ctr, testcontainers.StopTimeout(0)); err != nil {
			t.Error(err) // not when it was removed already
		}
	})
	if err != nil {
		t.Fatalf("start %s: %v", image, err)
	}
	return ctr
}

// logOf is the end of what a container has said.
func logOf(ctr testcontainers.Container) string { return endOf(allOf(ctr)) }

func endOf(text string) string { return text[max(0, len(text)-4000):] }

// allOf is everything that it has said.
func allOf(ctr testcontainers.Container) string {
	r, err := ctr.Logs(context.Background())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = r.Close() }()
	text, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// inspect is what Docker knows of a container.
func (e *engine) inspect(ctx context.Context, s *server) (container.InspectResponse, error) {
	r, err := e.api.ContainerInspect(ctx, s.ctr.GetContainerID(), client.ContainerInspectOptions{})
	return r.Container, err
}

// named returns the server of that name.
func (c *cluster) named(name string) (s *server, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, known = c.names[name]
	return s, known
}

// dialer opens connections from outside to the names that the servers have among
// themselves. A container has another address each time it starts.
func (c *cluster) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		name, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		s, known := c.named(name)
		if !known {
			return nil, fmt.Errorf("no container is called %s", name)
		}
		is, err := c.engine.inspect(ctx, s)
		if err != nil {
			return nil, err
		}
		at := is.NetworkSettings.Networks[c.links.outside.Name]
		if at == nil || !at.IPAddress.IsValid() {
			return nil, fmt.Errorf("%s does not run", name)
		}
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, net.JoinHostPort(at.IPAddress.String(), port))
		if err != nil || c.secrets.authority == nil {
			return nc, err
		}
		return tls.Client(nc, &tls.Config{RootCAs: c.secrets.authority, ServerName: name, MinVersion: tls.VersionTLS13}), nil
	}
}

// redis is a stock client of one server, which shows a token if that is not empty.
func (c *cluster) redis(address, token string, patient time.Duration) *redis.Client {
	c.t.Helper()
	db := redis.NewClient(&redis.Options{Addr: address, Dialer: c.dialer(), Password: token, MaxRetries: -1, DialTimeout: 2 * time.Second, ReadTimeout: patient})
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}

// client opens the cluster as a program on the host would.
func (c *cluster) client() *quoit.Client {
	c.t.Helper()
	dial := c.dialer()
	db, err := quoit.Open(c.t.Context(), []string{c.manager.name + ":" + managerPort},
		quoit.WithDialer(func(ctx context.Context, address string) (quoit.Conn, error) { return dial(ctx, "tcp", address) }),
		quoit.WithDialTimeout(2*time.Second), quoit.WithHealthInterval(10*time.Second), quoit.WithToken(c.secrets.token))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}

// status is what these tests read of the manager's answer to CLUSTER STATUS.
type status struct {
	Formed bool
	Nodes  []struct {
		Address, State string
		Up, Serving    bool
		Keys           int64
		Snapshot       *struct {
			State      string
			ArchiveLag int64 `json:"archive_lag_bytes"`
		}
	}
	Moves   []struct{ Source, Phase string }
	Trouble string
}

func (c *cluster) askStatus(ctx context.Context) (s status, err error) {
	text, err := c.manage.Do(ctx, "CLUSTER", "STATUS").Text()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// order gives the manager a CLUSTER command, again while it is not there.
func (c *cluster) order(words ...string) {
	c.t.Helper()
	command := []any{"CLUSTER"}
	for _, w := range words {
		command = append(command, w)
	}
	var err error
	c.wait(func() bool {
		err = c.manage.Do(c.t.Context(), command...).Err()
		var refused redis.Error
		return err == nil || errors.As(err, &refused)
	}, func() string { return fmt.Sprintf("CLUSTER %v: %v", words, err) })
	if err != nil {
		c.t.Fatalf("CLUSTER %v: %v", words, err)
	}
}

// until asks the manager until the status is as wanted.
func (c *cluster) until(what string, wanted func(status) bool) {
	c.t.Helper()
	var last status
	var lastErr error
	c.wait(func() bool {
		s, err := c.askStatus(c.t.Context())
		if lastErr = err; err != nil {
			return false
		}
		last = s
		return wanted(s)
	}, func() string { return fmt.Sprintf("for %s; last status: %+v, last error: %v", what, last, lastErr) })
}

// wait asks again and again, up to the limit of our patience.
func (c *cluster) wait(done func() bool, what func() string) {
	c.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			c.t.Fatalf("waited %s %s", patience, what())
		case <-tick.C:
		}
	}
}

// serving is met when n members serve and nothing moves any more.
func serving(n int) func(status) bool {
	return func(s status) bool {
		up := 0
		for _, node := range s.Nodes {
			if node.State == "active" && node.Up && node.Serving {
				up++
			}
		}
		return s.Formed && len(s.Moves) == 0 && up == n && s.Trouble == ""
	}
}

// moving is met while ranges are on their way.
func moving(s status) bool { return len(s.Moves) > 0 }

// shown is met when the manager has the node as up, or as down.
func shown(n *server, up bool) func(status) bool {
	return func(s status) bool { return upAt(s, n.address(), up) }
}

func upAt(s status, address string, up bool) bool {
	for _, node := range s.Nodes {
		if node.Address == address {
			return node.Up == up
		}
	}
	return false
}

// address is a node's name in the cluster.
func (s *server) address() string { return s.name + ":" + nodePort }

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// kill ends the server at once: SIGKILL.
func (c *cluster) kill(s *server) {
	c.t.Helper()
	_, err := c.engine.api.ContainerKill(c.t.Context(), s.ctr.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"})
	c.must(err)
}

// again starts the server's container again, with the volumes that it had.
func (c *cluster) again(s *server) {
	c.t.Helper()
	c.must(s.ctr.Start(c.t.Context()))
}
