package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"
)

// get sends one HTTP request as it is written.
func (f *fixture) get(text string) (status int, header http.Header, body string) {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		f.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		f.t.Fatalf("%q: %v", text, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.StatusCode, res.Header, ""
	}
	all, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(all)
}

// handshake is what a browser sends, with lines that a test puts in the place of
// those of the same name; an empty value leaves the line out.
func (f *fixture) handshake(path string, changes ...string) string {
	lines := [][2]string{
		{"Host", f.Addr()},
		{"Origin", "http://" + f.Addr()},
		{"Connection", "Upgrade"},
		{"Upgrade", "websocket"},
		{"Sec-WebSocket-Version", "13"},
		{"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="},
		{"Sec-WebSocket-Protocol", Subprotocol},
	}
	var b strings.Builder
	b.WriteString("GET " + path + " HTTP/1.1\n")
	for _, l := range lines {
		for i := 0; i < len(changes); i += 2 {
			if changes[i] == l[0] {
				l[1] = changes[i+1]
			}
		}
		if l[1] != "" {
			b.WriteString(l[0] + ": " + l[1] + "\n")
		}
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i] == "+" {
			b.WriteString(changes[i+1] + "\n")
		}
	}
	return b.String() + "\n"
}

func TestHandshakesThatAreRefused(t *testing.T) {
	cluster, g := both(t, 1, options{})
	node := "/v1/node/" + cluster.Addresses()[0]
	port := g.Addr()[strings.LastIndex(g.Addr(), ":"):]
	// A server that is none of the cluster's must not hear of any of this.
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	var heard atomic.Int64
	go func() {
		for {
			nc, err := outside.Accept()
			if err != nil {
				return
			}
			heard.Add(1)
			nc.Close()
		}
	}()
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"as it should be":          {g.handshake(node), 101},
		"no page":                  {g.handshake(node, "Origin", ""), 101},
		"by another name of ours":  {g.handshake(node, "Host", "localhost"+port, "Origin", "http://localhost"+port), 101},
		"another protocol too":     {g.handshake(node, "Sec-WebSocket-Protocol", "chat, "+Subprotocol), 101},
		"another site":             {g.handshake(node, "Origin", "https://evil.example"), 403},
		"our name as a prefix":     {g.handshake(node, "Origin", "http://"+g.Addr()+".evil.example"), 403},
		"our name, other port":     {g.handshake(node, "Origin", "http://127.0.0.1:1"), 403},
		"our name, no port":        {g.handshake(node, "Origin", "http://127.0.0.1"), 403},
		"our name by TLS":          {g.handshake(node, "Origin", "https://"+g.Addr()), 403},
		"a sandboxed page":         {g.handshake(node, "Origin", "null"), 403},
		"two origins":              {g.handshake(node, "+", "Origin: https://evil.example"), 403},
		"two origins in one":       {g.handshake(node, "Origin", "http://"+g.Addr()+", https://evil.example"), 403},
		"a rebound name":           {g.handshake(node, "Host", "evil.example"+port, "Origin", "http://evil.example"+port), 403},
		"a rebound name, no page":  {g.handshake(node, "Host", "evil.example", "Origin", ""), 403},
		"a rebound name, a file":   {"GET / HTTP/1.1\nHost: evil.example\n\n", 403},
		"no subprotocol":           {g.handshake(node, "Sec-WebSocket-Protocol", ""), 400},
		"an older subprotocol":     {g.handshake(node, "Sec-WebSocket-Protocol", "quoit.v0"), 400},
		"no WebSocket":             {g.handshake(node, "Upgrade", ""), 426},
		"another version":          {g.handshake(node, "Sec-WebSocket-Version", "8"), 400},
		"outside":                  {g.handshake("/v1/node/" + outside.Addr().String()), 404},
		"the manager":              {g.handshake("/v1/node/" + cluster.Manager()), 404},
		"a node by another name":   {g.handshake("/v1/node/localhost" + cluster.Addresses()[0][len("127.0.0.1"):]), 404},
		"a cloud's own address":    {g.handshake("/v1/node/169.254.169.254:80"), 404},
		"an address with a path":   {g.handshake("/v1/node/" + cluster.Addresses()[0] + "/x"), 404},
		"an escaped address":       {g.handshake("/v1/node/" + cluster.Addresses()[0] + "%2f@" + outside.Addr().String()), 404},
		"no address":               {g.handshake("/v1/node/"), 404},
		"a command by POST":        {"POST " + node + " HTTP/1.1\nHost: " + g.Addr() + "\nContent-Length: 4\n\nPING", 405},
		"headers without an end":   {"GET / HTTP/1.1\nHost: " + g.Addr() + "\nX: " + strings.Repeat("x", 64<<10) + "\n\n", 431},
		"the topology, elsewhere":  {g.handshake("/v1/cluster", "Origin", "https://evil.example"), 403},
		"the topology, no version": {g.handshake("/v1/cluster", "Sec-WebSocket-Protocol", ""), 400},
	} {
		if status, _, body := g.get(c.request); status != c.want {
			t.Errorf("%s: %d, want %d\n%s", name, status, c.want, body)
		}
	}
	if heard.Load() != 0 {
		t.Error("an address outside the topology was dialled")
	}
}

