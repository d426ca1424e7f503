package integration

import (
	"bytes"
	big "encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// input is one thing that is sent by somebody who means no good: a request, a frame, a
// handshake, or what only looks like the beginning of one.
type input struct {
	kind  string
	bytes []byte
	after ending
}

// ending is what becomes of the connection behind an input.
type ending uint8

const (
	stay    ending = iota // the next input follows, if the server is still there
	leave                 // closed in order
	reset                 // torn down with whatever is under way
	half                  // nothing more is sent, and the answers are read to their end
	silence               // nothing is read for a while, then torn down
)

// inventor invents inputs. The same seed invents the same ones.
type inventor struct {
	*rand.Rand
	nodes   []string // addresses that the gateway leads to
	gateway string
	creed   *creed // nil: the cluster believes everyone
}

// oneOf is a value of several.
func oneOf[T any](v *inventor, of ...T) T { return of[v.IntN(len(of))] }

// numbers are those that decoders trip over.
var numbers = []string{
	"0", "1", "-1", "7", "128", "65535", "65536", "1000000", "16777216", "2147483647", "2147483648", "4294967295", "4294967296", "-2147483648", "-2147483649",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999999",
	"", "+1", "01", "-0", " 1", "1 ", "0x10", "1e9", "1.5", "NaN", "-", "+", "\x00", "१",
}

// words are options and names of every command, right and wrong where they are met.
var words = strings.Fields(`EX PX EXAT PXAT NX XX KEEPTTL GET IFVERSION MATCH COUNT KEY PREFIX STATE SETNAME SETINFO ID AUTH STATUS TOPOLOGY
	ADD REMOVE FORGET ABORT THROTTLE PLAN node manager m-1 m-2 move TYPE server * ** [ \ ? ] {} [] null`)

// key is one of this load's own: nobody else has keys that begin so. Where others' are
// guarded it is one of theirs just as well.
func (v *inventor) key() string {
	if v.creed != nil && v.IntN(2) == 0 {
		return v.others()
	}
	return hostile + strconv.Itoa(v.IntN(500))
}

// hostile is what the keys of attackers begin with.
const hostile = "hostile:"

// argument is anything that a command may be given.
func (v *inventor) argument() string {
	switch v.IntN(9) {
	case 0, 1:
		return v.key()
	case 2, 3:
		return oneOf(v, numbers...)
	case 4:
		return oneOf(v, words...)
	case 5:
		return string(v.garbage(1 + v.IntN(40)))
	case 6: // addresses at which nobody listens
		return "127.0.0.1:" + strconv.Itoa(1+v.IntN(8))
	case 7:
		return v.document()
	default:
		return strings.Repeat(oneOf(v, "x", "\xff", "\r\n", "a b", "\""), 1<<v.IntN(14))
	}
}

// document is what registrations and reports look like, or nearly.
func (v *inventor) document() string {
	return fmt.Sprintf(`{"address":"127.0.9.1:740%d","id":%q,"incarnation":%s,"counter":%s,"tokens":%s,"state":%q,"moves":[%s],"endpoints":{"ws":%q}}`,
		1+v.IntN(8), v.argumentOf(12), oneOf(v, numbers...), oneOf(v, numbers...), oneOf(v, numbers...), oneOf(v, words...),
		strings.TrimSuffix(strings.Repeat(`{"id":"m"},`, v.IntN(5)), ","), v.argumentOf(20))
}

func (v *inventor) argumentOf(n int) string { return string(v.garbage(v.IntN(n))) }

func (v *inventor) garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v.Uint32())
	}
	return b
}

// request is one of a command that there is: the right number of arguments as a rule,
// and with keys where keys belong. SNAPSHOT and what changes the cluster are always
// asked for something that is not there.
func (v *inventor) request() []byte {
	commands := protocol.Commands()
	c := commands[v.IntN(len(commands))]
	spec := c.Spec()
	n := spec.Arity
	if n < 0 {
		n = -n + v.IntN(4)
	}
	if v.IntN(10) == 0 {
		n = 1 + v.IntN(8)
	}
	if c == protocol.CmdSnapshot || c == protocol.CmdCluster {
		n = max(n, 3)
	}
	args := []string{oneOf(v, append(spec.Aliases, spec.Name)...)}
	for i := 1; i < n; i++ {
		arg := v.argument()
		if spec.FirstKey > 0 && i >= spec.FirstKey && (spec.LastKey < 0 || i <= spec.LastKey) && (i-spec.FirstKey)%spec.KeyStep == 0 {
			arg = v.key()
		}
		args = append(args, arg)
	}
	return protocol.AppendRequestStrings(nil, args[0], args[1:]...)
}

