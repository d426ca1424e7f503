package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// issuer makes tokens that a server takes.
type issuer struct {
	t    testing.TB
	key  auth.Key
	keys *auth.Keys
	now  func() time.Time
	n    int
}

func newIssuer(t testing.TB, now func() time.Time) *issuer {
	t.Helper()
	key, err := auth.NewKey(auth.HS256, "k1")
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, key: key, keys: auth.NewKeys(key), now: now}
}

// claims are those of a new token that is good for an hour.
func (i *issuer) claims(scopes ...auth.Scope) auth.Claims {
	i.n++
	return auth.Claims{Subject: "test", ID: fmt.Sprintf("t-%d", i.n), Expires: i.now().Add(time.Hour), Scopes: scopes}
}

func (i *issuer) sign(c auth.Claims) string {
	i.t.Helper()
	token, err := auth.Sign(i.key, c)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

func (i *issuer) token(scopes ...auth.Scope) string {
	i.t.Helper()
	return i.sign(i.claims(scopes...))
}

// guarded is a solo that asks who is there, and who makes tokens for it.
func guarded(t testing.TB, o soloOptions) (*solo, *issuer) {
	t.Helper()
	now := o.clock
	if now == nil {
		now = time.Now
	}
	i := newIssuer(t, now)
	o.keys = i.keys
	return startSolo(t, o), i
}

// login is a connection that has shown a token.
func (s *solo) login(token string) *testClient {
	s.t.Helper()
	c := s.dial()
	c.login(token)
	return c
}

func (c *testClient) login(token string) {
	c.t.Helper()
	if got := c.do("AUTH " + token); got != "+OK" {
		c.t.Fatalf("AUTH: %s", got)
	}
}

// want fails where a reply does not begin as it should.
func (c *testClient) want(line, want string) {
	c.t.Helper()
	if got := c.do(line); !strings.HasPrefix(got, want) {
		c.t.Fatalf("%s: %s, want %s", line, got, want)
	}
}

// root may do everything with keys.
func root() auth.Scope { return auth.PrefixScope("", auth.WriteAccess) }

// requests has one request for each command, about a key that is called theirs:1.
var requests = map[protocol.Command]string{
	protocol.CmdGet: "GET theirs:1", protocol.CmdPut: "PUT theirs:1 x", protocol.CmdDel: "DEL theirs:1",
	protocol.CmdMGet: "MGET mine:1 theirs:1", protocol.CmdMSet: "MSET mine:1 x theirs:1 y", protocol.CmdExists: "EXISTS mine:1 theirs:1",
	protocol.CmdTTL: "TTL theirs:1", protocol.CmdPTTL: "PTTL theirs:1",
	protocol.CmdExpireTime: "EXPIRETIME theirs:1", protocol.CmdPExpireTime: "PEXPIRETIME theirs:1",
	protocol.CmdExpire: "EXPIRE theirs:1 1", protocol.CmdPExpire: "PEXPIRE theirs:1 1",
	protocol.CmdExpireAt: "EXPIREAT theirs:1 1", protocol.CmdPExpireAt: "PEXPIREAT theirs:1 1",
	protocol.CmdPersist: "PERSIST theirs:1", protocol.CmdIncr: "INCR theirs:1", protocol.CmdIncrBy: "INCRBY theirs:1 1",
	protocol.CmdDecr: "DECR theirs:1", protocol.CmdDecrBy: "DECRBY theirs:1 1", protocol.CmdAppend: "APPEND theirs:1 x",
	protocol.CmdStrlen: "STRLEN theirs:1", protocol.CmdGetDel: "GETDEL theirs:1", protocol.CmdGetSet: "GETSET theirs:1 x",
	protocol.CmdSetNX: "SETNX theirs:1 x", protocol.CmdSetEx: "SETEX theirs:1 1 x", protocol.CmdPSetEx: "PSETEX theirs:1 1 x",
	protocol.CmdGetV: "GETV theirs:1", protocol.CmdScan: "SCAN 0", protocol.CmdDBSize: "DBSIZE", protocol.CmdType: "TYPE theirs:1",

	protocol.CmdPing: "PING", protocol.CmdEcho: "ECHO x", protocol.CmdAuth: "AUTH nonsense", protocol.CmdHello: "HELLO 2",
	protocol.CmdSelect: "SELECT 0", protocol.CmdClient: "CLIENT ID", protocol.CmdCommand: "COMMAND COUNT", protocol.CmdInfo: "INFO",
	protocol.CmdConfig: "CONFIG GET save", protocol.CmdQuit: "QUIT", protocol.CmdReset: "RESET", protocol.CmdTime: "TIME",
	protocol.CmdWatch: "WATCH 1 PREFIX theirs: 0 0 0", protocol.CmdUnwatch: "UNWATCH 1",
	protocol.CmdChallenge: "CHALLENGE node 127.0.0.1:7999 00", protocol.CmdProve: "PROVE 00",

	protocol.CmdTopology: "TOPOLOGY", protocol.CmdRegister: "REGISTER {}", protocol.CmdHeartbeat: "HEARTBEAT {}", protocol.CmdRefresh: "REFRESH 1",
	protocol.CmdMigrateRange: "MIGRATE_RANGE 0 1 127.0.0.1:7999 m-1", protocol.CmdStageRange: "STAGE_RANGE m-1 0 1 127.0.0.1:7999",
	protocol.CmdStageData: "STAGE_DATA m-1 1 x", protocol.CmdStageSeal: "STAGE_SEAL m-1 1 1 1", protocol.CmdCommitMove: "COMMIT_MOVE m-1",
	protocol.CmdMoveDone: "MOVE_DONE active m-1", protocol.CmdCluster: "CLUSTER STATUS", protocol.CmdSnapshot: "SNAPSHOT",
}

// beforeAuth is what a stranger may send.
var beforeAuth = map[protocol.Command]bool{
	protocol.CmdAuth: true, protocol.CmdHello: true, protocol.CmdQuit: true, protocol.CmdReset: true,
	protocol.CmdChallenge: true, protocol.CmdProve: true,
}

// forAnyone is what every token opens.
var forAnyone = map[protocol.Command]bool{
	protocol.CmdPing: true, protocol.CmdEcho: true, protocol.CmdSelect: true, protocol.CmdClient: true, protocol.CmdCommand: true,
	protocol.CmdInfo: true, protocol.CmdConfig: true, protocol.CmdTime: true, protocol.CmdUnwatch: true, protocol.CmdTopology: true,
	protocol.CmdScan: true, // gives what may be read
}

func TestEveryCommandHasARequestHere(t *testing.T) {
	for _, cmd := range protocol.Commands() {
		if got, _ := protocol.Lookup([]byte(strings.Fields(requests[cmd] + " none")[0])); got != cmd {
			t.Errorf("%s: the request is %q", cmd, requests[cmd])
		}
	}
}

// filled is a guarded solo in which there are keys of two owners.
func filled(t testing.TB, o soloOptions) (*solo, *issuer) {
	t.Helper()
	s, i := guarded(t, o)
	c := s.login(i.token(root()))
	c.want("MSET mine:1 a theirs:1 b", "+OK")
	return s, i
}

// unchanged fails where anything but what filled has made is there.
func (s *solo) unchanged(i *issuer, after string) {
	s.t.Helper()
	c := s.login(i.token(root()))
	defer c.Close()
	if got := c.do("MGET mine:1 theirs:1") + c.do("PTTL theirs:1") + c.do("DBSIZE"); got != "[a b]:-1:2" {
		s.t.Fatalf("after %s the keys are %s", after, got)
	}
}

// TestAStrangerIsToldNothing: every command, what is no command, and what is no request
// of one, alone and in a pipeline.
func TestAStrangerIsToldNothing(t *testing.T) {
	s, i := filled(t, soloOptions{})
	for _, cmd := range protocol.Commands() {
		if beforeAuth[cmd] {
			continue
		}
		for _, line := range []string{requests[cmd], cmd.String()} {
			s.dial().want(line, "-NOAUTH ")
			c := s.dial()
			c.send("HELLO 2\r\n" + line + "\r\n" + requests[cmd] + "\r\nRESET\r\n" + line + "\r\n")
			for n, want := range []string{"-NOAUTH ", "-NOAUTH ", "-NOAUTH ", "+RESET", "-NOAUTH "} {
				if got := c.reply(); !strings.HasPrefix(got, want) {
					t.Errorf("%s, reply %d of a pipeline: %s, want %s", line, n, got, want)
				}
			}
		}
	}
	s.dial().want("NOSUCHCOMMAND theirs:1", "-NOAUTH ")
	c := s.dial()
	c.want("*x", "-NOAUTH ")
	c.expectClosed()
	s.unchanged(i, "strangers")
}

// TestHelloTellsAStrangerNothing of the version, and of how many have connected before.
func TestHelloTellsAStrangerNothing(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now})
	c := s.dial()
	for _, line := range []string{"HELLO", "HELLO 2", "HELLO 2 SETNAME me"} {
		c.want(line, "-NOAUTH authenticate first")
	}
	c.want("HELLO 2 AUTH me "+i.token(root()), "[server quoit version ")
	c.want("CLIENT GETNAME", "(nil)")
	c.want("HELLO", "[server quoit version ")
	s.atRest()
	clock.advance(2 * time.Hour)
	c.want("HELLO", "-NOAUTH the token has expired")
}

