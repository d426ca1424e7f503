package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// creed is what attackers of a guarded cluster have got hold of: the authority of its
// servers, tokens that open their own keys or none at all, others that are worth nothing
// any more or never were, and a certificate that nobody has issued.
type creed struct {
	CA             string // a file
	Stranger       tlsconf.Config
	Tokens, Broken []string
}

// heard is how long an attacker waits for what is said to a token.
const heard = 5 * time.Millisecond

// forFriends is in values that attackers may not read.
const forFriends = "for friends alone"

// arms are the ways of attackers to speak TLS.
type arms struct{ good, old, stranger *tls.Config }

func (a *attack) arm() error {
	if a.Creed == nil {
		return nil
	}
	known, err := tlsconf.NewClient(tlsconf.Config{TLSCA: a.Creed.CA}, tlsconf.Options{})
	if err != nil {
		return err
	}
	strange := a.Creed.Stranger
	strange.TLSCA = a.Creed.CA
	stranger, err := tlsconf.NewClient(strange, tlsconf.Options{})
	if err != nil {
		return err
	}
	a.arms = arms{good: known.Config(), old: known.Config(), stranger: stranger.Config()}
	a.arms.old.MinVersion, a.arms.old.MaxVersion = tls.VersionTLS10, tls.VersionTLS12
	return nil
}

// certain is a key that attackers are sure to write: their tokens are good for that.
const certain = hostile + "certain"

// settle has the first token write that key, through the Redis door.
func (a *attack) settle(ctx context.Context) error {
	for _, p := range a.Ports {
		if a.Creed == nil || p.Name != "door" {
			continue
		}
		l, err := a.dial(ctx, p, 0)
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		if err := l.handshake(ctx, a.arms.good); err != nil {
			return err
		}
		request := protocol.AppendRequestStrings(protocol.AppendRequestStrings(nil, "AUTH", a.Creed.Tokens[0]), "SET", certain, "here")
		if _, err := l.Write(request); err != nil {
			return err
		}
		answer := make([]byte, len("+OK\r\n+OK\r\n"))
		if _, err := io.ReadFull(l, answer); err != nil || string(answer) != "+OK\r\n+OK\r\n" {
			return fmt.Errorf("the attackers' token is answered %q, %w", answer, err)
		}
	}
	return nil
}

// secure begins a connection as an attacker does where TLS is spoken: mostly with it, or
// something like it. It says whether there is more to be sent.
func (a *attack) secure(ctx context.Context, l *line, v *inventor) bool {
	if a.Creed == nil {
		return true
	}
	switch v.IntN(12) {
	case 0, 1, 2:
		return true // in the clear
	case 3:
		if a.spend(ctx, "TLS that is too old") && l.handshake(ctx, a.arms.old) == nil {
			a.old.Add(1)
		}
		return false
	case 4:
		l.Conn = &crooked{Conn: l.Conn, v: v, good: v.IntN(6)}
		return a.spend(ctx, "mutated TLS") && l.handshake(ctx, a.arms.good) == nil
	case 5:
		return a.spend(ctx, "certificates of strangers") && l.handshake(ctx, a.arms.stranger) == nil
	case 6:
		if a.spend(ctx, "TLS") {
			_, _ = l.Write(v.hello())
			l.listen(heard)
		}
		return false
	}
	return l.handshake(ctx, a.arms.good) == nil
}

// handshake has TLS spoken from now on.
func (l *line) handshake(ctx context.Context, c *tls.Config) error {
	c = c.Clone()
	c.ServerName, _, _ = net.SplitHostPort(l.RemoteAddr().String())
	out := tls.Client(l.Conn, c)
	if err := out.HandshakeContext(ctx); err != nil {
		return err
	}
	l.Conn = out
	return nil
}

// crooked is a connection that changes something in what is written, once in a few times
// after some that were good: in a hello, in the rest of a handshake, in a record.
type crooked struct {
	net.Conn
	v    *inventor
	good int
}

