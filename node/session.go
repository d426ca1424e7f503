package node

import (
	"strconv"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// Session commands: what stock clients say when they connect, and what people
// type. None of them touches a key, so they are answered also while the node
// starts.

func ping(c *conn, args [][]byte) error {
	message, err := protocol.ParsePing(args)
	switch {
	case err != nil:
		return err
	case message == nil:
		c.out = protocol.AppendSimple(c.out, "PONG")
	default:
		c.out = protocol.AppendBulk(c.out, message)
	}
	return nil
}

func echo(c *conn, args [][]byte) error {
	c.out = protocol.AppendBulk(c.out, args[1])
	return nil
}

func authenticate(c *conn, args [][]byte) error {
	in, err := protocol.ParseAuth(args)
	if err != nil {
		return err
	}
	if err := c.login(in.Password); err != nil {
		return err
	}
	c.out = protocol.AppendOK(c.out)
	return nil
}

func hello(c *conn, args [][]byte) error {
	h, err := protocol.ParseHello(args)
	if err != nil {
		return err
	}
	if h.HasAuth {
		if err := c.login(h.Auth.Password); err != nil {
			return err
		}
	}
	if stranger := c.guest.Unproved(c.srv.clock.coarse()); stranger != nil {
		return stranger
	}
	if h.Name != nil {
		c.client.name = string(h.Name)
	}
	c.out = protocol.AppendArray(c.out, 14)
	for _, field := range [][2]string{{"server", "quoit"}, {"version", c.srv.about.version}} {
		c.out = protocol.AppendBulkString(c.out, field[0])
		c.out = protocol.AppendBulkString(c.out, field[1])
	}
	c.out = protocol.AppendBulkString(c.out, "proto")
	c.out = protocol.AppendInt(c.out, protocol.ProtocolVersion)
	c.out = protocol.AppendBulkString(c.out, "id")
	c.out = protocol.AppendInt(c.out, int64(c.id))
	for _, field := range [][2]string{{"mode", "standalone"}, {"role", "master"}} {
		c.out = protocol.AppendBulkString(c.out, field[0])
		c.out = protocol.AppendBulkString(c.out, field[1])
	}
	c.out = protocol.AppendBulkString(c.out, "modules")
	c.out = protocol.AppendArray(c.out, 0)
	return nil
}

func selectDB(c *conn, args [][]byte) error {
	if err := protocol.ParseSelect(args); err != nil {
		return err
	}
	c.out = protocol.AppendOK(c.out)
	return nil
}

func client(c *conn, args [][]byte) error {
	in, err := protocol.ParseClient(args)
	if err != nil {
		return err
	}
	switch {
	case in.Verb == protocol.ClientID:
		c.out = protocol.AppendInt(c.out, int64(c.id))
		return nil
	case in.Verb == protocol.ClientGetName && c.client.name == "":
		c.out = protocol.AppendNull(c.out)
		return nil
	case in.Verb == protocol.ClientGetName:
		c.out = protocol.AppendBulkString(c.out, c.client.name)
		return nil
	case in.Verb == protocol.ClientPark:
		c.client.impatient = !in.Park
	case in.Verb == protocol.ClientSetName:
		c.client.name = string(in.Value)
	case in.Attribute == "lib-name":
		c.client.libName = string(in.Value)
	default:
		c.client.libVersion = string(in.Value)
	}
	c.out = protocol.AppendOK(c.out)
	return nil
}

func describe(c *conn, args [][]byte) error {
	c.out = protocol.AppendCommandReply(c.out, args)
	return nil
}

// configGet answers what redis-benchmark and redis-cli ask before they begin. The
// values are those that hold here.
func configGet(c *conn, args [][]byte) error {
	patterns, err := protocol.ParseConfig(args)
	if err != nil {
		return err
	}
	settings := [][2]string{
		{"save", ""},
		{"appendonly", "yes"},
		{"appendfsync", appendfsync(c.srv.about.fsync)},
		{"databases", "1"},
		{"maxclients", strconv.Itoa(c.srv.maxConns)},
		{"maxmemory", "0"},
		{"proto-max-bulk-len", strconv.Itoa(c.srv.limits.MaxValue)},
		{"timeout", strconv.Itoa(int(c.srv.times.Idle / time.Second))},
	}
	var found [][2]string
	for _, setting := range settings {
		for _, pattern := range patterns {
			if protocol.Match(pattern, []byte(setting[0])) {
				found = append(found, setting)
				break
			}
		}
	}
	c.out = protocol.AppendArray(c.out, 2*len(found))
	for _, setting := range found {
		c.out = protocol.AppendBulkString(c.out, setting[0])
		c.out = protocol.AppendBulkString(c.out, setting[1])
	}
	return nil
}

// appendfsync is the word that Redis has for a sync mode.
func appendfsync(f Fsync) string {
	switch wal.SyncMode(f) {
	case wal.SyncInterval:
		return "everysec"
	case wal.SyncNever:
		return "no"
	}
	return "always"
}

func quit(c *conn, _ [][]byte) error {
	c.closing = true
	c.out = protocol.AppendOK(c.out)
	return nil
}

func reset(c *conn, _ [][]byte) error {
	c.client = clientInfo{}
	c.logout()
	c.out = protocol.AppendSimple(c.out, "RESET")
	return nil
}

func timeOfDay(c *conn, _ [][]byte) error {
	now := c.srv.clock.now()
	c.out = protocol.AppendArray(c.out, 2)
	c.out = protocol.AppendBulkInt(c.out, now.Unix())
	c.out = protocol.AppendBulkInt(c.out, int64(now.Nanosecond()/1000))
	return nil
}
