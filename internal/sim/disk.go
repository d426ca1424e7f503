package sim

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
)

// disk is what one machine has: it survives processes, and loses in a crash what was not
// synced, or a part of that.
type disk struct {
	w    *World
	host string

	mu       sync.Mutex
	dice     dice     // guarded by mu
	mem      *vfs.Mem // guarded by mu
	failSync int      // this many syncs from now on fail; guarded by mu
	slow     bool     // guarded by mu
}

func (w *World) newDisk(host string) *disk {
	return &disk{w: w, host: host, dice: w.dice("disk " + host), mem: vfs.NewMem()}
}

// mount gives a process the disk.
func (d *disk) mount(p *process) vfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return vfs.Inject(d.mem, func(op vfs.Op) error { return d.before(op, p) })
}

// detach takes the disk, with all that is on it, from the process that has it: what that
// still asks of it fails.
func (d *disk) detach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.mem
	was.Kill()
	d.mem = was.CrashClone(func() bool { return true })
}

// before runs ahead of each operation: a sync takes its time, and may fail. Only that of
// the log's next segment takes none: writers wait for it with their partition's mutex, and
// while somebody waits for a mutex virtual time stands still, here for ever.
func (d *disk) before(op vfs.Op, p *process) error {
	if op.Kind != vfs.OpSync {
		return nil
	}
	pause, err := d.syncs(op.Name)
	if !strings.Contains(op.Name, "spare") {
		time.Sleep(pause)
		p.whileFrozen(context.Background())
	}
	return err
}

func (d *disk) syncs(name string) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pause := between(d.dice, 10*time.Microsecond, 300*time.Microsecond)
	if d.slow {
		pause += between(d.dice, time.Millisecond, 80*time.Millisecond)
		d.w.trace.count("sync delayed", 1)
	}
	if d.failSync > 0 {
		d.failSync--
		d.w.trace.fault("sync failed", d.host+" "+name)
		return pause, syscall.EIO
	}
	return pause, nil
}

// crash takes the disk away from the process that has it, and leaves what a power failure
// could have left: of the rest everything, nothing, or some.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	share := one(d.dice, 0, 0.5, 0.9, 1)
	d.mem.Kill()
	kept, lost := 0, 0
	d.mem = d.mem.CrashClone(func() bool {
		if d.dice.chance(share) {
			kept++
			return true
		}
		lost++
		return false
	})
	d.w.trace.count("unsynced block lost in a crash", lost)
	d.w.trace.count("unsynced block kept in a crash", kept)
	d.failSync = 0
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}
