package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

// calm is a cluster of three nodes in which all is well.
func calm() manager.Status {
	s := manager.Status{Cluster: "quoit-1f2e", Epoch: 130, Formed: true}
	for i, share := range []float64{0.35, 0.33, 0.32} {
		s.Nodes = append(s.Nodes, manager.NodeStatus{
			Address: fmt.Sprint("10.0.0.", i+1, ":7401"), State: cluster.Active, Up: true, SilentMS: 200, Share: share, GoalShare: share, OpsPerSec: 1000 * float64(i+1),
			Heartbeat: member.Heartbeat{Serving: true, State: "serving", Keys: int64(1000000 * share), Bytes: int64(share * 100e6), MemoryBytes: int64(share * 120e6), LogBytes: int64(share * 300e6)},
		})
	}
	return s
}

// joining is calm when a fourth node gets its share.
func joining() manager.Status {
	s := calm()
	s.Nodes[0].GoalShare, s.Nodes[1].GoalShare, s.Nodes[2].GoalShare = 0.26, 0.25, 0.25
	s.Nodes = append(s.Nodes, manager.NodeStatus{
		Address: "10.0.0.4:7401", State: cluster.Active, Up: true, SilentMS: 100, Share: 0, GoalShare: 0.24, Heartbeat: member.Heartbeat{Serving: true, State: "serving"},
	})
	for i := range 6 {
		m := manager.MoveStatus{ID: cluster.MoveID(fmt.Sprint("m", i+1)), Source: s.Nodes[i%3].Address, Target: "10.0.0.4:7401", Range: eighth(uint32(i)), Phase: "planned"}
		s.Moves = append(s.Moves, m)
	}
	s.Moves[0].Phase, s.Moves[0].Share, s.Moves[0].Keys, s.Moves[0].Bytes = "copy", 0.5, 1234, 5<<20
	s.Moves[1].Phase, s.Moves[1].Share, s.Moves[1].Keys, s.Moves[1].Bytes = "seal", 1, 1, 80
	s.Moves[2].Phase = "committed"
	s.Moves[3].Phase, s.Moves[3].Reason = "waiting", "the target does not answer"
	return s
}

