package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/web"
)

// server is what `quoit node`, `quoit manager` or `quoit gateway` runs: it takes its settings from an
// environment, logs, and serves until ctx ends.
type server struct {
	name, short, long string
	table             func(io.Writer) error // prints the settings
	serve             func(ctx context.Context, environ map[string]string, log io.Writer) error
}

func nodeServer() server {
	return server{
		name: "node", short: "Run one storage node",
		long:  "A node keeps the keys of its part of the ring in memory and in its log. With\nQUOIT_NODE_GATEWAY_ADDR it lets browsers in to itself, as `quoit gateway` does to all\nnodes, and the settings of that hold too (quoit gateway --help).\nIt takes no flags: everything is an environment variable.",
		table: node.WriteConfigTable,
		serve: func(ctx context.Context, environ map[string]string, log io.Writer) error {
			c, err := node.LoadConfig(environ)
			points, wrong := failpoint.Parse(environ[failpoint.Variable])
			var g gateway.Config
			if err == nil && c.GatewayAddr != "" {
				g, err = gateway.LoadConfigForNode(environ)
			}
			if err := errors.Join(err, wrong); err != nil {
				return settingsError(err)
			}
			version := versionOf(debug.ReadBuildInfo()).Version
			logger := newLogger(log, c.LogLevel)
			return node.Run(ctx, c, node.Seams{
				Logger: logger, FS: diskOf(environ, logger), Points: telling(points, logger), Version: version,
				OwnProcess: true, NewGateway: ownGateway(g, version), GatewayTLS: g.Public.Enabled(),
			})
		},
	}
}

func managerServer() server {
	return server{
		name: "manager", short: "Run the manager",
		long:  "The manager keeps the topology, adds and removes nodes, and has ranges moved.\nIt takes no flags: everything is an environment variable.",
		table: manager.WriteConfigTable,
		serve: func(ctx context.Context, environ map[string]string, log io.Writer) error {
			c, err := manager.LoadConfig(environ)
			points, wrong := failpoint.Parse(environ[failpoint.Variable])
			if err := errors.Join(err, wrong); err != nil {
				return settingsError(err)
			}
			logger := newLogger(log, c.LogLevel)
			holdHeap()
			return manager.Run(ctx, c, manager.Seams{Logger: logger, Points: telling(points, logger)})
		},
	}
}

func gatewayServer() server {
	return server{
		name: "gateway", short: "Run a gateway for browsers and stock Redis clients",
		long:  "A gateway lets web pages in over WebSocket, and Redis clients that cannot route over TCP.\nIt takes no flags: everything is an environment variable.",
		table: gateway.WriteConfigTable,
		serve: func(ctx context.Context, environ map[string]string, log io.Writer) error {
			c, err := gateway.LoadConfig(environ)
			if err != nil {
				return settingsError(err)
			}
			holdHeap()
			site := web.New()
			err = gateway.Run(ctx, c, gateway.Seams{Logger: newLogger(log, c.LogLevel), Version: versionOf(debug.ReadBuildInfo()).Version, Assets: site})
			return errors.Join(err, site.Close())
		},
	}
}

// faultFired is what a server logs of each fault that it was told to suffer.
const faultFired = "an injected fault fired"

// telling is points that log what they do.
func telling(points *failpoint.Set, log *slog.Logger) *failpoint.Set {
	points.Fired(func(name string) { log.Warn(faultFired, "fault", name) })
	return points
}

// diskOf is the operating system's, in tests one that can be ordered to be ill.
func diskOf(environ map[string]string, log *slog.Logger) vfs.FS {
	orders := environ[vfs.AilingVariable]
	if orders == "" {
		return vfs.OS()
	}
	return vfs.Ailing(vfs.OS(), orders, func(order string) { log.Warn(faultFired, "fault", "disk "+order) })
}

// holdHeap keeps the Go heap of a process without data of its own within 80 % of what
// the container or the machine has, unless GOMEMLIMIT says otherwise: it is collected
// harder before the system ends it. Not knowing what there is leaves the heap free.
func holdHeap() {
	_, _ = memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.8), memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
}

