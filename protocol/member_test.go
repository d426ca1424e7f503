package protocol_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func parse(request [][]byte) (any, error) {
	c, _ := protocol.Lookup(request[0])
	return parseAny(c, request)
}

type message interface{ Append(b []byte) []byte }

func TestMemberMessages(t *testing.T) {
	node, move := []byte("10.0.0.1:7401"), []byte("m-17")
	for _, tt := range []struct {
		want message
		line string
	}{
		{protocol.Refresh{Counter: 7}, "REFRESH 7"},
		{protocol.MigrateRange{Start: 1<<32 - 1, End: 0, Target: node, Move: move}, "MIGRATE_RANGE 4294967295 0 10.0.0.1:7401 m-17"},
		{protocol.StageRange{Move: move, Start: 5, End: 9, Source: node}, "STAGE_RANGE m-17 5 9 10.0.0.1:7401"},
		{protocol.StageData{Move: move, Seq: 3, Payload: []byte("\x00\xff")}, "STAGE_DATA m-17 3 \x00\xff"},
		{protocol.StageSeal{Move: move, Seq: 4, HLC: math.MaxInt64, Count: 6}, "STAGE_SEAL m-17 4 9223372036854775807 6"},
		{protocol.CommitMove{Move: move}, "COMMIT_MOVE m-17"},
		{protocol.MoveDone{Moves: [][]byte{move}}, "MOVE_DONE dropped m-17"},
		{protocol.MoveDone{Moves: [][]byte{move, move}, Active: true}, "MOVE_DONE active m-17 m-17"},
	} {
		got, err := parse(args(tt.line))
		if err != nil || !reflect.DeepEqual(got, any(tt.want)) {
			t.Errorf("%q: %+v, %v", tt.line, got, err)
		}
		sent := feed(&protocol.RequestParser{}, string(tt.want.Append(nil)))
		if len(sent.requests) != 1 || strings.Join(sent.requests[0], " ") != tt.line {
			t.Errorf("%+v is sent as %q, %v", tt.want, sent.requests, sent.err)
		}
	}
}

func TestBadMemberMessages(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, line := range []string{
		"REFRESH", "REFRESH x", "REFRESH 1 2",
		"MIGRATE_RANGE 0 4294967296 a:1 m", "MIGRATE_RANGE x 1 a:1 m", "MIGRATE_RANGE 0 1 a:1", "MIGRATE_RANGE 0 1 a:1 \xff",
		"STAGE_RANGE m 0 1", "STAGE_RANGE m -1 1 a:1", "STAGE_RANGE " + long + " 0 1 a:1",
		"STAGE_DATA m 1", "STAGE_DATA m x p", "STAGE_DATA m 9223372036854775808 p",
		"STAGE_SEAL m 1 2", "STAGE_SEAL m 1 2 x", "STAGE_SEAL m 1 9223372036854775808 3",
		"COMMIT_MOVE", "COMMIT_MOVE \x00", "COMMIT_MOVE a b",
		"MOVE_DONE m", "MOVE_DONE m gone", "MOVE_DONE \x7f active",
	} {
		m, err := parse(args(line))
		if code(t, err) != protocol.ERR {
			t.Errorf("%.60q: %+v, %v", line, m, err)
		}
	}
	if _, err := protocol.ParseCommitMove(words("COMMIT_MOVE", "")); err == nil {
		t.Error("an empty name is taken")
	}
	if _, err := protocol.ParseCommitMove(words("COMMIT_MOVE", "a b")); err == nil {
		t.Error("a name with a space is taken")
	}
	_, err := protocol.ParseStageSeal(args("STAGE_SEAL m 1 x y"))
	if want := "ERR STAGE_SEAL: version is not a number from 0 to 9223372036854775807"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
