package protocol_test

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestLookup(t *testing.T) {
	for _, c := range protocol.Commands() {
		for _, name := range append([]string{c.Spec().Name}, c.Spec().Aliases...) {
			for _, spelling := range []string{name, strings.ToLower(name), name[:1] + strings.ToLower(name[1:])} {
				if got, ok := protocol.Lookup([]byte(spelling)); got != c || !ok {
					t.Errorf("%s: %v %v", spelling, got, ok)
				}
			}
		}
	}
}

// No name that differs in a single byte, or by a byte more or less, is taken
// for a command, unless it is one.
func TestLookupOfNearMisses(t *testing.T) {
	known := make(map[string]bool)
	for _, c := range protocol.Commands() {
		known[c.String()] = true
		for _, alias := range c.Spec().Aliases {
			known[alias] = true
		}
	}
	miss := func(name []byte) {
		if c, ok := protocol.Lookup(name); ok && !known[strings.ToUpper(string(name))] {
			t.Errorf("%q is taken for %v", name, c)
		}
	}
	for name := range known {
		for i := range name {
			changed := []byte(name)
			for c := range 256 {
				changed[i] = byte(c)
				miss(changed)
			}
			miss([]byte(name[:i]))
			miss([]byte(name[:i] + name[i+1:]))
			miss([]byte(name[:i] + "\x00" + name[i:]))
		}
	}
	for _, name := range []string{"", "G", strings.Repeat("X", 16), strings.Repeat("X", 17), "\x00\x00", strings.Repeat("\xff", 8)} {
		miss([]byte(name))
	}
}

func TestSpecs(t *testing.T) {
	const kinds = protocol.Write | protocol.Readonly | protocol.Session | protocol.Cluster | protocol.Admin
	names := make(map[string]bool)
	for _, c := range protocol.Commands() {
		s := c.Spec()
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if name == "" || name != strings.ToUpper(name) || len(name) < 2 || len(name) > 16 || names[name] {
				t.Errorf("name %q is bad or taken twice", name)
			}
			names[name] = true
		}
		if d := c.Doc(); s.Arity == 0 || d.Summary == "" || d.Reply == "" {
			t.Errorf("%s lacks arity, summary or reply", c)
		}
		if f := s.Flags & kinds; f == 0 || f&(f-1) != 0 {
			t.Errorf("%s has not exactly one flag: %b", c, s.Flags)
		}
		if hasKeys := s.FirstKey > 0; hasKeys != (s.KeyStep > 0) || hasKeys != (s.LastKey != 0) {
			t.Errorf("%s: keys %d %d %d", c, s.FirstKey, s.LastKey, s.KeyStep)
		}
		if usage := c.Doc().Usage; (s.Arity == 1) != (usage == "") {
			t.Errorf("%s: usage %q, arity %d", c, usage, s.Arity)
		}
	}
	if s := protocol.Command(0).String() + protocol.Command(255).String(); s != "" {
		t.Errorf("no command is called %q", s)
	}
}

func TestCheck(t *testing.T) {
	limits := protocol.Limits{MaxKey: 4, MaxValue: 6}
	for _, tt := range []struct {
		in   string
		want protocol.Code
	}{
		{"GET k", ""},
		{"GET 1234", ""},
		{"GET 12345", protocol.TOOLARGE},
		{"GET", protocol.ERR},
		{"GET k k", protocol.ERR},
		{"PUT 1234 123456", ""},
		{"PUT 12345 1", protocol.TOOLARGE},
		{"PUT 1 1234567", protocol.TOOLARGE},
		{"PUT 1", protocol.ERR},
		{"MSET a 1 b 123456", ""},
		{"MSET a 1 b 1234567", protocol.TOOLARGE},
		{"MSET a 1 12345 1", protocol.TOOLARGE},
		{"MSET a 1 12345", protocol.TOOLARGE},
		{"MGET a b 12345", protocol.TOOLARGE},
		{"DEL a b c", ""},
		{"DEL", protocol.ERR},
		{"ECHO 1234567", ""},
		{"STAGE_DATA m 1 1234567", ""},
		{"PING", ""},
		{"TIME now", protocol.ERR},
	} {
		request := args(tt.in)
		c, ok := protocol.Lookup(request[0])
		if !ok {
			t.Fatalf("%s is unknown", tt.in)
		}
		if got := code(t, limits.Check(c, request)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	limits := protocol.Limits{MaxKey: 4, MaxValue: 6}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{limits.CheckKey([]byte("12345")), "TOOLARGE the key has 5 bytes and the limit is 4"},
		{limits.CheckValue([]byte("1234567")), "TOOLARGE the value has 7 bytes and the limit is 6"},
		{protocol.WrongArity(protocol.CmdEcho), "ERR wrong number of arguments for 'ECHO'; usage: ECHO message"},
		{protocol.WrongArity(protocol.CmdTime), "ERR wrong number of arguments for 'TIME'; usage: TIME"},
		{protocol.UnknownCommand([]byte("FLY\x1b[2J")), "ERR unknown command 'FLY?[2J'"},
		{protocol.UnknownCommand([]byte(strings.Repeat("x", 65))), "ERR unknown command '" + strings.Repeat("x", 64) + "...'"},
	} {
		if tt.err.Error() != tt.want {
			t.Errorf("%q, want %q", tt.err, tt.want)
		}
	}
	if err := limits.CheckKey([]byte("1234")); err != nil {
		t.Error(err)
	}
	if err := limits.CheckValue([]byte("123456")); err != nil {
		t.Error(err)
	}
	if err := (protocol.Limits{}).Check(protocol.CmdGet, args("GET k")); err != nil {
		t.Errorf("limits left out: %v", err)
	}
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"GET a", "a"},
		{"PUT a v NX", "a"},
		{"DEL a b c", "a b c"},
		{"MSET a 1 b 2", "a b"},
		{"SCAN 0", ""},
		{"PING", ""},
	} {
		request := args(tt.in)
		c, _ := protocol.Lookup(request[0])
		var keys []string
		for i := range c.Spec().Keys(len(request)) {
			keys = append(keys, string(c.Spec().Key(request, i)))
		}
		if got := strings.Join(keys, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.in, got, tt.want)
		}
	}
}
