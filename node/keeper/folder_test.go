package keeper

import (
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// syncCounter is a file that notes how much has been written and not synced.
type syncCounter struct {
	vfs.File
	dirty, most int
}

func (f *syncCounter) WriteAt(p []byte, at int64) (int, error) {
	f.dirty += len(p)
	f.most = max(f.most, f.dirty)
	return f.File.WriteAt(p, at)
}

func (f *syncCounter) Sync() error {
	f.dirty = 0
	return f.File.Sync()
}

// TestAPartLeavesTheDiskToTheLog: megabytes that are synced at the end keep every sync
// of the log waiting until they are on the disk.
func TestAPartLeavesTheDiskToTheLog(t *testing.T) {
	f := folder{vfs.OS(), t.TempDir()}
	out, err := f.create("part")
	must(t, err)
	file := &syncCounter{File: out.file}
	out.file = file
	const piece = 100 << 10
	for range 50 {
		_, err := out.Write(make([]byte, piece))
		must(t, err)
	}
	must(t, out.close())
	if file.most >= burst+piece || file.dirty != 0 {
		t.Errorf("%d bytes waited to be synced at once, and %d at the end; want less than %d, and none", file.most, file.dirty, burst+piece)
	}
}
