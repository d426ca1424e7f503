package manager

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/config"
)

func TestDefaultsAreUsable(t *testing.T) {
	c, err := LoadConfig(map[string]string{"QUOIT_BUCKET": "file:///tmp/bucket"})
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Bucket = "file:///tmp/bucket"
	if !reflect.DeepEqual(c, want) || c.Addr != "127.0.0.1:7400" || c.Join != JoinManual {
		t.Errorf("defaults are %+v", c)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	c, err := LoadConfig(map[string]string{
		"QUOIT_BUCKET": "file:///b", "QUOIT_MANAGER_ADDR": "0.0.0.0:9000", "QUOIT_ALLOW_UNAUTHENTICATED": "true",
		"QUOIT_MANAGER_ADMIN_ADDR": "127.0.0.1:9999", "QUOIT_MANAGER_INITIAL_NODES": "5", "QUOIT_MANAGER_JOIN": "auto",
		"QUOIT_MANAGER_MOVES_PER_NODE": "7", "QUOIT_MANAGER_NODE_TIMEOUT": "3s", "QUOIT_MANAGER_POLL": "2s",
		"QUOIT_MANAGER_MAX_CONNECTIONS": "12", "QUOIT_MANAGER_MAX_PER_ADDRESS": "3",
		"QUOIT_MANAGER_HANDSHAKE_TIMEOUT": "11s",
		"QUOIT_LOG_LEVEL":                 "debug", "QUOIT_ADMIN_HOSTS": "manager.example.org, m.example.org",
	})
	want := Config{
		Addr: "0.0.0.0:9000", AdminAddr: "127.0.0.1:9999", Bucket: "file:///b", InitialNodes: 5, Join: JoinAuto,
		MovesPerNode: 7, NodeTimeout: 3 * time.Second, Poll: 2 * time.Second, Connections: 12, PerAddress: 3, Handshake: 11 * time.Second, Open: true, LogLevel: -4,
		AdminHosts: config.List{"manager.example.org", "m.example.org"},
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestWrongEnvironment: a wrong value stops the start with its name, its value and
// what would be right.
func TestWrongEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"QUOIT_BUCKET", "", "such as file:///"},
		{"QUOIT_MANAGER_ADDR", "7400", "host:port"},
		{"QUOIT_MANAGER_ADDR", "127.0.0.1:http", "host:port"},
		{"QUOIT_MANAGER_ADDR", "127.0.0.1:70000", "host:port"},
		{"QUOIT_MANAGER_ADDR", "0.0.0.0:7400", "QUOIT_ALLOW_UNAUTHENTICATED=true"},
		{"QUOIT_MANAGER_ADDR", "manager.example.org:7400", "a loopback address"},
		{"QUOIT_MANAGER_ADMIN_ADDR", "on", "host:port or off"},
		{"QUOIT_MANAGER_INITIAL_NODES", "0", "1 to 1024"},
		{"QUOIT_MANAGER_INITIAL_NODES", "three", "a whole number"},
		{"QUOIT_MANAGER_JOIN", "never", "manual or auto"},
		{"QUOIT_MANAGER_MOVES_PER_NODE", "65", "1 to 64"},
		{"QUOIT_MANAGER_NODE_TIMEOUT", "5", "a duration such as"},
		{"QUOIT_MANAGER_NODE_TIMEOUT", "1ms", "100ms or more"},
		{"QUOIT_MANAGER_POLL", "0s", "10ms or more"},
		{"QUOIT_MANAGER_HANDSHAKE_TIMEOUT", "-1s", "0s or more"},
		{"QUOIT_MANAGER_MAX_CONNECTIONS", "0", "1 or more"},
		{"QUOIT_MANAGER_MAX_PER_ADDRESS", "-1", "0 or more"},
		{"QUOIT_ALLOW_UNAUTHENTICATED", "perhaps", "true or false"},
		{"QUOIT_LOG_LEVEL", "loud", "debug, info, warn or error"},
	} {
		environ := map[string]string{"QUOIT_BUCKET": "file:///b", c.name: c.value}
		_, err := LoadConfig(environ)
		if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.value) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%q: %v, want the name, the value and %q", c.name, c.value, err, c.want)
		}
	}
}

func TestEveryMistakeAtOnce(t *testing.T) {
	_, err := LoadConfig(map[string]string{"QUOIT_MANAGER_JOIN": "never", "QUOIT_MANAGER_POLL": "x", "QUOIT_MANAGER_POLLS": "1s"})
	for _, name := range []string{"QUOIT_MANAGER_JOIN", "QUOIT_MANAGER_POLL=", "QUOIT_MANAGER_POLLS is not a setting; did you mean QUOIT_MANAGER_POLL?"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not tell of %s", err, name)
		}
	}
	_, err = LoadConfig(map[string]string{"QUOIT_BUCKET": "file:///b", "QUOIT_MANAGER_ADDR": "127.0.0.1:65500"})
	if err == nil || !strings.Contains(err.Error(), "QUOIT_MANAGER_ADMIN_ADDR") {
		t.Errorf("a port too high for the one above it: %v", err)
	}
	_, err = LoadConfig(map[string]string{"QUOIT_MANAGER_INITIAL_NODES": "0", "QUOIT_MANAGER_MOVES_PER_NODE": "0"})
	if err == nil || strings.Count(err.Error(), "QUOIT_") < 3 { // and the bucket
		t.Errorf("%v does not tell of all", err)
	}
}

func TestConfigTable(t *testing.T) {
	var b strings.Builder
	if err := WriteConfigTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"QUOIT_MANAGER_ADDR", "127.0.0.1:7400", "QUOIT_MANAGER_MAX_CONNECTIONS", "QUOIT_BUCKET"} {
		if !strings.Contains(b.String(), name) {
			t.Errorf("the table lacks %s:\n%s", name, b.String())
		}
	}
}
