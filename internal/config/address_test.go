package config

import "testing"

func TestAdminAddress(t *testing.T) {
	for _, c := range []struct{ addr, setting, want string }{
		{"127.0.0.1:7400", "", "127.0.0.1:7500"},
		{"0.0.0.0:7400", "", "127.0.0.1:7500"},
		{"[::]:7400", "", "127.0.0.1:7500"},
		{"127.0.0.1:0", "", "127.0.0.1:0"},
		{"127.0.0.1:65436", "", "127.0.0.1:0"},
		{"127.0.0.1:7400", "off", ""},
		{"127.0.0.1:7400", "0.0.0.0:80", "0.0.0.0:80"},
	} {
		if got := AdminAddr(c.setting, c.addr); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]struct{ listenable, loopback bool }{
		"127.0.0.1:7400": {true, true}, "127.9.9.9:0": {true, true}, "[::1]:1": {true, true}, "localhost:80": {true, true},
		":7400": {true, false}, "0.0.0.0:7400": {true, false}, "10.0.0.7:65535": {true, false}, "[::]:1": {true, false}, "localhost.example.org:1": {true, false},
		"127.0.0.1": {false, false}, "": {false, false}, "127.0.0.1:http": {false, true}, "127.0.0.1:65536": {false, true}, "127.0.0.1:-1": {false, true},
	} {
		if Listenable(addr) != want.listenable || Loopback(addr) != want.loopback {
			t.Errorf("%q: listenable %v, loopback %v", addr, Listenable(addr), Loopback(addr))
		}
	}
}

func TestHostNames(t *testing.T) {
	for text, want := range map[string]bool{
		"node-1.example.org": true, "node-1": true, "10.0.0.7": true,
		"": false, "node-1:7501": false, "Node-1": false, "*.example.org": false, "https://a": false, "a/b": false, "a@b": false, "[::1]": false,
	} {
		if HostName(text) != want {
			t.Errorf("%q: %v", text, HostName(text))
		}
	}
}
