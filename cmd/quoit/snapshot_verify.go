package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/restore"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// The levels of a verification, each including those before.
const (
	levelManifest = "manifest"
	levelBlocks   = "blocks"
	levelRestore  = "restore"
)

// verifyFlags are what a verification can be told.
type verifyFlags struct {
	*archive
	level   string
	mark    bool
	workers int
}

func newSnapshotVerify(o *archive) *cobra.Command {
	v := &verifyFlags{archive: o}
	c := &cobra.Command{
		Use: "verify [NODE[/NUMBER]...]", Short: "Check snapshots: without names, the newest of each node", Args: arguments(0, -1),
		Long: `  --level manifest  every object is there, with its size, header, index and footer
  --level blocks    every byte of every object is right: reads all of it
  --level restore   and all nodes together give a state: reads it as a restore would,
                    and tells what is not exact

Damage is told with the object and the positions concerned; exit code 1 then. --mark
notes in the bucket that the snapshots passed: pruning spares the newest one that did.`,
		Example: "  quoit snapshot verify --level restore --mark",
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case v.level != levelManifest && v.level != levelBlocks && v.level != levelRestore:
				return usageError("--level takes manifest, blocks or restore, not %q", v.level)
			case v.mark && v.level == levelManifest:
				return usageError("--mark wants every byte read: --level blocks or restore")
			case v.workers < 1 || v.workers > 256:
				return usageError("--workers takes 1 to 256, not %d", v.workers)
			}
			return o.with(c.Context(), func(b bucket.Bucket) error { return v.run(c, b, args) })
		},
		ValidArgsFunction: o.completeSnapshots,
	}
	c.Flags().StringVar(&v.level, "level", levelBlocks, "how deep: manifest, blocks or restore")
	c.Flags().BoolVar(&v.mark, "mark", false, "note in the bucket which snapshots passed")
	c.Flags().IntVar(&v.workers, "workers", 4, "objects read at once")
	_ = c.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{levelManifest, levelBlocks, levelRestore}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return c
}

// checked is one snapshot's result.
type checked struct {
	Node     string   `json:"node"`
	Sequence uint64   `json:"snapshot"`
	Parts    int      `json:"parts"`
	Pieces   int      `json:"log_pieces"`
	Keys     uint64   `json:"keys"`
	Bytes    int64    `json:"bytes"`
	Damage   []string `json:"damage,omitempty"`
	Marked   bool     `json:"marked,omitempty"`
}

// verification is the result of all.
type verification struct {
	Level     string    `json:"level"`
	Snapshots []checked `json:"snapshots"`
	// Of level restore:
	Keys    int64         `json:"restorable_keys,omitempty"`
	Gaps    []restore.Gap `json:"gaps,omitempty"`
	Failure string        `json:"failure,omitempty"`
}

func (v *verifyFlags) run(c *cobra.Command, b bucket.Bucket, names []string) error {
	targets, err := v.targets(c.Context(), b, names)
	if err != nil {
		return err
	}
	if len(targets) == 0 && v.level != levelRestore {
		return fmt.Errorf("no node has a snapshot in %s", v.bucket)
	}
	result, bad := verification{Level: v.level}, 0
	for _, t := range targets {
		r, err := v.check(c, t)
		if err != nil {
			return fmt.Errorf("node %s: %w", t.address, err)
		}
		if len(r.Damage) > 0 {
			bad++
		}
		result.Snapshots = append(result.Snapshots, r)
	}
	exact := true
	if v.level == levelRestore {
		if exact, err = v.restorable(c, b, &result); err != nil {
			return err
		}
	}
	if v.mark && exact {
		if err := v.markAll(c.Context(), targets, &result); err != nil {
			return err
		}
	}
	if err := v.print(c, result); err != nil {
		return err
	}
	if bad > 0 || !exact {
		return fmt.Errorf("%s of %d damaged, or not restorable exactly; see above", plural(bad, "snapshot"), len(targets))
	}
	return nil
}

// target is a snapshot to be checked.
type target struct {
	nodeSnapshots
	kept snapshot.Kept
}

