package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func start(t *testing.T, o Options) (base string) {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := errors.Join(s.Close(context.Background()), s.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReadyFollowsTheServer(t *testing.T) {
	var ready atomic.Bool
	base := start(t, Options{Ready: func() error {
		if !ready.Load() {
			return errors.New("reading the log: 40 %")
		}
		return nil
	}})
	if code, body := get(t, base+"/readyz"); code != 503 || !strings.Contains(body, "reading the log") {
		t.Errorf("not ready: %d %q", code, body)
	}
	ready.Store(true)
	if code, body := get(t, base+"/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	if code, _ := get(t, base+"/healthz"); code != 200 {
		t.Errorf("healthy: %d", code)
	}
}

func TestMetricsAndProfiles(t *testing.T) {
	base := start(t, Options{Metrics: func(w io.Writer) { fmt.Fprintln(w, "quoit_up 1") }})
	if code, body := get(t, base+"/metrics"); code != 200 || !strings.Contains(body, "quoit_up 1\n") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %d %q", code, body)
	}
	if code, body := get(t, base+"/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d %q", code, body)
	}
	if code, _ := get(t, base+"/"); code != 404 {
		t.Errorf("root: %d", code)
	}
}

func TestOnlyReading(t *testing.T) {
	base := start(t, Options{})
	resp, err := http.Post(base+"/healthz", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// ask asks for a profile as if the connection had come to the local address at.
func ask(o Options, at, host string, header ...string) *httptest.ResponseRecorder {
	return request(o, "/debug/pprof/goroutine?debug=1", at, host, header...)
}

// askMetrics is ask for /metrics.
func askMetrics(o Options, at, host string) *httptest.ResponseRecorder {
	return request(o, "/metrics", at, host)
}

func request(o Options, path, at, host string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at))
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	r.Host = host
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler(o).ServeHTTP(w, r)
	return w
}

func TestAReboundNameReadsNothing(t *testing.T) {
	const here, there = "127.0.0.1:7501", "10.0.0.7:7501"
	o := Options{Hosts: []string{"node-1.example.org"}}
	for _, c := range []struct {
		at, host string
		want     int
	}{
		{here, "127.0.0.1:7501", 200},
		{here, "[::1]:7501", 200},
		{here, "[::1]", 200},
		{here, "0.0.0.0:7501", 200},
		{here, "localhost:9999", 200}, // a forwarded port
		{here, "LOCALHOST", 200},
		{here, "node-1.example.org:7501", 200},
		{here, "", 403},
		{here, ":7501", 403},
		{here, "evil.tld:7501", 403},
		{here, "localhost.evil.tld:7501", 403},
		{here, "127.0.0.1.evil.tld", 403},
		{here, "localhost.", 403},
		{here, "localhost.:7501", 403},
		{here, "127.0.0.1.:7501", 403},
		{here, "2130706433:7501", 403},
		{here, "0x7f.1", 403},
		{here, "127.1", 403},
		{here, "intranet:7501", 403},
		{here, "node-1.example.org.evil.tld", 403},
		{there, "10.0.0.7:7501", 200},
		{there, "quoit-node-0:7501", 200},
		{there, "localhost:7501", 200}, // a published port
		{there, "node-1.example.org", 200},
		{there, "evil.tld:7501", 403},
		{there, "localhost.evil.tld:7501", 403},
		{there, "node-1.example.org.:7501", 403},
	} {
		if got := askMetrics(o, c.at, c.host); got.Code != c.want {
			t.Errorf("Host %q at %s: %d, want %d", c.host, c.at, got.Code, c.want)
		}
	}
}

func TestTwoHostsAreRefused(t *testing.T) {
	base := start(t, Options{})
	for what, request := range map[string]string{
		"two":  "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.tld\r\n\r\n",
		"none": "GET /metrics HTTP/1.1\r\n\r\n",
		"old":  "GET /metrics HTTP/1.0\r\n\r\n",
	} {
		nc, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode < 400 {
			t.Errorf("%s Host: %d", what, resp.StatusCode)
		}
		resp.Body.Close()
		nc.Close()
	}
}

func TestProfilesAreForThisMachineAlone(t *testing.T) {
	if got := ask(Options{}, "127.0.0.1:7501", "127.0.0.1:7501"); got.Code != 200 {
		t.Errorf("over loopback: %d", got.Code)
	}
	if got := ask(Options{}, "10.0.0.7:7501", "10.0.0.7:7501"); got.Code != 403 {
		t.Errorf("from elsewhere: %d", got.Code)
	}
	if got := ask(Options{Hosts: []string{"a.example.org"}}, "10.0.0.7:7501", "a.example.org"); got.Code != 403 {
		t.Errorf("from elsewhere by a configured name: %d", got.Code)
	}
	if got := askMetrics(Options{}, "10.0.0.7:7501", "10.0.0.7:7501"); got.Code != 200 {
		t.Errorf("metrics from elsewhere: %d", got.Code)
	}
}

func TestPagesOfOtherSitesAskInVain(t *testing.T) {
	const here = "127.0.0.1:7501"
	for _, c := range []struct {
		header []string
		want   int
	}{
		{nil, 200},
		{[]string{"Sec-Fetch-Site", "none"}, 200},
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site"}, 403},
		{[]string{"Origin", "http://" + here}, 200},
		{[]string{"Origin", "https://evil.tld"}, 403},
		{[]string{"Origin", "null"}, 403},
	} {
		got := ask(Options{}, here, here, c.header...)
		if got.Code != c.want {
			t.Errorf("%v: %d, want %d", c.header, got.Code, c.want)
		}
		if got.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(got.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%v: headers %v", c.header, got.Header())
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	base := start(t, Options{})
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	for range maxConnections {
		dial()
	}
	nc := dial()
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection too many: %v, want it closed", err)
	}
}

func TestAddressInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(Options{Addr: l.Addr().String()}); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
