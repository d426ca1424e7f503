package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

func TestASnapshotExistsOnceItIsPublished(t *testing.T) {
	b := buckettest.NewMemory()
	s := storeOn(t, b)
	_, err := s.Current(t.Context())
	if !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("an empty bucket: got %v", err)
	}
	s = claimed(t, b, 4)
	if _, err = s.Current(t.Context()); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("nothing published: got %v", err)
	}
	first, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1000)
	must(t, err)
	second, err := publish(t.Context(), s, content{"a", "b"}, content{"a", "c"}, 2000)
	must(t, err)
	if second.Parts[0].Key != first.Parts[0].Key || second.Parts[1].Key == first.Parts[1].Key {
		t.Errorf("parts %v after %v: want the first one shared", second.Parts, first.Parts)
	}
	reader := storeOn(t, b) // Another process, which never claims.
	current, err := reader.Current(t.Context())
	must(t, err)
	expectContent(t, reader, current, content{"a", "c"})
	old, err := reader.Manifest(t.Context(), 1)
	must(t, err)
	expectContent(t, reader, old, content{"a", "b"})
	list, err := reader.List(t.Context())
	must(t, err)
	if len(list) != 2 || list[1].Sequence != 2 || list[1].Incarnation != 4 || list[1].Entries != 2 || list[1].Size != current.Size() {
		t.Errorf("the list is %+v", list)
	}
	if _, err := reader.Manifest(t.Context(), 3); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("snapshot 3: got %v", err)
	}
	if current.Cluster != testCluster || current.Node != testNode || string(current.State) != "ledger" {
		t.Errorf("the manifest is %+v", current)
	}
}

func TestWritingNeedsAClaim(t *testing.T) {
	s := storeOn(t, buckettest.NewMemory())
	_, upload := s.UploadPart(t.Context(), PartInfo{Size: minFile, IndexOffset: headerSize}, bytes.NewReader(make([]byte, minFile)), nil)
	_, publish := s.Publish(t.Context(), Manifest{})
	_, archive := s.Archive(t.Context(), LogPiece{}, []byte("x"))
	_, prune := s.Prune(t.Context(), PruneOptions{})
	_, sweep := s.Sweep(t.Context(), SweepOptions{})
	for i, err := range []error{upload, publish, archive, prune, sweep} {
		if !errors.Is(err, ErrNotClaimed) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
}

func TestTheHigherIncarnationHasIt(t *testing.T) {
	b := buckettest.NewMemory()
	old := claimed(t, b, 4)
	_, err := publish(t.Context(), old, content{}, content{"a", "b"}, 1)
	must(t, err)
	if _, err := old.Claim(t.Context(), testCluster, 4); err != nil {
		t.Errorf("claiming again: %v", err)
	}
	must(t, second(old.Claim(t.Context(), testCluster, 5)))
	fresh := claimed(t, b, 6)
	_, err = storeOn(t, b).Claim(t.Context(), testCluster, 5)
	expectFenced(t, "a claim", err)
	before := objects(t, b)
	m, err := snapshotOf(t.Context(), old, Manifest{}, content{}, content{"x", "y"}, 2)
	must(t, err) // It may add garbage: it does not know yet.
	_, err = old.Publish(t.Context(), m)
	expectFenced(t, "publishing", err)
	_, err = old.Prune(t.Context(), PruneOptions{Keep: 1})
	expectFenced(t, "pruning", err)
	_, err = old.Sweep(t.Context(), SweepOptions{})
	expectFenced(t, "sweeping", err)
	_, err = old.Archive(t.Context(), LogPiece{From: 1, To: 2}, []byte("x"))
	expectFenced(t, "archiving", err)
	_, err = old.Claim(t.Context(), testCluster, 9)
	expectFenced(t, "claiming once it was told", err)
	after := objects(t, b)
	for _, p := range m.Parts {
		delete(after, p.Key)
	}
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("objects are %v, want %v and the garbage", after, before)
	}
	current, err := fresh.Current(t.Context())
	must(t, err)
	expectContent(t, fresh, current, content{"a", "b"})
}

func second[T any](_ T, err error) error { return err }

func TestSnapshotsOfAnotherClusterAreNotTouched(t *testing.T) {
	b := buckettest.NewMemory()
	claimed(t, b, 4)
	_, err := storeOn(t, b).Claim(t.Context(), "another", 9)
	var id *IdentityError
	if !errors.As(err, &id) || id.Subject != "cluster" || id.Have != testCluster {
		t.Errorf("got %v", err)
	}
}

