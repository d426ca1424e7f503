package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/tlsconf"
)

func newSecrets() *cobra.Command {
	asJSON := false
	c := onlyCommands(&cobra.Command{
		Use:   "secrets",
		Short: "Make everything that a cluster with authentication needs",
		Long: `A cluster that others than this machine may reach asks clients for tokens, and has
nodes and manager prove themselves to each other. quoit secrets create makes what that
takes, in one folder. It needs no cluster.`,
	})
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	c.AddCommand(newSecretsCreate(&asJSON))
	return c
}

// secretsOrder is what to make.
type secretsOrder struct {
	folder     string
	ttl        time.Duration // of the operator's token
	days       int           // of the gateways' token and of certificates
	tls        []string
	servers    []certified // beside those of tls
	bucketKeys bool
	mounted    bool
}

func newSecretsCreate(asJSON *bool) *cobra.Command {
	o := &secretsOrder{}
	c := &cobra.Command{
		Use:   "create FOLDER",
		Short: "Make a cluster's secret, keys and first tokens in a new or empty folder",
		Long: `Makes, in a folder that is new or empty and that you alone can enter:

  cluster-secret     what nodes and manager prove to each other
  signing-key.json   makes tokens: it stays with you, no server gets it
  token-keys.json    its public half, which servers verify tokens with
  operator-token     yours: all keys, and the cluster itself
  gateway-token      a gateway's own: it sees the cluster, and no key

With --bucket-keys also the keys of an object store that you start yourself, as that of
compose.yaml: bucket-access-key, bucket-secret-key. With --tls also an authority,
tls/ca.pem and tls/ca.key, and for each name a certificate for the hosts under which it
is dialled, tls/NAME.pem and tls/NAME.key. A name begins with its role: manager, node or
gateway; node-1 is a node.

Files can be read by you alone. Containers run as another user, so that those which are
mounted into servers, one by one, have to be readable for it: that is --mounted. The
folder, which nobody else can enter, keeps other users of the machine from them.

Nothing is ever written over another.`,
		Example: `  quoit secrets create secrets
  quoit secrets create secrets --tls manager=10.0.0.5,node-1=10.0.0.7,node-2=10.0.0.8
  quoit secrets create secrets --bucket-keys --mounted      what compose.yaml mounts`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			o.folder = args[0]
			files, err := o.files(time.Now())
			if err != nil {
				return err
			}
			if err := o.write(files); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"folder": o.folder, "files": files})
			}
			return o.tell(c.OutOrStdout(), files)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.ttl, "ttl", 30*day, "how long the operator's token is good")
	f.IntVar(&o.days, "days", 365, "how many days the gateways' token and certificates are good")
	f.StringSliceVar(&o.tls, "tls", nil, "NAME=HOST of a server, for a certificate; may be repeated, also for more hosts of a name")
	f.BoolVar(&o.bucketKeys, "bucket-keys", false, "also make the keys of an object store that you start yourself")
	f.BoolVar(&o.mounted, "mounted", false, "let the user of containers read what is mounted into servers")
	return c
}

// secretFile is one file of the folder.
type secretFile struct {
	Name     string     `json:"file"`
	For      string     `json:"for"`
	Variable string     `json:"variable,omitempty"` // that servers or tools are told of it with
	Expires  *time.Time `json:"expires,omitempty"`

	text   []byte
	secret secrecy
}

// secrecy is who may read a file.
type secrecy int

const (
	public  secrecy = iota // everybody
	ofOwner                // who has made it: no server needs it
	ofOwnerAndServers
)

// mode is what lets them.
func (s secrecy) mode(mounted bool) os.FileMode {
	if s == public || s == ofOwnerAndServers && mounted {
		return 0o644
	}
	return 0o600
}

