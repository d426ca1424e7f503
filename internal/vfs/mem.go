package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// BlockSize is the unit in which Mem keeps or loses unsynced bytes in a crash.
const BlockSize = 512

// ErrKilled is returned by every operation through a Mem after Kill.
var ErrKilled = errors.New("vfs: the process was killed")

// Mem is a disk in memory that can crash. It remembers, for every file and
// directory, what has been synced; CrashClone makes a new disk from that and a
// chosen part of the rest. See also Kill and SetCapacity.
type Mem struct {
	mu       sync.Mutex
	names    map[string]*inode // every file and directory, by clean path
	synced   map[string]*inode // the same as of the last SyncDir of each parent
	locks    map[string]bool
	capacity int64 // bytes, 0 = no limit
	killed   bool
}

// An inode is a directory, or a file: its bytes, and its bytes as of the last
// Sync together with the blocks that have changed since.
type inode struct {
	dir    bool
	data   content
	stable content
	dirty  map[int]bool
}

// NewMem returns an empty disk of unlimited size.
func NewMem() *Mem {
	return &Mem{names: map[string]*inode{}, synced: map[string]*inode{}, locks: map[string]bool{}}
}

// CrashClone returns the disk as a power failure at this moment could leave
// it: everything synced, plus each unsynced block, file size and directory
// entry for which keep returns true. The clone has no locks and no limit, and
// shares nothing with m, which goes on unharmed.
func (m *Mem) CrashClone(keep func() bool) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	copies := map[*inode]*inode{}
	for _, name := range m.everyName() {
		node := m.survivor(name, keep)
		if node == nil || !c.hasParent(name) {
			continue
		}
		if copies[node] == nil {
			copies[node] = node.crash(keep)
		}
		c.names[name] = copies[node]
	}
	c.synced = maps.Clone(c.names)
	return c
}

// everyName lists current and synced names in order, so that a seeded keep
// gives the same disk every time and parents come before children.
func (m *Mem) everyName() []string {
	all := maps.Clone(m.names)
	maps.Copy(all, m.synced)
	return slices.Sorted(maps.Keys(all))
}

// survivor decides which of its two inodes a name has after the crash.
func (m *Mem) survivor(name string, keep func() bool) *inode {
	now, before := m.names[name], m.synced[name]
	if now != before && keep() {
		return now
	}
	return before
}

func (n *inode) crash(keep func() bool) *inode {
	data := n.stable.clone()
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		from, to := i*BlockSize, min((i+1)*BlockSize, n.data.size)
		if from >= to || !keep() {
			continue
		}
		data.resize(max(data.size, to))
		data.take(&n.data, i, to)
	}
	size := n.stable.size
	if size != n.data.size && keep() {
		size = n.data.size
	}
	data.resize(size)
	return &inode{dir: n.dir, data: data, stable: data.clone(), dirty: map[int]bool{}}
}

// Kill ends the imagined process that uses this instance: every later call
// through it, and through files it has opened, fails with ErrKilled. What it
// wrote stays, for CrashClone to look at.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.killed = true
}

// SetCapacity limits the bytes that all files together may occupy; 0 means no
// limit. A call that needs more does what fits and fails with ENOSPC.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns the bytes that all files together occupy.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

func (m *Mem) used() int64 {
	seen := map[*inode]bool{}
	var sum int64
	for _, n := range m.names {
		if !seen[n] {
			seen[n] = true
			sum += int64(n.data.size)
		}
	}
	return sum
}

func clean(name string) string { return path.Clean(filepath.ToSlash(name)) }

func isRoot(name string) bool { return name == "." || name == "/" }

func (m *Mem) hasParent(name string) bool {
	dir := path.Dir(name)
	return isRoot(dir) || m.names[dir] != nil && m.names[dir].dir
}

// enter begins an operation on a name: locks the disk and finds the name.
func (m *Mem) enter(name string) (cleaned string, node *inode, err error) {
	m.mu.Lock()
	name = clean(name)
	if m.killed {
		return name, nil, ErrKilled
	}
	return name, m.names[name], nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	name, node, err := m.enter(name)
	defer m.mu.Unlock()
	switch {
	case err != nil:
	case node != nil:
		err = fs.ErrExist
	case !m.hasParent(name):
		err = fs.ErrNotExist
	default:
		node = &inode{dirty: map[int]bool{}}
		m.names[name] = node
		return &memFile{m, node, name}, nil
	}
	return nil, pathError("create", name, err)
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	name, node, err := m.enter(name)
	defer m.mu.Unlock()
	switch {
	case err != nil:
	case node == nil:
		err = fs.ErrNotExist
	case node.dir:
		err = syscall.EISDIR
	default:
		return &memFile{m, node, name}, nil
	}
	return nil, pathError("open", name, err)
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	name, node, err := m.enter(name)
	defer m.mu.Unlock()
	if err == nil && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	delete(m.names, name)
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	oldName, node, err := m.enter(oldName)
	defer m.mu.Unlock()
	newName = clean(newName)
	if err == nil && (node == nil || !m.hasParent(newName)) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathError("rename", oldName, err)
	}
	delete(m.names, oldName)
	m.names[newName] = node
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	dir, node, err := m.enter(dir)
	defer m.mu.Unlock()
	if err == nil && node != nil && !node.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("mkdir", dir, err)
	}
	for ; !isRoot(dir) && m.names[dir] == nil; dir = path.Dir(dir) {
		m.names[dir] = &inode{dir: true}
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]string, error) {
	dir, node, err := m.enter(dir)
	defer m.mu.Unlock()
	if err == nil && !isRoot(dir) && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathError("readdir", dir, err)
	}
	names := []string{}
	for name := range m.names {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	dir, node, err := m.enter(dir)
	defer m.mu.Unlock()
	if err == nil && !isRoot(dir) && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathError("syncdir", dir, err)
	}
	maps.DeleteFunc(m.synced, func(name string, _ *inode) bool { return path.Dir(name) == dir })
	for name, node := range m.names {
		if path.Dir(name) == dir {
			m.synced[name] = node
		}
	}
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	name, node, err := m.enter(name)
	defer m.mu.Unlock()
	switch {
	case err != nil:
	case m.locks[name]:
		err = ErrLocked
	case !m.hasParent(name):
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	if node == nil {
		m.names[name] = &inode{dirty: map[int]bool{}}
	}
	m.locks[name] = true
	return &memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// String draws the names on the disk, for messages of failed tests.
func (m *Mem) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(m.names)), " ")
}
