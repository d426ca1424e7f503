package transfer

import (
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// Folder yields every regular file under a folder: its path below the folder, with
// forward slashes, is the key, its bytes are the value. Symbolic links are passed
// over, but for the folder itself. A file larger than limit is an error that names it.
func Folder(dir string, limit int64) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		root, err := filepath.EvalSymlinks(dir)
		if err != nil {
			yield(Item{}, err)
			return
		}
		err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			item, err := readFile(root, name, limit)
			if err != nil {
				return err
			}
			if !yield(item, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Item{}, err)
		}
	}
}

func readFile(root, name string, limit int64) (Item, error) {
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return Item{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return Item{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Item{}, err
	}
	value := make([]byte, 0, min(info.Size(), limit)+1)
	for int64(len(value)) <= limit {
		n, err := f.Read(value[len(value):cap(value)])
		value = value[:len(value)+n]
		switch {
		case err == io.EOF:
			return Item{Key: filepath.ToSlash(rel), Value: value}, nil
		case err != nil:
			return Item{}, err
		case len(value) == cap(value): // it grows while it is read
			value = append(value, 0)[:len(value)]
		}
	}
	return Item{}, fmt.Errorf("%s is larger than %d bytes, the most that a value takes", name, limit)
}
