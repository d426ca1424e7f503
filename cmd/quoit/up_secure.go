package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/node"
)

// ownSecrets is the folder with what a cluster of quoit up is secured by, made once, and
// good for a year.
type ownSecrets string

func secretsIn(dir string) ownSecrets { return ownSecrets(filepath.Join(dir, "secrets")) }

func (s ownSecrets) file(name string) string { return filepath.Join(string(s), name) }

// there says whether they were made: the operator's token is the last of them.
func (s ownSecrets) there() (bool, error) {
	_, err := os.Stat(s.file("operator-token"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// create makes them, and the cluster's folder around them.
func (s ownSecrets) create() error {
	if err := os.MkdirAll(filepath.Dir(string(s)), 0o700); err != nil {
		return err
	}
	const days = 365
	all := certified{name: "server", hosts: []string{"127.0.0.1", "localhost"}} // one certificate for all of them
	o := &secretsOrder{folder: string(s), ttl: days * day, days: days, servers: []certified{all}}
	files, err := o.files(time.Now())
	if err != nil {
		return err
	}
	return o.write(files)
}

// into sets them, in the place of others: what somebody has exported for tools is not
// meant for servers.
func (s ownSecrets) into(environ map[string]string) {
	for _, name := range []string{"QUOIT_TOKEN", "QUOIT_CLUSTER_SECRET", "QUOIT_TLS", "QUOIT_TLS_MEMBER_CA_FILE"} {
		delete(environ, name)
	}
	environ["QUOIT_TOKEN_KEYS_FILE"] = s.file("token-keys.json")
	environ["QUOIT_CLUSTER_SECRET_FILE"] = s.file("cluster-secret")
	environ["QUOIT_TOKEN_FILE"] = s.file("gateway-token")
	environ["QUOIT_TLS_CERT_FILE"] = s.file(filepath.Join("tls", "server.pem"))
	environ["QUOIT_TLS_KEY_FILE"] = s.file(filepath.Join("tls", "server.key"))
	environ["QUOIT_TLS_CA_FILE"] = s.file(filepath.Join("tls", "ca.pem"))
}

// proofs is what tools need for a cluster that is secured; nothing where it is not.
type proofs struct {
	Token string `json:"token_file,omitempty"` // a token that may everything
	CA    string `json:"ca_file,omitempty"`
	key   string // makes tokens
	asks  bool   // for tokens
}

// proofsFor are the ones that follow from the settings.
func proofsFor(n *node.Config, door *gateway.Config, secrets ownSecrets, own bool) (p proofs) {
	if n.TLS.Enabled() {
		p.CA = n.TLS.TLSCA
	}
	p.asks = n.Auth.On() || door.KeysFile != ""
	if own {
		p.Token, p.key = secrets.file("operator-token"), secrets.file("signing-key.json")
	}
	return p
}

// first is the line that comes before all others.
func (p proofs) first() string {
	var words []string
	switch {
	case p.Token != "":
		words = append(words, "QUOIT_TOKEN_FILE="+shellWord(p.Token))
	case p.asks:
		words = append(words, "QUOIT_TOKEN_FILE=YOUR-TOKEN")
	}
	if p.CA != "" {
		words = append(words, "QUOIT_TLS_CA_FILE="+shellWord(p.CA))
	}
	if len(words) == 0 {
		return ""
	}
	return "  first       export " + strings.Join(words, " ") + "\n"
}

// redis is what redis-cli is given the token with; other users see command lines.
func (p proofs) redis() string {
	if !p.asks {
		return ""
	}
	return `REDISCLI_AUTH="$(cat "$QUOIT_TOKEN_FILE")" `
}

// open opens a client in Go.
func (p proofs) open(manager string) string {
	if p == (proofs{}) {
		return fmt.Sprintf("db, err := client.Open(ctx, []string{%q})", manager)
	}
	return fmt.Sprintf("options, err := client.FromEnvironment(); db, err := client.Open(ctx, []string{%q}, options...)", manager)
}

// page is what the console asks for.
func (p proofs) page() string {
	if !p.asks {
		return ""
	}
	return "   asks for the token: what is in $QUOIT_TOKEN_FILE"
}

// more makes a token for somebody else.
func (p proofs) more() string {
	if p.key == "" {
		return ""
	}
	return "  token       quoit token create --key " + shellWord(p.key) + " --sub shop --ttl 24h --write 'cart:*'\n"
}

// shellWord is a name as a shell takes it for one word.
func shellWord(name string) string {
	if regexp.MustCompile(`^[\w./:@%+,-]+$`).MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
