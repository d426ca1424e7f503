package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/protocol"
)

// grant is a scope as the oracle of internal/auth sees it.
type grant struct {
	text          string
	prefix, write bool
}

// mayUse is that oracle: does one of the grants open the key?
func mayUse(grants []grant, key string, write bool) bool {
	for _, g := range grants {
		if (g.write || !write) && (g.text == key || g.prefix && strings.HasPrefix(key, g.text)) {
			return true
		}
	}
	return false
}

// lasting makes tokens that are the same in every run, so that kept inputs stay good.
type lasting struct {
	key    auth.Key
	file   string
	grants map[string][]grant // by token
	names  map[string]string  // tokens, by what stands for them in an input
	own    string             // the gateway's token, which opens nothing
}

func newLasting(f *testing.F) *lasting {
	f.Helper()
	set := fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"k1","alg":"HS256","k":%q}]}`, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)))
	keys, err := auth.ParseKeys([]byte(set))
	if err != nil {
		f.Fatal(err)
	}
	l := &lasting{key: keys[0], file: filepath.Join(f.TempDir(), "keys.json"), grants: map[string][]grant{}, names: map[string]string{}}
	if err := os.WriteFile(l.file, []byte(set), 0o600); err != nil {
		f.Fatal(err)
	}
	l.own = l.token(f, "@g", time.Hour)
	l.token(f, "@w", 0, grant{"own:", true, true})
	l.token(f, "@r", 0, grant{"own:", true, false}, grant{"flag", false, true}, grant{"own", false, false})
	l.token(f, "@n", 0)
	return l
}

// token signs one for the grants. The gateway's own ends like any other.
func (l *lasting) token(f *testing.F, name string, longer time.Duration, grants ...grant) string {
	f.Helper()
	c := auth.Claims{ID: name, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Add(longer)}
	for _, g := range grants {
		s := auth.Scope{Bytes: []byte(g.text), Prefix: g.prefix, Access: auth.ReadAccess}
		if g.write {
			s.Access = auth.WriteAccess
		}
		c.Scopes = append(c.Scopes, s)
	}
	token, err := auth.Sign(l.key, c)
	if err != nil {
		f.Fatal(err)
	}
	l.grants[token], l.names[name] = grants, token
	return token
}

// spell puts tokens in the place of what stands for them.
func (l *lasting) spell(stream []byte) []byte {
	for name, token := range l.names {
		stream = bytes.ReplaceAll(stream, []byte(name), []byte(token))
	}
	return stream
}

// customs looks at all that a gateway sends to nodes: nothing goes out before a token that
// is good, and through the door nothing that this token does not open.
type customs struct {
	of     *lasting
	door   bool // each request is held to its scope here; a channel's is at the node
	mu     sync.Mutex
	faults []string // guarded by mu
}

func (c *customs) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &declared{Conn: nc, of: c, parser: protocol.RequestParser{Limits: protocol.DefaultLimits()}}, nil
}

func (c *customs) found(t *testing.T, stream []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) > 0 {
		t.Fatalf("%q: %s", stream, strings.Join(c.faults, "\n"))
	}
}

// declared is a connection to a node.
type declared struct {
	net.Conn
	of     *customs
	parser protocol.RequestParser
	rest   []byte
	shown  bool // a token that is good
	grants []grant
}

func (d *declared) Write(b []byte) (int, error) {
	d.of.mu.Lock()
	d.rest = append(d.rest, b...)
	for {
		args, n, err := d.parser.Next(d.rest)
		if err != nil {
			d.fault("bytes that are no request: %v", err)
			d.rest = nil
		}
		if err != nil || n == 0 {
			break
		}
		if len(args) > 0 {
			d.look(args)
		}
		d.rest = d.rest[n:]
	}
	d.of.mu.Unlock()
	return d.Conn.Write(b)
}

func (d *declared) fault(format string, args ...any) {
	d.of.faults = append(d.of.faults, "to a node: "+fmt.Sprintf(format, args...))
}

// look holds a request to the token that was shown over this connection.
func (d *declared) look(args [][]byte) {
	cmd, known := protocol.Lookup(args[0])
	if !known {
		d.fault("%q", args)
		return
	}
	switch cmd {
	case protocol.CmdAuth, protocol.CmdHello:
		token, err := tokenOf(cmd, args)
		if err != nil || token == nil {
			return // the node says so
		}
		grants, good := d.of.of.grants[string(token)]
		if d.grants, d.shown = grants, good; !good {
			d.fault("a token that is not good: %q", token)
		}
		return
	case protocol.CmdReset:
		d.grants, d.shown = nil, false
		return
	case protocol.CmdQuit:
		return
	}
	spec := cmd.Spec()
	switch {
	case !d.shown:
		d.fault("%q before a token", args)
	case spec.Has(protocol.Cluster):
		d.fault("%q is for members", args)
	case !d.of.door || spec.FirstKey == 0:
		return
	}
	for i := spec.FirstKey; i < len(args) && (spec.LastKey < 0 || i <= spec.LastKey); i += spec.KeyStep {
		if !mayUse(d.grants, string(args[i]), spec.Has(protocol.Write)) {
			d.fault("%q, with %+v", args, d.grants)
		}
	}
}

// secretly is in names and values that no token of an input opens.
const secretly = "n0b0dy-is-t0ld"

// FuzzWhatATokenOpens sends whatever comes by each of the three ways that begin with a
// token: the door for Redis clients, a channel and the feed of topologies. Before a token
// that is good nothing reaches a node, and nothing for a key that it does not open; in the
// end the other keys are as they were, nobody was told of them, and no other is there.
func FuzzWhatATokenOpens(f *testing.F) {
	l := newLasting(f)
	for _, seed := range []string{
		"AUTH @w\r\nSET own:1 a\r\nGET own:1\r\nSET victim:1 x\r\nDEL victim:1\r\nGET victim:1\r\n", "GET victim:1\r\nAUTH x\r\n", "AUTH default @r\r\nSET own:1 x\r\nSET flag x\r\nGET own\r\nGET own;\r\n",
		"HELLO 2 AUTH any @w SETNAME me\r\nMSET own:1 a own:2 b victim:1 c\r\nMGET own:1 victim:1\r\n", "HELLO 2\r\nHELLO 3 AUTH a @w\r\nPING\r\n", "AUTH @w\r\nRESET\r\nSET own:1 a\r\n",
		"AUTH @w\r\nAUTH @r\r\nSET own:1 a\r\nAUTH @n\r\nGET own:1\r\nSCAN 0\r\n", "AUTH @w\r\nSCAN 0 COUNT 1000\r\nSCAN 0 MATCH victim:*\r\nDBSIZE\r\nINFO\r\nTOPOLOGY\r\n", "AUTH @g\r\nCLUSTER STATUS\r\nSNAPSHOT STATUS\r\n",
		"AUTH @w\r\nWATCH 1 PREFIX own: 0 0 0\r\nWATCH 2 PREFIX \"\" 0 0 0\r\nWATCH 3 KEY victim:1 0 0 0\r\nPING\r\n", "AUTH @r\r\nWATCH 1 KEY own 0 0 0\r\nUNWATCH 1\r\nSET own x\r\n",
		"AUTH @w\r\nGETDEL victim:1\r\nINCR victim:2\r\nAPPEND victim:1 x\r\nEXPIRE victim:1 1\r\nEXISTS own:1 victim:1\r\nPUT victim:1 x IFVERSION 0\r\n", "CHALLENGE node 127.0.0.1:1 00\r\nPROVE 00\r\nAUTH @w\r\nPROVE 00\r\n",
		"*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n*1\r\n$4\r\nPING\r\n", "AUTH @w\r\nMIGRATE_RANGE 0 1 2 3\r\nSTAGE_RANGE 0 1\r\nCLUSTER ADD a\r\n", "*3\r\n$3\r\nSET\r\n$8\r\nvictim:1\r\n$1\r\nx\r\nAUTH @w\r\n", "POST / HTTP/1.1\r\n",
	} {
		for way := range uint8(3) {
			f.Add([]byte(seed), way, false)
			f.Add(l.arrays(seed), way, true)
		}
	}
	b := newBorder(f, l)
	f.Fuzz(func(t *testing.T, stream []byte, way uint8, spelt bool) {
		if !spelt {
			stream = l.spell(stream)
		}
		told := b.send(t, stream, way%3)
		if bytes.Contains(told, []byte(secretly)) && !bytes.Contains(stream, []byte(secretly)) {
			t.Fatalf("%q is answered %q", stream, told)
		}
		b.inspect(t, stream)
	})
}

// arrays is a seed with tokens in it, each line a RESP array: what a mutation leaves whole
// is still a request.
func (l *lasting) arrays(seed string) []byte {
	var out []byte
	for line := range strings.Lines(seed) {
		words := strings.Fields(string(l.spell([]byte(line))))
		if strings.HasPrefix(line, "*") || strings.HasPrefix(line, "$") || len(words) == 0 {
			return l.spell([]byte(seed))
		}
		out = protocol.AppendRequestStrings(out, words[0], words[1:]...)
	}
	return out
}

// border is a cluster, and two gateways before it, one for each kind of customs.
type border struct {
	node      string
	door, web *fixture
	customs   []*customs
	all       *client.Client // of somebody who may do everything
}

func newBorder(f *testing.F, l *lasting) *border {
	f.Helper()
	n := nodeConfig(f)
	n.Auth.TokenKeysFile, n.Auth.ClusterSecret = l.file, config.NewSecret(strings.Repeat("s", auth.MinClusterSecret))
	cluster := startClusterOf(f, 1, n)
	b := &border{node: cluster.Addresses()[0], customs: []*customs{{of: l, door: true}, {of: l}}}
	gateway := func(c *customs) *fixture {
		return start(f, cluster.Manager(), options{
			config: func(g *Config) { g.KeysFile, g.Token = l.file, config.NewSecret(l.own) },
			seams: func(s *Seams) {
				s.Dial, s.DialClient = c.dial, func(ctx context.Context, address string) (client.Conn, error) { return c.dial(ctx, address) }
			},
		}).ready()
	}
	b.door, b.web = gateway(b.customs[0]), gateway(b.customs[1])
	everything := l.token(f, "@everything", 0, grant{"", true, true})
	delete(l.names, "@everything")
	delete(l.grants, everything)
	var err error
	b.all, err = client.Open(f.Context(), cluster.Addresses(), client.WithToken(func(context.Context) (string, error) { return everything, nil }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.all.Close() })
	for key, value := range victims() {
		if err := b.all.Put(f.Context(), key, []byte(value)); err != nil {
			f.Fatal(err)
		}
	}
	return b
}

// victims are the keys that no token opens.
func victims() map[string]string {
	return map[string]string{"victim:1": secretly, "victim:" + secretly: "v"}
}

// send sends a stream by one of the ways and returns what comes back.
func (b *border) send(t *testing.T, stream []byte, way uint8) []byte {
	t.Helper()
	if way == 0 {
		return all(t, connect(t, b.door.RedisAddr()), stream)
	}
	path := "/v1/node/" + b.node
	if way == 1 {
		path = "/v1/cluster"
	}
	nc := connect(t, b.web.Addr())
	if _, err := io.WriteString(nc, strings.ReplaceAll(b.web.handshake(path), "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	switched := bufio.NewReaderSize(nc, 1)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = switched.ReadString('\n'); err != nil {
			t.Fatalf("the handshake was answered %q, %v", line, err)
		}
	}
	return all(t, nc, append(frame(true, binaryFrame, len(stream), stream), frame(true, closeFrame, 0, nil)...))
}

// inspect wants everything to be as it was, and takes away what was allowed.
func (b *border) inspect(t *testing.T, stream []byte) {
	t.Helper()
	for _, c := range b.customs {
		c.found(t, stream)
	}
	for _, g := range []*fixture{b.door, b.web} {
		if g.stats.panics.Load() > 0 {
			t.Fatalf("%q: a connection panicked", stream)
		}
	}
	left := victims()
	for e, err := range b.all.Scan(t.Context(), client.ScanOptions{Values: true}) {
		value, victim := left[e.Key]
		switch {
		case err != nil:
			t.Fatal(err)
		case victim && string(e.Value) == value:
			delete(left, e.Key)
		case !victim && (strings.HasPrefix(e.Key, "own:") || e.Key == "flag"):
			if _, err := b.all.Delete(t.Context(), e.Key); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%q has made %q hold %q", stream, e.Key, e.Value)
		}
	}
	if len(left) > 0 {
		t.Fatalf("%q has taken away %q", stream, left)
	}
}