func TestTheStatusScreen(t *testing.T) {
	never := calm()
	never.Nodes[1].SilentMS, never.Nodes[1].Up, never.Nodes[1].Heartbeat = -1, false, member.Heartbeat{}
	never.Nodes[2].SilentMS, never.Nodes[2].Up, never.Nodes[2].Serving = 83_400, false, false
	ill := calm()
	ill.Nodes[0].Heartbeat.State = "disk full: writes are refused"
	ill.Nodes[1].Serving, ill.Nodes[1].Heartbeat.State = false, "the node is joining: no bucket"
	ill.Nodes[2].State, ill.Nodes[2].Share, ill.Nodes[2].GoalShare = cluster.Known, 0, 0
	ill.Nodes[2].Heartbeat.State = "the cluster does not want it"
	ill.Paused, ill.Throttle = true, 20<<20
	kept := calm()
	kept.Nodes[0].Snapshot = &member.Snapshot{State: "ok", Sequence: 3, AgeMS: 125_400}
	kept.Nodes[1].Snapshot = &member.Snapshot{State: "no snapshot since 2026-01-01T10:00:00Z; snapshot: the bucket is not available", Sequence: 7, AgeMS: 7_200_000}
	kept.Nodes[2].Snapshot = &member.Snapshot{State: "ok", AgeMS: -1}
	reached := calm()
	for _, i := range []int{0, 2} {
		reached.Nodes[i].Endpoints = map[string]string{"ws": fmt.Sprintf("wss://n%d.example.org/v1/node/%s", i+1, reached.Nodes[i].Address)}
	}
	forming := manager.Status{Cluster: "quoit-1f2e", WaitingFor: 2, Nodes: []manager.NodeStatus{{Address: "10.0.0.1:7401", State: cluster.Known, Up: true}}}
	for name, c := range map[string]struct {
		status manager.Status
		width  int
		want   string
	}{
		"all is well": {calm(), 0, `
quoit-1f2e   3 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE OF THE RING               KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active  ████████████████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  active  ██████████████████▉·  33.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB  2,000
  10.0.0.3:7401  active  ██████████████████▎·  32.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000
`},
		"a node joins": {joining(), 0, `
quoit-1f2e   4 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE OF THE RING                       KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active  ███████████████▒▒▒▒▒  35.0% → 26.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  active  ██████████████▒▒▒▒▒·  33.0% → 25.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB  2,000
  10.0.0.3:7401  active  ██████████████▒▒▒▒··  32.0% → 25.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000
  10.0.0.4:7401  active  ░░░░░░░░░░░░░░······   0.0% → 24.0%        0       0 B       0 B        0 B      0

moving   6 ranges to go   ████▌··············· 22%   about 7s left
  m1  10.0.0.1:7401 → 10.0.0.4:7401  copying  █████·····  1,234 keys  5.0 MiB
  m2  10.0.0.2:7401 → 10.0.0.4:7401  sealed   ██████████       1 key     80 B
  m4  10.0.0.1:7401 → 10.0.0.4:7401  waiting  ··········      0 keys      0 B  the target does not answer
  1 handed over and to be tidied up, 2 waiting
`},
		"nodes that browsers reach": {reached, 0, `
quoit-1f2e   3 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE OF THE RING               KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active  ████████████████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  active  ██████████████████▉·  33.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB  2,000
  10.0.0.3:7401  active  ██████████████████▎·  32.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000

  also reached at
  10.0.0.1:7401  ws  wss://n1.example.org/v1/node/10.0.0.1:7401
  10.0.0.3:7401  ws  wss://n3.example.org/v1/node/10.0.0.3:7401
`},
		"nodes that are not there": {never, 0, `
quoit-1f2e   3 nodes   670,000 keys   63.9 MiB   6,000 ops/s   epoch 130

  NODE           STATE         SHARE OF THE RING               KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active        ████████████████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  not heard of  ██████████████████▉·  33.0%        ?         ?         ?          ?      ?
  10.0.0.3:7401  DOWN 1m23s    ██████████████████▎·  32.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000
`},
		"nodes that are not well": {ill, 0, `
quoit-1f2e   2 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE        SHARE OF THE RING               KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active       ████████████████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  not serving  ██████████████████▉·  33.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB  2,000
  10.0.0.3:7401  not in ring  ····················   0.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000

  ! 10.0.0.1:7401: disk full: writes are refused
  ! 10.0.0.2:7401: the node is joining: no bucket

no further move starts: PAUSED (quoit cluster resume)

each node sends at most 20.0 MiB/s in moves (quoit cluster throttle 0 ends that)
`},
		"with snapshots": {kept, 0, `
quoit-1f2e   3 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE OF THE RING               KEYS      DATA    MEMORY        LOG  SNAPSHOT  OPS/S
  10.0.0.1:7401  active  ████████████████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB      2m5s  1,000
  10.0.0.2:7401  active  ██████████████████▉·  33.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB    2h0m0s  2,000
  10.0.0.3:7401  active  ██████████████████▎·  32.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB      none  3,000

  ! 10.0.0.2:7401: no snapshot since 2026-01-01T10:00:00Z; snapshot: the bucket is not available
`},
		"not formed": {forming, 0, `
quoit-1f2e   forming: 2 more nodes must register

  NODE           STATE        SHARE OF THE RING            KEYS  DATA  MEMORY  LOG  OPS/S
  10.0.0.1:7401  not in ring  ····················   0.0%     0   0 B     0 B  0 B      0
`},
		"no document": {manager.Status{}, 0, `
the manager has not read the cluster's document yet

  NODE  STATE  SHARE OF THE RING    KEYS  DATA  MEMORY  LOG  OPS/S
`},
		"a narrow terminal": {calm(), 90, `
quoit-1f2e   3 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE                 KEYS      DATA    MEMORY        LOG  OPS/S
  10.0.0.1:7401  active  ██████████  35.0%  350,000  33.4 MiB  40.1 MiB  100.1 MiB  1,000
  10.0.0.2:7401  active  █████████▍  33.0%  330,000  31.5 MiB  37.8 MiB   94.4 MiB  2,000
  10.0.0.3:7401  active  █████████▏  32.0%  320,000  30.5 MiB  36.6 MiB   91.6 MiB  3,000
`},
		"a very narrow terminal": {calm(), 70, `
quoit-1f2e   3 nodes   1,000,000 keys   95.4 MiB   6,000 ops/s   epoch 130

  NODE           STATE   SHARE                 KEYS      DATA  OPS/S
  10.0.0.1:7401  active  ██████████  35.0%  350,000  33.4 MiB  1,000
  10.0.0.2:7401  active  █████████▍  33.0%  330,000  31.5 MiB  2,000
  10.0.0.3:7401  active  █████████▏  32.0%  320,000  30.5 MiB  3,000
`},
	} {
		t.Run(name, func(t *testing.T) {
			var eta estimate
			if len(c.status.Moves) > 0 { // as if an eighth of the ring had taken two seconds
				before := c.status
				before.Moves = append([]manager.MoveStatus(nil), c.status.Moves...)
				before.Moves[2].Phase = "planned"
				now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
				eta.note(before, now)
				eta.note(c.status, now.Add(2*time.Second))
			}
			got := strings.Join(screen{width: c.width}.draw(c.status, &eta), "\n")
			if want := strings.Trim(c.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestTheScreenFitsItsTerminalIfThatIsPossible(t *testing.T) {
	for _, width := range []int{64, 80, 90, 100, 110, 120, 200} {
		for i, line := range (screen{width: width}).draw(calm(), nil) {
			if i > 1 && widthOf(line) > width {
				t.Errorf("in %d columns: %q has %d", width, line, widthOf(line))
			}
		}
	}
}

func TestManyMovesAreNotListedWithoutEnd(t *testing.T) {
	s := joining()
	s.Moves = nil
	for i := range 300 {
		s.Moves = append(s.Moves, manager.MoveStatus{ID: cluster.MoveID(fmt.Sprint("m", i)), Range: eighth(0), Phase: "copy"})
	}
	lines := screen{}.draw(s, nil)
	if len(lines) > mostMoves+12 {
		t.Errorf("%d lines", len(lines))
	}
	mustSay(t, lines[len(lines)-1], "288 more under way")
}

func TestPausedMovesHaveNoTimeLeft(t *testing.T) {
	s := joining()
	s.Paused = true
	var eta estimate
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	eta.note(s, now)
	s.Moves = s.Moves[:3]
	eta.note(s, now.Add(time.Second))
	text := strings.Join(screen{}.draw(s, &eta), "\n")
	if strings.Contains(text, "left") {
		t.Errorf("paused, and yet\n%s", text)
	}
	mustSay(t, text, "PAUSED")
}

func TestPhasesInWords(t *testing.T) {
	for phase, want := range map[string]string{
		"planned": "waiting", "waiting": "waiting", "copy": "copying", "seal": "sealed", "commit": "changing hands",
		"drop": "handed over", "committed": "handed over", "of the future": "of the future",
	} {
		if got := phaseText(manager.MoveStatus{Phase: phase}); got != want {
			t.Errorf("%s: %q, want %q", phase, got, want)
		}
	}
}

func TestAPlanWithoutMovesSaysSo(t *testing.T) {
	var out bytes.Buffer
	printPlan(&out, manager.Plan{Nodes: []manager.PlannedNode{{Address: "a:1", Before: 1, After: 1}}}, true)
	if !strings.HasPrefix(out.String(), "nothing would move: the ring is so already\n") || strings.Contains(out.String(), "no plan could") {
		t.Errorf("got\n%s", out.String())
	}
}

func TestAPlanIsShown(t *testing.T) {
	p := manager.Plan{
		Nodes: []manager.PlannedNode{{Address: "a:1", Before: 1, After: 0.625}, {Address: "b:1", After: 0.375}},
		Moves: []ring.Move{{Range: eighth(1), Source: "a:1", Target: "b:1"}}, Share: 0.375, Ideal: 0.375,
	}
	var out bytes.Buffer
	printPlan(&out, p, true)
	want := `1 range would move, 37.5% of the ring; no plan could move less than 37.5%

  NODE  BEFORE  AFTER
  a:1   100.0%  62.5%  ████████████████████
  b:1     0.0%  37.5%  ████████████········

  RANGE                      SHARE  FROM  TO
  (536870912, 1073741824]  12.500%  a:1   b:1
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
