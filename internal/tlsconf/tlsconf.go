// Package tlsconf is how Quoit's servers and those who dial them speak TLS: 1.3 and
// nothing older, with certificates and authorities that are read from files and
// looked at again when the files change, so that a certificate is replaced without a
// restart. Connections that are open keep what they began with.
//
// A [Server] is for listeners, a [Client] for who dials. Both look at their files at a
// handshake, at most once a second; a file that is swapped by a rename, or by a
// symbolic link as Kubernetes does it, is noticed like one that is written over. What
// does not fit together or has expired is never taken: at the start it is an error,
// later the last good files stay, with a line in the log and a count ([Figures]).
//
// Names are verified by what was dialled, host names and IP addresses alike, and there
// is no way to switch that off. Whom a certificate makes somebody a member of the
// cluster, and with which role, is the business of internal/auth.
package tlsconf

import (
	"crypto/tls"
	"errors"

	"github.com/quoitdb/quoit/internal/config"
)

// Config is the settings of whoever listens or dials. Servers and tools share the names,
// so that one environment serves a machine.
type Config struct {
	TLSMode     Mode   `env:"QUOIT_TLS" help:"on or off; on if empty and any other QUOIT_TLS_ variable is set" want:"on or off"`
	TLSCert     string `env:"QUOIT_TLS_CERT_FILE" help:"certificate of this server in PEM form, the intermediate ones behind it; also shown to the members that it dials" want:"a file with a certificate in PEM form"`
	TLSKey      string `env:"QUOIT_TLS_KEY_FILE" help:"its private key in PEM form" want:"a file with the private key of QUOIT_TLS_CERT_FILE in PEM form"`
	TLSCA       string `env:"QUOIT_TLS_CA_FILE" help:"authorities to believe when dialling, in PEM form; those of the system if empty" want:"a file with certificates in PEM form"`
	TLSMemberCA string `env:"QUOIT_TLS_MEMBER_CA_FILE" help:"authorities whose certificates make somebody a member, by a role in them, in PEM form; none if empty" want:"a file with certificates in PEM form"`
}

// Public is the settings of a gateway's public side, for browsers and Redis clients.
type Public struct {
	PublicCert string `env:"QUOIT_GATEWAY_TLS_CERT_FILE" help:"certificate that browsers and Redis clients are shown, in PEM form; without it they are not offered TLS" want:"a file with a certificate in PEM form"`
	PublicKey  string `env:"QUOIT_GATEWAY_TLS_KEY_FILE" help:"its private key in PEM form" want:"a file with the private key of QUOIT_GATEWAY_TLS_CERT_FILE in PEM form"`
}

// Mode is on, off or empty: on if anything else is set.
type Mode string

// UnmarshalText reads on or off.
func (m *Mode) UnmarshalText(text []byte) error {
	switch mode := Mode(text); mode {
	case "", "on", "off":
		*m = mode
		return nil
	}
	return errors.New("want on or off")
}

// Enabled says whether TLS is to be spoken.
func (c *Config) Enabled() bool {
	return c.TLSMode == "on" || c.TLSMode == "" && (c.TLSCert != "" || c.TLSKey != "" || c.TLSCA != "" || c.TLSMemberCA != "")
}

// Members says whether certificates prove who is a member.
func (c *Config) Members() bool { return c.Enabled() && c.TLSMemberCA != "" }

// ValidateServer says what of the settings a server cannot work with.
func (c *Config) ValidateServer() error {
	if !c.Enabled() {
		return nil
	}
	var errs []error
	if c.TLSCert == "" {
		errs = append(errs, config.Wrong(c, "TLSCert", "the certificate of this server: all servers of a cluster speak TLS or none does (QUOIT_TLS=off for none)"))
	}
	return errors.Join(append(errs, c.ValidateClient())...)
}

// ValidateClient says what of the settings who only dials cannot work with.
func (c *Config) ValidateClient() error {
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return config.Wrong(c, "TLSKey", "the private key of QUOIT_TLS_CERT_FILE")
	case c.TLSCert == "" && c.TLSKey != "":
		return config.Wrong(c, "TLSCert", "the certificate of QUOIT_TLS_KEY_FILE")
	}
	return nil
}

// Enabled says whether the public side speaks TLS.
func (p *Public) Enabled() bool { return p.PublicCert != "" }

// Validate says what of the settings cannot be.
func (p *Public) Validate() error {
	switch {
	case p.PublicCert != "" && p.PublicKey == "":
		return config.Wrong(p, "PublicKey", "the private key of QUOIT_GATEWAY_TLS_CERT_FILE")
	case p.PublicCert == "" && p.PublicKey != "":
		return config.Wrong(p, "PublicCert", "the certificate of QUOIT_GATEWAY_TLS_KEY_FILE")
	}
	return nil
}

// Server is the settings of a listener for [NewServer].
func (p *Public) Server() Config { return Config{TLSCert: p.PublicCert, TLSKey: p.PublicKey} }

// base is what every connection has in common.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would skip the look at a certificate that has been replaced or
		// taken away since.
		SessionTicketsDisabled: true,
	}
}
