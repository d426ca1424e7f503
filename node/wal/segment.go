package wal

import (
	"path/filepath"

	"github.com/quoitdb/quoit/internal/vfs"
)

// A segment is one file of the log. number and start are set when the end of
// the log moves into it, under the mutex; the rest is the leader's.
type segment struct {
	number uint64
	start  LSN
	size   int64 // of the file
	urgent int64 // kept for AppendUrgent where the usual share is too little, else 0

	seed  uint32
	file  vfs.File // nil when the log does not write to it any more
	spare string   // its name until it is published
	wet   int64    // bytes of the file whose blocks have been written before
}

// segList is the segments of a log, oldest first; never empty.
type segList []*segment

func (s segList) last() *segment { return s[len(s)-1] }

// reserve is what is kept for AppendUrgent while there is no next segment.
func (s *segment) reserve() int64 { return max(s.urgent, reserve(s.size)) }

// end is the first position that is not in the segment any more.
func (s *segment) end() LSN { return s.start + LSN(s.size-headerSize) }

// offset is where in the file the byte at n lies.
func (s *segment) offset(n LSN) int64 { return headerSize + int64(n-s.start) }

// publish writes the header and gives the segment its name. Whatever has a
// name therefore has a whole header, on disk.
func (s *segment) publish(o Options, h header) error {
	if _, err := s.file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := o.FS.Rename(filepath.Join(o.Dir, s.spare), filepath.Join(o.Dir, segmentName(s.number))); err != nil {
		return err
	}
	s.seed = h.seed()
	return o.FS.SyncDir(o.Dir)
}

// close gives the file back when the segment is full.
func (s *segment) close() error {
	file := s.file
	s.file = nil
	return file.Close()
}

// Blocks that were reserved but never written cost a journal commit at their
// first sync, which doubles its time. Writing zeros a little ahead of the log
// pays that once for many syncs. (Figures in DESIGN.md.)
const (
	wetAhead = 1 << 20
	wetGroup = 128 << 10 // larger groups do not notice
)

// zeros are to be written ahead of logs, and never changed: one piece for all of them.
var zeros [wetAhead]byte

// write writes b at position n. Where b reaches blocks that have never been
// written, it first writes zeros there and beyond.
func (s *segment) write(b []byte, n LSN, zeros []byte) error {
	off := s.offset(n)
	end := off + int64(len(b))
	if end > s.wet && len(zeros) > 0 {
		from := max(s.wet, off)
		zeros = zeros[:min(int64(len(zeros)), s.size-from)]
		if _, err := s.file.WriteAt(zeros, from); err != nil {
			return err
		}
		s.wet = from + int64(len(zeros))
	}
	_, err := s.file.WriteAt(b, off)
	s.wet = max(s.wet, end)
	return err
}
