package snapshot

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// mute is a bucket that fails every read after half a minute of silence.
type mute struct{ bucket.Bucket }

func (mute) Get(ctx context.Context, _ string) (bucket.Object, error) {
	_ = wait(ctx, 30*time.Second)
	return bucket.Object{}, bucket.ErrUnavailable
}

// TestSilenceIsNotTriedTwelveTimes: that was six minutes for one small read, and a
// multiple of it for a change of the head.
func TestSilenceIsNotTriedTwelveTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewStore(mute{buckettest.NewMemory()}, testNode, StoreOptions{})
		must(t, err)
		began := time.Now()
		if _, err := s.Claim(t.Context(), testCluster, 1); !bucket.IsRetryable(err) {
			t.Errorf("error is %v", err)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("it was told after %v", took)
		}
	})
}
