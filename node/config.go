package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// Config is a node's settings. LoadConfig fills it from the environment; a
// program that makes one itself starts from DefaultConfig.
type Config struct {
	Addr        string      `env:"QUOIT_NODE_ADDR" envDefault:"127.0.0.1:7401" help:"address to listen on" want:"host:port, such as 127.0.0.1:7401"`
	Advertise   string      `env:"QUOIT_NODE_ADVERTISE" help:"the node's name in the cluster, dialled by clients and members; the listening address if empty" want:"host:port that others can dial, such as 10.0.0.7:7401"`
	DataDir     string      `env:"QUOIT_NODE_DATA" help:"folder of this node's log, newest snapshot and identity; required" want:"a folder of this node's own, such as /var/lib/quoit/node-1"`
	ManagerAddr string      `env:"QUOIT_MANAGER_ADDR" envDefault:"127.0.0.1:7400" help:"address of the manager" want:"host:port, such as 127.0.0.1:7400"`
	Bucket      string      `env:"QUOIT_BUCKET" help:"the cluster's bucket; required" want:"the bucket of the cluster, such as file:///var/lib/quoit/bucket"`
	Tokens      int         `env:"QUOIT_NODE_TOKENS" envDefault:"128" help:"tokens on the ring: a bigger machine takes more"`
	AdminAddr   string      `env:"QUOIT_NODE_ADMIN_ADDR" help:"health, metrics and, over loopback alone, profiles; loopback with the port one hundred above if empty, off for none" want:"host:port or off"`
	AdminHosts  config.List `env:"QUOIT_ADMIN_HOSTS" help:"names under which the admin listener is reached (the Host of a request), parted by commas, beside IP addresses, localhost and names without a dot" want:"node-1.example.org,node-2.example.org"`
	GatewayAddr string      `env:"QUOIT_NODE_GATEWAY_ADDR" help:"address of a gateway of the node's own, which leads to this node alone and is published; none if empty" want:"host:port, such as 127.0.0.1:7481"`
	GatewayURL  string      `env:"QUOIT_NODE_GATEWAY_URL" help:"what browsers dial to reach it; the advertised host and the port of the gateway if empty; where it has no path, that of the node's channel is added" want:"a ws:// or wss:// URL, such as wss://node-1.example.org"`
	Open        bool        `env:"QUOIT_ALLOW_UNAUTHENTICATED" envDefault:"false" help:"listen on an address other than loopback although nobody is authenticated"`
	LogLevel    slog.Level  `env:"QUOIT_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error" want:"debug, info, warn or error"`

	AllowOlder bool `env:"QUOIT_ALLOW_OLDER_SNAPSHOT" envDefault:"false" help:"a node whose disk is lost may go on from a snapshot that is known to lack something"`
	AllowEmpty bool `env:"QUOIT_ALLOW_EMPTY" envDefault:"false" help:"a node whose disk is lost may go on with nothing where the bucket has no snapshot of it that can be used"`

	Auth     auth.Config
	TLS      tlsconf.Config
	Log      LogConfig
	Snapshot SnapshotConfig
	Limits   LimitConfig
	Times    TimeConfig
	Watch    WatchConfig
}

// WatchConfig is about clients that watch.
type WatchConfig struct {
	Max       int           `env:"QUOIT_NODE_MAX_WATCHES" envDefault:"10000" help:"watches over all connections; one more is told OVERLOADED"`
	History   config.Bytes  `env:"QUOIT_NODE_WATCH_HISTORY" envDefault:"64MiB" help:"bytes kept of what has happened, for those who watch: half for removed keys, half for changes that somebody has still to read"`
	Retention time.Duration `env:"QUOIT_NODE_WATCH_RETENTION" envDefault:"10m" help:"how long a removed key is remembered for watchers that come back, within QUOIT_NODE_WATCH_HISTORY"`
}