// TestEveryCommandIsHeldToItsScopes: each is sent about a key out of scope, alone and
// between others that are in scope, so that it comes by all ways there are to the engine.
func TestEveryCommandIsHeldToItsScopes(t *testing.T) {
	s, i := filled(t, soloOptions{})
	token := i.token(auth.PrefixScope("mine:", auth.WriteAccess))
	for _, cmd := range protocol.Commands() {
		want := "-NOPERM "
		switch {
		case beforeAuth[cmd]:
			continue
		case forAnyone[cmd]:
			want = ""
		}
		line := requests[cmd]
		check := func(how, got string) {
			t.Helper()
			if !strings.HasPrefix(got, want) || want == "" && strings.HasPrefix(got, "-NO") {
				t.Errorf("%s, %s: %s, want %s", line, how, got, want)
			}
		}
		first := s.login(token)
		check("first of all", first.do(line))
		c := s.login(token)
		c.want("GET mine:1", "a")
		check("behind another", c.do(line))
		const pipelined = 40 // more than a group
		c.send(strings.Repeat("GET mine:1\r\n"+line+"\r\n", pipelined))
		for range pipelined {
			if got := c.reply(); got != "a" {
				t.Fatalf("%s: the request before it in a pipeline is answered %s", line, got)
			}
			check("in a pipeline", c.reply())
		}
		first.Close()
		c.Close()
	}
	s.unchanged(i, "requests out of scope")
}

