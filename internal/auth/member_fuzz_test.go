package auth

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/protocol"
)

// FuzzRole: whatever URI is in a certificate, it makes somebody a member only in one of the
// forms that there are, opens no key, and does not go with another one.
func FuzzRole(f *testing.F) {
	for _, text := range []string{
		"quoit://node", "quoit://node/10.0.0.7:7401", "quoit://manager", "quoit://operator", "quoit://gateway", "quoit://manager/m", "quoit://node/", "quoit://node//a", "QUOIT://node", "quoit://Node",
		"quoit:node", "quoit:///node", "quoit://node?a", "quoit://node#a", "quoit://a@node", "quoit://node:80/x", "quoit://node/%31", "https://a.example/", "quoit://node/a b", "quoit://",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		p, err := principalOf(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil {
			if !errors.Is(err, ErrProof) || p != nil {
				t.Fatalf("%q: %v, %v", text, p, err)
			}
			return
		}
		head, name := "quoit://"+p.role.String(), p.name
		if rest, ours := strings.CutPrefix(strings.ToLower(text[:len("quoit://")])+text[len("quoit://"):], head); !ours || rest != "" && rest[0] != '/' && rest[0] != '#' && rest[0] != '?' {
			t.Fatalf("%q is the role %s", text, p.role)
		}
		if name != "" && p.role != RoleNode || p.Kind() != MemberKind || p.MayRead([]byte("a")) || p.MayWrite([]byte("a")) {
			t.Fatalf("%q is %+v", text, p)
		}
		second := &url.URL{Scheme: scheme, Host: "node"}
		if p, err := principalOf(&x509.Certificate{URIs: []*url.URL{u, second}}); err == nil {
			t.Fatalf("%q and %s are %+v", text, second, p)
		}
	})
}

// FuzzStrangerAmongMembers: who does not know the secret is no member, whatever he claims
// and proves, and no server that a member goes on with, whatever he answers; he is told no
// proof, and nothing of the member's but two requests.
func FuzzStrangerAmongMembers(f *testing.F) {
	const secret = "0123456789abcdef0123456789abcdef"
	nonce := bytes.Repeat([]byte{7}, protocol.ProofSize)
	bulk := protocol.AppendProof(nil, proof(nonce))
	f.Add([]byte("node"), []byte("10.0.0.7:7401"), nonce, nonce, append(bytes.Clone(bulk), bulk...))
	f.Add([]byte("MANAGER"), []byte("m"), nonce, []byte{}, []byte("-NOAUTH no\r\n"))
	f.Add([]byte("client"), []byte(""), []byte{}, nonce, []byte("+OK\r\n+OK\r\n"))
	f.Add([]byte("operator"), []byte("x"), nonce, nonce, append(bytes.Clone(bulk), "$-1\r\n"...))
	c := Config{ClusterSecret: config.NewSecret(secret), TokenKeysFile: "keys.json"}
	m := newMembers(&c, newSecrets(c.ClusterSecret, nil, nil), false)
	f.Fuzz(func(t *testing.T, role, name, nonce, mac, answers []byte) {
		hex := func(b []byte) []byte {
			var p proof
			copy(p[:], b)
			return protocol.AppendProof(nil, p)[len("$64\r\n") : len("$64\r\n")+2*protocol.ProofSize]
		}
		if msg, err := protocol.ParseChallenge([][]byte{[]byte("CHALLENGE"), role, name, hex(nonce)}); err == nil {
			claim, err := m.Challenge(nil, nil, msg)
			if err != nil {
				t.Fatalf("a claim that is one: %v", err)
			}
			if claim.Nonce() == msg.Nonce {
				t.Fatal("the server's nonce is the member's")
			}
			prove, err := protocol.ParseProve([][]byte{[]byte("PROVE"), hex(mac)})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if told, who, err := claim.Prove(prove); err == nil || who != nil || told != (proof{}) {
					t.Fatalf("%q %q has proved that with %x", role, name, mac)
				}
			}
		}
		far := &answering{rest: answers}
		o := MemberOptions{Secret: secret, Role: RoleNode, Name: "10.0.0.7:7401"}
		if _, err := o.prove(context.Background(), far, "10.0.0.8:7401"); err == nil {
			t.Fatalf("a server that answers %q is taken for a member", answers)
		}
		if n := bytes.Count(far.heard, []byte("\r\nCHALLENGE\r\n")) + bytes.Count(far.heard, []byte("\r\nPROVE\r\n")); n > 2 || !bytes.HasPrefix(far.heard, []byte("*4\r\n$9\r\nCHALLENGE\r\n")) || bytes.Count(far.heard, []byte("*")) != n {
			t.Fatalf("a server that answers %q is told %q", answers, far.heard)
		}
	})
}

// FuzzSecrets: what is taken for the cluster's secrets is lines of the file that are long
// enough, and an error shows nothing of it.
func FuzzSecrets(f *testing.F) {
	long := strings.Repeat("s", MinClusterSecret)
	for _, text := range []string{long, long + "\n", long + "\r\n" + long + "2", "\n\n" + long, long[1:], "", strings.Repeat(long+"\n", 5), long + "\nshort", " " + long + " "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseSecrets(text)
		if err != nil {
			for line := range strings.Lines(text) {
				if line = strings.TrimSpace(line); len(line) > 16 && strings.Contains(err.Error(), line) {
					t.Fatalf("%q is told: %v", line, err)
				}
			}
			return
		}
		for _, one := range all {
			if len(one) < MinClusterSecret || strings.Contains(one, "\n") || !strings.Contains(text, one) {
				t.Fatalf("%q has the secret %q", text, one)
			}
		}
		if len(all) == 0 || len(all) > maxSecrets {
			t.Fatalf("%q has %d secrets", text, len(all))
		}
	})
}

// answering is a connection to somebody who says what he says.
type answering struct {
	net.Conn
	rest, heard []byte
}

func (a *answering) Read(b []byte) (int, error) {
	if len(a.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *answering) SetDeadline(time.Time) error      { return nil }
func (a *answering) SetReadDeadline(time.Time) error  { return nil }
func (a *answering) SetWriteDeadline(time.Time) error { return nil }

func (a *answering) Write(b []byte) (int, error) {
	a.heard = append(a.heard, b...)
	return len(b), nil
}
