// Package discreet makes of an error what a client may read of it: the reason, and
// nothing of where a server keeps its files, whom it dials, or how it is built. The
// log gets the error itself.
package discreet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"syscall"

	"github.com/quoitdb/quoit/protocol"
)

// elsewhere is said where the reason cannot be parted from what is nobody's business.
const elsewhere = "the reason is in the server's log"

// Text is the reason of err, "" for nil.
//
// A reply of the protocol, ours or another member's, is meant to be read and returned
// as it is, and so is a text of the program's own without a path, a URL or a stack in it.
// Else one of the known errors that err wraps speaks for it: give those whose own text
// says enough. Of the operating system's and the network's errors the bare reason is
// left ("no space left on device", "connection refused").
func Text(err error, known ...error) string {
	if err == nil {
		return ""
	}
	var reply *protocol.Error
	if text := err.Error(); errors.As(err, &reply) && !Reveals(text) {
		return text
	} else if reply != nil {
		return reply.Error()
	}
	bare, foreign := outside(err)
	if text := err.Error(); !foreign && !Reveals(text) {
		return text
	}
	for _, k := range known {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	if foreign {
		return bare
	}
	return elsewhere
}

// outside is the bare reason of an error that comes from outside the program, false
// for others.
func outside(err error) (string, bool) {
	var code syscall.Errno
	var path *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	var dial *net.OpError
	var name *net.DNSError
	var address *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time", true
	case errors.Is(err, context.Canceled):
		return "interrupted", true
	case errors.As(err, &code):
		return code.Error(), true
	case errors.As(err, &name):
		return "no such host", true
	case errors.As(err, &path), errors.As(err, &link), errors.As(err, &call), errors.As(err, &dial), errors.As(err, &address):
		return elsewhere, true
	}
	return "", false
}

// telling is what no client reads: absolute paths, URLs, and what a panic prints.
var telling = regexp.MustCompile(`(^|[^\w.~-])(/[\w.~-]+)+|[A-Za-z]:\\|://|goroutine \d|\.go:\d`)

// Reveals says whether a text has something of that in it.
func Reveals(text string) bool { return telling.MatchString(text) }