// mutated is a request of which little is wrong.
func (v *inventor) mutated(b []byte) []byte {
	for range 1 + v.IntN(3) {
		at := v.IntN(len(b) + 1)
		switch v.IntN(5) {
		case 0:
			if at < len(b) {
				b[at] ^= 1 << v.IntN(8)
			}
		case 1:
			b = slices.Insert(b, at, byte(v.Uint32()))
		case 2:
			b = slices.Delete(b, at, min(len(b), at+1+v.IntN(4)))
		case 3:
			b = slices.Insert(b, at, []byte(oneOf(v, numbers...))...)
		default:
			b = append(b[:at:at], b[max(0, at-v.IntN(8)):]...)
		}
	}
	return b
}

// foreign are the first words of other protocols.
func (v *inventor) foreign() (kind string, b []byte) {
	switch v.IntN(7) {
	case 0, 1:
		return "HTTP", fmt.Appendf(nil, "%s %s HTTP/1.%d\r\nHost: %s\r\nContent-Length: %s\r\n\r\nSET %s x\r\n",
			oneOf(v, "GET", "POST", "PUT", "OPTIONS", "PRI * HTTP/2.0\r\n\r\nSM"), oneOf(v, "/", "*", "/..", "http://a/"), v.IntN(3), oneOf(v, "localhost", "a.example", ""), oneOf(v, numbers...), v.key())
	case 2:
		hello := append([]byte{22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3}, v.garbage(32+v.IntN(200))...)
		big.BigEndian.PutUint16(hello[3:], uint16(oneOf(v, len(hello)-5, 0, 1<<14, 1<<16-1)))
		return "TLS", hello
	case 3:
		return "SSH", fmt.Appendf(nil, "SSH-2.0-OpenSSH_9.%d\r\n", v.IntN(10))
	case 4:
		return "SMTP and others", []byte(oneOf(v, "EHLO a.example\r\nMAIL FROM:<a>\r\n", "\x00\x00\x00\x0cJDWP-Handshake", "USER root\r\nPASS x\r\n", "\x05\x01\x00", "OPTIONS rtsp://a RTSP/1.0\r\n\r\n"))
	case 5:
		return "RESP3", []byte(oneOf(v, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "%1\r\n$1\r\na\r\n$1\r\nb\r\n", "~1\r\n:1\r\n", ">2\r\n+a\r\n+b\r\n", "*?\r\n$4\r\nPING\r\n.\r\n", "$?\r\n;4\r\nPING\r\n;0\r\n", "#t\r\n", "(123\r\n", "=7\r\ntxt:abc\r\n", "_\r\n", "|1\r\n+a\r\n+b\r\n*1\r\n$4\r\nPING\r\n"))
	default:
		return "garbage", v.garbage(1 + v.IntN(4<<10))
	}
}

