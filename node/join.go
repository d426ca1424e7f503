package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// join makes this start of the node known to the cluster: a node that the
// document names swaps in its next incarnation, which fences off whatever still
// runs under its name; another one asks the manager to be noted, until it is. What
// cannot be reached is tried again for as long as it takes: the reason is in
// Ready. Only a refusal ends it.
func (n *Node) join(ctx context.Context) (cluster.Incarnation, error) {
	last := ""
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		incarnation, err := n.tryJoin(ctx)
		if err == nil {
			return incarnation, nil
		}
		if ctx.Err() != nil || fatalToJoin(err) {
			return 0, err
		}
		if why := err.Error(); why != last {
			n.log.Info("not in the cluster yet", "why", why)
			last = why
		}
		n.state.publish(&view{why: "the node is joining: " + discreet.Text(err, bucketErrors()...)})
		if !sleep(ctx, pause, nil) {
			return 0, ctx.Err()
		}
	}
}

// fatalToJoin says whether trying again would be refused again.
func fatalToJoin(err error) bool {
	var (
		identity *cluster.IdentityError
		folder   *FolderError
	)
	return errors.As(err, &identity) || errors.As(err, &folder) || errors.Is(err, cluster.ErrRolledBack)
}

func (n *Node) tryJoin(ctx context.Context) (cluster.Incarnation, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, _, err := n.documents.Load(ctx)
	if errors.Is(err, cluster.ErrNoDocument) {
		// A manager makes the document when its first nodes register.
		return 0, errors.Join(err, n.register(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("read the cluster's document: %w", err)
	}
	if err := n.settleIdentity(d); err != nil {
		return 0, err
	}
	if _, err := d.Register(n.registration()); err != nil {
		return 0, err // the manager would say the same, in words that cannot be branched on
	}
	if _, known := d.Member(n.identity.Address); !known {
		if err := n.register(ctx); err != nil {
			return 0, err
		}
	}
	if err := n.seams.Points.Hit(pointJoin); err != nil {
		return 0, err
	}
	d, err = n.documents.Update(ctx, func(d cluster.Document) (cluster.Document, error) {
		if _, known := d.Member(n.identity.Address); !known {
			return d, errNotKnown
		}
		return d.Register(n.registration())
	})
	if err != nil {
		return 0, fmt.Errorf("take the next incarnation: %w", err)
	}
	if err := n.seams.Points.Hit(pointJoined); err != nil {
		return 0, err
	}
	me, _ := d.Member(n.identity.Address)
	n.log.Info("joined", "cluster", d.Cluster, "incarnation", me.Incarnation, "state", me.State, "counter", d.Counter)
	return me.Incarnation, nil
}

// errNotKnown: the document that the manager answered for is not the one read here.
var errNotKnown = errors.New("the cluster's document does not name this node yet")

// settleIdentity compares the folder with the cluster and notes the cluster in a
// fresh folder. A log that is gone is not a fresh start: what it held would be
// missing without a word.
func (n *Node) settleIdentity(d cluster.Document) error {
	id := n.identity
	if id.Cluster == d.Cluster {
		return nil
	}
	if id.Cluster != "" {
		return &FolderError{
			n.folder.dir, "it belongs to cluster " + id.Cluster + " and " + n.config.Bucket + " holds cluster " + d.Cluster,
			"set QUOIT_BUCKET to the bucket of its own cluster, or give this node an empty folder (QUOIT_NODE_DATA)",
		}
	}
	id.Cluster = d.Cluster
	return n.become(id)
}

func (n *Node) registration() cluster.Registration {
	return cluster.Registration{Cluster: n.identity.Cluster, ID: n.identity.ID, Address: n.identity.Address, Tokens: n.config.Tokens, Endpoints: n.endpoints}
}

// register asks the manager to note this node.
func (n *Node) register(ctx context.Context) error {
	r := n.registration()
	message, err := member.Encode(member.Registration{Cluster: r.Cluster, ID: r.ID, Address: r.Address, Tokens: r.Tokens, Endpoints: r.Endpoints})
	if err != nil {
		return err
	}
	_, err = n.link.do(ctx, protocol.CmdRegister.String(), message)
	if peer.Refused(err) {
		return fmt.Errorf("the manager at %s refuses this node: %w", n.config.ManagerAddr, err)
	}
	if err != nil {
		return fmt.Errorf("ask the manager to be let in: %w", err)
	}
	return nil
}

// beatEvery is how often the manager hears of this node.
const beatEvery = time.Second

// beat tells the manager how the node is doing, until ctx ends, and delivers what
// there is to report about moves.
func (n *Node) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		n.beatOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-n.reports.added:
		case <-ticker.C:
		}
	}
}

