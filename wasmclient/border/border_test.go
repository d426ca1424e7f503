package border

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

func TestMain(m *testing.M) { leak.Main(m) }

// world is all that a border sees: a page, and a network with gateways g1 and g2 before
// one node that keeps what it is given.
type world struct {
	t      *testing.T
	border *Border

	mu       sync.Mutex
	answers  map[uint32]chan answer
	events   []string
	node     map[string]string
	dialled  []string        // URLs, in order
	away     map[string]bool // parts of URLs that cannot be reached
	mute     map[string]bool // feeds that are opened and tell nothing
	topology ring.Topology
	feeds    []*fakeSocket
	lastCall uint32

	tokens uint32          // the page's source; 0: none
	purse  []tokenAnswer   // what it answers, the last one again and again
	asked  int             // how often it was asked
	good   map[string]bool // tokens that gateways and nodes take; nil: everybody may in
	first  []string        // the first message of each feed, and request of each connection to a node
}

type answer struct {
	status  Status
	payload []byte
}

const nodeAddress = "10.0.0.1:7401"

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, answers: map[uint32]chan answer{}, node: map[string]string{}, away: map[string]bool{},
		topology: ring.Topology{Cluster: "test", Epoch: 1, Nodes: []ring.Node{{Address: nodeAddress, Tokens: 4}}},
	}
	w.border = New(w, w.dial)
	return w
}

// Settle is the page's.
func (w *world) Settle(call uint32, s Status, payload []byte) {
	w.mu.Lock()
	c := w.answers[call]
	w.mu.Unlock()
	select {
	case c <- answer{s, payload}:
	default:
		w.t.Errorf("call %d is settled twice", call)
	}
}

// Emit is the page's.
func (w *world) Emit(_ uint32, e Event, payload []byte) {
	text := map[Event]string{EventTopology: "topology", EventDisconnect: "disconnect", EventReconnect: "reconnect", EventError: "error", EventRoute: "route"}[e]
	if r := (&reader{rest: payload}); e == EventDisconnect || e == EventReconnect || e == EventRoute {
		text += " " + r.string()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, text)
}

func (w *world) takeEvents() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.events
	w.events = nil
	return all
}

// begin makes a call; the channel gets its answer.
func (w *world) begin(op operation, database uint32, fields, body []byte) (uint32, chan answer) {
	w.mu.Lock()
	w.lastCall++
	id, c := w.lastCall, make(chan answer, 1)
	w.answers[id] = c
	w.mu.Unlock()
	request := appendF64(appendU32([]byte{byte(op)}, database), 0)
	w.border.Call(id, append(request, fields...), body)
	return id, c
}

func (w *world) call(op operation, database uint32, fields, body []byte) (Status, *reader) {
	_, c := w.begin(op, database, fields, body)
	a := <-c
	return a.status, &reader{rest: a.payload}
}

func (w *world) open(straight bool, gateways ...string) uint32 {
	w.t.Helper()
	fields := appendU32(nil, uint32(len(gateways)))
	for _, g := range gateways {
		fields = appendBytes(fields, g)
	}
	status, r := w.call(opOpen, 0, appendU32(appendU32(appendFlag(fields, straight), 1), w.tokens), nil)
	if status != OK {
		w.t.Fatalf("open: %s", text(r))
	}
	handle := r.u32()
	w.t.Cleanup(func() { w.call(opClose, handle, nil, nil) })
	return handle
}

// text is an error's code and message.
func text(r *reader) string {
	code := r.string()
	r.string()
	return code + ": " + r.string()
}

// dial is the network.
func (w *world) dial(_ context.Context, url string) (Socket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialled = append(w.dialled, url)
	for part := range w.away {
		if strings.Contains(url, part) {
			return nil, &CloseError{Code: 1006}
		}
	}
	here, there := net.Pipe()
	s := &fakeSocket{Conn: here, messages: make(chan []byte, 10), ended: make(chan struct{})}
	if strings.HasSuffix(url, "v1/cluster") {
		w.feeds = append(w.feeds, s)
		text, err := w.topology.MarshalText()
		if err != nil {
			return nil, err
		}
		go w.greet(s, there, text, w.mute[url])
		return s, nil
	}
	go w.serve(there)
	return s, nil
}

