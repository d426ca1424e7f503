package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// cluster is a manager and nodes, each a process of its own.
type cluster struct {
	manager *server
	nodes   []*server
	bucket  string // its URL
}

// clusterOptions say what else a cluster has.
type clusterOptions struct {
	nodes         int
	bucket        string // default a folder
	managerBucket string // where the manager reaches the bucket by another way
	env           []string
}

func newCluster(s settings, name string, o clusterOptions) (*cluster, error) {
	dir := filepath.Join(s.dir, name)
	if o.bucket == "" {
		folder := filepath.Join(dir, "bucket")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		o.bucket = "file://" + folder
	}
	if o.managerBucket == "" {
		o.managerBucket = o.bucket
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &cluster{bucket: o.bucket}
	c.manager = &server{
		name: "quoit manager", port: port, dir: dir, ready: dials, args: []string{s.quoit, "manager"},
		env: append([]string{
			"QUOIT_MANAGER_ADDR=127.0.0.1:" + port, "QUOIT_BUCKET=" + o.managerBucket,
			fmt.Sprintf("QUOIT_MANAGER_INITIAL_NODES=%d", o.nodes),
		}, minioKeys()...),
	}
	for i := range o.nodes {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, fmt.Sprintf("node-%d", i+1))
		n := &server{
			name: "quoit", port: port, dir: data, args: []string{s.quoit, "node"},
			env: append([]string{
				"QUOIT_NODE_ADDR=127.0.0.1:" + port, "QUOIT_NODE_DATA=" + data, "QUOIT_BUCKET=" + o.bucket,
				"QUOIT_MANAGER_ADDR=" + c.manager.address(),
			}, minioKeys()...),
		}
		n.env = append(n.env, o.env...)
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

func (c *cluster) start(ctx context.Context) error {
	if err := c.manager.start(ctx); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.launch(ctx); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) stop() {
	for _, n := range c.nodes {
		n.stop()
	}
	c.manager.stop()
}

// loseDisk stops a node and removes all that it had.
func (c *cluster) loseDisk(n *server) error {
	n.stop()
	return os.RemoveAll(n.dir)
}

// s3 is the URL of a place in the bucket that a MinIO has, reached at an address.
func s3(address, prefix string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("s3://quoit/%s?endpoint=http://%s:%s", prefix, host, port)
}

// discard stops a cluster and removes what it had in its own folder.
func (c *cluster) discard() {
	c.stop()
	_ = os.RemoveAll(c.manager.dir) // the temporary folder goes at the end anyway
}
