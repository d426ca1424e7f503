package node

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// awayFrom is how a store that cannot be reached fails, with its address in it.
func awayFrom() error {
	dial := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 9000}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	return fmt.Errorf("%w: Get \"http://canary-store:9000/quoit/cluster\": %w", bucket.ErrUnavailable, dial)
}

// TestWhatClientsAreToldOfTroubleIsDiscreet: bucket and disk fail with errors that say
// where they are, and a command panics; a client reads the reason, and the log has
// all of it.
func TestWhatClientsAreToldOfTroubleIsDiscreet(t *testing.T) {
	c := newTestCluster(t)
	var away, ill atomic.Bool
	store := buckettest.NewFaulty(c.bucket, func(buckettest.Op) buckettest.Fault {
		if away.Load() {
			return buckettest.Fault{Before: awayFrom()}
		}
		return buckettest.Fault{}
	})
	disk := vfs.Inject(c.disk, func(op vfs.Op) error {
		if ill.Load() && (op.Kind == vfs.OpCreate || op.Kind == vfs.OpAllocate || op.Kind == vfs.OpRename) {
			return &fs.PathError{Op: "open", Path: "/data/canary/" + op.Name, Err: syscall.ENOSPC}
		}
		return nil
	})
	discreetly := func(what, reply, want string) {
		t.Helper()
		if !strings.Contains(reply, want) {
			t.Errorf("%s: %s, want %q in it", what, reply, want)
		}
		if discreet.Reveals(reply) || strings.Contains(reply, "canary") || strings.Contains(reply, "/data") || strings.Contains(reply, "10.9.9.9") {
			t.Errorf("%s reveals: %s", what, reply)
		}
	}

	away.Store(true)
	n := c.mustStart(func(_ *Config, s *Seams) { s.Bucket, s.FS = store, disk })
	client := dial(t, n.Address())
	waitFor(t, "the node to find the bucket away", func() bool { return strings.Contains(c.logs.String(), "canary-store") })
	waitFor(t, "clients to be told", func() bool { return strings.Contains(client.do("GET a"), bucket.ErrUnavailable.Error()) })
	discreetly("a node that cannot join", client.do("GET a"), "-UNAVAILABLE ")
	discreetly("what it says when asked whether it is ready", n.Ready().Error(), bucket.ErrUnavailable.Error())

	away.Store(false)
	c.form()
	c.ready(n)
	c.follow(n, c.join(n.Address()))
	if got := client.do("SET a 1"); got != "+OK" {
		t.Fatal(got)
	}
	away.Store(true)
	discreetly("a snapshot without a bucket", client.do("SNAPSHOT"), "-UNAVAILABLE no new snapshot: ")
	discreetly("its status", client.do("SNAPSHOT STATUS"), `"state":`)
	ill.Store(true)
	discreetly("a snapshot without a disk", client.do("SNAPSHOT"), "-UNAVAILABLE no new snapshot: ")
	for _, request := range []string{"INFO", "INFO everything", "CONFIG GET dir", "CONFIG GET *", "CLUSTER STATUS", "HELLO 3", "REFRESH x"} {
		reply := client.do(request)
		if strings.Contains(reply, "canary") || strings.Contains(reply, "/data") || strings.Contains(reply, "goroutine ") {
			t.Errorf("%s reveals: %s", request, reply)
		}
	}
	for _, err := range []error{awayFrom(), &fs.PathError{Op: "open", Path: "/data/canary/log", Err: syscall.EIO}, fmt.Errorf("wal: /data/canary/log/1 is damaged")} {
		reply := n.server.replyFor(err)
		discreetly("a reply to any other error", reply.Error(), string(protocol.ERR)+" ")
	}
	if !strings.Contains(c.logs.String(), "canary") {
		t.Error("the log does not have it either")
	}
}

// TestAnErrorOfTheLogIsNoReply: one that names the file does not get to the client.
func TestAnErrorOfTheLogIsNoReply(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.dial()
	c.do("SET a 1")
	commands := *s.commands
	commands[protocol.CmdEcho] = command{run: func(*conn, [][]byte) error {
		return &fs.PathError{Op: "open", Path: "/data/canary/log/1", Err: syscall.EIO}
	}}
	s.commands = &commands
	if got := s.dial().do("ECHO x"); got != "-ERR input/output error" {
		t.Error(got)
	}
}