// greet is a gateway's /v1/cluster.
func (w *world) greet(s *fakeSocket, there net.Conn, topology []byte, mute bool) {
	defer func() { _ = there.Close() }()
	b := make([]byte, 4096)
	n, err := there.Read(b)
	if err != nil {
		return
	}
	w.mu.Lock()
	first := requestIn(b[:n])
	w.first = append(w.first, strings.Join(first, " "))
	welcome := w.good == nil || first[0] == "AUTH" && w.good[first[1]]
	w.mu.Unlock()
	switch {
	case !welcome:
		s.mu.Lock()
		s.end = &CloseError{Code: closeUnauthenticated, Reason: "a sentence"}
		s.mu.Unlock()
		_ = s.Close()
	case !mute:
		s.messages <- topology
	}
}

func requestIn(b []byte) []string {
	args, _, err := (&protocol.RequestParser{Limits: protocol.DefaultLimits()}).Next(b)
	if err != nil || len(args) == 0 {
		return []string{"nonsense"}
	}
	var words []string
	for _, a := range args {
		words = append(words, string(a))
	}
	return words
}

// Token is the page's.
func (w *world) Token(source, ask uint32) {
	w.mu.Lock()
	a := tokenAnswer{problem: "no such source"}
	if w.asked++; source == w.tokens && len(w.purse) > 0 {
		if a = w.purse[0]; len(w.purse) > 1 {
			w.purse = w.purse[1:]
		}
	}
	w.mu.Unlock()
	go w.border.Answer(ask, a.token, a.problem)
}

// serve is the node.
func (w *world) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	shown := ""
	buf, parser := []byte(nil), protocol.RequestParser{Limits: protocol.DefaultLimits()}
	chunk := make([]byte, 4096)
	for {
		n, err := conn.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			args, used, err := parser.Next(buf)
			if err != nil || used == 0 {
				break
			}
			if _, err := conn.Write(w.answer(&shown, args)); err != nil {
				return
			}
			buf = buf[used:]
		}
	}
}

// answer is execute for who has shown a good token.
func (w *world) answer(shown *string, args [][]byte) []byte {
	w.mu.Lock()
	auth := string(args[0]) == "AUTH"
	if auth {
		*shown = string(args[1])
	}
	good := w.good == nil || w.good[*shown]
	w.mu.Unlock()
	switch {
	case !good && auth:
		return []byte("-NOAUTH not valid here\r\n")
	case !good:
		return []byte("-NOAUTH a sentence of the node\r\n")
	case auth:
		return []byte("+OK\r\n")
	case strings.HasPrefix(string(args[len(args)-1]), "not:"):
		return []byte("-NOPERM not this key\r\n")
	}
	return w.execute(args)
}

func (w *world) execute(args [][]byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch strings.ToUpper(string(args[0])) {
	case "PUT":
		w.node[string(args[1])] = string(args[2])
		return []byte("+OK\r\n")
	case "GET":
		if v, ok := w.node[string(args[1])]; ok {
			return protocol.AppendBulkString(nil, v)
		}
		return []byte("$-1\r\n")
	case "TOPOLOGY":
		text, _ := w.topology.MarshalText()
		return protocol.AppendBulk(nil, text)
	}
	return []byte("-ERR not here\r\n")
}

// fakeSocket is a WebSocket that a test holds.
type fakeSocket struct {
	net.Conn
	messages chan []byte
	once     sync.Once
	ended    chan struct{}

	mu  sync.Mutex
	end *CloseError // how it ends; nil: as a gateway that stops
}

func (s *fakeSocket) Message() ([]byte, error) {
	select {
	case m := <-s.messages:
		return m, nil
	case <-s.ended:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.end != nil {
			return nil, s.end
		}
		return nil, &CloseError{Code: 4000, Reason: "the gateway is stopping"}
	}
}

func (s *fakeSocket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		err = &CloseError{Code: 4001}
		if !errors.Is(err, io.EOF) {
			_ = s.Close()
		}
	}
	return n, err
}

