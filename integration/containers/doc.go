// Package containers tests the image as users run it: Docker containers of a
// manager and nodes, as nobody, with a read-only root and with authentication on, killed, paused, replaced,
// and cut off from each other, under a load that knows what every answer must be
// ([github.com/quoitdb/quoit/internal/oracle]). It speaks to them through the Go
// client and a stock Redis client only.
//
// It needs Docker on Linux, where the containers' addresses can be dialled from
// outside, and no registry: the image is made of a binary that it builds first.
// Without Docker the stories skip and say so; with docker in QUOIT_TEST_REQUIRE they
// fail. Whatever they make carries a label, and goes at the end, or, after a run that
// was killed, at the beginning of the next.
//
// What the settings in compose.yaml, deploy/ and docs/operations.md say is checked
// here too, without Docker. The package has no code of its own.
package containers
