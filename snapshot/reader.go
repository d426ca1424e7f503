package snapshot

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// ReaderOptions says how a [Reader] works.
type ReaderOptions struct {
	// Object names the file in errors. Required.
	Object string
	// Size of the file in bytes. Required.
	Size int64
	// Expect is what a manifest says of the file, which it then has to be; nil takes any part.
	Expect *PartInfo
	// RequestBytes bounds one ranged read, unless a single block is larger: 8 MiB if 0.
	RequestBytes int64
	// GapBytes is how many unwanted bytes are read rather than making another request: 1 MiB if 0.
	GapBytes int64
	// InFlight bounds the ranged reads under way for one iteration: 2 if 0. Together
	// with RequestBytes it bounds the memory.
	InFlight int
}

func (o *ReaderOptions) setDefaults() {
	if o.RequestBytes <= 0 {
		o.RequestBytes = 8 << 20
	}
	if o.GapBytes <= 0 {
		o.GapBytes = 1 << 20
	}
	if o.InFlight <= 0 {
		o.InFlight = 2
	}
}

// Reader reads a part file. It holds the index and nothing else: any number of
// goroutines may iterate at once.
type Reader struct {
	src    Source
	o      ReaderOptions
	id     identity
	info   PartInfo
	blocks []Block
	head   []byte // header
	tail   []byte // index and footer
}

// OpenReader reads header, index and footer of a part file and checks them.
func OpenReader(ctx context.Context, src Source, o ReaderOptions) (*Reader, error) {
	o.setDefaults()
	r := &Reader{src: src, o: o}
	if o.Size < minFile || o.Size > MaxPart {
		return nil, r.corrupt(SectionFile, 0, max(o.Size, 0), "it is %d bytes long, want %d to %d: its end is missing, or it is no snapshot part", o.Size, minFile, int64(MaxPart))
	}
	if err := r.openHeader(ctx); err != nil {
		return nil, err
	}
	f, err := r.openFooter(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.openIndex(ctx, f); err != nil {
		return nil, err
	}
	return r, r.meetsExpectation()
}

func (r *Reader) openHeader(ctx context.Context) error {
	b, err := r.read(ctx, SectionHeader, 0, headerSize, nil)
	if err != nil {
		return err
	}
	id, version, fault := decodeHeader(b)
	switch {
	case fault != "":
		return r.corrupt(SectionHeader, 0, headerSize, "%s", fault)
	case version > FormatVersion:
		return &VersionError{r.o.Object, version, FormatVersion}
	case version != FormatVersion:
		return r.corrupt(SectionHeader, 0, headerSize, "it says that its version is %d, which never was", version)
	}
	r.id, r.head = id, b
	return nil
}

func (r *Reader) openFooter(ctx context.Context) (footer, error) {
	offset := r.o.Size - footerSize
	b, err := r.read(ctx, SectionFooter, offset, footerSize, nil)
	if err != nil {
		return footer{}, err
	}
	f, fault := decodeFooter(b, r.o.Size)
	if fault == "" && (f.Snapshot != r.id.snapshot || f.Number != r.id.part) {
		fault = fmt.Sprintf("it belongs to part %d of snapshot %v, and the header to part %d of %v", f.Number, f.Snapshot, r.id.part, r.id.snapshot)
	}
	if fault != "" {
		return footer{}, r.corrupt(SectionFooter, offset, footerSize, "%s", fault)
	}
	r.tail = b
	return f, nil
}

func (r *Reader) openIndex(ctx context.Context, f footer) error {
	b, err := r.read(ctx, SectionIndex, f.IndexOffset, f.IndexLength, nil)
	if err != nil {
		return err
	}
	blocks, fault := decodeIndex(b, f)
	if fault != "" {
		return r.corrupt(SectionIndex, f.IndexOffset, f.IndexLength, "%s", fault)
	}
	r.info, r.blocks, r.tail = f.PartInfo, blocks, append(b[:len(b):len(b)], r.tail...)
	return nil
}

// meetsExpectation compares the file with what a manifest says of it. The CRC of
// the file is left to Verify.
func (r *Reader) meetsExpectation() error {
	if r.o.Expect == nil {
		return nil
	}
	want := *r.o.Expect
	want.CRC = 0
	if r.info == want {
		return nil
	}
	return r.corrupt(SectionFile, 0, r.o.Size, "the manifest expects another file: part %d of snapshot %v, %d bytes, %d entries; this is part %d of %v, %d bytes, %d entries",
		want.Number, want.Snapshot, want.Size, want.Entries, r.info.Number, r.info.Snapshot, r.info.Size, r.info.Entries)
}

// Info describes the file; its CRC is 0, because that would take reading it.
func (r *Reader) Info() PartInfo { return r.info }

// Blocks returns the number of blocks.
func (r *Reader) Blocks() int { return len(r.blocks) }

// Block describes a block, from 0 to Blocks()-1.
func (r *Reader) Block(i int) Block { return r.blocks[i] }

// read reads a piece of the file. A file that is too short is damaged.
func (r *Reader) read(ctx context.Context, s Section, offset, length int64, buf []byte) ([]byte, error) {
	b, err := r.src.ReadRange(ctx, offset, length, buf)
	if errors.Is(err, bucket.ErrOutOfRange) {
		return nil, r.corrupt(s, offset, length, "the file ends before, although it should have %d bytes", r.o.Size)
	}
	if err == nil && int64(len(b)) != length {
		err = fmt.Errorf("asked for %d bytes, got %d", length, len(b))
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %d bytes from %d on: %w", r.o.Object, length, offset, err)
	}
	return b, nil
}

func (r *Reader) corrupt(s Section, offset, length int64, format string, args ...any) *CorruptionError {
	return &CorruptionError{
		Object: r.o.Object, Section: s, Block: -1, Offset: offset, Length: length,
		First: 0, Last: ring.MaxPosition, Reason: fmt.Sprintf(format, args...),
	}
}

func (r *Reader) corruptBlock(number int, fault string) *CorruptionError {
	b := r.blocks[number]
	return &CorruptionError{
		Object: r.o.Object, Section: SectionBlock, Block: number, Offset: b.Offset, Length: int64(b.Stored),
		First: b.First, Last: b.Last, Reason: fault,
	}
}

// All returns every entry; see [Reader.Range].
func (r *Reader) All(ctx context.Context) iter.Seq2[Entry, error] { return r.Range(ctx, ring.Range{}) }

// Range returns the entries of a range of the ring; see [Reader.Ranges].
func (r *Reader) Range(ctx context.Context, in ring.Range) iter.Seq2[Entry, error] {
	return r.Ranges(ctx, []ring.Range{in})
}

// Ranges returns the entries that lie in any of some ranges, in the order of the
// file, which is that of position and key: a range over the top yields its lower
// end first. It stops at the first error, which it yields last. No entry of a block
// is yielded before the block's checksum was right; a block where it is not is read
// once more before it is given up.
//
// Key and value are valid until the next entry is asked for.
func (r *Reader) Ranges(ctx context.Context, in []ring.Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var scratch []byte
		err := r.fetch(ctx, r.plan(in), func(number int, stored []byte) error {
			raw, good, err := r.open(ctx, number, stored, scratch)
			if err != nil {
				return err
			}
			scratch = keepScratch(scratch, raw, good)
			var e Entry
			whole := coversWhole(in, r.blocks[number])
			s := newEntries(raw, r.blocks[number])
			for s.next(&e) {
				if (whole || containsAny(in, e.Position)) && !yield(e, nil) {
					return errStopped
				}
			}
			return r.faultOf(&s, number)
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, err)
		}
	}
}

