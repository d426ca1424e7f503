package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/manager"
)

func newStatus(o *operator) *cobra.Command {
	watch, every := false, time.Second
	c := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, their share of the ring, keys, traffic, and moves under way",
		Long: `Shows each node with its share of the ring as a bar, and the moves that run.
In a bar ░ is a part that the node is still to get, ▒ one that it is to hand over.`,
		Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if every < 50*time.Millisecond {
				return usageError("--every takes 50ms or more, not %s", every)
			}
			return o.with(c.Context(), func(m *manager.Control) error {
				if watch {
					return o.watchStatus(c, m, every)
				}
				return o.showStatus(c, m)
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again until interrupted")
	c.Flags().DurationVar(&every, "every", time.Second, "with --watch: how often")
	return c
}

// secondLook is how long after the first the status is asked for again, while
// ranges move: how long they still take shows only in time.
const secondLook = 300 * time.Millisecond

// showStatus prints the status once.
func (o *operator) showStatus(c *cobra.Command, m *manager.Control) error {
	s, err := m.Status()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(c.OutOrStdout(), s)
	}
	var eta estimate
	eta.note(s, time.Now())
	if len(s.Moves) > 0 {
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-time.After(secondLook):
		}
		if s, err = m.Status(); err != nil {
			return err
		}
		eta.note(s, time.Now())
	}
	w := c.OutOrStdout()
	width, _ := screenSize(w)
	for _, line := range (screen{paint: paintFor(w), width: width}).draw(s, &eta) {
		fmt.Fprintln(w, line)
	}
	return nil
}

// watchStatus shows the status again and again: on a terminal in place, else one
// after the other.
func (o *operator) watchStatus(c *cobra.Command, m *manager.Control, every time.Duration) error {
	w := c.OutOrStdout()
	tick := time.NewTicker(every)
	defer tick.Stop()
	source := o.follow(c.Context(), m)
	defer source.close()
	var eta estimate
	var s manager.Status
	place := newPlace(w)
	defer place.leave()
	for {
		next, err := source.status()
		if c.Context().Err() != nil {
			return nil // that is how watching ends
		}
		if err == nil {
			s = next
			eta.note(s, time.Now())
		}
		switch {
		case o.json && err == nil:
			if err := printLine(w, s); err != nil {
				return err
			}
		case !o.json:
			width, height := screenSize(w)
			lines := (screen{paint: paintFor(w), width: width}).draw(s, &eta)
			if err != nil {
				lines = append([]string{paintFor(w).red(fmt.Sprintf("the manager at %s has not answered for %s; what follows is old", o.manager, span(source.silence().Round(time.Second)))), ""}, lines...)
			}
			place.show(lines, height)
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// statusSource asks a manager for its status again and again, and dials it again
// when it was away.
type statusSource struct {
	o      *operator
	ctx    context.Context
	m      *manager.Control // nil while there is no connection
	hangUp func()
	heard  time.Time // when it last answered
}

// follow begins with a connection that somebody else closes.
func (o *operator) follow(ctx context.Context, m *manager.Control) *statusSource {
	return &statusSource{o: o, ctx: ctx, m: m, hangUp: func() {}, heard: time.Now()}
}

func (f *statusSource) status() (s manager.Status, err error) {
	if f.m == nil {
		if f.m, f.hangUp, err = f.o.dial(f.ctx); err != nil {
			f.m, f.hangUp = nil, func() {}
			return s, err
		}
	}
	if s, err = f.m.Status(); err != nil {
		f.hangUp()
		f.m, f.hangUp = nil, func() {}
		return s, err
	}
	f.heard = time.Now()
	return s, nil
}

// silence is how long the manager has not answered.
func (f *statusSource) silence() time.Duration { return time.Since(f.heard) }

func (f *statusSource) close() { f.hangUp() }

// place is where something is drawn again and again.
type place struct {
	w        io.Writer
	terminal bool
	drawn    bool
}

// newPlace clears a terminal and hides its cursor; leave shows it again.
func newPlace(w io.Writer) *place {
	p := &place{w: w, terminal: isTerminal(w)}
	if p.terminal {
		fmt.Fprint(w, "\x1b[?25l\x1b[H\x1b[2J")
	}
	return p
}

func (p *place) leave() {
	if p.terminal {
		fmt.Fprint(p.w, "\x1b[?25h\n")
	}
}

// show draws lines in the place of those before, without flicker: each line to its
// end, then whatever the last drawing had more.
func (p *place) show(lines []string, height int) {
	if !p.terminal {
		if p.drawn {
			fmt.Fprintln(p.w)
		}
		fmt.Fprintln(p.w, strings.Join(lines, "\n"))
		p.drawn = true
		return
	}
	if height > 1 && len(lines) >= height {
		lines = append(lines[:height-2], "...")
	}
	fmt.Fprint(p.w, "\x1b[H"+strings.Join(lines, "\x1b[K\n")+"\x1b[K\x1b[J")
}
