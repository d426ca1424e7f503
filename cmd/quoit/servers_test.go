package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/freeport"
)

// freeAddress is one that nobody listens on at this moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestAManagerAndANodeConfiguredByTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	managerAddr, nodeAddr, admin := freeAddress(t), freeAddress(t), freeAddress(t)
	for name, value := range map[string]string{
		"QUOIT_BUCKET": (&url.URL{Scheme: "file", Path: filepath.Join(dir, "bucket")}).String(), "QUOIT_MANAGER_ADDR": managerAddr, "QUOIT_MANAGER_ADMIN_ADDR": "off",
		"QUOIT_NODE_ADDR": nodeAddr, "QUOIT_NODE_DATA": filepath.Join(dir, "node"), "QUOIT_NODE_ADMIN_ADDR": admin, "QUOIT_SERVERS": nodeAddr,
		"QUOIT_NODE_GATEWAY_ADDR": "127.0.0.1:0", "QUOIT_GATEWAY_ORIGINS": "https://app.example.org",
	} {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, log, managerEnded := background(ctx, nil, "manager")
	log.until(t, managerEnded, `"level":"INFO"`)

	// A node of the demo ends with its standard input; otherwise it is like any other.
	stdin, hold := io.Pipe()
	_, log, nodeEnded := background(ctx, stdin, "demo", "server", "node")
	log.until(t, nodeEnded, `"msg":"serving"`)
	must(t, "put", "greeting", "hello")
	if got := must(t, "get", "greeting"); got != "hello" {
		t.Errorf("greeting holds %q", got)
	}
	mustSay(t, must(t, "healthcheck", "--timeout", "1m"), admin+"/healthz: ok")
	mustSay(t, must(t, "healthcheck", "--timeout", "1m", "--ready"), admin+"/readyz: ok")
	mustSay(t, must(t, "healthcheck", "--timeout", "1m", "--json"), `"ok": true`)

	// The node has a gateway of its own, with the settings of gateways.
	var topology topologyJSON
	if err := json.Unmarshal([]byte(must(t, "cluster", "topology", "--json")), &topology); err != nil || len(topology.Nodes) != 1 {
		t.Fatalf("%+v, %v", topology, err)
	}
	own := topology.Nodes[0].Endpoints["ws"]
	if got := overWebSocket(t, own, "https://app.example.org", "GET greeting\r\n"); got != "$5\r\nhello\r\n" {
		t.Errorf("at %s greeting is %q", own, got)
	}
	if got := overWebSocket(t, own, "http://127.0.0.1:7480", "GET greeting\r\n"); got != "403 Forbidden" {
		t.Errorf("an origin that is not on the list hears %q", got)
	}

	// A gateway in front of them.
	t.Setenv("QUOIT_GATEWAY_ADDR", freeAddress(t))
	t.Setenv("QUOIT_GATEWAY_REDIS_ADDR", freeAddress(t))
	t.Setenv("QUOIT_GATEWAY_ADMIN_ADDR", freeAddress(t))
	gatewayCtx, stopGateway := context.WithCancel(t.Context())
	_, log, gatewayEnded := background(gatewayCtx, nil, "gateway")
	log.until(t, gatewayEnded, `"msg":"the cluster answers"`)
	if got := throughTheDoor(t, os.Getenv("QUOIT_GATEWAY_REDIS_ADDR"), "GET greeting\r\n"); got != "$5\r\nhello\r\n" {
		t.Errorf("through the gateway greeting is %q", got)
	}
	mustSay(t, must(t, "healthcheck", "--timeout", "1m", "--ready", os.Getenv("QUOIT_GATEWAY_ADMIN_ADDR")), "/readyz: ok")
	stopGateway()
	if code := <-gatewayEnded; code != 0 {
		t.Errorf("the gateway ended with exit code %d", code)
	}

	// Another one in its place is told what is in its way.
	t.Setenv("QUOIT_NODE_ADDR", freeAddress(t))
	o := quoit(t, "node")
	if o.code != exitFailure {
		t.Errorf("a second node in the same folder: exit code %d", o.code)
	}
	mustSay(t, o.err, filepath.Join(dir, "node"))
	t.Setenv("QUOIT_NODE_DATA", filepath.Join(dir, "other"))
	t.Setenv("QUOIT_NODE_ADDR", nodeAddr)
	if o := quoit(t, "node"); o.code != exitFailure || !strings.Contains(o.err, "address already in use") {
		t.Errorf("a second node at the same address: exit code %d, %s", o.code, o.err)
	}
	if o := quoit(t, "manager"); o.code != exitFailure || !strings.Contains(o.err, "address already in use") {
		t.Errorf("a second manager at the same address: exit code %d, %s", o.code, o.err)
	}

	hold.Close()
	if code := <-nodeEnded; code != 0 {
		t.Errorf("the node ended with exit code %d", code)
	}
	cancel()
	if code := <-managerEnded; code != 0 {
		t.Errorf("the manager ended with exit code %d", code)
	}
}

