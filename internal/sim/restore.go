package sim

import (
	"context"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
)

// loseDisk has one node lose its disk when everything that it holds is in the bucket: it
// must come back with all of it.
func (w *World) loseDisk() bool {
	m := w.anyNode(w.dice("restore"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	for sleep(ctx, 10*time.Millisecond) {
		if err = w.snapshotOf(ctx, m); err == nil {
			break
		}
	}
	if err != nil {
		w.fail("liveness: %s takes no snapshot: %v", m.host, err)
		return false
	}
	m.crash(nil, "its disk is lost", false)
	w.trace.fault("disk lost, node back from the bucket", m.host)
	m.disk.set(func(d *disk) { d.mem = vfs.NewMem() })
	m.boot()
	if !w.settle("after a disk was lost") {
		return false
	}
	w.audit("after a disk was lost")
	return true
}

// snapshotOf asks a node for a snapshot and waits for it.
func (w *World) snapshotOf(ctx context.Context, m *machine) error {
	c, err := w.operate(ctx, m.addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.DoStrings("SNAPSHOT")
	return err
}
