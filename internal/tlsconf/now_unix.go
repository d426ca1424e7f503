//go:build unix

package tlsconf

import (
	"errors"
	"io"
	"os"
	"syscall"
)

const canReadNow = true

// readNow reads what the kernel has, os.ErrDeadlineExceeded for nothing: TLS goes on after
// that.
func readNow(raw syscall.RawConn, p []byte) (n int, err error) {
	if tried := raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true
	}); tried != nil {
		return 0, tried
	}
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}
