package manager

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// TestConversation: what everyone may ask. A reply ends with * where only its
// beginning is given.
func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c := w.manager().dial()
		for _, step := range [][2]string{
			{"PING", "+PONG"},
			{`ping "hello world"`, "hello world"},
			{"PING a b", "-ERR wrong number of arguments for 'PING'*"},
			{"ECHO x", "x"},
			{"ECHO", "-ERR wrong number of arguments for 'ECHO'*"},
			{"SELECT 0", "+OK"},
			{"SELECT 1", "-ERR there is only database 0*"},
			{"HELLO 3", "-NOPROTO *"},
			{"HELLO 2", "[server quoit proto :2 id :1 mode manager role master modules []]"},
			{"HELLO 2 AUTH me secret", "-ERR AUTH: this manager has no password*"},
			{"AUTH secret", "-ERR *"},
			{"CLIENT ID", ":1"},
			{"CLIENT GETNAME", "(nil)"},
			{"CLIENT SETNAME x", "+OK"},
			{"CLIENT KILL", "-ERR *"},
			{"COMMAND COUNT", ":*"},
			{"TIME", "[946684800 0]"}, // a bubble begins in 2000
			{"RESET", "+RESET"},
			{"INFO", "# Server\r\nserver_mode:manager\r\n*"},
			{"TOPOLOGY", "quoit-topology 1\ncluster test\nepoch 1\nnode a:7401 3\nend\n"},
			{"GET key", "-ERR GET is for nodes: the manager holds no data; TOPOLOGY lists the nodes"},
			{"STAGE_SEAL m1 1 2 3", "-ERR STAGE_SEAL is for nodes*"},
			{"FLUSHALL", "-ERR unknown command 'FLUSHALL'"},
			{`"\x1b[2J"`, "-ERR unknown command '?[2J'"},
			{"QUIT", "+OK"},
		} {
			c.send(step[0] + "\r\n")
			got := c.reply()
			begin, open := strings.CutSuffix(step[1], "*")
			if got != begin && !(open && strings.HasPrefix(got, begin)) {
				t.Errorf("%s: %q, want %q", step[0], got, step[1])
			}
		}
		c.expectClosed()
	})
}

// mistakes are requests with the beginning of what they are answered.
func mistakes() map[string]string {
	return map[string]string{
		"CLUSTER":                     "-ERR wrong number of arguments for 'CLUSTER'; usage: CLUSTER subcommand",
		"CLUSTER SLOTS":               "-ERR unknown command 'CLUSTER SLOTS'; CLUSTER knows STATUS, PLAN",
		"CLUSTER STATUS now":          "-ERR CLUSTER STATUS takes nothing",
		"CLUSTER ADD":                 "-ERR CLUSTER ADD takes the addresses",
		"CLUSTER ADD b:7401":          "-ERR node b:7401: no such member",
		"CLUSTER ADD b":               `-ERR address "b": no port`,
		"CLUSTER REMOVE a:7401":       "-ERR the last active member cannot go",
		"CLUSTER REMOVE":              "-ERR CLUSTER REMOVE takes",
		"CLUSTER FORGET":              "-ERR CLUSTER FORGET takes the address of one node",
		"CLUSTER FORGET a:7401 b:1":   "-ERR CLUSTER FORGET takes the address of one node",
		"CLUSTER FORGET x:1":          "-ERR node x:1: no such member",
		"CLUSTER FORGET a:7401":       "-ERR node a:7401: the last active member cannot go",
		"CLUSTER ABORT":               "-ERR CLUSTER ABORT takes the id of one move",
		"CLUSTER ABORT m1":            "-ERR move m1: unknown move",
		"CLUSTER PAUSE m1":            "-ERR CLUSTER PAUSE takes nothing",
		"CLUSTER THROTTLE":            "-ERR CLUSTER THROTTLE takes bytes per second",
		"CLUSTER THROTTLE fast":       "-ERR CLUSTER THROTTLE takes bytes per second",
		"CLUSTER THROTTLE -1":         "-ERR CLUSTER THROTTLE takes bytes per second",
		"CLUSTER PLAN":                "-ERR CLUSTER PLAN takes at least one address",
		"CLUSTER PLAN ADD":            "-ERR CLUSTER PLAN takes at least one address",
		"CLUSTER PLAN b:7401":         "-ERR CLUSTER PLAN takes ADD and addresses",
		"CLUSTER PLAN REMOVE b:7401":  "-ERR node b:7401: no such member",
		"CLUSTER PLAN REMOVE a:7401":  "-ERR the last active member cannot go",
		"CLUSTER PLAN ADD here":       `-ERR address "here": no port`,
		"REGISTER x":                  "-ERR not a member message",
		"REGISTER {}":                 "-ERR node : node id",
		`REGISTER '{} {}'`:            "-ERR not a member message: something follows it",
		"HEARTBEAT [1]":               "-ERR not a member message",
		"COMMIT_MOVE ''":              "-ERR COMMIT_MOVE: move is not a name",
		"COMMIT_MOVE m7":              "-ERR move m7: unknown move",
		"MOVE_DONE finished m7":       "-ERR MOVE_DONE: end is neither dropped nor active",
		"CLUSTER ABORT " + long("m"):  "-ERR move mmmm",
		"CLUSTER ADD " + long("a:1"):  "-ERR address ",
		"CLUSTER FROB" + long("x"):    "-ERR unknown command 'CLUSTER FROBX",
		"CLUSTER PLAN " + long("ADD"): "-ERR CLUSTER PLAN takes ADD",
	}
}

