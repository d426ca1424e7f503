//go:build !unix

package failpoint

import (
	"errors"
	"os"
)

// killSelf ends the process without running deferred calls.
func killSelf() error {
	os.Exit(137)
	return nil
}

func pauseSelf() error { return errors.New("failpoint: pause needs a Unix system") }
