package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync: contents and size, but no journal commit for a mere
// change of the modification time.
func syncData(f *os.File) error {
	return control(f, "fdatasync", unix.Fdatasync)
}

func allocate(f *os.File, from, to int64) error {
	return control(f, "fallocate", func(fd int) error {
		return unix.Fallocate(fd, 0, from, to-from)
	})
}

// control runs a system call on f's descriptor, again when a signal interrupts
// it, and dresses its error.
func control(f *os.File, op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = call(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	if err == nil && failed != nil {
		err = &os.PathError{Op: op, Path: f.Name(), Err: failed}
	}
	return err
}