// TestReadingIsNotWriting: what changes a key needs a scope that writes it, also where it
// only seems to read.
func TestReadingIsNotWriting(t *testing.T) {
	s, i := filled(t, soloOptions{})
	c := s.login(i.token(auth.PrefixScope("theirs:", auth.ReadAccess), auth.KeyScope("mine:1", auth.WriteAccess)))
	for _, cmd := range protocol.Commands() {
		spec := cmd.Spec()
		switch {
		case spec.Has(protocol.Write):
			c.want(requests[cmd], "-NOPERM ")
		case spec.Has(protocol.Readonly) && spec.FirstKey > 0:
			if got := c.do(requests[cmd]); strings.HasPrefix(got, "-") {
				t.Errorf("%s: %s", requests[cmd], got)
			}
		}
	}
	for _, line := range []string{"SET theirs:1 x GET", "SET theirs:1 x NX", "SET theirs:1 x IFVERSION 1", "DEL mine:1 theirs:1", "set theirs:1 x XX"} {
		c.want(line, "-NOPERM ")
	}
	s.unchanged(i, "writes with a scope that reads")
}

// TestABatchWithAForbiddenKeyDoesNothing, wherever the key stands.
func TestABatchWithAForbiddenKeyDoesNothing(t *testing.T) {
	s, i := filled(t, soloOptions{})
	c := s.login(i.token(auth.PrefixScope("mine:", auth.WriteAccess)))
	for _, line := range []string{
		"MSET mine:1 x mine:2 y theirs:1 z", "MSET theirs:1 x mine:2 y", "MSET mine:2 x theirs:2 y mine:3 z",
		"DEL mine:1 theirs:1", "DEL theirs:1 mine:1", "MGET mine:1 theirs:1", "EXISTS mine:1 mine:1 theirs:1",
	} {
		c.want(line, "-NOPERM ")
	}
	s.unchanged(i, "batches")
}

