package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/client"
)

// Source is what Export needs of a client.
type Source interface {
	Scan(ctx context.Context, o client.ScanOptions) iter.Seq2[client.Entry, error]
	TTL(ctx context.Context, key string) (time.Duration, error)
}

const (
	pageKeys  = 512
	pageBytes = 8 << 20
	// askers is how many times to live are asked for at once; the client puts them
	// into few messages.
	askers = 64
)

// Export writes every key that the options choose as a line of JSON, with its value
// and time to live, and returns what it wrote.
func Export(ctx context.Context, db Source, o client.ScanOptions, w io.Writer, report func(Progress)) (Progress, error) {
	o.Values = true
	out := NewEncoder(w)
	x := &exporter{db: db, out: out, meter: meter{began: time.Now(), report: report}}
	for entry, err := range db.Scan(ctx, o) {
		if err == nil {
			err = x.add(ctx, entry)
		}
		if err != nil {
			return x.meter.progress(), err
		}
	}
	if err := x.flush(ctx); err != nil {
		return x.meter.progress(), err
	}
	return x.meter.progress(), out.Flush()
}

// exporter gathers a page of entries, asks for their times to live, and writes them.
type exporter struct {
	db    Source
	out   *Encoder
	page  []client.Entry
	bytes int64
	meter meter
}

func (x *exporter) add(ctx context.Context, e client.Entry) error {
	x.page = append(x.page, e)
	x.bytes += int64(len(e.Key) + len(e.Value))
	if len(x.page) < pageKeys && x.bytes < pageBytes {
		return nil
	}
	return x.flush(ctx)
}

func (x *exporter) flush(ctx context.Context) error {
	ttls, err := x.ttls(ctx)
	if err != nil {
		return err
	}
	var keys, bytes int64
	for i, e := range x.page {
		if ttls[i] == gone {
			continue
		}
		if err := x.out.Add(Item{Key: e.Key, Value: e.Value, TTL: ttls[i]}); err != nil {
			return err
		}
		keys++
		bytes += int64(len(e.Key) + len(e.Value))
	}
	clear(x.page) // let go of the values
	x.page, x.bytes = x.page[:0], 0
	x.meter.add(keys, bytes)
	return nil
}

// gone marks a key that was deleted since it was read.
const gone time.Duration = -2

// ttls asks for the time to live of each entry of the page.
func (x *exporter) ttls(ctx context.Context) ([]time.Duration, error) {
	all := make([]time.Duration, len(x.page))
	g, ctx := errgroup.WithContext(ctx)
	for first := range min(askers, len(x.page)) {
		g.Go(func() error {
			for i := first; i < len(all); i += askers {
				ttl, err := x.ttl(ctx, x.page[i].Key)
				if err != nil {
					return err
				}
				all[i] = ttl
			}
			return nil
		})
	}
	return all, g.Wait()
}

// ttl is 0 for a key that stays.
func (x *exporter) ttl(ctx context.Context, key string) (time.Duration, error) {
	ttl, err := x.db.TTL(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound) || err == nil && ttl == 0: // it ends in this very millisecond
		return gone, nil
	case err != nil:
		return 0, fmt.Errorf("time to live of %s: %w", quoted(key), err)
	case ttl == client.NoExpiry:
		return 0, nil
	}
	return ttl, nil
}

// ExportFile is Export into a file. Either the whole export is under its name when
// it returns, or what was there before. What is no regular file (a device, a pipe)
// is written to as it is.
func ExportFile(ctx context.Context, db Source, o client.ScanOptions, name string, report func(Progress)) (p Progress, err error) {
	err = WriteFile(name, func(w io.Writer) error {
		p, err = Export(ctx, db, o, w, report)
		return err
	})
	return p, err
}

// WriteFile puts what write writes under a name: all of it, or, when write fails, what
// was there before. What is no regular file is written to as it is.
func WriteFile(name string, write func(io.Writer) error) (err error) {
	target, mode, err := exportTarget(name)
	if err != nil {
		return err
	}
	if !mode.IsRegular() {
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".quoit-export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err = write(f); err == nil {
		err = errors.Join(f.Chmod(mode.Perm()), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

// Encoder writes items as lines of JSON, as [JSONLines] reads them.
type Encoder struct {
	out  *bufio.Writer
	json *json.Encoder
}

// NewEncoder returns an Encoder that writes to w. Flush it at the end.
func NewEncoder(w io.Writer) *Encoder {
	e := &Encoder{out: bufio.NewWriterSize(w, 1<<20)}
	e.json = json.NewEncoder(e.out)
	e.json.SetEscapeHTML(false)
	return e
}

// Add writes an item.
func (e *Encoder) Add(i Item) error { return e.json.Encode(newRecord(i.Key, i.Value, i.TTL)) }

// Flush writes what is buffered.
func (e *Encoder) Flush() error { return e.out.Flush() }

// exportTarget follows symbolic links to what a name means, and says how the file
// is or will be. A new one is for its owner only: it may hold anything.
func exportTarget(name string) (string, fs.FileMode, error) {
	const private fs.FileMode = 0o600
	target, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		return name, private, nil
	}
	if err != nil {
		return "", 0, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", 0, err
	}
	if info.IsDir() {
		return "", 0, fmt.Errorf("%s is a folder, not a file to write to", name)
	}
	return target, info.Mode(), nil
}
