package contain

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func boom(p *Panics, log *slog.Logger) {
	defer func() { p.Caught(log, "a connection", recover(), "client", "me") }()
	panic("a bug")
}

func TestAPanicThatNoTestHasAskedForIsFound(t *testing.T) {
	var logged bytes.Buffer
	var p Panics
	for range 2 {
		boom(&p, slog.New(slog.NewTextHandler(&logged, nil)))
	}
	err := Unasked()
	if err == nil || !strings.Contains(err.Error(), "2 panics") || !strings.Contains(err.Error(), "contain.boom") {
		t.Errorf("found %v", err)
	}
	if p.Load() != 2 || p.Asked() != 2 || p.Load() != 0 {
		t.Errorf("%d are left", p.Load())
	}
	if err := Unasked(); err != nil {
		t.Errorf("those that were asked for: %v", err)
	}
	if err := Told(logged.Bytes()); err == nil || !strings.Contains(err.Error(), "a bug") || !strings.Contains(err.Error(), "client=me") {
		t.Errorf("told %v of\n%s", err, &logged)
	}
}

func TestALogTellsOfAPanic(t *testing.T) {
	before := "time=1 level=INFO msg=serving\n"
	for text, want := range map[string]string{
		before: "",
		before + "time=2 level=WARN msg=\"panic is no word to worry about\"\n":                     "",
		before + "panic: index out of range\n\ngoroutine 7 [running]:\nmain.f()\n":                 "panic: index out of range\n\ngoroutine 7",
		before + "fatal error: concurrent map writes\n":                                            "fatal error: concurrent",
		before + "2026/01/01 00:00:00 http: panic serving 127.0.0.1:1: a bug\n":                    "2026/01/01 00:00:00 http: panic serving",
		before + "{\"msg\":\"a channel panicked and was closed\",\"panic\":\"a bug\"}\n" + before:  "{\"msg\":\"a channel panicked and was closed\",\"panic\":\"a bug\"}",
		"a connection panicked and was closed\n" + strings.Repeat(before, 1000) + "panic: later\n": "a connection panicked and was closed\ntime",
	} {
		switch err := Told([]byte(text)); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "panicked: "+want) || len(err.Error()) > 5<<10):
			t.Errorf("told %v, want %q", err, want)
		}
	}
}