// TestNOPERMComesBeforeMOVED, and before any other word about where a key is or whether
// the node serves: a refusal is the same for every key.
func TestNOPERMComesBeforeMOVED(t *testing.T) {
	s, i := filled(t, soloOptions{})
	token := i.token(auth.PrefixScope("mine:", auth.WriteAccess))
	served := s.login(token).do("GET theirs:1")
	s.own(2, ring.Range{}, soloAddress)
	if got := s.login(token).do("GET theirs:no-such"); strings.ReplaceAll(got, "no-such", "1") != served {
		t.Errorf("a key that is not there: %s, one that is: %s", got, served)
	}

	at := ring.PositionOfString("theirs:1")
	s.own(3, ring.Range{Start: at, End: at - 1}, "127.0.0.1:7999") // all but theirs:1
	c := s.login(token)
	if got := c.do("GET theirs:1"); got != served {
		t.Errorf("a key that is elsewhere: %s, want %s", got, served)
	}
	c.want("MGET mine:1 theirs:1", "-NOPERM ")
	c.send("GET mine:1\r\nGET theirs:1\r\nGET mine:1\r\n")
	for _, want := range []string{"a", served, "a"} {
		if got := c.reply(); got != want {
			t.Errorf("in a pipeline: %s, want %s", got, want)
		}
	}
	s.login(i.token(root())).want("GET theirs:1", "-MOVED ")
	s.dial().want("GET theirs:1", "-NOAUTH ")

	if err := s.engine().SetOwnership(nil); err != nil {
		t.Fatal(err)
	}
	s.state.publish(&view{why: "the node is starting"})
	if got := s.login(token).do("GET theirs:1"); got != served {
		t.Errorf("while the node does not serve: %s, want %s", got, served)
	}
	s.login(token).want("GET mine:1", "-UNAVAILABLE ")
}

// TestATokenThatExpiresEndsAtOnce on a connection that is open, and a new one lets it go
// on.
func TestATokenThatExpiresEndsAtOnce(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := filled(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Handshake = 0 }})
	claims := i.claims(root())
	claims.Expires = clock.now().Add(time.Minute)
	c := s.login(i.sign(claims))
	c.want("GET mine:1", "a")
	s.atRest()
	clock.advance(time.Minute + auth.Leeway - time.Second)
	c.want("GET mine:1", "a")
	s.atRest()
	clock.advance(2 * time.Second)
	c.send("GET mine:1\r\nSET mine:1 x\r\nNOSUCH\r\nGET\r\nPING\r\n")
	for range 5 {
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "expired") {
			t.Errorf("after its end: %s", got)
		}
	}
	late := s.dial()
	late.want("AUTH "+i.sign(claims), "-NOAUTH the token has expired")
	late.expectClosed()
	c.login(i.token(auth.PrefixScope("mine:", auth.ReadAccess)))
	c.want("GET mine:1", "a")
	c.want("SET mine:1 x", "-NOPERM ")
}

// TestAKeyThatIsWithdrawnTakesItsTokensAlong on connections that are open.
func TestAKeyThatIsWithdrawnTakesItsTokensAlong(t *testing.T) {
	s, i := filled(t, soloOptions{})
	token := i.token(root())
	c := s.login(token)
	c.want("GET mine:1", "a")
	next := newIssuer(t, time.Now)
	i.keys.Replace(next.key)
	c.send("GET mine:1\r\nSET mine:1 x\r\n")
	for range 2 {
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "withdrawn") {
			t.Errorf("after that: %s", got)
		}
	}
	s.dial().want("AUTH "+token, "-NOAUTH ")
	c.login(next.token(root()))
	c.want("GET mine:1", "a")
}

