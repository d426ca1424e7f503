package auth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestAScopeIsWrittenAsPeopleDo(t *testing.T) {
	for text, want := range map[string]Scope{
		"flags":    KeyScope("flags", ReadAccess),
		"cart:*":   PrefixScope("cart:", ReadAccess),
		"*":        PrefixScope("", ReadAccess),
		`star\*`:   KeyScope("star*", ReadAccess),
		`\*`:       KeyScope("*", ReadAccess),
		`a*b`:      KeyScope("a*b", ReadAccess),
		`a**`:      PrefixScope("a*", ReadAccess),
		`back\`:    KeyScope(`back\`, ReadAccess),
		`back\\*`:  KeyScope(`back\*`, ReadAccess),
		"größe/*":  PrefixScope("größe/", ReadAccess),
		"a key":    KeyScope("a key", ReadAccess),
		"user:1:*": PrefixScope("user:1:", ReadAccess),
	} {
		got, err := ParseScope(text, ReadAccess)
		if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("%s is read as %#v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%s is written as %s", text, got)
		}
	}
}

func TestAScopeThatATerminalWouldNotShowIsQuoted(t *testing.T) {
	for want, s := range map[string]Scope{
		`""`:         KeyScope("", ReadAccess),
		`"\"a"`:      KeyScope(`"a`, ReadAccess),
		`"\xff\n"`:   KeyScope("\xff\n", ReadAccess),
		`"\x1b["*`:   PrefixScope("\x1b[", ReadAccess),
		`"a\\"*`:     PrefixScope(`a\`, ReadAccess),
		`"a\u202eb"`: KeyScope("a\u202eb", ReadAccess),
	} {
		if got := s.String(); got != want {
			t.Errorf("%#v is written %s, want %s", s, got, want)
		}
	}
}

func TestAPrefixThatWouldOpenItsNeighboursIsRefused(t *testing.T) {
	_, err := ParseScope("user:1*", ReadAccess)
	want := `the prefix "user:1" would open "user:10", too: end it with a delimiter, such as "user:1:", or name the one key`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for b := range 256 {
		letter := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", rune(b)) && b < 0x80
		if err := PrefixScope("user"+string([]byte{byte(b)}), ReadAccess).Validate(); (err != nil) != letter {
			t.Errorf("a prefix that ends in byte %d: %v", b, err)
		}
		if err := KeyScope("user"+string([]byte{byte(b)}), ReadAccess).Validate(); err != nil {
			t.Errorf("a key that ends in byte %d: %v", b, err)
		}
	}
	if err := PrefixScope("", WriteAccess).Validate(); err != nil {
		t.Errorf("every key: %v", err)
	}
}

func TestAScopeInATokenSaysBytesThatAreNoTextInBase64(t *testing.T) {
	for want, s := range map[string]Scope{
		`{"prefix":"cart:","access":"write"}`:   PrefixScope("cart:", WriteAccess),
		`{"key":"","access":"read"}`:            KeyScope("", ReadAccess),
		`{"prefix":"","access":"read"}`:         PrefixScope("", ReadAccess),
		`{"key64":"_wA","access":"read"}`:       KeyScope("\xff\x00", ReadAccess),
		`{"prefix64":"w6k6_w","access":"read"}`: PrefixScope("é:\xff", ReadAccess),
		`{"key64":"77-9","access":"read"}`:      KeyScope("\uFFFD", ReadAccess),
	} {
		text, err := json.Marshal(s)
		if err != nil || string(text) != want {
			t.Errorf("%#v is %s, %v", s, text, err)
		}
		var got Scope
		if err := json.Unmarshal(text, &got); err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", s) {
			t.Errorf("%s is read as %#v, %v", text, got, err)
		}
	}
}
