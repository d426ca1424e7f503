package node

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/wal"
)

// needed are the two settings without a default.
func needed(more ...string) map[string]string {
	m := map[string]string{"QUOIT_NODE_DATA": "/data", "QUOIT_BUCKET": "file:///bucket"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestConfigDefaults(t *testing.T) {
	c, err := LoadConfig(needed())
	if err != nil {
		t.Fatal(err)
	}
	if c.Addr != "127.0.0.1:7401" || c.ManagerAddr != "127.0.0.1:7400" || c.Tokens != 128 || wal.SyncMode(c.Log.Fsync) != wal.SyncAlways ||
		c.Limits.Value != 64<<20 || c.Times.Park != 250*time.Millisecond {
		t.Errorf("got %+v", c)
	}
}

// TestWrongSettingsSayWhatWouldBeRight: each error has the variable, the value and
// the remedy.
func TestWrongSettingsSayWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"QUOIT_NODE_ADDR", "7401", "host:port"},
		{"QUOIT_NODE_ADDR", "127.0.0.1:http", "host:port"},
		{"QUOIT_NODE_ADDR", "0.0.0.0:7401", "loopback"},
		{"QUOIT_NODE_ADVERTISE", "10.0.0.1", "host:port that others can dial"},
		{"QUOIT_MANAGER_ADDR", "x", "host:port"},
		{"QUOIT_NODE_TOKENS", "0", "1 to 4096"},
		{"QUOIT_NODE_TOKENS", "many", "whole number"},
		{"QUOIT_NODE_ADMIN_ADDR", "x", "host:port or off"},
		{"QUOIT_ADMIN_HOSTS", "node-1:7501", "names without ports"},
		{"QUOIT_ADMIN_HOSTS", "*.example.org", "names without ports"},
		{"QUOIT_NODE_GATEWAY_ADDR", "7481", "host:port"},
		{"QUOIT_NODE_GATEWAY_ADDR", "0.0.0.0:7481", "loopback"},
		{"QUOIT_NODE_GATEWAY_URL", "wss://example.org", "QUOIT_NODE_GATEWAY_ADDR beside it"},
		{"QUOIT_NODE_GATEWAY_URL", "https://example.org", "a ws:// or wss:// URL"},
		{"QUOIT_NODE_GATEWAY_URL", "wss://me@example.org", "without user"},
		{"QUOIT_NODE_GATEWAY_URL", "wss://example.org/?a", "query"},
		{"QUOIT_NODE_GATEWAY_URL", "wss:///path", "a ws:// or wss:// URL"},
		{"QUOIT_FSYNC", "sometimes", "always, interval or never"},
		{"QUOIT_FSYNC_INTERVAL", "0s", "above 0"},
		{"QUOIT_WAL_SEGMENT", "1KiB", "1MiB to 4GiB"},
		{"QUOIT_NODE_MAX_CONNECTIONS", "0", "1 or more"},
		{"QUOIT_NODE_MAX_PER_ADDRESS", "-1", "0 or more"},
		{"QUOIT_NODE_MAX_VALUE", "1GiB", "1 to 512MiB"},
		{"QUOIT_NODE_MAX_VALUE", "huge", "a size such as"},
		{"QUOIT_NODE_MAX_INFLIGHT", "64MiB", "twice QUOIT_NODE_MAX_VALUE"},
		{"QUOIT_NODE_HANDSHAKE_TIMEOUT", "-1s", "0s or more"},
		{"QUOIT_NODE_IDLE_TIMEOUT", "-1s", "0s or more"},
		{"QUOIT_NODE_REQUEST_TIMEOUT", "-1s", "0s or more"},
		{"QUOIT_NODE_WRITE_TIMEOUT", "0s", "above 0"},
		{"QUOIT_NODE_PARK_BUDGET", "2h", "0s to 1m"},
		{"QUOIT_NODE_DRAIN_TIMEOUT", "-1s", "0s or more"},
		{"QUOIT_NODE_POLL", "1ms", "10ms or more"},
		{"QUOIT_LOG_LEVEL", "loud", "debug, info, warn or error"},
		{"QUOIT_NODE_ADR", "127.0.0.1:7401", "QUOIT_NODE_ADR is not a setting; did you mean QUOIT_NODE_ADDR?"},
	} {
		_, err := LoadConfig(needed(c.name, c.value))
		if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, want %q", c.name, c.value, err, c.want)
		} else if c.name != "QUOIT_NODE_ADR" && !strings.Contains(err.Error(), c.name+`="`+c.value) {
			t.Errorf("%s=%s: the value is not in %v", c.name, c.value, err)
		}
	}
	_, err := LoadConfig(nil)
	if err == nil || !strings.Contains(err.Error(), "QUOIT_NODE_DATA") || !strings.Contains(err.Error(), "QUOIT_BUCKET") {
		t.Errorf("nothing set: %v", err)
	}
	if _, err := LoadConfig(needed("QUOIT_NODE_ADDR", "0.0.0.0:7401", "QUOIT_ALLOW_UNAUTHENTICATED", "true")); err != nil {
		t.Errorf("allowed on purpose: %v", err)
	}
}

func TestConfigTable(t *testing.T) {
	var b strings.Builder
	if err := WriteConfigTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"QUOIT_NODE_ADDR", "QUOIT_FSYNC", "127.0.0.1:7401", "64MiB", "QUOIT_NODE_POLL"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, b.String())
		}
	}
}

func TestAddressInTheCluster(t *testing.T) {
	c := DefaultConfig()
	for _, test := range []struct {
		listening net.Addr
		advertise string
		want      string
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7401}, "", "127.0.0.1:7401"},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 7401}, "node-1:7401", "node-1:7401"},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 7401}, "", ""},
		{&net.UnixAddr{Name: "/socket"}, "", ""},
	} {
		c.Advertise = test.advertise
		got, err := c.address(test.listening)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v advertised as %q: %q, %v", test.listening, test.advertise, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "QUOIT_NODE_ADVERTISE") {
			t.Errorf("%v does not name the variable", err)
		}
	}
}

func TestFsyncReadsWhatItPrints(t *testing.T) {
	for _, word := range []string{"always", "interval", "never"} {
		var f Fsync
		if err := f.UnmarshalText([]byte(word)); err != nil || f.String() != word {
			t.Errorf("%s: %s, %v", word, f, err)
		}
	}
	if got := Fsync(9).String(); got != "unknown" {
		t.Error(got)
	}
}
