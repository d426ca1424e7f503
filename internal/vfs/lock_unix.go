//go:build unix

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes a flock, which belongs to the open file and so also keeps two
// openers in one process apart.
func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: ErrLocked}
	}
	return err
}
