package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
)

// completionTime is how long a person is kept waiting for suggestions. Tests wait longer.
var completionTime = time.Second

// completionKeys is how many keys are suggested.
const completionKeys = 100

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeKeys suggests keys of the running cluster for the first most arguments;
// most < 0 is for all of them. Without a cluster it suggests nothing.
func (o *connection) completeKeys(most int) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(contextOf(c), completionTime)
		defer cancel()
		var keys []string
		_ = o.with(ctx, func(ctx context.Context, db *client.Client) error {
			for entry, err := range db.Scan(ctx, client.ScanOptions{Prefix: begun}) {
				if err != nil || len(keys) == completionKeys {
					break
				}
				if visible(entry.Key) == entry.Key && !slices.Contains(args, entry.Key) {
					keys = append(keys, entry.Key)
				}
			}
			return nil
		})
		slices.Sort(keys)
		return keys, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNodes suggests nodes of the cluster in one of these states.
func (o *operator) completeNodes(states ...cluster.State) completion {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(contextOf(c), completionTime)
		defer cancel()
		var nodes []string
		_ = o.with(ctx, func(m *manager.Control) error {
			s, err := m.Status()
			for _, n := range s.Nodes {
				if slices.Contains(states, n.State) && strings.HasPrefix(n.Address, begun) && !slices.Contains(args, n.Address) {
					nodes = append(nodes, n.Address)
				}
			}
			return err
		})
		return nodes, cobra.ShellCompDirectiveNoFileComp
	}
}

// contextOf is the context of a command, also while it completes.
func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
