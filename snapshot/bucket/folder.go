package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"
)

// What a folder looks like on disk. The objects are plain files under their keys,
// to be looked at and copied with ordinary tools; the rest is hidden.
//
//	<dir>/cluster/document.json      an object: the file at its key, never changed in place
//	<dir>/.quoit/format              "quoit-folder 1\n"
//	<dir>/.quoit/locks/00 ... 3f     one for each stripe of keys, see stripe
//	<dir>/.quoit/writing/<random>    bodies under way; each locked by its writer
const (
	hiddenDir    = ".quoit"
	formatFile   = hiddenDir + "/format"
	locksDir     = hiddenDir + "/locks"
	writingDir   = hiddenDir + "/writing"
	formatPrefix = "quoit-folder "
	formatText   = formatPrefix + "1\n"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Folder is a [Bucket] in a folder of a local file system, shared by any number
// of processes of one host.
//
// A write goes to a file of its own, is synced, takes the key's lock, checks the
// condition against the bytes that are there, and is renamed into place; then the
// directory is synced. Killed at any point it leaves the old object or the new
// one. The lock file notes a rename that is not synced yet, so that nobody acts on
// an object that a power cut could take back.
//
// Readers wait for nobody. Writers of one key wait for each other: one that is
// stopped (not killed) in the middle of a write holds up the rest until it goes on
// or dies.
//
// It needs a file system with flock, rename and fsync as POSIX has them: a local
// one. ETags are hashes of the content.
type Folder struct {
	root    *os.Root
	stripes [stripeCount]stripe

	mu      sync.Mutex
	durable map[string]bool // directories whose own entries are known to be on disk

	// step, if set, is called as each step of a write begins: tests fail or die there.
	step func(step) error
}

var _ Bucket = (*Folder)(nil)

// step names a moment of a write.
type step string

const (
	stepCreate  step = "create"   // make the file of the body
	stepWrite   step = "write"    // write the body
	stepSync    step = "sync"     // sync the body
	stepMark    step = "mark"     // note that a rename is about to happen
	stepRename  step = "rename"   // the object changes
	stepSyncDir step = "sync-dir" // the change becomes durable
	stepClear   step = "clear"    // take the note away
)

// OpenFolder opens the bucket in the folder dir, which is made if it is missing.
// It refuses a folder that holds something else, and a format from the future.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("bucket folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("bucket folder: %w", err)
	}
	f := &Folder{root: root, durable: map[string]bool{}}
	for i := range f.stripes {
		f.stripes[i].init(i)
	}
	if err := f.prepare(); err != nil {
		return nil, fmt.Errorf("bucket folder %s: %w", dir, errors.Join(err, f.Close()))
	}
	return f, nil
}

// Close closes the files that the handle keeps open.
func (f *Folder) Close() error {
	errs := []error{f.root.Close()}
	for i := range f.stripes {
		errs = append(errs, f.stripes[i].close())
	}
	return errors.Join(errs...)
}

// Get returns the object whole.
func (f *Folder) Get(ctx context.Context, key string) (Object, error) {
	body, err := f.read(ctx, key, func(file *os.File, size int64) ([]byte, error) {
		if size > MaxConditional {
			return nil, ErrTooLarge
		}
		return readExactly(file, 0, size)
	})
	if err != nil {
		return Object{}, &OpError{"get", key, err}
	}
	return Object{Body: body, ETag: etagOf(body)}, nil
}

// GetRange returns a part of the object.
func (f *Folder) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := f.read(ctx, key, func(file *os.File, size int64) ([]byte, error) {
		if offset < 0 || length < 0 || offset > size || length > size-offset {
			return nil, fmt.Errorf("%w: %d bytes from %d on of %d", ErrOutOfRange, length, offset, size)
		}
		return readExactly(file, offset, length)
	})
	if err != nil {
		return nil, &OpError{"get range", key, err}
	}
	return body, nil
}

// Head returns size and ETag; it reads the whole object for the latter.
func (f *Folder) Head(ctx context.Context, key string) (Info, error) {
	info := Info{Key: key}
	_, err := f.read(ctx, key, func(file *os.File, size int64) ([]byte, error) {
		sum := sha256.New()
		n, err := io.Copy(sum, contextReader{ctx, file})
		if err != nil {
			return nil, err
		}
		stat, err := file.Stat()
		if err != nil {
			return nil, err
		}
		info.Size, info.ETag, info.Modified = n, etagFrom(sum), stat.ModTime()
		return nil, nil
	})
	if err != nil {
		return Info{}, &OpError{"head", key, err}
	}
	return info, nil
}

