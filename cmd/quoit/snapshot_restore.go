package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/restore"
	"github.com/quoitdb/quoit/internal/transfer"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// momentFlag is a moment: --at.
type momentFlag struct{ text string }

func (m *momentFlag) addTo(c *cobra.Command) {
	c.Flags().StringVar(&m.text, "at", "",
		`as of this moment: 2026-01-31T12:00:00Z, "2026-01-31 12:00:00" (local time), 10m (ago), or Unix milliseconds; default: the newest there is`)
	_ = c.RegisterFlagCompletionFunc("at", cobra.NoFileCompletions) // the flag is there: see above
}

// millis returns the moment in Unix milliseconds, 0 for the newest.
func (m *momentFlag) millis(now time.Time) (int64, error) {
	if m.text == "" {
		return 0, nil
	}
	at, err := parseMoment(m.text, now)
	if err != nil {
		return 0, err
	}
	if at > now.UnixMilli() {
		return 0, usageError("--at %s is in the future", m.text)
	}
	return at, nil
}

func parseMoment(text string, now time.Time) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return n, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UnixMilli(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.UnixMilli() > 0 {
		return t.UnixMilli(), nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil && t.UnixMilli() > 0 {
			return t.UnixMilli(), nil
		}
	}
	return 0, usageError(`--at takes a moment such as 2026-01-31T12:00:00Z, "2026-01-31 12:00:00", 10m (ago) or Unix milliseconds, not %q`, text)
}

// openMoment reads what the bucket says of a moment.
func (o *archive) openMoment(c *cobra.Command, b bucket.Bucket, at int64) (*restore.Moment, error) {
	m, err := restore.Open(c.Context(), b, restore.Options{At: at})
	if errors.Is(err, restore.ErrEmpty) {
		return nil, fmt.Errorf("%w: is %s the bucket of a cluster that takes snapshots?", err, o.bucket)
	}
	return m, err
}

// tellGaps prints what is not exact to standard error.
func tellGaps(w io.Writer, gaps []restore.Gap) {
	for _, g := range gaps {
		what := "not exact"
		if g.Harmless() {
			what = "note"
		}
		fmt.Fprintf(w, "quoit: %s: %s\n", what, g)
	}
}

// errInexact is the error of a command whose result may lack something.
var errInexact = errors.New("the bucket does not have everything exactly; see above")

