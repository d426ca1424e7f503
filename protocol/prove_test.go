package protocol_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// hexOf is a proof of equal bytes as it is written.
func hexOf(c byte) string {
	const digits = "0123456789abcdef"
	return strings.Repeat(string([]byte{digits[c>>4], digits[c&0xf]}), protocol.ProofSize)
}

// proofOf is the same as it is meant.
func proofOf(c byte) (proof [protocol.ProofSize]byte) {
	for i := range proof {
		proof[i] = c
	}
	return proof
}

func TestProofMessages(t *testing.T) {
	for _, tt := range []struct {
		want message
		line string
	}{
		{protocol.Challenge{Role: []byte("node"), Name: []byte("10.0.0.1:7401"), Nonce: proofOf(0xaf)}, "CHALLENGE node 10.0.0.1:7401 " + hexOf(0xaf)},
		{protocol.Challenge{Role: []byte("manager"), Name: []byte("manager"), Nonce: proofOf(0)}, "CHALLENGE manager manager " + hexOf(0)},
		{protocol.Prove{MAC: proofOf(0x9c)}, "PROVE " + hexOf(0x9c)},
	} {
		got, err := parse(args(tt.line))
		if err != nil || !reflect.DeepEqual(got, any(tt.want)) {
			t.Errorf("%q: %+v, %v", tt.line, got, err)
		}
		sent := feed(&protocol.RequestParser{}, string(tt.want.Append(nil)))
		if len(sent.requests) != 1 || strings.Join(sent.requests[0], " ") != tt.line {
			t.Errorf("%+v is sent as %q, %v", tt.want, sent.requests, sent.err)
		}
	}
}

func TestBadProofMessages(t *testing.T) {
	good := hexOf(0xab)
	for _, line := range []string{
		"CHALLENGE", "CHALLENGE node a:1", "CHALLENGE gateway a:1 " + good, "CHALLENGE node \x00 " + good,
		"CHALLENGE node a:1 " + good[1:], "CHALLENGE node a:1 " + good + "00", "CHALLENGE node a:1 " + strings.ToUpper(good),
		"CHALLENGE node a:1 " + strings.Repeat("x", 64), "CHALLENGE node a:1 " + good + " more",
		"PROVE", "PROVE " + good[2:], "PROVE " + good[:63] + "g", "PROVE " + good + " " + good,
	} {
		m, err := parse(args(line))
		if code(t, err) != protocol.ERR {
			t.Errorf("%.60q: %+v, %v", line, m, err)
		}
	}
}

// FuzzProof: what is taken for a proof is written back as the very same bytes.
func FuzzProof(f *testing.F) {
	f.Add(hexOf(0x0f))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		proof, ok := protocol.ParseProof([]byte(text))
		if ok && string(protocol.AppendProof(nil, proof)) != "$64\r\n"+text+"\r\n" {
			t.Errorf("%q was read as %x", text, proof)
		}
	})
}