func TestListsOfOriginsAndHosts(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{
		config: func(c *Config) {
			c.Hosts = List{"app.example.org"}
			c.Origins = List{"https://app.example.org", "https://shop.example.org"}
		},
		seams: func(s *Seams) { s.Assets = files() },
	})
	for origin, want := range map[string]int{
		"https://app.example.org": 200, "https://shop.example.org": 200, "http://app.example.org": 403, "https://example.org": 403,
	} {
		if status, _, _ := g.get("GET / HTTP/1.1\nHost: App.example.org\nOrigin: " + origin + "\n\n"); status != want {
			t.Errorf("%s: %d, want %d", origin, status, want)
		}
	}
	if status, _, _ := g.get("GET / HTTP/1.1\nHost: " + g.Addr() + "\n\n"); status != 403 {
		t.Errorf("by its address: %d", status)
	}
}

func TestFilesAreServedWithTheirTypesAndAPolicy(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{seams: func(s *Seams) { s.Assets = files() }})
	for _, c := range []struct {
		path, accept string
		status       int
		kind, body   string
	}{
		{"/", "", 200, "text/html; charset=utf-8", "<!doctype html>"},
		{"/quoit.js", "", 200, "text/javascript; charset=utf-8", "export {}"},
		{"/quoit.wasm", "", 200, "application/wasm", "\x00asm"},
		{"/quoit.wasm", "br, gzip", 200, "application/wasm", "packed"},
		{"/quoit.wasm", "br, gzip;q=0", 200, "application/wasm", "\x00asm"},
		{"/sub/style.css", "gzip", 200, "text/css; charset=utf-8", "a{}"},
		{"/sub/", "", 404, "", ""},
		{"/sub", "", 404, "", ""},
		{"/secret.key", "", 404, "", ""},
		{"/quoit.wasm.gz", "", 404, "", ""},
		{"/.hidden/index.js", "", 404, "", ""},
		{"/sub/..%2fsecret.key", "", 404, "", ""},
		{"/%2e%2e/%2e%2e/etc/passwd.txt", "", 404, "", ""},
		{"/nobody.js", "", 404, "", ""},
	} {
		status, h, body := g.get("GET " + c.path + " HTTP/1.1\nHost: " + g.Addr() + "\nAccept-Encoding: " + c.accept + "\nConnection: close\n\n")
		if status >= 300 && status < 400 { // a path that is not clean is cleaned, and not found then
			continue
		}
		if status != c.status || c.status == 200 && (h.Get("Content-Type") != c.kind || body != c.body) {
			t.Errorf("%s: %d %q %q", c.path, status, h.Get("Content-Type"), body)
		}
		if csp := h.Get("Content-Security-Policy"); csp != policyFor(nil) || strings.Contains(csp, "unsafe-inline") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", c.path, h)
		}
	}
	_, h, _ := g.get("GET /quoit.js HTTP/1.1\nHost: " + g.Addr() + "\n\n")
	if status, _, _ := g.get("GET /quoit.js HTTP/1.1\nHost: " + g.Addr() + "\nIf-None-Match: " + h.Get("ETag") + "\n\n"); status != http.StatusNotModified {
		t.Errorf("the same file again: %d", status)
	}
}

