package gateway

import (
	"context"
	"net/http"
)

// feed is a WebSocket on /v1/cluster: each message is the whole topology.
type feed struct{ *socket }

// feedMessage bounds what a client may send there: nothing is expected.
const feedMessage = 1 << 10

func (g *Gateway) serveCluster(w http.ResponseWriter, r *http.Request) {
	if !g.speaks(w, r) {
		return
	}
	s := g.accept(w, r, feedMessage)
	if s == nil {
		return
	}
	f := &feed{s}
	if !g.roster.enter(f) {
		f.drain()
		f.finish()
		return
	}
	go f.run()
}

func (f *feed) run() {
	defer f.gw.roster.leave(f)
	defer f.finish()
	f.gw.stats.feeds.Add(1)
	defer f.gw.stats.feeds.Add(-1)
	defer f.contained()
	f.serve()
}

// serve sends the topology until the client goes. One that is slow misses those
// in between, never the last.
func (f *feed) serve() {
	f.spawn(f.listenOnly)
	for {
		v := f.gw.source.view.Load()
		if len(v.text) > 0 && !f.write(v.text) {
			return
		}
		select {
		case <-v.next:
		case <-f.ended:
			return
		}
	}
}

// listenOnly reads, so that pongs and the end are seen. Whoever has something to
// say is at the wrong door.
func (f *feed) listenOnly() {
	_, _, err := f.ws.Reader(context.Background())
	if err != nil {
		f.gone()
		return
	}
	f.gw.stats.cutProtocol.Add(1)
	f.end(CloseProtocol, "nothing is asked here: /v1/node/{address} is for requests")
}

func (f *feed) sweep() { f.sweepSocket(true) }
func (f *feed) drain() { f.end(CloseDraining, "the gateway stops") }
