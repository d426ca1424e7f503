package integration

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// canaries are secrets that nobody must ever see again, by what they are.
func canaries(token string) map[string]string {
	return map[string]string{
		"the cluster's secret": canarySecret, "the token key": canaryKey, "the token key as it is written": base64.RawURLEncoding.EncodeToString([]byte(canaryKey)),
		"the bucket's secret": canaryBucket, "a token's signature": token[strings.LastIndexByte(token, '.')+1:],
		"a key": "canary:name", "a value": "canary-value", "a wrong token": "canary-wrong",
	}
}

const (
	canarySecret = "canary-cluster-secret-0123456789abcdef"
	canaryKey    = "canary-token-key-0123456789abcdef0123"
	canaryBucket = "canary-bucket-secret-0123456789abcdef"
)

// TestSecretsAreNowhereToBeSeen: a manager and a node that log all they can, with
// strangers and friends at every door, and killed so that they leave their stacks;
// then neither log, metrics, profiles, replies nor process list hold a secret, nor the
// log a key or a value.
func TestSecretsAreNowhereToBeSeen(t *testing.T) {
	f := newFleet(t, 1)
	secret, keys, token := f.secrets()
	admin := map[*process]string{f.manager: freeAddress(t)}
	env := []string{
		"QUOIT_CLUSTER_SECRET_FILE=" + secret, "QUOIT_TOKEN_KEYS_FILE=" + keys,
		"QUOIT_S3_ACCESS_KEY=quoit", "QUOIT_S3_SECRET_KEY=" + canaryBucket, "QUOIT_LOG_LEVEL=debug",
	}
	f.manager.env = append(append(f.manager.env, env...), "QUOIT_MANAGER_ADMIN_ADDR="+admin[f.manager])
	f.manager.start(t, "")
	node := f.node()
	admin[node] = freeAddress(t)
	node.env = append(append(node.env, env...), "QUOIT_NODE_ADMIN_ADDR="+admin[node])
	node.start(t, "")
	for _, address := range []string{node.name, f.address} {
		f.wait(address+" to take the token", func() bool {
			return strings.HasPrefix(say(address, "AUTH "+token, "SET canary:name canary-value"), "+OK\r\n")
		})
	}

	var seen strings.Builder
	broken := token[:len(token)-4] + "AAAA"
	for _, address := range []string{node.name, f.address} {
		for _, lines := range [][]string{
			{"AUTH " + token, "INFO everything", "CONFIG GET *", "CLIENT LIST", "SNAPSHOT STATUS", "CLUSTER STATUS", "TOPOLOGY", "SNAPSHOT", "APPEND canary:name", "INCR counter x", "NOSUCH"},
			{"AUTH canary-wrong"},
			{"AUTH user " + broken},
			{"HELLO 2 AUTH user canary-wrong"},
			{"GET a"},
			{"AUTH"},
			{"CHALLENGE node " + node.name + " " + strings.Repeat("00", 32), "PROVE " + strings.Repeat("11", 32)},
			{"POST / HTTP/1.1"},
		} {
			seen.WriteString(say(address, lines...))
		}
	}
	for p, address := range admin {
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
			seen.WriteString(page(t, address, path))
		}
		seen.WriteString(p.commandLine(t))
	}
	for _, p := range []*process{node, f.manager} {
		p.signal(syscall.SIGQUIT) // the runtime prints the stacks of all goroutines
		<-p.ended()
		log, err := os.ReadFile(p.log)
		if err != nil || len(log) == 0 {
			t.Fatalf("the log of %s: %d bytes, %v", p.name, len(log), err)
		}
		seen.Write(log)
	}
	for what, canary := range canaries(token) {
		if at := strings.Index(seen.String(), canary); at >= 0 {
			t.Errorf("%s is to be seen: ...%q...", what, seen.String()[max(0, at-200):min(seen.Len(), at+100)])
		}
	}
	if seen.Len() < 10_000 {
		t.Errorf("only %d bytes were looked through", seen.Len())
	}
}

// secrets are files with the cluster's secret and a key for tokens, and a token of it.
func (f *fleet) secrets() (secret, keys, token string) {
	f.t.Helper()
	secret, keys = filepath.Join(f.dir, "secret"), filepath.Join(f.dir, "keys.json")
	jwk := fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k1","alg":"HS256","k":%q}]}`, base64.RawURLEncoding.EncodeToString([]byte(canaryKey)))
	for name, text := range map[string]string{secret: canarySecret + "\n", keys: jwk} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	out, err := exec.Command(binary, "token", "create", "--key", keys, "--sub", "tester", "--write", "*", "--cluster", "operate").CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	return secret, keys, strings.TrimSpace(string(out))
}

func (f *fleet) wait(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// say sends lines to a server and QUIT, and returns all that comes back.
func say(address string, lines ...string) string {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, strings.Join(append(lines, "QUIT"), "\r\n")+"\r\n")
	all, _ := io.ReadAll(bufio.NewReader(c))
	return string(all)
}

func page(t *testing.T, address, path string) string {
	t.Helper()
	res, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// commandLine is what everyone on the machine sees of a process.
func (p *process) commandLine(t *testing.T) string {
	t.Helper()
	p.mu.Lock()
	pid := p.cmd.Process.Pid
	p.mu.Unlock()
	all, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
