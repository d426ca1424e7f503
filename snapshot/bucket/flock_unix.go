//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package bucket

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock of an open file, or reports that another has it. Locks
// belong to the opening of a file, so two handles of one process exclude each
// other too; the kernel lets go when the process dies.
func tryLock(file *os.File) (bool, error) {
	err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func unlock(file *os.File) error { return flock(file, syscall.LOCK_UN) }

func flock(file *os.File, how int) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		for {
			if result = syscall.Flock(int(fd), how); !errors.Is(result, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, result)
}
