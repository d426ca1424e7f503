package protocol_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestParseHello(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want protocol.HelloArgs
		code protocol.Code
	}{
		{"HELLO", protocol.HelloArgs{}, ""},
		{"HELLO 2", protocol.HelloArgs{}, ""},
		{"HELLO 2 AUTH u p", protocol.HelloArgs{HasAuth: true, Auth: protocol.AuthArgs{User: []byte("u"), Password: []byte("p")}}, ""},
		{"HELLO 2 setname me auth u p", protocol.HelloArgs{HasAuth: true, Auth: protocol.AuthArgs{User: []byte("u"), Password: []byte("p")}, Name: []byte("me")}, ""},
		{"HELLO 3", protocol.HelloArgs{}, protocol.NOPROTO},
		{"HELLO 3 AUTH u p", protocol.HelloArgs{}, protocol.NOPROTO},
		{"HELLO x", protocol.HelloArgs{}, protocol.ERR},
		{"HELLO 2 AUTH u", protocol.HelloArgs{}, protocol.ERR},
		{"HELLO 2 SETNAME", protocol.HelloArgs{}, protocol.ERR},
		{"HELLO 2 SETNAME a\x01", protocol.HelloArgs{}, protocol.ERR},
		{"HELLO 2 WHO", protocol.HelloArgs{}, protocol.ERR},
	} {
		got, err := protocol.ParseHello(args(tt.in))
		if !reflect.DeepEqual(got, tt.want) || code(t, err) != tt.code {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}

func TestParseAuth(t *testing.T) {
	for _, tt := range []struct {
		in             string
		user, password string
		code           protocol.Code
	}{
		{"AUTH p", "", "p", ""},
		{"AUTH u p", "u", "p", ""},
		{"AUTH", "", "", protocol.ERR},
		{"AUTH u p x", "", "", protocol.ERR},
	} {
		got, err := protocol.ParseAuth(args(tt.in))
		if string(got.User) != tt.user || string(got.Password) != tt.password || code(t, err) != tt.code {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}

func TestParseClient(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want protocol.ClientArgs
		code protocol.Code
	}{
		{"CLIENT ID", protocol.ClientArgs{Verb: protocol.ClientID}, ""},
		{"CLIENT getname", protocol.ClientArgs{Verb: protocol.ClientGetName}, ""},
		{"CLIENT SETNAME me", protocol.ClientArgs{Verb: protocol.ClientSetName, Value: []byte("me")}, ""},
		{"CLIENT SETINFO LIB-NAME go-redis(,go1.26)", protocol.ClientArgs{Verb: protocol.ClientSetInfo, Attribute: "lib-name", Value: []byte("go-redis(,go1.26)")}, ""},
		{"CLIENT SETINFO lib-ver 9.0.0", protocol.ClientArgs{Verb: protocol.ClientSetInfo, Attribute: "lib-ver", Value: []byte("9.0.0")}, ""},
		{"CLIENT PARK off", protocol.ClientArgs{Verb: protocol.ClientPark}, ""},
		{"CLIENT park ON", protocol.ClientArgs{Verb: protocol.ClientPark, Park: true}, ""},
		{"CLIENT PARK", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT PARK maybe", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT ID 1", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT SETNAME", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT SETNAME " + strings.Repeat("x", 129), protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT SETNAME a\x7f", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT SETINFO LIB-AGE 3", protocol.ClientArgs{}, protocol.ERR},
		{"CLIENT KILL 3", protocol.ClientArgs{}, protocol.ERR},
	} {
		got, err := protocol.ParseClient(args(tt.in))
		if !reflect.DeepEqual(got, tt.want) || code(t, err) != tt.code {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
	if _, err := protocol.ParseClient(words("CLIENT", "SETNAME", "a b")); err == nil {
		t.Error("a name with a space is taken")
	}
	if got, err := protocol.ParseClient(words("CLIENT", "SETNAME", "")); err != nil || len(got.Value) != 0 {
		t.Errorf("taking the name away: %+v, %v", got, err)
	}
}

func TestParseSmallOnes(t *testing.T) {
	_, tooMany := protocol.ParsePing(args("PING a b"))
	wantCode(t, tooMany, protocol.ERR)
	if message, err := protocol.ParsePing(args("PING")); message != nil || err != nil {
		t.Errorf("%q, %v", message, err)
	}
	if message, err := protocol.ParsePing(words("PING", "")); message == nil || err != nil {
		t.Errorf("an empty message is none: %v", err)
	}

	wantCode(t, protocol.ParseSelect(args("SELECT 0")), "")
	wantCode(t, protocol.ParseSelect(args("SELECT 1")), protocol.ERR)
	wantCode(t, protocol.ParseSelect(args("SELECT")), protocol.ERR)

	patterns, err := protocol.ParseConfig(args("CONFIG get save append*"))
	if err != nil || !reflect.DeepEqual(stringsOf(patterns), []string{"save", "append*"}) {
		t.Errorf("%q, %v", patterns, err)
	}
	_, err = protocol.ParseConfig(args("CONFIG SET a b"))
	wantCode(t, err, protocol.ERR)
	_, err = protocol.ParseConfig(args("CONFIG GET"))
	wantCode(t, err, protocol.ERR)
	_, err = protocol.ParseConfig(args("CONFIG GET " + strings.Repeat("x", protocol.MaxPattern+1)))
	wantCode(t, err, protocol.TOOLARGE)
}
