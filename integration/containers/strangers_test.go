package containers

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestAStrangerGetsNoPlaceAndNoData: beside a cluster there are two more nodes on its
// network, which can read its bucket. One has the secrets of another cluster, one has
// none. And there are clients without a token, or with that of another cluster.
func TestAStrangerGetsNoPlaceAndNoData(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, together)
	db := c.client()
	const keys = 200
	for i := range keys {
		c.must(db.Put(t.Context(), fmt.Sprint("own:", i), []byte("ours")))
	}

	foreign := newSecrets(t)
	ours := c.secrets
	settings := func(name string) map[string]string {
		return map[string]string{
			"QUOIT_NODE_ADDR": "0.0.0.0:" + nodePort, "QUOIT_NODE_ADVERTISE": name + ":" + nodePort, "QUOIT_NODE_DATA": "/data",
			"QUOIT_MANAGER_ADDR": c.manager.name + ":" + managerPort, "QUOIT_NODE_TOKENS": "16", "QUOIT_NODE_POLL": "1s",
		}
	}
	c.secrets = foreign
	impostor := c.start("impostor", []string{"node"}, []string{volume(t, c.engine) + ":/data"}, settings("impostor"))
	open := settings("nobody")
	open["QUOIT_ALLOW_UNAUTHENTICATED"] = "true"
	nobody := c.startWith(nil, "nobody", []string{"node"}, []string{volume(t, c.engine) + ":/data"}, open)
	c.secrets = ours

	for _, s := range []*server{impostor, nobody} {
		var said string
		c.wait(func() bool {
			said = allOf(s.ctr)
			return strings.Contains(said, "NOAUTH")
		}, func() string { return fmt.Sprintf("for the manager to refuse %s, which says\n%s", s.name, endOf(said)) })
		err := c.manage.Do(t.Context(), "CLUSTER", "ADD", s.address()).Err()
		if err == nil {
			t.Errorf("%s was let in", s.name)
		}
	}
	s, err := c.askStatus(t.Context())
	c.must(err)
	if len(s.Nodes) != 2 || len(s.Moves) != 0 {
		t.Errorf("the cluster has the nodes %+v, and moves %+v", s.Nodes, s.Moves)
	}
	for i := range keys {
		if value, err := db.Get(t.Context(), fmt.Sprint("own:", i)); err != nil || string(value) != "ours" {
			t.Errorf("own:%d holds %q, %v", i, value, err)
		}
	}

	for who, token := range map[string]string{"without a token": "", "with the token of another cluster": foreign.operator} {
		for _, address := range []string{c.manager.name + ":" + managerPort, c.nodes[0].address(), c.nodes[1].address()} {
			client := c.redis(address, token, patience)
			for _, request := range [][]any{{"GET", "own:1"}, {"SET", "own:1", "theirs"}, {"CLUSTER", "STATUS"}, {"CLUSTER", "REMOVE", c.nodes[0].address(), "ACCEPTLOSS"}, {"SNAPSHOT"}, {"TOPOLOGY"}} {
				if err := client.Do(t.Context(), request...).Err(); !isNoAuth(err) {
					t.Errorf("%s, %s answers %v: %v", who, address, request, err)
				}
			}
		}
	}
	code, said, err := c.nodes[0].ctr.Exec(t.Context(), []string{"/quoit", "get", "--servers", c.manager.name + ":" + managerPort, "own:1"})
	c.must(err)
	if text, err := io.ReadAll(said); code == 0 || !strings.Contains(string(text), "QUOIT_TOKEN_FILE") {
		t.Errorf("a tool without a token ends with exit code %d: %s, %v", code, text, err)
	}
	if value, err := db.Get(t.Context(), "own:1"); err != nil || string(value) != "ours" {
		t.Errorf("own:1 holds %q, %v", value, err)
	}
}

func isNoAuth(err error) bool { return redis.HasErrorPrefix(err, "NOAUTH") }
