package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// fakeManager answers CLUSTER with what it was told to, and counts. Of a topology it
// knows nothing.
type fakeManager struct {
	net.Listener
	mu     sync.Mutex
	asked  map[string]int // by verb
	answer string         // the whole reply to STATUS
	conns  []net.Conn
}

func newFakeManager(t *testing.T, answer string) *fakeManager {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeManager{Listener: l, asked: make(map[string]int), answer: answer}
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns = append(m.conns, nc)
			m.mu.Unlock()
			ended.Go(func() { m.serve(nc) })
		}
	})
	t.Cleanup(func() {
		m.stop()
		ended.Wait()
	})
	return m
}

func (m *fakeManager) serve(nc net.Conn) {
	defer nc.Close()
	for r := bufio.NewReader(nc); ; {
		words, err := readReply(r) // a request looks like a reply
		if err != nil {
			return
		}
		if _, err := io.WriteString(nc, m.reply(words)); err != nil {
			return
		}
	}
}

func (m *fakeManager) reply(words string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[words]++
	switch words {
	case "[CLUSTER STATUS]":
		return m.answer
	case "[CLUSTER PAUSE]":
		return "+OK\r\n"
	case "[CLUSTER RESUME]":
		return "-UNAVAILABLE the bucket is away\r\n"
	}
	return "-UNAVAILABLE no topology here\r\n"
}

// stop is the end of its process.
func (m *fakeManager) stop() {
	_ = m.Close()
	m.hangUp()
}

// hangUp closes the connections that it has.
func (m *fakeManager) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, nc := range m.conns {
		_ = nc.Close()
	}
	m.conns = nil
}

func (m *fakeManager) count(words string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[words]
}

func bulk(text string) string { return string(protocol.AppendBulkString(nil, text)) }

// statusBody is /v1/status as a page reads it.
type statusBody struct {
	Console string          `json:"console"`
	AgeMS   int64           `json:"age_ms"`
	Trouble string          `json:"trouble"`
	Cluster json.RawMessage `json:"cluster"`
	Error   string          `json:"error"`
}

func (f *fixture) askJSON(text string) (int, statusBody) {
	f.t.Helper()
	status, h, body := f.get(text)
	var out statusBody
	if h.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			f.t.Errorf("%q: %v", body, err)
		}
	}
	return status, out
}

func (f *fixture) status() (int, statusBody) {
	f.t.Helper()
	return f.askJSON("GET /v1/status HTTP/1.1\nHost: " + f.Addr() + "\nConnection: close\n\n")
}

// post is what the page sends to change something, with lines changed as in handshake.
func (f *fixture) post(path string, changes ...string) string {
	text := f.handshake(path, append([]string{
		"Connection", "close", "Upgrade", "", "Sec-WebSocket-Version", "", "Sec-WebSocket-Key", "", "Sec-WebSocket-Protocol", "",
	}, changes...)...)
	text = strings.Replace(text, "GET ", "POST ", 1)
	if !strings.Contains(text, "Content-Type:") {
		text = strings.TrimSuffix(text, "\n") + "Content-Type: application/json\n\n"
	}
	return strings.TrimSuffix(text, "\n") + "Content-Length: 2\n\n{}"
}

func TestTheStatusIsTheManagers(t *testing.T) {
	cluster, g := both(t, 2, options{})
	code, s := g.status()
	var told struct {
		Formed bool `json:"formed"`
		Nodes  []struct {
			Address string  `json:"address"`
			Share   float64 `json:"share"`
		} `json:"nodes"`
		Paused bool `json:"moves_paused"`
	}
	if err := json.Unmarshal(s.Cluster, &told); err != nil || code != 200 {
		t.Fatalf("%d, %v", code, err)
	}
	if len(told.Nodes) != len(cluster.Addresses()) || !told.Formed || told.Paused || s.Console != "operate" || s.AgeMS < 0 || s.Trouble != "" {
		t.Errorf("%+v %+v", s, told)
	}
	for path, want := range map[string]bool{"/v1/moves/pause": true, "/v1/moves/resume": false} {
		code, s := g.askJSON(g.post(path))
		if err := json.Unmarshal(s.Cluster, &told); err != nil || code != 200 || told.Paused != want {
			t.Errorf("%s: %d %+v, %v", path, code, s, err)
		}
	}
}

