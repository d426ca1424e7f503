package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/transfer"
)

// stdinName is how a command line says standard input or output.
const stdinName = "-"

// importFlags are what an import can be told.
type importFlags struct {
	connection
	format  string
	prefix  string
	workers int
	skip    bool
}

func newImport() *cobra.Command {
	var o importFlags
	c := &cobra.Command{
		Use:   "import SOURCE",
		Short: "Bring in a folder tree, JSON lines, CSV, or a running Redis",
		Long: `SOURCE is one of
  a folder             path -> content of each file under it; links are left out
  a .jsonl file        {"key":"user:1","value":"Ada","ttl_ms":60000} a line;
                       bytes that are no text as "base64" and "key_base64"
  a .csv file          columns key and value; without a value column the row as JSON
  redis://host:port    every string key, with its time to live;
                       redis://user:password@host:port/database in full
  -                    standard input, in the --format jsonl or csv

Of a key that comes twice the later value stays. The first mistake ends the import
and names its line; an import that broke off is finished by running it again.`,
		Example: "  quoit import ./site --prefix site/\n  quoit import redis://127.0.0.1:6379\n  quoit export | quoit import - --format jsonl -s other:7400",
		Args:    arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.workers < 1 || o.workers > 256 {
				return usageError("--workers takes 1 to 256, not %d", o.workers)
			}
			return o.run(c, args[0])
		},
	}
	o.addTo(c)
	c.Flags().StringVar(&o.format, "format", "", "jsonl or csv, when the name does not tell")
	c.Flags().StringVar(&o.prefix, "prefix", "", "put this before every key")
	c.Flags().IntVar(&o.workers, "workers", 8, "batches under way at once")
	c.Flags().BoolVar(&o.skip, "skip-other-types", false, "redis: leave out keys that are no strings, and count them")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"jsonl", "csv"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return c
}

// imported is what an import did.
type imported struct {
	transfer.Progress
	Skipped int64
}

func (o *importFlags) run(c *cobra.Command, source string) error {
	var done imported
	items, closeSource, err := o.open(c, source, &done.Skipped)
	if err != nil {
		return err
	}
	defer closeSource()
	db, err := o.connection.open(c.Context(), client.WithConnections(2))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	bar := newCounter(c, "importing")
	done.Progress, err = transfer.Import(c.Context(), db, items, transfer.Options{
		Workers: o.workers, Report: func(p transfer.Progress) { bar.set(p.Keys) },
	})
	bar.finish()
	if err != nil {
		if c.Context().Err() != nil {
			err = errors.New("interrupted")
		}
		return fmt.Errorf("%w\nat least %s had been written until then; running the import again finishes it", err, plural(int(done.Keys), "key"))
	}
	return done.print(c, o.json)
}

func (d imported) print(c *cobra.Command, asJSON bool) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{
			"keys": d.Keys, "bytes": d.Bytes, "skipped": d.Skipped, "seconds": d.Elapsed.Seconds(), "keys_per_second": d.KeysPerSecond(),
		})
	}
	text := fmt.Sprintf("imported %s, %s in %s: %s keys/s, %s/s\n",
		plural(int(d.Keys), "key"), size(d.Bytes), span(d.Elapsed), count(int64(d.KeysPerSecond())), size(int64(d.BytesPerSecond())))
	if d.Skipped > 0 {
		text += "left out " + plural(int(d.Skipped), "key") + " that hold no string\n"
	}
	_, err := fmt.Fprint(c.OutOrStdout(), text)
	return err
}

type itemSource = iter.Seq2[transfer.Item, error]

