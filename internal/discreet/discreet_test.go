package discreet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestTheReasonAndNothingElse(t *testing.T) {
	away := errors.New("the bucket is not available")
	path := &fs.PathError{Op: "open", Path: "/var/lib/quoit/log/1", Err: syscall.ENOSPC}
	dial := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 9000}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("3 nodes have registered, 5 are wanted"), "3 nodes have registered, 5 are wanted"},
		{errors.New("node 10.0.0.7:7401 does not answer"), "node 10.0.0.7:7401 does not answer"},
		{errors.New("1/3 of the ranges, and/or none"), "1/3 of the ranges, and/or none"},
		{fmt.Errorf("join: %w", &protocol.Error{Code: protocol.ERR, Message: "no such cluster /x"}), "ERR no such cluster /x"},
		{fmt.Errorf("node a:1: %w", &protocol.Error{Code: protocol.ERR, Message: "no"}), "node a:1: ERR no"},
		{fmt.Errorf("put a/b: %w: %w", away, dial), "the bucket is not available"},
		{fmt.Errorf("read the document: get a/b: %w", away), "read the document: get a/b: the bucket is not available"},
		{fmt.Errorf("wal: %w", path), "no space left on device"},
		{errors.Join(errors.New("first"), path), "no space left on device"},
		{dial, "connection refused"},
		{&net.OpError{Op: "dial", Addr: &net.UnixAddr{Name: "/run/x"}, Err: errors.New("strange")}, elsewhere},
		{&net.DNSError{Name: "minio.internal", Err: "no such host"}, "no such host"},
		{&url.Error{Op: "Get", URL: "http://minio:9000/quoit", Err: errors.New("EOF")}, elsewhere},
		{&url.Error{Op: "Get", URL: "http://minio:9000/quoit", Err: context.DeadlineExceeded}, "no answer in time"},
		{fmt.Errorf("x: %w", context.Canceled), "interrupted"},
		{&os.LinkError{Op: "rename", Old: "/a", New: "/b", Err: errors.New("strange")}, elsewhere},
		{errors.New("wal: /var/lib/quoit/log/0001.wal is damaged"), elsewhere},
		{errors.New(`data folder "C:\quoit" cannot be used`), elsewhere},
		{errors.New("bucket s3://quoit/cluster?endpoint=http://minio:9000 is away"), elsewhere},
		{errors.New("panic: x\n\ngoroutine 1 [running]:"), elsewhere},
		{errors.New("at engine.go:77"), elsewhere},
	} {
		if got := Text(c.err, away); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		if got := Text(c.err, away); Reveals(got) && !strings.HasPrefix(got, "ERR ") {
			t.Errorf("%q reveals something", got)
		}
	}
}
