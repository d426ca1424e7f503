package buckettest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// faulty returns a bucket that holds "old" under "object", and its decorator.
func faulty(t *testing.T, decide func(buckettest.Op) buckettest.Fault) (*buckettest.Memory, *buckettest.Faulty) {
	t.Helper()
	m := buckettest.NewMemory()
	if _, err := m.PutIfAbsent(t.Context(), "object", []byte("old")); err != nil {
		t.Fatal(err)
	}
	return m, buckettest.NewFaulty(m, decide)
}

// set swaps the object for a body.
func set(ctx context.Context, t *testing.T, b bucket.Bucket, body string) error {
	t.Helper()
	o, err := b.Get(context.Background(), "object")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.PutIfMatch(ctx, "object", []byte(body), o.ETag)
	return err
}

func wantObject(t *testing.T, b bucket.Bucket, want string) {
	t.Helper()
	o, err := b.Get(context.Background(), "object")
	if err != nil || string(o.Body) != want {
		t.Errorf("object holds %q, %v; want %q", o.Body, err, want)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault buckettest.Fault
		want  error
		holds string
	}{
		{"none", buckettest.Fault{}, nil, "new"},
		{"lost request", buckettest.LoseRequest(), bucket.ErrInDoubt, "old"},
		{"lost reply", buckettest.LoseReply(), bucket.ErrInDoubt, "new"},
		{"busy", buckettest.Busy(), bucket.ErrUnavailable, "old"},
		{"conflict", buckettest.Conflict(), bucket.ErrConditionFailed, "old"},
		{"own conflict", buckettest.OwnConflict(), bucket.ErrConditionFailed, "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, f := faulty(t, buckettest.InTurn("PutIfMatch", c.fault))
			if err := set(t.Context(), t, f, "new"); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			wantObject(t, m, c.holds)
			if err := set(t.Context(), t, f, "newer"); err != nil {
				t.Errorf("the second call: %v", err)
			}
			wantObject(t, m, "newer")
			if got := f.Calls("PutIfMatch"); got != 2 {
				t.Errorf("%d calls counted, want 2", got)
			}
		})
	}
}

// TestLate: the call returns in doubt, and happens when it is let go.
func TestLate(t *testing.T) {
	release := make(chan struct{})
	m, f := faulty(t, buckettest.InTurn("PutIfMatch", buckettest.Fault{Late: release}))
	if err := set(t.Context(), t, f, "new"); !errors.Is(err, bucket.ErrInDoubt) {
		t.Errorf("error is %v, want ErrInDoubt", err)
	}
	wantObject(t, m, "old")
	close(release)
	f.Drain()
	wantObject(t, m, "new")
}

// TestLateLoses: a late swap meets its condition as it is by then.
func TestLateLoses(t *testing.T) {
	release := make(chan struct{})
	m, f := faulty(t, buckettest.InTurn("PutIfMatch", buckettest.Fault{Late: release}))
	_ = set(t.Context(), t, f, "late")
	if err := set(t.Context(), t, f, "sooner"); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantObject(t, m, "sooner")
}

// TestWait: a write whose caller gives up waiting is in doubt and still happens; a
// read is just not answered.
func TestWait(t *testing.T) {
	release := make(chan struct{})
	m, f := faulty(t, func(op buckettest.Op) buckettest.Fault {
		if op.Method == "PutIfMatch" || op.Method == "Head" {
			return buckettest.Fault{Wait: release}
		}
		return buckettest.Fault{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set(ctx, t, f, "new"); !errors.Is(err, bucket.ErrInDoubt) || !errors.Is(err, context.Canceled) {
		t.Errorf("a write given up: %v", err)
	}
	if _, err := f.Head(ctx, "object"); !errors.Is(err, context.Canceled) || errors.Is(err, bucket.ErrInDoubt) {
		t.Errorf("a read given up: %v", err)
	}
	wantObject(t, m, "old")
	close(release)
	f.Drain()
	wantObject(t, m, "new")
	if _, err := f.Head(t.Context(), "object"); err != nil {
		t.Errorf("a read that is let go: %v", err)
	}
}

// TestEveryMethodCanFail: none slips by.
func TestEveryMethodCanFail(t *testing.T) {
	_, f := faulty(t, func(buckettest.Op) buckettest.Fault { return buckettest.Busy() })
	ctx := t.Context()
	errs := map[string]error{}
	_, errs["Get"] = f.Get(ctx, "object")
	_, errs["GetRange"] = f.GetRange(ctx, "object", 0, 1)
	_, errs["Head"] = f.Head(ctx, "object")
	_, errs["Put"] = f.Put(ctx, "object", strings.NewReader("x"), 1)
	_, errs["PutIfAbsent"] = f.PutIfAbsent(ctx, "object", nil)
	_, errs["PutIfMatch"] = f.PutIfMatch(ctx, "object", nil, "x")
	errs["Delete"] = f.Delete(ctx, "object")
	for _, err := range f.List(ctx, "", "") {
		errs["List"] = err
	}
	for method, err := range errs {
		if !errors.Is(err, bucket.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", method, err)
		}
	}
}
