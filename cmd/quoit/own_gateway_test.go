package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/manager"
)

// overWebSocket says something to a published endpoint, from a page of an origin, in a
// browser that knows an authority.
func overWebSocket(t *testing.T, url, origin, request string, known ...*x509.CertPool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	for _, roots := range known {
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	}
	ws, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{ //nolint:bodyclose // the library does
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"Origin": {origin}}, Subprotocols: []string{gateway.Subprotocol},
	})
	if err != nil {
		if res != nil {
			return res.Status
		}
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if err := ws.Write(ctx, websocket.MessageBinary, []byte(request)); err != nil {
		t.Fatal(err)
	}
	_, answer, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestUpLetsPagesGoStraightToNodes: the topology names an endpoint for each node, which
// lets the pages of the gateway in, and the gateway tells its pages that they may go there.
func TestUpLetsPagesGoStraightToNodes(t *testing.T) {
	dir := t.TempDir()
	up, _, stop := upOn(t, dir, "--nodes", "2")
	endpoints := func() map[string]string {
		t.Helper()
		var topology topologyJSON
		if err := json.Unmarshal([]byte(must(t, "cluster", "topology", "--json", "-m", up.Manager)), &topology); err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, n := range topology.Nodes {
			all[n.Address] = n.Endpoints["ws"]
		}
		return all
	}
	first := endpoints()
	if len(first) != 2 {
		t.Fatalf("endpoints %v", first)
	}
	var status manager.Status
	if err := json.Unmarshal([]byte(must(t, "cluster", "status", "--json", "-m", up.Manager)), &status); err != nil {
		t.Fatal(err)
	}
	text := must(t, "cluster", "status", "-m", up.Manager)
	for _, n := range status.Nodes {
		url := first[n.Address]
		if !strings.HasSuffix(url, "/v1/node/"+n.Address) || n.Endpoints["ws"] != url {
			t.Errorf("%s is reached at %q, and the status says %v", n.Address, url, n.Endpoints)
		}
		mustSay(t, text, "also reached at", url)
		if got := overWebSocket(t, url, "http://"+up.Gateway, "PING\r\n"); got != "+PONG\r\n" {
			t.Errorf("%s answers a page of the gateway %q", url, got)
		}
		if got := overWebSocket(t, url, "https://evil.example", "PING\r\n"); got != "403 Forbidden" {
			t.Errorf("%s answers a page of another site %q", url, got)
		}
	}
	res, err := http.Get("http://" + up.Gateway + "/quoit.js") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	for _, url := range first {
		mustSay(t, res.Header.Get("Content-Security-Policy"), url)
	}
	stop()

	// On other ports the next time, and published again.
	up, _, stop = upOn(t, dir)
	defer stop()
	for address, url := range endpoints() {
		if got := overWebSocket(t, url, "http://"+up.Gateway, "PING\r\n"); got != "+PONG\r\n" {
			t.Errorf("after a restart %s at %s answers %q", address, url, got)
		}
	}
}

// TestPagesGoStraightToNodesOverTLS: where the gateways show browsers a certificate, a page
// comes by https and may open nothing but wss. A node published ws:// for a listener that
// spoke TLS: nobody could dial it.
func TestPagesGoStraightToNodesOverTLS(t *testing.T) {
	certificates := t.TempDir()
	must(t, "cert", "ca", certificates)
	must(t, "cert", "issue", certificates, "web", "--host", "127.0.0.1")
	t.Setenv("QUOIT_GATEWAY_TLS_CERT_FILE", filepath.Join(certificates, "web.pem"))
	t.Setenv("QUOIT_GATEWAY_TLS_KEY_FILE", filepath.Join(certificates, "web.key"))
	authority, err := os.ReadFile(filepath.Join(certificates, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)

	up, _, stop := upOn(t, t.TempDir(), "--nodes", "2")
	defer stop()
	var topology topologyJSON
	if err := json.Unmarshal([]byte(must(t, "cluster", "topology", "--json", "-m", up.Manager)), &topology); err != nil {
		t.Fatal(err)
	}
	for _, n := range topology.Nodes {
		url := n.Endpoints["ws"]
		if !strings.HasPrefix(url, "wss://127.0.0.1:") {
			t.Errorf("%s is reached at %q", n.Address, url)
			continue
		}
		if got := overWebSocket(t, url, "https://"+up.Gateway, "PING\r\n", roots); got != "+PONG\r\n" {
			t.Errorf("%s answers a page of the gateway %q", url, got)
		}
		if got := overWebSocket(t, url, "http://evil.example", "PING\r\n", roots); got != "403 Forbidden" {
			t.Errorf("%s answers a page of another site %q", url, got)
		}
	}
}
