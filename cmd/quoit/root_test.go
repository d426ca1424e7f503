package main

import (
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// every calls a function with each command that a person can type.
func every(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		every(sub, do)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	root := newRoot()
	root.InitDefaultHelpCmd()
	every(root, func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s is described as %q", c.CommandPath(), c.Short)
		}
		if c.Args == nil && c.HasParent() && c.Name() != "help" {
			t.Errorf("%s does not say what arguments it takes", c.CommandPath())
		}
		if c.Hidden || !c.HasParent() {
			return
		}
		args := strings.Fields(c.CommandPath())[1:]
		asked, helped := must(t, append(args, "--help")...), must(t, append([]string{"help"}, args...)...)
		if asked != helped {
			t.Errorf("quoit help %v is not quoit %v --help", args, args)
		}
		mustSay(t, asked, "Usage:")
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 90 && !strings.Contains(c.Long, "VARIABLE") {
				t.Errorf("%s: the help has a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
	})
}

// The server commands speak in logs, import and export in JSON lines already.
func TestEveryToolSpeaksJSON(t *testing.T) {
	every(newRoot(), func(c *cobra.Command) {
		switch c.Name() {
		case "quoit", "help", "completion", "node", "manager", "gateway", "server":
			return
		}
		if parent := c.Parent().Name(); parent == "completion" {
			return
		}
		if c.Flags().Lookup("json") == nil && c.PersistentFlags().Lookup("json") == nil && c.InheritedFlags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	})
}

func TestHelpForNewcomers(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"--help"}} {
		mustSay(t, must(t, args...), "quoit up", "Start here:", "Read and write:", "Run a cluster:", "Look closer:", "Exit codes:")
	}
	if text := must(t); strings.Contains(text, "Additional Commands") || strings.Contains(text, "server node") {
		t.Errorf("commands without a place:\n%s", text)
	}
	mustSay(t, must(t, "cluster"), "status", "plan", "add", "remove")
}

func TestTheVersion(t *testing.T) {
	mustSay(t, must(t, "version"), "quoit ", "go1.")
	if must(t, "--version") != must(t, "version") {
		t.Error("--version and version differ")
	}
	mustSay(t, must(t, "version", "--json"), `"version": `, `"go": "go1.`)
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{}, "quoit development"},
		{debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}}, "quoit development, go1.26.8"},
		{debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}}, "quoit v1.2.3, go1.26.8"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			setting("vcs.revision", "0123456789abcdef"), setting("vcs.time", "2026-11-22T17:00:00Z"), setting("vcs.modified", "true"),
		}}, "quoit development 0123456789ab of 2026-11-22 with changes"},
		{debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20261122-0123456789ab"}, Settings: []debug.BuildSetting{
			setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "false"),
		}}, "quoit v0.0.0-20261122-0123456789ab"},
	} {
		if got := versionOf(&c.info, true).String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := versionOf(nil, false).String(); got != "quoit unknown" {
		t.Errorf("%q", got)
	}
}

func TestCompletionScriptsAreOnesTheirShellsTake(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}, "powershell": nil} {
		t.Run(shell, func(t *testing.T) {
			script := must(t, "completion", shell)
			mustSay(t, script, "quoit")
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("no %s on this machine to read the script", shell)
			}
			if check == nil {
				t.Skipf("%s has no way to only read a script", shell)
			}
			cmd := exec.Command(path, check...)
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if o := quoit(t, "completion", "tcsh"); o.code != exitUsage {
		t.Errorf("completion for a shell that there is none for: exit code %d, %s%s", o.code, o.out, o.err)
	}
}
