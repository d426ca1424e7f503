package gateway

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Config is a gateway's settings. LoadConfig fills it from the environment; a
// program that makes one itself starts from DefaultConfig.
type Config struct {
	Addr        string        `env:"QUOIT_GATEWAY_ADDR" envDefault:"127.0.0.1:7480" help:"address to listen on for HTTP and WebSocket" want:"host:port, such as 127.0.0.1:7480"`
	RedisAddr   string        `env:"QUOIT_GATEWAY_REDIS_ADDR" envDefault:"127.0.0.1:7479" help:"address to listen on for Redis clients that see the whole cluster; off for none" want:"host:port or off"`
	AdminAddr   string        `env:"QUOIT_GATEWAY_ADMIN_ADDR" help:"health, metrics and, over loopback alone, profiles; loopback with the port one hundred above if empty, off for none" want:"host:port or off"`
	AdminHosts  List          `env:"QUOIT_ADMIN_HOSTS" help:"names under which the admin listener is reached (the Host of a request), parted by commas, beside IP addresses, localhost and names without a dot" want:"node-1.example.org,node-2.example.org"`
	ManagerAddr string        `env:"QUOIT_MANAGER_ADDR" envDefault:"127.0.0.1:7400" help:"address of the manager" want:"host:port, such as 127.0.0.1:7400"`
	Seeds       List          `env:"QUOIT_GATEWAY_SEEDS" help:"addresses of nodes to learn the cluster from, parted by commas, beside the manager" want:"host:port,host:port"`
	Origins     List          `env:"QUOIT_GATEWAY_ORIGINS" help:"origins of the pages that may connect, parted by commas; those that QUOIT_GATEWAY_HOSTS stands for if empty" want:"https://app.example.org,https://example.org:8443"`
	Hosts       List          `env:"QUOIT_GATEWAY_HOSTS" help:"names under which the gateway is reached (the Host of a request), parted by commas; the loopback names with the port if empty" want:"app.example.org,localhost:7480"`
	Console     Console       `env:"QUOIT_GATEWAY_CONSOLE" help:"the page for people: off, read (see the cluster) or operate (pause and resume moves too); if empty, operate where only this machine reaches the gateway, else read" want:"off, read or operate"`
	Open        bool          `env:"QUOIT_ALLOW_UNAUTHENTICATED" envDefault:"false" help:"listen on an address other than loopback although nobody is authenticated"`
	KeysFile    string        `env:"QUOIT_TOKEN_KEYS_FILE" help:"JSON Web Key Set that tokens are verified with, the public parts suffice; looked at again when it changes; without it nobody is authenticated" want:"a file as quoit token public makes it"`
	Token       config.Secret `env:"QUOIT_TOKEN" help:"the gateway's own token, with which it learns the topology; the file of QUOIT_TOKEN_FILE is read anew for each connection" want:"a token as quoit token create makes it"`
	LogLevel    slog.Level    `env:"QUOIT_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error" want:"debug, info, warn or error"`

	TLS    tlsconf.Config // as who dials nodes and the manager
	Public tlsconf.Public
	Limits LimitConfig
	Times  TimeConfig

	only Own // the node that it leads to; the zero value: any of the topology
}

// LimitConfig bounds what clients may take.
type LimitConfig struct {
	Connections int          `env:"QUOIT_GATEWAY_MAX_CONNECTIONS" envDefault:"10000" help:"connections through both doors; one more is refused"`
	PerAddress  int          `env:"QUOIT_GATEWAY_MAX_PER_ADDRESS" envDefault:"1000" help:"connections from one address; 0 is no limit, as where a proxy stands in front"`
	Message     config.Bytes `env:"QUOIT_GATEWAY_MAX_MESSAGE" envDefault:"1MiB" help:"bytes in one WebSocket message; a larger value is sent in several"`
	Value       config.Bytes `env:"QUOIT_GATEWAY_MAX_VALUE" envDefault:"64MiB" help:"bytes in a value; that of the nodes counts too"`
	InFlight    config.Bytes `env:"QUOIT_GATEWAY_MAX_INFLIGHT" envDefault:"512MiB" help:"bytes of requests and replies in memory, over all connections"`
}

