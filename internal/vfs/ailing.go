package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// AilingVariable is the environment variable that a node reads the name of a file with
// orders from, for Ailing.
const AilingVariable = "QUOIT_DISK_ORDERS"

// Ailing returns a disk that a test makes ill, and well again, while the process that
// uses it runs. It does as the file named orders says, which is looked at ahead of each
// operation: "full" has no byte left to be had, "slow:30ms" lets each sync take so much
// longer, "full,slow:30ms" is both; an empty file, or none, is a disk that is well. An
// order that cannot be read fails the operation. Whoever writes orders renames them into
// place. fired is told when the disk does what it was ordered to, once for each order.
//
// Full is full for new bytes only, as on a real disk: what has been written or reserved
// may be written over.
func Ailing(fs FS, orders string, fired func(order string)) FS {
	return &ailing{FS: fs, orders: orders, fired: fired}
}

type ailing struct {
	FS
	orders string
	fired  func(order string)

	mu   sync.Mutex
	done map[string]bool // the orders of now that have been told; guarded by mu
}

// order returns what is behind a word of the orders, and whether it is there.
func (a *ailing) order(word string) (argument string, given bool, err error) {
	text, err := os.ReadFile(a.orders)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	for order := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		verb, argument, _ := strings.Cut(order, ":")
		switch {
		case verb == word:
			a.tell(order)
			return argument, true, nil
		case verb != "" && verb != "full" && verb != "slow":
			return "", false, fmt.Errorf("%s: %q: want full or slow:DURATION", a.orders, order)
		}
	}
	a.forget(word)
	return "", false, nil
}

func (a *ailing) tell(order string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done[order] {
		if a.done == nil {
			a.done = map[string]bool{}
		}
		a.done[order] = true
		a.fired(order)
	}
}

// forget lets the next order of this kind be told again.
func (a *ailing) forget(word string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for order := range a.done {
		if strings.HasPrefix(order, word) {
			delete(a.done, order)
		}
	}
}

// linger is ahead of each sync.
func (a *ailing) linger() error {
	text, slow, err := a.order("slow")
	if err != nil || !slow {
		return err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s: slow:%s: want a duration such as slow:30ms", a.orders, text)
	}
	time.Sleep(d)
	return nil
}

func (a *ailing) Create(name string) (File, error) { return a.wrap(a.FS.Create(name)) }
func (a *ailing) Open(name string) (File, error)   { return a.wrap(a.FS.Open(name)) }

func (a *ailing) wrap(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &ailingFile{f, a}, nil
}

func (a *ailing) SyncDir(dir string) error {
	if err := a.linger(); err != nil {
		return err
	}
	return a.FS.SyncDir(dir)
}

type ailingFile struct {
	File
	a *ailing
}

// room is how far a file may reach: to its present end, if the disk is full.
func (f *ailingFile) room(end int64) (int64, error) {
	size, err := f.Size()
	if err != nil || end <= size {
		return end, err
	}
	if _, full, err := f.a.order("full"); err != nil || !full {
		return end, err
	}
	return size, syscall.ENOSPC
}

// WriteAt writes what fits.
func (f *ailingFile) WriteAt(p []byte, off int64) (int, error) {
	to, err := f.room(off + int64(len(p)))
	if err == nil {
		return f.File.WriteAt(p, off)
	}
	if to <= off {
		return 0, err
	}
	n, short := f.File.WriteAt(p[:to-off], off)
	return n, errors.Join(short, err)
}

func (f *ailingFile) Allocate(size int64) error {
	if _, err := f.room(size); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *ailingFile) Sync() error {
	if err := f.a.linger(); err != nil {
		return err
	}
	return f.File.Sync()
}
