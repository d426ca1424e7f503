package wal

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

const killDirEnv = "QUOIT_TEST_WAL_DIR"

// A real process on the real disk is killed with SIGKILL while it writes, and
// again after it has recovered. Every record that it had reported is there.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		writeUntilKilled(dir)
		return
	}
	dir, reported := t.TempDir(), 0
	for round := range 3 {
		reported = max(reported, killedWriter(t, dir, 150*(round+1)))
		l, err := Open(killOptions(dir))
		must(t, err)
		_, next, err := contents(l)
		if err != nil || next <= reported {
			t.Errorf("round %d: record %d was acknowledged, the log ends before %d, error %v", round, reported, next, err)
		}
		must(t, l.Close())
	}
}

func killOptions(dir string) Options {
	return Options{FS: vfs.OS(), Dir: dir, SegmentSize: 16 << 10}
}

// killedWriter runs this test as another process, kills it after so many
// acknowledgements, and returns the last that it made.
func killedWriter(t *testing.T, dir string, acks int) (last int) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); acks-- {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Errorf("the writer says: %s", lines.Text())
		}
		if acks == 0 {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the writer ended by itself")
	}
	return last
}

// writeUntilKilled reports each record that is durable, in order, while others
// are on their way.
func writeUntilKilled(dir string) {
	l, err := Open(killOptions(dir))
	if err == nil {
		var next int
		_, next, err = contents(l)
		var before LSN
		for i := next; err == nil; i++ {
			var lsn LSN
			if lsn, err = l.Append(record(i)); err != nil {
				break
			}
			if i > next {
				if err = l.Wait(before); err == nil {
					fmt.Println(i - 1)
				}
			}
			before = lsn
		}
	}
	fmt.Println(err)
	os.Exit(1)
}
