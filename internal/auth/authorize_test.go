package auth

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// TestEveryCommandHasADecision fails for a command that is new in the protocol: say in
// needs what it asks of who sends it.
func TestEveryCommandHasADecision(t *testing.T) {
	for _, cmd := range protocol.Commands() {
		spec, need := cmd.Spec(), needs[cmd]
		switch {
		case need == undecided:
			t.Errorf("%s has no line in needs", cmd)
		case spec.Has(protocol.Write) && need != writes:
			t.Errorf("%s writes, and needs no scope that writes", cmd)
		case spec.Has(protocol.Readonly) && spec.FirstKey > 0 && need != reads:
			t.Errorf("%s reads keys, and needs no scope that reads them", cmd)
		case spec.Has(protocol.Readonly) && need != reads && need != scans && need != sees:
			t.Errorf("%s reads, and needs no scope", cmd)
		case need == nothing:
			// TestBeforeAnythingIsProvedOnlyAProofIsTaken lists them.
		case spec.Has(protocol.Cluster) && need < fromNode:
			t.Errorf("%s is for members, and others may send it", cmd)
		case spec.Has(protocol.Admin) && need != operates:
			t.Errorf("%s is an operator's, and others may send it", cmd)
		case spec.Has(protocol.Session) && need != anyone && need != watches:
			t.Errorf("%s is about the connection, and needs %d", cmd, need)
		}
	}
	for cmd := len(protocol.Commands()) + 1; cmd < len(needs); cmd++ {
		if needs[cmd] != undecided {
			t.Errorf("command %d is none and has a decision", cmd)
		}
	}
}

func TestBeforeAnythingIsProvedOnlyAProofIsTaken(t *testing.T) {
	early := map[string]bool{"AUTH": true, "HELLO": true, "QUIT": true, "RESET": true, "CHALLENGE": true, "PROVE": true}
	for _, cmd := range protocol.Commands() {
		args := make([][]byte, 8)
		for _, p := range []*Principal{nil, Anonymous(), {}} {
			err := Authorize(p, 0, cmd, args)
			if early[cmd.String()] != (err == nil) || err != nil && err.Code != protocol.NOAUTH {
				t.Errorf("%s from someone unknown: %v", cmd, err)
			}
		}
	}
}

func TestWithoutAuthenticationEverythingIsAllowed(t *testing.T) {
	for _, cmd := range protocol.Commands() {
		if err := Authorize(Open(), 0, cmd, request("x")); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	}
	if p := Open(); !p.MayRead(nil) || !p.MayWrite(nil) || !p.CoversPrefix(nil) || !p.ReadsAll() || !p.SeesServer() || !p.SpeaksFor("a:1") || p.Ended(1<<62) != nil {
		t.Error("something is closed")
	}
}

func TestATokenOpensWhatItsScopesSay(t *testing.T) {
	p := holder(t, lasting(PrefixScope("cart:", WriteAccess), PrefixScope("user:1:", ReadAccess), KeyScope("flags", ReadAccess), KeyScope("", WriteAccess)))
	for _, c := range []struct {
		want protocol.Code
		line string
	}{
		{"", "GET cart:"},
		{"", "PUT cart:1 x"},
		{"", "GET flags"},
		{protocol.NOPERM, "PUT flags x"},
		{protocol.NOPERM, "GET flags2"},
		{protocol.NOPERM, "GET flag"},
		{protocol.NOPERM, "GET cart"},
		{protocol.NOPERM, "GET Cart:1"},
		{"", "GET user:1:name"},
		{protocol.NOPERM, "GET user:10:name"},
		{protocol.NOPERM, "GET user:1"},
		{"", "MGET cart:1 user:1:x flags"},
		{protocol.NOPERM, "MGET cart:1 user:1:x flags other"},
		{protocol.NOPERM, "MGET other cart:1"},
		{"", "MSET cart:1 flags cart:2 other"},
		{protocol.NOPERM, "MSET cart:1 x flags x"},
		{protocol.NOPERM, "DEL cart:1 cart:2 flags"},
		{"", "EXISTS cart:1 flags"},
		{protocol.NOPERM, "GETDEL flags"},
		{protocol.NOPERM, "EXPIRE flags 1"},
		{"", "INCR cart:n"},
		{"", "SCAN 0"},
		{protocol.NOPERM, "DBSIZE"},
		{"", "INFO"},
		{"", "PING"},
		{"", "TOPOLOGY"},
		{"", "AUTH x"},
		{"", "WATCH 1 KEY flags 0 0 0"},
		{"", "WATCH 1 key cart:1 0 0 0"},
		{protocol.NOPERM, "WATCH 1 KEY other 0 0 0"},
		{"", "WATCH 1 PREFIX cart: 0 0 0"},
		{"", "WATCH 1 prefix cart:1 0 0 0"},
		{protocol.NOPERM, "WATCH 1 PREFIX cart 0 0 0"},
		{protocol.NOPERM, "WATCH 1 PREFIX flags 0 0 0"},
		{protocol.NOPERM, "WATCH 1 PREFIX c 0 0 0"},
		{protocol.ERR, "WATCH 1 OTHER cart:1 0 0 0"},
		{protocol.NOPERM, "CLUSTER STATUS"},
		{protocol.NOPERM, "SNAPSHOT"},
		{protocol.NOPERM, "REGISTER {}"},
		{protocol.NOPERM, "STAGE_DATA m 1 x"},
		{protocol.NOPERM, "REFRESH 1"},
	} {
		if got := ask(t, p, strings.Fields(c.line)...); codeOf(got) != c.want {
			t.Errorf("%s: %v, want %q", c.line, got, c.want)
		}
	}
	if err := ask(t, p, "PUT", "", "x"); err != nil {
		t.Errorf("the empty key is one like any other: %v", err)
	}
}

