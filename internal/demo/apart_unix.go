//go:build unix

package demo

import "syscall"

// apart keeps Ctrl-C at a terminal from reaching the servers: the demo ends them
// itself, in order.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
