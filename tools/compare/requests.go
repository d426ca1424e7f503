package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
)

// writesEach is how many writes a second requests are counted under.
const writesEach = 1000

// requests counts what a cluster of three nodes asks of its bucket.
func requests(ctx context.Context, o settings) error {
	minio, err := newMinIO(filepath.Join(o.dir, "minio"))
	if err != nil {
		return err
	}
	defer minio.stop()
	if err := minio.start(ctx); err != nil {
		return err
	}
	counts := &tallies{}
	managers, err := startProxy(minio.address(), "manager", counts)
	if err != nil {
		return err
	}
	defer managers.Close()
	nodes, err := startProxy(minio.address(), "nodes", counts)
	if err != nil {
		return err
	}
	defer nodes.Close()
	c, err := newCluster(o, "quoit", clusterOptions{nodes: 3, bucket: s3(nodes.address, "cluster"), managerBucket: s3(managers.address, "cluster")})
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 15*time.Second); err != nil { // what a start asks for
		return err
	}
	start := counts.take()
	if err := pause(ctx, o.span); err != nil {
		return err
	}
	idle := counts.take()
	writing, err := countWriting(ctx, o, c, counts)
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		if _, err := takeSnapshot(ctx, n); err != nil {
			return err
		}
	}
	printRequests(o, start, idle, writing, counts.take())
	return nil
}

// countWriting counts while keys are written.
func countWriting(ctx context.Context, o settings, c *cluster, counts *tallies) (map[kind]int, error) {
	db, err := client.Open(ctx, []string{c.manager.address()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // it only wrote what nobody reads
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	const writers = 10
	var work sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		work.Go(func() { errs[i] = writeSteadily(ctx, db, i, time.Second*writers/writesEach) })
	}
	err = pause(ctx, 10*time.Second+o.span/20) // the first pieces of log
	counts.take()
	err = errors.Join(err, pause(ctx, o.span))
	writing := counts.take()
	stop()
	work.Wait()
	return writing, errors.Join(err, errors.Join(errs...))
}

func writeSteadily(ctx context.Context, db *client.Client, writer int, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	value := halfRandom(packed, uint64(writer))
	for i := writer; ; i += 10 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := db.Put(ctx, keyOf(i%100_000), value(i)); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}

// printRequests prints what was counted, scaled to an hour.
func printRequests(o settings, start, idle, writing, snapshots map[kind]int) {
	fmt.Printf("a manager and 3 nodes on one MinIO, defaults; counted for %s each and scaled to an hour\n\n", o.span)
	fmt.Printf("| from | what | request | idle, an hour | %d writes/s, an hour | one snapshot of each node |\n|---|---|---|--:|--:|--:|\n", writesEach)
	kinds := map[kind]bool{}
	for _, m := range []map[kind]int{idle, writing, snapshots} {
		for k := range m {
			kinds[k] = true
		}
	}
	hour := float64(time.Hour) / float64(o.span)
	var sums [3]float64
	for _, k := range slices.SortedFunc(maps.Keys(kinds), kind.compare) {
		row := [3]float64{float64(idle[k]) * hour, float64(writing[k]) * hour, float64(snapshots[k])}
		for i, n := range row {
			sums[i] += n
		}
		fmt.Printf("| %s | %s | %s | %.0f | %.0f | %.0f |\n", k.from, k.what, k.method, row[0], row[1], row[2])
	}
	fmt.Printf("| all | | | %.0f | %.0f | %.0f |\n", sums[0], sums[1], sums[2])
	total := 0
	for _, n := range start {
		total += n
	}
	fmt.Printf("\nstarting took %d requests\n", total)
}

// kind is one sort of request.
type kind struct{ from, what, method string }

func (k kind) compare(other kind) int {
	return strings.Compare(k.from+k.what+k.method, other.from+other.what+other.method)
}
