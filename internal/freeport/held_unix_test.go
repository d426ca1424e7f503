//go:build unix

package freeport

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestAHeldAddressRefusesAndCannotBeTaken(t *testing.T) {
	address, release, err := Held()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial = %v, %v", c, err)
	}
	if isFree(address) {
		t.Error("somebody else can listen there")
	}
	release()
	if !isFree(address) {
		t.Error("not free after it was released")
	}
}
