package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/snapshot"
)

// The folder of a node's newest snapshot:
//
//	MANIFEST               SHA-256 of the rest in hexadecimal, a line end, the manifest as in the bucket
//	MANIFEST.new           one that was being written
//	<snapshot>-<number>    a part file, the same bytes as in the bucket
//
// A part file counts when the manifest names it. The manifest is replaced by
// renaming, after all its parts are synced.
const (
	manifestName = "MANIFEST"
	newManifest  = "MANIFEST.new"
)

// folder is where the local snapshot lies.
type folder struct {
	fs  vfs.FS
	dir string
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func partName(p snapshot.PartInfo) string { return fmt.Sprintf("%s-%d", p.Snapshot, p.Number) }

// make makes the folder, durably.
func (f folder) make() error {
	if err := f.fs.MkdirAll(f.dir); err != nil {
		return err
	}
	return f.fs.SyncDir(filepath.Dir(f.dir))
}

// manifest reads the local manifest; fs.ErrNotExist if there is none, and a
// *DamageError if it cannot be used.
func (f folder) manifest() (snapshot.Manifest, error) {
	body, err := f.read(manifestName)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	sum, text, ok := bytes.Cut(body, []byte{'\n'})
	if !ok || string(sum) != checksum(text) {
		return snapshot.Manifest{}, &DamageError{f.path(manifestName), errors.New("its checksum is wrong")}
	}
	m, err := snapshot.DecodeManifest(text)
	if err != nil {
		return m, &DamageError{f.path(manifestName), err}
	}
	return m, nil
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// maxManifest bounds what is read of a manifest.
const maxManifest = 16<<20 + 128

func (f folder) read(name string) ([]byte, error) {
	file, err := f.fs.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > maxManifest {
		return nil, &DamageError{f.path(name), fmt.Errorf("it has %d bytes, more than it can have", size)}
	}
	body := make([]byte, size)
	if _, err := file.ReadAt(body, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return body, nil
}

// adopt makes a manifest the local one, whose part files are here and synced.
func (f folder) adopt(m snapshot.Manifest) error {
	text, err := m.Encode()
	if err != nil {
		return err
	}
	if err := f.fs.SyncDir(f.dir); err != nil { // the names of the parts
		return err
	}
	if err := f.remove(newManifest); err != nil {
		return err
	}
	out, err := f.create(newManifest)
	if err != nil {
		return err
	}
	_, err = out.Write(append([]byte(checksum(text)+"\n"), text...))
	if err = errors.Join(err, out.close()); err != nil {
		return err
	}
	if err := f.fs.Rename(f.path(newManifest), f.path(manifestName)); err != nil {
		return err
	}
	return f.fs.SyncDir(f.dir)
}

func (f folder) remove(name string) error {
	err := f.fs.Remove(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clean removes what the manifest does not name. It is for tidiness: its errors
// are for the log alone.
func (f folder) clean(m *snapshot.Manifest) error {
	names, err := f.fs.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	if m != nil {
		keep[manifestName] = true
		for _, p := range m.Parts {
			keep[partName(p.PartInfo)] = true
		}
	}
	var errs []error
	for _, name := range names {
		if !keep[name] {
			errs = append(errs, f.remove(name))
		}
	}
	return errors.Join(errs...)
}

// outFile writes a new file from its beginning to its end.
type outFile struct {
	file   vfs.File
	at     int64
	synced int64 // up to where
}

// burst is about how much is written before it is synced: a sync of the log, which
// clients wait for, never has more than that before it on the disk.
const burst = 256 << 10

func (f folder) create(name string) (*outFile, error) {
	file, err := f.fs.Create(f.path(name))
	if err != nil {
		return nil, err
	}
	return &outFile{file: file}, nil
}

func (o *outFile) Write(p []byte) (int, error) {
	n, err := o.file.WriteAt(p, o.at)
	o.at += int64(n)
	if err == nil && o.at-o.synced >= burst {
		err = o.file.Sync()
		o.synced = o.at
	}
	return n, err
}

// close syncs and closes.
func (o *outFile) close() error { return errors.Join(o.file.Sync(), o.file.Close()) }

// open opens a local part.
func (f folder) open(ctx context.Context, p snapshot.Part) (*snapshot.Reader, io.Closer, error) {
	name := f.path(partName(p.PartInfo))
	file, err := f.fs.Open(name)
	if err != nil {
		return nil, nil, &DamageError{name, err}
	}
	size, err := file.Size()
	if err == nil && size != p.Size {
		err = fmt.Errorf("it has %d bytes instead of %d", size, p.Size)
	}
	if err != nil {
		return nil, nil, &DamageError{name, errors.Join(err, file.Close())}
	}
	r, err := snapshot.OpenReader(ctx, snapshot.InFile(file), snapshot.ReaderOptions{Object: name, Size: p.Size, Expect: &p.PartInfo})
	if err != nil {
		return nil, nil, &DamageError{name, errors.Join(err, file.Close())}
	}
	return r, file, nil
}

// DamageError says which piece of a snapshot cannot be used.
type DamageError struct {
	Name string
	Err  error
}

func (e *DamageError) Error() string { return fmt.Sprintf("%s cannot be used: %v", e.Name, e.Err) }

// Unwrap returns the reason.
func (e *DamageError) Unwrap() error { return e.Err }
