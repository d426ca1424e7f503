package main

import (
	"crypto/rand"
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
)

func newToken() *cobra.Command {
	asJSON := false
	c := onlyCommands(&cobra.Command{
		Use:   "token",
		Short: "Make keys and tokens, and look into them",
		Long: `A cluster with QUOIT_TOKEN_KEYS_FILE takes requests only from who has a token: a
JSON Web Token, signed with a key whose public half that file has. These commands
need no cluster.

  quoit token key private.json                      a key; keep it where tokens are made
  quoit token public private.json --out keys.json   its public half, for the servers
  quoit token create --key private.json --sub shop --write 'cart:*' > token

Show a token with QUOIT_TOKEN or QUOIT_TOKEN_FILE, never on a command line.`,
	})
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	c.AddCommand(newTokenKey(&asJSON), newTokenPublic(&asJSON), newTokenCreate(&asJSON), newTokenInspect(&asJSON))
	return c
}

func newTokenKey(asJSON *bool) *cobra.Command {
	var hs256 bool
	var kid string
	c := &cobra.Command{
		Use:   "key FILE",
		Short: "Make a key that signs tokens, in a new file that only you can read",
		Long: `Makes an Ed25519 key as a JSON Web Key Set. Servers need only its public half
(quoit token public). With --hs256 it is a secret that signers and servers share:
whoever can check tokens can make them, too. - writes to standard output.`,
		Example: "  quoit token key private.json\n  quoit token key --kid 2026-12 next.json",
		Args:    arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			algorithm := auth.EdDSA
			if hs256 {
				algorithm = auth.HS256
			}
			if kid == "" {
				kid = newKid(time.Now())
			}
			key, err := auth.NewKey(algorithm, kid)
			if err != nil {
				return usageError("--kid: %v", err)
			}
			if err := writeKey(c.OutOrStdout(), args[0], key); err != nil || args[0] == "-" {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]string{"file": args[0], "kid": kid, "alg": string(algorithm)})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s in %s\n", key, args[0])
			return err
		},
	}
	c.Flags().BoolVar(&hs256, "hs256", false, "a shared secret for HS256 instead of a pair")
	c.Flags().StringVar(&kid, "kid", "", "the key's name, which every token of it carries; today's date and something random if empty")
	return c
}

// newKid is a name for a key that nobody has named.
func newKid(now time.Time) string {
	return now.UTC().Format(time.DateOnly) + "-" + strings.ToLower(rand.Text()[:6])
}

// writeKey writes a key with its secret to a file that is not there yet, or to standard
// output for -.
func writeKey(stdout io.Writer, name string, key auth.Key) error {
	text, err := auth.FormatKeys([]auth.Key{key})
	if err != nil {
		return err
	}
	if name == "-" {
		_, err = stdout.Write(text)
		return err
	}
	return writeNew(name, text, 0o600)
}

func newTokenPublic(asJSON *bool) *cobra.Command {
	out := ""
	c := &cobra.Command{
		Use:   "public FILE...",
		Short: "Write the public halves of keys, which servers verify tokens with",
		Long: `Writes one JSON Web Key Set with the public halves of all keys in the files, for
QUOIT_TOKEN_KEYS_FILE. To rotate, put the new key beside the old one, make tokens with
the new one, and leave the old one out when its last token has ended; running servers
see each change within seconds.`,
		Example: "  quoit token public private.json --out keys.json\n  quoit token public old.json next.json --out keys.json",
		Args:    arguments(1, -1),
		RunE: func(c *cobra.Command, files []string) error {
			var keys []auth.Key
			for _, name := range files {
				f, err := readKeys(name)
				if err != nil {
					return err
				}
				for _, k := range f {
					public, ok := k.Public()
					if !ok {
						return fmt.Errorf("%s: the %s is a secret, which has no public half: give the servers the file itself", name, k)
					}
					keys = append(keys, public)
				}
			}
			text, err := auth.FormatKeys(keys)
			if err == nil {
				_, err = auth.ParseKeys(text) // two files may have the same kid
			}
			if err != nil {
				return err
			}
			if out == "" {
				_, err = c.OutOrStdout().Write(text)
				return err
			}
			if err := replacePublic(out, text); err != nil || !*asJSON {
				return err
			}
			return printJSON(c.OutOrStdout(), map[string]any{"file": out, "keys": len(keys)})
		},
	}
	c.Flags().StringVar(&out, "out", "", "write to this file instead, all of it at once, so that no server sees half of it")
	return c
}

// replacePublic puts a file in the place of another that is as public.
func replacePublic(name string, text []byte) (err error) {
	if f, err := auth.ReadKeyFile(name); err == nil && slices.ContainsFunc(f.Keys, auth.Key.HasSecret) {
		return fmt.Errorf("%s has private keys, which would be lost: choose another file", name)
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), ".keys-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name()) // it may be what could not be written
		}
	}()
	const forAll = 0o644
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Chmod(forAll), temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}

