// Package integration tests the whole from outside: real processes of the quoit
// binary on loopback, killed and frozen at named points of a range move, and whole
// clusters in one process whose members' messages are lost or doubled. Every test
// runs a checked load ([github.com/quoitdb/quoit/internal/oracle]) and audits it.
//
// It needs nothing but the Go toolchain. The package has no code of its own.
package integration