// TestARequestThatIsParkedWhileItsTokenEnds is not done when its range is free again.
func TestARequestThatIsParkedWhileItsTokenEnds(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := filled(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Park = time.Minute }})
	c := s.login(i.token(root()))
	c.want("GET mine:1", "a")
	at := ring.PositionOfString("mine:1")
	s.seal("m1", ring.Range{Start: at - 1, End: at})
	c.send("SET mine:1 x\r\n")
	waitFor(t, "the request to be parked", func() bool { return s.stats.parked.Load() == 1 })
	clock.advance(2 * time.Hour)
	if _, err := s.engine().Unseal("m1"); err != nil {
		t.Fatal(err)
	}
	if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Errorf("got %s", got)
	}
	s.unchanged(i, "a request whose token ended while it was parked")
}

// TestAWatchEndsWithItsToken: it is told so, is told of nothing more, and the connection
// is closed.
func TestAWatchEndsWithItsToken(t *testing.T) {
	for how, end := range map[string]func(*issuer, *fakeClock){
		"expired":   func(_ *issuer, clock *fakeClock) { clock.advance(2 * time.Hour) },
		"withdrawn": func(i *issuer, _ *fakeClock) { i.keys.Replace(newIssuer(i.t, i.now).key) },
	} {
		t.Run(how, func(t *testing.T) {
			clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
			s, i := filled(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
			c := s.login(i.token(auth.PrefixScope("mine:", auth.ReadAccess)))
			c.send("WATCH 1 PREFIX mine: 0 0 0\r\n")
			c.wantHeard("[watching :1]", "[synced :1 :0 :0 :v]")
			s.atRest()
			end(i, clock)
			if got := c.heard(); !strings.HasPrefix(got, "[refused :0 NOAUTH ") || !strings.Contains(got, how) {
				t.Errorf("heard %s", got)
			}
			c.expectClosed()
			if s.watches.Load() != 0 {
				t.Error("the watch is still counted")
			}
		})
	}
}

// TestNothingIsToldBetweenTheEndOfATokenAndTheSweeper.
func TestNothingIsToldBetweenTheEndOfATokenAndTheSweeper(t *testing.T) {
	s, i := filled(t, soloOptions{config: func(c *Config) { c.Times.Handshake = time.Hour }})
	next := newIssuer(t, time.Now)
	writer := s.login(i.token(root()))
	c := s.login(i.token(auth.PrefixScope("mine:", auth.ReadAccess)))
	c.send("WATCH 1 PREFIX mine: 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :v]")
	writer.want("SET mine:1 b", "+OK")
	c.wantHeard("[put :1 mine:1 :v :0 b]")
	i.keys.Replace(next.key)
	writer.login(next.token(root()))
	writer.want("SET mine:1 secret", "+OK")
	c.send("PING\r\n")
	if got := c.heard(); !strings.HasPrefix(got, "[refused :0 NOAUTH ") {
		t.Errorf("heard %s", got)
	}
	c.expectClosed()
}

// TestAWatchIsHeldToItsScopes: the first one, which makes the connection one that
// watches, and every other.
func TestAWatchIsHeldToItsScopes(t *testing.T) {
	s, i := filled(t, soloOptions{})
	writer := s.login(i.token(root()))
	token := i.token(auth.PrefixScope("mine:", auth.ReadAccess), auth.KeyScope("one", auth.ReadAccess))
	forbidden := []string{"PREFIX theirs:", "PREFIX mine", `PREFIX ""`, "PREFIX one", "KEY theirs:1", "KEY one2"}
	c := s.login(token)
	for _, selector := range forbidden {
		c.want("WATCH 1 "+selector+" 0 0 0", "-NOPERM ")
	}
	c.send("WATCH 1 PREFIX mine:cart: 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :v]")
	for n, selector := range forbidden {
		c.send(fmt.Sprintf("WATCH %d %s 0 0 0\r\n", n+2, selector))
		if got := c.heard(); !strings.HasPrefix(got, fmt.Sprintf("[refused :%d NOPERM ", n+2)) {
			t.Errorf("%s: heard %s", selector, got)
		}
	}
	c.send("WATCH 20 KEY one 0 0 0\r\nGET theirs:1\r\nAUTH " + i.token(root()) + "\r\n")
	got := []string{c.heard(), c.heard(), c.heard(), c.heard()}
	all := strings.Join(got, " ")
	for _, want := range []string{"[watching :20]", "[synced :20 ", "GET cannot be used", "AUTH cannot be used"} {
		if !strings.Contains(all, want) {
			t.Errorf("heard %s, want %s", all, want)
		}
	}
	writer.want("MSET theirs:1 x theirs:2 x mine:2 x one2 x mine:cart:1 x one x", "+OK")
	heard := []string{c.heard(), c.heard()}
	for _, push := range heard {
		if !strings.Contains(push, " mine:cart:1 ") && !strings.Contains(push, " one ") {
			t.Errorf("was told %s", push)
		}
	}
}

// TestWhoDoesNotAuthenticateInTimeIsClosed, whatever else it says meanwhile.
func TestWhoDoesNotAuthenticateInTimeIsClosed(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
	silent, busy, half, known := s.dial(), s.dial(), s.dial(), s.login(i.token(root()))
	busy.want("HELLO 2", "-NOAUTH ")
	half.send("AUTH ey")
	waitFor(t, "half a request to be read", func() bool { return s.inPhase(partial) == 1 })
	s.atRest()
	clock.advance(4 * time.Second)
	busy.want("RESET", "+RESET")
	busy.want("GET a", "-NOAUTH ")
	s.atRest()
	clock.advance(2 * time.Second)
	for _, c := range []*testClient{silent, busy, half} {
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "within 5s") {
			t.Errorf("got %s", got)
		}
		c.expectClosed()
	}
	known.want("GET a", "(nil)")
	if got := s.stats.unproved.Load(); got != 3 {
		t.Errorf("%d counted", got)
	}
}

