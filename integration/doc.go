// Package integration tests the whole from outside: real processes of the quoit
// binary on loopback, killed at every fail point, frozen at every step of a range
// move, cut off from each other and from the bucket, on disks that are full or slow,
// in a hail of hostile bytes, and suffering much of that at random; and whole clusters in one process whose members' messages are lost or
// doubled. Every test runs a checked load
// ([github.com/quoitdb/quoit/internal/oracle]) and audits it.
//
// It needs nothing but the Go toolchain, and MinIO for faults of the bucket. The
// package has no code of its own.
package integration
