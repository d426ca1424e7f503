package gateway

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// session answers what stock clients say when they connect, and what people type:
// nothing of it is for a node. The reply goes behind v.batch.text.
func (v *visitor) session(cmd protocol.Command, args [][]byte) error {
	b := &v.batch
	switch cmd {
	case protocol.CmdPing:
		return v.ping(args)
	case protocol.CmdEcho:
		b.text = protocol.AppendBulk(b.text, args[1])
	case protocol.CmdAuth:
		in, err := protocol.ParseAuth(args)
		if err == nil {
			err = v.prove(in.Password)
		}
		if err != nil {
			return err
		}
		b.text = protocol.AppendOK(b.text)
	case protocol.CmdHello:
		return v.hello(args)
	case protocol.CmdSelect:
		if err := protocol.ParseSelect(args); err != nil {
			return err
		}
		b.text = protocol.AppendOK(b.text)
	case protocol.CmdClient:
		return v.clientCommand(args)
	case protocol.CmdCommand:
		b.text = protocol.AppendCommandReply(b.text, args)
	case protocol.CmdInfo:
		b.text = protocol.AppendBulkString(b.text, v.gw.info(args[1:], v.who().SeesServer()))
	case protocol.CmdConfig:
		return v.configGet(args)
	case protocol.CmdQuit:
		v.closing = true
		b.text = protocol.AppendOK(b.text)
	case protocol.CmdReset:
		v.name = ""
		v.unprove()
		b.text = protocol.AppendSimple(b.text, "RESET")
	case protocol.CmdTime:
		now := v.gw.clock.now()
		b.text = protocol.AppendArray(b.text, 2)
		b.text = protocol.AppendBulkInt(b.text, now.Unix())
		b.text = protocol.AppendBulkInt(b.text, int64(now.Nanosecond()/1000))
	case protocol.CmdTopology:
		return v.topology()
	default: // a command that is newer than this table
		return &protocol.Error{Code: protocol.ERR, Message: cmd.String() + " is not known to this gateway; ask a node"}
	}
	return nil
}

func (v *visitor) ping(args [][]byte) error {
	message, err := protocol.ParsePing(args)
	switch b := &v.batch; {
	case err != nil:
		return err
	case message == nil:
		b.text = protocol.AppendSimple(b.text, "PONG")
	default:
		b.text = protocol.AppendBulk(b.text, message)
	}
	return nil
}

// prove takes a token. Where it is not good the connection ends, when that has been told.
func (v *visitor) prove(token []byte) error {
	if !v.gw.asks() {
		return protocol.AsksNobody("gateway")
	}
	who, refusal := v.check(token, v.nc.RemoteAddr().String())
	if refusal != nil {
		v.closing = true
		return refusal
	}
	v.adopt(who)
	v.allow()
	old := v.tenant
	v.tenant = v.gw.tenants.enter(token)
	old.leave()
	return nil
}

// unprove makes the connection a stranger's.
func (v *visitor) unprove() {
	v.forget()
	v.allow()
	v.tenant.leave()
	v.tenant = nil
}

func (v *visitor) hello(args [][]byte) error {
	h, err := protocol.ParseHello(args)
	if err != nil {
		return err
	}
	if h.HasAuth {
		if err := v.prove(h.Auth.Password); err != nil {
			return err
		}
	}
	if !v.known() {
		return v.denies(protocol.CmdPing, nil)
	}
	if h.Name != nil {
		v.name = string(h.Name)
	}
	text := protocol.AppendArray(v.batch.text, 14)
	for _, word := range []string{"server", "quoit", "version", v.gw.about.version, "proto"} {
		text = protocol.AppendBulkString(text, word)
	}
	text = protocol.AppendInt(text, protocol.ProtocolVersion)
	text = protocol.AppendBulkString(text, "id")
	text = protocol.AppendInt(text, v.id)
	for _, word := range []string{"mode", "standalone", "role", "master", "modules"} {
		text = protocol.AppendBulkString(text, word)
	}
	v.batch.text = protocol.AppendArray(text, 0)
	return nil
}