// TestOperatorsMistakes: each CLUSTER command says what it takes, and changes nothing.
func TestOperatorsMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c, before := w.manager().dial(), w.document().Counter
		for line, want := range mistakes() {
			c.send(line + "\r\n")
			if got := c.reply(); !strings.HasPrefix(got, want) || len(got) > 2*maxMessage {
				t.Errorf("%.60s: %.200q (%d bytes), want %q", line, got, len(got), want)
			}
		}
		if now := w.document().Counter; now != before {
			t.Errorf("something was changed: the counter is %d after %d", now, before)
		}
	})
}

func long(s string) string { return strings.Repeat(s, 10_000/len(s)) }

func TestOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		m := w.manager()
		c := m.dial()
		c.ok("REGISTER", registration(nodeB))
		o := &Control{conn: peer.New(m.dial(), time.Minute)}
		plan, err := o.Plan([]string{nodeB}, nil)
		if err != nil || len(plan.Nodes) != 2 || plan.Nodes[0].Before != 1 || plan.Share == 0 {
			t.Fatalf("plan %+v, %v", plan, err)
		}
		for what, err := range map[string]error{"add": o.Add(nodeB), "pause": o.Pause(), "throttle": o.Throttle(1000)} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		s, err := o.Status()
		if err != nil || !s.Paused || s.Throttle != 1000 || len(s.Moves) == 0 || s.Counter != w.document().Counter {
			t.Errorf("status %+v, %v", s, err)
		}
		err = o.Abort(string(s.Moves[0].ID))
		if _, still := w.document().Move(s.Moves[0].ID); still || err != nil {
			t.Errorf("the aborted move is still there: %v, %v", still, err)
		}
		err = o.Remove(nodeB)
		if d := w.document(); len(d.Nodes) != 1 || len(d.Moves) != 0 || err != nil {
			t.Errorf("a node that owned nothing yet is still there: %+v, %v", d.Nodes, err)
		}
		if err := o.Resume(); err != nil || w.document().Settings.MovesPaused {
			t.Errorf("resume: %v", err)
		}
		if err := o.Forget(nodeC); !peer.Refused(err) || !strings.Contains(err.Error(), "no such member") {
			t.Errorf("forget: %v", err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if err := o.Pause(); peer.Refused(err) || !strings.Contains(err.Error(), "may have done it or not") {
			t.Errorf("pause without a connection: %v", err)
		}
		if _, err := o.Status(); err == nil || strings.Contains(err.Error(), "may have done it") {
			t.Errorf("status without a connection: %v", err)
		}
	})
}

