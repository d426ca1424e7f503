package bench

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are exact to about 3 %: for each
// power of two of nanoseconds, 32 buckets of equal width.
type histogram struct {
	buckets [64 * steps]int64
	count   int64
	max     time.Duration
}

const steps = 32

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 1))
	if n < steps {
		return int(n)
	}
	exp := bits.Len64(n) - 1                 // n is in [2^exp, 2^(exp+1))
	return exp*steps + int(n>>(exp-5))%steps // the five bits after the first
}

// upper is the largest duration of a bucket.
func upper(bucket int) time.Duration {
	exp, step := bucket/steps, bucket%steps
	if exp < 5 {
		return time.Duration(bucket)
	}
	return time.Duration(uint64(steps+step+1)<<(exp-5)) - 1
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)]++
	h.count++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// quantile returns a duration that the share q of all durations does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := int64(q*float64(h.count)), int64(0)
	for i, n := range h.buckets {
		if seen += n; n > 0 && seen > rank {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
