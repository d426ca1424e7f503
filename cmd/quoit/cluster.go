package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// operator is what the cluster commands have in common: they talk to the manager.
type operator struct {
	manager string
	token   tokenFile
	timeout time.Duration
	json    bool
}

// dial connects to the manager; when ctx ends, so does what is under way.
func (o *operator) dial(ctx context.Context) (*manager.Control, func(), error) {
	if err := ring.ValidateAddress(o.manager); err != nil {
		return nil, nil, usageError("--manager (or QUOIT_MANAGER_ADDR): %v", err)
	}
	if o.timeout <= 0 {
		return nil, nil, usageError("--timeout takes more than %s", o.timeout)
	}
	who, err := o.token.credentials()
	if err != nil {
		return nil, nil, err
	}
	dial, err := who.proved()
	if err != nil {
		return nil, nil, err
	}
	m, err := manager.DialBy(ctx, dial, o.manager, o.timeout)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, nil, unreached("manager", o.manager, "--manager", err)
	}
	detach := context.AfterFunc(ctx, func() { _ = m.Close() })
	return m, func() {
		detach()
		_ = m.Close()
	}, nil
}

func (o *operator) with(ctx context.Context, do func(*manager.Control) error) error {
	m, hangUp, err := o.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp()
	err = do(m)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // which is why it hung up
	}
	return refusal(err)
}

// insist makes a change that may be made twice without harm, and returns the status
// after it. Who loses the manager in the middle asks again: an answer that got lost
// says nothing about the change.
func (o *operator) insist(ctx context.Context, do func(m *manager.Control, again bool) error) (s manager.Status, err error) {
	until := time.Now().Add(o.timeout)
	for again := false; ; again = true {
		reached, refused := false, false
		err = o.with(ctx, func(m *manager.Control) error {
			reached = true
			err := do(m, again)
			if err == nil {
				s, err = m.Status()
			}
			refused = peer.Refused(err)
			return err
		})
		hopeless := refused || !reached && !again
		if err == nil || hopeless || ctx.Err() != nil || time.Now().After(until) {
			return s, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// refusal leaves out of what a manager says what is not for people.
func refusal(err error) error {
	var refused *protocol.Error
	if errors.As(err, &refused) && refused.Code == protocol.ERR {
		return errors.New(refused.Message)
	}
	return err
}

func newCluster() *cobra.Command {
	o := &operator{}
	c := onlyCommands(&cobra.Command{
		Use:   "cluster",
		Short: "See and change which nodes form the cluster",
	})
	c.PersistentFlags().StringVarP(&o.manager, "manager", "m", fromEnvironment("QUOIT_MANAGER_ADDR", defaultServer),
		"address of the manager; default from QUOIT_MANAGER_ADDR")
	o.token.addTo(c.PersistentFlags())
	c.PersistentFlags().DurationVar(&o.timeout, "timeout", 10*time.Second, "how long one request may take")
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	_ = c.RegisterFlagCompletionFunc("manager", cobra.NoFileCompletions) // the flag is there: see above
	c.AddCommand(
		newStatus(o), newPlan(o), newAdd(o), newRemove(o), newTopology(o),
		o.change("pause", "Start no further move; those that run go on", 0,
			func(m *manager.Control, _ []string) (string, error) {
				return "no further move starts until quoit cluster resume", m.Pause()
			}),
		o.change("resume", "Let moves start again", 0,
			func(m *manager.Control, _ []string) (string, error) { return "moves start again", m.Resume() }),
		newThrottle(o),
		o.change("abort MOVE", "Start a move that is not committed again from the beginning", 1,
			func(m *manager.Control, args []string) (string, error) {
				return "move " + args[0] + " starts again, under a new name", m.Abort(args[0])
			}),
	)
	return c
}

// change is a command that has the manager do something, and says what it did.
func (o *operator) change(use, short string, args int, do func(*manager.Control, []string) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: arguments(args, args), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c.Context(), func(m *manager.Control) error {
				done, err := do(m, args)
				if err != nil {
					return err
				}
				if o.json {
					return printJSON(c.OutOrStdout(), map[string]any{"done": true, "text": done})
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), done)
				return err
			})
		},
	}
}