// Put writes the object whatever was there.
func (f *Folder) Put(ctx context.Context, key string, body io.Reader, size int64) (ETag, error) {
	// The body may be large and slow to come: it is on disk before the lock is taken.
	tag, err := f.put(ctx, key, contextReader{ctx, body}, size)
	if err != nil {
		return "", &OpError{"put", key, err}
	}
	return tag, nil
}

// PutIfAbsent creates the object.
func (f *Folder) PutIfAbsent(ctx context.Context, key string, body []byte) (ETag, error) {
	tag, err := f.swap(ctx, key, body, "")
	if err != nil {
		return "", &OpError{"put if absent", key, err}
	}
	return tag, nil
}

// PutIfMatch replaces the object that has this ETag.
func (f *Folder) PutIfMatch(ctx context.Context, key string, body []byte, etag ETag) (ETag, error) {
	if etag == "" { // No object has it; and to swap it means "absent".
		return "", &OpError{"put if match", key, ErrConditionFailed}
	}
	tag, err := f.swap(ctx, key, body, etag)
	if err != nil {
		return "", &OpError{"put if match", key, err}
	}
	return tag, nil
}

// Delete removes the object.
func (f *Folder) Delete(ctx context.Context, key string) error {
	if err := f.remove(ctx, key); err != nil {
		return &OpError{"delete", key, err}
	}
	return nil
}

// read opens the object, lets fn read it, and returns what it read once that is
// certain to be durable. The file of an object never changes, so fn reads one
// version however long it takes.
func (f *Folder) read(ctx context.Context, key string, fn func(*os.File, int64) ([]byte, error)) ([]byte, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return nil, err
	}
	body, err := f.readFile(key, fn)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	// The note is looked at after the file: it was set before the rename that made
	// this file visible (or invisible), and is taken away after the sync.
	if settled := f.settled(key); settled != nil {
		return nil, settled
	}
	return body, err
}

func (f *Folder) readFile(key string, fn func(*os.File, int64) ([]byte, error)) (body []byte, err error) {
	file, err := f.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if stat.IsDir() {
		return nil, ErrNotFound
	}
	return fn(file, stat.Size())
}

// put is swap without a condition and for bodies of any size.
func (f *Folder) put(ctx context.Context, key string, body io.Reader, size int64) (ETag, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return "", err
	}
	w, err := f.write(body, size)
	if err != nil {
		return "", err
	}
	defer w.close()
	s := f.stripeOf(key)
	if err := s.lock(ctx, f); err != nil {
		return "", err
	}
	defer s.unlock()
	return w.tag, f.change(s, key, func() error { return f.root.Rename(w.name, key) })
}

// swap writes body if the key holds an object with the ETag want, or none where
// want is empty. All of it under the lock: of writers that race for one key only
// the one that wins then pays for its syncs.
func (f *Folder) swap(ctx context.Context, key string, body []byte, want ETag) (ETag, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return "", err
	}
	if len(body) > MaxConditional {
		return "", ErrTooLarge
	}
	s := f.stripeOf(key)
	if err := s.lock(ctx, f); err != nil {
		return "", err
	}
	defer s.unlock()
	if have, err := f.currentTag(key); err != nil {
		return "", err
	} else if have != want {
		return "", ErrConditionFailed
	}
	w, err := f.write(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return "", err
	}
	defer w.close()
	return w.tag, f.change(s, key, func() error { return f.root.Rename(w.name, key) })
}

func (f *Folder) remove(ctx context.Context, key string) error {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return err
	}
	s := f.stripeOf(key)
	if err := s.lock(ctx, f); err != nil {
		return err
	}
	defer s.unlock()
	if tag, err := f.currentTag(key); err != nil || tag == "" {
		return err
	}
	return f.change(s, key, func() error { return f.root.Remove(key) })
}

// currentTag returns the ETag of what the key holds, empty for nothing.
func (f *Folder) currentTag(key string) (ETag, error) {
	var tag ETag
	_, err := f.readFile(key, func(file *os.File, _ int64) ([]byte, error) {
		sum := sha256.New()
		_, err := io.Copy(sum, file)
		tag = etagFrom(sum)
		return nil, err
	})
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return tag, err
}