// files are all that is to be made. Nothing is written yet.
func (o *secretsOrder) files(now time.Time) ([]secretFile, error) {
	if o.days < 1 {
		return nil, usageError("--days takes 1 or more")
	}
	certificates, err := o.certificates(now)
	if err != nil {
		return nil, err
	}
	tokens, err := o.tokens(now)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, auth.MinClusterSecret)
	if _, err := io.ReadFull(rand.Reader, secret); err != nil {
		return nil, err
	}
	files := []secretFile{{
		Name: "cluster-secret", For: "nodes, manager", Variable: "QUOIT_CLUSTER_SECRET_FILE",
		text: line(base64.StdEncoding.EncodeToString(secret)), secret: ofOwnerAndServers,
	}}
	if o.bucketKeys {
		files = append(files,
			secretFile{Name: "bucket-access-key", For: "nodes, manager, the store", Variable: "QUOIT_S3_ACCESS_KEY_FILE", text: line(rand.Text()[:20]), secret: ofOwnerAndServers},
			secretFile{Name: "bucket-secret-key", For: "nodes, manager, the store", Variable: "QUOIT_S3_SECRET_KEY_FILE", text: line(rand.Text()), secret: ofOwnerAndServers},
		)
	}
	return slices.Concat(files, certificates, tokens), nil
}

func line(text string) []byte { return []byte(text + "\n") }

// tokens are a key that signs, its public half, and the first two tokens. The last file
// is the operator's token: where that is, all of them are.
func (o *secretsOrder) tokens(now time.Time) ([]secretFile, error) {
	key, err := auth.NewKey(auth.EdDSA, newKid(now))
	if err != nil {
		return nil, err
	}
	half, _ := key.Public()
	private, err := auth.FormatKeys([]auth.Key{key})
	if err != nil {
		return nil, err
	}
	verifies, err := auth.FormatKeys([]auth.Key{half})
	if err != nil {
		return nil, err
	}
	files := []secretFile{
		{Name: "token-keys.json", For: "nodes, manager, gateways", Variable: "QUOIT_TOKEN_KEYS_FILE", text: verifies, secret: public},
		{Name: "signing-key.json", For: "whoever makes tokens: quoit token create --key", text: private, secret: ofOwner},
	}
	for _, t := range []struct {
		file  secretFile
		order tokenOrder
	}{
		{
			secretFile{Name: "gateway-token", For: "gateways", Variable: "QUOIT_TOKEN_FILE", secret: ofOwnerAndServers},
			tokenOrder{sub: "gateway", ttl: time.Duration(o.days) * day, cluster: "read"},
		},
		{
			secretFile{Name: "operator-token", For: "you", Variable: "QUOIT_TOKEN_FILE", secret: ofOwner},
			tokenOrder{sub: "operator", ttl: o.ttl, write: []string{"*"}, cluster: "operate"},
		},
	} {
		claims, err := t.order.claims(now)
		if err != nil {
			return nil, err
		}
		token, err := auth.Sign(key, claims)
		if err != nil {
			return nil, err
		}
		t.file.text, t.file.Expires = line(token), &claims.Expires
		files = append(files, t.file)
	}
	return files, nil
}

// certificates are an authority and what it issues, none without --tls.
func (o *secretsOrder) certificates(now time.Time) ([]secretFile, error) {
	servers, err := serversFrom(o.tls)
	servers = append(servers, o.servers...)
	if err != nil || len(servers) == 0 {
		return nil, err
	}
	from := now.Add(-time.Minute) // clocks differ
	const authorityDays = 3650
	authority, pair, err := tlsconf.NewAuthority("Quoit", from, from.Add(authorityDays*day))
	if err != nil {
		return nil, err
	}
	files := []secretFile{
		{Name: filepath.Join("tls", "ca.pem"), For: "everybody", Variable: "QUOIT_TLS_CA_FILE", text: pair.Cert, secret: public},
		{Name: filepath.Join("tls", "ca.key"), For: "whoever issues certificates: quoit cert issue", text: pair.Key, secret: ofOwner},
	}
	until := from.Add(time.Duration(o.days) * day)
	for _, s := range servers {
		roles, err := roleURI(s.role, "")
		if err != nil {
			return nil, err
		}
		pair, err := authority.Issue(tlsconf.Request{Hosts: s.hosts, Roles: roles, From: from, Until: until})
		if err != nil {
			return nil, err
		}
		variable := "QUOIT_TLS_"
		if s.role == "gateway" {
			variable = "QUOIT_GATEWAY_TLS_"
		}
		name := filepath.Join("tls", s.name)
		files = append(files,
			secretFile{Name: name + ".pem", For: s.name, Variable: variable + "CERT_FILE", Expires: &until, text: pair.Cert, secret: public},
			secretFile{Name: name + ".key", For: s.name, Variable: variable + "KEY_FILE", text: pair.Key, secret: ofOwnerAndServers},
		)
	}
	return files, nil
}

