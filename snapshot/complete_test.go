package snapshot

import (
	"errors"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// TestTheArchiveIsCompleteAsOfTheLatestMomentThatWasSaid, whoever said it, and nobody who
// was taken over says anything.
func TestTheArchiveIsCompleteAsOfTheLatestMomentThatWasSaid(t *testing.T) {
	b := buckettest.NewMemory()
	s := storeOn(t, b)
	must(t, second(s.Claim(t.Context(), testCluster, 1)))
	want := func(c Complete) {
		t.Helper()
		h, err := s.Head(t.Context())
		must(t, err)
		if h.Complete != c {
			t.Errorf("the head says %+v, want %+v", h.Complete, c)
		}
	}
	want(Complete{})
	must(t, second(s.ArchiveUntil(t.Context(), LogPiece{From: 1, To: 2}, []byte("log"), Complete{100, 2})))
	want(Complete{100, 2})
	must(t, s.Vouch(t.Context(), Complete{90, 2})) // late
	must(t, second(s.Archive(t.Context(), LogPiece{From: 2, To: 3}, []byte("more"))))
	want(Complete{100, 2})
	before, err := s.Head(t.Context())
	must(t, err)
	must(t, s.Vouch(t.Context(), Complete{100, 3}))
	if h, err := s.Head(t.Context()); err != nil || h.Counter != before.Counter {
		t.Errorf("what is known was written again: %v", err)
	}
	must(t, s.Vouch(t.Context(), Complete{200, 3}))
	must(t, once(t.Context(), s, 1, content{}, content{"a"}))
	want(Complete{200, 3})

	next := storeOn(t, b)
	must(t, second(next.Claim(t.Context(), testCluster, 2)))
	var fenced *FencedError
	if err := s.Vouch(t.Context(), Complete{300, 3}); !errors.As(err, &fenced) {
		t.Errorf("of a process that was taken over: %v", err)
	}
	s = next
	want(Complete{200, 3})
}

func TestAHeadIsNotCompleteAsOfNoMoment(t *testing.T) {
	for _, c := range []Complete{{-1, 5}, {0, 5}} {
		h := Head{Cluster: testCluster, Node: testNode, Counter: 1, Nonce: "n", Complete: c}
		if _, err := h.Encode(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
