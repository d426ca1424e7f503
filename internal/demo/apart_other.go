//go:build !unix

package demo

import "syscall"

// apart has nothing to offer here: the servers get Ctrl-C too, and end by it.
func apart() *syscall.SysProcAttr { return nil }
