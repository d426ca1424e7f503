package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhereAPageIsOpened(t *testing.T) {
	for name, c := range map[string]struct {
		goos    string
		environ map[string]string
		want    string
	}{
		"a desktop with X11":     {"linux", map[string]string{"DISPLAY": ":0"}, "xdg-open"},
		"a desktop with Wayland": {"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, "xdg-open"},
		"a Mac":                  {"darwin", nil, "open"},
		"no desktop":             {"linux", nil, ""},
		"from elsewhere":         {"linux", map[string]string{"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "10.0.0.2 22"}, ""},
		"a build machine":        {"linux", map[string]string{"DISPLAY": ":99", "CI": "true"}, ""},
		"a Mac that builds":      {"darwin", map[string]string{"CI": "1"}, ""},
	} {
		if got := opener(c.goos, c.environ); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// desktop makes this a machine with a browser that notes what it is given in a file.
func desktop(t *testing.T) (opened string) {
	t.Helper()
	dir := t.TempDir()
	opened = filepath.Join(dir, "opened")
	script := "#!/bin/sh\necho \"$1\" > " + opened + ".part && mv " + opened + ".part " + opened + "\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DISPLAY", ":0")
	t.Setenv("CI", "")
	t.Setenv("SSH_CONNECTION", "")
	return opened
}

func TestOnADesktopUpOpensTheConsole(t *testing.T) {
	opened := desktop(t)
	screen := newTerminal(t, 100, 40)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"up", "--data", t.TempDir(), "--port", "0", "--nodes", "1"}, nil, screen.File, screen.File)
	}()
	text := screen.until(t, "The console opens in the browser")
	_, rest, _ := strings.Cut(text, "  browser     ")
	url := strings.Fields(rest)[0]
	for deadline := time.After(time.Minute); ; {
		if got, err := os.ReadFile(opened); err == nil {
			if strings.TrimSpace(string(got)) != url {
				t.Errorf("opened %q, and it says %q", got, url)
			}
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("no browser is opened")
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestUpOpensNothingUnasked(t *testing.T) {
	opened := desktop(t)
	for name, args := range map[string][]string{"--no-open": {"--no-open"}, "no console": nil} {
		t.Run(name, func(t *testing.T) {
			if name == "no console" {
				t.Setenv("QUOIT_GATEWAY_CONSOLE", "off")
			}
			screen := newTerminal(t, 100, 40)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan int, 1)
			go func() {
				ended <- run(ctx, append([]string{"up", "--data", t.TempDir(), "--port", "0", "--nodes", "1"}, args...), nil, screen.File, screen.File)
			}()
			screen.until(t, "Ctrl-C stops it")
			cancel()
			<-ended
			text := screen.text()
			if strings.Contains(text, "opens in the browser") || (name == "no console") == strings.Contains(text, "  browser  ") {
				t.Errorf("it says %s", text)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, _, ended := background(ctx, nil, "up", "--data", t.TempDir(), "--port", "0", "--nodes", "1")
	out.until(t, ended, "Ctrl-C stops it") // to a pipe
	cancel()
	<-ended
	if _, err := os.Stat(opened); err == nil {
		t.Error("a browser was opened")
	}
}
