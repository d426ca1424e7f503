package bucket

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"sync/atomic"
	"time"
)

const stripeCount = 64

// stripe serialises the changes of the keys that hash to it: among goroutines by
// a token, among processes by a lock on its file. The first bytes of the file are
// a note that every process sees at once, through the page cache:
//
//	0                      every change is durable
//	1 | length, 2 | key    this key has been, or is being, changed, and the sync of
//	                       its directory has not been seen to succeed
//
// A writer that is killed leaves its note, and whoever comes next syncs for it.
// The note is never synced itself: after a power cut all that is left is durable.
type stripe struct {
	name  string
	token chan struct{}           // held by the one goroutine that has, or wants, the lock
	file  atomic.Pointer[os.File] // opened at first use; replaced under the token only
}

const (
	noteClean = 0
	noteDirty = 1
)

func (s *stripe) init(i int) {
	s.name = fmt.Sprintf("%s/%02x", locksDir, i)
	s.token = make(chan struct{}, 1)
}

func (f *Folder) stripeOf(key string) *stripe {
	h := fnv.New32a()
	_, _ = io.WriteString(h, key)
	return &f.stripes[h.Sum32()%stripeCount]
}

// lock waits for the stripe; when it returns nil, nobody else changes a key of it
// and every change so far is durable.
func (s *stripe) lock(ctx context.Context, f *Folder) error {
	select {
	case s.token <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.lockFile(ctx, f)
	if err == nil {
		if err = s.settle(f); err == nil {
			return nil
		}
		err = errors.Join(err, unlock(s.file.Load()))
	}
	<-s.token
	return err
}

// unlock lets the next writer in. An error here could only leave the lock held,
// which the next writer would see as waiting in vain.
func (s *stripe) unlock() {
	_ = unlock(s.file.Load())
	<-s.token
}

// lockFile takes the lock between processes. It asks again and again, because a
// thread that waits in the kernel could not be called back when the context ends.
func (s *stripe) lockFile(ctx context.Context, f *Folder) error {
	const shortest, longest = 50 * time.Microsecond, 2 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		file, err := s.open(f)
		if err != nil {
			return err
		}
		ok, err := tryLock(file)
		if err != nil {
			return err
		}
		if ok && s.current(f, file) {
			return nil
		}
		if ok {
			// Someone removed the file: a lock on it keeps nobody out. A reader may be
			// using the handle; the collector closes it.
			s.file.Store(nil)
			continue
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open returns the stripe's file, opening it if need be. Two that open it at once
// are fine: one handle wins, the other is closed.
func (s *stripe) open(f *Folder) (*os.File, error) {
	if file := s.file.Load(); file != nil {
		return file, nil
	}
	file, err := f.root.OpenFile(s.name, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if !s.file.CompareAndSwap(nil, file) {
		return s.file.Load(), file.Close()
	}
	return file, nil
}

// current reports whether the stripe's name still leads to this very file.
func (s *stripe) current(f *Folder, file *os.File) bool {
	named, err := f.root.Stat(s.name)
	if err != nil {
		return false
	}
	held, err := file.Stat()
	return err == nil && os.SameFile(named, held)
}

func (s *stripe) close() error {
	if file := s.file.Swap(nil); file != nil {
		return file.Close()
	}
	return nil
}

// mark notes that key is about to change. One small write, so that a kill leaves
// all of it or nothing.
func (s *stripe) mark(key string) error {
	note := append([]byte{noteDirty, byte(len(key) >> 8), byte(len(key))}, key...)
	_, err := s.file.Load().WriteAt(note, 0)
	return err
}

func (s *stripe) clear() error {
	_, err := s.file.Load().WriteAt([]byte{noteClean}, 0)
	return err
}

// dirty returns the key that is noted, empty for none.
func (s *stripe) dirty(file *os.File) (string, error) {
	var note [3 + MaxKeyLength]byte
	n, err := file.ReadAt(note[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if n < 3 || note[0] == noteClean {
		return "", nil
	}
	length := int(note[1])<<8 | int(note[2])
	if length > n-3 || ValidateKey(string(note[3:3+length])) != nil {
		return "", nil //nolint:nilerr // not of this boot: see stripe
	}
	return string(note[3 : 3+length]), nil
}

// settle finishes what a killed writer left. The caller holds the lock.
func (s *stripe) settle(f *Folder) error {
	key, err := s.dirty(s.file.Load())
	if err != nil || key == "" {
		return err
	}
	if err := f.do(stepSyncDir, func() error { return f.syncDir(path.Dir(key)) }); err != nil {
		return fmt.Errorf("finishing the write of %s: %w", key, err)
	}
	return s.clear()
}

// settled makes durable what a reader of the key has just seen. With no writer of
// the key about it costs one small read. A writer that is about may be alive, dead
// or stopped: the reader syncs for it rather than wait.
func (f *Folder) settled(key string) error {
	s := f.stripeOf(key)
	file, err := s.open(f)
	if err != nil {
		return err
	}
	noted, err := s.dirty(file)
	if err != nil || noted != key {
		return err // A note about another key: its writer has found this one settled.
	}
	return f.do(stepSyncDir, func() error { return f.syncDir(path.Dir(key)) })
}