func (s *fakeSocket) Close() error {
	s.once.Do(func() { close(s.ended) })
	return s.Conn.Close()
}

func (s *fakeSocket) Ended() <-chan struct{} { return s.ended }

func (s *fakeSocket) End() *CloseError {
	select {
	case <-s.ended:
		return &CloseError{Code: 4001}
	default:
		return nil
	}
}

func TestACallIsAMessageAndSoIsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		db := w.open(true, "ws://g1/")
		key := appendBytes(nil, "k")
		if status, r := w.call(opGet, db, key, nil); status != Missing || len(r.rest) != 0 {
			t.Errorf("a key that does not exist: %d %q", status, r.rest)
		}
		noOptions := append(slices.Clone(key), make([]byte, 9)...)
		if status, r := w.call(opPut, db, noOptions, []byte("value")); status != OK || len(r.rest) != 0 {
			t.Errorf("put: %d %q", status, r.rest)
		}
		if status, r := w.call(opGet, db, key, nil); status != OK || string(r.rest) != "value" {
			t.Errorf("get: %d %q", status, r.rest)
		}
		if status, r := w.call(opExists, db, key, nil); status != Failed || !strings.HasPrefix(text(r), "SERVER: ") {
			t.Errorf("what the node refuses: %d", status)
		}
		if p, owner, ok := w.border.Place(db, "k"); !ok || owner != nodeAddress || p != ring.PositionOfString("k") {
			t.Errorf("the place of k: %v %v %v", p, owner, ok)
		}
		if _, sockets := w.border.Stats(db); sockets != 1 {
			t.Errorf("%d sockets", sockets)
		}
	})
}

// TestCallsOfOneTurnComeTogether, and each has its own answer.
func TestCallsOfOneTurnComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		db := w.open(true, "ws://g1/")
		var batch []byte
		var answers []chan answer
		for i, value := range []string{"one", "two", ""} {
			w.mu.Lock()
			w.lastCall++
			c := make(chan answer, 1)
			w.answers[w.lastCall] = c
			answers = append(answers, c)
			w.mu.Unlock()
			request := appendF64(appendU32([]byte{byte(opPut)}, db), 0)
			request = append(appendBytes(request, string(rune('a'+i))), make([]byte, 9)...)
			batch = appendBytes(appendBytes(appendU32(batch, w.lastCall), request), value)
		}
		if err := w.border.Calls(batch); err != nil {
			t.Fatal(err)
		}
		for i, c := range answers {
			if a := <-c; a.status != OK {
				t.Errorf("call %d: %d", i, a.status)
			}
		}
		w.mu.Lock()
		if w.node["a"] != "one" || w.node["b"] != "two" || len(w.node) != 3 {
			t.Errorf("the node has %q", w.node)
		}
		w.mu.Unlock()
		if err := w.border.Calls(batch[:len(batch)-1]); err == nil {
			t.Error("a batch that is cut short was taken whole")
		}
		<-answers[0]
		<-answers[1]
	})
}

// TestWhatIsNoRequest is refused, and hurts nobody else; a panic is its call's.
func TestWhatIsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		db := w.open(true, "ws://g1/")
		for name, c := range map[string]struct {
			op     operation
			db     uint32
			fields []byte
			want   string
		}{
			"no such operation":     {200, db, nil, "UNAVAILABLE"},
			"no such database":      {opGet, db + 7, appendBytes(nil, "k"), "CLOSED"},
			"a field too few":       {opGet, db, nil, "UNAVAILABLE"},
			"a field too many":      {opGet, db, append(appendBytes(nil, "k"), 1), "UNAVAILABLE"},
			"a length of 4 GiB":     {opGet, db, []byte{255, 255, 255, 255}, "UNAVAILABLE"},
			"a list of 4 Gi":        {opMGet, db, []byte{255, 255, 255, 255}, "UNAVAILABLE"},
			"pairs, 4 Gi of them":   {opMPut, db, append(make([]byte, 9), 255, 255, 255, 255), "UNAVAILABLE"},
			"no gateway":            {opOpen, 0, make([]byte, 13), "ARGUMENT"},
			"a node that is nobody": {opPing, db, appendBytes(nil, "10.9.9.9:1"), "ARGUMENT"},
			"a stream that is not":  {opNext, db, appendU32(nil, 99), "CLOSED"},
			"a panic":               {opPanic, db, nil, "CRASHED"},
		} {
			if status, r := w.call(c.op, c.db, c.fields, nil); status != Failed || !strings.HasPrefix(text(r), c.want+": ") {
				t.Errorf("%s: %d", name, status)
			}
		}
		if status, _ := w.call(opPut, db, append(appendBytes(nil, "k"), make([]byte, 9)...), nil); status != OK {
			t.Error("the database does not work any more")
		}
	})
}

