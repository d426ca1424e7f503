package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// rights is what the oracle knows of a token; nil is nobody's.
type rights []auth.Scope

func (r rights) may(key string, write bool) bool {
	for _, s := range r {
		name := string(s.Bytes)
		if (key == name || s.Prefix && strings.HasPrefix(key, name)) && (!write || s.Access == auth.WriteAccess) {
			return true
		}
	}
	return false
}

// oracle says what every request must be answered, over a plain map.
type oracle struct {
	data  map[string]string
	value int
}

// answer does a request in the map. What begins with a minus is how the reply begins.
func (o *oracle) answer(who rights, words []string) string {
	cmd, args := words[0], words[1:]
	keys, write := args[:1], true
	switch cmd {
	case "GET", "STRLEN":
		write = false
	case "MGET", "EXISTS":
		keys, write = args, false
	case "DEL":
		keys = args
	case "MSET":
		keys = nil
		for i := 0; i < len(args); i += 2 {
			keys = append(keys, args[i])
		}
	}
	for _, key := range keys {
		switch {
		case who == nil:
			return "-NOAUTH "
		case !who.may(key, write):
			return "-NOPERM "
		}
	}
	return o.do(cmd, args, keys)
}

func (o *oracle) do(cmd string, args, keys []string) string {
	old, found := o.data[keys[0]]
	if !found {
		old = "(nil)"
	}
	n := 0
	for _, key := range keys {
		if _, ok := o.data[key]; ok && (cmd == "EXISTS" || cmd == "DEL") {
			n++
		}
		if cmd == "DEL" || cmd == "GETDEL" {
			delete(o.data, key)
		}
	}
	switch cmd {
	case "GET", "GETDEL":
		return old
	case "STRLEN":
		return ":" + strconv.Itoa(len(o.data[keys[0]]))
	case "MGET":
		var values []string
		for _, key := range keys {
			values = append(values, o.answer(rights{root()}, []string{"GET", key}))
		}
		return "[" + strings.Join(values, " ") + "]"
	case "SET", "GETSET":
		o.data[args[0]] = args[1]
		if cmd == "GETSET" {
			return old
		}
		return "+OK"
	case "MSET":
		for i := 0; i < len(args); i += 2 {
			o.data[args[i]] = args[i+1]
		}
		return "+OK"
	case "INCRBY":
		a, _ := strconv.Atoi(o.data[args[0]])
		b, _ := strconv.Atoi(args[1])
		o.data[args[0]] = strconv.Itoa(a + b)
		return ":" + o.data[args[0]]
	}
	return ":" + strconv.Itoa(n)
}

// names are few, so that keys meet: some are another's prefix, one has bytes of its own.
var names = []string{"a:1", "a:2", "a:x:1", "a:x:2", "ab:1", "a", "b:1", "b:2", "k", "k:1", "k2", "\xff:1"}

// scopes are some at random.
func scopes(r *rand.Rand) rights {
	all := []string{"a:", "a:x:", "ab:", "b:", "k:", "\xff:"}
	granted := rights{}
	for range r.IntN(4) {
		access := auth.ReadAccess
		if r.IntN(2) == 0 {
			access = auth.WriteAccess
		}
		if r.IntN(2) == 0 {
			granted = append(granted, auth.PrefixScope(all[r.IntN(len(all))], access))
			continue
		}
		granted = append(granted, auth.KeyScope(names[r.IntN(len(names))], access))
	}
	if r.IntN(8) == 0 {
		granted = append(granted, root())
	}
	return granted
}

// request is one at random.
func (o *oracle) request(r *rand.Rand) []string {
	key := func() string { return names[r.IntN(len(names))] }
	value := func() string { o.value += 1000; return strconv.Itoa(o.value) }
	switch cmd := []string{"GET", "GET", "STRLEN", "GETDEL", "SET", "SET", "GETSET", "INCRBY", "MGET", "EXISTS", "DEL", "MSET"}[r.IntN(12)]; cmd {
	case "SET", "GETSET", "INCRBY":
		return []string{cmd, key(), value()}
	case "MGET", "EXISTS", "DEL", "MSET":
		words := []string{cmd}
		for range 1 + r.IntN(3) {
			if words = append(words, key()); cmd == "MSET" {
				words = append(words, value())
			}
		}
		return words
	default:
		return []string{cmd, key()}
	}
}

// visitor is a connection with what the oracle knows of it, and one beside it that
// watches.
type visitor struct {
	*testClient
	who     rights
	watcher *testClient
	watched []auth.Scope
}

// TestEveryReplyIsWhatTheOracleAllows: random tokens, random requests alone and in
// pipelines, scans and watches, against a node over the wire.
func TestEveryReplyIsWhatTheOracleAllows(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { oracleRound(t, seed) })
	}
}

func oracleRound(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	s, i := guarded(t, soloOptions{config: func(c *Config) { c.Times.Handshake = 0 }})
	o := &oracle{data: map[string]string{}}
	visitors := make([]*visitor, 8)
	for n := range visitors {
		visitors[n] = newVisitor(s, i, r)
	}
	for range 150 {
		v := visitors[r.IntN(len(visitors))]
		switch r.IntN(12) {
		case 0:
			v.want("RESET", "+RESET")
			v.who = nil
		case 1:
			v.who = scopes(r)
			v.login(i.token(v.who...))
		case 2:
			v.scan(o, r)
		default:
			v.converse(o, r)
		}
	}
	root := s.login(i.token(root()))
	for _, key := range names {
		if got, want := root.ask("GET", key), o.answer(rights{auth.PrefixScope("", auth.WriteAccess)}, []string{"GET", key}); got != want {
			t.Errorf("%q is %s in the end, want %s", key, got, want)
		}
	}
	for _, v := range visitors {
		v.listen(o)
	}
}

