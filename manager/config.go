package manager

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/internal/config"
)

// Config is a manager's settings. LoadConfig fills it from the environment; a
// program that makes one itself starts from DefaultConfig.
type Config struct {
	Addr      string `env:"QUOIT_MANAGER_ADDR" envDefault:"127.0.0.1:7400" help:"address to listen on" want:"host:port, such as 127.0.0.1:7400"`
	AdminAddr string `env:"QUOIT_MANAGER_ADMIN_ADDR" help:"health, metrics and profiles; loopback with the port one hundred above if empty, off for none" want:"host:port or off"`
	Bucket    string `env:"QUOIT_BUCKET" help:"the cluster's bucket; required" want:"the bucket of the cluster, such as file:///var/lib/quoit/bucket"`

	InitialNodes int           `env:"QUOIT_MANAGER_INITIAL_NODES" envDefault:"1" help:"a new cluster forms when this many nodes have registered"`
	Join         JoinMode      `env:"QUOIT_MANAGER_JOIN" envDefault:"manual" help:"a node that registers later joins the ring by quoit cluster add (manual) or at once (auto)" want:"manual or auto"`
	MovesPerNode int           `env:"QUOIT_MANAGER_MOVES_PER_NODE" envDefault:"2" help:"ranges that leave one node at the same time"`
	NodeTimeout  time.Duration `env:"QUOIT_MANAGER_NODE_TIMEOUT" envDefault:"5s" help:"a node that has been silent for this long is shown as down, and no move to it starts"`
	Poll         time.Duration `env:"QUOIT_MANAGER_POLL" envDefault:"1s" help:"how often the document is read and unfinished work looked at again"`
	Connections  int           `env:"QUOIT_MANAGER_MAX_CONNECTIONS" envDefault:"4096" help:"connections of nodes, tools and clients; one more is told OVERLOADED"`
	Open         bool          `env:"QUOIT_ALLOW_UNAUTHENTICATED" envDefault:"false" help:"listen on an address other than loopback although nobody is authenticated"`
	LogLevel     slog.Level    `env:"QUOIT_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error" want:"debug, info, warn or error"`
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
	var c Config
	if err := errors.Join(config.Load(&c, environ), config.Unknown(environ, "QUOIT_MANAGER_", c)); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// DefaultConfig is what LoadConfig makes of an empty environment. Bucket is still
// to be filled in.
func DefaultConfig() Config {
	var c Config
	if err := config.Load(&c, nil); err != nil {
		panic("manager: a default in the struct tags does not parse: " + err.Error())
	}
	return c
}

// WriteConfigTable prints every variable with its default and meaning, for --help.
func WriteConfigTable(w io.Writer) error { return config.WriteTable(w, Config{}) }

// Validate checks what a type cannot, and returns all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(bad bool, field, want string) {
		if bad {
			errs = append(errs, config.Wrong(c, field, want))
		}
	}
	host, port, err := splitAddr(c.Addr)
	wrong(err != nil, "Addr", "host:port, such as 127.0.0.1:7400")
	wrong(err == nil && !c.Open && !loopback(host), "Addr",
		"a loopback address: nobody is authenticated yet, so anyone who can reach another address could take the cluster over (QUOIT_ALLOW_UNAUTHENTICATED=true if that is what you mean)")
	wrong(err == nil && c.AdminAddr == "" && port > 65435, "AdminAddr", "host:port or off, as one hundred above the manager's port is no port")
	if c.AdminAddr != "" && c.AdminAddr != "off" {
		_, _, err := splitAddr(c.AdminAddr)
		wrong(err != nil, "AdminAddr", "host:port or off")
	}
	wrong(c.Bucket == "", "Bucket", "the bucket of the cluster, such as file:///var/lib/quoit/bucket")
	wrong(c.InitialNodes < 1 || c.InitialNodes > 1024, "InitialNodes", "1 to 1024")
	wrong(c.MovesPerNode < 1 || c.MovesPerNode > 64, "MovesPerNode", "1 to 64")
	wrong(c.Connections < 1, "Connections", "1 or more")
	wrong(c.NodeTimeout < 100*time.Millisecond, "NodeTimeout", "100ms or more, such as 5s")
	wrong(c.Poll < 10*time.Millisecond, "Poll", "10ms or more, such as 1s")
	return errors.Join(errs...)
}

// adminAddr is where the admin listener goes, "" for nowhere.
func (c *Config) adminAddr() string {
	switch c.AdminAddr {
	case "off":
		return ""
	case "":
		_, port, err := splitAddr(c.Addr)
		if err != nil || port == 0 {
			return "127.0.0.1:0"
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+100))
	}
	return c.AdminAddr
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not 0 to 65535", text)
	}
	return host, port, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
