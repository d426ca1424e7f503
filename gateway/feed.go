package gateway

import (
	"context"
	"io"
	"net/http"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/protocol"
)

// feed is a WebSocket on /v1/cluster: each message to the client is the whole topology.
// The client says AUTH first, where tokens are asked for, and may say it again.
type feed struct {
	*socket
	bearer
	parser  protocol.RequestParser
	welcome chan struct{} // closed when the client may have topologies
}

func (g *Gateway) serveCluster(w http.ResponseWriter, r *http.Request) {
	if !g.speaks(w, r) {
		return
	}
	if g.silent() {
		http.Error(w, "this gateway leads to "+g.config.only.Address+" alone, and has no token to learn the topology with (QUOIT_TOKEN)", http.StatusNotFound)
		return
	}
	s := g.accept(w, r, strangerMessage)
	if s == nil {
		return
	}
	f := &feed{socket: s, welcome: make(chan struct{})}
	f.begin(g)
	f.parser.Limits = auth.StrangerLimits()
	if f.known() {
		close(f.welcome)
	}
	if !g.roster.enter(f) {
		f.drain()
		f.finish()
		return
	}
	go f.run()
}

func (f *feed) run() {
	g := f.gw
	defer g.roster.leave(f)
	defer f.finish()
	g.stats.feeds.Add(1)
	defer g.stats.feeds.Add(-1)
	defer f.contained()
	f.serve()
}

// serve sends the topology until the client goes. One that is slow misses those
// in between, never the last.
func (f *feed) serve() {
	f.spawn(f.hear)
	select {
	case <-f.welcome:
	case <-f.ended:
		return
	}
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

// hear reads what the client says, which is nothing but who it is; so pongs and the end
// are seen, too.
func (f *feed) hear() {
	defer f.forget()
	for {
		kind, message, err := f.ws.Reader(context.Background())
		if err != nil {
			f.gone()
			return
		}
		text, err := io.ReadAll(message)
		if err != nil {
			f.gone()
			return
		}
		f.listen()
		if kind != websocket.MessageBinary || !f.take(text) {
			f.leftOver()
			return
		}
	}
}

// take takes a message, which is one request, and says whether to go on. What is not about who the client is
// does not belong here, but a client without a token asks for the topology, so that it is
// told at once that it needs one.
func (f *feed) take(text []byte) bool {
	args, n, err := f.parser.Next(text)
	if err != nil || n < len(text) || len(args) == 0 {
		return f.misplaced()
	}
	return f.request(args)
}

func (f *feed) request(args [][]byte) bool {
	cmd, known := protocol.Lookup(args[0])
	if !known || cmd != protocol.CmdAuth && cmd != protocol.CmdTopology {
		return f.misplaced()
	}
	if refusal := f.denies(cmd, args); refusal != nil {
		f.end(CloseUnauthenticated, short(refusal))
		return false
	}
	if cmd == protocol.CmdTopology || !f.gw.asks() {
		return true // it comes anyway
	}
	token, err := tokenOf(cmd, args)
	if err != nil {
		return f.misplaced()
	}
	first := !f.known()
	who, refusal := f.check(token, f.nc.RemoteAddr().String())
	if refusal != nil {
		f.end(closeFor(refusal), short(refusal))
		return false
	}
	if f.adopt(who); first {
		close(f.welcome)
	}
	return true
}

func (f *feed) misplaced() bool {
	f.gw.stats.cutProtocol.Add(1)
	f.end(CloseProtocol, "nothing is asked here but AUTH: /v1/node/{address} is for requests")
	return false
}

func (f *feed) sweep() {
	f.sweepSocket(true)
	switch late := f.overstays(); {
	case f.over():
	case late != nil:
		f.gw.stats.cutUnproved.Add(1)
		f.end(CloseUnauthenticated, short(late))
	case f.lapsed() != nil:
		f.end(CloseUnauthenticated, short(f.lapsed()))
	}
}

func (f *feed) drain() { f.end(CloseDraining, "the gateway stops") }