func TestARefusalNamesTheCommandAndTheKeyThatWasAskedFor(t *testing.T) {
	p := holder(t, lasting(KeyScope("only:mine", ReadAccess)))
	err := ask(t, p, "MGET", "only:mine", "a\r\nb")
	if want := `NOPERM MGET may not read "a\r\nb": no scope of this token allows it`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = ask(t, p, "PUT", strings.Repeat("k", 500), "x")
	if err == nil || len(err.Message) > 200 || strings.Contains(err.Message, "only:mine") {
		t.Errorf("got %v", err)
	}
}

func TestAccessToTheClusterIsByDegrees(t *testing.T) {
	none, read, operate := lasting(), lasting(), lasting()
	read.Cluster, operate.Cluster = ClusterRead, ClusterOperate
	all := lasting(PrefixScope("", ReadAccess))
	holders := []*Principal{holder(t, none), holder(t, all), holder(t, read), holder(t, operate), Member(RoleOperator, ""), Member(RoleManager, "manager"), Member(RoleGateway, ""), Member(RoleNode, "a:1")}
	for line, want := range map[string]string{ // of each holder: y for allowed
		"DBSIZE": "-yyyyy--", "INFO": "yyyyyyyy", "TOPOLOGY": "yyyyyyyy",
		"CLUSTER STATUS": "--yyyy--", "cluster status": "--yyyy--", "CLUSTER PLAN ADD a:1": "--yyyy--",
		"CLUSTER ADD a:1": "---yyy--", "CLUSTER FORGET a:1": "---yyy--", "CLUSTER STATUSX": "---yyy--",
		"SNAPSHOT": "---yyy--", "SNAPSHOT STATUS": "--yyyy--", "SNAPSHOT PLAN": "---yyy--",
		"GET a": "-y------", "PUT a b": "--------", "SCAN 0": "-y------", "WATCH 1 PREFIX a 0 0 0": "-y------",
	} {
		got := ""
		for _, p := range holders {
			if ask(t, p, strings.Fields(line)...) == nil {
				got += "y"
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

func TestMembersSendWhatTheirRoleSends(t *testing.T) {
	senders := []*Principal{Member(RoleNode, "a:1"), Member(RoleNode, "b:1"), Member(RoleNode, ""), Member(RoleManager, "manager"), Member(RoleGateway, ""), Member(RoleOperator, "")}
	for line, want := range map[string]string{
		"REGISTER {}": "yyy---", "HEARTBEAT {}": "yyy---", "COMMIT_MOVE m": "yyy---", "MOVE_DONE active m": "yyy---",
		"REFRESH 1": "yyyy--", "MIGRATE_RANGE 0 1 a:1 m": "---y--",
		"STAGE_RANGE m 0 1 a:1": "y-y---", "STAGE_DATA m 1 x": "yyy---", "STAGE_SEAL m 1 1 1": "yyy---",
	} {
		got := ""
		for _, p := range senders {
			if err := ask(t, p, strings.Fields(line)...); err == nil {
				got += "y"
			} else if got += "-"; err.Code != protocol.NOPERM {
				t.Errorf("%s: %v", line, err)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	for role := RoleNode; role <= RoleOperator; role++ {
		if got, ok := ParseRole(role.String()); !ok || got != role {
			t.Errorf("role %d is written %s and read as %d", role, role, got)
		}
	}
	if _, ok := ParseRole(""); ok {
		t.Error("no role is a role")
	}
}

func TestATokenThatHasEndedOpensNothingButTheWayToANewOne(t *testing.T) {
	c := lasting(PrefixScope("", WriteAccess))
	p := holder(t, c)
	last := c.Expires.Add(Leeway).UnixMilli() - 1
	if err := Authorize(p, last, protocol.CmdGet, request("GET", "a")); err != nil {
		t.Errorf("in its last millisecond: %v", err)
	}
	err := Authorize(p, last+1, protocol.CmdGet, request("GET", "a"))
	if codeOf(err) != protocol.NOAUTH || !strings.Contains(err.Message, "has expired") {
		t.Errorf("after it: %v", err)
	}
	for _, early := range []protocol.Command{protocol.CmdAuth, protocol.CmdHello, protocol.CmdQuit, protocol.CmdReset} {
		if err := Authorize(p, last+1, early, request(early.String(), "x")); err != nil {
			t.Errorf("%s after it: %v", early, err)
		}
	}
}
