package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// archive is what the snapshot commands have in common: they read a bucket, not a
// cluster.
type archive struct {
	bucket string
	json   bool
}

func newSnapshot() *cobra.Command {
	o := &archive{}
	c := onlyCommands(&cobra.Command{
		Use:   "snapshot",
		Short: "Look into a bucket, check it, and restore from it",
		Long: `These commands read the bucket of a cluster; but for create and restore they need
no cluster. The bucket is a URL as in QUOIT_BUCKET: file:///var/lib/quoit/bucket, or
s3://bucket/prefix?endpoint=http://host:9000 with the keys in the environment.`,
	})
	o.addFlags(c)
	c.AddCommand(newSnapshotList(o), newSnapshotShow(o), newSnapshotVerify(o), newSnapshotCat(o), newSnapshotRestore(o),
		newSnapshotPrune(o), newSnapshotCreate(o))
	return c
}

func (o *archive) addFlags(c *cobra.Command) {
	c.PersistentFlags().StringVarP(&o.bucket, "bucket", "b", os.Getenv("QUOIT_BUCKET"), "the bucket's URL; default from QUOIT_BUCKET")
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	_ = c.RegisterFlagCompletionFunc("bucket", cobra.NoFileCompletions) // the flag is there: see above
}

// open opens the bucket. A folder has to be there: a slip of the pen must not become a
// new, empty bucket.
func (o *archive) open(ctx context.Context) (bucket.Bucket, error) {
	if path, isFolder := folderOf(o.bucket); isFolder {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return nil, fmt.Errorf("there is no folder %s: want the bucket of a cluster (quoit bucket create makes a new one)", path)
		}
	}
	return o.openAny(ctx)
}

// openAny is open for whoever may make a folder.
func (o *archive) openAny(ctx context.Context) (bucket.Bucket, error) {
	if o.bucket == "" {
		return nil, usageError("say which bucket, with --bucket or QUOIT_BUCKET: a URL such as file:///var/lib/quoit/bucket or s3://bucket/prefix")
	}
	b, err := bucket.Open(ctx, o.bucket)
	if err != nil {
		return nil, usageError("--bucket (or QUOIT_BUCKET): %v", err)
	}
	return b, nil
}

func (o *archive) with(ctx context.Context, do func(bucket.Bucket) error) error {
	b, err := o.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(b), b.Close())
}

// nodes opens the snapshots of the nodes asked for; of all that are in the bucket when
// none is.
func nodesIn(ctx context.Context, b bucket.Bucket, wanted []string) ([]nodeSnapshots, error) {
	if len(wanted) == 0 {
		for address, err := range snapshot.Nodes(ctx, b) {
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, address)
		}
	}
	var all []nodeSnapshots
	for _, address := range wanted {
		s, err := snapshot.NewStore(b, address, snapshot.StoreOptions{})
		if err != nil {
			return nil, usageError("%q is no node: %v", address, err)
		}
		h, err := s.Head(ctx)
		if errors.Is(err, snapshot.ErrNoSnapshot) {
			return nil, fmt.Errorf("node %s has nothing in this bucket; quoit snapshot list shows which nodes have", address)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, nodeSnapshots{address, s, h})
	}
	return all, nil
}

// nodeSnapshots are those of one node.
type nodeSnapshots struct {
	address string
	store   *snapshot.Store
	head    snapshot.Head
}

// splitSnapshot reads NODE or NODE/SEQ; sequence 0 is the newest.
func splitSnapshot(text string) (node string, sequence uint64, err error) {
	node, number, some := strings.Cut(text, "/")
	if some {
		if sequence, err = strconv.ParseUint(number, 10, 64); err != nil || sequence == 0 {
			return "", 0, usageError("%q: want NODE or NODE/NUMBER, such as 10.0.0.1:7401/12", text)
		}
	}
	if err := ring.ValidateAddress(node); err != nil {
		return "", 0, usageError("%q: %v", text, err)
	}
	return node, sequence, nil
}

// completeSnapshots suggests the nodes of the bucket.
func (o *archive) completeSnapshots(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(contextOf(c), completionTime)
	defer cancel()
	var found []string
	_ = o.with(ctx, func(b bucket.Bucket) error {
		for address, err := range snapshot.Nodes(ctx, b) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(address, begun) && !slices.Contains(args, address) {
				found = append(found, address)
			}
		}
		return nil
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

func newSnapshotList(o *archive) *cobra.Command {
	return &cobra.Command{
		Use: "list [NODE...]", Short: "List the snapshots that the bucket keeps, and how far the log reaches", Args: arguments(0, -1),
		Example: "  quoit snapshot list --bucket file:///var/lib/quoit/bucket",
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c.Context(), func(b bucket.Bucket) error {
				all, err := nodesIn(c.Context(), b, args)
				if err != nil {
					return err
				}
				return o.printList(c, all)
			})
		},
		ValidArgsFunction: o.completeSnapshots,
	}
}

