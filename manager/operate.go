package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// cluster runs the CLUSTER commands, which people give through quoit cluster. All
// but STATUS and PLAN change the document.
func (c *conn) cluster(ctx context.Context, args [][]byte) error {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = string(a)
	}
	verb, rest := strings.ToUpper(words[0]), words[1:]
	switch verb {
	case "STATUS":
		if len(rest) > 0 {
			return argumentError(verb, "nothing")
		}
		return c.bulk(json.Marshal(c.m.Status()))
	case "PLAN":
		add, remove, err := parsePlan(rest)
		if err != nil {
			return err
		}
		plan, err := planFor(c.m.document(), add, remove)
		if err != nil {
			return err
		}
		return c.bulk(json.Marshal(plan))
	}
	apply, err := parseChange(verb, rest)
	if err != nil {
		return err
	}
	change := c.m.change
	if verb == "FORGET" {
		if err := c.m.mayForget(rest[0]); err != nil {
			return err
		}
		change = c.m.changeFirst
	}
	if _, err := change(ctx, apply); err != nil {
		return err
	}
	c.m.log.Info("operator", "command", verb, "arguments", rest, "by", c.guest.Who().Name())
	return c.ok(nil)
}

// parseChange turns a CLUSTER command that changes the document into the change.
func parseChange(verb string, args []string) (transition, error) {
	switch verb {
	case "ADD", "REMOVE":
		if len(args) == 0 {
			return nil, argumentError(verb, "the addresses of one or more nodes")
		}
		if err := checkAddresses(args); err != nil {
			return nil, err
		}
		if verb == "ADD" {
			return func(d cluster.Document) (cluster.Document, error) { return d.Join(args...) }, nil
		}
		return func(d cluster.Document) (cluster.Document, error) { return d.Leave(args...) }, nil
	case "FORGET":
		if len(args) != 1 {
			return nil, argumentError(verb, "the address of one node")
		}
		return func(d cluster.Document) (cluster.Document, error) { return d.Forget(args[0]) }, checkAddresses(args)
	case "ABORT":
		if len(args) != 1 {
			return nil, argumentError(verb, "the id of one move")
		}
		return func(d cluster.Document) (cluster.Document, error) { return d.Abort(cluster.MoveID(args[0])) }, nil
	case "PAUSE", "RESUME":
		if len(args) > 0 {
			return nil, argumentError(verb, "nothing")
		}
		return func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(verb == "PAUSE") }, nil
	case "THROTTLE":
		return parseThrottle(args)
	}
	err := protocol.UnknownCommand([]byte("CLUSTER " + verb))
	err.Message += "; CLUSTER knows STATUS, PLAN, ADD, REMOVE, FORGET, ABORT, PAUSE, RESUME and THROTTLE"
	return nil, err
}

func parseThrottle(args []string) (transition, error) {
	if len(args) == 1 {
		if n, ok := protocol.ParseInt([]byte(args[0])); ok && n >= 0 {
			return func(d cluster.Document) (cluster.Document, error) { return d.SetThrottle(n) }, nil
		}
	}
	return nil, argumentError("THROTTLE", "bytes per second for each source, 0 for no limit")
}

func argumentError(verb, takes string) error {
	return &protocol.Error{Code: protocol.ERR, Message: "CLUSTER " + verb + " takes " + takes}
}

func checkAddresses(addresses []string) error {
	for _, a := range addresses {
		if err := ring.ValidateAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// mayForget refuses to give up on a node that is alive: cut off from the others, it
// would go on serving what they take to be lost.
func (m *Manager) mayForget(address string) error {
	n, ok := m.document().Member(address)
	if !ok || !m.nodes.heardOf(n) {
		return nil
	}
	left := m.config.NodeTimeout.Round(time.Millisecond)
	return fmt.Errorf("node %s is alive: it was heard of less than %s ago; remove it, so that it hands over what it has, "+
		"or stop it for ever and ask again after that time", address, left)
}

func parsePlan(words []string) (add, remove []string, err error) {
	into := &add
	for i, w := range words {
		switch strings.ToUpper(w) {
		case "ADD":
			into = &add
		case "REMOVE":
			into = &remove
		default:
			if i == 0 {
				return nil, nil, argumentError("PLAN", "ADD and addresses, REMOVE and addresses, or both")
			}
			*into = append(*into, w)
		}
	}
	if len(add)+len(remove) == 0 {
		return nil, nil, argumentError("PLAN", "at least one address after ADD or REMOVE")
	}
	return add, remove, checkAddresses(append(add[:len(add):len(add)], remove...))
}
