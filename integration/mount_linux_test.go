package integration

import (
	"strconv"
	"syscall"
)

// mountMemory mounts a file system in memory that holds so many bytes.
func mountMemory(dir string, size int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=700,size="+strconv.Itoa(size))
}

// unmount lets go of it however it is used.
func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
