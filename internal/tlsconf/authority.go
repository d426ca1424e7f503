package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// Authority issues certificates. It is for a cluster's own: to try TLS out, for tests,
// and where there is no other authority.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its private key in PEM form.
type Pair struct{ Cert, Key []byte }

// Request is a certificate that is asked for.
type Request struct {
	Hosts []string // names and IP addresses under which it is dialled
	Roles []string // in the cluster, as URIs such as quoit://manager
	// From and Until are when it is valid.
	From, Until time.Time
}

// NewAuthority makes one, with its certificate and key for files.
func NewAuthority(name string, from, until time.Time) (*Authority, Pair, error) {
	key, template, err := prepare(Request{From: from, Until: until})
	if err != nil {
		return nil, Pair{}, err
	}
	template.Subject = pkix.Name{CommonName: name}
	template.IsCA, template.MaxPathLenZero = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.ExtKeyUsage = nil
	p, err := sign(template, template, key, key)
	if err != nil {
		return nil, Pair{}, err
	}
	a, err := OpenAuthority(p)
	return a, p, err
}

// OpenAuthority reads what NewAuthority has made.
func OpenAuthority(p Pair) (*Authority, error) {
	certBlock, _ := pem.Decode(p.Cert)
	keyBlock, _ := pem.Decode(p.Key)
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New("an authority is a certificate and a private key, each in PEM form")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the authority's certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the authority's key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok || !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("the authority's key is not that of its certificate")
	case !cert.IsCA:
		return nil, errors.New("the certificate is not one of an authority: it must not sign others")
	}
	return &Authority{cert, key}, nil
}

// Issue makes a certificate that serves at both ends of a connection.
func (a *Authority) Issue(r Request) (Pair, error) {
	key, template, err := prepare(r)
	if err != nil {
		return Pair{}, err
	}
	return sign(template, a.cert, key, a.key)
}

// SelfSigned makes a certificate without an authority: only who has that very
// certificate believes it.
func SelfSigned(r Request) (Pair, error) {
	key, template, err := prepare(r)
	if err != nil {
		return Pair{}, err
	}
	return sign(template, template, key, key)
}

func sign(template, issuer *x509.Certificate, key, by *ecdsa.PrivateKey) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, by)
	if err != nil {
		return Pair{}, err
	}
	return pairOf(der, key)
}

// prepare makes a key and the certificate that is to be signed.
func prepare(r Request) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	// Not Ed25519, which browsers do not take.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{Organization: []string{"Quoit"}},
		NotBefore:    r.From, NotAfter: r.Until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	for _, role := range r.Roles {
		u, err := url.Parse(role)
		if err != nil {
			return nil, nil, fmt.Errorf("role %q is no URI: %w", role, err)
		}
		c.URIs = append(c.URIs, u)
	}
	return key, c, nil
}

func pairOf(der []byte, key *ecdsa.PrivateKey) (Pair, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}
