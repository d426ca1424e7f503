package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
)

// watchFlags say what to watch, and how to show it.
type watchFlags struct {
	connection
	key   bool
	state bool
	count int
}

func newWatch() *cobra.Command {
	var o watchFlags
	c := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Show every change of the keys under a prefix as it happens",
		Long: `Prints one line for each change, until Ctrl-C: when it came, what it was, the key, the
beginning of the value, and the version. Nodes may join, leave, restart or be away
meanwhile: what they missed to tell comes later, the latest state of each key at least.
"synced" says that from here on every change comes; with --state, that all that was
there has come.`,
		Example: `  quoit watch user:
  quoit watch user:1 --key           # this key and no other
  quoit watch cart: --state          # what is there first
  quoit watch --json --count 10      # a JSON object a line, the whole value in it`,
		Args: arguments(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.count < 0 {
				return usageError("--count takes 0 (all) or more, not %d", o.count)
			}
			if o.key && len(args) == 0 {
				return usageError("--key needs the key: quoit watch KEY --key")
			}
			what := strings.Join(args, "")
			return o.with(c.Context(), func(ctx context.Context, db *client.Client) error {
				return o.print(ctx, c.OutOrStdout(), db, what)
			})
		},
		ValidArgsFunction: o.completeKeys(1),
	}
	o.addTo(c)
	c.Flags().BoolVar(&o.key, "key", false, "watch exactly the key that is named, not those that begin with it")
	c.Flags().BoolVar(&o.state, "state", false, "show first what is there")
	c.Flags().IntVar(&o.count, "count", 0, "stop after this many changes; 0 for never")
	return c
}

// print shows changes until there were enough, or somebody ends the program: that
// is how it is meant to end.
func (o *watchFlags) print(ctx context.Context, w io.Writer, db *client.Client, what string) error {
	watch := db.Watch
	if o.key {
		watch = db.WatchKey
	}
	show := o.line
	if o.json {
		show = printChange
	}
	n := 0
	for change, err := range watch(ctx, what, client.WatchOptions{State: o.state}) {
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := show(w, change); err != nil {
			return err
		}
		if change.Kind == client.ChangePut || change.Kind == client.ChangeDelete {
			n++
		}
		if n > 0 && n == o.count {
			break
		}
	}
	return nil
}

// line shows a change to a person.
func (o *watchFlags) line(w io.Writer, change client.Change) error {
	p := paintFor(w)
	parts := []string{p.dim(time.Now().Format("15:04:05.000"))}
	switch change.Kind {
	case client.ChangePut:
		parts = append(parts, p.green("put   "), p.bold(visible(change.Key)), visible(beginning(string(change.Value))), p.dim(change.Version.String()))
		if !change.ExpiresAt.IsZero() {
			parts = append(parts, p.dim("until "+change.ExpiresAt.Format(time.DateTime)))
		}
	case client.ChangeDelete:
		parts = append(parts, p.red("delete"), p.bold(visible(change.Key)), p.dim(change.Version.String()))
	case client.ChangeSynced:
		parts = append(parts, p.dim("synced  from here on every change is shown"))
	case client.ChangeResync:
		parts = append(parts, p.yellow("resync  keys may have gone before this line without a word"))
	}
	_, err := fmt.Fprintln(w, strings.Join(parts, "  "))
	return err
}

// beginning is as much of a value as one looks at.
func beginning(value string) string {
	const most = 60
	if utf8.RuneCountInString(value) <= most {
		return value
	}
	return string([]rune(value)[:most]) + "…"
}

// changeLine is a change in JSON.
type changeLine struct {
	Change string `json:"change"`
	keyName
	Value     *string    `json:"value,omitempty"`
	Binary    []byte     `json:"base64,omitempty"`
	Version   string     `json:"version,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func printChange(w io.Writer, change client.Change) error {
	line := changeLine{Change: change.Kind.String()}
	if change.Kind == client.ChangePut || change.Kind == client.ChangeDelete {
		line.keyName, line.Version = newKeyName(change.Key), change.Version.String()
	}
	if change.Kind == client.ChangePut {
		kv := newKeyValue(change.Key, change.Value)
		line.Value, line.Binary = kv.Value, kv.Binary
	}
	if !change.ExpiresAt.IsZero() {
		at := change.ExpiresAt.UTC()
		line.ExpiresAt = &at
	}
	return printLine(w, line)
}
