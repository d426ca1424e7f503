package manager

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

const (
	// askAgain is how long after a node took a move it is asked once more: it may
	// have been restarted, and asking twice does nothing.
	askAgain = 2 * time.Second
	// linkTimeout bounds dialling a node and waiting for its answer to a hint.
	linkTimeout = 5 * time.Second
)

// link passes hints to one node, in a goroutine of its own: a node that is slow,
// stopped or gone keeps nobody else waiting. What is wanted replaces what was
// wanted before, so nothing queues up behind such a node either.
type link struct {
	m       *Manager
	address string
	stop    context.CancelFunc
	wake    bell

	mu      sync.Mutex
	counter uint64         // the newest document; guarded by mu
	moves   []cluster.Move // that this node should be working on; guarded by mu

	// Of the link's goroutine alone:
	conn  *peer.Conn
	told  uint64                       // the counter that the node has answered for
	taken map[cluster.MoveID]time.Time // when the node last said that it works on a move
}

// want says what the node should know and do. It does not wait.
func (l *link) want(counter uint64, moves []cluster.Move) {
	l.mu.Lock()
	l.counter, l.moves = counter, moves
	l.mu.Unlock()
	l.wake.ring()
}

func (l *link) wanted() (counter uint64, moves []cluster.Move) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counter, l.moves
}

// run delivers what is wanted until the link is stopped.
func (l *link) run(ctx context.Context) {
	defer l.hangUp()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		if !l.persist(ctx) {
			return
		}
	}
}

// persist delivers what is wanted to a node that may not answer: it is tried again,
// more and more slowly. It returns false when the link is stopped.
func (l *link) persist(ctx context.Context) bool {
	for pause := minBackoff; ; {
		reused := l.conn != nil
		err := l.deliver(ctx)
		if err == nil {
			return true
		}
		l.m.log.Debug("node does not answer", "node", l.address, "error", err)
		l.hangUp()
		if reused {
			continue // the node may have been restarted since: it is dialled at once
		}
		if !sleep(ctx, pause) {
			return false
		}
		pause = min(2*pause, maxBackoff)
	}
}

func (l *link) hangUp() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	// A node that comes back may have been restarted: it is told everything again.
	l.conn, l.told, l.taken = nil, 0, nil
}

// deliver tells the node what it has not been told yet. An error means that the
// connection is broken.
func (l *link) deliver(ctx context.Context) error {
	counter, moves := l.wanted()
	if l.conn == nil {
		c, err := peer.Dial(ctx, l.m.trust.Dial, l.address, linkTimeout)
		if err != nil {
			return err
		}
		c.Limit(limits())
		l.conn = c
	}
	conn := l.conn
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if counter > l.told {
		_, err := conn.DoStrings(protocol.CmdRefresh.String(), strconv.FormatUint(counter, 10))
		if err != nil && !peer.Refused(err) {
			return err
		}
		l.told = counter // a node that refuses a hint does not need it: it reads by itself
	}
	return l.ask(moves)
}

// ask has the node work on the moves that it did not take lately. What it refuses
// (it is starting, or has too many) it is asked again when the link is next woken.
func (l *link) ask(moves []cluster.Move) error {
	now, taken := time.Now(), make(map[cluster.MoveID]time.Time, len(moves))
	for _, move := range moves {
		if at, ok := l.taken[move.ID]; ok && now.Sub(at) < askAgain {
			taken[move.ID] = at
			continue
		}
		_ = l.m.seams.Points.Hit(pointMigrate)
		_, err := l.conn.DoStrings(protocol.CmdMigrateRange.String(),
			move.Range.Start.String(), move.Range.End.String(), move.Target, string(move.ID))
		switch {
		case err == nil:
			taken[move.ID] = now
		case peer.Refused(err):
			l.m.log.Debug("node does not start a move yet", "node", l.address, "move", move.ID, "error", err)
		default:
			return err
		}
	}
	l.taken = taken
	return nil
}