func newSnapshotCat(o *archive) *cobra.Command {
	var at momentFlag
	var acceptGaps bool
	c := &cobra.Command{
		Use: "cat KEY", Short: "Print what a key held, as of now or of a moment", Args: arguments(1, 1),
		Long: `Prints the value as quoit get does. Exit code 3 when the key was not there. What the
bucket does not have exactly for the key's position is told on standard error, with exit
code 1 unless --accept-gaps.`,
		Example: "  quoit snapshot cat user:1 --at 10m",
		RunE: func(c *cobra.Command, args []string) error {
			ms, err := at.millis(time.Now())
			if err != nil {
				return err
			}
			return o.with(c.Context(), func(b bucket.Bucket) error { return o.cat(c, b, args[0], ms, acceptGaps) })
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	at.addTo(c)
	c.Flags().BoolVar(&acceptGaps, "accept-gaps", false, "exit code 0 although something may be missing")
	return c
}

func (o *archive) cat(c *cobra.Command, b bucket.Bucket, key string, at int64, acceptGaps bool) error {
	m, err := o.openMoment(c, b, at)
	if err != nil {
		return err
	}
	gaps, exact := m.GapsAt(ring.PositionOfString(key))
	tellGaps(c.ErrOrStderr(), gaps)
	e, err := m.Key(c.Context(), []byte(key))
	switch {
	case errors.Is(err, restore.ErrNoKey) && (exact || acceptGaps):
		return &exitError{code: exitNotFound, err: fmt.Errorf("there is no key %q at that moment", key)}
	case errors.Is(err, restore.ErrNoKey):
		return fmt.Errorf("no key %q was found, and %w", key, errInexact)
	case err != nil:
		return err
	}
	if err := o.printKey(c, e); err != nil {
		return err
	}
	if !exact && !acceptGaps {
		return errInexact
	}
	return nil
}

func (o *archive) printKey(c *cobra.Command, e snapshot.Entry) error {
	if o.json {
		return printJSON(c.OutOrStdout(), map[string]any{
			"key": string(e.Key), "value": string(e.Value), "base64": e.Value, "text": utf8.Valid(e.Value),
			"version": strconv.FormatUint(e.Version, 10), "written_ms": hlcMillis(e.Version), "expires_ms": e.ExpireAt,
		})
	}
	return printValue(c.OutOrStdout(), e.Value)
}

// restoreFlags are what a restore can be told.
type restoreFlags struct {
	*archive
	connection
	at         momentFlag
	fill       restore.FillOptions
	acceptGaps bool
	file       string
}

func newSnapshotRestore(o *archive) *cobra.Command {
	r := &restoreFlags{archive: o}
	c := &cobra.Command{
		Use: "restore", Short: "Write what a bucket holds into a new cluster of any size, or into a file", Args: arguments(0, 0),
		Long: `Reads the snapshots and the log of all nodes from the bucket, merges them into the newest
state or that of a moment, and writes it into a running, empty cluster with any number
of nodes, which keeps its own identity. Times to live end when they would have ended.
At the end each node has to count as many keys as it was given.

Broken off, it goes on when it is run again; the key quoit:restore:progress in the new
cluster says how far it is, until it is through.

What the bucket does not have exactly is told first, and nothing is written unless
--accept-gaps says that this is good enough.`,
		Example: `  quoit snapshot restore --bucket file:///old/bucket --servers 127.0.0.1:7400
  quoit snapshot restore --bucket s3://backups/quoit --at "2026-01-31 12:00:00" --check
  quoit snapshot restore --bucket file:///old/bucket --at 10m --to-file before.jsonl`,
		RunE: func(c *cobra.Command, _ []string) error {
			if r.fill.Workers < 1 || r.fill.Workers > 256 {
				return usageError("--workers takes 1 to 256, not %d", r.fill.Workers)
			}
			ms, err := r.at.millis(time.Now())
			if err != nil {
				return err
			}
			return o.with(c.Context(), func(b bucket.Bucket) error { return r.run(c, b, ms) })
		},
	}
	r.addServers(c)
	r.at.addTo(c)
	c.Flags().IntVar(&r.fill.Workers, "workers", 8, "pieces of the ring under way at once")
	c.Flags().BoolVar(&r.fill.IntoNonempty, "into-nonempty", false, "also into a cluster that holds keys; they stay, or are overwritten")
	c.Flags().BoolVar(&r.fill.Check, "check", false, "read everything back and compare it with the bucket")
	c.Flags().BoolVar(&r.acceptGaps, "accept-gaps", false, "restore although the bucket does not have everything exactly")
	c.Flags().StringVar(&r.file, "to-file", "", "write JSON lines into this file instead, as quoit import reads them; - is standard output")
	return c
}

// addServers gives a command the flags of a connection, but for those it has.
func (o *connection) addServers(c *cobra.Command) {
	c.Flags().StringVarP(&o.servers, "servers", "s", fromEnvironment("QUOIT_SERVERS", defaultServer),
		"any nodes, or the manager, of the cluster, separated by commas; default from QUOIT_SERVERS")
	o.token.addTo(c.Flags())
	c.Flags().DurationVar(&o.timeout, "timeout", 10*time.Second, "how long one call may take, retries included")
	_ = c.RegisterFlagCompletionFunc("servers", cobra.NoFileCompletions) // the flag is there: see above
}

func (r *restoreFlags) run(c *cobra.Command, b bucket.Bucket, at int64) error {
	began := time.Now()
	m, err := r.openMoment(c, b, at)
	if err != nil {
		return err
	}
	tellGaps(c.ErrOrStderr(), m.Gaps())
	if !m.Exact() && !r.acceptGaps {
		return errors.New("nothing was written: the bucket does not have everything exactly (see above); " +
			"--at an earlier moment may be exact, and --accept-gaps restores what there is")
	}
	if r.file != "" {
		return r.toFile(c, m, began)
	}
	return r.toCluster(c, m, began)
}

func (r *restoreFlags) toCluster(c *cobra.Command, m *restore.Moment, began time.Time) error {
	db, err := r.connection.open(c.Context(), client.WithConnections(2))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	bar := newPhases(c, m.About())
	r.fill.Report = bar.report
	done, err := restore.Fill(c.Context(), m, db, r.fill)
	bar.finish()
	switch {
	case errors.Is(err, restore.ErrNotEmpty):
		return fmt.Errorf("%w: start a new cluster, or say --into-nonempty", err)
	case errors.Is(err, restore.ErrOtherRestore):
		return fmt.Errorf("%w: start again with an empty cluster, and with --at if the old one still runs", err)
	case errors.Is(err, restore.ErrSameCluster), errors.Is(err, restore.ErrIncomplete):
		return err
	case err != nil:
		if c.Context().Err() != nil {
			err = errors.New("interrupted")
		}
		return fmt.Errorf("%w\nthe cluster is not complete: %s were written by this run; running the restore again goes on", err, plural(int(done.Written), "key"))
	}
	return r.print(c, m, done, time.Since(began))
}

func (r *restoreFlags) print(c *cobra.Command, m *restore.Moment, done restore.FillReport, took time.Duration) error {
	if r.archive.json {
		return printJSON(c.OutOrStdout(), struct {
			restore.FillReport
			Cluster string        `json:"restored_cluster"`
			Exact   bool          `json:"exact"`
			Gaps    []restore.Gap `json:"gaps"`
			Seconds float64       `json:"seconds"`
		}{done, m.Cluster(), m.Exact(), m.Gaps(), took.Seconds()})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "restored %s, %s in %s: %s keys/s\n", plural(int(done.Keys), "key"), size(done.Bytes), span(took), count(int64(float64(done.Written)/took.Seconds())))
	if done.Expired > 0 {
		fmt.Fprintf(w, "left out %s whose time has passed since\n", plural(int(done.Expired), "key"))
	}
	if done.Checked > 0 {
		fmt.Fprintf(w, "read back and compared %s\n", plural(int(done.Checked), "key"))
	}
	t := newTable("NODE", ">KEYS")
	for _, node := range slices.Sorted(maps.Keys(done.Nodes)) {
		t.add(node, count(done.Nodes[node]))
	}
	t.write(w, "")
	return nil
}

func (r *restoreFlags) toFile(c *cobra.Command, m *restore.Moment, began time.Time) error {
	x := &fileRestore{now: time.Now().UnixMilli(), bar: newPhases(c, m.About())}
	write := func(w io.Writer) error { return x.write(c.Context(), m, r.fill.Workers, w) }
	var err error
	if r.file == stdinName {
		err = write(c.OutOrStdout())
	} else {
		err = transfer.WriteFile(r.file, write)
	}
	x.bar.finish()
	if err != nil || r.file == stdinName {
		return err
	}
	took := time.Since(began)
	if r.archive.json {
		return printJSON(c.OutOrStdout(), map[string]any{"file": r.file, "keys": x.keys, "bytes": x.bytes, "expired": x.expired, "exact": m.Exact(), "seconds": took.Seconds()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "restored %s, %s in %s to %s\n", plural(int(x.keys), "key"), size(x.bytes), span(took), r.file)
	return err
}

// fileRestore writes a moment as JSON lines.
type fileRestore struct {
	now int64
	bar *phases

	mu                   sync.Mutex
	keys, bytes, expired int64
}

func (x *fileRestore) write(ctx context.Context, m *restore.Moment, workers int, w io.Writer) error {
	out := transfer.NewEncoder(w)
	err := m.Scan(ctx, workers, func(_ int, e snapshot.Entry) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		item := transfer.Item{Key: string(e.Key), Value: e.Value}
		if e.ExpireAt != 0 {
			if item.TTL = time.Duration(e.ExpireAt-x.now) * time.Millisecond; item.TTL <= 0 {
				x.expired++
				return nil
			}
		}
		if item.Key == restore.ProgressKey {
			return nil
		}
		x.keys++
		x.bytes += int64(len(e.Key) + len(e.Value))
		x.bar.report(restore.Writing, 1)
		return out.Add(item)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// phases draws the progress of a restore.
type phases struct {
	bar   progressBar
	phase atomic.Pointer[restore.Phase]
	keys  atomic.Int64
}

func newPhases(c *cobra.Command, about int64) *phases {
	return &phases{bar: newBar(c, max(about, 1), string(restore.Writing))}
}

func (p *phases) report(phase restore.Phase, keys int64) {
	if last := p.phase.Swap(&phase); last != nil && *last != phase {
		p.keys.Store(0)
		p.bar.describe(string(phase))
	}
	p.bar.set(p.keys.Add(keys))
}

func (p *phases) finish() { p.bar.finish() }

func newSnapshotCreate(o *archive) *cobra.Command {
	var s connection
	var patience time.Duration
	c := &cobra.Command{
		Use: "create [ADDRESS...]", Short: "Have every node of the cluster, or these, take a snapshot now", Args: arguments(0, -1),
		Long: `Sends SNAPSHOT to every node and waits until each has published one, or has said why
not. It needs the cluster, not the bucket.`,
		RunE: func(c *cobra.Command, args []string) error {
			if patience <= 0 {
				return usageError("--wait takes more than %s", patience)
			}
			return o.create(c, &s, patience, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.addServers(c)
	c.Flags().DurationVar(&patience, "wait", time.Hour, "how long a node may be silent over its snapshot")
	return c
}

// made is what a node answered to SNAPSHOT.
type made struct {
	Node     string `json:"node"`
	Snapshot int64  `json:"snapshot,omitempty"` // its number
	Answer   string `json:"answer,omitempty"`   // where it is no number
	Error    string `json:"error,omitempty"`
}

// create asks all nodes at once. A node says nothing while it takes its snapshot, which
// must not be taken for a broken connection.
func (o *archive) create(c *cobra.Command, s *connection, patience time.Duration, nodes []string) error {
	db, err := s.open(c.Context(), client.WithHealthInterval(patience))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if len(nodes) == 0 {
		for _, n := range db.Topology().Nodes {
			nodes = append(nodes, n.Address)
		}
	}
	answers := make([]made, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() {
			reply, err := db.DoNode(c.Context(), node, "SNAPSHOT")
			answers[i] = made{Node: node, Snapshot: reply.Int, Answer: string(reply.Bytes)}
			if err != nil {
				answers[i].Error = explain(c.Context(), err)
			}
		})
	}
	all.Wait()
	return o.printMade(c, answers)
}

func (m made) String() string {
	if m.Snapshot > 0 {
		return fmt.Sprintf("%s: snapshot %d", m.Node, m.Snapshot)
	}
	return fmt.Sprintf("%s: %s", m.Node, strings.TrimSpace(m.Answer))
}

func (o *archive) printMade(c *cobra.Command, answers []made) error {
	failed := 0
	for _, a := range answers {
		if a.Error != "" {
			failed++
		}
		if !o.json && a.Error != "" {
			fmt.Fprintf(c.ErrOrStderr(), "quoit: node %s: %s\n", a.Node, a.Error)
		} else if !o.json {
			fmt.Fprintln(c.OutOrStdout(), a)
		}
	}
	if o.json {
		if err := printJSON(c.OutOrStdout(), answers); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s of %d took no snapshot", plural(failed, "node"), len(answers))
	}
	return nil
}
