package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// Control is the other side of the CLUSTER commands: what an operator's tool
// holds. One goroutine at a time.
//
// A refusal of the manager comes back as a [*protocol.Error]: nothing was done. After
// any other error of a command that changes something it may have been done or not.
type Control struct {
	conn *peer.Conn
}

// Dial connects to a manager that asks nobody who they are; timeout bounds each command.
func Dial(ctx context.Context, address string, timeout time.Duration) (*Control, error) {
	return DialBy(ctx, peer.TCP, address, timeout)
}

// DialBy is Dial by a dialer that has proved who it is.
func DialBy(ctx context.Context, dial peer.Dialer, address string, timeout time.Duration) (*Control, error) {
	c, err := peer.Dial(ctx, dial, address, timeout)
	if err != nil {
		return nil, fmt.Errorf("no manager answers at %s: %w", address, err)
	}
	return &Control{conn: c}, nil
}

// Close hangs up.
func (c *Control) Close() error { return c.conn.Close() }

// Status returns the cluster as the manager sees it.
func (c *Control) Status() (Status, error) {
	var s Status
	return s, c.ask(&s, "STATUS")
}

// Plan returns what adding and removing nodes would do, without doing it.
func (c *Control) Plan(add, remove []string) (Plan, error) {
	words := append([]string{"PLAN", "ADD"}, add...)
	words = append(append(words, "REMOVE"), remove...)
	var p Plan
	return p, c.ask(&p, words...)
}

// Add lets registered nodes into the ring. The moves go on after it returns.
func (c *Control) Add(addresses ...string) error {
	return c.do(append([]string{"ADD"}, addresses...)...)
}

// Remove has nodes hand over everything and leave. The moves go on after it returns.
func (c *Control) Remove(addresses ...string) error {
	return c.do(append([]string{"REMOVE"}, addresses...)...)
}

// Forget gives up on a node that is dead, and accepts the loss of what only it had.
// One that was heard of lately is refused.
func (c *Control) Forget(address string) error { return c.do("FORGET", address) }

// Abort starts a move that is not committed again from the beginning.
func (c *Control) Abort(move string) error { return c.do("ABORT", move) }

// Pause has no further move start; Resume ends that.
func (c *Control) Pause() error { return c.do("PAUSE") }

// Resume lets moves start again.
func (c *Control) Resume() error { return c.do("RESUME") }

// Throttle bounds the bytes each second that one source sends, 0 for no bound.
func (c *Control) Throttle(bytesPerSecond int64) error {
	return c.do("THROTTLE", strconv.FormatInt(bytesPerSecond, 10))
}

func (c *Control) do(words ...string) error {
	_, err := c.conn.DoStrings(protocol.CmdCluster.String(), words...)
	if err != nil && !peer.Refused(err) {
		return fmt.Errorf("the manager has not answered CLUSTER %s: it may have done it or not, so look at the status before you repeat it: %w", words[0], err)
	}
	return err
}

func (c *Control) ask(into any, words ...string) error {
	r, err := c.conn.DoStrings(protocol.CmdCluster.String(), words...)
	if err != nil {
		return fmt.Errorf("ask the manager: %w", err)
	}
	if err := json.Unmarshal(r.Bytes, into); err != nil {
		return fmt.Errorf("the manager's answer to CLUSTER %s: %w", words[0], err)
	}
	return nil
}
