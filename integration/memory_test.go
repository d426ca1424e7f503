package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/protocol"
)

// resident is how many bytes of a process are in memory and nowhere else.
func (p *process) resident(t *testing.T) int64 {
	t.Helper()
	p.mu.Lock()
	pid := p.cmd.Process.Pid
	p.mu.Unlock()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("RssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte(" kB"))
	kib, err := strconv.ParseInt(strings.TrimSpace(string(line)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestAFullNodeStaysWithinItsMemory: a real process is given three times what it may
// hold, and refuses the rest long before the system would end it.
func TestAFullNodeStaysWithinItsMemory(t *testing.T) {
	t.Parallel()
	const limit = 192 << 20
	_, nodes := keepers(t, 1, "QUOIT_NODE_MAX_MEMORY=192MiB", "QUOIT_FSYNC=never")
	db, err := client.Open(t.Context(), []string{nodes[0].name})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := bytes.Repeat([]byte("v"), 30<<10)
	written, refused := 0, 0
	for i := range 3 * limit / len(value) {
		var reply *client.ServerError
		switch err := db.Put(t.Context(), "key:"+strconv.Itoa(i), value); {
		case err == nil:
			written++
		case errors.As(err, &reply) && reply.Code == protocol.OOM:
			refused++
		default:
			t.Fatal(err)
		}
	}
	if rss := nodes[0].resident(t); rss > limit || written == 0 || refused == 0 {
		t.Errorf("%d keys were taken, %d refused, %d MiB are resident of %d", written, refused, rss>>20, limit>>20)
	} else {
		t.Logf("%d keys were taken, %d refused, %d MiB are resident of %d", written, refused, rss>>20, limit>>20)
	}
	for i := range written / 2 {
		if _, err := db.Delete(t.Context(), "key:"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Put(t.Context(), "new", value); err != nil {
		t.Errorf("after deletions: %v", err)
	}
}
