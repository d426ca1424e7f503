package engine

import (
	"runtime"
	"time"
)

const (
	// workTime is how long a long work goes on, with one processor, before it sleeps.
	workTime = 2 * time.Millisecond
	// restTime is how long it sleeps at least: the runtime makes a millisecond of it
	// when there is nothing else to do.
	restTime = 50 * time.Microsecond
)

// giveWay lets traffic run between two pieces of a long work.
//
// Yielding is enough where another processor is idle: that one waits for the network,
// and runs whoever has got a request. With one processor it is not. The runtime asks
// the network when nothing is ready to run; a work that yields always is, and then
// only the runtime's watch looks, every 10 ms. So the work has to sleep, too.
type giveWay struct {
	single bool // there is one processor
	woke   time.Time
	now    func() time.Time
	sleep  func(time.Duration)
	yield  func()
}

func newGiveWay(processors int) *giveWay {
	return &giveWay{single: processors == 1, now: time.Now, sleep: time.Sleep, yield: runtime.Gosched}
}

func (g *giveWay) pause() {
	if !g.single {
		g.yield()
		return
	}
	if now := g.now(); now.Sub(g.woke) < workTime {
		g.yield() // whoever waits for the lock gets it
		return
	}
	g.sleep(restTime)
	g.woke = g.now()
}