// listed is a node as list prints it for programs.
type listed struct {
	Node        string          `json:"node"`
	Cluster     string          `json:"cluster"`
	Incarnation uint64          `json:"incarnation"`
	Snapshots   []snapshot.Kept `json:"snapshots"`
	LogPieces   int             `json:"log_pieces"`
	LogBytes    int64           `json:"log_bytes"`
	LogUntil    int64           `json:"log_until_ms,omitempty"`
	Complete    int64           `json:"complete_until_ms,omitempty"` // whatever was written up to here is in the bucket
}

func (o *archive) printList(c *cobra.Command, all []nodeSnapshots) error {
	rows := make([]listed, 0, len(all))
	for _, n := range all {
		l := listed{Node: n.address, Cluster: n.head.Cluster, Incarnation: n.head.Incarnation, Snapshots: n.head.Snapshots, LogPieces: len(n.head.Log), Complete: n.head.Complete.At}
		for _, p := range n.head.Log {
			l.LogBytes += p.Size
			l.LogUntil = max(l.LogUntil, p.LastMS)
		}
		rows = append(rows, l)
	}
	if o.json {
		return printJSON(c.OutOrStdout(), rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "no node has a snapshot or log in this bucket")
		return err
	}
	t := newTable("NODE", ">SNAPSHOT", "AS OF", ">KEYS", ">SIZE", "VERIFIED", "LOG BEHIND IT", "COMPLETE UNTIL")
	for _, l := range rows {
		for i, k := range l.Snapshots {
			tail, complete := "", ""
			if i == len(l.Snapshots)-1 {
				tail, complete = l.tail(), moment(l.Complete)
			}
			t.add(l.Node, fmt.Sprint(k.Sequence), moment(hlcMillis(k.HLC)), count(int64(k.Entries)), size(k.Size), verified(k), tail, complete)
		}
		if len(l.Snapshots) == 0 {
			t.add(l.Node, "-", "", "", "", "", l.tail(), moment(l.Complete))
		}
	}
	t.write(c.OutOrStdout(), "")
	return nil
}

func (l listed) tail() string {
	if l.LogPieces == 0 {
		return "none"
	}
	return fmt.Sprintf("to %s, %s", moment(l.LogUntil), size(l.LogBytes))
}

func verified(k snapshot.Kept) string {
	if !k.Verified {
		return "-"
	}
	return moment(k.VerifiedAt)
}

// moment writes Unix milliseconds for people, as --at reads them.
func moment(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// hlcMillis returns the time of a version.
func hlcMillis(hlc uint64) int64 { return int64(hlc >> 16) }

func newSnapshotShow(o *archive) *cobra.Command {
	return &cobra.Command{
		Use: "show NODE[/NUMBER]", Short: "Show what one snapshot consists of; without a number the newest", Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			node, sequence, err := splitSnapshot(args[0])
			if err != nil {
				return err
			}
			return o.with(c.Context(), func(b bucket.Bucket) error {
				m, err := manifestOf(c.Context(), b, node, sequence)
				if err != nil {
					return err
				}
				return o.printManifest(c, m)
			})
		},
		ValidArgsFunction: o.completeSnapshots,
	}
}

func manifestOf(ctx context.Context, b bucket.Bucket, node string, sequence uint64) (snapshot.Manifest, error) {
	all, err := nodesIn(ctx, b, []string{node})
	if err != nil {
		return snapshot.Manifest{}, err
	}
	if sequence == 0 {
		return all[0].store.Current(ctx)
	}
	return all[0].store.Manifest(ctx, sequence)
}

