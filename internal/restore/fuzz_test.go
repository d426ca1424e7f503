package restore

import (
	"errors"
	"slices"
	"testing"
)

// FuzzProgress: the note of a restore that was broken off is a value in the cluster, so
// anybody's. What is no note of this very restore is refused.
func FuzzProgress(f *testing.F) {
	m := &Moment{cluster: "c-1", at: 7, plan: &plan{}}
	f.Add([]byte(`{"cluster":"c-1","moment":"` + m.Digest() + `","done":[0,2]}`))
	f.Add([]byte(`{"cluster":"c-2","moment":"` + m.Digest() + `","done":[0]}`))
	f.Add([]byte(`{"cluster":"c-1","moment":"00","done":null}`))
	f.Add([]byte(`{"done":[-1,99999999999999999999]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &filling{m: m}
		err := r.resume(body)
		if ours := r.note.Cluster == m.cluster && r.note.Moment == m.Digest(); (err == nil) != r.note.resumed || err == nil && !ours {
			t.Fatalf("%q is taken for the note %+v (%v)", body, r.note, err)
		}
		if err == nil || errors.Is(err, ErrOtherRestore) {
			return
		}
		if slices.Equal(body, []byte("null")) {
			t.Fatal("null is no note, and none that is broken")
		}
	})
}
