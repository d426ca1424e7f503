package node

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoWaitsForTheManagerCanGiveUp: the connection is one request's at a time, and a
// manager that does not answer holds up only those who still want to wait for it.
func TestWhoWaitsForTheManagerCanGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink("manager:7400")
		l.dial = func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		first := make(chan error)
		go func() {
			_, err := l.do(t.Context(), "HEARTBEAT")
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := l.do(ctx, "HEARTBEAT"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits for the one before: %v, want the end of its patience", err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("it has waited for %s, want the second that it had", waited)
		}
		if err := <-first; err == nil {
			t.Error("a manager that cannot be dialled has answered")
		}
		l.close()
	})
}
