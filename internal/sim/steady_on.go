//go:build steady

package sim

import _ "unsafe" // for go:linkname

// Steady says that the scheduler draws its chances from the seed.
const Steady = true

// steady seeds the runtime's chances inside the bubble. tools/sim puts it there.
//
//go:linkname steady runtime.steadySeed
func steady(seed uint64)
