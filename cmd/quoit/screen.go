package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
)

// screen draws the status of a cluster.
type screen struct {
	paint paint
	width int // of the terminal; 0: as wide as it gets
}

const (
	wideBar   = 20
	narrowBar = 10
	// mostMoves is how many moves are listed one by one.
	mostMoves = 12
)

// draw returns the lines of the status.
func (d screen) draw(s manager.Status, eta *estimate) []string {
	lines := []string{d.headline(s), ""}
	lines = append(lines, d.fitting(s.Nodes)...)
	lines = append(lines, d.complaints(s.Nodes)...)
	lines = append(lines, d.endpoints(s.Nodes)...)
	lines = append(lines, d.moves(s, eta)...)
	return append(lines, d.settings(s)...)
}

func (d screen) headline(s manager.Status) string {
	if s.Cluster == "" {
		return "the manager has not read the cluster's document yet"
	}
	if !s.Formed {
		return fmt.Sprintf("%s   forming: %s must register", d.paint.bold(s.Cluster), plural(s.WaitingFor, "more node"))
	}
	var keys, bytes int64
	var ops float64
	members := 0
	for _, n := range s.Nodes {
		keys += n.Keys
		bytes += n.Bytes
		ops += n.OpsPerSec
		if n.State != cluster.Known {
			members++
		}
	}
	return fmt.Sprintf("%s   %s   %s keys   %s   %s ops/s   epoch %s", d.paint.bold(s.Cluster), plural(members, "node"),
		count(keys), size(bytes), count(int64(ops)), s.Epoch)
}

// fitting is the table of nodes, with what the width has room for.
func (d screen) fitting(nodes []manager.NodeStatus) []string {
	var lines []string
	for _, form := range []struct {
		bar  int
		full bool
	}{{wideBar, true}, {narrowBar, true}, {narrowBar, false}, {0, false}} {
		lines = d.nodes(nodes, form.bar, form.full)
		widest := 0
		for _, l := range lines {
			widest = max(widest, widthOf(l))
		}
		if d.width == 0 || widest <= d.width {
			break
		}
	}
	return lines
}

// nodes is a line for each node; full with how much memory and log it takes.
func (d screen) nodes(nodes []manager.NodeStatus, width int, full bool) []string {
	share := "SHARE OF THE RING"
	if width < len(share) {
		share = "SHARE"
	}
	titles := []string{"NODE", "STATE", share, "", ">KEYS", ">DATA", ">MEMORY", ">LOG", ">SNAPSHOT", ">OPS/S"}
	told := slices.ContainsFunc(nodes, func(n manager.NodeStatus) bool { return n.Snapshot != nil })
	pick := func(row []string) []string {
		switch {
		case !full:
			return slices.Delete(row, 6, 9)
		case !told:
			return slices.Delete(row, 8, 9)
		}
		return row
	}
	t := newTable(pick(titles)...)
	most := 0.0
	for _, n := range nodes {
		most = max(most, n.Share, n.GoalShare)
	}
	for _, n := range nodes {
		cells := []string{
			n.Address, d.state(n), d.shareBar(n, most, width), shareText(n), count(n.Keys), size(n.Bytes),
			size(n.MemoryBytes), size(n.LogBytes), snapshotAge(n), count(int64(n.OpsPerSec)),
		}
		if n.SilentMS < 0 { // never heard of: nothing is known
			cells = append(cells[:4], "?", "?", "?", "?", "?", "?")
		}
		t.add(pick(cells)...)
	}
	lines := t.lines(d.paint)
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return lines
}

// snapshotAge is how old the newest snapshot is.
func snapshotAge(n manager.NodeStatus) string {
	switch s := n.Snapshot; {
	case s == nil:
		return "?"
	case s.AgeMS < 0:
		return "none"
	default:
		return span((time.Duration(s.AgeMS) * time.Millisecond).Round(time.Second))
	}
}

// shareBar is a share beside the largest of all, so that equal nodes have equal
// bars, with what it is still to get or to hand over.
func (d screen) shareBar(n manager.NodeStatus, most float64, width int) string {
	if most <= 0 || width == 0 {
		return strings.Repeat("·", width)
	}
	cells := func(share float64) int { return min(max(int(share/most*float64(width)+0.5), 0), width) }
	has, goal := cells(n.Share), cells(n.GoalShare)
	if !moving(n) {
		return bar(n.Share/most, width)
	}
	stays := min(has, goal)
	return strings.Repeat("█", stays) + d.paint.yellow(strings.Repeat("▒", has-stays)) +
		d.paint.green(strings.Repeat("░", goal-stays)) + strings.Repeat("·", width-max(has, goal))
}

// moving says that a node gets or gives away a part of the ring.
func moving(n manager.NodeStatus) bool {
	const nothing = 0.00005 // half of what a percentage shows
	d := n.GoalShare - n.Share
	return d > nothing || d < -nothing
}

func shareText(n manager.NodeStatus) string {
	text := fmt.Sprintf("%5s", percent(n.Share))
	if moving(n) {
		text += " → " + percent(n.GoalShare)
	}
	return text
}

// state is one or two words; complaints say more.
func (d screen) state(n manager.NodeStatus) string {
	switch {
	case n.SilentMS < 0:
		return d.paint.red("not heard of")
	case !n.Up:
		return d.paint.red("DOWN " + span((time.Duration(n.SilentMS) * time.Millisecond).Round(time.Second)))
	case n.State == cluster.Known:
		return d.paint.dim("not in ring")
	case !n.Serving:
		return d.paint.yellow("not serving")
	case n.State == cluster.Leaving:
		return d.paint.yellow("leaving")
	}
	return d.paint.green(string(n.State))
}