// building is a file system of which one file is being built, and cannot be.
type building struct {
	fs.FS
	soon bool
}

func (b *building) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "quoit.wasm") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: b}
	}
	return b.FS.Open(name)
}

func (b *building) Error() string               { return "not now" }
func (b *building) Unavailable() (string, bool) { return "run task wasm", b.soon }

// patient notes until when an answer may take.
type patient struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.until = t
	return nil
}

// TestASlowLinkGetsTheClientAllTheSame: the bound of answers in general would cut a
// megabyte off below 300 kbit/s, each time at the same place.
func TestASlowLinkGetsTheClientAllTheSame(t *testing.T) {
	w := &patient{ResponseRecorder: httptest.NewRecorder()}
	before := time.Now()
	files := fstest.MapFS{"quoit.wasm": {Data: []byte("\x00asm")}}
	newAssets(files).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/quoit.wasm", nil))
	if w.Code != http.StatusOK || w.until.Before(before.Add(fileTime)) {
		t.Errorf("status %d, to be sent until %s after %s", w.Code, w.until, before)
	}
}

// TestAFileThatIsNotBuilt is answered with what to do, or when to ask again; and a file
// that was served before is not mixed up with another of its name and size.
func TestAFileThatIsNotBuilt(t *testing.T) {
	files := fstest.MapFS{"a/x.js": {Data: []byte("one")}, "b/x.js": {Data: []byte("two")}}
	b := &building{FS: files, soon: true}
	g := start(t, "127.0.0.1:1", options{seams: func(s *Seams) { s.Assets = b }})
	ask := func(path string) (int, http.Header, string) {
		return g.get("GET " + path + " HTTP/1.1\nHost: " + g.Addr() + "\nAccept-Encoding: br, gzip\nConnection: close\n\n")
	}
	if status, h, body := ask("/quoit.wasm"); status != 503 || h.Get("Retry-After") != "1" || !strings.Contains(body, "run task wasm") {
		t.Errorf("while it is built: %d %v %q", status, h, body)
	}
	b.soon = false
	if status, h, _ := ask("/quoit.wasm"); status != 503 || h.Get("Retry-After") != "" {
		t.Errorf("when it cannot be built: %d %v", status, h)
	}
	_, one, _ := ask("/a/x.js")
	_, two, body := ask("/b/x.js")
	if _, again, _ := ask("/a/x.js"); one.Get("ETag") == two.Get("ETag") || one.Get("ETag") != again.Get("ETag") || body != "two" {
		t.Errorf("ETags %s, %s, %s; body %q", one.Get("ETag"), two.Get("ETag"), again.Get("ETag"), body)
	}
}

// frame makes one frame as clients send them.
func frame(fin bool, opcode byte, size int, payload []byte) []byte {
	b := []byte{opcode, 0x80 | 127}
	if fin {
		b[0] |= 0x80
	}
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = append(b, 0, 0, 0, 0) // the mask that changes nothing
	return append(b, payload...)
}

// raw opens a channel and gives the connection under it.
func (f *fixture) raw(path string) net.Conn {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, strings.ReplaceAll(f.handshake(path), "\n", "\r\n")); err != nil {
		f.t.Fatal(err)
	}
	r := bufio.NewReaderSize(nc, 1)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			f.t.Fatal(err)
		}
		if line == "\r\n" {
			return nc
		}
	}
}

const (
	text, binaryFrame, more, closeFrame = 1, 2, 0, 8
)

// closeCode reads frames from the gateway until it closes; 0 if it does without a word.
func closeCode(nc net.Conn) int {
	r := bufio.NewReader(nc)
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			return 0
		}
		size := int64(head[1] & 0x7f)
		switch long := make([]byte, 8); size {
		case 126:
			_, _ = io.ReadFull(r, long[:2])
			size = int64(binary.BigEndian.Uint16(long))
		case 127:
			_, _ = io.ReadFull(r, long)
			size = int64(binary.BigEndian.Uint64(long))
		}
		if head[0]&0xf != closeFrame {
			_, _ = io.CopyN(io.Discard, r, size)
			continue
		}
		code := make([]byte, 2)
		if _, err := io.ReadFull(r, code); err != nil {
			return 0
		}
		return int(binary.BigEndian.Uint16(code))
	}
}

