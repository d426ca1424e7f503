package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/web"
)

// mostNodes bounds a cluster in one process.
const mostNodes = 64

// upFlags are what quoit up can be told.
type upFlags struct {
	nodes   int
	dir     string
	port    int
	verbose bool
	json    bool
	noOpen  bool
	secure  bool

	proofs proofs // that tools need, once the settings are known
}

func newUp() *cobra.Command {
	var o upFlags
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster on this machine, all in one process",
		Long: `Starts a manager, nodes and a gateway on loopback ports, with their data and an
embedded bucket in one folder, and runs until interrupted. A second start on the same
folder goes on where the first stopped, with all the nodes that it had.

Node, manager and gateway settings (quoit node --help) apply, such as QUOIT_FSYNC, but for
addresses and folders: up chooses those. With --secure the cluster speaks TLS and asks for
tokens; what that takes is made in the folder secrets beside the data, and what is said
when it is up has the commands to use it with. A cluster that was secured stays so.

On a desktop it opens the console, a page that shows the cluster, unless its output goes
to a file, the session is remote, or --no-open is given.`,
		Example: "  quoit up\n  quoit up --nodes 5 --data ./cluster\n  quoit up --secure                # TLS and tokens\n  quoit up --port 0                # on ports that are free",
		Args:    arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			options, door, err := o.options(c)
			if err != nil {
				return err
			}
			return o.up(c, options, door)
		},
	}
	c.Flags().IntVarP(&o.nodes, "nodes", "n", 3, "how many nodes; a folder that has more starts all it has")
	c.Flags().StringVar(&o.dir, "data", stateDir(config.Environ(os.Environ())), "folder of the cluster")
	c.Flags().IntVar(&o.port, "port", local.DefaultPort, "port of the manager, the nodes have the ones after it, the gateway those 79 and 80 above; 0 is any that are free")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show what the servers log")
	c.Flags().BoolVar(&o.json, "json", false, "when it is up, print where as one line of JSON")
	c.Flags().BoolVar(&o.noOpen, "no-open", false, "do not open the console in the browser")
	c.Flags().BoolVar(&o.secure, "secure", false, "speak TLS and ask for tokens, with secrets that it makes itself")
	_ = c.MarkFlagDirname("data") // the flag is there: see above
	return c
}

// options checks everything that can be wrong before anything starts.
func (o *upFlags) options(c *cobra.Command) (local.Options, gateway.Config, error) {
	var none local.Options
	var door gateway.Config
	if o.nodes < 1 || o.nodes > mostNodes {
		return none, door, usageError("--nodes takes 1 to %d, not %d", mostNodes, o.nodes)
	}
	if most := 65535 - adminOffset - max(o.nodes, gatewayOffset); o.port < 0 || o.port > most {
		return none, door, usageError("--port takes 0 to %d, not %d: the nodes, the gateway and the admin listeners have the ports after it", most, o.port)
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return none, door, err
	}
	if err := ownFolder(dir); err != nil {
		return none, door, err
	}
	environ := config.Environ(os.Environ())
	secrets, own, err := o.ownSecrets(dir)
	if err != nil {
		return none, door, err
	}
	if own {
		secrets.into(environ)
	}
	n, m, door, ignored, err := upSettings(environ)
	if err != nil {
		return none, door, settingsError(err)
	}
	o.proofs = proofsFor(&n, &door, secrets, own)
	if len(ignored) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "note: quoit up chooses addresses and folders itself; ignored: %s\n", strings.Join(ignored, ", "))
	}
	level := slog.LevelWarn
	if o.verbose || environ["QUOIT_LOG_LEVEL"] != "" {
		level = n.LogLevel
	}
	port := o.port
	if port == 0 {
		port = -1 // local's word for any
	}
	door.Addr, door.RedisAddr = loopbackPort(o.port, gatewayOffset), loopbackPort(o.port, gatewayOffset-1)
	return local.Options{
		Dir: dir, Nodes: o.nodes, Port: port, Node: &n, Manager: &m, Admin: true,
		Logger: newLogger(c.ErrOrStderr(), level), Version: versionOf(debug.ReadBuildInfo()).Version,
	}, door, nil
}

// ownSecrets finds out whether the cluster has secrets of its own, and makes them where
// they are asked for.
func (o *upFlags) ownSecrets(dir string) (s ownSecrets, own bool, err error) {
	s = secretsIn(dir)
	own, err = s.there()
	if err == nil && !own && o.secure {
		own, err = true, s.create()
	}
	if err != nil {
		return s, false, fmt.Errorf("the cluster's secrets: %w", err)
	}
	return s, own, nil
}

// adminOffset is how far above a server's port its admin listener is.
const adminOffset = 100

// gatewayOffset is how far above the manager's port the gateway is, and above each
// node's that of its own; the Redis door is one below the first.
const gatewayOffset = 80

// loopbackPort is a port so far above base, or any where base is 0.
func loopbackPort(base, above int) string {
	if base == 0 {
		return "127.0.0.1:0"
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(base+above))
}

