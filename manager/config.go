package manager

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
)

// Config is a manager's settings. LoadConfig fills it from the environment; a
// program that makes one itself starts from DefaultConfig.
type Config struct {
	Addr       string      `env:"QUOIT_MANAGER_ADDR" envDefault:"127.0.0.1:7400" help:"address to listen on" want:"host:port, such as 127.0.0.1:7400"`
	AdminAddr  string      `env:"QUOIT_MANAGER_ADMIN_ADDR" help:"health, metrics and, over loopback alone, profiles; loopback with the port one hundred above if empty, off for none" want:"host:port or off"`
	AdminHosts config.List `env:"QUOIT_ADMIN_HOSTS" help:"names under which the admin listener is reached (the Host of a request), parted by commas, beside IP addresses, localhost and names without a dot" want:"node-1.example.org,node-2.example.org"`
	Bucket     string      `env:"QUOIT_BUCKET" help:"the cluster's bucket; required" want:"the bucket of the cluster, such as file:///var/lib/quoit/bucket"`

	InitialNodes int           `env:"QUOIT_MANAGER_INITIAL_NODES" envDefault:"1" help:"a new cluster forms when this many nodes have registered"`
	Join         JoinMode      `env:"QUOIT_MANAGER_JOIN" envDefault:"manual" help:"a node that registers later joins the ring by quoit cluster add (manual) or at once (auto)" want:"manual or auto"`
	MovesPerNode int           `env:"QUOIT_MANAGER_MOVES_PER_NODE" envDefault:"2" help:"ranges that leave one node at the same time"`
	NodeTimeout  time.Duration `env:"QUOIT_MANAGER_NODE_TIMEOUT" envDefault:"5s" help:"a node that has been silent for this long is shown as down, and no move to it starts"`
	Poll         time.Duration `env:"QUOIT_MANAGER_POLL" envDefault:"1s" help:"how often the document is read and unfinished work looked at again"`
	Connections  int           `env:"QUOIT_MANAGER_MAX_CONNECTIONS" envDefault:"4096" help:"connections of nodes, tools and clients; one more is told OVERLOADED"`
	PerAddress   int           `env:"QUOIT_MANAGER_MAX_PER_ADDRESS" envDefault:"0" help:"connections from one address; 0 is no limit: a host with many nodes and tools comes from one"`
	Handshake    time.Duration `env:"QUOIT_MANAGER_HANDSHAKE_TIMEOUT" envDefault:"5s" help:"how long a new connection has to authenticate, and one whose token has ended to do so anew; 0s is for ever"`
	Open         bool          `env:"QUOIT_ALLOW_UNAUTHENTICATED" envDefault:"false" help:"listen on an address other than loopback although nobody is authenticated"`
	LogLevel     slog.Level    `env:"QUOIT_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error" want:"debug, info, warn or error"`

	Auth auth.Config
	TLS  tlsconf.Config
}

// JoinMode says what happens when a node registers with a cluster that has formed.
type JoinMode string

// The ways to join.
const (
	JoinManual JoinMode = "manual"
	JoinAuto   JoinMode = "auto"
)

// UnmarshalText reads manual or auto.
func (m *JoinMode) UnmarshalText(text []byte) error {
	switch mode := JoinMode(text); mode {
	case JoinManual, JoinAuto:
		*m = mode
		return nil
	}
	return errors.New("want manual or auto")
}

// LoadConfig reads the settings from environment variables (config.Environ makes
// the map). The error names every wrong variable, its value and what would be right.
func LoadConfig(environ map[string]string) (Config, error) {
	return config.Read[Config](environ, "QUOIT_MANAGER_", "QUOIT_TLS_")
}

// DefaultConfig is what LoadConfig makes of an empty environment. Bucket is still
// to be filled in.
func DefaultConfig() Config { return config.Default[Config]() }

// WriteConfigTable prints every variable with its default and meaning, for --help.
func WriteConfigTable(w io.Writer) error { return config.WriteTable(w, Config{}) }

// Validate checks what a type cannot, and returns all mistakes at once.
func (c *Config) Validate() error {
	errs := []error{c.Auth.Check(c.TLS.Members()), c.TLS.ValidateServer()}
	wrong := func(bad bool, field, want string) {
		if bad {
			errs = append(errs, config.Wrong(c, field, want))
		}
	}
	port, ok := config.Port(c.Addr)
	wrong(!ok, "Addr", "host:port, such as 127.0.0.1:7400")
	wrong(ok && !c.Open && !c.Auth.On() && !config.Loopback(c.Addr), "Addr", config.Closed)
	wrong(ok && c.AdminAddr == "" && port > 65435, "AdminAddr", "host:port or off, as one hundred above the manager's port is no port")
	wrong(c.AdminAddr != "" && c.AdminAddr != config.Off && !config.Listenable(c.AdminAddr), "AdminAddr", "host:port or off")
	for _, host := range c.AdminHosts {
		wrong(!config.HostName(host), "AdminHosts", "names without ports, such as node-1.example.org, parted by commas")
	}
	wrong(c.Bucket == "", "Bucket", "the bucket of the cluster, such as file:///var/lib/quoit/bucket")
	wrong(c.InitialNodes < 1 || c.InitialNodes > 1024, "InitialNodes", "1 to 1024")
	wrong(c.MovesPerNode < 1 || c.MovesPerNode > 64, "MovesPerNode", "1 to 64")
	wrong(c.Connections < 1, "Connections", "1 or more")
	wrong(c.PerAddress < 0, "PerAddress", "0 or more")
	wrong(c.NodeTimeout < 100*time.Millisecond, "NodeTimeout", "100ms or more, such as 5s")
	wrong(c.Handshake < 0, "Handshake", "0s or more")
	wrong(c.Poll < 10*time.Millisecond, "Poll", "10ms or more, such as 1s")
	return errors.Join(errs...)
}

// exposed is for the log line about a manager that everyone can reach.
func (c *Config) exposed() string {
	certificate := "QUOIT_TLS_CERT_FILE"
	if c.TLS.Enabled() {
		certificate = ""
	}
	return config.Exposed(c.Addr, c.Auth.On(), certificate)
}
