package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/local"
)

// upOn starts quoit up on a folder, on ports that are free, and returns what it
// says when it is up, and how to stop it.
func upOn(t *testing.T, dir string, more ...string) (hello welcome, errs *lines, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, errs, ended := background(ctx, nil, append([]string{"up", "--data", dir, "--port", "0", "--json"}, more...)...)
	if err := json.Unmarshal([]byte(out.until(t, ended, "{")), &hello); err != nil {
		t.Fatal(err)
	}
	return hello, errs, func() {
		t.Helper()
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("interrupted, up ends with exit code %d", code)
		}
	}
}

func TestUpGoesOnWhereItStopped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder, with a strange näme")
	first, _, stop := upOn(t, dir, "--nodes", "2")
	if len(first.Nodes) != 2 || first.Data != dir || first.Seconds <= 0 {
		t.Errorf("it says %+v", first)
	}
	must(t, "put", "greeting", "hello", "-s", first.Manager)

	o := quoit(t, "up", "--data", dir, "--port", "0")
	if o.code != exitFailure {
		t.Errorf("a second one on the same folder: exit code %d", o.code)
	}
	mustSay(t, o.err, "a cluster is running in "+dir+" already")
	if got := must(t, "get", "greeting", "-s", first.Manager); got != "hello" {
		t.Errorf("and the first one then answers %q", got)
	}
	stop()

	second, _, stop := upOn(t, dir, "--nodes", "1")
	if !slices.Equal(sorted(second.Nodes), sorted(first.Nodes)) {
		t.Errorf("nodes %v, then %v", first.Nodes, second.Nodes)
	}
	if got := must(t, "get", "greeting", "-s", second.Manager); got != "hello" {
		t.Errorf("after a restart greeting holds %q", got)
	}
	stop()

	third, _, stop := upOn(t, dir, "--nodes", "3")
	if len(third.Nodes) != 3 {
		t.Errorf("one more node was asked for: %v", third.Nodes)
	}
	if got := must(t, "get", "greeting", "-s", third.Manager); got != "hello" {
		t.Errorf("with one more node greeting holds %q", got)
	}
	stop()
}

func TestUpTellsHowToConnect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, _, ended := background(ctx, nil, "up", "--data", t.TempDir(), "--port", "0", "--nodes", "1")
	mustSay(t, out.until(t, ended, "quoit is up"), "1 node, data in ")
	manager := strings.Fields(out.until(t, ended, "  manager "))[1]
	door := strings.Fields(out.until(t, ended, "  redis door "))[2]
	mustSay(t, out.until(t, ended, "  quoit "), "quoit put -s "+manager+" greeting hello")
	mustSay(t, out.until(t, ended, "  redis-cli "), "redis-cli -p "+strings.TrimPrefix(door, "127.0.0.1:"))
	out.until(t, ended, `client.Open(ctx, []string{"`+manager+`"})`)
	out.until(t, ended, "quoit cluster status -m "+manager+" --watch")
	must(t, "put", "a", "b", "-s", manager)
	if got := throughTheDoor(t, door, "GET a\r\n"); got != "$1\r\nb\r\n" {
		t.Errorf("the redis door answers %q", got)
	}
	cancel()
	out.until(t, nil, "stopping")
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// throughTheDoor asks the Redis door, and has it close the connection.
func throughTheDoor(t *testing.T, address, request string) string {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, request+"QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(all), "+OK\r\n")
}

