package freeport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// giveBack ends the claims of a test with it: there are ports for a few processes, and
// not for this test again and again.
func giveBack(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, claim := range given {
			if claim != nil {
				claim.Close()
			}
		}
		clear(given)
	})
}

func TestAddressesAreFreeAndDifferent(t *testing.T) {
	giveBack(t)
	seen := map[string]bool{}
	for range 200 {
		address, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(address)
		if n, _ := strconv.Atoi(port); err != nil || n < first || n > last || seen[address] {
			t.Fatalf("%s: %v", address, err)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

func TestAPortThatSomebodyListensOnIsNotFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if isFree(l.Addr().String()) {
		t.Error("free")
	}
}

// Two test binaries run side by side: what one has been given, and does not listen on yet
// or any more, is not given to the other.
func TestAPortThatAnotherProcessWasGivenIsNotTaken(t *testing.T) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		port := first + rand.IntN(last-first+1)
		claim, err := net.ListenPacket("udp", loopback(port)) // as the other process would
		if err != nil {
			continue
		}
		defer claim.Close()
		if take(port) {
			t.Errorf("port %d is given twice", port)
		}
		return
	}
	t.Fatal("no free port")
}

func TestThePortsOfAdminAndGatewayAreTakenAlong(t *testing.T) {
	giveBack(t)
	address, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := net.SplitHostPort(address)
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if take(port) || take(port+gateway) || take(port+admin) {
		t.Errorf("%s or the port eighty or one hundred above can be taken again", address)
	}
}
