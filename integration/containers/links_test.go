package containers

import (
	"context"
	"slices"
	"testing"

	dockernet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
)

// links are the networks of a cluster. All servers are on one that clients outside
// use, and those whose link is to be cut have a network for each two of them besides.
type links struct {
	t       *testing.T
	engine  *engine
	outside *testcontainers.DockerNetwork
	pairs   map[[2]string]*testcontainers.DockerNetwork
	hidden  map[string]bool // who has its name in pairs alone, so that there is no way round
}

func newLinks(t *testing.T) *links {
	t.Helper()
	l := &links{t: t, engine: docker(t), pairs: make(map[[2]string]*testcontainers.DockerNetwork), hidden: make(map[string]bool)}
	l.outside = l.network()
	return l
}

// together has all servers on one network.
func together(t *testing.T) *links { return newLinks(t) }

// apart gives each two of the servers a network of their own.
func apart(names ...string) func(t *testing.T) *links {
	return func(t *testing.T) *links {
		t.Helper()
		l := newLinks(t)
		for i, a := range names {
			l.hidden[a] = true
			for _, b := range names[i+1:] {
				l.pairs[pair(a, b)] = l.network()
			}
		}
		return l
	}
}

// star gives each server a network of its own with the one in the middle.
func star(middle string, names ...string) func(t *testing.T) *links {
	return func(t *testing.T) *links {
		t.Helper()
		l := newLinks(t)
		l.hidden[middle] = true
		for _, name := range names {
			l.pairs[pair(middle, name)] = l.network()
		}
		return l
	}
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// network makes one that ends with the test.
func (l *links) network() *testcontainers.DockerNetwork {
	l.t.Helper()
	n, err := network.New(l.t.Context(), network.WithLabels(labels()))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := n.Remove(context.Background()); err != nil {
			l.t.Error(err)
		}
	})
	return n
}

// join puts a container on its networks, under its name.
func (l *links) join(name string) testcontainers.CustomizeRequestOption {
	return func(r *testcontainers.GenericContainerRequest) error {
		aliases := []string{name}
		if l.hidden[name] {
			aliases = nil
		}
		if err := network.WithNetwork(aliases, l.outside)(r); err != nil {
			return err
		}
		for ends, n := range l.pairs {
			if slices.Contains(ends[:], name) {
				if err := network.WithNetwork([]string{name}, n)(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// cut takes the link between two servers away: what either sends is lost, and
// neither is told.
func (l *links) cut(a, b *server) {
	l.t.Helper()
	_, err := l.engine.api.NetworkDisconnect(l.t.Context(), l.pairs[pair(a.name, b.name)].ID,
		client.NetworkDisconnectOptions{Container: a.ctr.GetContainerID(), Force: true})
	if err != nil {
		l.t.Fatal(err)
	}
}

// mend brings the link back.
func (l *links) mend(a, b *server) {
	l.t.Helper()
	_, err := l.engine.api.NetworkConnect(l.t.Context(), l.pairs[pair(a.name, b.name)].ID,
		client.NetworkConnectOptions{Container: a.ctr.GetContainerID(), EndpointConfig: &dockernet.EndpointSettings{Aliases: []string{a.name}}})
	if err != nil {
		l.t.Fatal(err)
	}
}