func TestWrongSettingsAreNamedAllOfThem(t *testing.T) {
	t.Setenv("QUOIT_NODE_DATA", "/data")
	t.Setenv("QUOIT_BUCKET", "file:///bucket")
	for name, c := range map[string]struct {
		command  string
		settings map[string]string
		want     []string
	}{
		"a typo":                     {"node", map[string]string{"QUOIT_NODE_ADRR": "x"}, []string{"QUOIT_NODE_ADRR is not a setting", "QUOIT_NODE_ADDR"}},
		"two wrong values":           {"node", map[string]string{"QUOIT_FSYNC": "sometimes", "QUOIT_WAL_SEGMENT": "big"}, []string{`QUOIT_FSYNC="sometimes": want always, interval or never`, `QUOIT_WAL_SEGMENT="big"`}},
		"a wrong fail point":         {"node", map[string]string{"QUOIT_FAILPOINT": "nonsense"}, []string{"nonsense"}},
		"an open address":            {"node", map[string]string{"QUOIT_NODE_ADDR": "0.0.0.0:7401"}, []string{"QUOIT_NODE_ADDR", "loopback"}},
		"an open gateway of its own": {"node", map[string]string{"QUOIT_NODE_GATEWAY_ADDR": ":7481"}, []string{"QUOIT_NODE_GATEWAY_ADDR", "loopback"}},
		"a typo for its gateway":     {"node", map[string]string{"QUOIT_NODE_GATEWAY_ADDR": "127.0.0.1:0", "QUOIT_GATEWAY_ORIGIN": "x"}, []string{"QUOIT_GATEWAY_ORIGIN is not a setting", "QUOIT_GATEWAY_ORIGINS"}},
		"a typo of a gateway":        {"gateway", map[string]string{"QUOIT_GATEWAY_ORIGIN": "x"}, []string{"QUOIT_GATEWAY_ORIGIN is not a setting", "QUOIT_GATEWAY_ORIGINS"}},
		"an open gateway":            {"gateway", map[string]string{"QUOIT_GATEWAY_REDIS_ADDR": ":7479", "QUOIT_GATEWAY_ADDR": "0.0.0.0:7480"}, []string{"QUOIT_GATEWAY_REDIS_ADDR", "QUOIT_GATEWAY_ADDR", "loopback"}},
		"a typo of a manager":        {"manager", map[string]string{"QUOIT_MANAGER_JION": "x"}, []string{"QUOIT_MANAGER_JION is not a setting", "QUOIT_MANAGER_JOIN"}},
		"a wrong join mode":          {"manager", map[string]string{"QUOIT_MANAGER_JOIN": "maybe"}, []string{`QUOIT_MANAGER_JOIN="maybe": want manual or auto`}},
		"a wrong fail point, m":      {"manager", map[string]string{"QUOIT_FAILPOINT": "nonsense"}, []string{"nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.settings {
				t.Setenv(variable, value)
			}
			o := quoit(t, c.command)
			if o.code != exitUsage {
				t.Errorf("exit code %d, want %d", o.code, exitUsage)
			}
			mustSay(t, o.err, c.want...)
			for line := range strings.Lines(o.err) {
				if !strings.HasPrefix(line, "quoit: ") {
					t.Errorf("who says %q?", line)
				}
			}
		})
	}
}

func TestServersExplainTheirSettings(t *testing.T) {
	for command, variables := range map[string][]string{
		"node":    {"QUOIT_NODE_ADDR", "QUOIT_FSYNC", "QUOIT_BUCKET", "always"},
		"gateway": {"QUOIT_GATEWAY_ADDR", "QUOIT_GATEWAY_REDIS_ADDR", "QUOIT_GATEWAY_ORIGINS"},
		"manager": {"QUOIT_MANAGER_ADDR", "QUOIT_MANAGER_INITIAL_NODES", "QUOIT_BUCKET"},
	} {
		mustSay(t, must(t, command, "--help"), append(variables, "VARIABLE", "DEFAULT", "MEANING")...)
	}
}