// complaints are what nodes say of themselves that is not as it should be.
func (d screen) complaints(nodes []manager.NodeStatus) []string {
	var lines []string
	for _, n := range nodes {
		if why := n.Heartbeat.State; n.Up && n.State != cluster.Known && why != "" && why != "serving" {
			lines = append(lines, d.paint.yellow("  ! ")+n.Address+": "+why)
		}
		if s := n.Snapshot; n.Up && n.State != cluster.Known && s != nil && !slices.Contains([]string{"", "ok", "starting"}, s.State) {
			lines = append(lines, d.paint.yellow("  ! ")+n.Address+": "+s.State)
		}
	}
	if len(lines) > 0 {
		lines = append([]string{""}, lines...)
	}
	return lines
}

// endpoints are the other ways to nodes than their addresses.
func (d screen) endpoints(nodes []manager.NodeStatus) []string {
	t := newTable("", "", "")
	for _, n := range nodes {
		for _, kind := range slices.Sorted(maps.Keys(n.Endpoints)) {
			t.add(n.Address, kind, n.Endpoints[kind])
		}
	}
	if len(t.rows) == 0 {
		return nil
	}
	lines := []string{"", d.paint.dim("  also reached at")}
	for _, line := range t.lines(d.paint) {
		lines = append(lines, "  "+line)
	}
	return lines
}

// moves shows how far it all is, the moves that run, and how many wait.
func (d screen) moves(s manager.Status, eta *estimate) []string {
	if len(s.Moves) == 0 {
		return nil
	}
	lines := []string{"", d.progress(s, eta)}
	t := newTable("", "", "", "", ">", ">", "")
	wait, over, more := 0, 0, 0
	for _, m := range s.Moves {
		switch {
		case waiting(m) && m.Reason == "":
			wait++
		case handedOver(m) && m.Reason == "":
			over++
		case len(t.rows) == mostMoves:
			more++
		default:
			t.add(string(m.ID), m.Source+" → "+m.Target, phaseText(m), bar(copied(m), narrowBar), plural(int(m.Keys), "key"), size(m.Bytes), d.paint.yellow(m.Reason))
		}
	}
	for _, line := range t.lines(d.paint) {
		lines = append(lines, "  "+line)
	}
	var rest []string
	if more > 0 {
		rest = append(rest, count(int64(more))+" more under way")
	}
	if over > 0 {
		rest = append(rest, count(int64(over))+" handed over and to be tidied up")
	}
	if wait > 0 {
		rest = append(rest, count(int64(wait))+" waiting")
	}
	if len(rest) > 0 {
		lines = append(lines, d.paint.dim("  "+strings.Join(rest, ", ")))
	}
	return lines
}

func (d screen) progress(s manager.Status, eta *estimate) string {
	line := fmt.Sprintf("moving   %s to go", plural(len(s.Moves), "range"))
	if eta != nil && eta.total > 0 {
		line += fmt.Sprintf("   %s %.0f%%", bar(eta.done(), wideBar), 100*eta.done())
	}
	if s.Paused || eta == nil {
		return line
	}
	if left, ok := eta.left(); ok {
		line += "   about " + span(max(left.Round(time.Second), time.Second)) + " left"
	}
	return line
}

// phaseText says what happens to a range, in a word.
func phaseText(m manager.MoveStatus) string {
	switch m.Phase {
	case "planned", "waiting":
		return "waiting"
	case "copy":
		return "copying"
	case "seal":
		return "sealed"
	case "commit":
		return "changing hands"
	case "committed", "drop":
		return "handed over"
	}
	return m.Phase
}

// copied is how much of a range the target has.
func copied(m manager.MoveStatus) float64 {
	if handedOver(m) {
		return 1
	}
	return m.Share
}

// settings are those that are not as they usually are.
func (d screen) settings(s manager.Status) []string {
	var lines []string
	if s.Paused {
		lines = append(lines, "", d.paint.yellow("no further move starts: PAUSED (quoit cluster resume)"))
	}
	if s.Throttle > 0 {
		lines = append(lines, "", fmt.Sprintf("each node sends at most %s/s in moves (quoit cluster throttle 0 ends that)", size(s.Throttle)))
	}
	return lines
}

func printPlan(w io.Writer, p manager.Plan, moves bool) {
	if len(p.Moves) == 0 {
		fmt.Fprint(w, "nothing would move: the ring is so already\n\n")
	} else {
		fmt.Fprintf(w, "%s would move, %s of the ring; no plan could move less than %s\n\n", plural(len(p.Moves), "range"), percent(p.Share), percent(p.Ideal))
	}
	t := newTable("NODE", ">BEFORE", ">AFTER", "")
	most := 0.0
	for _, n := range p.Nodes {
		most = max(most, n.After)
	}
	for _, n := range p.Nodes {
		t.add(n.Address, percent(n.Before), percent(n.After), bar(n.After/max(most, 1e-9), wideBar))
	}
	t.write(w, "  ")
	if !moves {
		return
	}
	fmt.Fprintln(w)
	t = newTable("RANGE", ">SHARE", "FROM", "TO")
	for _, m := range p.Moves {
		t.add(m.Range.String(), fmt.Sprintf("%.3f%%", 100*shareOf(m.Range)), m.Source, m.Target)
	}
	t.write(w, "  ")
}
