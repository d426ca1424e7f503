package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

func newBucket() *cobra.Command {
	o := &archive{}
	c := onlyCommands(&cobra.Command{
		Use:   "bucket",
		Short: "Create a bucket, and find out whether it can be trusted",
		Long: `A bucket is where a cluster keeps who owns what, and its snapshots. Its URL is what
QUOIT_BUCKET holds: file:///var/lib/quoit/bucket, or
s3://bucket/prefix?endpoint=http://host:9000 with the keys in the environment.`,
	})
	o.addFlags(c)
	c.AddCommand(newBucketCreate(o), newBucketCheck(o))
	return c
}

// at takes the URL from the argument, if there is one.
func (o *archive) at(args []string) {
	if len(args) > 0 {
		o.bucket = args[0]
	}
}

func newBucketCreate(o *archive) *cobra.Command {
	return &cobra.Command{
		Use: "create [URL]", Short: "Create the bucket, or say that it is there", Args: arguments(0, 1),
		Long: `Creates the folder, or the bucket in the object store; the keys need to be allowed to
(s3:CreateBucket). What is there stays as it is: doing it twice is doing it once.
Servers never create a bucket in an object store, so that a name with a typing mistake
does not become a new, empty home.`,
		Example: "  quoit bucket create s3://quoit?endpoint=http://minio:9000",
		RunE: func(c *cobra.Command, args []string) error {
			o.at(args)
			created, err := o.createBucket(c.Context())
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), map[string]any{"bucket": o.bucket, "created": created})
			}
			said := "created"
			if !created {
				said = "is there already:"
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), said, o.bucket)
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

func (o *archive) createBucket(ctx context.Context) (created bool, err error) {
	path, isFolder := folderOf(o.bucket)
	if isFolder {
		created = blank(path)
	}
	b, err := o.openAny(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if store, remote := b.(*bucket.S3); remote {
		return store.CreateBucket(ctx)
	}
	return created, nil
}

// folderOf returns the path of a bucket that is a folder.
func folderOf(location string) (path string, isFolder bool) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return u.Path, true
}

// blank says that there is nothing at a path, or an empty folder.
func blank(path string) bool {
	entries, err := os.ReadDir(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

func newBucketCheck(o *archive) *cobra.Command {
	return &cobra.Command{
		Use: "check [URL]", Short: "Try whether the bucket decides races as a cluster needs it", Args: arguments(0, 1),
		Long: `Does what the manager does at its start: writers race to create an object and to swap
it, and swaps with a condition that does not hold are tried. Exactly one of the racers
must win, and the others must change nothing. It writes below probe/, and removes it.
Exit code 1: the bucket cannot be reached, or must not be used.`,
		Example: "  quoit bucket check s3://quoit?endpoint=http://minio:9000",
		RunE: func(c *cobra.Command, args []string) error {
			o.at(args)
			return o.with(c.Context(), func(b bucket.Bucket) error { return o.checkBucket(c, b) })
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

func (o *archive) checkBucket(c *cobra.Command, b bucket.Bucket) error {
	if err := bucket.Probe(c.Context(), b); err != nil {
		return err
	}
	d, _, err := cluster.NewStore(b, cluster.StoreOptions{}).Load(c.Context())
	if err != nil && !errors.Is(err, cluster.ErrNoDocument) {
		return fmt.Errorf("races are decided as they should be; but who owns what cannot be read: %w", err)
	}
	if o.json {
		return printJSON(c.OutOrStdout(), map[string]any{"bucket": o.bucket, "ok": true, "cluster": d.Cluster, "nodes": len(d.Nodes)})
	}
	home := "no cluster lives there yet"
	if err == nil {
		home = fmt.Sprintf("it is the home of cluster %s, %s", d.Cluster, plural(len(d.Nodes), "node"))
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "ok: of racing writers one won each time, and stale conditions were refused; %s\n", home)
	return err
}