// TestForgetAcceptsTheLossOfTheDead, and of nobody else.
func TestForgetAcceptsTheLossOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA, nodeB))
		c := w.manager().dial()
		c.ok("HEARTBEAT", beat(w.document(), nodeB))
		if got := c.do("CLUSTER", "FORGET", nodeB); !strings.HasPrefix(got, "-ERR node b:7401 is alive") {
			t.Fatalf("got %s", got)
		}
		pass(DefaultConfig().NodeTimeout)
		c.ok("CLUSTER", "FORGET", nodeB)
		d := w.document()
		if _, still := d.Member(nodeB); still || len(d.Moves) == 0 {
			t.Fatalf("document is %+v", d)
		}
		for _, m := range d.Moves {
			if !m.Lost || m.Target != nodeA || m.Phase != cluster.Committed {
				t.Errorf("move is %+v", m)
			}
			c.ok("MOVE_DONE", "active", string(m.ID))
		}
		if d := w.document(); len(d.Moves) != 0 {
			t.Errorf("moves are %+v", d.Moves)
		}
		if got := c.do("HEARTBEAT", beat(d, nodeB)); got != fmt.Sprintf(":%d", w.document().Counter) {
			t.Errorf("a zombie's heartbeat: %s", got)
		}
	})
}

// TestRegister: the answer is a counter whose document knows the node; nothing that
// comes late, twice or from a stranger changes who is who.
func TestRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.manager(initial(9)).dial()
		if got := c.ok("REGISTER", registration(nodeA)); got != fmt.Sprintf(":%d", w.document().Counter) {
			t.Errorf("got %s", got)
		}
		known := w.document()
		if n, ok := known.Member(nodeA); !ok || n.State != cluster.Known || n.ID != "id-a" || n.Tokens != 3 {
			t.Fatalf("member is %+v", n)
		}
		if got := c.ok("REGISTER", registration(nodeA)); got != fmt.Sprintf(":%d", known.Counter) {
			t.Errorf("asked again: %s", got)
		}
		// The node takes its incarnation, is let in, and moves something. Then a
		// registration of before arrives.
		w.change(func(d cluster.Document) (cluster.Document, error) {
			return d.Register(cluster.Registration{ID: "id-a", Address: nodeA, Tokens: 3})
		})
		w.change(func(d cluster.Document) (cluster.Document, error) { return d.Join(nodeA) })
		c.ok("REGISTER", registration(nodeB))
		before := w.change(func(d cluster.Document) (cluster.Document, error) { return d.Join(nodeB) })
		c.ok("REGISTER", registration(nodeA))
		if after := w.document(); after.Counter != before.Counter {
			t.Errorf("a late REGISTER fenced off a node that runs: %+v became %+v", before.Nodes, after.Nodes)
		}
		for name, r := range map[string]member.Registration{
			"another folder":  {ID: "id-x", Address: nodeA, Tokens: 3},
			"another address": {ID: "id-a", Address: nodeC, Tokens: 3},
			"another cluster": {Cluster: "other", ID: "id-c", Address: nodeC, Tokens: 3},
			"no address":      {ID: "id-c", Tokens: 3},
			"endless tokens":  {ID: "id-c", Address: nodeC, Tokens: 1 << 30},
			"bad endpoint":    {ID: "id-c", Address: nodeC, Tokens: 3, Endpoints: []ring.Endpoint{{Kind: "WS", URL: "x"}}},
		} {
			if got := c.do("REGISTER", encoded(r)); !strings.HasPrefix(got, "-ERR ") {
				t.Errorf("%s: %s", name, got)
			}
		}
		if after := w.document(); after.Counter != before.Counter {
			t.Error("a refused registration changed something")
		}
	})
}

