package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// placed is where a key lies.
type placed struct {
	keyName
	Position ring.Position `json:"position"`
	Owner    string        `json:"owner,omitempty"`
}

func newHash() *cobra.Command {
	var o connection
	var nodes string
	c := &cobra.Command{
		Use:   "hash KEY...",
		Short: "Show where keys lie on the ring and which node owns them",
		Long: `Prints each key's position (0 to 4294967295) and its owner. The owner comes from
the running cluster, or from --nodes, which needs none; when no cluster answers
and nobody asked for one, only the position is printed.`,
		Example: "  quoit hash user:1 user:2\n  quoit hash --nodes 10.0.0.1:7401,10.0.0.2:7401 user:1",
		Args:    arguments(1, -1),
		RunE: func(c *cobra.Command, keys []string) error {
			owner, err := ownerOf(c, &o, nodes)
			if err != nil {
				return err
			}
			all := make([]placed, len(keys))
			for i, k := range keys {
				p := ring.PositionOfString(k)
				all[i] = placed{keyName: newKeyName(k), Position: p, Owner: owner(p)}
			}
			if o.json {
				return printJSON(c.OutOrStdout(), all)
			}
			printPlaced(c, keys, all)
			return nil
		},
		ValidArgsFunction: o.completeKeys(-1),
	}
	o.addTo(c)
	c.Flags().StringVar(&nodes, "nodes", "", "work out the owner for these nodes, separated by commas, instead of asking a cluster")
	return c
}

// ownerOf returns the function from position to owner: of the nodes given, of the
// cluster if one answers, of nobody if none does and none was asked for.
func ownerOf(c *cobra.Command, o *connection, nodes string) (func(ring.Position) string, error) {
	if nodes != "" {
		var list []ring.Node
		for _, a := range strings.Split(nodes, ",") {
			list = append(list, ring.Node{Address: strings.TrimSpace(a), Tokens: ring.DefaultTokens})
		}
		m, err := ring.NewMap(list)
		if err != nil {
			return nil, usageError("--nodes: %v", err)
		}
		return m.Owner, nil
	}
	var m *ring.Map
	err := o.with(c.Context(), func(_ context.Context, db *client.Client) (err error) {
		t := db.Topology()
		m, err = t.Map()
		return err
	})
	if err == nil {
		return m.Owner, nil
	}
	if c.Flags().Changed("servers") || o.servers != defaultServer {
		return nil, err
	}
	return func(ring.Position) string { return "" }, nil
}

func printPlaced(c *cobra.Command, keys []string, all []placed) {
	t := newTable("KEY", ">POSITION", "OWNER")
	for i, p := range all {
		owner := p.Owner
		if owner == "" {
			owner = "(no cluster at " + defaultServer + ")"
		}
		t.add(visible(keys[i]), p.Position.String(), owner)
	}
	t.write(c.OutOrStdout(), "")
}