func TestTheWelcomeSaysWhatIsNotAsAsked(t *testing.T) {
	nodes := []string{"127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"}
	for name, c := range map[string]struct {
		welcome
		want string
	}{
		"new":               {welcome{asked: 3}, ""},
		"again":             {welcome{asked: 3, before: 3}, "It goes on where it was stopped.\n"},
		"one more":          {welcome{asked: 3, chosen: true, before: 2}, "It goes on where it was stopped; 1 node is new and being given a share.\n"},
		"two more":          {welcome{asked: 3, before: 1}, "It goes on where it was stopped; 2 nodes are new and being given a share.\n"},
		"fewer, by default": {welcome{asked: 2, before: 3}, "It goes on where it was stopped.\n"},
		"fewer, by wish":    {welcome{asked: 1, chosen: true, before: 3}, "The folder has 3 nodes, and all of them are needed: quoit cluster remove takes one out of the ring.\n"},
	} {
		c.Nodes = nodes
		if got := c.remark(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	var out bytes.Buffer
	if err := (welcome{Manager: defaultServer, Nodes: nodes, Gateway: "127.0.0.1:7480", Console: "http://127.0.0.1:7480/", Redis: "127.0.0.1:7479", Data: "/data", Seconds: 0.4, scheme: "http"}).print(&out); err != nil {
		t.Fatal(err)
	}
	want := `quoit is up in 400.0ms: 3 nodes, data in /data

  manager     127.0.0.1:7400
  nodes       127.0.0.1:7401  127.0.0.1:7402  127.0.0.1:7403
  gateway     http://127.0.0.1:7480
  redis door  127.0.0.1:7479

  browser     http://127.0.0.1:7480/
  quoit       quoit put greeting hello && quoit get greeting
  redis-cli   redis-cli -p 7479
  Go          db, err := client.Open(ctx, []string{"127.0.0.1:7400"})
  look        quoit cluster status --watch

Ctrl-C stops it; the data stays.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestUpKeepsOutOfForeignFolders(t *testing.T) {
	project := t.TempDir()
	if err := os.WriteFile(filepath.Join(project, "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := quoit(t, "up", "--data", project, "--port", "0")
	if o.code != exitFailure {
		t.Errorf("exit code %d", o.code)
	}
	mustSay(t, o.err, project+" has something else in it (go.mod)", "--data")
	if files, err := os.ReadDir(project); err != nil || len(files) != 1 {
		t.Errorf("it left %v behind, %v", files, err)
	}

	cluster := t.TempDir()
	hello, _, stop := upOn(t, cluster, "--nodes", "1")
	stop()
	node := filepath.Join(cluster, "nodes", strings.ReplaceAll(hello.Nodes[0], ":", "-"))
	mustSay(t, quoit(t, "up", "--data", node, "--port", "0").err, node+" has something else in it")
	for _, dir := range []string{cluster, t.TempDir(), filepath.Join(t.TempDir(), "new")} {
		if err := ownFolder(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestAPortThatIsTakenIsNamedWithAWayOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	if taken > 65000 {
		t.Skipf("the port that happened to be free, %d, has none after it", taken)
	}
	o := quoit(t, "up", "--data", t.TempDir(), "--port", fmt.Sprint(taken), "--nodes", "1")
	if o.code != exitFailure {
		t.Errorf("exit code %d", o.code)
	}
	mustSay(t, o.err, fmt.Sprintf("127.0.0.1:%d is taken", taken), "quoit cluster status", "--port ")
}

func TestAPortOfTheFoldersOwnNodeThatIsTaken(t *testing.T) {
	dir := t.TempDir()
	hello, _, stop := upOn(t, dir, "--nodes", "1")
	stop()
	l, err := net.Listen("tcp", hello.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := quoit(t, "up", "--data", dir, "--port", "0")
	mustSay(t, o.err, hello.Nodes[0]+" is taken, and a node in "+dir+" has that address: stop what listens there")
}

func TestOtherErrorsAreNotAboutPorts(t *testing.T) {
	err := fmt.Errorf("no room")
	if got := explainPorts(err, local.Options{}, 7400); !errors.Is(got, err) || got.Error() != err.Error() {
		t.Errorf("explained as %v", got)
	}
}

func TestFreePortsAreFoundInABlock(t *testing.T) {
	if p, ok := freeBlock(20000, 3); !ok || (p-20000)%1000 != 0 || p == 20000 {
		t.Errorf("%d, %v", p, ok)
	}
	if p, ok := freeBlock(65000, 3); ok {
		t.Errorf("there is no port %d", p)
	}
}

func TestUpTakesTheServersSettingsButAddressesAndFolders(t *testing.T) {
	n, m, g, ignored, err := upSettings(map[string]string{
		"QUOIT_GATEWAY_MAX_CONNECTIONS": "19", "QUOIT_GATEWAY_ADDR": "nonsense", "QUOIT_FSYNC": "never", "QUOIT_NODE_MAX_CONNECTIONS": "17", "QUOIT_MANAGER_POLL": "3s", "HOME": "/root",
		"QUOIT_NODE_DATA": "/elsewhere", "QUOIT_BUCKET": "s3://nowhere", "QUOIT_NODE_ADDR": "nonsense", "QUOIT_MANAGER_ADDR": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.Log.Fsync.String() != "never" || n.Limits.Connections != 17 || m.Poll.String() != "3s" || g.Limits.Connections != 19 {
		t.Errorf("settings are not taken: %+v %+v %+v", n, m, g)
	}
	if want := []string{"QUOIT_BUCKET", "QUOIT_GATEWAY_ADDR", "QUOIT_NODE_ADDR", "QUOIT_NODE_DATA"}; !slices.Equal(ignored, want) {
		t.Errorf("ignored %q, want %q", ignored, want)
	}
	for variable, value := range map[string]string{"QUOIT_FSYNC": "sometimes", "QUOIT_MANAGER_POL": "1s", "QUOIT_NODE_MAX_VALEU": "1", "QUOIT_GATEWAY_HOST": "x", "QUOIT_LOG_LEVEL": "loud"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			o := quoit(t, "up", "--data", t.TempDir(), "--port", "0")
			if o.code != exitUsage || strings.Count(o.err, "\n") != 1 {
				t.Errorf("exit code %d, %s", o.code, o.err)
			}
			mustSay(t, o.err, variable)
		})
	}
}

func TestUpSaysWhichSettingsItIgnores(t *testing.T) {
	t.Setenv("QUOIT_NODE_ADDR", "127.0.0.1:1")
	t.Setenv("QUOIT_LOG_LEVEL", "debug")
	_, errs, stop := upOn(t, t.TempDir(), "--nodes", "1")
	mustSay(t, <-errs.out, "note: quoit up chooses addresses and folders itself; ignored: QUOIT_NODE_ADDR")
	mustSay(t, <-errs.out, `"level":"`) // the level was set, so it logs without --verbose
	stop()
}

func TestUpIsQuietUnlessAsked(t *testing.T) {
	_, errs, stop := upOn(t, t.TempDir(), "--nodes", "1")
	stop()
	select {
	case line := <-errs.out:
		t.Errorf("it logs %q", line)
	default:
	}
	_, errs, stop = upOn(t, t.TempDir(), "--nodes", "1", "--verbose")
	stop()
	mustSay(t, <-errs.out, `"level":"INFO"`)
}

func TestUpThatIsInterruptedBeforeItIsUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o := quoitWith(ctx, nil, "up", "--data", t.TempDir(), "--port", "0"); o.code != 0 {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
}

func TestTheFolderOfTheCluster(t *testing.T) {
	for _, c := range []struct {
		environ map[string]string
		want    string
	}{
		{map[string]string{"XDG_STATE_HOME": "/state", "HOME": "/home/ada"}, "/state/quoit"},
		{map[string]string{"XDG_STATE_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.local/state/quoit"},
		{map[string]string{"HOME": "/home/ada"}, "/home/ada/.local/state/quoit"},
		{nil, filepath.Join(os.TempDir(), "quoit")},
	} {
		if got := stateDir(c.environ); got != c.want {
			t.Errorf("%v: %s, want %s", c.environ, got, c.want)
		}
	}
}

func TestARelativeFolderIsMadeAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	o := upFlags{nodes: 1, dir: "cluster", port: 0}
	options, _, err := o.options(&cobra.Command{})
	if err != nil || options.Dir != filepath.Join(here, "cluster") {
		t.Errorf("%s, %v", options.Dir, err)
	}
}

// TestUpSecuresAClusterByItself: one command makes the secrets, says how to use them, and a
// second start of the same folder, without being told, asks for the same ones.
func TestUpSecuresAClusterByItself(t *testing.T) {
	withoutTokens(t)
	t.Setenv("QUOIT_TLS_CA_FILE", "")
	dir := filepath.Join(t.TempDir(), "a cluster")
	hello, _, stop := upOn(t, dir, "--nodes", "1", "--secure")
	if want := filepath.Join(dir, "secrets", "operator-token"); hello.Token != want {
		t.Fatalf("the token is in %q, want %q", hello.Token, want)
	}
	if got := quoit(t, "get", "a", "-s", hello.Manager); !strings.Contains(got.err, "this port speaks TLS alone") {
		t.Errorf("without its authority: %s", got.err)
	}
	t.Setenv("QUOIT_TLS_CA_FILE", hello.CA)
	if got := quoit(t, "get", "a", "-s", hello.Manager); !strings.Contains(got.err, "NOAUTH authenticate first") {
		t.Errorf("without a token: %s", got.err)
	}
	if got := throughTheDoor(t, hello.Redis, "GET a\r\n"); !strings.HasPrefix(got, "-NOAUTH") {
		t.Errorf("the Redis door without a token: %s", got)
	}
	t.Setenv("QUOIT_TOKEN_FILE", hello.Token)
	must(t, "put", "a", "b", "-s", hello.Manager)
	mustSay(t, must(t, "cluster", "status", "-m", hello.Manager), hello.Nodes[0])
	token, err := os.ReadFile(hello.Token)
	if err != nil {
		t.Fatal(err)
	}
	if got := throughTheDoor(t, hello.Redis, "AUTH "+strings.TrimSpace(string(token))+"\r\nGET a\r\n"); got != "+OK\r\n$1\r\nb\r\n" {
		t.Errorf("the Redis door with it: %q", got)
	}

	narrow := filepath.Join(t.TempDir(), "narrow")
	must(t, "put", "cart:1", "pears", "-s", hello.Manager)
	save(t, filepath.Dir(narrow), "narrow", must(t, "token", "create", "--key", filepath.Join(dir, "secrets", "signing-key.json"), "--write", "cart:*"))
	export := func(args ...string) outcome {
		return quoit(t, append([]string{"export", "-s", hello.Manager, "--token-file"}, args...)...)
	}
	if got := export(narrow); !strings.Contains(got.err, "note: the token opens a part of these keys alone") || strings.Count(got.out, "\n") != 1 {
		t.Errorf("an export that lacks a key says %q, and has %q", got.err, got.out)
	}
	for _, args := range [][]string{{narrow, "cart:"}, {hello.Token}} {
		if got := export(args...); strings.Contains(got.err, "note") || got.code != 0 {
			t.Errorf("an export that lacks nothing: exit code %d, %s", got.code, got.err)
		}
	}
	stop()

	again, _, stop := upOn(t, dir, "--nodes", "1") // in the shell that has the operator's token exported
	if again.Token != hello.Token || again.CA != hello.CA {
		t.Errorf("started again it is secured by %q and %q", again.Token, again.CA)
	}
	if got := must(t, "get", "a", "-s", again.Manager); got != "b" {
		t.Errorf("a holds %q", got)
	}
	stop()
}

func TestTheWelcomeOfASecuredClusterHasCommandsThatWork(t *testing.T) {
	h := welcome{Manager: defaultServer, Nodes: []string{"127.0.0.1:7401"}, Gateway: "127.0.0.1:7480", Console: "https://127.0.0.1:7480/", Redis: "127.0.0.1:7479", Data: "/my data", Seconds: 0.4, scheme: "https"}
	h.proofs = proofs{Token: "/my data/secrets/operator-token", CA: "/my data/secrets/tls/ca.pem", key: "/my data/secrets/signing-key.json", asks: true}
	var out bytes.Buffer
	if err := h.print(&out); err != nil {
		t.Fatal(err)
	}
	want := `quoit is up in 400.0ms: 1 node, data in /my data

  manager     127.0.0.1:7400
  nodes       127.0.0.1:7401
  gateway     https://127.0.0.1:7480
  redis door  127.0.0.1:7479

  first       export QUOIT_TOKEN_FILE='/my data/secrets/operator-token' QUOIT_TLS_CA_FILE='/my data/secrets/tls/ca.pem'
  browser     https://127.0.0.1:7480/   asks for the token: what is in $QUOIT_TOKEN_FILE
  quoit       quoit put greeting hello && quoit get greeting
  redis-cli   REDISCLI_AUTH="$(cat "$QUOIT_TOKEN_FILE")" redis-cli -p 7479
  Go          options, err := client.FromEnvironment(); db, err := client.Open(ctx, []string{"127.0.0.1:7400"}, options...)
  look        quoit cluster status --watch
  token       quoit token create --key '/my data/secrets/signing-key.json' --sub shop --ttl 24h --write 'cart:*'

Ctrl-C stops it; the data stays.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	out.Reset()
	h.proofs = proofs{CA: "/etc/ca.pem", asks: true} // secured by variables
	if err := h.print(&out); err != nil {
		t.Fatal(err)
	}
	mustSay(t, out.String(), "  first       export QUOIT_TOKEN_FILE=YOUR-TOKEN QUOIT_TLS_CA_FILE=/etc/ca.pem\n")
}
