//go:build unix

package main

import "syscall"

// apart keeps Ctrl-C at a terminal from reaching the browser, which has more pages
// open than ours.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
