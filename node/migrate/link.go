package migrate

import (
	"context"
	"net"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
)

// dial opens a connection to a member.
func (m *Mover) dial(ctx context.Context, address string) (*peer.Conn, error) {
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		c, err := m.o.Dial(ctx, address)
		return &patient{c, m.o.ReplyTimeout}, err
	}
	return peer.Dial(ctx, dial, address, m.o.ReplyTimeout)
}

// patient is a connection whose writes may take as long as they like, as long as
// they go on: a batch with a value of 64 MiB takes its time on a slow link, which is
// no reason to begin the move again.
type patient struct {
	net.Conn
	timeout time.Duration // for each part
}

// patientPart is what must get through within the timeout.
const patientPart = 256 << 10

// SetWriteDeadline does nothing: Write sets deadlines of its own.
func (p *patient) SetWriteDeadline(time.Time) error { return nil }

func (p *patient) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if err = p.Conn.SetWriteDeadline(time.Now().Add(p.timeout)); err != nil {
			break
		}
		var k int
		k, err = p.Conn.Write(b[n:min(len(b), n+patientPart)])
		n += k
	}
	return n, err
}
