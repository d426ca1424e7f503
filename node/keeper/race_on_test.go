//go:build race

package keeper

// stride is how far apart the operations are at which a test makes things fail.
const stride = 8