// upSettings are the settings of this environment, without those that up decides by
// itself, and the names of the ones that it therefore ignores.
func upSettings(environ map[string]string) (n node.Config, m manager.Config, g gateway.Config, ignored []string, err error) {
	own := []string{
		"QUOIT_BUCKET", "QUOIT_MANAGER_ADDR", "QUOIT_MANAGER_ADMIN_ADDR", "QUOIT_MANAGER_INITIAL_NODES", "QUOIT_MANAGER_JOIN",
		"QUOIT_NODE_ADDR", "QUOIT_NODE_ADMIN_ADDR", "QUOIT_NODE_ADVERTISE", "QUOIT_NODE_DATA", "QUOIT_NODE_GATEWAY_ADDR", "QUOIT_NODE_GATEWAY_URL",
		"QUOIT_GATEWAY_ADDR", "QUOIT_GATEWAY_REDIS_ADDR", "QUOIT_GATEWAY_ADMIN_ADDR", "QUOIT_GATEWAY_SEEDS",
	}
	rest := map[string]string{"QUOIT_NODE_DATA": "up", "QUOIT_BUCKET": "up"} // required, and filled in later
	for name, value := range environ {
		if !slices.Contains(own, name) {
			rest[name] = value
		} else if value != "" {
			ignored = append(ignored, name)
		}
	}
	slices.Sort(ignored)
	n, wrongNode := node.LoadConfig(rest)
	m, wrongManager := manager.LoadConfig(rest)
	g, wrongGateway := gateway.LoadConfig(rest)
	for _, wrong := range []error{wrongNode, wrongManager} { // all name what all have
		if wrong != nil {
			return n, m, g, ignored, wrong
		}
	}
	return n, m, g, ignored, wrongGateway
}

// stateDir is the folder of this project in the user's state folder.
func stateDir(environ map[string]string) string {
	if dir := environ["XDG_STATE_HOME"]; filepath.IsAbs(dir) { // others are to be ignored, says the specification
		return filepath.Join(dir, "quoit")
	}
	if home := environ["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "quoit")
	}
	return filepath.Join(os.TempDir(), "quoit")
}

// ownFolder makes sure that a folder is a cluster's, or nobody's.
func ownFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the cluster's folder: %w", err)
	}
	for _, e := range entries {
		if (e.Name() == "bucket" || e.Name() == "secrets") && e.IsDir() {
			return nil
		}
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s has something else in it (%s): give quoit up a folder of its own with --data", dir, entries[0].Name())
	}
	return nil
}

// welcome is what up tells when it is up.
type welcome struct {
	Manager string   `json:"manager"`
	Nodes   []string `json:"nodes"`
	Gateway string   `json:"gateway"`           // HTTP and WebSocket
	Console string   `json:"console,omitempty"` // its page for people
	Redis   string   `json:"redis"`             // the gateway's Redis door
	Data    string   `json:"data"`
	Seconds float64  `json:"seconds"`
	proofs
	asked  int    // nodes that were asked for
	chosen bool   // by a person
	before int    // nodes that the folder had
	scheme string // of the gateway's URL
}

func (o *upFlags) up(c *cobra.Command, options local.Options, door gateway.Config) (err error) {
	ctx, w := c.Context(), c.OutOrStdout()
	began := time.Now()
	before, _ := os.ReadDir(filepath.Join(options.Dir, "nodes")) // a new folder has none
	listener, err := o.firstListener(door.Addr)
	if err != nil {
		return err
	}
	pages := door // of the nodes' own gateways: that is where their pages come from
	if listener != nil {
		defer func() { _ = listener.Close() }() // a second time, once the gateway has it
		pages.Addr = listener.Addr().String()
	}
	options.Gateway, options.GatewayOffset, options.GatewayTLS = ownGateway(pages, options.Version), gatewayOffset, door.Public.Enabled()
	running, err := local.Start(ctx, options)
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before it was up: that is no failure
		}
		return explainPorts(err, options, o.port)
	}
	defer func() {
		err = errors.Join(err, running.Close(context.WithoutCancel(ctx)))
	}()
	site := web.New()
	defer func() { err = errors.Join(err, site.Close()) }()
	front, err := openDoor(ctx, door, listener, running.Manager(), options, site)
	if err != nil {
		return explainPorts(err, options, o.port)
	}
	defer func() {
		if !o.json {
			fmt.Fprintln(w, "\nstopping: finishing what is under way")
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), door.Times.Drain)
		defer cancel()
		err = errors.Join(err, front.Shutdown(late))
	}()
	hello := welcome{
		Manager: running.Manager(), Nodes: running.Addresses(), Gateway: front.Addr(), Redis: front.RedisAddr(), Data: options.Dir, Seconds: time.Since(began).Seconds(),
		asked: o.nodes, chosen: c.Flags().Changed("nodes"), before: len(before),
		proofs: o.proofs, scheme: "http",
	}
	if door.Public.Enabled() {
		hello.scheme = "https"
	}
	if door.Console != gateway.ConsoleOff {
		hello.Console = hello.scheme + "://" + front.Addr() + "/"
	}
	if o.json {
		err = printLine(w, hello)
	} else {
		err = hello.print(w)
	}
	if err != nil {
		return err
	}
	if hello.Console != "" && !o.json && !o.noOpen && isTerminal(w) && browse(ctx, config.Environ(os.Environ()), hello.Console) {
		fmt.Fprintln(w, "\nThe console opens in the browser (--no-open: it does not).")
	}
	return waitBoth(ctx, running, front)
}

