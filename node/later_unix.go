//go:build unix

package node

import (
	"errors"
	"syscall"
)

const canSendNow = true

// sendNow writes what the kernel takes without waiting.
func sendNow(fd uintptr, b []byte) (sent int, lost bool) {
	n, err := syscall.Write(int(fd), b)
	if err != nil {
		return 0, !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	}
	return n, false
}
