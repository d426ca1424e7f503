package manager

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// TestWhatOperatorsAreToldOfTheBucketIsDiscreet: whatever is asked while the bucket is
// away, nobody reads where it is.
func TestWhatOperatorsAreToldOfTheBucketIsDiscreet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA, nodeB))
		f := w.faults()
		m := w.manager()
		c := m.dial()
		dial := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 9000}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		away := fmt.Errorf("%w: Get \"http://canary-store:9000/quoit\": %w", bucket.ErrUnavailable, dial)
		f.do(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: away} })
		pass(time.Minute)
		for _, request := range []string{"CLUSTER STATUS", "CLUSTER PLAN ADD c:7401", "CLUSTER ADD c:7401", "CLUSTER PAUSE", "CLUSTER REMOVE a:7401", "MOVE_DONE active m-1"} {
			got := c.do(strings.Fields(request)...)
			if strings.Contains(got, "canary") || strings.Contains(got, "10.9.9.9") || strings.HasPrefix(got, "-") && discreet.Reveals(got) {
				t.Errorf("%s reveals: %s", request, got)
			}
		}
		if got := c.do("CLUSTER", "PAUSE"); !strings.HasPrefix(got, "-UNAVAILABLE ") || !strings.Contains(got, bucket.ErrUnavailable.Error()) {
			t.Errorf("the reason is missing: %s", got)
		}
	})
}
