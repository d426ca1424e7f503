package gateway

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
)

// Own says which node a gateway is that node's own.
type Own struct {
	Address string   // the node's name in the cluster
	Dial    string   // where the node listens
	URL     string   // what the node publishes, so what browsers dial
	At      net.Addr // where the gateway listens
}

// ForNode makes the settings of a node's own gateway out of those that gateways have
// in the same environment. Limits, times, Origins and Hosts hold for it as for any
// other; it has no Redis door, no console and no admin listener.
//
// Its Host is that of the published URL, beside the names in Hosts. The pages that
// connect come from another gateway: where Origins is empty, pages of that one's
// names may, which are Hosts, or the loopback names with the port of Addr.
func (c Config) ForNode(own Own) Config {
	pages, names := c.Hosts, c.Hosts
	if len(c.Hosts) == 0 {
		port, _ := config.Port(c.Addr)
		pages, names = loopbackNames(port, c.Public.Enabled()), loopbackHosts(own.At, c.Public.Enabled())
	}
	names = append(List{publishedHost(own.URL)}, names...)
	if len(c.Origins) == 0 {
		c.Origins = originsOf(append(slices.Clone(names), pages...), len(c.Hosts) > 0 || c.Public.Enabled() || strings.HasPrefix(own.URL, "wss:"))
	}
	c.Hosts = unique(names)
	// The certificate is the node's: shown to the node it would make a member of every page.
	c.TLS.TLSMode, c.TLS.TLSCert, c.TLS.TLSKey = modeOf(c.TLS), "", ""
	c.only, c.Seeds = own, List{own.Dial}
	c.Addr, c.RedisAddr, c.AdminAddr, c.Console = own.At.String(), config.Off, config.Off, ConsoleOff
	return c
}

// publishedHost is what browsers send as the Host when they dial a URL.
func publishedHost(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if standard := map[string]string{"ws": ":80", "wss": ":443"}[u.Scheme]; standard != "" {
		host = strings.TrimSuffix(host, standard)
	}
	return host
}

// originsOf are the origins of the pages of hosts; tls says that something in front
// may speak TLS.
func originsOf(hosts []string, tls bool) List {
	var all List
	for _, host := range hosts {
		all = append(all, "http://"+host)
		if tls {
			all = append(all, "https://"+host)
		}
	}
	return unique(all)
}

// unique leaves out what has come before.
func unique(list List) List {
	var out List
	for _, word := range list {
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}

// modeOf is whether TLS is spoken, whatever else is set.
func modeOf(c tlsconf.Config) tlsconf.Mode {
	if c.Enabled() {
		return "on"
	}
	return "off"
}

func loopbackHosts(at net.Addr, tls bool) List {
	tcp, ok := at.(*net.TCPAddr)
	if !ok {
		return loopbackNames(0, tls)
	}
	return loopbackNames(tcp.Port, tls)
}

// loopbackNames are those of this machine, as they stand in a Host.
func loopbackNames(port int, tls bool) List {
	standard := 80
	if tls {
		standard = 443
	}
	names := List{"localhost", "127.0.0.1", "[::1]"}
	if port == 0 || port == standard {
		return names
	}
	for i, name := range names {
		names[i] = name + ":" + strconv.Itoa(port)
	}
	return names
}
