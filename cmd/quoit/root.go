package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "quoit",
		Short: "A sharded, durable key-value store whose ranges move while it serves",
		Long: `Quoit keeps keys on a ring of nodes. Start a cluster on this machine with

  quoit up

and talk to it with quoit put and quoit get, with redis-cli, or from Go. Tools read
QUOIT_SERVERS, QUOIT_MANAGER_ADDR, QUOIT_TOKEN_FILE and QUOIT_TLS_CA_FILE.
Exit codes: 0 all well, 1 it failed, 2 wrong usage, 3 no such key.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionOf(debug.ReadBuildInfo()).String(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(explainFlag)
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"start", "Start here:", []*cobra.Command{newUp(), newDemo()}},
		{"keys", "Read and write:", []*cobra.Command{newGet(), newPut(), newDel(), newMGet(), newScan(), newWatch(), newImport(), newExport()}},
		{"cluster", "Run a cluster:", []*cobra.Command{newCluster(), newBucket(), newSnapshot(), newNode(), newManager(), newGateway(), newHealthcheck()}},
		{"tools", "Look closer:", []*cobra.Command{newSecrets(), newToken(), newCert(), newHash(), newBench(), newVersion()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID("tools")
	root.SetCompletionCommandGroupID("tools")
	return root
}

// addCompletion adds cobra's own command, once it is known where its scripts go.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			onlyCommands(c)
		}
	}
}

// newHelp is cobra's own, but for a topic that is none: that is a mistake.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		RunE: func(c *cobra.Command, args []string) error {
			topic, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError("there is no command %q; see quoit --help", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

// explainFlag says what is wrong with a flag, and what would be right.
func explainFlag(c *cobra.Command, err error) error {
	text := err.Error()
	if before, after, found := strings.Cut(text, " flag: "); found {
		text = before + " flag: " + wanted(err, after)
	}
	if strings.HasPrefix(text, "unknown shorthand flag") && c.Flags().NArg() > 0 {
		return usageError("%s; what begins with - and is no flag goes after --", text)
	}
	return usageError("%s; see %s --help", text, c.CommandPath())
}

// wanted turns what the parser of a flag says into what the flag takes.
func wanted(err error, text string) string {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return "the number is too large"
	case strings.Contains(text, "ParseBool"):
		return "want true or false"
	case strings.Contains(text, "ParseFloat"):
		return "want a number"
	case strings.Contains(text, "ParseInt"):
		return "want a whole number"
	case strings.HasPrefix(text, "time: "):
		return "want a duration such as 500ms, 10s or 2m"
	}
	return text
}

// arguments checks how many there are; most < 0 is any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError("an argument is missing: quoit %s; see %s --help", usageOf(c), c.CommandPath())
		case most == 0 && len(args) > 0:
			return usageError("%s takes no argument such as %q; see %s --help", c.CommandPath(), args[0], c.CommandPath())
		case most > 0 && len(args) > most:
			return usageError("the argument %q is one too many: quoit %s; see %s --help", args[most], usageOf(c), c.CommandPath())
		}
		return nil
	}
}

// usageOf is a command with what it takes: "cluster add ADDRESS...".
func usageOf(c *cobra.Command) string {
	path := strings.TrimPrefix(c.Parent().CommandPath(), "quoit")
	return strings.TrimSpace(path + " " + c.Use)
}

// onlyCommands is for a command that only has others below it: without one it
// explains itself, with a wrong one it says so.
func onlyCommands(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return noSuchCommand(c, args[0])
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

func noSuchCommand(c *cobra.Command, name string) error {
	const typos = 2
	c.SuggestionsMinimumDistance = typos
	near := c.SuggestionsFor(name)
	if len(near) == 0 {
		return usageError("%s has no command %q; see %s --help", c.CommandPath(), name, c.CommandPath())
	}
	return usageError("%s has no command %q; did you mean %s?", c.CommandPath(), name, strings.Join(near, " or "))
}

// explainCommand puts cobra's own word on a command that it does not know into ours.
func explainCommand(root *cobra.Command, err error) error {
	const begin = "unknown command "
	var own *exitError
	if err == nil || errors.As(err, &own) || !strings.HasPrefix(err.Error(), begin) {
		return err
	}
	quoted, _ := strconv.QuotedPrefix(strings.TrimPrefix(err.Error(), begin))
	name, _ := strconv.Unquote(quoted) // as it is quoted by cobra
	return noSuchCommand(root, name)
}

// build says which program this is.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"`
	Changed bool   `json:"changed,omitempty"` // since the commit
	Go      string `json:"go,omitempty"`
}

// versionOf is what the go tool has recorded.
func versionOf(info *debug.BuildInfo, ok bool) build {
	if !ok || info == nil {
		return build{Version: "unknown"}
	}
	b := build{Version: info.Main.Version, Go: info.GoVersion}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "development"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Changed = s.Value == "true"
		}
	}
	return b
}

// String is one line.
func (b build) String() string {
	text := "quoit " + b.Version
	if b.Commit != "" && !strings.Contains(b.Version, b.Commit[:min(12, len(b.Commit))]) {
		text += " " + b.Commit[:min(12, len(b.Commit))]
	}
	if at, err := time.Parse(time.RFC3339, b.Time); err == nil {
		text += " of " + at.UTC().Format(time.DateOnly)
	}
	if b.Changed {
		text += " with changes"
	}
	if b.Go != "" {
		text += ", " + b.Go
	}
	return text
}

func newVersion() *cobra.Command {
	asJSON, sbom := false, false
	c := &cobra.Command{
		Use: "version", Short: "Print the version, or what is linked into the binary", Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if sbom {
				bill, err := billOf(debug.ReadBuildInfo())
				if err != nil {
					return err
				}
				return printJSON(c.OutOrStdout(), bill)
			}
			b := versionOf(debug.ReadBuildInfo())
			if asJSON {
				return printJSON(c.OutOrStdout(), b)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), b)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	c.Flags().BoolVar(&sbom, "sbom", false, "print the modules in the binary as a CycloneDX 1.5 bill of materials (JSON)")
	return c
}