// TestMove: commit and both reports, each twice; nothing is done twice.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		c := w.manager().dial()
		d := w.document()
		id := string(d.Moves[2].ID)
		if got := c.do("MOVE_DONE", "dropped", id); !strings.HasPrefix(got, "-ERR move "+id+": move is not committed") {
			t.Errorf("a report too early: %s", got)
		}
		for range 2 {
			c.ok("COMMIT_MOVE", id)
		}
		if now := w.document(); now.Epoch != d.Epoch+1 || now.Counter != d.Counter+1 {
			t.Errorf("epoch %d, counter %d after one commit of %d, %d", now.Epoch, now.Counter, d.Epoch, d.Counter)
		}
		for _, end := range []string{"dropped", "DROPPED", "active", "active", "dropped"} {
			c.ok("MOVE_DONE", end, id)
		}
		if m, still := w.document().Move(cluster.MoveID(id)); still {
			t.Errorf("the move is still there: %+v", m)
		}
		if got := c.do("COMMIT_MOVE", id); !strings.Contains(got, "unknown move") {
			t.Errorf("a commit of what is over: %s", got)
		}
	})
}

// TestHeartbeatBringsNews: a manager that hears of a newer document reads it, and
// tells a node that has an older one.
func TestHeartbeatBringsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c := w.manager(func(c *Config, _ *Seams) { c.Poll = time.Hour }).dial()
		old := w.document()
		d := w.change(func(d cluster.Document) (cluster.Document, error) { return d.SetThrottle(7) })
		if got := c.ok("HEARTBEAT", beat(old, nodeA)); got != fmt.Sprintf(":%d", old.Counter) {
			t.Errorf("got %s", got)
		}
		c.ok("HEARTBEAT", beat(d, nodeA))
		pass(2 * readGap)
		if got := c.ok("HEARTBEAT", beat(old, nodeA)); got != fmt.Sprintf(":%d", d.Counter) {
			t.Errorf("after the news: %s, want :%d", got, d.Counter)
		}
	})
}

// TestStatusOverTheWire is what quoit cluster status gets.
func TestStatusOverTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c := w.manager().dial()
		c.ok("HEARTBEAT", beat(w.document(), nodeA))
		pass(250 * time.Millisecond)
		var s Status
		if err := json.Unmarshal([]byte(c.ok("CLUSTER", "status")), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Nodes) != 1 || !s.Nodes[0].Up || s.Nodes[0].SilentMS != 250 || s.Nodes[0].Share != 1 || !s.Nodes[0].Serving {
			t.Errorf("status is %+v", s)
		}
	})
}

// TestFailPoints: each fails its own call. What fails after the swap is an answer
// that is lost, for the swap has happened.
func TestFailPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		points := failpoint.New()
		m := w.manager(func(_ *Config, s *Seams) { s.Points = points })
		d := w.document()
		fail := func() error { return failpoint.ErrInjected }
		c := m.dial()
		for _, f := range []struct {
			point   string
			request []string
		}{
			{"manager.register", []string{"REGISTER", registration(nodeD)}},
			{"manager.commit.before", []string{"COMMIT_MOVE", string(d.Moves[2].ID)}},
			{"manager.done", []string{"MOVE_DONE", "active", string(d.Moves[0].ID)}},
		} {
			points.OnHit(f.point, 1, fail)
			if got := c.do(f.request...); !strings.Contains(got, "injected") {
				t.Errorf("%s: %s", f.point, got)
			}
		}
		if now := w.document(); now.Counter != d.Counter {
			t.Error("a call that failed changed something")
		}
		points.OnHit("manager.commit.after", 1, fail)
		c.send(string(protocol.AppendRequestStrings(nil, "COMMIT_MOVE", string(d.Moves[2].ID))))
		c.expectClosed()
		if m, _ := w.document().Move(d.Moves[2].ID); m.Phase != cluster.Committed {
			t.Errorf("move is %+v", m)
		}
	})
}

// TestDialNobody: an operator learns whom the tool has tried to reach.
func TestDialNobody(t *testing.T) {
	_, err := Dial(t.Context(), "127.0.0.1:1", time.Second)
	if err == nil || !strings.Contains(err.Error(), "no manager answers at 127.0.0.1:1") {
		t.Errorf("error is %v", err)
	}
}
