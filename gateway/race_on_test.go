//go:build race

package gateway

// raceEnabled: the race detector makes everything several times as slow.
const raceEnabled = true