func newNode() *cobra.Command    { return nodeServer().command() }
func newManager() *cobra.Command { return managerServer().command() }
func newGateway() *cobra.Command { return gatewayServer().command() }

// command takes all settings from the environment, and its --help prints them.
func (s server) command() *cobra.Command {
	var settings bytes.Buffer
	if err := s.table(&settings); err != nil {
		settings.WriteString(err.Error())
	}
	return &cobra.Command{
		Use: s.name, Short: s.short,
		Long: s.long + "\n\nSettings:\n" + strings.TrimRight(settings.String(), "\n"),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("%s takes no arguments: it is configured by environment variables; see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.serve(c.Context(), config.Environ(os.Environ()), c.ErrOrStderr())
		},
	}
}

// newLogger logs text for a person, JSON for a machine.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: durationsInWords}
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// durationsInWords writes 882µs where JSON would have 882000.
func durationsInWords(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().Round(time.Microsecond).String())
	}
	return a
}

func newHealthcheck() *cobra.Command {
	var timeout time.Duration
	var ready, asJSON bool
	c := &cobra.Command{
		Use:   "healthcheck [ADDRESS]",
		Short: "Ask a server's admin listener whether it is well; for container health checks",
		Long: `Asks the admin listener of the server that this environment configures (or of
ADDRESS) for /healthz, or /readyz with --ready. Exit code 0 means yes.`,
		Args:              arguments(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			address, err := adminAddress(config.Environ(os.Environ()))
			if len(args) == 1 {
				address, err = args[0], nil
			}
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			answer, err := askHealth(c.Context(), address, path, timeout)
			if asJSON {
				h := health{Address: address, Asked: path, OK: err == nil, Answer: answer}
				if err != nil {
					h.Answer = err.Error()
				}
				return errors.Join(err, printJSON(c.OutOrStdout(), h))
			}
			if err == nil {
				_, err = fmt.Fprintln(c.OutOrStdout(), address+path+": "+answer)
			}
			return err
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Second, "how long to wait for the answer")
	c.Flags().BoolVar(&ready, "ready", false, "ask whether it takes traffic, not only whether it lives")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return c
}

// health is an answer as JSON.
type health struct {
	Address string `json:"address"`
	Asked   string `json:"asked"`
	OK      bool   `json:"ok"`
	Answer  string `json:"answer"`
}

// adminAddress is where the server of this environment has its admin listener: a
// node or a gateway if one is configured, else the manager.
func adminAddress(environ map[string]string) (string, error) {
	name, otherwise := "MANAGER", manager.DefaultConfig().Addr
	if environ["QUOIT_NODE_DATA"] != "" {
		name, otherwise = "NODE", node.DefaultConfig().Addr
	} else if environ["QUOIT_GATEWAY_ADDR"] != "" || environ["QUOIT_GATEWAY_ADMIN_ADDR"] != "" {
		name, otherwise = "GATEWAY", gateway.DefaultConfig().Addr
	}
	admin := environ["QUOIT_"+name+"_ADMIN_ADDR"]
	if admin == config.Off {
		return "", usageError("QUOIT_%s_ADMIN_ADDR=off: this server has no admin listener to ask", name)
	}
	addr := environ["QUOIT_"+name+"_ADDR"]
	if addr == "" {
		addr = otherwise
	}
	if admin == "" && !config.Listenable(addr) {
		return "", usageError("QUOIT_%s_ADDR=%q: want host:port", name, addr)
	}
	return config.AdminAddr(admin, addr), nil
}

// askHealth returns the answer of a server that is well.
func askHealth(ctx context.Context, address, path string, timeout time.Duration) (answer string, err error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", usageError("%q is no address: want host:port", address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", usageError("%q is no address: want host:port", address)
	}
	asker := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := asker.Do(req)
	if err != nil {
		return "", fmt.Errorf("no admin listener answers at %s (%s)", address, reason(err))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s%s: %s", address, path, text)
	}
	return text, nil
}