func (o *archive) printManifest(c *cobra.Command, m snapshot.Manifest) error {
	if o.json {
		return printJSON(c.OutOrStdout(), struct {
			snapshot.Manifest
			Owned []string `json:"owned"`
		}{m, rangeTexts(m.Owned)})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "snapshot %d of node %s, cluster %s\n", m.Sequence, m.Node, m.Cluster)
	t := newTable("", "")
	t.add("as of", moment(hlcMillis(m.HLC)))
	t.add("published by", fmt.Sprintf("incarnation %d, document %d, epoch %d", m.Incarnation, m.Document.Counter, m.Document.Epoch))
	t.add("keys", count(int64(m.Entries())))
	t.add("owned", fmt.Sprintf("%s, %s of the ring", plural(len(m.Owned), "range"), percent(ownedShare(m.Owned))))
	t.add("parts", fmt.Sprintf("%s, %s", plural(len(m.Parts), "file"), size(m.Size())))
	t.add("log", plural(len(m.Log), "piece"))
	t.write(w, "  ")
	parts := newTable("PART", ">KEYS", ">SIZE", "POSITIONS")
	for _, p := range m.Parts {
		parts.add(p.Key, count(int64(p.Entries)), size(p.Size), fmt.Sprintf("%d to %d", p.Slice.First, p.Slice.Last))
	}
	parts.write(w, "")
	if len(m.Log) > 0 {
		pieces := newTable("LOG PIECE", ">SIZE", "WRITES FROM", "TO")
		for _, p := range m.Log {
			pieces.add(p.Key, size(p.Size), moment(p.FirstMS), moment(p.LastMS))
		}
		pieces.write(w, "")
	}
	return nil
}

func rangeTexts(all []ring.Range) []string {
	texts := make([]string, len(all))
	for i, r := range all {
		texts[i] = r.String()
	}
	return texts
}

func ownedShare(all []ring.Range) (share float64) {
	for _, r := range all {
		share += float64(r.Size()) / (1 << 32)
	}
	return share
}

// pruneFlags are what pruning can be told.
type pruneFlags struct {
	snapshot.PruneOptions
	*archive
}

func newSnapshotPrune(o *archive) *cobra.Command {
	p := &pruneFlags{archive: o}
	c := &cobra.Command{
		Use: "prune [NODE...]", Short: "Let old snapshots and the log between them go", Args: arguments(0, -1),
		Long: `Keeps the newest snapshots of each node, what restores every moment of --keep-for,
and the newest one that passed verification; the rest leaves the list at once and the
bucket when --grace is over, at a later prune. Nodes prune by themselves; this is for
nodes that are gone, and for those in a hurry.`,
		Example: "  quoit snapshot prune --keep 3 --keep-for 168h --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			if p.Keep < 1 || p.KeepFor < 0 || p.Grace < 0 {
				return usageError("--keep takes 1 or more, --keep-for and --grace no negative duration")
			}
			return o.with(c.Context(), func(b bucket.Bucket) error { return p.run(c, b, args) })
		},
		ValidArgsFunction: o.completeSnapshots,
	}
	c.Flags().IntVar(&p.Keep, "keep", 3, "keep at least so many of the newest")
	c.Flags().DurationVar(&p.KeepFor, "keep-for", 7*24*time.Hour, "keep what restores every moment of this time")
	c.Flags().DurationVar(&p.Grace, "grace", 24*time.Hour, "how long objects stay after their snapshot has left the list, for who is reading them")
	c.Flags().BoolVar(&p.DryRun, "dry-run", false, "only say what would be done")
	return c
}

func (p *pruneFlags) run(c *cobra.Command, b bucket.Bucket, nodes []string) error {
	all, err := nodesIn(c.Context(), b, nodes)
	if err != nil {
		return err
	}
	p.Now = time.Now()
	reports := map[string]snapshot.PruneReport{}
	for _, n := range all {
		if _, err := n.store.Attach(c.Context()); err != nil {
			return fmt.Errorf("node %s: %w", n.address, err)
		}
		r, err := n.store.Prune(c.Context(), p.PruneOptions)
		if err != nil {
			return fmt.Errorf("node %s: %w", n.address, err)
		}
		reports[n.address] = r
		if !p.json {
			p.print(c, n.address, r)
		}
	}
	if p.json {
		return printJSON(c.OutOrStdout(), reports)
	}
	return nil
}

func (p *pruneFlags) print(c *cobra.Command, node string, r snapshot.PruneReport) {
	would := ""
	if p.DryRun {
		would = "would have "
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %s%s kept, %s let go, %s deleted, %s waiting for the grace to end\n", node, would,
		plural(len(r.Kept), "snapshot"), plural(len(r.Condemned), "snapshot"), plural(len(r.Deleted), "object"), plural(r.Waiting, "snapshot"))
	for _, why := range r.Left {
		fmt.Fprintf(c.OutOrStdout(), "  left in the bucket: %s\n", why)
	}
}