// readKeys reads a file with keys, and refuses private ones that others may read.
func readKeys(name string) ([]auth.Key, error) {
	f, err := auth.ReadKeyFile(name)
	switch {
	case err != nil:
		return nil, err
	case f.Exposed:
		return nil, fmt.Errorf("%s has private keys, and others on this machine may read it: chmod 600 it first, and make new keys if they may have", name)
	}
	return f.Keys, nil
}

// tokenOrder is what a token is to say.
type tokenOrder struct {
	key, kid, sub     string
	ttl               time.Duration
	read, write       []string
	cluster           string
	connections, rate int
}

func newTokenCreate(asJSON *bool) *cobra.Command {
	var o tokenOrder
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it",
		Long: `Prints a token that the key in --key has signed, and nothing else. A scope is a
prefix with a star behind it ('cart:*', '*' for every key) or one key; a star that ends
a key is written \*. A prefix ends in a delimiter, because user:1* would open user:10.
Who may write may read. --cluster read shows how the cluster does, operate changes it.`,
		Example: `  quoit token create --key private.json --sub shop --ttl 24h --write 'cart:*' --read flags > token
  quoit token create --key private.json --sub ops --cluster operate --read '*'`,
		Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			claims, err := o.claims(time.Now())
			if err != nil {
				return err
			}
			key, err := o.signer()
			if err != nil {
				return err
			}
			token, err := auth.Sign(key, claims)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"token": token, "kid": key.ID, "id": claims.ID, "expires": claims.Expires})
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), token)
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&o.key, "key", "k", "", "file with the private key, as quoit token key makes it")
	f.StringVar(&o.kid, "kid", "", "which key of the file, if it has several")
	f.StringVar(&o.sub, "sub", "", "who gets the token; shown in logs")
	f.DurationVar(&o.ttl, "ttl", time.Hour, "how long it is good")
	f.StringArrayVar(&o.read, "read", nil, "a scope to read; may be given several times")
	f.StringArrayVar(&o.write, "write", nil, "a scope to read and write; may be given several times")
	f.StringVar(&o.cluster, "cluster", "", "access to the cluster itself: read or operate")
	f.IntVar(&o.connections, "connections", 0, "connections that one server takes with it at the same time; 0 is any number")
	f.IntVar(&o.rate, "rate", 0, "requests a second that one node takes with it; 0 is no limit")
	return c
}

// claims is what the token says, made at the time now.
func (o *tokenOrder) claims(now time.Time) (auth.Claims, error) {
	now = now.Truncate(time.Second)
	c := auth.Claims{
		ID: rand.Text(), Subject: o.sub, Issued: now, NotBefore: now, Expires: now.Add(o.ttl),
		Connections: o.connections, Rate: o.rate,
	}
	if o.ttl < time.Second {
		return c, usageError("--ttl takes 1s or more, not %s", o.ttl)
	}
	if err := c.Cluster.UnmarshalText([]byte(o.cluster)); err != nil {
		return c, usageError("--cluster takes read or operate, not %q", o.cluster)
	}
	for _, list := range []struct {
		flag   string
		scopes []string
		access auth.Access
	}{{"--read", o.read, auth.ReadAccess}, {"--write", o.write, auth.WriteAccess}} {
		for _, text := range list.scopes {
			s, err := auth.ParseScope(text, list.access)
			if err != nil {
				return c, usageError("%s: %v", list.flag, err)
			}
			c.Scopes = append(c.Scopes, s)
		}
	}
	if len(c.Scopes) == 0 && c.Cluster == auth.ClusterNone {
		return c, usageError("the token would open nothing: give it --read, --write or --cluster")
	}
	if err := c.Validate(); err != nil {
		return c, usageError("%v", err)
	}
	return c, nil
}

// signer is the key to sign with.
func (o *tokenOrder) signer() (auth.Key, error) {
	if o.key == "" {
		return auth.Key{}, usageError("--key is missing: a file as quoit token key makes it")
	}
	keys, err := readKeys(o.key)
	if err != nil {
		return auth.Key{}, err
	}
	var names []string
	var found []auth.Key
	for _, k := range keys {
		if !k.HasSecret() {
			continue
		}
		names = append(names, k.ID)
		if o.kid == "" || o.kid == k.ID {
			found = append(found, k)
		}
	}
	switch {
	case len(names) == 0:
		return auth.Key{}, fmt.Errorf("%s has only public halves of keys: tokens are made with the private one", o.key)
	case len(found) == 1:
		return found[0], nil
	case o.kid == "":
		return auth.Key{}, usageError("%s has several keys: choose one with --kid: %s", o.key, strings.Join(names, ", "))
	}
	return auth.Key{}, usageError("%s has no private key %q; it has %s", o.key, o.kid, strings.Join(names, ", "))
}
