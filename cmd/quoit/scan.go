package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
)

// scanFlags say what to list, and how.
type scanFlags struct {
	connection
	match  string
	values bool
	limit  int
}

func newScan() *cobra.Command {
	var o scanFlags
	c := &cobra.Command{
		Use:   "scan [PREFIX]",
		Short: "List keys over the whole cluster, in ring order",
		Long: `Lists keys, one a line; one that would not fit a line is quoted as in Go. Keys that
are there all the time come exactly once, whatever moves meanwhile.`,
		Example: `  quoit scan user:
  quoit scan --match '*:session' --limit 20
  quoit scan user: --values          # a JSON object a line, as quoit import reads it`,
		Args: arguments(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.limit < 0 {
				return usageError("--limit takes 0 (all) or more, not %d", o.limit)
			}
			prefix := strings.Join(args, "")
			return o.with(c.Context(), func(ctx context.Context, db *client.Client) error {
				return o.print(ctx, c.OutOrStdout(), db, prefix)
			})
		},
		ValidArgsFunction: o.completeKeys(1),
	}
	o.addTo(c)
	c.Flags().StringVar(&o.match, "match", "", "only keys that match this pattern: * ? [a-z]")
	c.Flags().BoolVar(&o.values, "values", false, "print the values too, as JSON lines")
	c.Flags().IntVar(&o.limit, "limit", 0, "stop after this many keys; 0 for all")
	return c
}

// page is how many keys to look at for one message: no more than are wanted, but
// not one by one through keys that do not match.
func (o *scanFlags) page() int {
	const least = 100
	if o.limit == 0 {
		return 0
	}
	return max(o.limit, least)
}

func (o *scanFlags) print(ctx context.Context, w io.Writer, db *client.Client, prefix string) error {
	n := 0
	for entry, err := range db.Scan(ctx, client.ScanOptions{Prefix: prefix, Match: o.match, Values: o.values, Count: o.page()}) {
		if err != nil {
			return err
		}
		switch {
		case o.values:
			kv := newKeyValue(entry.Key, entry.Value)
			kv.Version = entry.Version.String()
			err = printLine(w, kv)
		case o.json:
			err = printLine(w, placed{keyName: newKeyName(entry.Key), Position: entry.Position, Owner: db.Owner(entry.Key)})
		default:
			_, err = fmt.Fprintln(w, visible(entry.Key))
		}
		if err != nil {
			return err
		}
		if n++; n == o.limit {
			break
		}
	}
	return nil
}

// visible keeps a key on one line, readable, harmless to a terminal, and apart from
// every other: one that looks quoted is quoted too.
func visible(key string) string {
	if key == "" || key[0] == '"' || !utf8.ValidString(key) {
		return strconv.Quote(key)
	}
	for _, r := range key {
		if !strconv.IsPrint(r) {
			return strconv.Quote(key)
		}
	}
	return key
}