func containsAny(in []ring.Range, p ring.Position) bool {
	for _, r := range in {
		if r.Contains(p) {
			return true
		}
	}
	return false
}

// coversWhole reports whether one of the ranges has all positions of a block.
func coversWhole(in []ring.Range, b Block) bool {
	for _, r := range in {
		if both := r.Intersect(b.span()); len(both) == 1 && both[0].Size() == b.span().Size() {
			return true
		}
	}
	return false
}

// errStopped: the caller of an iteration has seen enough.
var errStopped = errors.New("stopped")

// keepScratch returns the memory to unpack the next block into: what the last one
// was unpacked into, unless it was not packed, or was huge.
func keepScratch(scratch, raw, stored []byte) []byte {
	inPlace := len(raw) > 0 && len(stored) > 0 && &raw[0] == &stored[0]
	if inPlace || cap(raw) > 2*blockLimit || cap(raw) <= cap(scratch) {
		return scratch
	}
	return raw
}

// faultOf turns a fault of the entries of a block into an error.
func (r *Reader) faultOf(s *entries, number int) error {
	if s.fault == "" {
		return nil
	}
	return r.corruptBlock(number, s.fault)
}

// open checks and unpacks a stored block. A bad one is fetched once more: the
// damage may have happened on the way.
func (r *Reader) open(ctx context.Context, number int, stored, scratch []byte) (raw, good []byte, err error) {
	b := r.blocks[number]
	raw, fault := openBlock(stored, scratch, b, r.id, uint32(number))
	if fault == "" {
		return raw, stored, nil
	}
	stored, err = r.read(ctx, SectionBlock, b.Offset, int64(b.Stored), nil)
	if err != nil {
		return nil, nil, errors.Join(r.corruptBlock(number, fault), err)
	}
	if raw, fault = openBlock(stored, scratch, b, r.id, uint32(number)); fault != "" {
		return nil, nil, r.corruptBlock(number, fault)
	}
	return raw, stored, nil
}

// request is a ranged read: the wanted blocks in it, and all between.
type request struct {
	blocks         []int
	offset, length int64
}

// plan returns the reads that some ranges take.
func (r *Reader) plan(in []ring.Range) []request {
	var plan []request
	for i, b := range r.blocks {
		if !slices.ContainsFunc(in, b.span().Overlaps) {
			continue
		}
		if n := len(plan); n > 0 {
			last := &plan[n-1]
			gap, length := b.Offset-last.offset-last.length, b.end()-last.offset
			if gap <= r.o.GapBytes && length <= r.o.RequestBytes {
				last.blocks, last.length = append(last.blocks, i), length
				continue
			}
		}
		plan = append(plan, request{[]int{i}, b.Offset, int64(b.Stored)})
	}
	return plan
}

