package keeper

import (
	"errors"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// FuzzManifest reads a local manifest of any bytes, also behind a right checksum: it is
// one, or it is damage that says which file.
func FuzzManifest(f *testing.F) {
	m := newMachine(f)
	must(f, m.boot())
	must(f, m.put(0, 20, "value"))
	must(f, m.cut())
	body, err := folder{m.disk, "data/snapshot"}.read(manifestName)
	must(f, err)
	m.stop()
	f.Add(body, false)
	f.Add(body[65:], true)
	f.Add([]byte("\n"), false)
	f.Add([]byte("{}"), true)
	f.Fuzz(func(t *testing.T, body []byte, summed bool) {
		if summed {
			body = append([]byte(checksum(body)+"\n"), body...)
		}
		disk := vfs.NewMem()
		must(t, disk.MkdirAll("snapshot"))
		out, err := folder{disk, "snapshot"}.create(manifestName)
		must(t, err)
		_, err = out.Write(body)
		must(t, errors.Join(err, out.close()))
		b, err := Local(disk, "snapshot")
		var damage *DamageError
		switch {
		case err != nil && !errors.As(err, &damage):
			t.Fatalf("%v, want a DamageError", err)
		case err == nil && (b == nil || b.State == nil):
			t.Fatalf("neither a base nor an error: %+v", b)
		}
	})
}