func (v *visitor) clientCommand(args [][]byte) error {
	in, err := protocol.ParseClient(args)
	if err != nil {
		return err
	}
	b := &v.batch
	switch {
	case in.Verb == protocol.ClientID:
		b.text = protocol.AppendInt(b.text, v.id)
		return nil
	case in.Verb == protocol.ClientGetName && v.name == "":
		b.text = protocol.AppendNull(b.text)
		return nil
	case in.Verb == protocol.ClientGetName:
		b.text = protocol.AppendBulkString(b.text, v.name)
		return nil
	case in.Verb == protocol.ClientSetName:
		v.name = string(in.Value)
	}
	b.text = protocol.AppendOK(b.text)
	return nil
}

// configGet answers what redis-benchmark and redis-cli ask before they begin. The
// values are those that hold here.
func (v *visitor) configGet(args [][]byte) error {
	patterns, err := protocol.ParseConfig(args)
	if err != nil {
		return err
	}
	var found []string
	for _, setting := range [][2]string{
		{"save", ""},
		{"appendonly", "yes"},
		{"databases", "1"},
		{"maxclients", strconv.Itoa(v.gw.config.Limits.Connections)},
		{"maxmemory", "0"},
		{"proto-max-bulk-len", strconv.Itoa(v.gw.limits.MaxValue)},
		{"timeout", strconv.Itoa(int(v.gw.times.RedisIdle / time.Second))},
	} {
		for _, pattern := range patterns {
			if protocol.Match(pattern, []byte(setting[0])) {
				found = append(found, setting[0], setting[1])
				break
			}
		}
	}
	b := &v.batch
	b.text = protocol.AppendArray(b.text, len(found))
	for _, word := range found {
		b.text = protocol.AppendBulkString(b.text, word)
	}
	return nil
}

func (v *visitor) topology() error {
	text := v.gw.source.view.Load().text
	if len(text) == 0 {
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "the gateway does not know the cluster yet"}
	}
	v.batch.text = protocol.AppendBulk(v.batch.text, text)
	return nil
}

// info answers in the words of Redis where they fit. Who does not see the server is told
// what it is, and no more.
func (g *Gateway) info(sections [][]byte, sees bool) string {
	now := g.clock.now()
	view := g.source.view.Load()
	_, port, _ := strings.Cut(g.RedisAddr(), ":")
	server := [][2]string{
		{"quoit_version", g.about.version},
		{"redis_mode", "standalone"},
		{"os", runtime.GOOS + " " + runtime.GOARCH},
		{"tcp_port", port},
		{"uptime_in_seconds", strconv.Itoa(int(now.Sub(g.about.started) / time.Second))},
		{"role", "gateway"},
	}
	if sees {
		server = append(server, [2]string{"process_id", strconv.Itoa(os.Getpid())})
	}
	var b strings.Builder
	for _, s := range []struct {
		name  string
		lines [][2]string
	}{
		{"Server", server},
		{"Clients", [][2]string{
			{"connected_clients", strconv.Itoa(g.gate.count())},
			{"maxclients", strconv.Itoa(g.config.Limits.Connections)},
		}},
		{"Memory", [][2]string{{"buffer_bytes", strconv.FormatInt(g.budget.Used(), 10)}}},
		{"Cluster", [][2]string{
			{"epoch", strconv.FormatUint(uint64(view.epoch), 10)},
			{"nodes", strconv.Itoa(len(view.members))},
		}},
	} {
		if !wanted(s.name, sections) || !sees && s.name != "Server" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.name + "\r\n")
		for _, l := range s.lines {
			b.WriteString(l[0] + ":" + l[1] + "\r\n")
		}
	}
	return b.String()
}

// wanted says whether INFO with these arguments shows a section.
func wanted(section string, asked [][]byte) bool {
	for _, a := range asked {
		switch strings.ToLower(string(a)) {
		case "all", "everything", "default", strings.ToLower(section):
			return true
		}
	}
	return len(asked) == 0
}
