package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/transfer"
)

// keyName is a key in JSON. One that is no UTF-8 is base64 in Binary instead.
type keyName struct {
	Key    *string `json:"key,omitempty"`
	Binary []byte  `json:"key_base64,omitempty"`
}

func newKeyName(key string) keyName {
	if utf8.ValidString(key) {
		return keyName{Key: &key}
	}
	return keyName{Binary: []byte(key)}
}

// keyValue is one key in JSON output, as quoit import reads it too. A value that is
// no UTF-8 is base64 in Binary instead.
type keyValue struct {
	keyName
	Value   *string `json:"value,omitempty"`
	Binary  []byte  `json:"base64,omitempty"`
	Version string  `json:"version,omitempty"`
	Found   bool    `json:"found"`
	Error   string  `json:"error,omitempty"`
}

func newKeyValue(key string, value []byte) keyValue {
	kv := keyValue{keyName: newKeyName(key), Found: true}
	if utf8.Valid(value) {
		text := string(value)
		kv.Value = &text
	} else {
		kv.Binary = value
	}
	return kv
}

func newGet() *cobra.Command {
	var o connection
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the value of a key; exit code 3 when there is none",
		Long: `Prints the bytes of the value as they are, without a newline. To a terminal it prints a
line, quoted as Go does where the value is no plain text.`,
		Example: "  quoit get user:1\n  quoit get logo > logo.png\n  quoit get --json user:1    # with its version",
		Args:    arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.once(c.Context(), func(ctx context.Context, db *client.Client) error {
				return get(ctx, c.OutOrStdout(), db, args[0], o.json)
			})
		},
		ValidArgsFunction: o.completeKeys(1),
	}
	o.addTo(c)
	return c
}

func get(ctx context.Context, w io.Writer, db *client.Client, key string, asJSON bool) error {
	value, version, err := db.GetVersion(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound) && asJSON:
		return errors.Join(noSuchKey(key), printJSON(w, keyValue{keyName: newKeyName(key)}))
	case errors.Is(err, client.ErrNotFound):
		return noSuchKey(key)
	case err != nil:
		return err
	case asJSON:
		kv := newKeyValue(key, value)
		kv.Version = version.String()
		return printJSON(w, kv)
	}
	return printValue(w, value)
}

// noSuchKey ends the program with the exit code of its own.
func noSuchKey(key string) error {
	return &exitError{code: exitNotFound, err: fmt.Errorf("there is no key %q", key)}
}

// putFlags say how a key is written.
type putFlags struct {
	connection
	ttl       time.Duration
	absent    bool
	present   bool
	ifVersion string
}

func newPut() *cobra.Command {
	var o putFlags
	c := &cobra.Command{
		Use:   "put KEY [VALUE]",
		Short: "Write a key; without VALUE its bytes come from standard input",
		Example: `  quoit put user:1 '{"name":"Ada"}'
  quoit put logo < logo.png
  quoit put session:9 x --ttl 30m
  quoit put temperature -- -5
  quoit put counter 8 --if-version 117238123123   # only if nobody wrote since`,
		Args: arguments(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			opts, err := o.options()
			if err != nil {
				return err
			}
			value, err := valueOf(c, args)
			if err != nil {
				return err
			}
			return o.once(c.Context(), func(ctx context.Context, db *client.Client) error {
				return o.put(ctx, c.OutOrStdout(), db, args[0], value, opts)
			})
		},
		ValidArgsFunction: o.completeKeys(1),
	}
	o.addTo(c)
	c.Flags().DurationVar(&o.ttl, "ttl", 0, "forget the key after this long")
	c.Flags().BoolVar(&o.absent, "if-absent", false, "only if the key is not there")
	c.Flags().BoolVar(&o.present, "if-present", false, "only if the key is there")
	c.Flags().StringVar(&o.ifVersion, "if-version", "", "only if the key has this version (0: is not there); prints the new one")
	return c
}

func (o *putFlags) options() ([]client.PutOption, error) {
	var opts []client.PutOption
	if o.ttl < 0 || o.ttl > 0 && o.ttl < time.Millisecond {
		return nil, usageError("--ttl takes 1ms or more, not %s", o.ttl)
	}
	if _, err := client.ParseVersion(o.ifVersion); o.ifVersion != "" && err != nil {
		return nil, usageError("--if-version takes a version as quoit get --json prints it, not %q", o.ifVersion)
	}
	if o.absent && o.present || o.ifVersion != "" && (o.absent || o.present) {
		return nil, usageError("--if-absent, --if-present and --if-version exclude each other")
	}
	if o.ttl > 0 {
		opts = append(opts, client.WithTTL(o.ttl))
	}
	if o.absent {
		opts = append(opts, client.IfAbsent())
	}
	if o.present {
		opts = append(opts, client.IfPresent())
	}
	return opts, nil
}