// TimeConfig bounds how long things may take. Zero switches off those that say so.
type TimeConfig struct {
	Handshake time.Duration `env:"QUOIT_GATEWAY_HANDSHAKE_TIMEOUT" envDefault:"5s" help:"who has not said in this time what it wants is cut off"`
	Idle      time.Duration `env:"QUOIT_GATEWAY_IDLE_TIMEOUT" envDefault:"15m" help:"a node's channel over which nothing is asked or answered is closed after this; 0s is never"`
	RedisIdle time.Duration `env:"QUOIT_GATEWAY_REDIS_IDLE_TIMEOUT" envDefault:"0s" help:"a Redis client without a request is closed after this; 0s is never"`
	Request   time.Duration `env:"QUOIT_GATEWAY_REQUEST_TIMEOUT" envDefault:"30s" help:"a request that has begun is cut off when nothing more of it comes for this long, and a node that owes replies and is silent; 0s is never"`
	Write     time.Duration `env:"QUOIT_GATEWAY_WRITE_TIMEOUT" envDefault:"10s" help:"a client that takes none of its replies for this long is cut off"`
	Ping      time.Duration `env:"QUOIT_GATEWAY_PING" envDefault:"30s" help:"a WebSocket that has been silent for this long is asked for a sign of life, and closed without one"`
	Retry     time.Duration `env:"QUOIT_GATEWAY_RETRY_BUDGET" envDefault:"10s" help:"how long a command of the Redis door is tried when its node cannot be reached or its range changes hands"`
	Drain     time.Duration `env:"QUOIT_GATEWAY_DRAIN_TIMEOUT" envDefault:"10s" help:"how long a stopping gateway waits for its clients"`
	Poll      time.Duration `env:"QUOIT_GATEWAY_POLL" envDefault:"1s" help:"how often the cluster is asked for its topology"`
}

// List is several words in one variable, parted by commas.
type List = config.List

// LoadConfig reads the settings from environment variables (config.Environ makes
// the map). The error names every wrong variable, its value and what would be
// right, misspelled QUOIT_GATEWAY_ names among them.
func LoadConfig(environ map[string]string) (Config, error) {
	return config.Read[Config](environ, "QUOIT_GATEWAY_", "QUOIT_TLS_")
}

// LoadConfigForNode is LoadConfig for a node's own gateway (Config.ForNode). That needs no
// token of its own: it leads to the node, and learns nothing from others.
func LoadConfigForNode(environ map[string]string) (Config, error) {
	c, err := config.Read[ownConfig](environ, "QUOIT_GATEWAY_")
	return c.Config, err
}

// ownConfig checks itself as that of a node's own gateway.
type ownConfig struct{ Config }

func (c *ownConfig) Validate() error { return c.validate(true) }

// DefaultConfig is what LoadConfig makes of an empty environment.
func DefaultConfig() Config { return config.Default[Config]() }

// WriteConfigTable prints every variable with its default and meaning, for --help.
func WriteConfigTable(w io.Writer) error { return config.WriteTable(w, Config{}) }

// Validate checks what a type cannot, and returns all mistakes at once.
func (c *Config) Validate() error { return c.validate(c.only.Address != "") }