// open turns the source's name into items, and a function that closes it.
func (o *importFlags) open(c *cobra.Command, source string, skipped *int64) (itemSource, func(), error) {
	nothing := func() {}
	if strings.HasPrefix(source, "redis://") || strings.HasPrefix(source, "rediss://") {
		if err := transfer.CheckRedis(source); err != nil {
			return nil, nil, usageError("%v", err)
		}
		var skip func(string, string)
		if o.skip {
			skip = func(string, string) { *skipped++ }
		}
		return o.prefixed(transfer.Redis(c.Context(), source, skip)), nothing, nil
	}
	if source == stdinName {
		parse, err := o.parser("standard input")
		if err != nil {
			return nil, nil, err
		}
		in, stop := untilInterrupted(c.Context(), c.InOrStdin())
		return o.prefixed(named("standard input", parse(in))), stop, nil
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return o.prefixed(transfer.Folder(source, transfer.MaxValue)), nothing, nil
	}
	parse, err := o.parser(source)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, nil, err
	}
	in, stop := untilInterrupted(c.Context(), f) // it may be a pipe
	return o.prefixed(named(source, parse(in))), func() { stop(); _ = f.Close() }, nil
}

// parser is the reader of the format, which the name tells or the flag says.
func (o *importFlags) parser(name string) (func(io.Reader) itemSource, error) {
	format := o.format
	if format == "" {
		format = strings.ToLower(strings.TrimPrefix(filepath.Ext(name), "."))
	}
	switch {
	case format == "jsonl" || format == "ndjson" || format == "json":
		return transfer.JSONLines, nil
	case format == "csv":
		return transfer.CSV, nil
	case o.format != "":
		return nil, usageError("--format takes jsonl or csv, not %q", o.format)
	}
	return nil, usageError("cannot tell the format of %s: give --format jsonl or --format csv", name)
}

// named puts the name of the source before its errors.
func named(name string, items itemSource) itemSource {
	return func(yield func(transfer.Item, error) bool) {
		for item, err := range items {
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

func (o *importFlags) prefixed(items itemSource) itemSource {
	if o.prefix == "" {
		return items
	}
	return func(yield func(transfer.Item, error) bool) {
		for item, err := range items {
			item.Key = o.prefix + item.Key
			if !yield(item, err) {
				return
			}
		}
	}
}

func newExport() *cobra.Command {
	var o connection
	var out string
	c := &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Write every key as JSON lines, as quoit import reads them",
		Long: `Writes a line of JSON for each key, with its value and remaining time to live, to
standard output or a file. Keys and values come back byte for byte.

The file of --output is there whole or not at all, however the export ends. A new
one can be read by its owner only. What is written while the export runs may be in
it or not.`,
		Example: "  quoit export -o backup.jsonl\n  quoit export user: | gzip > users.jsonl.gz",
		Args:    arguments(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			scan := client.ScanOptions{Prefix: strings.Join(args, "")}
			whole, err := o.token.reads(scan.Prefix)
			if err != nil {
				return err
			}
			if !whole {
				fmt.Fprintln(c.ErrOrStderr(), "note: the token opens a part of these keys alone; the others are left out")
			}
			return o.with(c.Context(), func(ctx context.Context, db *client.Client) error {
				return o.export(ctx, c, db, scan, out)
			})
		},
		ValidArgsFunction: o.completeKeys(1),
	}
	o.addTo(c)
	c.Flags().StringVarP(&out, "output", "o", stdinName, "write to this file; - is standard output")
	return c
}

func (o *connection) export(ctx context.Context, c *cobra.Command, db *client.Client, scan client.ScanOptions, out string) error {
	bar := newCounter(c, "exporting")
	report := func(p transfer.Progress) { bar.set(p.Keys) }
	if out == stdinName {
		_, err := transfer.Export(ctx, db, scan, c.OutOrStdout(), report)
		bar.finish()
		return err
	}
	p, err := transfer.ExportFile(ctx, db, scan, out, report)
	bar.finish()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(c.OutOrStdout(), map[string]any{"file": out, "keys": p.Keys, "bytes": p.Bytes, "seconds": p.Elapsed.Seconds()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "exported %s, %s in %s to %s\n", plural(int(p.Keys), "key"), size(p.Bytes), span(p.Elapsed), out)
	return err
}
