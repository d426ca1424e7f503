package bucket

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// prepare makes an empty folder a bucket, or makes sure that it is one.
func (f *Folder) prepare() error {
	err := f.checkFormat()
	if errors.Is(err, fs.ErrNotExist) {
		err = f.create()
	}
	if err != nil {
		return err
	}
	return f.sweep(time.Now().Add(-sweepAge))
}

func (f *Folder) checkFormat() error {
	file, err := f.root.Open(formatFile)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(file, 64))
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	version, ok := strings.CutPrefix(string(text), formatPrefix)
	switch {
	case string(text) == formatText:
		return nil
	case ok:
		return fmt.Errorf("its format is %.20q, and this program knows 1 only: "+
			"use the release that wrote it, or a newer one", strings.TrimSpace(version))
	}
	return fmt.Errorf("%s is damaged: want the line %q", formatFile, formatText)
}

// create lays out the hidden folder. Others may do the same at the same time; the
// format file, which comes last, says that it is done.
func (f *Folder) create() error {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != hiddenDir && e.Name() != "lost+found" {
			// Or somebody has laid it out since, and written this object.
			if err := f.checkFormat(); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return fmt.Errorf("it holds %q and is no bucket: name an empty folder "+
				"(for the copy of a bucket, copy %s too)", e.Name(), hiddenDir)
		}
	}
	for _, dir := range []string{locksDir, writingDir} {
		if err := f.root.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	w, err := f.write(strings.NewReader(formatText), int64(len(formatText)))
	if err != nil {
		return err
	}
	defer w.close()
	if err := f.root.Rename(w.name, formatFile); err != nil {
		return err
	}
	return errors.Join(f.syncDir(hiddenDir), f.syncDir("."))
}

// sweep removes what killed writers left under way: files last written before
// the given time that nobody holds locked. A writer that was stopped for so long
// between making its file and locking it finds it gone and fails, and nothing
// worse comes of it.
func (f *Folder) sweep(before time.Time) error {
	entries, err := fs.ReadDir(f.root.FS(), writingDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue // Gone meanwhile, or too young.
		}
		if err := f.sweepFile(writingDir + "/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (f *Folder) sweepFile(name string) (err error) {
	file, err := f.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if free, err := tryLock(file); err != nil || !free {
		return err
	}
	return f.root.Remove(name)
}
