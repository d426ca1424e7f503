package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/quoitdb/quoit/protocol"
)

// How members prove themselves. With the cluster's secret:
//
//	member                                     server
//	CHALLENGE role name client-nonce   ->
//	                                   <-      server-nonce
//	PROVE HMAC(secret, client label …) ->
//	                                   <-      HMAC(secret, server label …)
//
// Each mac is over a label of its side, the role, the name, both nonces, and what only the
// two ends of this TLS connection know (RFC 9266's idea, with a label of our own), each
// with its length in front. So neither side's proof is good for the other side, for another
// connection, for another name, or through somebody in between who ends the TLS. The
// member proves itself first and says nothing else before the server has done so as well.
//
// With certificates: the members' authority has issued one with a role in it.
const (
	clientLabel   = "quoit member client v1"
	serverLabel   = "quoit member server v1"
	exporterLabel = "EXPORTER-quoit-member"
)

// ErrProof is somebody who is not the member that he says he is.
var ErrProof = errors.New("auth: a member could not prove itself")

type proof = [protocol.ProofSize]byte

// claim is what a proof is about.
type claim struct {
	role, name     string
	client, server proof // nonces
	channel        []byte
}

// mac is one side's proof.
func (c *claim) mac(secret, label string) (sum proof) {
	h := hmac.New(sha256.New, []byte(secret))
	for _, field := range [][]byte{[]byte(label), []byte(c.role), []byte(c.name), c.client[:], c.server[:], c.channel} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		_, _ = h.Write(field)
	}
	h.Sum(sum[:0])
	return sum
}

func newNonce() (nonce proof) {
	_, _ = rand.Read(nonce[:]) // never fails: see crypto/rand
	return nonce
}

// channelOf is what binds a proof to its TLS connection, nothing where there is no TLS.
func channelOf(nc net.Conn) ([]byte, error) {
	c, ok := nc.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	state := c.ConnectionState()
	return state.ExportKeyingMaterial(exporterLabel, nil, protocol.ProofSize)
}

// Members knows how members prove themselves to a server, and proves the server to them.
// A nil one knows no member. It is safe for concurrent use.
type Members struct {
	secrets *secrets // nil: a certificate is enough
	// certificates says that a member has a certificate, which says which member it is.
	certificates bool
}

// newMembers returns what the settings ask for; memberCA says that the server's listener
// verifies the certificates of members.
func newMembers(c *Config, shared *secrets, memberCA bool) *Members {
	if !c.On() {
		return nil
	}
	return &Members{secrets: shared, certificates: memberCA}
}

// Certified is who a connection is by its certificate alone, once its handshake is made:
// nil for nobody, or for a node or manager that has a secret to prove besides. A
// certificate that the members' authority has issued, and that has no role, is an error.
func (m *Members) Certified(nc net.Conn) (*Principal, error) {
	p, err := m.certificate(nc)
	if err != nil || p == nil || m.secrets != nil && (p.role == RoleNode || p.role == RoleManager) {
		return nil, err
	}
	return p, nil
}

// certificate is whom the connection's certificate names, nil if it has none.
func (m *Members) certificate(nc net.Conn) (*Principal, error) {
	c, ok := nc.(*tls.Conn)
	if m == nil || !m.certificates || !ok {
		return nil, nil
	}
	state := c.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil, nil
	}
	return principalOf(state.PeerCertificates[0])
}

// Claim is one connection's attempt to prove that it is a member. A connection has one.
type Claim struct {
	claim
	secrets []string   // that it may be proved by
	p       *Principal // whom it is about
	over    bool
}

