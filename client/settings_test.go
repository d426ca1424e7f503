//go:build !js

package client

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// environmentOf is a test's: the variables of the client, and no others.
func environmentOf(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{"QUOIT_TOKEN", "QUOIT_TOKEN_FILE", "QUOIT_TLS", "QUOIT_TLS_CA_FILE", "QUOIT_TLS_CERT_FILE", "QUOIT_TLS_KEY_FILE"} {
		t.Setenv(name, variables[name])
	}
}

func TestTheEnvironmentSaysHowToConnect(t *testing.T) {
	cert, _ := certificate(t, "127.0.0.1")
	f, addresses := overListeners(t, 2, func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	})
	f.Tokens(map[string]fakeToken{secret: {}})
	dir := t.TempDir()
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(token, []byte(secret+"\n"), 0o600))
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, variables := range []map[string]string{
		{"QUOIT_TOKEN": secret, "QUOIT_TLS_CA_FILE": ca},
		{"QUOIT_TOKEN_FILE": token, "QUOIT_TLS_CA_FILE": ca, "QUOIT_TLS": "on"},
	} {
		environmentOf(t, variables)
		options, err := FromEnvironment()
		must(t, err)
		c, err := Open(ctx, addresses, options...)
		must(t, err)
		must(t, c.Put(ctx, "k", []byte("v")))
		must(t, c.Close())
	}

	environmentOf(t, nil)
	if options, err := FromEnvironment(); err != nil || len(options) != 0 {
		t.Errorf("of nothing: %d options, %v", len(options), err)
	}
	environmentOf(t, map[string]string{"QUOIT_TLS": "off", "QUOIT_TLS_CA_FILE": ca})
	if options, err := FromEnvironment(); err != nil || len(options) != 0 {
		t.Errorf("of TLS that is off: %d options, %v", len(options), err)
	}
}

func TestAWrongEnvironmentIsNamed(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nothing")
	for want, variables := range map[string]map[string]string{
		"QUOIT_TOKEN and QUOIT_TOKEN_FILE are both set": {"QUOIT_TOKEN": secret, "QUOIT_TOKEN_FILE": nowhere},
		"QUOIT_TOKEN_FILE: ":                            {"QUOIT_TOKEN_FILE": nowhere},
		"QUOIT_TLS is \"yes\"; want on or off":          {"QUOIT_TLS": "yes"},
		"QUOIT_TLS_CA_FILE: ":                           {"QUOIT_TLS_CA_FILE": nowhere},
		"go together":                                   {"QUOIT_TLS_CERT_FILE": nowhere},
		"QUOIT_TLS_CERT_FILE and QUOIT_TLS_KEY_FILE: ":  {"QUOIT_TLS_CERT_FILE": nowhere, "QUOIT_TLS_KEY_FILE": nowhere},
	} {
		environmentOf(t, variables)
		_, err := FromEnvironment()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
