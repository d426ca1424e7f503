package auth

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLogTellsWhatBecomesOfTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := newKey(t, HS256, "k1")
		name := keysFile(t, secret)
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		g := NewGuard("node", loadKeys(t, name), slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.Follow(ctx)
		}()
		told := func() string {
			<-time.After(2 * keysEvery)
			synctest.Wait()
			defer log.Reset()
			return log.String()
		}
		if got := told(); !strings.Contains(got, "others on this machine may read the secrets") {
			t.Errorf("of secrets that others may read it tells %s", got)
		}
		if err := os.WriteFile(name, []byte(`{"keys":`), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := told(); strings.Count(got, "stay in force") != 1 || g.Figures().KeyErrors != 1 {
			t.Errorf("of a file that is wrong it tells %s", got)
		}
		pair := newKey(t, EdDSA, "k2")
		public, _ := pair.Public()
		writeKeys(t, name, public)
		if got := told(); !strings.Contains(got, "are others now") || strings.Contains(got, "may read the secrets") {
			t.Errorf("of other keys it tells %s", got)
		}
		cancel()
		<-done
	})
}
