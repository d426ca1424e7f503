package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

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
