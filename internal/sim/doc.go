// Package sim runs whole clusters in a world of its own: nodes, manager and clients are
// the real ones, network, disks, bucket and clocks are models, and time is virtual. One
// seed is one run: which faults happen, when, and to whom, how long each message takes,
// what a crash leaves of a disk.
//
//	result := sim.Run(t, seed, sim.Options{})
//
// The package is for tests: its own, and whoever has found a seed.
package sim