func TestFramesThatEndTheChannelAndNoOther(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 1, options{})
	path := "/v1/node/" + cluster.Addresses()[0]
	healthy := g.channel(cluster.Addresses()[0])
	ping, large := []byte(request("PING")), []byte(request("SET", "k", strings.Repeat("x", 2<<20)))
	for name, c := range map[string]struct {
		sent []byte
		want int
	}{
		"a text message":           {frame(true, text, len(ping), ping), int(CloseProtocol)},
		"larger than allowed":      {frame(true, binaryFrame, len(large), large), 1009},
		"larger in pieces":         {append(frame(false, binaryFrame, 1<<20, large[:1<<20]), frame(true, more, len(large)-1<<20, large[1<<20:])...), 1009},
		"a continuation alone":     {frame(true, more, len(ping), ping), 1002},
		"an unknown opcode":        {frame(true, 5, 0, nil), 1002},
		"bits that nobody agreed":  {append([]byte{0xc2}, frame(true, binaryFrame, 0, nil)[1:]...), 1002},
		"a long control frame":     {frame(true, 9, 200, make([]byte, 200)), 1002},
		"a control frame in parts": {frame(false, 9, 1, []byte("x")), 1002},
		"no mask":                  {[]byte{0x82, 1, 'x'}, 0},
		"garbage":                  {frame(true, binaryFrame, 12, []byte("*1\r\n!oops!\r\n")), int(CloseProtocol)},
		"a huge array":             {frame(true, binaryFrame, 14, []byte("*9999999999\r\n\r")), int(CloseProtocol)},
		"HTTP in a message":        {frame(true, binaryFrame, 16, []byte("POST / HTTP/1.1\n")), int(CloseProtocol)},
	} {
		nc := g.raw(path)
		go func() { _, _ = nc.Write(c.sent) }()
		if got := closeCode(nc); got != c.want {
			t.Errorf("%s: closed with %d, want %d", name, got, c.want)
		}
		if got := healthy.do("PING"); got != "+PONG" {
			t.Fatalf("%s: a healthy client hears %s", name, got)
		}
	}
}

func TestARequestInManyFrames(t *testing.T) {
	cluster, g := both(t, 1, options{})
	nc := g.raw("/v1/node/" + cluster.Addresses()[0])
	var sent []byte
	whole := request("SET", "k", "value") + request("GET", "k")
	for i := range len(whole) {
		sent = append(sent, frame(i == len(whole)-1, map[bool]byte{true: binaryFrame, false: more}[i == 0], 1, []byte(whole[i:i+1]))...)
		sent = append(sent, 0x89, 0x80, 0, 0, 0, 0) // a ping between them
	}
	go func() { _, _ = nc.Write(sent) }()
	waitFor(t, "the key", func() bool { return g.redis().do("GET", "k") == "value" })
}