func (v *verifyFlags) targets(ctx context.Context, b bucket.Bucket, names []string) ([]target, error) {
	var all []target
	if len(names) == 0 {
		nodes, err := nodesIn(ctx, b, nil)
		for _, n := range nodes {
			if k, ok := n.head.Current(); ok {
				all = append(all, target{n, k})
			}
		}
		return all, err
	}
	for _, name := range names {
		address, sequence, err := splitSnapshot(name)
		if err != nil {
			return nil, err
		}
		nodes, err := nodesIn(ctx, b, []string{address})
		if err != nil {
			return nil, err
		}
		k, ok := keptOf(nodes[0].head, sequence)
		if !ok {
			return nil, fmt.Errorf("%w: %s", snapshot.ErrNoSnapshot, name)
		}
		all = append(all, target{nodes[0], k})
	}
	return all, nil
}

func keptOf(h snapshot.Head, sequence uint64) (snapshot.Kept, bool) {
	if sequence == 0 {
		return h.Current()
	}
	for _, k := range h.Snapshots {
		if k.Sequence == sequence {
			return k, true
		}
	}
	return snapshot.Kept{}, false
}

// check verifies one snapshot. A manifest that cannot be used is damage, too.
func (v *verifyFlags) check(c *cobra.Command, t target) (checked, error) {
	r := checked{Node: t.address, Sequence: t.kept.Sequence}
	m, err := t.store.Manifest(c.Context(), t.kept.Sequence)
	if err != nil {
		if bucket.IsRetryable(err) || c.Context().Err() != nil {
			return r, err
		}
		r.Damage = []string{err.Error()}
		return r, nil
	}
	level := snapshot.LevelBlocks
	if v.level == levelManifest {
		level = snapshot.LevelManifest
	}
	bar := newBar(c, m.Size(), fmt.Sprintf("%s/%d", t.address, t.kept.Sequence))
	var read atomic.Int64
	report, err := t.store.Verify(c.Context(), m, snapshot.VerifyOptions{
		Level: level, Workers: v.workers, Progress: func(n int64) { bar.set(read.Add(n)) },
	})
	bar.finish()
	r.Parts, r.Pieces, r.Keys, r.Bytes = report.Parts, report.Pieces, report.Entries, report.Bytes
	for _, d := range report.Damage {
		r.Damage = append(r.Damage, d.Error())
	}
	return r, err
}

// restorable reads the newest state as a restore would.
func (v *verifyFlags) restorable(c *cobra.Command, b bucket.Bucket, result *verification) (exact bool, err error) {
	m, err := v.openMoment(c, b, 0)
	if err != nil {
		return false, err
	}
	result.Gaps = m.Gaps()
	bar := newPhases(c, m.About())
	var keys atomic.Int64
	err = m.Scan(c.Context(), v.workers, func(int, snapshot.Entry) error {
		keys.Add(1)
		bar.report("reading", 1)
		return nil
	})
	bar.finish()
	result.Keys = keys.Load()
	if err != nil && c.Context().Err() != nil {
		return false, err
	}
	if err != nil {
		result.Failure = err.Error()
	}
	return err == nil && m.Exact(), nil
}

func (v *verifyFlags) markAll(ctx context.Context, targets []target, result *verification) error {
	for i, t := range targets {
		if len(result.Snapshots[i].Damage) > 0 {
			continue
		}
		if err := t.store.MarkVerified(ctx, t.kept.Sequence, time.Now().UnixMilli()); err != nil {
			return fmt.Errorf("node %s: %w", t.address, err)
		}
		result.Snapshots[i].Marked = true
	}
	return nil
}

func (v *verifyFlags) print(c *cobra.Command, r verification) error {
	if v.json {
		return printJSON(c.OutOrStdout(), r)
	}
	p, w := paintFor(c.OutOrStdout()), c.OutOrStdout()
	for _, s := range r.Snapshots {
		state := p.green("good")
		if len(s.Damage) > 0 {
			state = p.red("damaged")
		}
		if s.Marked {
			state += ", marked"
		}
		fmt.Fprintf(w, "%s/%d: %s (%s, %s, %s of log, %s)\n", s.Node, s.Sequence, state,
			plural(int(s.Keys), "key"), plural(s.Parts, "part"), plural(s.Pieces, "piece"), size(s.Bytes))
		for _, d := range s.Damage {
			fmt.Fprintf(w, "  %s\n", d)
		}
	}
	if r.Level != levelRestore {
		return nil
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "  %s\n", g)
	}
	if r.Failure != "" {
		fmt.Fprintf(w, "cannot be restored: %s\n", r.Failure)
		return nil
	}
	fmt.Fprintf(w, "together they restore %s\n", plural(int(r.Keys), "key"))
	return nil
}
