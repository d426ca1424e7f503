package keeper

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/snapshot"
)

// TestAPartIsOpenedOnceForAllWhoWantIt: a bucket may take its time for a part. Whoever
// wants the part meanwhile waits for it and not for a mutex, in which a synctest bubble
// would stand still.
func TestAPartIsOpenedOnceForAllWhoWantIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, opened := errors.New("the bucket is away"), 0
		base := &Base{Manifest: snapshot.Manifest{Parts: make([]snapshot.Part, 1)}}
		base.open = func(context.Context, snapshot.Part) (*snapshot.Reader, io.Closer, error) {
			<-time.After(time.Second)
			opened++
			return nil, nil, away
		}
		l := loader{ctx: t.Context(), base: base, readers: make([]lazyReader, 1)}
		results := make(chan error)
		for range 4 {
			go func() {
				_, _, err := l.part(0)
				results <- err
			}()
		}
		for range 4 {
			if err := <-results; !errors.Is(err, away) {
				t.Errorf("who wants the part is told %v, want what opening it has come to", err)
			}
		}
		if opened != 1 {
			t.Errorf("the part was opened %d times, want once", opened)
		}
	})
}
