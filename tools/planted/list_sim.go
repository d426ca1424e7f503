package main

import "slices"

// simulated are mistakes of the lists above that whole clusters must notice, too: the
// simulator of internal/sim knows nothing of the parts, and has a few dozen seeds for it.
var simulated = []string{
	"engine-acknowledges-before-fsync", "range-sealed-still-read", "range-version-not-carried", "range-delete-not-streamed",
	"document-412-ignored", "document-drop-before-commit", "client-sent-write-sent-again",
	"document-zombie-serves", "auth-read-writes",
}

// simulatorMistakes are those, with the simulator in the place of the narrow tests.
func simulatorMistakes(all []mistake) []mistake {
	var chosen []mistake
	for _, m := range all {
		if slices.Contains(simulated, m.name) {
			m.name, m.pkg, m.tests = "sim-"+m.name, "internal/sim", []string{"TestSeeds"}
			chosen = append(chosen, m)
		}
	}
	return chosen
}
