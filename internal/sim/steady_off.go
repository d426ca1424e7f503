//go:build !steady

package sim

// Steady says whether the scheduler draws its chances from the seed, too: only in a
// build by tools/sim. Otherwise the same seed gives the same faults, and not always the
// same run.
const Steady = false

func steady(uint64) {}