func (c *crooked) Write(b []byte) (int, error) {
	if c.good--; c.good < 0 && c.v.IntN(3) == 0 {
		if _, err := c.Conn.Write(c.v.mutated(bytes.Clone(b))); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// introduced says who the attacker is, where that is asked, and whether there is more to
// be sent: nobody at times, somebody else or who he is at others.
func (a *attack) introduced(ctx context.Context, l *line, v *inventor, inFrames bool) bool {
	if a.Creed == nil {
		return true
	}
	kind, b := "tokens of their own", protocol.AppendRequestStrings(nil, "AUTH", oneOf(v, a.Creed.Tokens[0], oneOf(v, a.Creed.Tokens...)))
	switch v.IntN(10) {
	case 0, 1, 2:
		return true
	case 3:
		kind, b = v.credentials()
	}
	if inFrames {
		b = framed(final|binOp, b)
	}
	if !a.spend(ctx, kind) {
		return false
	}
	if _, err := l.Write(b); err != nil {
		return false
	}
	return l.listen(heard)
}

// others is a key of somebody else: of a client beside the attackers, of nobody, or of a
// name that is near their own.
func (v *inventor) others() string {
	switch v.IntN(4) {
	case 0:
		return staticKey(v.IntN(statics))
	case 1:
		return oneOf(v, "hostile", "hostile;", "hostile\x00:1", "Hostile:1", "hostil", "", "hostile;1", " hostile:1", "nobody:1")
	}
	return fmt.Sprintf("%s%d:%d", oneOf(v, friends()...), v.IntN(goodWorkers), v.IntN(goodRegisters))
}

// origin is the page's that is said to open a WebSocket.
func (v *inventor) origin() string {
	if v.creed != nil {
		return "https://" + v.gateway
	}
	return "http://" + v.gateway
}

// token is what is shown for one: seldom as it was made.
func (v *inventor) token() string {
	all := append(v.creed.Broken[:len(v.creed.Broken):len(v.creed.Broken)], v.creed.Tokens...)
	token := oneOf(v, all...)
	switch v.IntN(8) {
	case 0:
		return token
	case 1:
		return oneOf(v, v.creed.Broken...)
	case 2, 3:
		return string(v.mutated([]byte(token)))
	case 4: // parts of two
		parts, other := strings.Split(token, "."), strings.Split(oneOf(v, all...), ".")
		parts[v.IntN(len(parts))] = other[v.IntN(len(other))]
		return strings.Join(parts, ".")
	case 5: // rights that nobody has given
		of := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		header := oneOf(v, `{"alg":"none","kid":"k1"}`, `{"alg":"HS256","kid":"k1"}`, `{"alg":"EdDSA","kid":"k1","crit":["exp"],"exp":1}`, `{"alg":"EdDSA"}`, `[]`, `{"kid":"\u0000"}`)
		claims := fmt.Sprintf(`{"jti":"x","aud":"quoit","exp":%s,"quoit":{"scopes":[{"prefix":%q,"access":"write"}],"cluster":"operate","rate":%s}}`, oneOf(v, numbers...), oneOf(v, "", "static:", "a"), oneOf(v, numbers...))
		return of(header) + "." + of(claims) + "." + oneOf(v, "", "AAAA", strings.Split(token, ".")[len(strings.Split(token, "."))-1])
	case 6:
		return strings.Repeat(oneOf(v, ".", "A", "..", "=", "é"), 1<<v.IntN(14))
	}
	return string(v.garbage(v.IntN(200)))
}

// guardedText is a request that is about who somebody is, or one that is right but for
// whose key it is, as often as not.
func (v *inventor) guardedText() (kind string, b []byte) {
	if v.IntN(3) == 0 {
		return v.credentials()
	}
	request := oneOf(v, []string{"SET", v.key(), "x"}, []string{"SET", v.key(), "x"}, []string{"GETSET", v.key(), "x"}, []string{"APPEND", v.key(), "x"}, []string{"GET", v.key()}, []string{"DEL", v.key(), v.key()}, []string{"MGET", v.key(), v.key()})
	return "requests that are right", protocol.AppendRequestStrings(nil, request[0], request[1:]...)
}

// credentials are requests that say who somebody is, as a client or as a member. None of
// them is good for more than the attackers' own keys.
func (v *inventor) credentials() (kind string, b []byte) {
	digits := func() string {
		return oneOf(v, hex.EncodeToString(v.garbage(protocol.ProofSize)), strings.Repeat("0", 2*protocol.ProofSize), strings.ToUpper(hex.EncodeToString(v.garbage(protocol.ProofSize))), hex.EncodeToString(v.garbage(v.IntN(70))), v.argument())
	}
	challenge := func() []byte {
		return protocol.AppendRequestStrings(nil, "CHALLENGE", oneOf(v, "node", "manager", "operator", "gateway", "client", ""), oneOf(v, v.argument(), "127.0.0.1:7401", "manager", ""), digits())
	}
	prove := func() []byte { return protocol.AppendRequestStrings(nil, "PROVE", digits()) }
	switch v.IntN(7) {
	case 0, 1:
		return "tokens", protocol.AppendRequestStrings(nil, "AUTH", v.token())
	case 2:
		return "tokens", protocol.AppendRequestStrings(nil, "AUTH", oneOf(v, "default", "manager", "node", ""), v.token())
	case 3:
		return "tokens", protocol.AppendRequestStrings(nil, "HELLO", oneOf(v, "2", "3", "1", "-1", ""), "AUTH", "any", v.token(), "SETNAME", "x")
	case 4:
		return "proofs", bytes.Join([][]byte{challenge(), prove(), v.member()}, nil)
	case 5:
		return "proofs", bytes.Join([][]byte{prove(), v.member()}, nil)
	}
	return "mutated proofs", v.mutated(bytes.Join([][]byte{challenge(), challenge(), prove()}, nil))
}

// member is what only members may say.
func (v *inventor) member() []byte {
	return protocol.AppendRequestStrings(nil, oneOf(v, "REGISTER", "HEARTBEAT", "MIGRATE_RANGE", "STAGE_RANGE", "REFRESH", "COMMIT_MOVE", "MOVE_DONE", "SNAPSHOT"), v.argument(), v.document(), v.argument())
}

// bearer is an HTTP request with a token for the console.
func (v *inventor) bearer() []byte {
	return fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nAuthorization: %s%s\r\nContent-Length: 0\r\n\r\n",
		oneOf(v, "GET /v1/status", "POST /v1/moves/pause", "POST /v1/moves/resume", "GET /v1/cluster"), v.gateway, v.origin(),
		oneOf(v, "Bearer ", "bearer ", "Basic ", ""), strings.NewReplacer("\r", "", "\n", "").Replace(v.token()))
}

// hello looks like the first record of TLS: its fields are in their places, with numbers
// in them that decoders trip over.
func (v *inventor) hello() []byte {
	extensions := []byte{}
	for range v.IntN(12) {
		body := v.garbage(v.IntN(80))
		kind := oneOf(v, 0, 10, 13, 16, 41, 42, 43, 44, 45, 51, 65281, v.IntN(1<<16))
		extensions = append(extensions, byte(kind>>8), byte(kind), byte(len(body)>>8), byte(len(body)))
		extensions = append(extensions, body...)
	}
	body := append([]byte{3, 3}, v.garbage(32)...)
	body = append(body, 0, 0, 6, 0x13, 1, 0x13, 2, 0x13, 3, 1, 0, byte(len(extensions)>>8), byte(len(extensions)))
	body = append(body, extensions...)
	message := append([]byte{oneOf[byte](v, 1, 1, 1, 2, 11, 20, 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	size := oneOf(v, len(message), len(message), len(message), 0, 1<<14+1, 1<<16-1)
	b := append([]byte{oneOf[byte](v, 22, 22, 22, 20, 21, 23), 3, byte(v.IntN(5)), byte(size >> 8), byte(size)}, message...)
	if v.IntN(3) == 0 {
		b = v.mutated(b)
	}
	return b
}