// TestACommandInAValueIsAValue: whatever a value looks like, it is not looked at.
func TestACommandInAValueIsAValue(t *testing.T) {
	cluster, g := both(t, 1, options{})
	evil := "x\r\n" + request("CLUSTER", "FORGET", "all") + request("MIGRATE_RANGE", "0", "1", "2", "3") + "DEL victim\r\n"
	p, r := g.channel(cluster.Addresses()[0]), g.redis()
	p.do("SET", "victim", "lives")
	for name, do := range map[string]func(...string) string{"channel": p.do, "redis": r.do} {
		if got := do("SET", "k", evil); got != "+OK" {
			t.Errorf("%s: SET %s", name, got)
		}
		if got := do("GET", "k"); got != evil {
			t.Errorf("%s: GET %q", name, got)
		}
		if got := do("GET", "victim"); got != "lives" {
			t.Errorf("%s: the next reply is %q", name, got)
		}
		// Nor does a line do more than it says, however it is quoted.
		if got := do("ECHO", "a\nDEL victim"); got != "a\nDEL victim" {
			t.Errorf("%s: ECHO %q", name, got)
		}
	}
	p.send("MGET victim \"\\r\\nDEL victim\\r\\n\"\r\n")
	if got := p.reply(); got != "[lives nil]" {
		t.Errorf("a line: %q", got)
	}
	if g.stats.denied.Load() != 0 {
		t.Error("a value was taken for a command")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	cluster, g := both(t, 1, options{config: func(c *Config) { c.Limits.Connections, c.Limits.PerAddress = 5, 4 }})
	kept := []*redisClient{g.redis(), g.redis(), g.redis()}
	for _, c := range kept {
		c.do("PING")
	}
	p := g.channel(cluster.Addresses()[0])
	if got := g.redis().reply(); !strings.HasPrefix(got, "-OVERLOADED") || !strings.Contains(got, "QUOIT_GATEWAY_MAX_PER_ADDRESS") {
		t.Errorf("one too many from one address: %s", got)
	}
	if status, _, body := g.get("GET / HTTP/1.1\nHost: " + g.Addr() + "\n\n"); status != 503 || !strings.Contains(body, "QUOIT_GATEWAY_MAX_PER_ADDRESS") {
		t.Errorf("one too many by HTTP: %d %s", status, body)
	}
	if got := p.do("PING"); got != "+PONG" {
		t.Errorf("who is in: %s", got)
	}
	kept[0].Close()
	waitFor(t, "room for another", func() bool {
		c := g.redis()
		defer c.Close()
		c.send("PING\r\n")
		return c.reply() == "+PONG"
	})
	if g.stats.refusedAddress.Load() == 0 {
		t.Error("not counted")
	}
}

// fakeClock is the time of day in a test's hands.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// slowWrites gives a client little time to take its replies, by a clock in the test's
// hands: a busy machine does not make anybody slow.
func slowWrites(clock *fakeClock) options {
	return options{
		config: func(c *Config) { c.Times.Write = 100 * time.Millisecond },
		seams:  func(s *Seams) { s.Now = clock.now },
	}
}

// only is the stamp of whoever is the only guest, for what is written to it.
func (f *fixture) only() (writer *stamp) {
	f.t.Helper()
	waitFor(f.t, "one guest", func() bool {
		guests := 0
		f.roster.each(func(x guest) {
			guests++
			switch x := x.(type) {
			case *channel:
				writer = &x.writer
			case *visitor:
				writer = &x.status
			}
		})
		return guests == 1
	})
	return writer
}

// passWriteTimeout lets the time pass in which replies must be taken, while nothing is
// being written to a healthy client.
func (f *fixture) passWriteTimeout(clock *fakeClock, healthy *stamp) {
	f.t.Helper()
	waitFor(f.t, "the healthy client's reply to be written", func() bool { p, _ := healthy.read(); return p <= idleLarge })
	clock.advance(f.times.Write + time.Millisecond)
}

func TestASlowPageIsCutOffAndNobodyElseNotices(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	cluster, g := both(t, 1, slowWrites(clock))
	address := cluster.Addresses()[0]
	other := g.channel(address)
	healthy := g.only()
	if got := other.do("SET", "big", strings.Repeat("x", 1000<<10)); got != "+OK" {
		t.Fatal(got)
	}
	ws, _, err := g.dialPath("/v1/node/"+address, g.header()) //nolint:bodyclose // the library does
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	// It asks for far more than the kernel buffers, and reads nothing.
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte(strings.Repeat(request("GET", "big"), 100))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the slow page to be noticed", func() bool {
		if got := other.do("PING"); got != "+PONG" {
			t.Fatal(got)
		}
		g.passWriteTimeout(clock, healthy)
		return g.stats.cutSlowReader.Load() == 1
	})
	// It wakes up in time to read why.
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, err := ws.Read(ctx)
		cancel()
		if err == nil {
			continue
		}
		if got := websocket.CloseStatus(err); got != CloseSlow {
			t.Errorf("closed with %d: %v", got, err)
		}
		break
	}
	waitFor(t, "its channel to be gone", func() bool { return g.stats.channels.Load() == 1 })
	if used := g.budget.Used(); used > 1<<20 {
		t.Errorf("%d bytes in buffers", used)
	}
}

