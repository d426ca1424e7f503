package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// defaultServer is where tools look when nobody says otherwise.
const defaultServer = "127.0.0.1:7400"

// connection is what the tools that talk to a cluster have in common.
type connection struct {
	servers string
	token   tokenFile
	timeout time.Duration
	json    bool
}

// addTo gives a command the flags of a connection.
func (o *connection) addTo(c *cobra.Command) {
	c.Flags().StringVarP(&o.servers, "servers", "s", fromEnvironment("QUOIT_SERVERS", defaultServer),
		"any nodes, or the manager, separated by commas; default from QUOIT_SERVERS")
	o.token.addTo(c.Flags())
	c.Flags().DurationVar(&o.timeout, "timeout", 10*time.Second, "how long one call may take, retries included")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	_ = c.RegisterFlagCompletionFunc("servers", cobra.NoFileCompletions) // the flag is there: see above
}

// fromEnvironment is a flag's default that the environment may change.
func fromEnvironment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// addresses are the servers, each checked.
func (o *connection) addresses() ([]string, error) {
	if o.timeout <= 0 {
		return nil, usageError("--timeout takes more than %s", o.timeout)
	}
	var all []string
	for _, a := range strings.Split(o.servers, ",") {
		if a = strings.TrimSpace(a); a == "" {
			continue
		}
		if err := ring.ValidateAddress(a); err != nil {
			return nil, usageError("--servers (or QUOIT_SERVERS): %v", err)
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return nil, usageError("--servers (or QUOIT_SERVERS) names nobody: want addresses such as %s", defaultServer)
	}
	return all, nil
}

// open connects to the cluster.
func (o *connection) open(ctx context.Context, opts ...client.Option) (*client.Client, error) {
	servers, err := o.addresses()
	if err != nil {
		return nil, err
	}
	who, err := o.token.credentials()
	if err != nil {
		return nil, err
	}
	proofs, err := who.options()
	if err != nil {
		return nil, err
	}
	ctx, cancel := o.limited(ctx)
	defer cancel()
	if err := who.anyoneThere(ctx, servers); err != nil {
		return nil, err
	}
	c, err := client.Open(ctx, servers, append(append(opts, proofs...), client.WithRetryBudget(o.timeout))...)
	if err != nil {
		var refused *client.ServerError
		var foreign *protocol.Error
		if errors.As(err, &refused) || errors.As(err, &foreign) { // so somebody does
			return nil, err
		}
		return nil, fmt.Errorf("no cluster answers at %s: %w", strings.Join(servers, ", "), err)
	}
	return c, nil
}

// anyoneThere returns at once when somebody listens at one of the addresses, and
// at once when nobody does, or nobody who could be believed: a client would try again and
// again.
func (c *credentials) anyoneThere(ctx context.Context, addresses []string) error {
	dial, err := c.dialer()
	if err != nil {
		return err
	}
	found := make(chan error, len(addresses))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, a := range addresses {
		go func() {
			nc, err := dial(ctx, a)
			if err == nil {
				err = nc.Close()
			}
			found <- err
		}()
	}
	var all []string
	var handshake *tlsconf.HandshakeError
	for range addresses {
		err := <-found
		if err == nil || errors.As(err, &handshake) && !handshake.Final() {
			return nil
		}
		all = append(all, reason(err))
	}
	where, hint := strings.Join(addresses, ", "), "start a cluster with quoit up, or say where one is with --servers"
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("nobody answers at %s: %w; %s", where, ctx.Err(), hint)
	case handshake != nil:
		return handshake
	}
	return fmt.Errorf("nobody listens at %s (%s); %s", where, strings.Join(all, ", "), hint)
}

// reason is the last word of an error of the net package.
func reason(err error) string {
	var name *net.DNSError
	if errors.As(err, &name) {
		return name.Err
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// with opens the cluster, hands it over, and closes it.
func (o *connection) with(ctx context.Context, do func(context.Context, *client.Client) error) error {
	c, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return do(ctx, c)
}

// limited bounds one call.
func (o *connection) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, o.timeout)
}

// once opens the cluster for one call.
func (o *connection) once(ctx context.Context, do func(context.Context, *client.Client) error) error {
	return o.with(ctx, func(ctx context.Context, db *client.Client) error {
		ctx, cancel := o.limited(ctx)
		defer cancel()
		return do(ctx, db)
	})
}
