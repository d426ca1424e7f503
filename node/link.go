package node

import (
	"context"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// link is the node's connection to the manager: one request at a time, dialled
// again after a failure. A request that fails may or may not have been done; all
// that a node sends may be sent twice.
type link struct {
	dial    peer.Dialer
	address string

	// turn holds one token: who has it may use conn. It is no mutex, because who waits for
	// it must be able to give up: the manager may take seconds to answer.
	turn chan struct{}
	conn *peer.Conn // nil when there is none
}

func newLink(address string) *link { return &link{address: address, turn: make(chan struct{}, 1)} }

// linkTimeout bounds the dialling and each reply.
const linkTimeout = 5 * time.Second

// do sends a request. Its reply's bytes must not be kept.
func (l *link) do(ctx context.Context, name string, args ...[]byte) (protocol.Reply, error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return protocol.Reply{}, ctx.Err()
	}
	defer func() { <-l.turn }()
	if l.conn == nil {
		conn, err := peer.Dial(ctx, l.dial, l.address, linkTimeout)
		if err != nil {
			return protocol.Reply{}, err
		}
		l.conn = conn
	}
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	reply, err := conn.Do(name, args...)
	if !stop() || err != nil && !peer.Refused(err) {
		_ = conn.Close()
		l.conn = nil
	}
	return reply, err
}

func (l *link) close() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}
