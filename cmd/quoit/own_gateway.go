package main

import (
	"context"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/node"
)

// ownGateway makes the gateways of nodes that have one of their own. The settings are
// those of gateways.
func ownGateway(c gateway.Config, version string) func(context.Context, node.GatewayHost) (node.Gateway, error) {
	return func(ctx context.Context, h node.GatewayHost) (node.Gateway, error) {
		c := c
		c.ManagerAddr = h.Manager
		own := gateway.Own{Address: h.Address, Dial: h.Dial, URL: h.URL, At: h.Listener.Addr()}
		g, err := gateway.Start(ctx, c.ForNode(own), gateway.Seams{Listener: h.Listener, Logger: h.Logger, Version: version})
		if err != nil {
			return nil, err
		}
		return g, nil
	}
}
