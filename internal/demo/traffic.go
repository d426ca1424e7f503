package demo

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/quoitdb/quoit/internal/oracle"
)

const (
	// registersPerWorker is how many keys each worker writes.
	registersPerWorker = 64
	// operationTimeout is far above what a killed node takes to come back.
	operationTimeout = 2 * time.Minute
)

// traffic is a steady load of reads and writes, each checked, whose times go to
// the phases of the demo.
type traffic struct {
	*oracle.Workload
	*timeline
}

// store is what the traffic needs of a client.
type store interface {
	oracle.Store
	reader
}

func newTraffic(db store, files *corpus, workers, opsPerSecond int) *traffic {
	t := &traffic{timeline: newTimeline("before", time.Now())}
	t.Workload = oracle.New(db, oracle.Options{
		Prefix: "demo:", Workers: workers, Registers: registersPerWorker, Rate: opsPerSecond, Timeout: operationTimeout,
		Extra:   func(ctx context.Context, random *rand.Rand) error { return files.check(ctx, db, random) },
		Observe: t.observe,
	})
	return t
}
