package node

import (
	"sync/atomic"

	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/protocol"
)

// commandSlots is more than there are commands (a test says so).
const commandSlots = 64

// tally counts what one connection does. Its goroutine is the only writer, so
// that counting costs no cache line another processor wants; readers add up all
// connections.
type tally struct {
	in, out  atomic.Uint64
	commands [commandSlots]atomic.Uint64

	// A run of the same command is counted in one step. Of the writer alone.
	run    protocol.Command
	length uint64
}

func (t *tally) count(cmd protocol.Command) {
	if cmd != t.run {
		t.fold()
		t.run = cmd
	}
	t.length++
}

// fold publishes the current run.
func (t *tally) fold() {
	if t.length > 0 {
		t.commands[t.run].Add(t.length)
		t.length = 0
	}
}

// totals is what tallies add up to.
type totals struct {
	in, out  uint64
	commands [commandSlots]uint64
}

func (s *totals) add(t *tally) {
	s.in += t.in.Load()
	s.out += t.out.Load()
	for i := range t.commands {
		s.commands[i] += t.commands[i].Load()
	}
}

// requests is how many commands ran.
func (s *totals) requests() uint64 {
	var n uint64
	for _, c := range s.commands {
		n += c
	}
	return n
}

// stats counts what is rare enough for one shared counter.
type stats struct {
	accepted, refused            atomic.Uint64 // connections
	errors, moved, tryAgain      atomic.Uint64 // replies
	parked                       atomic.Uint64 // requests that waited for a range
	protocolErrors               atomic.Uint64
	crossProtocol                atomic.Uint64
	idleClosed, slowReaders      atomic.Uint64 // connections cut off
	slowRequests, overloaded     atomic.Uint64
	unproved                     atomic.Uint64 // connections closed that did not authenticate in time
	handshakes, proofs           atomic.Uint64 // connections closed for a TLS handshake, or a member's proof
	panics                       contain.Panics
	readOnly                     atomic.Uint64 // writes refused because the disk is full
	readOnlyAt                   atomic.Int64  // when the last one was, coarse unix milliseconds
	memoryFull                   atomic.Uint64 // writes refused because the memory is full
	memoryFullAt                 atomic.Int64  // when the last one was, coarse unix milliseconds
	documentsRead, documentReads atomic.Uint64 // new ones, tries
	documentErrors               atomic.Uint64
	heartbeats, heartbeatErrors  atomic.Uint64
}
