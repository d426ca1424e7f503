package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// roleVariable says what the test binary is when a test starts it again.
const roleVariable = "QUOIT_DEMO_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); {
	case role == "parent":
		beParent()
	case role == "broken":
		fmt.Fprint(os.Stderr, "the disk is on fire\n\n")
		os.Exit(1)
	case len(os.Args) > 3 && slices.Equal(os.Args[1:3], ServerCommand()):
		beServer(os.Args[3])
	}
	leak.Main(m)
}

// beServer is what the binary's hidden command does.
func beServer(name string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx = WhileParentLives(ctx, os.Stdin)
	environ, log := config.Environ(os.Environ()), slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	if name == "node" {
		c, wrong := node.LoadConfig(environ)
		if err = wrong; err == nil {
			err = node.Run(ctx, c, node.Seams{Logger: log})
		}
	} else {
		c, wrong := manager.LoadConfig(environ)
		if err = wrong; err == nil {
			err = manager.Run(ctx, c, manager.Seams{Logger: log})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// beParent starts a manager and then waits to be killed. The manager keeps a copy of
// this process's third file: who holds the other end learns when it has ended.
func beParent() {
	f, err := newFleet(self(), os.Getenv("QUOIT_DEMO_TEST_DIR"))
	if err == nil {
		f.manager.env = append(f.manager.env, roleVariable+"=")
		err = f.manager.start()
	}
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	if _, err := f.until(context.Background(), "the manager to answer", waitLimit, func(manager.Status) bool { return true }); err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	fmt.Println(f.manager.cmd.Process.Pid)
	select {}
}

// self is the test binary.
func self() string {
	name, err := os.Executable()
	if err != nil {
		panic("demo: a running program has a file: " + err.Error())
	}
	return name
}

// mustSay fails unless a text has all the words.
func mustSay(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}