func TestAHeadThatGoesBackIsRefused(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	old, err := b.Get(t.Context(), s.keys.head())
	must(t, err)
	_, err = publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	must(t, err)
	must(t, second(b.Put(t.Context(), s.keys.head(), bytes.NewReader(old.Body), int64(len(old.Body)))))
	_, back := s.Head(t.Context())
	must(t, b.Delete(t.Context(), s.keys.head()))
	_, gone := s.Head(t.Context())
	_, publishing := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	for name, err := range map[string]error{"back": back, "gone": gone, "publishing": publishing} {
		if !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestPublishRefusesWhatIsNotThere(t *testing.T) {
	type at struct {
		store *Store
		b     bucket.Bucket
		m     *Manifest
	}
	for name, test := range map[string]struct {
		spoil func(t *testing.T, at at)
		want  string
	}{
		"a missing part": {func(t *testing.T, at at) { must(t, at.b.Delete(t.Context(), at.m.Parts[0].Key)) }, "missing"},
		"a part that is too short": {func(t *testing.T, at at) {
			must(t, second(at.b.Put(t.Context(), at.m.Parts[0].Key, strings.NewReader("x"), 1)))
		}, "missing"},
		"a part that is too long": {func(t *testing.T, at at) {
			body := make([]byte, at.m.Parts[0].Size+1)
			must(t, second(at.b.Put(t.Context(), at.m.Parts[0].Key, bytes.NewReader(body), int64(len(body)))))
		}, "damaged"},
		"another part's description": {func(_ *testing.T, at at) { at.m.Parts[0].Entries++ }, "another part"},
		"a part of an unknown snapshot": {func(_ *testing.T, at at) {
			at.m.Parts[0].Snapshot = NewID()
			at.m.Parts[0].Key = at.store.keys.part(at.m.Parts[0].Snapshot, 0)
		}, "neither new nor"},
		"log that was never archived": {func(_ *testing.T, at at) {
			at.m.Log = []LogPiece{{Key: at.store.keys.log(4, 1, 2), Incarnation: 4, From: 1, To: 2, Size: 1}}
		}, "not been archived"},
		"slices out of order": {func(_ *testing.T, at at) { slices.Reverse(at.m.Parts) }, "ring order"},
	} {
		t.Run(name, func(t *testing.T) {
			b := buckettest.NewMemory()
			s := claimed(t, b, 4)
			m, err := snapshotOf(t.Context(), s, Manifest{}, content{}, content{"a", "b"}, 1)
			must(t, err)
			test.spoil(t, at{s, b, &m})
			if _, err = s.Publish(t.Context(), m); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something about %q", err, test.want)
			}
			if _, err := s.Current(t.Context()); !errors.Is(err, ErrNoSnapshot) {
				t.Errorf("after that: got %v", err)
			}
		})
	}
}

// liar gives back other manifests than it was given.
type liar struct{ *buckettest.Memory }

func (l liar) Get(ctx context.Context, key string) (bucket.Object, error) {
	o, err := l.Memory.Get(ctx, key)
	if strings.Contains(key, "/manifests/") && err == nil {
		o.Body[len(o.Body)/2] ^= 1
	}
	return o, err
}

func TestPublishReadsTheManifestBack(t *testing.T) {
	b := liar{buckettest.NewMemory()}
	s := claimed(t, b, 4)
	if _, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
	if h := must1(s.Head(t.Context())); h.Sequence() != 0 {
		t.Errorf("snapshot %d was published all the same", h.Sequence())
	}
}

func TestUploadRefusesOtherBytes(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	file, info := writePart(t, someEntries(100, 10), WriterOptions{})
	flipped := bytes.Clone(file)
	flipped[100] ^= 1
	for name, body := range map[string][]byte{"flipped": flipped, "short": file[:len(file)-1]} {
		if _, err := s.UploadPart(t.Context(), info, bytes.NewReader(body), nil); !errors.Is(err, errChanged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := objects(t, b); len(got) != 1 {
		t.Errorf("the bucket holds %v, want a head alone", got)
	}
}

func TestUploadsTellProgressAndKeepToTheirLimit(t *testing.T) {
	file, info := writePart(t, someEntries(1000, 100), WriterOptions{})
	b := buckettest.NewFaulty(buckettest.NewMemory(), buckettest.InTurn("Put", buckettest.Busy(), buckettest.LoseReply()))
	s := claimed(t, b, 4)
	s.o.Limiter = rate.NewLimiter(rate.Inf, 1000)
	var sent, most int64
	_, err := s.UploadPart(t.Context(), info, bytes.NewReader(file), func(n int64) {
		sent += n
		most = max(most, n)
	})
	must(t, err)
	if sent != info.Size || most > 1000 {
		t.Errorf("progress of %d bytes in steps of up to %d, want %d in steps of the burst", sent, most, info.Size)
	}
	s.o.Limiter = rate.NewLimiter(0, 10) // A standstill after ten bytes.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.UploadPart(ctx, info, bytes.NewReader(file), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an upload that is cancelled while it waits for its turn: got %v", err)
	}
}

func TestArchivedLogGoesIntoTheNextSnapshot(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	one, err := s.Archive(t.Context(), LogPiece{From: 0, To: 10, FirstMS: 1, LastMS: 2}, []byte("one"))
	must(t, err)
	two, err := s.Archive(t.Context(), LogPiece{From: 10, To: 20, FirstMS: 2, LastMS: 3}, []byte("two"))
	must(t, err)
	must(t, second(s.Archive(t.Context(), LogPiece{From: 10, To: 20, FirstMS: 2, LastMS: 3}, []byte("two"))))
	h, err := s.Head(t.Context())
	must(t, err)
	if !slices.Equal(h.Log, []LogPiece{one, two}) {
		t.Fatalf("the head has %v", h.Log)
	}
	m, err := snapshotOf(t.Context(), s, Manifest{}, content{}, content{"a", "b"}, 1)
	must(t, err)
	m.Log = []LogPiece{one}
	m, err = s.Publish(t.Context(), m)
	must(t, err)
	h, err = s.Head(t.Context())
	must(t, err)
	if !slices.Equal(h.Log, []LogPiece{two}) {
		t.Errorf("after the snapshot the head has %v, want what the manifest does not have", h.Log)
	}
	expectContent(t, s, m, content{"a", "b"})
	body, err := s.ReadLog(t.Context(), one)
	must(t, err)
	if string(body) != "one" {
		t.Errorf("read %q", body)
	}
	must(t, second(b.Put(t.Context(), one.Key, strings.NewReader("onf"), 3)))
	report, err := s.Verify(t.Context(), m, VerifyOptions{Level: LevelBlocks})
	must(t, err)
	if len(report.Damage) != 1 || corruption(t, report.Damage[0]).Object != one.Key {
		t.Errorf("a flipped bit in the log: got %v", report.Damage)
	}
	must(t, second(b.Put(t.Context(), one.Key, strings.NewReader("on"), 2)))
	report, err = s.Verify(t.Context(), m, VerifyOptions{Level: LevelManifest})
	must(t, err)
	if len(report.Damage) != 1 || !errors.Is(report.Damage[0], ErrMissing) {
		t.Errorf("a piece of log that is too short: got %v", report.Damage)
	}
}

func TestVerifyTellsAllDamage(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	m, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	must(t, err)
	spoil := func(key string, at int64) {
		o, err := b.Get(t.Context(), key)
		must(t, err)
		o.Body[at] ^= 1
		must(t, second(b.Put(t.Context(), key, bytes.NewReader(o.Body), int64(len(o.Body)))))
	}
	spoil(m.Parts[0].Key, headerSize+3)
	for level, want := range map[Level]int{LevelManifest: 0, LevelBlocks: 1} {
		report, err := s.Verify(t.Context(), m, VerifyOptions{Level: level})
		must(t, err)
		if len(report.Damage) != want {
			t.Errorf("level %d found %v, want %d damages", level, report.Damage, want)
		}
	}
	must(t, b.Delete(t.Context(), m.Parts[1].Key))
	report, err := s.Verify(t.Context(), m, VerifyOptions{Level: LevelBlocks, Workers: 1})
	must(t, err)
	if len(report.Damage) != 2 || !errors.Is(report.Damage[1], ErrMissing) {
		t.Errorf("got %v", report.Damage)
	}
	k, _ := must1(s.Head(t.Context())).Current()
	spoil(k.Manifest, 30)
	_, err = storeOn(t, b).Current(t.Context())
	if c := corruption(t, err); c.Object != k.Manifest {
		t.Errorf("a flipped bit in the manifest: got %v", err)
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTwoPublishersNeverShareASequence(t *testing.T) {
	b := buckettest.NewMemory()
	claimed(t, b, 4)
	var wg sync.WaitGroup
	const publishers, each = 4, 5
	for i := range publishers {
		wg.Go(func() {
			s := storeOn(t, b)
			if _, err := s.Attach(t.Context()); err != nil {
				t.Error(err)
				return
			}
			for done := 0; done < each; {
				value := fmt.Sprintf("%d-%d", i, done)
				m, err := publish(t.Context(), s, content{}, content{value, value}, 1)
				switch {
				case err == nil:
					expectContent(t, s, m, content{value, value})
					done++
				case !errors.Is(err, ErrSuperseded):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	list, err := storeOn(t, b).List(t.Context())
	must(t, err)
	for i, k := range list {
		if k.Sequence != uint64(i+1) {
			t.Errorf("snapshot %d has sequence %d", i, k.Sequence)
		}
	}
	if len(list) != publishers*each {
		t.Errorf("%d snapshots, want %d", len(list), publishers*each)
	}
}

func TestNodeNamesAreReversible(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:7401":  "10.0.0.1__7401",
		"[::1]:7401":     "_5b____1_5d__7401",
		"Node_A.lan:1":   "_4eode_5f_41.lan__1",
		".hidden:1":      "_2ehidden__1",
		"a~b!c/d:65535":  "a_7eb_21c_2fd__65535",
		"node-0.quoit:7": "node-0.quoit__7",
	} {
		name, err := NodeName(address)
		if ring.ValidateAddress(address) != nil {
			if err == nil {
				t.Errorf("%q is no address, and has the name %q", address, name)
			}
			continue
		}
		must(t, err)
		if name != want {
			t.Errorf("%q has the name %q, want %q", address, name, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.StringMatching(`[!-~]{1,60}:[1-9][0-9]{0,3}`).Draw(t, "address")
		name, err := NodeName(address)
		if err != nil {
			return
		}
		must(t, bucket.ValidateKey("nodes/"+name+"/head.json"))
		back, err := ParseNodeName(name)
		must(t, err)
		if back != address {
			t.Fatalf("%q became %q and then %q", address, name, back)
		}
	})
	for _, name := range []string{"", "_", "_4", "_zz", "a", "_41__1_", "A__1", "a_3a1", "_61__1"} {
		if got, err := ParseNodeName(name); err == nil {
			t.Errorf("%q was read as %q", name, got)
		}
	}
	if _, err := NodeName(strings.Repeat("h", 210) + ":1"); !errors.Is(err, bucket.ErrInvalidKey) {
		t.Errorf("a host name of 210 characters: got %v", err)
	}
}

func TestNodesOfABucket(t *testing.T) {
	b := buckettest.NewMemory()
	want := []string{"10.0.0.1:7401", "10.0.0.1:7402", "[::1]:7401"}
	for _, node := range want {
		s, err := NewStore(b, node, StoreOptions{})
		must(t, err)
		must(t, second(s.Claim(t.Context(), testCluster, 1)))
		must(t, second(s.Archive(t.Context(), LogPiece{From: 1, To: 2}, []byte("x"))))
	}
	must(t, second(b.PutIfAbsent(t.Context(), "nodes/not-ours/x", nil)))
	must(t, second(b.PutIfAbsent(t.Context(), "zebra", nil)))
	var got []string
	for node, err := range Nodes(t.Context(), b) {
		must(t, err)
		got = append(got, node)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSlicesCoverTheRing(t *testing.T) {
	for bits := range 15 {
		next := uint64(0)
		for _, s := range Slices(bits) {
			if uint64(s.First) != next || s.Last < s.First {
				t.Fatalf("%d bits: slice %v does not begin at %d", bits, s, next)
			}
			next = uint64(s.Last) + 1
		}
		if next != 1<<32 {
			t.Fatalf("%d bits: the last slice ends at %d", bits, next)
		}
	}
	for _, test := range []struct {
		held, positions uint64
		bits            int
	}{{0, 0, 0}, {1 << 20, 1 << 32, 0}, {1 << 30, 1 << 32, 3}, {1 << 30, 1 << 30, 5}, {1 << 50, 1 << 32, 14}} {
		if got := SliceBits(test.held, test.positions); got != test.bits {
			t.Errorf("%d bytes on %d positions: %d bits, want %d", test.held, test.positions, got, test.bits)
		}
	}
}

var longAgo = time.UnixMilli(1_700_000_000_000)

// TestWhatWasSaidOfTheEndIsTakenBack only as far as it has to be, and by nobody whose
// place has been taken.
func TestWhatWasSaidOfTheEndIsTakenBack(t *testing.T) {
	b := buckettest.NewMemory()
	s, ctx := claimed(t, b, 1), context.Background()
	must(t, s.Vouch(ctx, Complete{At: 100, To: 8}))
	for _, step := range []struct {
		after int64
		want  Complete
	}{{100, Complete{100, 8}}, {50, Complete{50, 8}}, {70, Complete{50, 8}}, {0, Complete{}}} {
		must(t, s.Retract(ctx, step.after))
		if h, err := s.Head(ctx); err != nil || h.Complete != step.want {
			t.Errorf("taken back behind %d it is %+v, %v; want %+v", step.after, h.Complete, err, step.want)
		}
	}
	claimed(t, b, 2)
	expectFenced(t, "taking back", s.Retract(ctx, 0))
	expectFenced(t, "vouching", s.Vouch(ctx, Complete{At: 200, To: 8}))
}