// LogConfig is about the write-ahead log.
type LogConfig struct {
	Fsync         Fsync         `env:"QUOIT_FSYNC" envDefault:"always" help:"when a write is on disk: always (before it is acknowledged), interval or never" want:"always, interval or never"`
	FsyncInterval time.Duration `env:"QUOIT_FSYNC_INTERVAL" envDefault:"1s" help:"with QUOIT_FSYNC=interval: at most this much is lost when the machine dies"`
	Segment       config.Bytes  `env:"QUOIT_WAL_SEGMENT" envDefault:"64MiB" help:"size of one file of the log"`
}

// SnapshotConfig is about snapshots and the archive of the log.
type SnapshotConfig struct {
	LogBytes     config.Bytes       `env:"QUOIT_SNAPSHOT_LOG_BYTES" envDefault:"512MiB" help:"a snapshot is taken when the log has grown by this since the last one; 0 is never"`
	Interval     time.Duration      `env:"QUOIT_SNAPSHOT_INTERVAL" envDefault:"1h" help:"and this often, if anything has changed; 0s is never"`
	Bandwidth    config.Bytes       `env:"QUOIT_SNAPSHOT_BANDWIDTH" envDefault:"0" help:"bytes a second that uploads of snapshots and log may take; 0 is no limit"`
	Keep         int                `env:"QUOIT_SNAPSHOT_KEEP" envDefault:"3" help:"snapshots of this node that stay in the bucket"`
	KeepFor      time.Duration      `env:"QUOIT_SNAPSHOT_KEEP_FOR" envDefault:"24h" help:"and as many more as it takes to go back so far"`
	Archive      keeper.ArchiveMode `env:"QUOIT_WAL_ARCHIVE" envDefault:"interval" help:"what of the log goes to the bucket: off (what a snapshot needs), segment (files that are full) or interval" want:"off, segment or interval"`
	ArchiveEvery time.Duration      `env:"QUOIT_WAL_ARCHIVE_INTERVAL" envDefault:"10s" help:"with QUOIT_WAL_ARCHIVE=interval: a lost disk takes at most this much along"`
}

// limiter bounds uploads, nil if nothing does.
func (c *SnapshotConfig) limiter() *rate.Limiter {
	if c.Bandwidth == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(c.Bandwidth), int(min(c.Bandwidth, 1<<20)))
}

// LimitConfig bounds what clients may take.
type LimitConfig struct {
	Connections int          `env:"QUOIT_NODE_MAX_CONNECTIONS" envDefault:"10000" help:"client connections; one more is told OVERLOADED"`
	PerAddress  int          `env:"QUOIT_NODE_MAX_PER_ADDRESS" envDefault:"0" help:"connections from one address; 0 is no limit: a gateway, and a host with many services, come from one"`
	Value       config.Bytes `env:"QUOIT_NODE_MAX_VALUE" envDefault:"64MiB" help:"bytes in a value"`
	InFlight    config.Bytes `env:"QUOIT_NODE_MAX_INFLIGHT" envDefault:"1GiB" help:"bytes of requests and replies in memory, over all connections; a quarter of QUOIT_NODE_MAX_MEMORY if that is less"`
	Memory      Memory       `env:"QUOIT_NODE_MAX_MEMORY" envDefault:"80%" help:"memory of the node, a size or a share of what the container or the machine has; what needs more than is left for data is told OOM; 0 is no limit" want:"a share such as 80%, a size of 64MiB or more, or 0 for no limit"`
}