// frame is a RESP request whose frame is wrong.
func (v *inventor) frame() (kind string, b []byte) {
	n := oneOf(v, numbers...)
	switch v.IntN(8) {
	case 0:
		return "lengths", fmt.Appendf(nil, "*%s\r\n$4\r\nPING\r\n", n)
	case 1:
		return "lengths", fmt.Appendf(nil, "*2\r\n$4\r\nECHO\r\n$%s\r\nabc\r\n", n)
	case 2:
		return "lengths", fmt.Appendf(nil, "*%s\r\n$%s\r\n", n, oneOf(v, numbers...))
	case 3:
		return "nested arrays", []byte(strings.Repeat(oneOf(v, "*1\r\n", "*2\r\n*1\r\n", "*-1\r\n"), 1<<v.IntN(12)))
	case 4:
		return "long lines", bytes.Repeat([]byte(oneOf(v, "x", "GET ", "\"", "\\x", " ")), 1<<(8+v.IntN(9)))
	case 5:
		return "long lines", append(bytes.Repeat([]byte("a "), 1<<v.IntN(15)), '\r', '\n')
	case 6:
		return "quotes", []byte(oneOf(v, `GET "a`, `GET 'a'b`, `GET "\x`, `GET "\xzz"`, `"GET" "a"x`, `GET \`, `'`, `SET a "b\"`) + "\r\n")
	default:
		return "line ends", []byte(oneOf(v, "\r", "\n", "\r\n", "\n\r", "\x00", "PING\rPING\n", "PING \r\r\n", "*1\n$4\nPING\n", "*1\r\n$4\rPING\r\n") + "PING\r\n")
	}
}

// text is an input for a port that speaks the text protocol.
func (v *inventor) text() input {
	in := input{after: oneOf(v, stay, stay, stay, stay, leave, reset)}
	if v.creed != nil && v.IntN(3) == 0 {
		in.kind, in.bytes = v.guardedText()
		return in
	}
	switch v.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		in.kind, in.bytes = "commands", v.request()
	case 6, 7, 8, 9:
		in.kind, in.bytes = "mutated commands", v.mutated(v.request())
	case 10, 11:
		in.kind, in.bytes = v.frame()
	case 12, 13:
		in.kind, in.bytes = v.frame()
	case 14, 15:
		in.kind, in.bytes = v.foreign()
	case 16:
		b := v.request()
		in.kind, in.bytes, in.after = "cut short", b[:v.IntN(len(b))], oneOf(v, leave, reset, half)
	case 17:
		in.kind, in.bytes, in.after = "half closed", v.request(), half
	case 18:
		in.kind, in.after = "connected and reset", reset
	default:
		in.kind, in.bytes, in.after = "answers not read", bytes.Repeat(v.request(), 1+v.IntN(20)), oneOf(v, silence, reset, reset, reset)
	}
	return in
}

// headers are of a handshake that is right but for those that are given.
func (v *inventor) headers(path string, changes ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\n", path)
	for _, h := range [][2]string{
		{"Host", v.gateway},
		{"Origin", v.origin()},
		{"Connection", "Upgrade"},
		{"Upgrade", "websocket"},
		{"Sec-WebSocket-Version", "13"},
		{"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="},
		{"Sec-WebSocket-Protocol", "quoit.v1"},
	} {
		for i := 0; i+1 < len(changes); i += 2 {
			if changes[i] == h[0] {
				h[1] = changes[i+1]
			}
		}
		if h[1] != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// path is one of the gateway's that become a WebSocket.
func (v *inventor) path() string {
	return oneOf(v, "/v1/cluster", "/v1/node/"+v.nodes[v.IntN(len(v.nodes))])
}

// web is an input for the gateway's port.
func (v *inventor) web() input {
	in := input{after: oneOf(v, stay, stay, leave, reset)}
	if v.creed != nil && v.IntN(10) == 0 {
		in.kind, in.bytes = "bearers", v.bearer()
		return in
	}
	switch v.IntN(10) {
	case 0, 1, 2, 3:
		change := oneOf(v, [][]string{
			{"Sec-WebSocket-Key", ""},
			{"Sec-WebSocket-Key", "short"},
			{"Sec-WebSocket-Key", strings.Repeat("A", 4000)},
			{"Sec-WebSocket-Version", "8"},
			{"Sec-WebSocket-Version", ""},
			{"Upgrade", "h2c"},
			{"Upgrade", ""},
			{"Connection", "close"},
			{"Sec-WebSocket-Protocol", ""},
			{"Sec-WebSocket-Protocol", "quoit.v9"},
			{"Sec-WebSocket-Protocol", strings.Repeat("a,", 2000)},
			{"Origin", "http://evil.example"},
			{"Origin", "null"},
			{"Origin", "\x01"},
			{"Host", "evil.example"},
			{"Host", ""},
			{"Host", "a\x00b"},
			{"Upgrade", "websocket\r\nX: " + strings.Repeat("y", 1<<v.IntN(16))},
		}...)
		in.kind, in.bytes = "wrong handshakes", v.headers(v.path(), change...)
	case 4:
		in.kind, in.bytes = "wrong paths", v.headers(oneOf(v, "/v1/node/127.0.0.1:1", "/v1/node/", "/v1/node/a%00b", "/v1/node/..", "//", "/%2e%2e/%2e%2e/etc/passwd", "/v1/node/"+strings.Repeat("9", 9000), "http://evil.example/v1/cluster"))
	case 5:
		in.kind, in.bytes = "HTTP", fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", oneOf(v, "GET", "POST", "HEAD", "DELETE", "CONNECT", "\x00"),
			oneOf(v, "/", "/v1/status", "/v1/moves/pause", "/quoit.js", "/quoit.wasm", "/nothing"), v.gateway,
			oneOf(v, "", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "Content-Length: -1\r\n", "Content-Length: 99999999999\r\n",
				" folded: x\r\n", "Range: bytes=0-0,1-1,2-2,3-3,4-4,9223372036854775807-\r\n", "Expect: 100-continue\r\nContent-Length: 100\r\n", strings.Repeat("A: b\r\n", 1<<v.IntN(10))))
	case 6:
		b := v.headers(v.path())
		in.kind, in.bytes, in.after = "cut short", b[:v.IntN(len(b))], oneOf(v, leave, reset, half)
	case 7:
		in.kind, in.bytes = "mutated handshakes", v.mutated(v.headers(v.path()))
	case 8:
		in.kind, in.after = "connected and reset", reset
	default:
		if in.kind, in.bytes = v.foreign(); v.IntN(2) == 0 {
			in.kind, in.bytes = "commands", v.request()
		}
	}
	return in
}

// The bits and codes of a WebSocket's frame.
const (
	final  = 0x80
	masked = 0x80
	binOp  = 2
	close8 = 8
)

// framed is a frame as clients send them.
func framed(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n < 1<<16:
		b = big.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = big.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// socket is an input for a WebSocket that is open.
func (v *inventor) socket() input {
	in := input{after: oneOf(v, stay, stay, stay, stay, leave, reset)}
	first := byte(final | binOp)
	if v.creed != nil && v.IntN(3) == 0 {
		in.kind, in.bytes = v.guardedText()
		in.kind, in.bytes = in.kind+" in frames", framed(first, in.bytes)
		return in
	}
	switch v.IntN(16) {
	case 0, 1, 2:
		in.kind, in.bytes = "commands in frames", framed(first, v.request())
	case 3, 4:
		in.kind, in.bytes = "mutated commands in frames", framed(first, v.mutated(v.request()))
	case 5:
		_, b := v.frame()
		in.kind, in.bytes = "wrong requests in frames", framed(first, b)
	case 6:
		in.kind, in.bytes = "mutated frames", v.mutated(framed(first, v.request()))
	case 7:
		in.kind, in.bytes = "reserved bits and codes", framed(byte(v.Uint32()), v.garbage(v.IntN(200)))
	case 8:
		in.kind, in.bytes = "not masked", append([]byte{first, 4}, "PING"...)
	case 9:
		in.kind, in.bytes = "lengths of frames", big.BigEndian.AppendUint64([]byte{first, masked | 127}, oneOf[uint64](v, 0, 1, 1<<31, 1<<32, 1<<63-1, 1<<63, 1<<64-1))
	case 10:
		in.kind, in.bytes = "control frames in pieces", framed(byte(8+v.IntN(3)), v.garbage(v.IntN(60)))
	case 11:
		in.kind, in.bytes = "long control frames", framed(final|byte(8+v.IntN(3)), v.garbage(126+v.IntN(70000)))
	case 12:
		code := big.BigEndian.AppendUint16(nil, oneOf[uint16](v, 0, 1, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535))
		code = append(code, v.garbage(v.IntN(100))...)
		in.kind, in.bytes = "close codes", framed(final|close8, code[:oneOf(v, 1, 2, len(code))])
	case 13:
		in.kind, in.bytes = "messages in pieces", bytes.Join([][]byte{framed(oneOf[byte](v, binOp, 0, 1), []byte("PI")), framed(oneOf[byte](v, 0, final, binOp, final|9), []byte("NG\r\n"))}, nil)
	case 14:
		in.kind, in.bytes = "pings", bytes.Repeat(framed(final|9, v.garbage(v.IntN(125))), 1+v.IntN(50))
	default:
		in.kind, in.bytes, in.after = "answers not read", framed(first, bytes.Repeat(v.request(), 1+v.IntN(20))), oneOf(v, silence, reset, reset, reset)
	}
	return in
}

// The same seed means the same harm, of every kind.
func TestInventedInputsComeAgain(t *testing.T) {
	of := func(seed uint64) (all []input) {
		v := &inventor{Rand: rand.New(rand.NewPCG(seed, 1)), nodes: []string{"127.0.0.1:7401"}, gateway: "127.0.0.1:7480"}
		for range 2000 {
			all = append(all, v.text(), v.web(), v.socket())
		}
		v.creed = &creed{Tokens: []string{"e30.e30.AAAA"}, Broken: []string{"e30.e30.AAAB"}}
		for range 2000 {
			all = append(all, v.text(), v.web(), v.socket())
		}
		return all
	}
	kinds, second := map[string]bool{}, of(1)
	for i, in := range of(1) {
		kinds[in.kind] = true
		if again := second[i]; again.kind != in.kind || !bytes.Equal(again.bytes, in.bytes) || again.after != in.after {
			t.Fatalf("input %d is %+v, and %+v the second time", i, in, again)
		}
	}
	if len(kinds) < 36 {
		t.Errorf("only %d kinds: %v", len(kinds), kinds)
	}
}