// TestAThousandPagesCostTheManagerOneRequest, and a thousand more within the second none.
func TestAThousandPagesCostTheManagerOneRequest(t *testing.T) {
	m := newFakeManager(t, bulk(`{"formed":true}`))
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	g := start(t, m.Addr().String(), options{
		config: func(c *Config) { c.Limits.PerAddress = 0 },
		seams:  func(s *Seams) { s.Now = clock.now },
	})
	readers := 1000
	if raceEnabled || testing.Short() {
		readers = 200
	}
	for round := 1; round <= 2; round++ {
		var all sync.WaitGroup
		for range readers {
			all.Go(func() {
				if code, s := g.status(); code != 200 || string(s.Cluster) != `{"formed":true}` {
					t.Errorf("%d %+v", code, s)
				}
			})
		}
		all.Wait()
		if got := m.count("[CLUSTER STATUS]"); got != round {
			t.Errorf("in the second number %d the manager has been asked %d times", round, got)
		}
		clock.advance(statusAge)
	}
}

func TestTheManagerIsAway(t *testing.T) {
	m := newFakeManager(t, bulk(`{"formed":true}`))
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	g := start(t, m.Addr().String(), options{seams: func(s *Seams) { s.Now = clock.now }})
	if code, s := g.status(); code != 200 || s.AgeMS != 0 {
		t.Fatalf("%d %+v", code, s)
	}

	m.hangUp() // only the connection is lost: nobody notices
	clock.advance(statusAge)
	if code, s := g.status(); code != 200 || s.AgeMS != 0 || s.Trouble != "" {
		t.Errorf("with a connection lost: %d %+v", code, s)
	}

	m.stop()
	clock.advance(3 * time.Second)
	code, s := g.status()
	if code != 200 || s.AgeMS != 3000 || !strings.Contains(s.Trouble, m.Addr().String()+" does not answer") || string(s.Cluster) != `{"formed":true}` {
		t.Errorf("what was known stays, with its age: %d %+v", code, s)
	}
	code, s = g.askJSON(g.post("/v1/moves/pause"))
	if code != 502 || !strings.Contains(s.Error, "may have done it or not") {
		t.Errorf("a change: %d %+v", code, s)
	}

	never := start(t, m.Addr().String(), options{})
	if code, s := never.status(); code != 503 || s.AgeMS != -1 || !strings.Contains(s.Trouble, "does not answer") || string(s.Cluster) != "null" {
		t.Errorf("that never answered: %d %+v", code, s)
	}
}

func TestAnAnswerThatIsNoStatus(t *testing.T) {
	for name, answer := range map[string]string{
		"a refusal": "-UNAVAILABLE not now\r\n", "no JSON": bulk("<b>hello</b>"), "nothing": bulk(""), "a number": ":1x\r\n", "too large": "$99999999\r\n",
	} {
		g := start(t, newFakeManager(t, answer).Addr().String(), options{})
		if code, s := g.status(); code != 503 || s.Trouble == "" || string(s.Cluster) != "null" {
			t.Errorf("%s: %d %+v", name, code, s)
		}
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	m := newFakeManager(t, bulk(`{}`))
	g := start(t, m.Addr().String(), options{})
	port := g.Addr()[strings.LastIndex(g.Addr(), ":"):]
	pause := "/v1/moves/pause"
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"another site":             {g.post(pause, "Origin", "https://evil.example"), 403},
		"our name, other port":     {g.post(pause, "Origin", "http://127.0.0.1:1"), 403},
		"a sandboxed page":         {g.post(pause, "Origin", "null"), 403},
		"two origins":              {g.post(pause, "+", "Origin: https://evil.example"), 403},
		"no page":                  {g.post(pause, "Origin", ""), 403},
		"a rebound name":           {g.post(pause, "Host", "evil.example"+port, "Origin", "http://evil.example"+port), 403},
		"a form":                   {g.post(pause, "+", "Content-Type: application/x-www-form-urlencoded"), 415},
		"plain text":               {g.post(pause, "+", "Content-Type: text/plain"), 415},
		"two types":                {g.post(pause, "+", "Content-Type: text/plain; application/json"), 415},
		"a link":                   {strings.Replace(g.post(pause), "POST", "GET", 1), 405},
		"another method":           {strings.Replace(g.post(pause), "POST", "DELETE", 1), 405},
		"may I, from another site": {strings.Replace(g.post(pause, "Origin", "https://evil.example"), "POST", "OPTIONS", 1), 405},
		"another verb":             {g.post("/v1/moves/forget"), 404},
		"the status by POST":       {g.post("/v1/status"), 405},
		"a file by POST":           {g.post("/"), 405},
		"the status, elsewhere":    {g.handshake("/v1/status", "Origin", "https://evil.example"), 403},
		"the status, rebound":      {g.handshake("/v1/status", "Host", "evil.example", "Origin", ""), 403},
		"what the manager refuses": {g.post("/v1/moves/resume"), 409},
		"as it should be":          {g.post(pause), 200},
	} {
		status, h, body := g.get(c.request)
		if status != c.want {
			t.Errorf("%s: %d, want %d\n%s", name, status, c.want, body)
		}
		for header := range h {
			if strings.HasPrefix(header, "Access-Control-") {
				t.Errorf("%s: another site is told that it may: %s", name, header)
			}
		}
	}
	if paused, resumed := m.count("[CLUSTER PAUSE]"), m.count("[CLUSTER RESUME]"); paused != 1 || resumed != 1 {
		t.Errorf("the manager was asked to pause %d times and to resume %d times", paused, resumed)
	}
}