// TimeConfig bounds how long things may take. Zero switches the first three off.
type TimeConfig struct {
	Handshake time.Duration `env:"QUOIT_NODE_HANDSHAKE_TIMEOUT" envDefault:"5s" help:"how long a new connection has to authenticate, and one whose token has ended to do so anew; 0s is for ever"`
	Idle      time.Duration `env:"QUOIT_NODE_IDLE_TIMEOUT" envDefault:"0s" help:"a connection without a request is closed after this; 0s is never"`
	Request   time.Duration `env:"QUOIT_NODE_REQUEST_TIMEOUT" envDefault:"30s" help:"a request that has begun is cut off when nothing more of it comes for this long; 0s is never"`
	Write     time.Duration `env:"QUOIT_NODE_WRITE_TIMEOUT" envDefault:"10s" help:"a client that takes none of its replies for this long is cut off"`
	Park      time.Duration `env:"QUOIT_NODE_PARK_BUDGET" envDefault:"250ms" help:"how long a request waits for a range that changes hands, before TRYAGAIN"`
	Drain     time.Duration `env:"QUOIT_NODE_DRAIN_TIMEOUT" envDefault:"10s" help:"how long a stopping node waits for its clients"`
	Poll      time.Duration `env:"QUOIT_NODE_POLL" envDefault:"5s" help:"how often the cluster's document is read when nobody says that it changed"`
}

// Fsync is a wal.SyncMode as people write it.
type Fsync wal.SyncMode

// UnmarshalText reads always, interval or never.
func (f *Fsync) UnmarshalText(text []byte) error {
	switch string(text) {
	case "always":
		*f = Fsync(wal.SyncAlways)
	case "interval":
		*f = Fsync(wal.SyncInterval)
	case "never":
		*f = Fsync(wal.SyncNever)
	default:
		return errors.New("want always, interval or never")
	}
	return nil
}

// String is the word that UnmarshalText reads.
func (f Fsync) String() string {
	switch wal.SyncMode(f) {
	case wal.SyncAlways:
		return "always"
	case wal.SyncInterval:
		return "interval"
	case wal.SyncNever:
		return "never"
	}
	return "unknown"
}

// LoadConfig reads the settings from environment variables (config.Environ
// makes the map). The error names every wrong variable, its value and what would
// be right, misspelled QUOIT_NODE_ names among them.
func LoadConfig(environ map[string]string) (Config, error) {
	return config.Read[Config](environ, "QUOIT_NODE_", "QUOIT_SNAPSHOT_", "QUOIT_WAL_", "QUOIT_TLS_")
}

