package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/internal/vfs/vfstest"
)

// ill is a disk in memory, and what orders it.
type ill struct {
	vfs.FS
	t      *testing.T
	orders string
	fired  []string
}

func newIll(t *testing.T) *ill {
	d := &ill{t: t, orders: filepath.Join(t.TempDir(), "orders")}
	d.FS = vfs.Ailing(newMem(t), d.orders, func(order string) { d.fired = append(d.fired, order) })
	return d
}

func (d *ill) order(text string) {
	d.t.Helper()
	must(d.t, os.WriteFile(d.orders, []byte(text), 0o600))
}

func TestWithoutOrdersADiskIsWell(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return newIll(t), "dir" })
}

func TestAFullDiskTakesNoNewBytesAndGoesOnOnceThereIsRoom(t *testing.T) {
	d := newIll(t)
	f, err := d.Create("dir/a")
	must(t, err)
	must(t, f.Allocate(4))
	d.order("full\n")
	if _, err := f.WriteAt([]byte("abcd"), 0); err != nil {
		t.Errorf("what was reserved: %v", err)
	}
	if n, err := f.WriteAt([]byte("CDEF"), 2); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("what fits in part: %d bytes, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("x"), 9); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("new bytes: %d, %v", n, err)
	}
	if err := f.Allocate(5); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("to reserve more: %v", err)
	}
	must(t, f.Sync())
	d.order("")
	_, err = f.WriteAt([]byte("efgh"), 4)
	must(t, err)
	d.order("slow:0s,full")
	if err := f.Allocate(9); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full once more: %v", err)
	}
	got := make([]byte, 8)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "abCDefgh" {
		t.Errorf("%q, %v", got, err)
	}
	if want := []string{"full", "full"}; !slices.Equal(d.fired, want) {
		t.Errorf("told %v, want %v", d.fired, want)
	}
	must(t, f.Close())
}

func TestASlowDiskTakesItsTimeToSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newIll(t)
		f, err := d.Create("dir/a")
		must(t, err)
		d.order("slow:30ms")
		began := time.Now()
		_, err = f.WriteAt([]byte("abc"), 0)
		must(t, errors.Join(err, f.Sync(), d.SyncDir("dir")))
		if took := time.Since(began); took != 60*time.Millisecond {
			t.Errorf("two syncs took %v", took)
		}
		if want := []string{"slow:30ms"}; !slices.Equal(d.fired, want) {
			t.Errorf("told %v, want %v", d.fired, want)
		}
		must(t, f.Close())
	})
}

func TestAWrongOrderIsExplained(t *testing.T) {
	d := newIll(t)
	f, err := d.Create("dir/a")
	must(t, err)
	for order, want := range map[string]string{"slow:x": "such as slow:30ms", "tired": "want full or slow:DURATION", "fuller": `"fuller"`} {
		d.order(order)
		if err := f.Sync(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", order, err, want)
		}
	}
	must(t, f.Close())
}
