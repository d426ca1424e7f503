package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// stranger listens as a server that answers the first requests with these lines, each
// one a reply, and tells what it was asked.
func stranger(t *testing.T, wrap func(net.Listener) net.Listener, replies ...string) (address string, asked func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l = wrap(l)
	done := make(chan []string, 1)
	go func() {
		var all []string
		defer func() { done <- all }()
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		in := bufio.NewReader(nc)
		for _, reply := range replies {
			request, err := readRequest(in)
			if err != nil {
				return
			}
			all = append(all, request)
			if _, err := nc.Write([]byte(reply + "\r\n")); err != nil {
				return
			}
		}
	}()
	return address, func() []string {
		_ = l.Close()
		return <-done
	}
}

// readRequest reads an array of bulk strings that have no line ends.
func readRequest(in *bufio.Reader) (string, error) {
	head, err := in.ReadString('\n') // one digit is enough
	if err != nil {
		return "", err
	}
	var words []string
	for range int(head[1] - '0') {
		if _, err := in.ReadString('\n'); err != nil {
			return "", err
		}
		word, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		words = append(words, strings.TrimSpace(word))
	}
	return strings.Join(words, " "), nil
}

func plainly(l net.Listener) net.Listener { return l }

func TestTheManagerIsShownTheTokenFirst(t *testing.T) {
	withoutTokens(t)
	file := save(t, t.TempDir(), "token", "from-a-file\n")
	for name, c := range map[string]struct {
		replies []string
		args    []string
		env     string
		asked   string
		said    string
		code    int
	}{
		"from the environment": {[]string{"+OK", "+OK"}, nil, "from-the-environment", "AUTH from-the-environment, CLUSTER PAUSE", "no further move", 0},
		"from a file":          {[]string{"+OK", "+OK"}, []string{"--token-file", file}, "from-the-environment", "AUTH from-a-file, CLUSTER PAUSE", "no further move", 0},
		"nobody asks for one":  {[]string{"-ERR AUTH: this manager has no password; connect without one", "+OK"}, nil, "x", "AUTH x, CLUSTER PAUSE", "no further move", 0},
		"it is refused":        {[]string{"-NOAUTH the token is not valid here"}, nil, "x", "AUTH x", "NOAUTH the token is not valid here (quoit token inspect FILE --keys KEYS says what is wrong with one)", exitFailure},
		"it has expired":       {[]string{"-NOAUTH the token has expired: get a new one"}, nil, "x", "AUTH x", "NOAUTH the token has expired: get a new one\n", exitFailure},
		"there is none":        {[]string{"-NOAUTH authenticate first"}, nil, "", "CLUSTER PAUSE", "NOAUTH authenticate first (show a token", exitFailure},
		"it may not do that":   {[]string{"+OK", "-NOPERM CLUSTER needs more"}, nil, "x", "AUTH x, CLUSTER PAUSE", "NOPERM CLUSTER needs more", exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			address, asked := stranger(t, plainly, c.replies...)
			t.Setenv("QUOIT_TOKEN", c.env)
			got := quoitWith(t.Context(), strings.NewReader(""), append([]string{"cluster", "pause", "--manager", address}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.out+got.err, c.said) {
				t.Errorf("exit code %d, %s%s", got.code, got.out, got.err)
			}
			if all := strings.Join(asked(), ", "); all != c.asked {
				t.Errorf("the manager was asked %s", all)
			}
		})
	}
}

func TestATokenFileThatIsNotThereIsAMistakeOfTheEnvironment(t *testing.T) {
	withoutTokens(t)
	for _, args := range [][]string{
		{"get", "a", "--token-file", "/nowhere/token"},
		{"cluster", "status", "--token-file", "/nowhere/token"},
		{"snapshot", "create", "--token-file", "/nowhere/token"},
	} {
		got := quoitWith(t.Context(), strings.NewReader(""), args...)
		if got.code != exitUsage || !strings.Contains(got.err, `QUOIT_TOKEN_FILE="/nowhere/token": want a file with the secret in it: no such file or directory`) {
			t.Errorf("%v: exit code %d, %s", args, got.code, got.err)
		}
	}
}