func TestASlowRedisClientIsCutOff(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	_, g := both(t, 1, slowWrites(clock))
	other := g.redis()
	healthy := g.only()
	if got := other.do("SET", "big", strings.Repeat("x", 1000<<10)); got != "+OK" {
		t.Fatal(got)
	}
	slow := g.redis()
	_ = slow.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	go func() { _, _ = io.WriteString(slow, strings.Repeat(request("GET", "big"), 100)) }()
	waitFor(t, "the slow client to be cut off", func() bool {
		if got := other.do("PING"); got != "+PONG" {
			t.Fatal(got)
		}
		g.passWriteTimeout(clock, healthy)
		return g.stats.cutSlowReader.Load() == 1
	})
}

// TestASlowNodePausesItsPages: what a page sends to a node that does not read stays
// with the page.
func TestASlowNodePausesItsPages(t *testing.T) {
	cluster := startCluster(t, 1)
	stuck := make(chan net.Conn, 1)
	g := start(t, cluster.Manager(), options{seams: func(s *Seams) {
		s.Dial = func(context.Context, string) (net.Conn, error) {
			a, b := net.Pipe() // nothing is buffered on the way
			stuck <- b
			return a, nil
		}
	}}).ready()
	p := g.channel(cluster.Addresses()[0])
	node := <-stuck
	defer node.Close()
	var sent atomic.Int64
	message := []byte(request("SET", "k", strings.Repeat("x", 1000)))
	go func() {
		for range 1 << 20 {
			if p.Write(context.Background(), websocket.MessageBinary, message) != nil {
				return
			}
			sent.Add(int64(len(message)))
		}
	}()
	last := int64(-1)
	waitFor(t, "the page to be paused", func() bool {
		now := sent.Load()
		paused := now == last && now > 0 && g.stats.bytesIn.Load() > 0
		last = now
		return paused || g.stats.messagesIn.Load() == 1 && now == last && now > 1<<20
	})
	if read := g.stats.messagesIn.Load(); read > 1000 {
		t.Errorf("the gateway has read %d messages for a node that took none", read)
	}
}

func TestHalfARequestAndSilence(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	cluster, g := both(t, 1, options{seams: func(s *Seams) { s.Now = clock.now }})
	p, c := g.channel(cluster.Addresses()[0]), g.redis()
	p.send("*2\r\n$3\r\nGET\r\n$1000\r\nabc")
	c.send("*2\r\n$3\r\nGET\r\n$1000\r\nabc")
	waitFor(t, "both halves to be read", func() bool {
		n := 0
		g.roster.each(func(x guest) {
			switch x := x.(type) {
			case *channel:
				if ph, _ := x.reader.read(); ph == partial {
					n++
				}
			case *visitor:
				if ph, _ := x.status.read(); ph == partial {
					n++
				}
			}
		})
		return n == 2
	})
	clock.advance(31 * time.Second)
	if got := p.reply(); got != fmt.Sprint("closed ", int(CloseProtocol)) {
		t.Errorf("page: %s", got)
	}
	if got := c.reply(); !strings.Contains(got, "did not come within 30s") {
		t.Errorf("redis: %s", got)
	}
}

func TestAPageThatIsGoneIsNoticed(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	cluster, g := both(t, 1, options{
		config: func(c *Config) { c.Times.Ping = 10 * time.Second }, // also what a pong may take
		seams:  func(s *Seams) { s.Now = clock.now },
	})
	dead := g.raw("/v1/node/" + cluster.Addresses()[0]) // it will never answer a ping
	_ = dead
	alive := g.channel(cluster.Addresses()[0])
	go func() { // as a browser does: it reads, and so answers pings
		_, _, _ = alive.Read(context.Background())
	}()
	waitFor(t, "both to be in", func() bool { return g.stats.channels.Load() == 2 })
	clock.advance(11 * time.Second)
	waitFor(t, "the dead one to be cut off", func() bool { return g.stats.cutPing.Load() == 1 })
	waitFor(t, "one to be left", func() bool { return g.stats.channels.Load() == 1 })
}
