package bucket

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
)

// List walks the folder in the order of the keys.
func (f *Folder) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		l := lister{ctx: ctx, fsys: f.root.FS(), prefix: prefix, after: after, yield: yield}
		if err := l.walk(""); err != nil && !errors.Is(err, errStopped) {
			yield(Info{}, &OpError{"list", prefix, err})
		}
	}
}

// errStopped: the caller of the iteration has seen enough.
var errStopped = errors.New("stopped")

type lister struct {
	ctx           context.Context
	fsys          fs.FS
	prefix, after string
	yield         func(Info, error) bool
}

// walk lists the objects whose keys begin with dir, which is empty or ends with a slash.
func (l *lister) walk(dir string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	name := strings.TrimSuffix(dir, "/")
	if name == "" {
		name = "."
	}
	entries, err := fs.ReadDir(l.fsys, name)
	if err != nil {
		return err
	}
	// A key below a folder goes on with a slash, and that is how the folder sorts
	// among the objects beside it: "a-b" comes before "a/b".
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(sortName(a), sortName(b)) })
	for _, e := range entries {
		if segmentFault(e.Name()) != "" {
			continue // Ours (.quoit) or foreign: no object.
		}
		if err := l.visit(dir, e); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) visit(dir string, e fs.DirEntry) error {
	key := dir + sortName(e)
	if e.IsDir() {
		if !l.mayHold(key) {
			return nil
		}
		return l.walk(key)
	}
	if !e.Type().IsRegular() || !strings.HasPrefix(key, l.prefix) || key <= l.after {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Deleted meanwhile.
	}
	if err != nil {
		return err
	}
	if !l.yield(Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil) {
		return errStopped
	}
	return nil
}

// mayHold reports whether a key that begins with dir can be among those wanted.
func (l *lister) mayHold(dir string) bool {
	wanted := strings.HasPrefix(dir, l.prefix) || strings.HasPrefix(l.prefix, dir)
	passed := dir < l.after && !strings.HasPrefix(l.after, dir)
	return wanted && !passed
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}
