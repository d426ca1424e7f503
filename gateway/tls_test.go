package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
)

// believing is TLS of a client that believes an authority.
func believing(t *testing.T, a *tlstest.Authority) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// TestThePublicSideSpeaksTLS: pages, WebSockets and Redis clients; and what is plain is
// hung up on.
func TestThePublicSideSpeaksTLS(t *testing.T) {
	t.Parallel()
	authority := tlstest.NewAuthority(t)
	files := authority.Config(false)
	cluster, g, i := guarded(t, 1, options{config: func(c *Config) {
		c.Public = tlsconf.Public{PublicCert: files.TLSCert, PublicKey: files.TLSKey}
	}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: believing(t, authority), DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Get("https://" + g.Addr() + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s, %v", res.StatusCode, body, err)
	}
	channel := func(origin string) (*websocket.Conn, *http.Response, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		t.Cleanup(cancel)
		return websocket.Dial(ctx, "wss://"+g.Addr()+"/v1/node/"+cluster.Addresses()[0], &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: client.Transport}, HTTPHeader: http.Header{"Origin": {origin}}, Subprotocols: []string{Subprotocol},
		})
	}
	if _, res, err := channel("http://" + g.Addr()); err == nil || res == nil || res.StatusCode != http.StatusForbidden { //nolint:bodyclose // the library does
		t.Errorf("a page that came in the clear: %v", err)
	}
	ws, _, err := channel("https://" + g.Addr()) //nolint:bodyclose // the library does
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte(request("AUTH", i.token(nil, "cart:")))); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ws.Read(t.Context()); err != nil || string(got) != "+OK\r\n" {
		t.Errorf("%q, %v", got, err)
	}

	db := redis.NewClient(&redis.Options{Addr: g.RedisAddr(), Password: i.token(nil, "cart:"), TLSConfig: believing(t, authority), Protocol: 2})
	defer db.Close()
	if err := db.Set(t.Context(), "cart:1", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	plain := g.redis()
	plain.send("PING\r\n")
	if got := plain.reply(); strings.HasPrefix(got, "+") {
		t.Errorf("in the clear: %s", got)
	}

	// A certificate that takes the place of the old one is shown to those who come then.
	other := tlstest.NewAuthority(t)
	tlstest.Replace(t, files, other.Issue())
	waitFor(t, "the new certificate", func() bool {
		nc, err := tls.Dial("tcp", g.Addr(), believing(t, other))
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("PING\r\n")); err != nil {
		t.Error(err)
	}
	if _, got, err := ws.Read(t.Context()); err != nil || string(got) != "+PONG\r\n" {
		t.Errorf("over the connection from before: %q, %v", got, err)
	}
}

func TestWhereANodesOwnGatewayFindsItsNode(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	files := authority.Config(true, tlstest.For("node-1.example.org"))
	server, err := tlsconf.NewServer(files, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan string, 1)
	go func() {
		nc, err := server.Listener(l).Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if err := nc.(*tls.Conn).Handshake(); err == nil {
			served <- strings.Join(namesOf(nc.(*tls.Conn)), " ")
		}
		_, _ = io.Copy(io.Discard, nc)
	}()
	c := DefaultConfig()
	c.TLS = files
	own := c.ForNode(Own{Address: "node-1.example.org:7401", Dial: l.Addr().String(), URL: "wss://node-1.example.org/", At: l.Addr()})
	if own.TLS.TLSCert != "" || own.TLS.TLSKey != "" || !own.TLS.Enabled() {
		t.Errorf("it would show the node's own certificate: %+v", own.TLS)
	}
	dial, err := tlsconf.NewClient(own.TLS, tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := own.only.reach(t.Context(), dial, "node-1.example.org:7401")
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	if shown := <-served; shown != "" {
		t.Errorf("it has shown a certificate of %s", shown)
	}
}

// namesOf are those in the certificate that the other side has shown.
func namesOf(nc *tls.Conn) []string {
	var all []string
	for _, c := range nc.ConnectionState().PeerCertificates {
		all = append(all, c.DNSNames...)
	}
	return all
}
