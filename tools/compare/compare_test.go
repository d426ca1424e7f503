package main

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAQuantileIsAValueOfTheList(t *testing.T) {
	list := make([]time.Duration, 1000)
	for i := range list {
		list[(i*7)%1000] = time.Duration(i+1) * time.Millisecond
	}
	for share, want := range map[float64]int64{0: 1, 0.5: 501, 0.99: 991, 0.999: 1000, 1: 1000} {
		if got := quantile(slices.Clone(list), share); got.Milliseconds() != want {
			t.Errorf("%v of 1 to 1000 ms is %v, want %d ms", share, got, want)
		}
	}
	if got := quantile(nil, 0.99); got != 0 {
		t.Errorf("of nothing it is %v", got)
	}
}

// TestRoundsAreMerged: the median of what is one number for each round, and all
// answers of all rounds for the rest.
func TestRoundsAreMerged(t *testing.T) {
	m := mergedOf([]snapshotCost{
		{took: 3 * time.Second, cpu: 1, memory: 5, bytes: 10, during: []time.Duration{1, 2}},
		{took: time.Second, cpu: 3, memory: 9, bytes: 11, during: []time.Duration{3}},
		{took: 2 * time.Second, cpu: 2, memory: 7, bytes: 12},
	})
	if m.took != 2*time.Second || m.cpu != 2 || m.memory != 9 || m.bytes != 12 || !slices.Equal(m.during, []time.Duration{1, 2, 3}) {
		t.Errorf("merged: %+v", m)
	}
}

func TestProbedTimesAreThoseOfWhatWasSentThen(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	p := &probe{answers: []answered{{at(9), 1}, {at(10), 2}, {at(19), 3}, {at(20), 4}}}
	if got := p.between(at(10), at(20)); !slices.Equal(got, []time.Duration{2, 3}) {
		t.Errorf("sent from 10 to 20: %v", got)
	}
}

// TestValuesAreHalfRandom: the same in each run, other ones in each generation and for
// each key.
func TestValuesAreHalfRandom(t *testing.T) {
	seen := map[string]bool{}
	for generation := range uint64(3) {
		value, again := halfRandom(100, generation), halfRandom(100, generation)
		for key := range 100 {
			text := string(value(key))
			if string(again(key)) != text || len(text) != 100 || !strings.HasSuffix(text, strings.Repeat("v", 50)) {
				t.Fatalf("key %d: %q", key, text)
			}
			seen[text[:50]] = true
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d different values of 300", len(seen))
	}
}

func TestAnswersOfServers(t *testing.T) {
	in := "+OK\r\n:42\r\n$5\r\nhe\r\no\r\n$0\r\n\r\n$-1\r\n-LOADING not yet\r\n*1\r\n"
	c := &talk{in: bufio.NewReader(strings.NewReader(in))}
	for _, want := range []string{"OK", "42", "he\r\no", ""} {
		if got, err := c.reply(); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := c.reply(); !errors.Is(err, errNil) {
		t.Errorf("nil: %v", err)
	}
	for _, want := range []string{"LOADING not yet", `"*1"`} {
		if _, err := c.reply(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if got := string(command(nil, "SET", "k", "")); got != "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n" {
		t.Errorf("a request: %q", got)
	}
}

func TestInfoIsReadByName(t *testing.T) {
	info := infoOf("# Persistence\r\nloading:0\r\nrdb_last_cow_size:4096\r\n")
	if info["loading"] != "0" || info["rdb_last_cow_size"] != "4096" {
		t.Errorf("%v", info)
	}
}

// TestRequestsAreCountedByKind: through the proxy, on their way to a store that gets
// them as they were signed.
func TestRequestsAreCountedByKind(t *testing.T) {
	var hosts []string
	store := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts = append(hosts, r.Host) }))
	defer store.Close()
	counts := &tallies{}
	p, err := startProxy(strings.TrimPrefix(store.URL, "http://"), "nodes", counts)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, ask := range []struct{ method, path, header string }{
		{"GET", "/quoit/cluster/cluster/document.json", ""},
		{"GET", "/quoit/cluster/cluster/document.json", ""},
		{"PUT", "/quoit/cluster/nodes/10.0.0.1__7401/head.json", "If-Match"},
		{"GET", "/quoit/cluster/nodes/10.0.0.1__7401/parts/1-2", "Range"},
		{"PUT", "/quoit/cluster/nodes/10.0.0.1__7401/log/1-2-3", ""},
		{"GET", "/quoit/?list-type=2&prefix=cluster", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), ask.method, "http://"+p.address+ask.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ask.header != "" {
			r.Header.Set(ask.header, "bytes=0-1")
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	taken := counts.take()
	for k, want := range map[kind]int{
		{"nodes", "cluster document", "GET"}:                          2,
		{"nodes", "head of a node's snapshots", "PUT on a condition"}: 1,
		{"nodes", "parts", "GET of a range"}:                          1,
		{"nodes", "log", "PUT"}:                                       1,
		{"nodes", "other", "LIST"}:                                    1,
	} {
		if taken[k] != want {
			t.Errorf("%v: %d, want %d, of %v", k, taken[k], want, taken)
		}
	}
	for _, host := range hosts {
		if host != p.address {
			t.Errorf("the store was asked as %s, and the request was signed for %s", host, p.address)
		}
	}
	if again := counts.take(); len(again) != 0 {
		t.Errorf("counted twice: %v", again)
	}
}
