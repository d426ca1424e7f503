//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package bucket

import (
	"errors"
	"os"
	"runtime"
)

var errNoLocks = errors.New("a folder as bucket needs flock, which " + runtime.GOOS + " does not have")

func tryLock(*os.File) (bool, error) { return false, errNoLocks }

func unlock(*os.File) error { return errNoLocks }