func newThrottle(o *operator) *cobra.Command {
	c := o.change("throttle BYTES", "Bound the bytes a second that one node sends in moves; 0 for no bound", 1,
		func(m *manager.Control, args []string) (string, error) {
			n, err := parseSize(args[0])
			if err != nil {
				return "", err
			}
			if n == 0 {
				return "moves take what the machines give", m.Throttle(n)
			}
			return "each node sends at most " + size(n) + "/s in moves", m.Throttle(n)
		})
	c.Example = "  quoit cluster throttle 20MiB"
	return c
}

// parseSize reads 64MiB, 500KB or a plain number of bytes.
func parseSize(text string) (int64, error) {
	var b config.Bytes
	if err := b.UnmarshalText([]byte(text)); err != nil {
		return 0, usageError("%q: %v", text, err)
	}
	return int64(b), nil
}

func newTopology(o *operator) *cobra.Command {
	return &cobra.Command{
		Use: "topology", Short: "Print the topology document as clients get it", Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			conn := connection{servers: o.manager, token: o.token, timeout: o.timeout}
			return conn.with(c.Context(), func(_ context.Context, db *client.Client) error {
				t := db.Topology()
				if o.json {
					return printJSON(c.OutOrStdout(), newTopologyJSON(t))
				}
				text, err := t.MarshalText()
				if err != nil {
					return err
				}
				_, err = c.OutOrStdout().Write(text)
				return err
			})
		},
	}
}

// topologyJSON is a topology for programs.
type topologyJSON struct {
	Cluster string             `json:"cluster"`
	Epoch   ring.Epoch         `json:"epoch"`
	Nodes   []topologyNodeJSON `json:"nodes"`
	Held    []topologyArcJSON  `json:"held"`
}

type topologyNodeJSON struct {
	Address   string            `json:"address"`
	Tokens    int               `json:"tokens"`
	Endpoints map[string]string `json:"endpoints,omitempty"` // URL by kind
}

type topologyArcJSON struct {
	Start ring.Position `json:"start"` // exclusive
	End   ring.Position `json:"end"`   // inclusive
	Owner string        `json:"owner"`
}

func newTopologyJSON(t ring.Topology) topologyJSON {
	j := topologyJSON{Cluster: t.Cluster, Epoch: t.Epoch, Nodes: []topologyNodeJSON{}, Held: []topologyArcJSON{}}
	for _, n := range t.Nodes {
		node := topologyNodeJSON{Address: n.Address, Tokens: n.Tokens}
		for _, e := range n.Endpoints {
			if node.Endpoints == nil {
				node.Endpoints = make(map[string]string)
			}
			node.Endpoints[e.Kind] = e.URL
		}
		j.Nodes = append(j.Nodes, node)
	}
	for _, a := range t.Held {
		j.Held = append(j.Held, topologyArcJSON{a.Start, a.End, a.Owner})
	}
	return j
}

func newPlan(o *operator) *cobra.Command {
	var add, remove []string
	var moves bool
	c := &cobra.Command{
		Use:     "plan",
		Short:   "Show what adding or removing nodes would move, without doing it",
		Example: "  quoit cluster plan --add 127.0.0.1:7404\n  quoit cluster plan --remove 127.0.0.1:7402",
		Args:    arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if len(add)+len(remove) == 0 {
				return usageError("give --add or --remove an address; see %s --help", c.CommandPath())
			}
			if err := validAddresses(append(append([]string(nil), add...), remove...)); err != nil {
				return err
			}
			return o.with(c.Context(), func(m *manager.Control) error {
				p, err := m.Plan(add, remove)
				if err != nil {
					return err
				}
				if o.json {
					return printJSON(c.OutOrStdout(), p)
				}
				printPlan(c.OutOrStdout(), p, moves)
				return nil
			})
		},
	}
	c.Flags().StringSliceVar(&add, "add", nil, "addresses of nodes to add, running or not")
	c.Flags().StringSliceVar(&remove, "remove", nil, "addresses of nodes to remove")
	c.Flags().BoolVar(&moves, "moves", false, "list every range")
	_ = c.RegisterFlagCompletionFunc("add", o.completeNodes(cluster.Known))     // the flags are there:
	_ = c.RegisterFlagCompletionFunc("remove", o.completeNodes(cluster.Active)) // see above
	return c
}