// TestATokenThatHasEndedKeepsNoPlace: the connection is closed if no new one comes.
func TestATokenThatHasEndedKeepsNoPlace(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
	c := s.login(i.token(root()))
	c.want("GET a", "(nil)")
	s.atRest()
	clock.advance(2 * time.Hour)
	waitFor(t, "the sweeper to see it", func() bool {
		s.roster.mu.Lock()
		defer s.roster.mu.Unlock()
		for _, c := range s.roster.conns {
			return c.strangeSince != 0
		}
		return false
	})
	clock.advance(s.times.Handshake + time.Second)
	if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") || !strings.Contains(got, "expired") {
		t.Errorf("got %s", got)
	}
	c.expectClosed()
}

// TestAStrangerHoldsNextToNothing: a request of his is small, his buffers stay what
// every connection has, and what he may not send he does not get to send.
func TestAStrangerHoldsNextToNothing(t *testing.T) {
	s, i := guarded(t, soloOptions{})
	for what, bytes := range map[string]string{
		"a large value":        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n",
		"a long line":          "SET a " + strings.Repeat("x", 2*auth.MaxToken),
		"many arguments":       "*1000\r\n",
		"a large value, whole": string(protocol.AppendRequestStrings(nil, "SET", "a", strings.Repeat("x", 2*auth.MaxToken))),
	} {
		c := s.dial()
		c.send(bytes)
		if got := c.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
			t.Errorf("%s: %s", what, got)
		}
		c.expectClosed()
	}
	c := s.dial()
	go func() { // far more than he is read
		for range 2000 {
			if _, err := c.Write([]byte(strings.Repeat("HELLO 2\r\n", 100))); err != nil {
				return
			}
		}
	}()
	waitFor(t, "a lot to be read", func() bool { return s.received() > 100<<10 })
	if used := s.budget.Used(); used > 4*inbox.First {
		t.Errorf("a stranger holds %d bytes", used)
	}
	c.Close()

	known := s.dial()
	known.send("AUTH " + i.token(root()) + "\r\n" + string(protocol.AppendRequestStrings(nil, "SET", "a", strings.Repeat("x", 1<<20))))
	for range 2 {
		if got := known.reply(); got != "+OK" {
			t.Errorf("with a token: %s", got)
		}
	}
	known.want("RESET", "+RESET")
	known.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n")
	if got := known.reply(); !strings.HasPrefix(got, "-NOAUTH ") {
		t.Errorf("after RESET: %s", got)
	}
}

