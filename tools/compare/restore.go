package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/internal/restore"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// restorePoll is QUOIT_NODE_POLL of nodes whose disk is lost: they wait that long
// before they take their place, whatever they hold.
const restorePoll = 100 * time.Millisecond

// readersTried is how many read at once.
var readersTried = []int{1, 2, 4}

// workersTried are those of quoit snapshot restore, its default among them.
var workersTried = []int{1, 2, 4, 8}

// restoreTable prints what was measured, beside the first line, which is Redis.
type restoreTable struct {
	o     settings
	redis float64
}

func (t *restoreTable) add(what string, took []time.Duration, bytes int64) {
	slices.Sort(took)
	seconds := took[len(took)/2].Seconds()
	speed := float64(t.o.keys) / seconds
	if t.redis == 0 {
		t.redis = speed
	}
	link := ""
	if bytes > 0 {
		link = fmt.Sprintf("%.0f", float64(bytes)/seconds/1e6)
	}
	fmt.Printf("| %s | %.2f | %.0f | %.2f | %s |\n", what, seconds, speed, speed/t.redis, link)
}

// restores measures the ways back: a node from its own folder, a node whose disk is
// lost, and another cluster; from a folder and from a MinIO.
func restores(ctx context.Context, o settings) error {
	fmt.Printf("%d keys of 16 B, values of 50 random and 50 equal bytes; median of %d\n\n", o.keys, o.rounds)
	fmt.Println("| | seconds | keys/s | ÷ Redis | stored MB/s |\n|---|--:|--:|--:|--:|")
	t := &restoreTable{o: o}
	if err := redisLoads(ctx, o, t); err != nil {
		return err
	}
	if err := restoresFrom(ctx, o, t, "a folder", ""); err != nil {
		return err
	}
	minio, err := newMinIO(filepath.Join(o.dir, "minio"))
	if err != nil {
		return err
	}
	defer minio.stop()
	if err := minio.start(ctx); err != nil {
		return err
	}
	return restoresFrom(ctx, o, t, "MinIO", minio.address())
}

// redisLoads measures how long Redis takes to start with its file.
func redisLoads(ctx context.Context, o settings, t *restoreTable) error {
	s, err := newRedis(filepath.Join(o.dir, "redis"), "--appendonly", "no")
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := fill(ctx, s, all(o.keys), halfRandom(packed, 0)); err != nil {
		return err
	}
	size, err := bgsave(ctx, s)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range o.rounds {
		s.kill()
		one, err := started(ctx, o, s)
		if err != nil {
			return err
		}
		took = append(took, one)
	}
	t.add("redis-server starts with its RDB file", took, size)
	return nil
}

