//go:build !unix

package vfs

import (
	"errors"
	"os"
)

// lockFile refuses: a data directory without a lock is not safe to serve.
func lockFile(f *os.File) error {
	return &os.PathError{Op: "lock", Path: f.Name(), Err: errors.ErrUnsupported}
}
