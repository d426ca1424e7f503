package seldom

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALineASecondWithWhatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		var line, other Line
		for range 100 {
			line.Warn(log, "closed", "client", "a")
		}
		other.Warn(log, "another kind")
		<-time.After(time.Second) // of the bubble
		line.Warn(log, "closed", "client", "b")
		got := strings.Count(text.String(), "msg=closed")
		if got != 2 || !strings.Contains(text.String(), "client=b left_out=99") || !strings.Contains(text.String(), "another kind") {
			t.Errorf("%d lines:\n%s", got, text.String())
		}
	})
}
