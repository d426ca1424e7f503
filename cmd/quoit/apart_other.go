//go:build !unix

package main

import "syscall"

// apart has nothing to offer here: the browser may get Ctrl-C too.
func apart() *syscall.SysProcAttr { return nil }
