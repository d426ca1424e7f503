package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/ring"
)

// Gateway is a gateway of the node's own: it lets web pages in to this node, with no
// other process between. What it is made of is not the node's business; the program
// that has both gives the node Seams.NewGateway.
type Gateway interface {
	// Wait returns when ctx ends, with nil, or when the gateway cannot go on.
	Wait(ctx context.Context) error
	// Shutdown tells clients to connect elsewhere; those who have not gone when ctx
	// ends are cut off. It may be called twice.
	Shutdown(ctx context.Context) error
	// WriteMetrics is its part of /metrics.
	WriteMetrics(w io.Writer)
}

// GatewayHost is what a node tells its gateway.
type GatewayHost struct {
	Listener net.Listener // where it serves; the gateway closes it
	URL      string       // what is published: the channel to this node
	Address  string       // the node's name in the cluster
	Dial     string       // where the node listens, as the gateway dials it
	Manager  string       // address of the manager
	Logger   *slog.Logger
}

// openGateway starts the gateway that the settings ask for, if they do, and notes
// what is to be published.
func (n *Node) openGateway(ctx context.Context) error {
	if n.config.GatewayAddr == "" {
		return nil
	}
	if n.seams.NewGateway == nil {
		return errors.New("QUOIT_NODE_GATEWAY_ADDR is set, and this program has no gateway in it: quoit node has")
	}
	l := n.seams.GatewayListener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", n.config.GatewayAddr); err != nil {
			return fmt.Errorf("listen (QUOIT_NODE_GATEWAY_ADDR): %w", err)
		}
	}
	published, err := n.config.gatewayURL(n.Address(), l.Addr(), n.seams.GatewayTLS)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	n.gateway, err = n.seams.NewGateway(ctx, GatewayHost{
		Listener: l, URL: published, Address: n.Address(), Dial: dialled(n.Addr()), Manager: n.config.ManagerAddr,
		Logger: n.log.With("part", "gateway"),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("the node's gateway: %w", err), l.Close())
	}
	n.endpoints = []ring.Endpoint{{Kind: ring.WebSocket, URL: published}}
	return nil
}

// followGateway notes when the gateway cannot go on. Keys are served all the same,
// and browsers have the other gateways: that is no reason for the node to end.
func (n *Node) followGateway(ctx context.Context) {
	if err := n.gateway.Wait(ctx); err != nil {
		n.log.Error("the node's gateway has ended; the node serves on without it", "err", err)
	}
}

// closeGateway tells web pages to connect elsewhere while the node still answers what
// they have asked, for at most half of the time that there is.
func (n *Node) closeGateway(ctx context.Context) error {
	if n.gateway == nil {
		return nil
	}
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	return n.gateway.Shutdown(ctx)
}

// dialled is how this machine dials a listener of its own.
func dialled(at net.Addr) string {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return at.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

// validGatewayURL says whether browsers can open text as a WebSocket.
func validGatewayURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && u.Hostname() != "" && u.User == nil && u.Opaque == "" &&
		!strings.ContainsAny(text, "?#") && (ring.Endpoint{Kind: ring.WebSocket, URL: text}).Validate() == nil
}

// gatewayURL is what is published: the setting, or what follows from the node's name
// and from where its gateway listens, over TLS or not.
func (c *Config) gatewayURL(address string, listening net.Addr, overTLS bool) (string, error) {
	base, scheme := c.GatewayURL, "ws"
	if overTLS {
		scheme = "wss"
	}
	if u, err := url.Parse(base); err == nil && overTLS && u.Scheme == "ws" {
		return "", fmt.Errorf("QUOIT_NODE_GATEWAY_URL=%q: want a wss:// URL, since the node's gateway speaks TLS (QUOIT_GATEWAY_TLS_CERT_FILE)", base)
	}
	if base == "" {
		host, _, _ := net.SplitHostPort(address) // it was checked
		_, port, _ := net.SplitHostPort(listening.String())
		if config.Loopback(listening.String()) && !config.Loopback(address) {
			return "", fmt.Errorf("QUOIT_NODE_GATEWAY_URL=\"\": want the URL under which browsers reach the node's gateway, since that listens on %s, and others know the node as %s", listening, address)
		}
		base = scheme + "://" + net.JoinHostPort(host, port)
	}
	if u, err := url.Parse(base); err == nil && (u.Path == "" || u.Path == "/") {
		base = strings.TrimSuffix(base, "/") + "/v1/node/" + url.PathEscape(address)
	}
	if !validGatewayURL(base) {
		return "", fmt.Errorf("QUOIT_NODE_GATEWAY_URL: %s is no URL that can be published: at most 1024 characters", base)
	}
	return base, nil
}