// TestTheFeedConnectsAgain when its gateway goes, to the next one; what that pushes is
// used, and the page is told of all of it.
func TestTheFeedConnectsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		db := w.open(true, "ws://g1/", "ws://g2/")
		if events := w.takeEvents(); len(events) != 0 {
			t.Errorf("at first: %v", events)
		}
		w.mu.Lock()
		w.topology.Epoch = 2
		first := w.feeds[0]
		w.mu.Unlock()
		_ = first.Close()
		<-time.After(time.Second)
		if events := w.takeEvents(); !slices.Equal(events, []string{"disconnect ", "reconnect ", "topology"}) && !slices.Equal(events, []string{"disconnect ", "topology", "reconnect "}) {
			t.Errorf("events: %q", events)
		}
		if status, _ := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
			t.Errorf("a get: %d", status)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []string{"ws://g1/v1/cluster", "ws://g2/v1/cluster", "ws://g2/v1/node/" + nodeAddress}; !slices.Equal(w.dialled, want) {
			t.Errorf("dialled: %q", w.dialled)
		}
	})
}

// TestAGatewayThatTellsNothingIsLeft: one that is cut off from its cluster takes
// connections all the same. The page waited there, and its other gateway was never asked.
func TestAGatewayThatTellsNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mute = map[string]bool{"ws://g1/v1/cluster": true}
		db := w.open(true, "ws://g1/", "ws://g2/")
		if status, _ := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
			t.Errorf("a get: %d", status)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []string{"ws://g1/v1/cluster", "ws://g2/v1/cluster", "ws://g2/v1/node/" + nodeAddress}; !slices.Equal(w.dialled, want) {
			t.Errorf("dialled: %q", w.dialled)
		}
	})
}

// TestTheOnlyGatewayTellsNothing: the error of connect says so.
func TestTheOnlyGatewayTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mute = map[string]bool{"ws://g1/v1/cluster": true}
		_, c := w.begin(opOpen, 0, appendU32(appendU32(appendFlag(appendBytes(appendU32(nil, 1), "ws://g1/"), true), 1), 0), nil)
		if a := <-c; a.status != Failed || !strings.Contains(text(&reader{rest: a.payload}), "ws://g1/ takes connections and gives no topology") {
			t.Errorf("status %d: %s", a.status, text(&reader{rest: a.payload}))
		}
	})
}

// TestTheStraightWayIsTakenWhereThereIsOne, and the gateway's where it leads nowhere,
// until it may have been repaired.
func TestTheStraightWayIsTakenWhereThereIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.topology.Nodes[0].Endpoints = []ring.Endpoint{{Kind: "ws", URL: "wss://node-1/"}}
		db := w.open(true, "ws://g1/")
		get := func(want ...string) {
			t.Helper()
			w.mu.Lock()
			w.dialled = nil
			w.mu.Unlock()
			if status, r := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
				t.Errorf("a get: %s", text(r))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if !slices.Equal(w.dialled, want) {
				t.Errorf("dialled %q, want %q", w.dialled, want)
			}
		}
		cut := func() {
			d := w.border.database(db).dialer
			d.mu.Lock()
			sockets := slices.Collect(maps.Keys(d.sockets))
			d.mu.Unlock()
			for _, s := range sockets {
				_ = s.Socket.Close()
			}
			synctest.Wait()
		}
		get("wss://node-1/")
		cut()
		w.mu.Lock()
		w.away["node-1"] = true
		w.mu.Unlock()
		get("wss://node-1/", "ws://g1/v1/node/"+nodeAddress)
		cut()
		get("ws://g1/v1/node/" + nodeAddress) // not tried again so soon
		cut()
		w.mu.Lock()
		clear(w.away)
		w.mu.Unlock()
		<-time.After(2 * shunTime)
		get("wss://node-1/")
		if events := w.takeEvents(); len(events) != 6 || events[0] != "disconnect "+nodeAddress || events[1] != "reconnect "+nodeAddress {
			t.Errorf("events: %q", events)
		}
		other := w.open(false, "ws://g1/")
		db = other
		get("ws://g1/v1/node/" + nodeAddress)
	})
}

func TestACancelledCallIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.away["g1"] = true
		id, c := w.begin(opOpen, 0, appendU32(appendU32(appendFlag(appendBytes(appendU32(nil, 1), "ws://g1/"), true), 1), 0), nil)
		synctest.Wait()
		w.border.Cancel(id)
		w.border.Cancel(id + 1)
		if a := <-c; a.status != Failed || !strings.HasPrefix(text(&reader{rest: a.payload}), "ABORTED: ") {
			t.Errorf("status %d", a.status)
		}
		w.border.Cancel(id)
	})
}

// TestCodes: what the client says, as pages branch on it.
func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err         error
		code, cause string
	}{
		{client.ErrNotFound, "NOT_FOUND", ""},
		{client.ErrExists, "EXISTS", ""},
		{client.ErrClosed, "CLOSED", ""},
		{&client.VersionError{Current: 5}, "VERSION_CONFLICT", ""},
		{context.DeadlineExceeded, "TIMEOUT", ""},
		{context.Canceled, "ABORTED", ""},
		{client.ErrOutcomeUnknown, "OUTCOME_UNKNOWN", "UNAVAILABLE"},
		{errors.Join(client.ErrOutcomeUnknown, context.Canceled), "OUTCOME_UNKNOWN", "ABORTED"},
		{errors.Join(client.ErrOutcomeUnknown, context.DeadlineExceeded), "OUTCOME_UNKNOWN", "TIMEOUT"},
		{errors.Join(client.ErrOutcomeUnknown, client.ErrClosed), "OUTCOME_UNKNOWN", "CLOSED"},
		{&client.ServerError{Code: protocol.WRONGTYPE}, "SERVER", ""},
		{&client.ServerError{Code: protocol.TRYAGAIN}, "UNAVAILABLE", ""},
		{errors.Join(context.DeadlineExceeded, &client.ServerError{Code: protocol.TRYAGAIN}), "TIMEOUT", ""},
		{&client.ReplyError{}, "PROTOCOL", ""},
		{&client.UnknownNodeError{}, "ARGUMENT", ""},
		{errors.New("anything else"), "UNAVAILABLE", ""},
	} {
		r := &reader{rest: appendError(nil, c.err)}
		if code, cause := r.string(), r.string(); code != c.code || cause != c.cause {
			t.Errorf("%v: %s because of %q, want %s because of %q", c.err, code, cause, c.code, c.cause)
		}
	}
}

func TestAnAddressIsOnePartOfAPath(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:7401": "127.0.0.1:7401", "[::1]:7401": "%5B::1%5D:7401", "a/../b?c%:1": "a%2F..%2Fb%3Fc%25:1"} {
		if got := escape(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// FuzzCall: whatever a page sends is settled, once, and does not panic.
func FuzzCall(f *testing.F) {
	f.Add(appendF64(appendU32([]byte{byte(opGet)}, 1), 5), []byte("body"))
	f.Add(append(appendF64(appendU32([]byte{byte(opMPut)}, 1), 0), 255, 255, 255, 255), []byte(nil))
	f.Fuzz(func(t *testing.T, request, body []byte) {
		w := newWorld(t)
		w.away["/"] = true
		if len(request) > 0 && operation(request[0]) == opOpen {
			return // it would wait for a gateway
		}
		c := make(chan answer, 1)
		w.answers[1] = c
		w.border.Call(1, request, body)
		if a := <-c; a.status != Failed {
			t.Errorf("status %d without a database", a.status)
		}
	})
}
