package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreOrderedAndHoldTheirDurations(t *testing.T) {
	last := -1
	for _, d := range []time.Duration{0, 1, 5, 31, 32, 33, 63, 64, 100, 1000, 123456, time.Millisecond, time.Second, time.Hour} {
		b := bucketOf(d)
		if b < last {
			t.Errorf("bucket of %v is %d, before that of a shorter duration", d, b)
		}
		last = b
		if u := upper(b); u < max(d, 1) || float64(u) > float64(max(d, 1))*1.04+1 {
			t.Errorf("bucket of %v ends at %v: not within 4 %%", d, u)
		}
	}
}

func TestQuantilesComeCloseToTheSortedSample(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	sample := make([]time.Duration, 10000)
	for i := range sample {
		sample[i] = time.Duration(random.ExpFloat64() * 1e6)
		h.add(sample[i])
	}
	slices.Sort(sample)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want, got := sample[int(q*float64(len(sample)))], h.quantile(q)
		if float64(got) < float64(want)*0.96 || float64(got) > float64(want)*1.04 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	if h.quantile(1) != h.max {
		t.Errorf("quantile 1 is %v, want the longest, %v", h.quantile(1), h.max)
	}
}

func TestMergeIsTheSumOfBoth(t *testing.T) {
	var a, b, all histogram
	for i := range 1000 {
		d := time.Duration(i*i) * time.Microsecond
		all.add(d)
		if i%3 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	if a != all {
		t.Error("two parts merged are not the whole")
	}
}

func TestKeysSortAndHaveOneLength(t *testing.T) {
	if a, b := key(7), key(123456); len(a) != 16 || len(b) != 16 || a >= b {
		t.Errorf("keys %q and %q: want 16 bytes each, in order", a, b)
	}
}
