package node

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
)

// The data folder:
//
//	LOCK        held while a node works on the folder
//	node.json   who the folder belongs to: {"format":1,"cluster":"...","id":"...","address":"..."}
//	log/        the write-ahead log
//	snapshot/   what the log goes on from: the newest snapshot
//
// The identity is written before anything else, and its cluster is filled in when
// the cluster's document is first read. It is replaced by renaming, so that a
// crash leaves the old one or the new one.
const (
	lockName      = "LOCK"
	identityName  = "node.json"
	logName       = "log"
	snapshotName  = "snapshot"
	identityLimit = 64 << 10

	// identityFormat is the only version of node.json so far.
	identityFormat = 1
)

// identity says whose folder this is.
type identity struct {
	Format  int            `json:"format"`
	Cluster string         `json:"cluster,omitempty"`
	ID      cluster.NodeID `json:"id"`
	Address string         `json:"address"`
	// Origin is where the log began if not at 0, with nothing before it: the address
	// had a past in the bucket that is not this folder's.
	Origin wal.LSN `json:"origin,omitempty"`
	// Restoring: this folder is being filled from the bucket, and has not served yet.
	Restoring bool `json:"restoring,omitempty"`
}

// FolderError refuses a data folder that this node must not work on.
type FolderError struct {
	Dir    string
	Reason string
	Hint   string // what to do about it
}

// Error names the folder, the reason and the way out.
func (e *FolderError) Error() string {
	return fmt.Sprintf("data folder %s: %s: %s", e.Dir, e.Reason, e.Hint)
}

// folder is a locked data folder. Nothing of the node is read or written but through
// fs, which no name and no link leads out of.
type folder struct {
	fs   vfs.FS
	dir  string
	root io.Closer
	lock io.Closer
}

// openFolder makes the folder if it is missing, and locks it.
func openFolder(fsys vfs.FS, dir string) (*folder, error) {
	if err := makeFolder(fsys, dir); err != nil {
		return nil, fmt.Errorf("make the data folder (QUOIT_NODE_DATA): %w", err)
	}
	within, root, err := vfs.Within(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open the data folder (QUOIT_NODE_DATA): %w", err)
	}
	lock, err := within.Lock(filepath.Join(dir, lockName))
	if err == nil {
		return &folder{fs: within, dir: dir, root: root, lock: lock}, nil
	}
	_ = root.Close()
	if errors.Is(err, vfs.ErrLocked) {
		return nil, &FolderError{dir, "another process works on it", "stop that one, or give this node a folder of its own (QUOIT_NODE_DATA)"}
	}
	return nil, fmt.Errorf("lock the data folder (QUOIT_NODE_DATA): %w", err)
}

// makeFolder makes the folder and what is missing above it, durably: a folder
// whose own name is lost in a crash would look like a fresh start. An earlier
// process may have made it and died before its name was synced, so that is always
// done; a parent that is not ours to read is not ours to sync.
func makeFolder(fsys vfs.FS, dir string) error {
	parent := filepath.Dir(dir)
	_, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(fsys, parent); err != nil {
			return err
		}
		err = fsys.MkdirAll(dir)
	}
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func (f *folder) close() error         { return errors.Join(f.lock.Close(), f.root.Close()) }
func (f *folder) logDir() string       { return filepath.Join(f.dir, logName) }
func (f *folder) snapshotDir() string  { return filepath.Join(f.dir, snapshotName) }
func (f *folder) path(n string) string { return filepath.Join(f.dir, n) }

// identify reads the folder's identity, or gives a fresh folder one. address is
// the name of the node that wants to work on it.
func (f *folder) identify(address string) (identity, error) {
	body, err := f.read(identityName)
	if errors.Is(err, fs.ErrNotExist) {
		return f.adopt(address)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read the node's identity: %w", err)
	}
	id, err := decodeIdentity(body)
	if err != nil {
		return identity{}, &FolderError{f.dir, identityName + " cannot be used: " + err.Error(), "restore the file from a backup; never make one by hand for a folder with a log"}
	}
	if id.Address != address {
		return identity{}, &FolderError{
			f.dir, "it belongs to node " + id.Address + " and this is " + address,
			"set QUOIT_NODE_ADVERTISE=" + id.Address + ", or give this node a folder of its own (QUOIT_NODE_DATA)",
		}
	}
	return id, nil
}

// adopt gives a fresh folder an identity. A log without one is someone's data.
func (f *folder) adopt(address string) (identity, error) {
	names, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return identity{}, fmt.Errorf("look into the data folder: %w", err)
	}
	for _, name := range names {
		if name == logName || name == snapshotName {
			return identity{}, &FolderError{f.dir, "it holds a " + name + " and no " + identityName, "restore " + identityName + " from a backup, or use an empty folder (QUOIT_NODE_DATA)"}
		}
	}
	id := identity{Format: identityFormat, ID: newNodeID(), Address: address}
	return id, f.save(id)
}

// save replaces the identity durably.
func (f *folder) save(id identity) error {
	body, err := json.Marshal(id)
	if err != nil {
		return err
	}
	temp := f.path(identityName + ".new")
	if err := f.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	if err := f.write(temp, append(body, '\n')); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	if err := f.fs.Rename(temp, f.path(identityName)); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("write the node's identity: %w", err)
	}
	return nil
}

func (f *folder) write(name string, body []byte) error {
	file, err := f.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(body, 0)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f *folder) read(name string) ([]byte, error) {
	file, err := f.fs.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > identityLimit {
		return nil, fmt.Errorf("%s has %d bytes, which is no identity", name, size)
	}
	body := make([]byte, size)
	if _, err := file.ReadAt(body, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return body, nil
}

// decodeIdentity reads node.json strictly.
func decodeIdentity(body []byte) (identity, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return identity{}, fmt.Errorf("not JSON: %w", err)
	}
	if version.Format != identityFormat {
		return identity{}, fmt.Errorf("format %d, and this version of quoit reads format %d; use the version that wrote it", version.Format, identityFormat)
	}
	var id identity
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&id); err != nil {
		return identity{}, err
	}
	if id.ID == "" || id.Address == "" {
		return identity{}, errors.New("id or address is missing")
	}
	return id, nil
}

// newNodeID is 128 random bits in the form of a UUID.
func newNodeID() cluster.NodeID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return cluster.NodeID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}
