//go:build !linux

package buckettest

import "syscall"

// dieWithParent does nothing: a server whose test was killed has to be ended by hand.
func dieWithParent() *syscall.SysProcAttr { return nil }
