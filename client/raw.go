package client

import (
	"context"
	"errors"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

var errNoCommand = errors.New("client: no command given")

// Do sends any command to the owner of key and returns its reply. args is the
// command, its name first, and key again where the command takes it. All keys
// in it must have the same owner. An error reply is returned as a *ServerError,
// or *VersionError.
func (c *Client) Do(ctx context.Context, key string, args ...string) (protocol.Reply, error) {
	return c.raw(ctx, query{position: ring.PositionOfString(key), key: key}, args)
}

// DoNode sends any command to one node, or to a seed. Redirects are not
// followed: a MOVED reply is an error like any other.
func (c *Client) DoNode(ctx context.Context, address string, args ...string) (protocol.Reply, error) {
	n := c.reach(address)
	if n == nil {
		return protocol.Reply{}, &UnknownNodeError{Address: address}
	}
	return c.raw(ctx, query{fixed: n}, args)
}

func (c *Client) raw(ctx context.Context, q query, args []string) (protocol.Reply, error) {
	if len(args) == 0 {
		return protocol.Reply{}, errNoCommand
	}
	q.call = c.env.newCall()
	q.call.begin(args[0], len(args))
	for _, arg := range args[1:] {
		q.call.word(arg)
	}
	q.harmless, q.command = harmless(args[0]), args[0]
	if err := c.trip(ctx, q); err != nil {
		return protocol.Reply{}, err
	}
	defer q.call.release()
	return restore(q.call.reply), nil
}

// harmless says that a command may be sent twice. One that is not known may not.
func harmless(name string) bool {
	cmd, known := protocol.Lookup([]byte(name))
	return known && cmd.Spec().Flags&(protocol.Write|protocol.Cluster|protocol.Admin) == 0
}

// UnknownNodeError means that an address is neither a member of the cluster nor
// a seed, and therefore is not dialled.
type UnknownNodeError struct{ Address string }

// Error names the address.
func (e *UnknownNodeError) Error() string {
	return "client: " + e.Address + " is neither a member of the cluster nor a seed"
}

// Ping measures how long a node, or a seed, takes to answer.
func (c *Client) Ping(ctx context.Context, address string) (time.Duration, error) {
	start := time.Now()
	_, err := c.DoNode(ctx, address, "PING")
	return time.Since(start), err
}

// Info returns what a node, or a seed, says about itself: lines of "name:value".
func (c *Client) Info(ctx context.Context, address string) (string, error) {
	r, err := c.DoNode(ctx, address, "INFO")
	if err != nil {
		return "", err
	}
	if r.Kind != '$' || r.Null {
		return "", &ReplyError{Node: address, Command: "INFO"}
	}
	return string(r.Bytes), nil
}
