package sim

import "math/rand/v2"

// dice is a stream of chances of its own: each part of the world has one, so that what
// happens in one place does not change what another draws.
type dice struct{ *rand.Rand }

// dice returns the stream of a name, the same for the same seed.
func (w *World) dice(name string) dice {
	return dice{rand.New(rand.NewPCG(w.Seed, fingerprint(name)))} // To be repeated, not to be secret.
}

// fingerprint is FNV-1a.
func fingerprint(text string) uint64 {
	return mix(offsetBasis, text)
}

const (
	offsetBasis = 14695981039346656037
	prime       = 1099511628211
)

// mix adds text to a fingerprint.
func mix[T string | []byte](sum uint64, text T) uint64 {
	for i := range len(text) {
		sum = (sum ^ uint64(text[i])) * prime
	}
	return sum
}

// chance says yes with probability p.
func (d dice) chance(p float64) bool { return p > 0 && d.Float64() < p }

// between returns a number from low to high, which may be equal.
func between[T ~int | ~int64](d dice, low, high T) T {
	return low + T(d.Int64N(int64(high-low)+1))
}

// one returns one of several.
func one[T any](d dice, several ...T) T { return several[d.IntN(len(several))] }