func TestWhereTheAdminListenerIs(t *testing.T) {
	for name, c := range map[string]struct {
		environ map[string]string
		want    string
		wrong   string
	}{
		"nothing set":           {nil, "127.0.0.1:7500", ""},
		"a manager":             {map[string]string{"QUOIT_MANAGER_ADDR": "0.0.0.0:9000"}, "127.0.0.1:9100", ""},
		"a manager's admin":     {map[string]string{"QUOIT_MANAGER_ADMIN_ADDR": "127.0.0.1:1234"}, "127.0.0.1:1234", ""},
		"a gateway":             {map[string]string{"QUOIT_GATEWAY_ADDR": "127.0.0.1:8000"}, "127.0.0.1:8100", ""},
		"a node":                {map[string]string{"QUOIT_NODE_DATA": "/data"}, "127.0.0.1:7501", ""},
		"a node elsewhere":      {map[string]string{"QUOIT_NODE_DATA": "/data", "QUOIT_NODE_ADDR": "10.0.0.1:9000", "QUOIT_MANAGER_ADDR": "10.0.0.2:7400"}, "127.0.0.1:9100", ""},
		"a node's admin":        {map[string]string{"QUOIT_NODE_DATA": "/data", "QUOIT_NODE_ADMIN_ADDR": "127.0.0.1:1234"}, "127.0.0.1:1234", ""},
		"no admin":              {map[string]string{"QUOIT_NODE_DATA": "/data", "QUOIT_NODE_ADMIN_ADDR": "off"}, "", "QUOIT_NODE_ADMIN_ADDR=off"},
		"an address of no kind": {map[string]string{"QUOIT_MANAGER_ADDR": "nonsense"}, "", `QUOIT_MANAGER_ADDR="nonsense"`},
		"a port of no kind":     {map[string]string{"QUOIT_MANAGER_ADDR": "host:http"}, "", `QUOIT_MANAGER_ADDR="host:http"`},
	} {
		got, err := adminAddress(c.environ)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) || exitCode(err) != exitUsage {
				t.Errorf("%s: %v, want %s", name, err, c.wrong)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestAServerThatIsNotWellFailsItsHealthcheck(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "reading the log: 40 %", http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	if o := quoit(t, "healthcheck", "--timeout", "1m", address); o.code != 0 {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	o := quoit(t, "healthcheck", "--timeout", "1m", "--ready", address)
	if o.code != exitFailure || o.err != "quoit: "+address+"/readyz: reading the log: 40 %\n" {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	o = quoit(t, "healthcheck", "--timeout", "1m", "--ready", "--json", address)
	mustSay(t, o.out, `"ok": false`, "reading the log: 40 %")
}

func TestAHealthcheckDoesNotWaitForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := quoit(t, "healthcheck", "--timeout", "20ms", l.Addr().String())
	if o.code != exitFailure {
		t.Errorf("exit code %d", o.code)
	}
	mustSay(t, o.err, "no admin listener answers at "+l.Addr().String())
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("disk full"), exitFailure},
		{usageError("wrong"), exitUsage},
		{settingsError(errors.New("wrong")), exitUsage},
		{noSuchKey("k"), exitNotFound},
		{errors.Join(errors.New("more"), noSuchKey("k")), exitNotFound},
		{&exitError{code: 7}, 7},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if settingsError(nil) != nil || (&exitError{code: 1}).Error() != "" {
		t.Error("no error has become one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	if got := explain(ctx, errors.New("client: no: client: here")); got != "no: here" {
		t.Errorf("explained as %q", got)
	}
	cancel()
	if got := explain(ctx, ctx.Err()); got != "interrupted" {
		t.Errorf("explained as %q", got)
	}
}

func TestLogsSayDurationsInWords(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, slog.LevelInfo).With("took", 49048628*time.Nanosecond).Info("done", "pause", 882*time.Microsecond)
	mustSay(t, out.String(), `"took":"49.049ms"`, `"pause":"882µs"`)
}
