package main

import (
	"context"
	"os/exec"
	"runtime"
)

// opener is the program that opens a page in the person's browser, "" where there is
// nobody to look: no desktop, a machine that is reached from elsewhere, or one that
// builds and tests.
func opener(goos string, environ map[string]string) string {
	if environ["CI"] != "" || environ["SSH_CONNECTION"] != "" {
		return ""
	}
	switch {
	case goos == "darwin":
		return "open"
	case environ["DISPLAY"] != "" || environ["WAYLAND_DISPLAY"] != "":
		return "xdg-open"
	}
	return ""
}

// browse opens a page, and says whether a browser is being started. It lives longer
// than this command: Ctrl-C here must not close what else the person has open in it.
func browse(ctx context.Context, environ map[string]string, url string) bool {
	program := opener(runtime.GOOS, environ)
	if program == "" {
		return false
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, url)
	cmd.SysProcAttr = apart()
	if cmd.Start() != nil {
		return false // there is no such program
	}
	go func() { _ = cmd.Wait() }() // or a process that has ended would stay
	return true
}
