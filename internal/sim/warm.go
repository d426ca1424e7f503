package sim

import (
	"bytes"
	"context"
	"sync"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// warm makes what the process makes once, lazily, and keeps: with channels of its own,
// which belong to no bubble as long as they are made outside of all.
var warm = sync.OnceValue(func() error {
	var file bytes.Buffer
	w, err := snapshot.NewWriter(&file, snapshot.WriterOptions{})
	if err != nil {
		return err
	}
	key := []byte("key")
	if err := w.Add(snapshot.Entry{Position: ring.PositionOf(key), Key: key, Value: make([]byte, 1024), Version: 1}); err != nil {
		return err
	}
	if _, err := w.Close(); err != nil {
		return err
	}
	r, err := snapshot.OpenReader(context.Background(), snapshot.InFile(bytes.NewReader(file.Bytes())), snapshot.ReaderOptions{Object: "warm", Size: int64(file.Len())})
	if err != nil {
		return err
	}
	for _, err := range r.All(context.Background()) {
		if err != nil {
			return err
		}
	}
	return nil
})