// fetch makes the reads of a plan, a few of them ahead, and calls fn for each
// block in order. No read is under way any more when it returns.
func (r *Reader) fetch(ctx context.Context, plan []request, fn func(number int, stored []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := ahead{r: r, ctx: ctx, plan: plan, slots: make([]slot, min(r.o.InFlight, len(plan)))}
	defer a.drain()
	defer cancel()
	for i := range a.slots {
		a.start(i)
	}
	for i, req := range plan {
		body, err := a.wait(i)
		if err != nil {
			return err
		}
		for _, number := range req.blocks {
			b := r.blocks[number]
			from := b.Offset - req.offset
			if err := fn(number, body[from:from+int64(b.Stored)]); err != nil {
				return err
			}
		}
		a.start(i + len(a.slots))
	}
	return nil
}

// ahead is a ring of reads under way.
type ahead struct {
	r     *Reader
	ctx   context.Context
	plan  []request
	slots []slot
}

type slot struct {
	done chan struct{} // nil while nothing is under way
	body []byte
	err  error
}

// start begins read i of the plan, if there is one, in the memory of an older one.
func (a *ahead) start(i int) {
	if i >= len(a.plan) {
		return
	}
	s, req := &a.slots[i%len(a.slots)], a.plan[i]
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.body, s.err = a.r.read(a.ctx, SectionBlock, req.offset, req.length, s.body)
	}()
}

func (a *ahead) wait(i int) ([]byte, error) {
	s := &a.slots[i%len(a.slots)]
	<-s.done
	s.done = nil
	if s.err == nil {
		return s.body, nil
	}
	// Which block is missing is known best block by block.
	var short *CorruptionError
	if errors.As(s.err, &short) {
		return nil, a.r.firstMissing(a.ctx, a.plan[i], s.err)
	}
	return nil, s.err
}

// drain waits for the reads that nobody has waited for.
func (a *ahead) drain() {
	for i := range a.slots {
		if done := a.slots[i].done; done != nil {
			<-done
		}
	}
}

// firstMissing names the first block of a read that cannot be had.
func (r *Reader) firstMissing(ctx context.Context, req request, err error) error {
	for _, number := range req.blocks {
		b := r.blocks[number]
		if _, e := r.read(ctx, SectionBlock, b.Offset, int64(b.Stored), nil); e != nil {
			var short *CorruptionError
			if errors.As(e, &short) {
				return r.corruptBlock(number, short.Reason)
			}
			return e
		}
	}
	return err
}

// Verify reads the whole file and checks every byte, and the CRC of the file if a
// manifest said what it is. It calls damaged for each block that cannot be used,
// and goes on behind it until damaged returns false; progress, if not nil, with
// the bytes that have been read since the last call. The error is that of the
// first damage, or of reading.
func (r *Reader) Verify(ctx context.Context, progress func(bytes int64), damaged func(*CorruptionError) bool) error {
	v := verification{r: r, damaged: damaged, crc: crc32.Checksum(r.head, castagnoli)}
	err := r.fetch(ctx, r.plan([]ring.Range{{}}), func(number int, stored []byte) error {
		if progress != nil {
			progress(int64(len(stored)))
		}
		return v.block(ctx, number, stored)
	})
	if err != nil {
		return err
	}
	v.crc = crc32.Update(v.crc, castagnoli, r.tail)
	if v.first != nil {
		return v.first
	}
	if v.newest != r.info.Newest {
		return r.corrupt(SectionFooter, r.o.Size-footerSize, footerSize, "it says that the newest version is %d, and it is %d", r.info.Newest, v.newest)
	}
	if want := r.o.Expect; want != nil && want.CRC != v.crc {
		return r.corrupt(SectionFile, 0, r.o.Size, "every block is whole, but the file has checksum %08x, and the manifest expects %08x", v.crc, want.CRC)
	}
	return nil
}

// verification is one run of Verify.
type verification struct {
	r       *Reader
	damaged func(*CorruptionError) bool
	crc     uint32
	newest  uint64
	scratch []byte
	first   error // damage
}

func (v *verification) block(ctx context.Context, number int, stored []byte) error {
	raw, good, err := v.r.open(ctx, number, stored, v.scratch)
	if err != nil {
		return v.note(err)
	}
	v.scratch = keepScratch(v.scratch, raw, good)
	v.crc = crc32.Update(v.crc, castagnoli, good)
	var e Entry
	s := newEntries(raw, v.r.blocks[number])
	for s.next(&e) {
		v.newest = max(v.newest, e.Version)
	}
	return v.note(v.r.faultOf(&s, number))
}

// note remembers damage and asks whether to go on; other errors end the run.
func (v *verification) note(err error) error {
	var c *CorruptionError
	if err == nil || !errors.As(err, &c) {
		return err
	}
	if v.first == nil {
		v.first = err
	}
	if v.damaged == nil || !v.damaged(c) {
		return err
	}
	return nil
}