// firstListener opens the gateway's listener before the nodes start, where its port is
// not known otherwise: nodes let the pages of that port in to their own gateways.
func (o *upFlags) firstListener(addr string) (net.Listener, error) {
	if o.port != 0 {
		return nil, nil //nolint:nilnil // the gateway opens it, when all else could be
	}
	return net.Listen("tcp", addr)
}

// openDoor starts the gateway in front of a cluster that serves.
func openDoor(ctx context.Context, c gateway.Config, l net.Listener, manager string, options local.Options, site fs.FS) (*gateway.Gateway, error) {
	c.ManagerAddr = manager
	g, err := gateway.Start(ctx, c, gateway.Seams{Listener: l, Logger: options.Logger.With("server", "gateway"), Version: options.Version, Assets: site})
	if err != nil {
		return nil, err
	}
	if err := g.WaitReady(ctx); err != nil && ctx.Err() == nil {
		return nil, errors.Join(err, g.Shutdown(ctx))
	}
	return g, nil
}

// waitBoth returns when ctx ends, or one of the two must not go on.
func waitBoth(ctx context.Context, cluster *local.Cluster, door *gateway.Gateway) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		failed <- door.Wait(ctx)
	}()
	err := cluster.Wait(ctx)
	cancel()
	return errors.Join(err, <-failed)
}

// explainPorts says what to do about a port that is taken.
func explainPorts(err error, options local.Options, port int) error {
	var taken *net.OpError
	if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &taken) || taken.Addr == nil {
		return err
	}
	address := taken.Addr.String()
	if _, own := os.Stat(filepath.Join(options.Dir, "nodes", strings.ReplaceAll(address, ":", "-"))); own == nil {
		return fmt.Errorf("%s is taken, and a node in %s has that address: stop what listens there", address, options.Dir)
	}
	advice := "--port 0 takes ports that are free"
	if free, ok := freeBlock(port, options.Nodes); ok {
		advice = fmt.Sprintf("quoit up --port %d --data ANOTHER-FOLDER starts one more", free)
	}
	return fmt.Errorf("%s is taken: if a cluster is running already (quoit cluster status), use that one; else %s", address, advice)
}

// freeBlock finds ports for a manager, nodes, a gateway, and their admin listeners.
func freeBlock(port, nodes int) (int, bool) {
	const step, tries = 1000, 10
	for p := port + step; p <= port+step*tries && p+adminOffset+max(nodes, gatewayOffset) <= 65535; p += step {
		if free(p, nodes+1) && free(p+adminOffset, nodes+1) && free(p+gatewayOffset-1, 2) && free(p+gatewayOffset+adminOffset, 1) {
			return p, true
		}
	}
	return 0, false
}

func free(port, n int) bool {
	for p := port; p < port+n; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

func (h welcome) print(w io.Writer) error {
	server, managerFlag := "", ""
	if h.Manager != defaultServer {
		server, managerFlag = " -s "+h.Manager, " -m "+h.Manager
	}
	_, port, _ := strings.Cut(h.Redis, ":")
	_, err := fmt.Fprintf(w, `quoit is up in %s: %s, data in %s
%s
  manager     %s
  nodes       %s
  gateway     %s://%s
  redis door  %s

%s%s  quoit       quoit put%s greeting hello && quoit get%s greeting
  redis-cli   %sredis-cli -p %s
  Go          %s
  look        quoit cluster status%s --watch
%s
Ctrl-C stops it; the data stays.
`, span(time.Duration(h.Seconds*float64(time.Second))), plural(len(h.Nodes), "node"), h.Data, h.remark(),
		h.Manager, strings.Join(h.Nodes, "  "), h.scheme, h.Gateway, h.Redis, h.first(), h.page(), server, server, h.redis(), port, h.open(h.Manager), managerFlag, h.more())
	return err
}

// page is the line about the console.
func (h welcome) page() string {
	if h.Console == "" {
		return ""
	}
	return "  browser     " + h.Console + h.proofs.page() + "\n"
}

// remark says what is not as it was asked for, or not at once.
func (h welcome) remark() string {
	switch {
	case h.chosen && len(h.Nodes) > h.asked:
		return fmt.Sprintf("The folder has %s, and all of them are needed: quoit cluster remove takes one out of the ring.\n", plural(len(h.Nodes), "node"))
	case h.before > 0 && len(h.Nodes) > h.before:
		return fmt.Sprintf("It goes on where it was stopped; %s new and being given a share.\n", isAre(len(h.Nodes)-h.before))
	case h.before > 0:
		return "It goes on where it was stopped.\n"
	}
	return ""
}

func isAre(n int) string {
	if n == 1 {
		return "1 node is"
	}
	return plural(n, "node") + " are"
}