// movesForGood: a range has come, or gone.
func movesForGood(a cluster.Action) bool { return a.Kind == cluster.Activate || a.Kind == cluster.Drop }

// report notes what the document that was just acted on asks to be told. That the node
// serves now, or does not, is told at once: people look at the status.
func (n *Node) report(d cluster.Decision) {
	if k := n.keeping(); k != nil && slices.ContainsFunc(d.Actions, movesForGood) {
		k.Moved()
	}
	n.reports.replace(d)
	if serves := n.state.view().why == ""; serves != n.toldServing {
		n.toldServing = serves
		n.reports.hurry()
	}
}

func (n *Node) beatOnce(ctx context.Context) {
	n.deliverReports(ctx)
	message, err := member.Encode(n.heartbeat())
	if err != nil {
		n.log.Error("heartbeat", "err", err)
		return
	}
	reply, err := n.link.do(ctx, protocol.CmdHeartbeat.String(), message)
	if err != nil {
		n.stats.heartbeatErrors.Add(1)
		n.log.Debug("the manager does not answer", "err", err)
		return
	}
	n.stats.heartbeats.Add(1)
	n.follower.hintCounter(uint64(reply.Int))
}

// deliverReports tells the manager which ends of committed moves are done. What
// does not get through stays for the next time; the document stops asking for it
// when it has arrived.
func (n *Node) deliverReports(ctx context.Context) {
	dropped, active := n.reports.pending()
	if n.deliver(ctx, "dropped", dropped) {
		n.deliver(ctx, "active", active)
	}
}

// deliver reports one kind of end, and says whether the manager answers.
func (n *Node) deliver(ctx context.Context, end string, moves []cluster.MoveID) bool {
	for part := range slices.Chunk(moves, maxReports) {
		args := [][]byte{[]byte(end)}
		for _, move := range part {
			args = append(args, []byte(move))
		}
		_, err := n.link.do(ctx, protocol.CmdMoveDone.String(), args...)
		if err != nil && !peer.Refused(err) {
			return false
		}
		if err != nil {
			n.log.Warn("the manager refuses a report", "moves", part, "end", end, "err", err)
			continue
		}
		n.reports.delivered(part, end == "active")
	}
	return true
}

// maxReports bounds the moves of one MOVE_DONE.
const maxReports = 256

// heartbeat is how the node is doing now.
func (n *Node) heartbeat() member.Heartbeat {
	t, connections := n.server.totals()
	v, e, l := n.state.view(), n.store.engine.Stats(), n.store.log
	h := member.Heartbeat{
		Address: n.identity.Address, ID: n.identity.ID, Incarnation: n.follower.self.Incarnation,
		Counter: v.counter, Epoch: v.topology.Epoch,
		Serving: v.why == "" && !n.server.draining(), State: "serving",
		Keys: int64(e.Keys), Bytes: e.LiveBytes, MemoryBytes: e.HeldBytes,
		LogBytes: int64(l.Written() - l.Start()), DurableLSN: int64(l.Durable()),
		Connections: int64(connections), Ops: int64(t.requests()),
		UptimeMS: n.clock.coarse() - n.server.about.started.UnixMilli(),
		Moves:    n.follower.movers.Progress(),
	}
	if k := n.keeping(); k != nil {
		s := k.Status()
		h.Snapshot = &member.Snapshot{
			State: s.State, Sequence: s.Sequence, AgeMS: s.AgeMS, Size: s.Size, Uncovered: s.Uncovered, ArchiveLag: s.ArchiveLag, Phase: s.Phase,
		}
	}
	switch {
	case v.why != "":
		h.State = v.why
	case n.clock.coarse()-n.stats.readOnlyAt.Load() < showFull.Milliseconds():
		h.State = "disk full: writes are refused"
	case n.clock.coarse()-n.stats.memoryFullAt.Load() < showFull.Milliseconds():
		h.State = "memory full: writes that need more are refused"
	}
	return h
}

// showFull is for how long after a refused write the status says so.
const showFull = 5 * time.Second