var (
	errProof     = &protocol.Error{Code: protocol.NOAUTH, Message: "the proof does not hold: the cluster secret (QUOIT_CLUSTER_SECRET) is another one here"}
	errOneClaim  = &protocol.Error{Code: protocol.NOAUTH, Message: "a connection has one CHALLENGE, and one PROVE after it: connect anew"}
	errNoSecret  = &protocol.Error{Code: protocol.NOAUTH, Message: "this server has no cluster secret (QUOIT_CLUSTER_SECRET) to prove"}
	errNoCert    = &protocol.Error{Code: protocol.NOAUTH, Message: "a member shows a certificate here (QUOIT_TLS_MEMBER_CA_FILE), and this connection has shown none"}
	errOtherRole = &protocol.Error{Code: protocol.NOAUTH, Message: "the certificate of this connection is for another role or name"}
)

// Challenge begins the proof of a connection; the nonce is the reply. After an error,
// which is ready to be sent, the connection is to be closed. Of a connection that has a
// claim already, earlier is that, and it is an error.
func (m *Members) Challenge(nc net.Conn, earlier *Claim, msg protocol.Challenge) (*Claim, error) {
	if earlier != nil {
		earlier.over = true
		return nil, errOneClaim
	}
	if m == nil || m.secrets == nil {
		return nil, errNoSecret
	}
	role, _ := ParseRole(strings.ToLower(string(msg.Role))) // node or manager: it was parsed
	p := Member(role, string(msg.Name))
	if err := m.agrees(nc, p); err != nil {
		return nil, err
	}
	channel, err := channelOf(nc)
	if err != nil {
		return nil, &protocol.Error{Code: protocol.NOAUTH, Message: err.Error()}
	}
	return &Claim{
		claim:   claim{role: role.String(), name: p.name, client: msg.Nonce, server: newNonce(), channel: channel},
		secrets: m.secrets.current(), p: p,
	}, nil
}

// agrees says whether a claim is that of the connection's certificate, where members have
// one.
func (m *Members) agrees(nc net.Conn, p *Principal) error {
	if !m.certificates {
		return nil
	}
	by, err := m.certificate(nc)
	switch {
	case err != nil:
		return errOtherRole
	case by == nil:
		return errNoCert
	case by.role != p.role || by.name != "" && by.name != p.name:
		return errOtherRole
	}
	return nil
}

// Nonce is the reply to the challenge.
func (c *Claim) Nonce() [protocol.ProofSize]byte { return c.server }

// Prove ends the proof, one way or the other: it returns the server's own, for the reply,
// and who the connection is from now on. After an error, which is ready to be sent, the
// connection is to be closed.
func (c *Claim) Prove(msg protocol.Prove) ([protocol.ProofSize]byte, *Principal, error) {
	if c == nil || c.over {
		return proof{}, nil, errOneClaim
	}
	c.over = true
	for _, secret := range c.secrets {
		want := c.mac(secret, clientLabel)
		if hmac.Equal(want[:], msg.MAC[:]) {
			return c.mac(secret, serverLabel), c.p, nil
		}
	}
	return proof{}, nil, errProof
}

// scheme is that of the URIs with which a certificate names its role: quoit://manager,
// quoit://gateway, quoit://operator, quoit://node/10.0.0.7:7401, or quoit://node for a node
// with any address.
const scheme = "quoit"

// principalOf is whom a certificate names, that has been verified.
func principalOf(cert *x509.Certificate) (*Principal, error) {
	p, err := named(cert)
	if err == nil && p == nil {
		err = errors.New("names no role: want a URI such as quoit://node or quoit://manager among its subject alternative names")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate %w", ErrProof, err)
	}
	return p, nil
}

// named is whom a certificate names, nil for nobody. What is wrong with it is said in words
// that follow "the certificate".
func named(cert *x509.Certificate) (found *Principal, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != scheme {
			continue
		}
		role, known := ParseRole(u.Host)
		name := strings.TrimPrefix(u.Path, "/")
		if !known || name != "" && role != RoleNode || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("names %q: want quoit://node, quoit://node/HOST:PORT, quoit://manager, quoit://gateway or quoit://operator", u.String())
		}
		if found != nil {
			return nil, errors.New("names more than one role")
		}
		found = Member(role, name)
	}
	return found, nil
}
