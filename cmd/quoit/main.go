// Command quoit is the whole of Quoit in one binary: the servers (node, manager),
// a cluster for one machine (up), a proof on real data (demo), and the tools that
// read, write, fill, measure and run a cluster.
//
// Servers are configured by environment variables alone; `quoit node --help`
// prints them. Tools take flags. `--json` makes every tool speak to programs:
// results go to standard output, errors as text to standard error.
//
// Exit codes: 0 all well, 1 it failed, 2 the command line or the environment is
// wrong, 3 there is no such key.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // certificate roots where the system has none, as in an image from scratch

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/config"
)

// The exit codes.
const (
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
)

func main() {
	cobra.EnableCommandSorting = false // what a newcomer needs comes first
	ctx, stop := interruptible()
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// interruptible is a context that ends when somebody wants the program to end. A
// second Ctrl-C then ends it at once. Under nohup, a terminal that goes away is
// nobody's wish.
func interruptible() (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	addCompletion(root)
	understood := false // no command begins before its flags and arguments are right
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	err := explainCommand(root, root.ExecuteContext(ctx))
	if err == nil && out.failed != nil {
		err = fmt.Errorf("write the output: %w", out.failed)
	}
	if err == nil {
		return 0
	}
	for line := range strings.Lines(explain(ctx, err)) {
		fmt.Fprintln(stderr, "quoit:", strings.TrimSuffix(line, "\n"))
	}
	if !understood {
		return exitUsage
	}
	return exitCode(err)
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil: all has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the command line or in the environment.
func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// settingsError is a mistake in the environment, nil if there is none.
func settingsError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}

func exitCode(err error) int {
	var own *exitError
	var wrong *config.Error
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &wrong):
		return exitUsage
	case errors.Is(err, client.ErrNotFound):
		return exitNotFound
	}
	return exitFailure
}

// explain is an error as a person reads it.
func explain(ctx context.Context, err error) string {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return "interrupted"
	}
	text := strings.TrimPrefix(strings.ReplaceAll(": "+err.Error(), ": client: ", ": "), ": ")
	switch {
	case !isUnauthenticated(err), strings.Contains(text, "expired"):
	case strings.Contains(text, "authenticate first"):
		text += " (show a token with QUOIT_TOKEN_FILE, QUOIT_TOKEN or --token-file)"
	default:
		text += " (quoit token inspect FILE --keys KEYS says what is wrong with one)"
	}
	return text
}