func validAddresses(all []string) error {
	for _, a := range all {
		if err := ring.ValidateAddress(a); err != nil {
			return usageError("%v", err)
		}
	}
	return nil
}

func newAdd(o *operator) *cobra.Command {
	wait := true
	c := &cobra.Command{
		Use:   "add ADDRESS...",
		Short: "Let registered nodes into the ring and watch their ranges arrive",
		Long: `The node has to run already: it registers with the manager by itself and waits.
Only the ranges that it will own move, each from the node that has it now.
Ctrl-C stops the watching, not the moves.`,
		Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := validAddresses(args); err != nil {
				return err
			}
			s, err := o.insist(c.Context(), func(m *manager.Control, _ bool) error { return m.Add(args...) })
			if err != nil {
				return explainUnknown(err, "start the node first, with this manager as its QUOIT_MANAGER_ADDR")
			}
			return o.afterwards(c, s, wait, strings.Join(args, ", ")+is(args)+" in the ring")
		},
		ValidArgsFunction: o.completeNodes(cluster.Known),
	}
	c.Flags().BoolVar(&wait, "wait", true, "wait until every range has moved")
	return c
}

func is(addresses []string) string {
	if len(addresses) == 1 {
		return " is"
	}
	return " are"
}

func has(addresses []string) string {
	if len(addresses) == 1 {
		return " has"
	}
	return " have"
}

func isUnknown(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no such member")
}

// explainUnknown says what to do about the likely mistake.
func explainUnknown(err error, advice string) error {
	if isUnknown(err) {
		return fmt.Errorf("%w: %s (quoit cluster status lists the nodes that are known)", err, advice)
	}
	return err
}

func newRemove(o *operator) *cobra.Command {
	wait, lost := true, false
	c := &cobra.Command{
		Use:   "remove ADDRESS...",
		Short: "Have nodes hand over all they own and leave the ring",
		Long: `The nodes keep serving what has not been handed over yet, and can be stopped when
they are gone from quoit cluster status. Ctrl-C stops the watching, not the moves.

--accept-loss is for a node that is dead and will not come back, with its disk: what
only it had is lost, and the rest of the cluster takes its ranges over, empty. Make
sure that it is really dead: a node that still runs, cut off, would go on serving.`,
		Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := validAddresses(args); err != nil {
				return err
			}
			s, err := o.insist(c.Context(), func(m *manager.Control, again bool) error {
				err := remove(m, args, lost)
				if again && isUnknown(err) {
					return nil // the first time, of which nobody told us, has done it
				}
				return err
			})
			if err != nil {
				return explainUnknown(err, "is the address right?")
			}
			return o.afterwards(c, s, wait, strings.Join(args, ", ")+has(args)+" left the ring and can be stopped")
		},
		ValidArgsFunction: o.completeNodes(cluster.Active, cluster.Leaving),
	}
	c.Flags().BoolVar(&wait, "wait", true, "wait until every range has moved")
	c.Flags().BoolVar(&lost, "accept-loss", false, "the node is dead for ever: give its ranges away without their data")
	return c
}

func remove(m *manager.Control, addresses []string, lost bool) error {
	if !lost {
		return m.Remove(addresses...)
	}
	for _, a := range addresses {
		if err := m.Forget(a); err != nil {
			return err
		}
	}
	return nil
}