// validate is Validate, also where it is not known yet which node's own gateway it is.
func (c *Config) validate(own bool) error {
	var errs []error
	wrong := func(bad bool, field, want string) {
		if bad {
			errs = append(errs, config.Wrong(c, field, want))
		}
	}
	wrong(!config.Listenable(c.Addr), "Addr", "host:port, such as 127.0.0.1:7480")
	wrong(config.Listenable(c.Addr) && !c.mayListen() && !config.Loopback(c.Addr), "Addr", closed)
	wrong(c.hasDoor() && !config.Listenable(c.RedisAddr), "RedisAddr", "host:port or off")
	wrong(config.Listenable(c.RedisAddr) && !c.mayListen() && !config.Loopback(c.RedisAddr), "RedisAddr", closed)
	wrong(c.KeysFile != "" && !c.Token.IsSet() && !own, "Token", "the gateway's own token, in it or in the file of QUOIT_TOKEN_FILE, since QUOIT_TOKEN_KEYS_FILE is set: quoit token create --key FILE --sub gateway --cluster read makes one")
	wrong(c.KeysFile == "" && c.Token.IsSet() && !own, "KeysFile", "the keys that tokens are verified with: QUOIT_TOKEN is set, and a gateway that asks nobody for a token would let everybody in with its own")
	errs = append(errs, c.TLS.ValidateClient(), c.Public.Validate())
	wrong(c.AdminAddr != "" && c.AdminAddr != config.Off && !config.Listenable(c.AdminAddr), "AdminAddr", "host:port or off")
	for _, host := range c.AdminHosts {
		wrong(!config.HostName(host), "AdminHosts", "names without ports, such as node-1.example.org, parted by commas")
	}
	wrong(ring.ValidateAddress(c.ManagerAddr) != nil, "ManagerAddr", "host:port, such as 127.0.0.1:7400")
	for _, seed := range c.Seeds {
		wrong(ring.ValidateAddress(seed) != nil, "Seeds", "host:port, such as 127.0.0.1:7401, parted by commas")
	}
	for _, origin := range c.Origins {
		wrong(!isOrigin(origin), "Origins", "origins as a browser sends them, such as https://app.example.org or http://localhost:8080, parted by commas")
	}
	for _, host := range c.Hosts {
		wrong(!isHost(host), "Hosts", "names as they stand in a URL, such as app.example.org or localhost:7480, parted by commas")
	}
	wrong(c.Limits.Connections < 1, "Connections", "1 or more")
	wrong(c.Limits.PerAddress < 0, "PerAddress", "0 or more")
	wrong(c.Limits.Message < 1<<10 || c.Limits.Message > 1<<30, "Message", "1KiB to 1GiB")
	wrong(c.Limits.Value < 1 || c.Limits.Value > 512<<20, "Value", "1 to 512MiB")
	wrong(c.Limits.InFlight < 4*c.Limits.Value || c.Limits.InFlight < 1<<20, "InFlight", "at least 1MiB and four times QUOIT_GATEWAY_MAX_VALUE")
	wrong(c.Times.Handshake <= 0, "Handshake", "a duration above 0, such as 5s")
	wrong(c.Times.Idle < 0, "Idle", "0s or more")
	wrong(c.Times.RedisIdle < 0, "RedisIdle", "0s or more")
	wrong(c.Times.Request < 0, "Request", "0s or more")
	wrong(c.Times.Write <= 0, "Write", "a duration above 0, such as 10s")
	wrong(c.Times.Ping <= 0, "Ping", "a duration above 0, such as 30s")
	wrong(c.Times.Retry < 0, "Retry", "0s or more")
	wrong(c.Times.Drain < 0, "Drain", "0s or more")
	wrong(c.Times.Poll < 10*time.Millisecond, "Poll", "10ms or more, such as 1s")
	return errors.Join(errs...)
}

// closed is what Validate says about an address that everyone could reach.
const closed = "a loopback address, or QUOIT_TOKEN_KEYS_FILE and QUOIT_TOKEN: nobody is authenticated, so anyone who can reach another address could read and write everything (QUOIT_ALLOW_UNAUTHENTICATED=true if that is what you mean)"

// mayListen says whether others than this machine may reach the gateway.
func (c *Config) mayListen() bool { return c.Open || c.KeysFile != "" }

func (c *Config) hasDoor() bool { return c.RedisAddr != config.Off }

// limits is what the parsers and the commands are held to.
func (c *Config) limits() protocol.Limits {
	l := protocol.DefaultLimits()
	l.MaxValue = int(c.Limits.Value)
	return l
}

// isOrigin says whether text is an origin just as browsers write it.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && isHost(u.Host) && text == u.Scheme+"://"+u.Host
}

// isHost says whether text is a host with or without a port, in lower case.
func isHost(text string) bool {
	u, err := url.Parse("http://" + text)
	return err == nil && text != "" && u.Host == text && u.Hostname() != "" && text == strings.ToLower(text) && !strings.Contains(text, "*")
}

// exposed is for the log line about a gateway that everyone can reach.
func (c *Config) exposed(asks bool) string {
	certificate := "QUOIT_GATEWAY_TLS_CERT_FILE"
	if c.Public.Enabled() {
		certificate = ""
	}
	return cmp.Or(config.Exposed(c.Addr, asks, certificate), config.Exposed(c.RedisAddr, asks, certificate))
}