// TestATokenThatIsNotGoodEndsTheConnection after that has been told, and what was sent
// behind it is not done. Nobody writes the token down.
func TestATokenThatIsNotGoodEndsTheConnection(t *testing.T) {
	s, i := filled(t, soloOptions{})
	good := i.token(root())
	stranger := newIssuer(t, time.Now)
	for _, token := range []string{"nonsense", stranger.token(root()), good[:len(good)-2] + "xx", strings.Repeat("x", auth.MaxToken)} {
		for _, line := range []string{"AUTH " + token, "AUTH someone " + token, "HELLO 2 AUTH default " + token} {
			c := s.login(good)
			c.send(line + "\r\nSET mine:1 x\r\n")
			if got := c.reply(); got != "-NOAUTH the token is not valid here" {
				t.Errorf("%s: %s", line, got)
			}
			c.expectClosed()
		}
		if strings.Contains(s.logs.String(), token) {
			t.Errorf("%s is in the log", token)
		}
	}
	if got := s.guard.Figures().NotTaken["invalid"]; got != 12 {
		t.Errorf("%d counted, want 12", got)
	}
	s.unchanged(i, "tokens that are not good")
}

// TestAUTHReplacesAndRESETForgets who a connection is.
func TestAUTHReplacesAndRESETForgets(t *testing.T) {
	s, i := filled(t, soloOptions{})
	c := s.dial()
	c.want("HELLO 2 AUTH default "+i.token(auth.PrefixScope("mine:", auth.ReadAccess))+" SETNAME page", "[server ")
	c.want("CLIENT GETNAME", "page")
	c.want("GET mine:1", "a")
	c.want("GET theirs:1", "-NOPERM ")
	c.want("AUTH anyone "+i.token(auth.PrefixScope("theirs:", auth.ReadAccess)), "+OK")
	c.want("GET mine:1", "-NOPERM ")
	c.want("GET theirs:1", "b")
	c.send("GET theirs:1\r\nRESET\r\nGET theirs:1\r\nGET mine:1\r\nAUTH " + i.token(root()) + "\r\nGET mine:1\r\n")
	for _, want := range []string{"b", "+RESET", "-NOAUTH ", "-NOAUTH ", "+OK", "a"} {
		if got := c.reply(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestATokenHasItsConnections on a server, and no more: one that goes, is reset or shows
// another token makes room, and nobody is remembered who is gone.
func TestATokenHasItsConnections(t *testing.T) {
	s, i := guarded(t, soloOptions{})
	claims := i.claims(root())
	claims.Connections = 2
	token := i.sign(claims)
	a, b := s.login(token), s.login(token)
	over := s.dial()
	over.want("AUTH "+token, "-OVERLOADED the token has as many connections")
	over.expectClosed()
	a.login(token) // its own place is free for it
	a.want("RESET", "+RESET")
	c := s.login(token)
	b.login(i.token(root()))
	d := s.login(token)
	for _, client := range []*testClient{c, d} {
		client.Close()
	}
	waitFor(t, "the token to be forgotten", func() bool { return s.guard.Figures().Tokens == 0 })
	if got := s.guard.Figures().Denied["connections"]; got != 1 {
		t.Errorf("%d counted", got)
	}
}

// TestATokenHasItsRate, which its connections share.
func TestATokenHasItsRate(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now})
	claims := i.claims(root())
	claims.Rate = 10
	token := i.sign(claims)
	a, b := s.login(token), s.login(token)
	for range 5 {
		a.want("GET a", "(nil)")
		b.want("GET a", "(nil)")
	}
	a.want("GET a", "-OVERLOADED the token sends more requests a second")
	b.want("PING", "-OVERLOADED ")
	b.want("HELLO 2", "[server ")
	s.login(i.token(root())).want("GET a", "(nil)")
	clock.advance(time.Second)
	a.send(strings.Repeat("GET a\r\n", 11))
	for range 10 {
		if got := a.reply(); got != "(nil)" {
			t.Errorf("a second later: %s", got)
		}
	}
	if got := a.reply(); !strings.HasPrefix(got, "-OVERLOADED ") {
		t.Errorf("one too many: %s", got)
	}
	b.login(i.token(root()))
	b.want("GET a", "(nil)")
	if got := s.guard.Figures().Denied["rate"]; got != 3 {
		t.Errorf("%d counted", got)
	}
}

// TestARateIsNoOtherForWhoComesAgain: a pipeline that shows its token between its
// requests, and connections one after the other, have together what the token has.
func TestARateIsNoOtherForWhoComesAgain(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now})
	claims := i.claims(root())
	claims.Rate = 10
	token, answered := i.sign(claims), 0
	for range 3 {
		c := s.dial()
		c.send(strings.Repeat("AUTH "+token+"\r\nGET a\r\n", 7) + "QUIT\r\n")
		for range 7 {
			if got := c.reply(); got != "+OK" {
				t.Fatalf("AUTH: %s", got)
			}
			if c.reply() == "(nil)" {
				answered++
			}
		}
		c.reply()
		c.expectClosed()
	}
	if answered != claims.Rate {
		t.Errorf("%d requests of a second were answered, want %d", answered, claims.Rate)
	}
}

