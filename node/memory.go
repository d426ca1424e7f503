package node

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/quoitdb/quoit/internal/config"
)

// Memory is how much of it a node may use: a size, or a share of what the process may
// have. The zero value is no limit.
type Memory struct {
	Percent int
	Bytes   config.Bytes
}

const wantMemory = "a share such as 80%, a size of 64MiB or more, or 0 for no limit"

// UnmarshalText reads 80%, 4GiB or 0.
func (m *Memory) UnmarshalText(text []byte) error {
	*m = Memory{}
	if share, ok := strings.CutSuffix(string(text), "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 100 {
			return errors.New("want " + wantMemory)
		}
		m.Percent = n
		return nil
	}
	return m.Bytes.UnmarshalText(text)
}

// String is what UnmarshalText reads.
func (m Memory) String() string {
	if m.Percent > 0 {
		return strconv.Itoa(m.Percent) + "%"
	}
	return m.Bytes.String()
}

// of is the limit where the process may have so much; 0 is none.
func (m Memory) of(available int64) int64 {
	if m.Percent > 0 {
		return available / 100 * int64(m.Percent)
	}
	return int64(m.Bytes)
}

// availableMemory is what the container allows, or what the machine has, whichever is
// less; 0 if neither can be found out.
var availableMemory = sync.OnceValue(func() int64 {
	least := uint64(math.MaxInt64)
	for _, ask := range []func() (uint64, error){memlimit.FromCgroup, memlimit.FromSystem} {
		if n, err := ask(); err == nil && n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return int64(least)
})

// memory is how a node's limit is divided. What is in flight has a part of its own, so
// that a node that is full of data can still be read and emptied.
type memory struct {
	process  int64 // of the whole node; 0 is no limit
	data     int64 // keys, values and index; 0 is no limit
	inFlight int64
}

// divide leaves requests and replies a quarter at most, and room for two of the largest
// values if that is no more than half.
func (l *LimitConfig) divide(available int64) memory {
	process, inFlight := l.Memory.of(available), int64(l.InFlight)
	if process == 0 {
		return memory{inFlight: inFlight}
	}
	inFlight = min(inFlight, max(process/4, min(2*int64(l.Value), process/2)))
	return memory{process: process, data: process - inFlight, inFlight: inFlight}
}

// heapEvery is how often the Go heap is told what the data has left for it.
const heapEvery = 200 * time.Millisecond

// holdHeap keeps the Go heap to what the data leaves of the process's memory, until
// ctx ends. The data is where the collector does not look: a fixed limit would be too
// much with all of the data there, or too little for large values, which are in the heap.
func (n *Node) holdHeap(ctx context.Context) {
	if n.memory.process == 0 || !n.seams.OwnProcess || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	now := n.memory.heap(0)
	before := debug.SetMemoryLimit(now)
	defer debug.SetMemoryLimit(before)
	for sleep(ctx, heapEvery, nil) {
		st := n.state.store.Load()
		if st == nil {
			continue
		}
		if goal := n.memory.heap(st.engine.MappedBytes()); goal < now-now/32 || goal > now+now/32 {
			debug.SetMemoryLimit(goal)
			now = goal
		}
	}
}

// heap is what the Go heap may take beside so much that is mapped: a sixteenth less than
// what is left, for between two looks the data grows, and never less than an eighth,
// below which collecting would be all that it does.
func (m *memory) heap(mapped int64) int64 {
	return max(m.process-m.process/16-mapped, m.process/8)
}