// started measures a start, until all keys are there.
func started(ctx context.Context, o settings, s *server) (time.Duration, error) {
	began := time.Now()
	if err := s.start(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if n, err := s.dbsize(); err != nil || n != o.keys {
		return 0, fmt.Errorf("%s has %d of %d keys after its start: %w", s.name, n, o.keys, err)
	}
	return took, nil
}

// restoresFrom measures all ways back from one bucket: a folder, or the MinIO at an
// address.
func restoresFrom(ctx context.Context, o settings, t *restoreTable, where, minio string) error {
	name := strings.ToLower(strings.ReplaceAll(where, " ", "-"))
	options := clusterOptions{nodes: 1, env: []string{"QUOIT_FSYNC=interval", "QUOIT_SNAPSHOT_INTERVAL=0s", "QUOIT_SNAPSHOT_LOG_BYTES=0", "QUOIT_NODE_POLL=" + restorePoll.String()}}
	if minio != "" {
		options.bucket = s3(minio, name)
	}
	c, err := newCluster(o, name, options)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(ctx); err != nil {
		return err
	}
	node := c.nodes[0]
	if err := fill(ctx, node, all(o.keys), halfRandom(packed, 0)); err != nil {
		return err
	}
	stored, err := takeSnapshot(ctx, node)
	if err != nil {
		return err
	}
	if err := nodeStarts(ctx, o, t, c, where, stored); err != nil {
		return err
	}
	c.stop()
	if err := reads(ctx, o, t, where, c.bucket, stored); err != nil {
		return err
	}
	return restoresInto(ctx, o, t, where, c.bucket)
}

// nodeStarts measures the starts of a node that has its folder, and of one that has
// lost it.
func nodeStarts(ctx context.Context, o settings, t *restoreTable, c *cluster, where string, stored int64) error {
	node := c.nodes[0]
	var own, lost []time.Duration
	for range o.rounds {
		node.stop()
		one, err := started(ctx, o, node)
		if err != nil {
			return err
		}
		own = append(own, one)
		if err := c.loseDisk(node); err != nil {
			return err
		}
		if one, err = started(ctx, o, node); err != nil {
			return err
		}
		lost = append(lost, one)
		// So that there is a snapshot in the folder again.
		if err := fill(ctx, node, []int{0}, halfRandom(packed, 0)); err != nil {
			return err
		}
		if _, err := takeSnapshot(ctx, node); err != nil {
			return err
		}
	}
	if strings.Contains(where, "folder") {
		t.add("a node starts with its own folder", own, stored)
	}
	t.add("a node whose disk is lost starts from "+where, lost, stored)
	return nil
}

// reads measures how fast the bucket gives its bytes, and how fast they become keys.
func reads(ctx context.Context, o settings, t *restoreTable, where, url string, stored int64) (err error) {
	b, err := openBucket(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, readers := range readersTried {
		var took, scanned []time.Duration
		for range o.rounds {
			began := time.Now()
			if err := download(ctx, b, readers); err != nil {
				return err
			}
			took = append(took, time.Since(began))
			began = time.Now()
			if err := scanAll(ctx, o, b, readers); err != nil {
				return err
			}
			scanned = append(scanned, time.Since(began))
		}
		t.add(fmt.Sprintf("bytes read from %s and dropped, %d at once", where, readers), took, stored)
		t.add(fmt.Sprintf("keys read from %s and dropped, %d readers", where, readers), scanned, stored)
	}
	return nil
}

// openBucket opens a bucket with the keys of MinIO.
func openBucket(ctx context.Context, url string) (bucket.Bucket, error) {
	for _, setting := range minioKeys() {
		name, value, _ := strings.Cut(setting, "=")
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	return bucket.Open(ctx, url)
}

// pieceSize is what is asked for at once, as a reader of snapshots does.
const pieceSize = 8 << 20

// download reads all parts of the newest snapshot without looking at them.
func download(ctx context.Context, b bucket.Bucket, readers int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for address, err := range snapshot.Nodes(ctx, b) {
		if err != nil {
			return err
		}
		s, err := snapshot.NewStore(b, address, snapshot.StoreOptions{})
		if err != nil {
			return err
		}
		m, err := s.Current(ctx)
		if err != nil {
			return err
		}
		for _, p := range m.Parts {
			for at := int64(0); at < p.Size; at += pieceSize {
				g.Go(func() error {
					_, err := b.GetRange(ctx, p.Key, at, min(pieceSize, p.Size-at))
					return err
				})
			}
		}
	}
	return g.Wait()
}

// scanAll reads every key.
func scanAll(ctx context.Context, o settings, b bucket.Bucket, readers int) error {
	m, err := restore.Open(ctx, b, restore.Options{})
	if err != nil {
		return err
	}
	counts := make([]int64, readers)
	err = m.Scan(ctx, readers, func(worker int, _ snapshot.Entry) error {
		counts[worker]++
		return nil
	})
	n := int64(0)
	for _, c := range counts {
		n += c
	}
	if err == nil && n != int64(o.keys) {
		err = fmt.Errorf("the bucket has %d of %d keys", n, o.keys)
	}
	return err
}

// restoresInto measures quoit snapshot restore into a new cluster of one node.
func restoresInto(ctx context.Context, o settings, t *restoreTable, where, url string) error {
	for _, readers := range workersTried {
		name := fmt.Sprintf("into-%d", readers)
		var took []time.Duration
		for range o.rounds {
			one, err := restoreOnce(ctx, o, name+strconv.Itoa(len(took))+strings.ReplaceAll(where, " ", "-"), url, readers)
			if err != nil {
				return err
			}
			took = append(took, one)
		}
		t.add(fmt.Sprintf("`quoit snapshot restore --workers %d` from %s into a new node", readers, where), took, 0)
	}
	return nil
}

func restoreOnce(ctx context.Context, o settings, name, url string, readers int) (time.Duration, error) {
	c, err := newCluster(o, name, clusterOptions{nodes: 1, env: []string{"QUOIT_FSYNC=never", "QUOIT_SNAPSHOT_INTERVAL=0s", "QUOIT_SNAPSHOT_LOG_BYTES=0"}})
	if err != nil {
		return 0, err
	}
	defer c.discard()
	if err := c.start(ctx); err != nil {
		return 0, err
	}
	out, err := o.run(ctx, "snapshot", "restore", "--bucket", url, "--servers", c.nodes[0].address(), "--workers", strconv.Itoa(readers), "--json")
	if err != nil {
		return 0, err
	}
	var said struct {
		Keys    int     `json:"keys"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return 0, err
	}
	if said.Keys != o.keys {
		return 0, fmt.Errorf("%d of %d keys were restored", said.Keys, o.keys)
	}
	return time.Duration(said.Seconds * float64(time.Second)), nil
}
