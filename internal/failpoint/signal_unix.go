//go:build unix

package failpoint

import (
	"os"
	"syscall"
)

// killSelf ends the process as kill -9 would: no deferred call runs.
func killSelf() error { return signalSelf(syscall.SIGKILL) }

// pauseSelf stops the process as a scheduler stall or a suspended machine would,
// until someone sends it SIGCONT.
func pauseSelf() error { return signalSelf(syscall.SIGSTOP) }

func signalSelf(sig syscall.Signal) error { return syscall.Kill(os.Getpid(), sig) }
