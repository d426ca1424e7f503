package sim

// kinds are what must have happened over many seeds: a fault that never fires tests
// nothing, and a workload that does nothing checks nothing. tools/sim fails where one of
// them is still 0 in the end.
var kinds = []string{
	"node killed", "node without power", "manager killed", "second manager started beside the first",
	"process killed in the middle of a move", "process frozen in the middle of a move",
	"process without bucket and manager in the middle of a move", "process frozen, goes on", "process frozen for longer than a seal may last, goes on",
	"successor started beside its process", "successor started beside a frozen process", "superseded process ended by itself",
	"server ended by itself", "sync failed", "disk slow", "disk full", "write refused by a full disk",
	"sync delayed", "unsynced block lost in a crash", "unsynced block kept in a crash", "disk lost, node back from the bucket",
	"disk lost before everything was in the bucket", "node goes on without what its lost disk had, as it was told",
	"registers of a lost disk checked", "writes that a lost disk may have taken along",
	"clock set forward", "clock set back",
	"link cut one way", "link cut both ways", "message held", "message delayed", "message overtaken", "dial unanswered",
	"stream reset", "stream cut within a message", "stream half open", "stream left behind, arrives late", "stream sent once more",
	"bucket: 409, 503", "bucket: 412 for nothing", "bucket: 412 of its own", "bucket: request lost", "bucket: reply lost",
	"bucket: write done late", "bucket: slow", "bucket: out of reach",
	"join asked for", "leave asked for", "move planned", "move committed", "move aborted", "snapshot asked for and taken",
	"writes acknowledged", "writes of unknown outcome", "writes refused", "reads answered", "reads failed", "compare-and-set lost",
	"requests out of scope refused", "requests in scope answered", "requests without a token refused",
	"operations checked", "histories checked", "counters checked", "reads of mortals checked", "scans checked", "scans failed",
	"changes watched", "watches that have converged",
}

func newTrace() *trace {
	t := &trace{fired: map[string]int{}}
	for _, kind := range kinds {
		t.fired[kind] = 0
	}
	return t
}
