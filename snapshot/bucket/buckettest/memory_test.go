package buckettest_test

import (
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestMemory(t *testing.T) {
	buckettest.Test(t, func(*testing.T) func() bucket.Bucket {
		m := buckettest.NewMemory()
		return func() bucket.Bucket { return m }
	})
}

// TestFaultyIsABucket: without a fault the decorator takes nothing away.
func TestFaultyIsABucket(t *testing.T) {
	buckettest.Test(t, func(*testing.T) func() bucket.Bucket {
		m := buckettest.NewMemory()
		return func() bucket.Bucket {
			return buckettest.NewFaulty(m, func(buckettest.Op) buckettest.Fault { return buckettest.Fault{} })
		}
	})
}
