//go:build race

package client

// raceEnabled: the race detector empties pools at random.
const raceEnabled = true