// change does the one call that changes what a key holds, and makes it durable.
// The caller holds the lock of the key's stripe.
func (f *Folder) change(s *stripe, key string, call func() error) error {
	if err := f.ensureDir(path.Dir(key)); err != nil {
		return pathConflict(err)
	}
	if err := f.do(stepMark, func() error { return s.mark(key) }); err != nil {
		return err
	}
	if err := f.do(stepRename, call); err != nil {
		return errors.Join(pathConflict(err), s.clear())
	}
	err := f.do(stepSyncDir, func() error { return f.syncDir(path.Dir(key)) })
	if err == nil {
		err = f.do(stepClear, s.clear)
	}
	if err != nil {
		// Visible, and perhaps not durable. The note stays: nobody sees the object
		// before a sync of the directory has succeeded.
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	}
	return nil
}

// pathConflict explains the errors of a key that continues another key as a path.
func pathConflict(err error) error {
	for _, code := range []syscall.Errno{syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EEXIST} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: a part of it names an object, or it names a folder of objects: %w", ErrInvalidKey, err)
		}
	}
	return err
}

// written is a body that is on disk and not yet an object.
type written struct {
	root *os.Root
	file *os.File
	name string
	tag  ETag
}

// write puts a body durably into a file of its own.
func (f *Folder) write(body io.Reader, size int64) (*written, error) {
	if size < 0 {
		return nil, fmt.Errorf("%w: want %d bytes", ErrSize, size)
	}
	w := &written{root: f.root, name: writingDir + "/" + rand.Text()}
	err := f.do(stepCreate, func() (err error) {
		w.file, err = f.root.OpenFile(w.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := f.fill(w, body, size); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (f *Folder) fill(w *written, body io.Reader, size int64) error {
	// The lock tells a sweep that the writer is alive. It ends with the process.
	if ok, err := tryLock(w.file); err != nil || !ok {
		return errors.Join(errors.New("cannot lock a new file"), err)
	}
	sum := sha256.New()
	err := f.do(stepWrite, func() error {
		return copyExactly(io.MultiWriter(w.file, sum), body, size)
	})
	if err != nil {
		return err
	}
	w.tag = etagFrom(sum)
	return f.do(stepSync, w.file.Sync)
}

// close lets go of the file. If it has become an object, its old name is gone and
// there is nothing to remove; else what cannot be removed now is swept later.
func (w *written) close() {
	_ = w.root.Remove(w.name)
	_ = w.file.Close()
}

// ensureDir makes a directory of objects and sees to it that a power cut does not
// take it, or one above it, with what it holds.
func (f *Folder) ensureDir(dir string) error {
	f.mu.Lock()
	known := f.durable[dir]
	f.mu.Unlock()
	if known || dir == "." {
		return nil
	}
	if err := f.root.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for parent := path.Dir(dir); ; parent = path.Dir(parent) {
		if err := f.syncDir(parent); err != nil {
			return err
		}
		if parent == "." {
			break
		}
	}
	f.mu.Lock()
	f.durable[dir] = true
	f.mu.Unlock()
	return nil
}

func (f *Folder) syncDir(dir string) (err error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// do makes one step of a write.
func (f *Folder) do(s step, call func() error) error {
	if f.step != nil {
		if err := f.step(s); err != nil {
			return err
		}
	}
	return call()
}

func etagOf(body []byte) ETag {
	sum := sha256.Sum256(body)
	return ETag(hex.EncodeToString(sum[:16]))
}

func etagFrom(sum hash.Hash) ETag {
	return ETag(hex.EncodeToString(sum.Sum(nil)[:16]))
}

// readExactly returns length bytes; the caller has bounded it by the file's size.
func readExactly(file *os.File, offset, length int64) ([]byte, error) {
	body := make([]byte, length)
	if n, err := file.ReadAt(body, offset); n < len(body) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, length, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return body, nil
}

// copyExactly copies size bytes and makes sure that no more would come.
func copyExactly(dst io.Writer, src io.Reader, size int64) error {
	n, err := io.Copy(dst, io.LimitReader(src, size))
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrSize, n, size)
	}
	switch _, err := io.ReadFull(src, make([]byte, 1)); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: more than %d bytes", ErrSize, size)
	default:
		return err
	}
}

// contextReader stops reading when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// sweepAge is how old a file under way has to be before a sweep asks whether its
// writer is alive.
const sweepAge = time.Minute
