package manager

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/tlsconf/tlstest"
)

// as is a connection of a member with this role and name, which has proved the secret that
// guarded gives the manager.
func (m *running) as(role auth.Role, name string) *client {
	m.w.t.Helper()
	dial := auth.MemberDialer(auth.MemberOptions{
		Dial: m.w.net.dial, Secret: strings.Repeat("s", auth.MinClusterSecret), Role: role, Name: name,
	})
	nc, err := dial(m.w.t.Context(), m.address)
	if err != nil {
		m.w.t.Fatal(err)
	}
	return newClient(m.w.t, nc)
}

func beatOf(address string) string {
	return encoded(member.Heartbeat{Address: address, ID: idOf(address)})
}

// TestANodeSpeaksForItselfAlone: what it says of another node is refused, and nothing has
// been done.
func TestANodeSpeaksForItselfAlone(t *testing.T) {
	w := newWorld(t)
	m := w.manager(newIssuer(t).guarded)
	a := m.as(auth.RoleNode, nodeA)
	a.want(":", "REGISTER", registration(nodeA))
	a.want(":", "HEARTBEAT", beatOf(nodeA))
	a.want("-NOPERM REGISTER", "REGISTER", registration(nodeB))
	a.want("-NOPERM HEARTBEAT", "HEARTBEAT", beatOf(nodeB))
	m.as(auth.RoleManager, memberName).want("-NOPERM", "REGISTER", registration(nodeB))
	if _, known := w.document().Member(nodeB); known {
		t.Error("a node that did not prove itself has a place in the document")
	}
}

// TestAMoveIsItsSourcesToCommit, its end the source's and the target's to report.
func TestAMoveIsItsSourcesToCommit(t *testing.T) {
	d := documentOf(t, nodeA, nodeB)
	d.Moves = []cluster.Move{{ID: "m-1", Source: nodeA, Target: nodeB, Phase: cluster.Planned}}
	a, b := auth.Member(auth.RoleNode, nodeA), auth.Member(auth.RoleNode, nodeB)
	for _, tt := range []struct {
		name   string
		who    *auth.Principal
		target bool
		move   cluster.MoveID
		may    bool
	}{
		{"the source about its move", a, false, "m-1", true},
		{"the target about the source's part", b, false, "m-1", false},
		{"the target about its part", b, true, "m-1", true},
		{"the source about the target's part", a, true, "m-1", false},
		{"a node with any name", auth.Member(auth.RoleNode, ""), true, "m-1", true},
		{"a stranger's word about no move at all", auth.Member(auth.RoleNode, "c:1"), true, "m-2", true},
		{"anybody where nobody is asked", auth.Open(), true, "m-1", true},
	} {
		if err := speaksForMoves(tt.who, 0, d, tt.target, tt.move); (err == nil) != tt.may {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestAForeignNodeIsNotAdmitted: with another secret, or none, it has no place.
func TestAForeignNodeIsNotAdmitted(t *testing.T) {
	w := newWorld(t)
	m := w.manager(newIssuer(t).guarded)
	o := auth.MemberOptions{Dial: w.net.dial, Secret: strings.Repeat("x", auth.MinClusterSecret), Role: auth.RoleNode, Name: nodeA}
	if _, err := auth.MemberDialer(o)(t.Context(), m.address); !errors.Is(err, auth.ErrProof) {
		t.Errorf("with another secret: %v", err)
	}
	c := m.dial()
	c.want("-NOAUTH", "REGISTER", registration(nodeA))
	c.want("-NOAUTH", "PROVE", strings.Repeat("00", 32))
	c.expectClosed()
}

// TestMembersReachTheManagerOverTLS by their certificates, and a plain client does not.
func TestMembersReachTheManagerOverTLS(t *testing.T) {
	w, i, ca := newWorld(t), newIssuer(t), tlstest.NewAuthority(t)
	files := ca.Config(true, tlstest.Role("quoit://manager"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := w.manager(func(c *Config, s *Seams) {
		c.Auth.TokenKeysFile, c.TLS, s.Listener = i.file, files, l
	})
	dialAs := func(role string) *client {
		t.Helper()
		c := tlstest.Files(t, ca.Issue(tlstest.Role(role)))
		c.TLSCA, c.TLSMemberCA = ca.File, ca.File
		client, err := tlsconf.NewClient(c, tlsconf.Options{})
		if err != nil {
			t.Fatal(err)
		}
		dial := auth.MemberDialer(auth.MemberOptions{TLS: client, Certificates: true, Role: auth.RoleNode, Name: nodeA})
		nc, err := dial(t.Context(), m.address)
		if err != nil {
			t.Fatal(err)
		}
		return newClient(t, nc)
	}
	dialAs("quoit://node/"+nodeA).want(":", "REGISTER", registration(nodeA))
	dialAs("quoit://node/"+nodeB).want("-NOPERM", "REGISTER", registration(nodeA))
	dialAs("quoit://gateway").want("-NOPERM", "REGISTER", registration(nodeA))
	dialAs("quoit://gateway").want("-NOPERM", "CLUSTER", "STATUS")
	dialAs("quoit://operator").want("-NOPERM", "REGISTER", registration(nodeA))
	dialAs("quoit://operator").want("{", "CLUSTER", "STATUS")

	nc, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "CLUSTER STATUS\r\n")
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if rest, err := io.ReadAll(bufio.NewReader(nc)); !strings.HasPrefix(string(rest), "-NOPROTO this port speaks TLS alone") || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a plain client reads %q (%v)", rest, err)
	}
}
