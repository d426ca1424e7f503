//go:build unix

package freeport

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Held returns a loopback address that refuses every connection until release is
// called: its port is taken, by a socket that does not listen. A port that was merely
// free a moment ago can be somebody's by the time it is asked, or the very source
// port of who asks.
func Held() (address string, release func(), err error) {
	syscall.ForkLock.RLock() // no process started meanwhile may inherit it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	port, err := bound(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return "", nil, err
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), func() { _ = syscall.Close(fd) }, nil
}

// bound gives a socket a port of the kernel's choice.
func bound(fd int) (port int, err error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	if in, ok := name.(*syscall.SockaddrInet4); ok {
		return in.Port, nil
	}
	return 0, errors.New("a socket of IPv4 has a name of another kind")
}