// certified is a server that gets a certificate.
type certified struct {
	name, role string // role "": of any server
	hosts      []string
}

// serversFrom takes NAME=HOST apart; a name may come again, with another host.
func serversFrom(words []string) (all []certified, err error) {
	for _, word := range words {
		name, host, found := strings.Cut(word, "=")
		role, _, _ := strings.Cut(name, "-")
		switch {
		case !found:
			return nil, usageError("--tls %q: want NAME=HOST, such as node-1=10.0.0.7", word)
		case !slices.Contains([]string{"manager", "node", "gateway"}, role):
			return nil, usageError("--tls %q: a name begins with its role, manager, node or gateway, such as node-1", word)
		}
		if err := errors.Join(checkFileName(name), checkHost("--tls", host)); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(s certified) bool { return s.name == name })
		if i < 0 {
			i = len(all)
			all = append(all, certified{name: name, role: role})
		}
		all[i].hosts = append(all[i].hosts, host)
	}
	return all, nil
}

// write puts all of them into the folder, or none.
func (o *secretsOrder) write(files []secretFile) (err error) {
	made, err := emptyFolder(o.folder)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		for _, name := range slices.Backward(made) {
			_ = os.Remove(name) // what is ours goes; err says what was wrong
		}
	}()
	for _, f := range files {
		name := filepath.Join(o.folder, f.Name)
		if folder := filepath.Dir(name); !slices.Contains(made, folder) && folder != filepath.Clean(o.folder) {
			if err := os.Mkdir(folder, 0o700); err != nil {
				return err
			}
			made = append(made, folder)
		}
		mode := f.secret.mode(o.mounted)
		if err := writeNew(name, f.text, mode); err != nil {
			return err
		}
		made = append(made, name)
		if err := os.Chmod(name, mode); err != nil { // a umask may have taken something away
			return err
		}
	}
	return nil
}

// emptyFolder wants a folder in which nothing is, for its owner alone, and returns it if
// it had to be made.
func emptyFolder(name string) (made []string, err error) {
	there, err := os.ReadDir(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return []string{filepath.Clean(name)}, os.Mkdir(name, 0o700)
	case err != nil:
		return nil, err
	case len(there) > 0:
		return nil, fmt.Errorf("%s is not empty: %s is in it, and secrets are never written over others; choose another folder, or delete that one if no server has what is in it", name, there[0].Name())
	}
	return nil, os.Chmod(name, 0o700) //nolint:gosec // a folder: who owns it enters it
}

// tell says what was made, for whom, and what is next.
func (o *secretsOrder) tell(w io.Writer, files []secretFile) error {
	t := newTable("FILE", "FOR", "VARIABLE", "GOOD UNTIL")
	for _, f := range files {
		until := ""
		if f.Expires != nil {
			until = f.Expires.UTC().Format("2006-01-02 15:04 UTC")
		}
		t.add(filepath.Join(o.folder, f.Name), f.For, f.Variable, until)
	}
	t.write(w, "")
	in := func(name string) string { return filepath.Join(o.folder, name) }
	use, more, keep := "QUOIT_TOKEN_FILE="+in("operator-token"), "", in("signing-key.json")+" on your own machine: no server needs it"
	if len(o.tls) > 0 {
		use += " QUOIT_TLS_CA_FILE=" + in("tls/ca.pem")
		more = "A certificate for one more node:\n  quoit cert issue " + in("tls") + " node-2 --host HOST --role node\n"
		keep = in("signing-key.json") + " and " + in("tls/ca.key") + " on your own machine: no server needs them"
	}
	_, err := fmt.Fprintf(w, `
Next: start each server with the variables of the files that are for it, and then
  export %s
  quoit cluster status
A token for an application, or another one for you:
  quoit token create --key %s --sub shop --ttl 24h --write 'cart:*' > shop-token
%sKeep %s.
`, use, in("signing-key.json"), more, keep)
	return err
}
