//go:build !js

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// FromEnvironment gives the options that the environment asks for, in the words that
// Quoit's own tools take:
//
//	QUOIT_TOKEN, QUOIT_TOKEN_FILE               what WithToken shows; the file is read each time
//	QUOIT_TLS                                   on or off; on if empty and another one below is set
//	QUOIT_TLS_CA_FILE                           authorities to believe, those of the system if empty
//	QUOIT_TLS_CERT_FILE, QUOIT_TLS_KEY_FILE     a certificate to show
//
// Files of TLS are read once. An error names the variable, and never shows a token.
func FromEnvironment() ([]Option, error) {
	token, tokenErr := tokenFromEnvironment()
	config, tlsErr := tlsFromEnvironment()
	if err := errors.Join(tokenErr, tlsErr); err != nil {
		return nil, err
	}
	var options []Option
	if token != nil {
		options = append(options, WithToken(token))
	}
	if config != nil {
		options = append(options, WithTLS(config))
	}
	return options, nil
}

// tokenFromEnvironment is the source that the environment names, nil for none.
func tokenFromEnvironment() (func(context.Context) (string, error), error) {
	token, file := os.Getenv("QUOIT_TOKEN"), os.Getenv("QUOIT_TOKEN_FILE")
	switch {
	case token != "" && file != "":
		return nil, errors.New("client: QUOIT_TOKEN and QUOIT_TOKEN_FILE are both set: one of them is enough")
	case token != "":
		return func(context.Context) (string, error) { return token, nil }, nil
	case file == "":
		return nil, nil
	}
	source := TokenFile(file)
	if _, err := source(context.Background()); err != nil {
		return nil, fmt.Errorf("client: QUOIT_TOKEN_FILE: %w", err)
	}
	return source, nil
}

// tlsFromEnvironment is how the environment wants TLS spoken, nil for not at all.
func tlsFromEnvironment() (*tls.Config, error) {
	ca, cert, key := os.Getenv("QUOIT_TLS_CA_FILE"), os.Getenv("QUOIT_TLS_CERT_FILE"), os.Getenv("QUOIT_TLS_KEY_FILE")
	switch mode := os.Getenv("QUOIT_TLS"); {
	case mode != "" && mode != "on" && mode != "off":
		return nil, fmt.Errorf("client: QUOIT_TLS is %q; want on or off", mode)
	case mode == "off", mode == "" && ca == "" && cert == "" && key == "":
		return nil, nil
	case (cert == "") != (key == ""):
		return nil, errors.New("client: QUOIT_TLS_CERT_FILE and QUOIT_TLS_KEY_FILE go together, and one of them is not set")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("client: QUOIT_TLS_CA_FILE: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("client: QUOIT_TLS_CA_FILE: %s has no certificate in PEM form", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("client: QUOIT_TLS_CERT_FILE and QUOIT_TLS_KEY_FILE: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