// DefaultConfig is what LoadConfig makes of an empty environment. DataDir and
// Bucket are still to be filled in.
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
	wrong(!config.Listenable(c.Addr), "Addr", "host:port, such as 127.0.0.1:7401")
	wrong(c.Advertise != "" && ring.ValidateAddress(c.Advertise) != nil, "Advertise", "host:port that others can dial, such as 10.0.0.7:7401")
	wrong(c.DataDir == "", "DataDir", "a folder of this node's own, such as /var/lib/quoit/node-1")
	wrong(!config.Listenable(c.ManagerAddr), "ManagerAddr", "host:port, such as 127.0.0.1:7400")
	wrong(c.Bucket == "", "Bucket", "the bucket of the cluster, such as file:///var/lib/quoit/bucket")
	wrong(c.Tokens < 1 || c.Tokens > ring.MaxTokens, "Tokens", fmt.Sprintf("1 to %d", ring.MaxTokens))
	wrong(c.AdminAddr != "" && c.AdminAddr != config.Off && !config.Listenable(c.AdminAddr), "AdminAddr", "host:port or off")
	for _, host := range c.AdminHosts {
		wrong(!config.HostName(host), "AdminHosts", "names without ports, such as node-1.example.org, parted by commas")
	}
	wrong(c.GatewayAddr != "" && !config.Listenable(c.GatewayAddr), "GatewayAddr", "host:port, such as 127.0.0.1:7481")
	wrong(!c.open() && config.Listenable(c.GatewayAddr) && !config.Loopback(c.GatewayAddr), "GatewayAddr", config.Closed)
	wrong(c.GatewayURL != "" && !validGatewayURL(c.GatewayURL), "GatewayURL", "a ws:// or wss:// URL without user, query and fragment, such as wss://node-1.example.org")
	wrong(c.GatewayURL != "" && c.GatewayAddr == "", "GatewayURL", "QUOIT_NODE_GATEWAY_ADDR beside it: where the node's gateway listens")
	wrong(!c.open() && config.Listenable(c.Addr) && !config.Loopback(c.Addr), "Addr", config.Closed)
	wrong(c.Log.FsyncInterval <= 0, "FsyncInterval", "a duration above 0, such as 1s")
	wrong(c.Log.Segment < 1<<20 || c.Log.Segment > 4<<30, "Segment", "1MiB to 4GiB")
	wrong(c.Snapshot.LogBytes != 0 && c.Snapshot.LogBytes < 1<<20, "LogBytes", "0, or 1MiB and more, such as 512MiB")
	wrong(c.Snapshot.Interval < 0, "Interval", "0s or more, such as 1h")
	wrong(c.Snapshot.Bandwidth != 0 && c.Snapshot.Bandwidth < 64<<10, "Bandwidth", "0, or 64KiB and more")
	wrong(c.Snapshot.Keep < 1 || c.Snapshot.Keep > snapshot.MaxKept/2, "Keep", fmt.Sprintf("1 to %d", snapshot.MaxKept/2))
	wrong(c.Snapshot.KeepFor < 0, "KeepFor", "0s or more, such as 24h")
	wrong(c.Snapshot.ArchiveEvery < 100*time.Millisecond, "ArchiveEvery", "100ms or more, such as 10s")
	wrong(c.Limits.Connections < 1, "Connections", "1 or more")
	wrong(c.Limits.PerAddress < 0, "PerAddress", "0 or more")
	wrong(c.Limits.Value < 1 || c.Limits.Value > 512<<20, "Value", "1 to 512MiB")
	wrong(c.Limits.InFlight < 2*c.Limits.Value || c.Limits.InFlight < 1<<20, "InFlight", "at least 1MiB and twice QUOIT_NODE_MAX_VALUE")
	wrong(c.Times.Handshake < 0, "Handshake", "0s or more")
	wrong(c.Limits.Memory.Bytes != 0 && c.Limits.Memory.Bytes < 64<<20, "Memory", wantMemory)
	wrong(c.Times.Idle < 0, "Idle", "0s or more")
	wrong(c.Times.Request < 0, "Request", "0s or more")
	wrong(c.Times.Write <= 0, "Write", "a duration above 0, such as 10s")
	wrong(c.Times.Park < 0 || c.Times.Park > time.Minute, "Park", "0s to 1m")
	wrong(c.Times.Drain < 0, "Drain", "0s or more")
	wrong(c.Times.Poll < 10*time.Millisecond, "Poll", "10ms or more, such as 5s")
	wrong(c.Watch.Max < 0, "Max", "0 or more")
	wrong(c.Watch.History < 1<<20, "History", "1MiB or more, such as 64MiB")
	wrong(c.Watch.Retention < time.Second, "Retention", "1s or more, such as 10m")
	return errors.Join(errs...)
}

// adminHosts are the names of the admin listener; the one that others dial is among them.
func (c *Config) adminHosts() []string {
	host, _, _ := net.SplitHostPort(c.Advertise)
	return append(slices.Clone(c.AdminHosts), strings.ToLower(host))
}

// open says whether the node may listen where others reach it: they have to authenticate,
// or it was told that nobody needs to.
func (c *Config) open() bool { return c.Open || c.Auth.On() }

// exposed is for the log line about a node that everyone can reach.
func (c *Config) exposed() string {
	certificate := "QUOIT_TLS_CERT_FILE"
	if c.TLS.Enabled() {
		certificate = ""
	}
	return config.Exposed(c.Addr, c.Auth.On(), certificate)
}

// limits is what the parser and the commands are held to.
func (c *Config) limits() protocol.Limits {
	l := protocol.DefaultLimits()
	l.MaxValue = int(c.Limits.Value)
	return l
}