// TestWhatAnotherTryCannotMendIsSaidAtOnce: for ten seconds the tools tried again to speak
// plain text with a TLS port, TLS with a plain one, and with a server that they do not
// believe, and said in the end that the time was over.
func TestWhatAnotherTryCannotMendIsSaidAtOnce(t *testing.T) {
	withoutTokens(t)
	ca, stranger := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	start(t, 1)
	plain := os.Getenv("QUOIT_SERVERS")
	secured, err := node.LoadConfig(map[string]string{"QUOIT_FSYNC": "never", "QUOIT_NODE_TOKENS": "8", "QUOIT_NODE_DATA": "-", "QUOIT_BUCKET": "-"})
	if err != nil {
		t.Fatal(err)
	}
	m := manager.DefaultConfig()
	secured.TLS, m.TLS = ca.Config(false, tlstest.For("127.0.0.1")), ca.Config(false, tlstest.For("127.0.0.1"))
	c, err := local.Start(t.Context(), local.Options{Dir: t.TempDir(), Nodes: 1, Port: -1, Node: &secured, Manager: &m})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	_, port, _ := strings.Cut(c.Manager(), ":")
	t.Setenv("QUOIT_TLS_CA_FILE", ca.File)
	if got := quoit(t, "get", "a", "-s", c.Manager()); got.code != exitNotFound {
		t.Errorf("where nothing is wrong: exit code %d, %s", got.code, got.err)
	}
	for name, wrong := range map[string]struct{ server, ca, said string }{
		"no authority":             {c.Manager(), "", "this port speaks TLS alone: quoit needs QUOIT_TLS_CA_FILE"},
		"another authority":        {c.Manager(), stranger.File, "QUOIT_TLS_CA_FILE names the authorities that are believed"},
		"another name":             {"localhost:" + port, ca.File, "no TLS with localhost: its certificate is for 127.0.0.1; dial it by such a name"},
		"a server that has no TLS": {plain, ca.File, "QUOIT_TLS=off where it does not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("QUOIT_TLS_CA_FILE", wrong.ca)
			for _, args := range [][]string{{"get", "a", "-s", wrong.server}, {"cluster", "status", "-m", wrong.server}} {
				got := quoit(t, args...)
				if got.code != exitFailure || !strings.Contains(got.err, wrong.said) || strings.Contains(got.err, "gave up") || strings.Contains(got.err, "no cluster answers") {
					t.Errorf("%v: %s", args, got.err)
				}
			}
		})
	}
}

func TestToolsSpeakTLSWhereTheEnvironmentSaysWhomToBelieve(t *testing.T) {
	withoutTokens(t)
	ca := tlstest.NewAuthority(t)
	server, err := tlsconf.NewServer(ca.Config(false), tlsconf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	secure := server.Listener
	address, asked := stranger(t, secure, "+OK")
	t.Setenv("QUOIT_TLS_CA_FILE", ca.File)
	if got := quoitWith(t.Context(), strings.NewReader(""), "cluster", "pause", "--manager", address); got.code != 0 {
		t.Errorf("exit code %d, %s", got.code, got.err)
	}
	if all := strings.Join(asked(), ", "); all != "CLUSTER PAUSE" {
		t.Errorf("the manager was asked %s", all)
	}
	address, asked = stranger(t, secure, "+OK")
	t.Setenv("QUOIT_TLS_CA_FILE", tlstest.NewAuthority(t).File)
	if got := quoitWith(t.Context(), strings.NewReader(""), "cluster", "pause", "--manager", address); got.code != exitFailure || !strings.Contains(got.err, "the manager at "+address) {
		t.Errorf("another authority: exit code %d, %s", got.code, got.err)
	}
	if all := asked(); len(all) > 0 {
		t.Errorf("who could not be believed was asked %s", all)
	}
}