// ask sends one request as an array, for keys that are no text.
func (c *testClient) ask(words ...string) string {
	c.t.Helper()
	c.send(string(protocol.AppendRequestStrings(nil, words[0], words[1:]...)))
	return c.reply()
}

func newVisitor(s *solo, i *issuer, r *rand.Rand) *visitor {
	v := &visitor{testClient: s.dial(), who: scopes(r)}
	token := i.token(v.who...)
	v.login(token)
	v.watcher = s.login(token)
	_ = v.watcher.SetDeadline(time.Now().Add(5 * time.Minute))
	id := 0
	for _, prefix := range []string{"", "a:", "a:x:", "ab:", "b:", "k:"} {
		id++
		v.tryToWatch(id, auth.PrefixScope(prefix, auth.ReadAccess))
	}
	for _, key := range names {
		id++
		v.tryToWatch(id, auth.KeyScope(key, auth.ReadAccess))
	}
	return v
}

// tryToWatch begins a watch, and fails where it may begin and does not, or the other way
// round.
func (v *visitor) tryToWatch(id int, what auth.Scope) {
	v.t.Helper()
	kind := "KEY"
	allowed := v.who.may(string(what.Bytes), false)
	if what.Prefix {
		kind = "PREFIX"
		allowed = slices.ContainsFunc(v.who, func(s auth.Scope) bool { return s.Prefix && strings.HasPrefix(string(what.Bytes), string(s.Bytes)) })
	}
	number := strconv.Itoa(id)
	v.watcher.send(string(protocol.AppendRequestStrings(nil, "WATCH", number, kind, string(what.Bytes), "0", "0", "0")))
	for {
		switch got := v.watcher.reply(); {
		case strings.HasPrefix(got, "[progress "):
			continue
		case allowed && strings.HasPrefix(got, "[watching :"+number):
			v.watcher.heard() // synced
			v.watched = append(v.watched, what)
		case allowed, !strings.HasPrefix(got, "-NOPERM ") && !strings.HasPrefix(got, "[refused :"+number+" NOPERM "):
			v.t.Fatalf("WATCH %s %q with %v: %s", kind, what.Bytes, v.who, got)
		}
		return
	}
}

// converse sends a few requests at once, and compares the replies.
func (v *visitor) converse(o *oracle, r *rand.Rand) {
	v.t.Helper()
	var out []byte
	var sent [][]string
	var want []string
	for range 1 + r.IntN(3)*r.IntN(20) {
		words := o.request(r)
		out = protocol.AppendRequestStrings(out, words[0], words[1:]...)
		sent, want = append(sent, words), append(want, o.answer(v.who, words))
	}
	v.send(string(out))
	for n, want := range want {
		if got := v.reply(); got != want && !(want[0] == '-' && strings.HasPrefix(got, want)) {
			v.t.Fatalf("%q, %d of %d, with %v: %s, want %s", sent[n], n+1, len(sent), v.who, got, want)
		}
	}
}

// scan walks all pages: every key that may be read is given, no other is, and no cursor
// lies behind one that is hidden.
func (v *visitor) scan(o *oracle, r *rand.Rand) {
	v.t.Helper()
	got, behind := map[string]bool{}, map[string]bool{"0": true}
	want := map[string]bool{}
	for key := range o.data {
		if v.who.may(key, false) {
			want[key] = true
			behind[strconv.FormatUint(uint64(ring.PositionOfString(key))+1, 10)] = true
		}
	}
	cursor := "0"
	for page := 0; page == 0 || cursor != "0"; page++ {
		reply := v.ask("SCAN", cursor, "COUNT", strconv.Itoa(1+r.IntN(4)))
		switch {
		case len(v.who) == 0:
			if !strings.HasPrefix(reply, "-NO") {
				v.t.Fatalf("SCAN without a scope: %s", reply)
			}
			return
		case page > len(names):
			v.t.Fatal("a scan does not end")
		}
		next, keys, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(reply, "["), "]]"), " [")
		for _, key := range strings.Fields(keys) {
			got[key] = true
		}
		if cursor = next; !behind[cursor] && !v.who.may("", false) { // who may read every key has nothing hidden
			v.t.Fatalf("cursor %s lies behind no key that %v may read", cursor, v.who)
		}
	}
	if !maps.Equal(got, want) {
		v.t.Fatalf("SCAN with %v gives %v, want %v", v.who, got, want)
	}
}

// listen reads what the watcher is told until it knows how every key that it watches is
// in the end. All of it must be about such keys.
func (v *visitor) listen(o *oracle) {
	v.t.Helper()
	watches := func(key string) bool { return rights(v.watched).may(key, false) }
	missing := map[string]string{}
	for key, value := range o.data {
		if watches(key) {
			missing[key] = value
		}
	}
	for len(missing) > 0 {
		push := strings.Fields(strings.Trim(v.watcher.heard(), "[]"))
		switch {
		case push[0] != "put" && push[0] != "delete":
			v.t.Fatalf("heard %q", push)
		case !watches(push[2]):
			v.t.Fatalf("with %v it was told of %q", v.watched, push)
		case push[0] == "put" && missing[push[2]] == push[len(push)-1]:
			delete(missing, push[2])
		}
	}
}
