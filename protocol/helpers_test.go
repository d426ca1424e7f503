package protocol_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// args makes the arguments of a request from words.
func args(line string) [][]byte { return words(strings.Fields(line)...) }

func words(values ...string) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		out[i] = []byte(v)
	}
	return out
}

func stringsOf(args [][]byte) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = string(arg)
	}
	return out
}

// stream is what came out of a parser that was fed some bytes.
type stream struct {
	requests [][]string
	rest     string // what is left in the buffer
	err      error
}

// feed gives the pieces to a parser one after the other, the way a connection
// does: parse what is complete, keep the rest. The buffer is a new one each time,
// so that nothing may depend on where the bytes stand.
func feed(p *protocol.RequestParser, pieces ...string) stream {
	var s stream
	var buf []byte
	for _, piece := range pieces {
		buf = append(bytes.Clone(buf), piece...)
		for {
			args, n, err := p.Next(buf)
			if err != nil {
				s.err = err
				return s
			}
			if n == 0 {
				break
			}
			if len(args) > 0 {
				s.requests = append(s.requests, stringsOf(args))
			}
			buf = buf[n:]
		}
	}
	s.rest = string(buf)
	return s
}

// bytewise cuts s after each byte.
func bytewise(s string) []string { return strings.Split(s, "") }

// code is the code of an error reply, "" for no error.
func code(t *testing.T, err error) protocol.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var reply *protocol.Error
	if !errors.As(err, &reply) {
		t.Fatalf("%v (%T) is no *protocol.Error", err, err)
	}
	return reply.Code
}

func wantCode(t *testing.T, err error, want protocol.Code) {
	t.Helper()
	if got := code(t, err); got != want {
		t.Errorf("error %v: code %q, want %q", err, got, want)
	}
}

// parseAny calls the Parse function of a command; for one without options it
// gives nil and no error.
func parseAny(c protocol.Command, request [][]byte) (any, error) {
	switch c {
	case protocol.CmdPut:
		return protocol.ParsePut(request)
	case protocol.CmdSetNX:
		return protocol.ParseSetNX(request)
	case protocol.CmdSetEx:
		return protocol.ParseSetEx(request)
	case protocol.CmdPSetEx:
		return protocol.ParsePSetEx(request)
	case protocol.CmdGetSet:
		return protocol.ParseGetSet(request)
	case protocol.CmdMSet:
		return protocol.ParseMSet(request)
	case protocol.CmdExpire, protocol.CmdPExpire, protocol.CmdExpireAt, protocol.CmdPExpireAt:
		return protocol.ParseExpire(c, request)
	case protocol.CmdIncr, protocol.CmdIncrBy, protocol.CmdDecr, protocol.CmdDecrBy:
		return protocol.ParseIncr(c, request)
	case protocol.CmdScan:
		return protocol.ParseScan(request)
	default:
		return parseAnySession(c, request)
	}
}

func parseAnySession(c protocol.Command, request [][]byte) (any, error) {
	switch c {
	case protocol.CmdPing:
		return protocol.ParsePing(request)
	case protocol.CmdSelect:
		return nil, protocol.ParseSelect(request)
	case protocol.CmdAuth:
		return protocol.ParseAuth(request)
	case protocol.CmdHello:
		return protocol.ParseHello(request)
	case protocol.CmdClient:
		return protocol.ParseClient(request)
	case protocol.CmdConfig:
		return protocol.ParseConfig(request)
	case protocol.CmdWatch:
		return protocol.ParseWatch(request)
	case protocol.CmdUnwatch:
		return protocol.ParseUnwatch(request)
	case protocol.CmdCommand:
		return len(protocol.AppendCommandReply(nil, request)), nil
	default:
		return parseMember(c, request)
	}
}

// parseMember parses any message between members.
func parseMember(c protocol.Command, request [][]byte) (any, error) {
	switch c {
	case protocol.CmdChallenge:
		return protocol.ParseChallenge(request)
	case protocol.CmdProve:
		return protocol.ParseProve(request)
	case protocol.CmdRefresh:
		return protocol.ParseRefresh(request)
	case protocol.CmdMigrateRange:
		return protocol.ParseMigrateRange(request)
	case protocol.CmdStageRange:
		return protocol.ParseStageRange(request)
	case protocol.CmdStageData:
		return protocol.ParseStageData(request)
	case protocol.CmdStageSeal:
		return protocol.ParseStageSeal(request)
	case protocol.CmdCommitMove:
		return protocol.ParseCommitMove(request)
	case protocol.CmdMoveDone:
		return protocol.ParseMoveDone(request)
	default:
		return nil, nil
	}
}
