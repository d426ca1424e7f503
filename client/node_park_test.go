package client

import "testing"

// A shared connection must not be held up by one caller's key whose range changes
// hands, so every connection begins by saying so.
func TestEveryConnectionAsksNotToBeParked(t *testing.T) {
	f := NewFakeCluster(1)
	defer f.Close()
	c, err := Open(t.Context(), []string{fakeAddress(1)}, WithDialer(f.Dial))
	must(t, err)
	must(t, c.Put(t.Context(), "k", []byte("v")))
	must(t, c.Close())
	if n := f.Node(1).Served("CLIENT"); n < 1 {
		t.Errorf("CLIENT PARK OFF was sent %d times", n)
	}
}