// TestARateCountsWhatAWatchingConnectionAsks, be it wrong or right.
func TestARateCountsWhatAWatchingConnectionAsks(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s, i := guarded(t, soloOptions{clock: clock.now})
	claims := i.claims(root())
	claims.Rate = 6
	c := s.login(i.sign(claims))
	c.send("WATCH 1 KEY a 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	c.send("PING\r\nNONSENSE\r\nGET a\r\nUNWATCH 7\r\nPING a b\r\n" + "PING\r\nNONSENSE\r\nGET a\r\nUNWATCH 7\r\nPING a b\r\nWATCH 2 KEY b 0 0 0\r\n")
	for n := range 5 {
		if got := c.heard(); strings.Contains(got, "OVERLOADED") {
			t.Errorf("request %d: %s", n, got)
		}
	}
	for n := range 6 {
		if got := c.heard(); !strings.Contains(got, "OVERLOADED the token sends more requests a second") {
			t.Errorf("request %d too many: %s", n, got)
		}
	}
	c.send("UNWATCH 1\r\n") // which only ever ends something
	c.wantHeard("[unwatched :1]")
}

// TestWhoMaySeeTheServer: what it tells of all its keys is not for everyone.
func TestWhoMaySeeTheServer(t *testing.T) {
	s, i := filled(t, soloOptions{})
	some := s.login(i.token(auth.PrefixScope("mine:", auth.WriteAccess)))
	some.want("DBSIZE", "-NOPERM ")
	for _, line := range []string{"INFO", "INFO everything", "INFO keyspace"} {
		if got := some.do(line); strings.Contains(got, "keys=") || strings.Contains(got, "process_id") || strings.Contains(got, "connected_clients") {
			t.Errorf("%s: %s", line, got)
		}
	}
	some.want("INFO server", "# Server\r\nquoit_version:test")
	cluster := i.claims()
	cluster.Cluster = auth.ClusterRead
	for _, c := range []*testClient{s.login(i.sign(cluster)), s.login(i.token(auth.PrefixScope("", auth.ReadAccess)))} {
		c.want("DBSIZE", ":2")
		if got := c.do("INFO"); !strings.Contains(got, "keys=2") || !strings.Contains(got, "process_id") {
			t.Errorf("INFO: %s", got)
		}
	}
	s.login(i.sign(cluster)).want("SCAN 0", "-NOPERM ")
}

// TestWithoutAuthenticationNothingIsAsked, and whoever shows a token learns that.
func TestWithoutAuthenticationNothingIsAsked(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.dial()
	c.want("AUTH x", "-ERR AUTH: this node has no password")
	c.want("HELLO 2 AUTH default x", "-ERR AUTH: this node has no password")
	c.want("SET a 1", "+OK")
	c.want("RESET", "+RESET")
	c.want("GET a", "1")
}