// put writes one key and prints its version, if that was what it went by.
func (o *putFlags) put(ctx context.Context, w io.Writer, db *client.Client, key string, value []byte, opts []client.PutOption) error {
	done := struct {
		keyName
		Written bool   `json:"written"`
		Version string `json:"version,omitempty"`
	}{keyName: newKeyName(key), Written: true}
	if o.ifVersion != "" {
		want, err := client.ParseVersion(o.ifVersion)
		if err != nil {
			return err
		}
		now, err := db.CompareAndPut(ctx, key, value, want, opts...)
		if err != nil {
			return explainPut(key, err)
		}
		done.Version = now.String()
	} else if err := db.Put(ctx, key, value, opts...); err != nil {
		return explainPut(key, err)
	}
	switch {
	case o.json:
		return printJSON(w, done)
	case done.Version != "":
		_, err := fmt.Fprintln(w, done.Version)
		return err
	}
	return nil
}

// explainPut names the key of which a condition was not met.
func explainPut(key string, err error) error {
	var version *client.VersionError
	switch {
	case errors.Is(err, client.ErrNotFound):
		return noSuchKey(key)
	case errors.Is(err, client.ErrExists):
		return fmt.Errorf("there is a key %q already", key)
	case errors.As(err, &version) && version.Current == 0:
		return fmt.Errorf("not written: there is no key %q", key)
	case errors.As(err, &version):
		return fmt.Errorf("not written: %q has the version %s", key, version.Current)
	}
	return err
}

// valueOf is the second argument, or all of standard input.
func valueOf(c *cobra.Command, args []string) ([]byte, error) {
	if len(args) == 2 {
		return []byte(args[1]), nil
	}
	if isTerminal(c.InOrStdin()) {
		fmt.Fprintln(c.ErrOrStderr(), "reading the value from the terminal; end it with Ctrl-D")
	}
	in, stop := untilInterrupted(c.Context(), c.InOrStdin())
	defer stop()
	value, err := io.ReadAll(io.LimitReader(in, transfer.MaxValue+1))
	if err == nil && len(value) > transfer.MaxValue {
		return nil, fmt.Errorf("the value has more than %d bytes, the most that a node takes", transfer.MaxValue)
	}
	return value, err
}

// untilInterrupted reads as r does, until ctx ends: a read of a terminal or a pipe
// knows nothing of contexts. The returned function lets go of r; a read that is
// under way then is left to itself.
func untilInterrupted(ctx context.Context, r io.Reader) (in io.Reader, stop func()) {
	from, to := io.Pipe()
	detach := context.AfterFunc(ctx, func() { _ = to.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(to, r)
		_ = to.CloseWithError(err) // of a pipe it always succeeds
	}()
	return from, func() {
		detach()
		_ = from.Close()
	}
}

func newDel() *cobra.Command {
	var o connection
	c := &cobra.Command{
		Use: "del KEY...", Aliases: []string{"delete"},
		Short: "Delete keys and print how many were there",
		Args:  arguments(1, -1),
		RunE: func(c *cobra.Command, keys []string) error {
			return o.once(c.Context(), func(ctx context.Context, db *client.Client) error {
				n, err := db.Delete(ctx, keys...)
				if err != nil {
					return inPart(n, err)
				}
				if o.json {
					return printJSON(c.OutOrStdout(), map[string]int{"deleted": n})
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), n)
				return err
			})
		},
		ValidArgsFunction: o.completeKeys(-1),
	}
	o.addTo(c)
	return c
}

// inPart says that a deletion which failed for some of the keys was done for others.
func inPart(deleted int, err error) error {
	switch deleted {
	case 0:
		return err
	case 1:
		return fmt.Errorf("%w\n1 other key was deleted", err)
	}
	return fmt.Errorf("%w\n%d other keys were deleted", err, deleted)
}

func newMGet() *cobra.Command {
	var o connection
	c := &cobra.Command{
		Use:   "mget KEY...",
		Short: "Read many keys at once, a JSON object a line",
		Long:  "Prints an object for each key, in order. A key that is not there has \"found\":false,\nand is no failure.",
		Args:  arguments(1, -1),
		RunE: func(c *cobra.Command, keys []string) error {
			return o.once(c.Context(), func(ctx context.Context, db *client.Client) error {
				results, failed := db.MGet(ctx, keys...)
				for i, r := range results {
					if err := printLine(c.OutOrStdout(), resultOf(keys[i], r)); err != nil {
						return err
					}
				}
				return failed
			})
		},
		ValidArgsFunction: o.completeKeys(-1),
	}
	o.addTo(c)
	return c
}

func resultOf(key string, r client.Result) keyValue {
	switch {
	case r.Err == nil:
		return newKeyValue(key, r.Value)
	case errors.Is(r.Err, client.ErrNotFound):
		return keyValue{keyName: newKeyName(key)}
	}
	return keyValue{keyName: newKeyName(key), Error: r.Err.Error()}
}
