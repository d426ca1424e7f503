package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

const maxPort = 65535

// Off is the word for a listener that is not wanted.
const Off = "off"

// Closed is what Error.Want says about an address that everyone could reach.
const Closed = "a loopback address, or authentication: set QUOIT_TOKEN_KEYS_FILE and QUOIT_CLUSTER_SECRET_FILE (a gateway needs the first alone). Without them anyone who can reach another address could read and write everything and take the cluster over (QUOIT_ALLOW_UNAUTHENTICATED=true if that is what you mean)"

// Listenable says whether net.Listen takes addr: host:port with a number, 0 among
// them for any port that is free.
func Listenable(addr string) bool {
	_, ok := Port(addr)
	return ok
}

// Loopback says whether only this machine reaches addr.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// Exposed is what the log is told of a listener that others than this machine reach, ""
// where there is nothing to tell: asks says that whoever connects is asked for a token, and
// certificate is the variable that would make it speak TLS, "" if it does.
func Exposed(addr string, asks bool, certificate string) string {
	switch {
	case !Listenable(addr) || Loopback(addr):
		return ""
	case !asks:
		return addr + " is not a loopback address and nobody is authenticated: everyone who reaches it can read and write everything (QUOIT_ALLOW_UNAUTHENTICATED)"
	case certificate != "":
		return addr + " is not a loopback address and does not speak TLS: tokens pass in the clear, unless something in front does (" + certificate + ")"
	}
	return ""
}

// AdminAddr is where a server's admin listener goes: where its setting says, on
// loopback with the port one hundred above addr if that is empty, and nowhere, which
// is "", if it is Off. Where addr has no port of its own, or none one hundred above,
// any that is free is taken.
func AdminAddr(setting, addr string) string {
	switch setting {
	case Off:
		return ""
	case "":
		n, ok := Port(addr)
		if !ok || n == 0 || n+100 > maxPort {
			return "127.0.0.1:0"
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(n+100))
	}
	return setting
}

// HostName says whether text is a name or address as it stands in a Host header, in
// lower case and without a port.
func HostName(text string) bool {
	u, err := url.Parse("http://" + text)
	return err == nil && text != "" && u.Host == text && u.Port() == "" && text == strings.ToLower(text) && !strings.ContainsAny(text, "*:")
}

// Port is the number in a host:port, false if there is none.
func Port(addr string) (n int, ok bool) {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(text)
	return n, err == nil && n >= 0 && n <= maxPort
}