func TestWhatTheConsoleMay(t *testing.T) {
	m := newFakeManager(t, bulk(`{}`))
	page := fstest.MapFS{
		"index.html": {Data: []byte("page")}, "console/main.js": {Data: []byte("page")}, "todo/index.html": {Data: []byte("page")},
		"quoit.js": {Data: []byte("client")},
	}
	for name, c := range map[string]struct {
		set            func(*Config)
		console        string
		status, change int
	}{
		"by default":          {func(*Config) {}, "operate", 200, 200},
		"read":                {func(c *Config) { c.Console = ConsoleRead }, "read", 200, 403},
		"off":                 {func(c *Config) { c.Console = ConsoleOff }, "", 404, 404},
		"a name of its own":   {func(c *Config) { c.Hosts = List{"app.example.org"} }, "read", 200, 403},
		"other pages":         {func(c *Config) { c.Origins = List{"http://app.example.org"} }, "read", 200, 403},
		"a name, and operate": {func(c *Config) { c.Hosts, c.Console = List{"app.example.org"}, ConsoleOperate }, "operate", 200, 200},
		"on every network card": {func(c *Config) {
			c.Addr, c.RedisAddr, c.Open, c.Hosts = "0.0.0.0:0", "off", true, List{"app.example.org"}
		}, "read", 200, 403},
	} {
		g := start(t, m.Addr().String(), options{config: c.set, seams: func(s *Seams) { s.Assets = page }})
		host := g.Addr()
		if len(g.config.Hosts) > 0 {
			host = g.config.Hosts[0]
		}
		origin := "http://" + host
		if len(g.config.Origins) > 0 {
			origin = g.config.Origins[0]
		}
		get := func(path string) string { return fmt.Sprintf("GET %s HTTP/1.1\nHost: %s\n\n", path, host) }
		if status, s := g.askJSON(get("/v1/status")); status != c.status || s.Console != c.console {
			t.Errorf("%s: status %d %+v", name, status, s)
		}
		if status, _, body := g.get(g.post("/v1/moves/pause", "Host", host, "Origin", origin)); status != c.change {
			t.Errorf("%s: a change %d %s", name, status, body)
		}
		for _, path := range []string{"/", "/index.html", "/console/main.js", "/todo/"} {
			if status, _, _ := g.get(get(path)); status != c.status && !(path == "/index.html" && status == 301) {
				t.Errorf("%s: %s %d", name, path, status)
			}
		}
		if status, _, _ := g.get(get("/quoit.js")); status != 200 {
			t.Errorf("%s: applications have no client: %d", name, status)
		}
	}
}

func TestAWrongWordForTheConsole(t *testing.T) {
	_, err := LoadConfig(map[string]string{"QUOIT_GATEWAY_CONSOLE": "write"})
	if err == nil || !strings.Contains(err.Error(), "off, read or operate") || !strings.Contains(err.Error(), "QUOIT_GATEWAY_CONSOLE") {
		t.Errorf("%v", err)
	}
}
