package main

import "slices"

// mistakes are all there are, from the disk upwards. Each names the narrowest tests
// that must notice it; that others notice it as well proves nothing more.
func mistakes() []mistake {
	all := slices.Concat(
		logMistakes(), engineMistakes(), rangeMistakes(), moveMistakes(),
		documentMistakes(), snapshotMistakes(), serverMistakes(), clientMistakes(), securityMistakes(),
		tlsMistakes(), doorMistakes(), authMistakes(), enforceMistakes(),
	)
	return append(all, simulatorMistakes(all)...)
}
