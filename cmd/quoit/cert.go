package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/ring"
)

// day is the unit in which people think of certificates.
const day = 24 * time.Hour

func newCert() *cobra.Command {
	asJSON := false
	c := onlyCommands(&cobra.Command{
		Use:   "cert",
		Short: "Make an authority and certificates for TLS",
		Long: `Servers speak TLS where they have a certificate. These commands make an authority of
your own and certificates that it issues; any other authority does as well. They need
no cluster.

  quoit cert ca tls                                     tls/ca.pem, tls/ca.key
  quoit cert issue tls node-1 --host 10.0.0.7 --role node
                                                        tls/node-1.pem, tls/node-1.key

Give servers QUOIT_TLS_CERT_FILE, QUOIT_TLS_KEY_FILE and QUOIT_TLS_CA_FILE, tools and
clients QUOIT_TLS_CA_FILE. ca.key stays where certificates are made.`,
	})
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	c.AddCommand(newCertCA(&asJSON), newCertIssue(&asJSON))
	return c
}

func newCertCA(asJSON *bool) *cobra.Command {
	var name string
	var days int
	c := &cobra.Command{
		Use:     "ca FOLDER",
		Short:   "Make an authority: ca.pem and ca.key in a folder",
		Example: "  quoit cert ca tls",
		Args:    arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if days < 1 {
				return usageError("--days takes 1 or more")
			}
			from := time.Now().Add(-time.Minute) // clocks differ
			_, pair, err := tlsconf.NewAuthority(name, from, from.Add(time.Duration(days)*day))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o700); err != nil {
				return err
			}
			return writePair(c, *asJSON, args[0], "ca", pair)
		},
	}
	c.Flags().StringVar(&name, "name", "Quoit", "what the authority is called")
	c.Flags().IntVar(&days, "days", 3650, "how long it is valid")
	return c
}

func newCertIssue(asJSON *bool) *cobra.Command {
	var hosts []string
	var role, address string
	var days int
	c := &cobra.Command{
		Use:   "issue FOLDER NAME",
		Short: "Issue a certificate: NAME.pem and NAME.key in the authority's folder",
		Long: `Issues a certificate with the authority of FOLDER, for a server that others dial at the
hosts. Where servers have QUOIT_TLS_MEMBER_CA_FILE the role says what its owner may do:
node (with --address, only the node that has this address), manager, gateway or
operator. To renew one, issue it under another name and rename its two files over the
old ones: servers see that by themselves.`,
		Example: "  quoit cert issue tls manager --host manager.example.org --role manager\n  quoit cert issue tls node-1 --host 10.0.0.7 --role node --address 10.0.0.7:7401",
		Args:    arguments(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			uri, err := roleURI(role, address)
			switch {
			case err != nil:
				return err
			case days < 1:
				return usageError("--days takes 1 or more")
			case len(hosts) == 0:
				return usageError("--host says under which name or IP address the server is dialled")
			}
			wrong := []error{checkFileName(args[1])}
			for _, host := range hosts {
				wrong = append(wrong, checkHost("--host", host))
			}
			if err := errors.Join(wrong...); err != nil {
				return err
			}
			authority, err := openAuthority(args[0])
			if err != nil {
				return err
			}
			from := time.Now().Add(-time.Minute)
			pair, err := authority.Issue(tlsconf.Request{Hosts: hosts, Roles: uri, From: from, Until: from.Add(time.Duration(days) * day)})
			if err != nil {
				return err
			}
			return writePair(c, *asJSON, args[0], args[1], pair)
		},
	}
	c.Flags().StringSliceVar(&hosts, "host", nil, "a name or IP address under which it is dialled; may be repeated")
	c.Flags().StringVar(&role, "role", "", "node, manager, gateway or operator")
	c.Flags().StringVar(&address, "address", "", "with --role node: the address of the one node that it is for")
	c.Flags().IntVar(&days, "days", 365, "how long it is valid")
	return c
}

// checkFileName refuses what is no name for a certificate's two files.
func checkFileName(name string) error {
	if name != filepath.Base(name) || name == "ca" || strings.HasPrefix(name, ".") {
		return usageError("%q is no name for files in the folder", name)
	}
	return nil
}

// checkHost refuses what nobody can dial.
func checkHost(flag, host string) error {
	if net.ParseIP(host) == nil && ring.ValidateAddress(host+":1") != nil {
		return usageError("%s %q: want a name or an IP address, without a port", flag, host)
	}
	return nil
}

// roleURI is how a certificate names a role.
func roleURI(role, address string) ([]string, error) {
	switch role {
	case "":
		if address == "" {
			return nil, nil
		}
	case "node":
		if address == "" {
			return []string{"quoit://node"}, nil
		}
		if err := ring.ValidateAddress(address); err != nil {
			return nil, usageError("--address: %v", err)
		}
		return []string{(&url.URL{Scheme: "quoit", Host: "node", Path: "/" + address}).String()}, nil
	case "manager", "gateway", "operator":
		if address == "" {
			return []string{"quoit://" + role}, nil
		}
	default:
		return nil, usageError("--role %q: want node, manager, gateway or operator", role)
	}
	return nil, usageError("--address is for --role node")
}

func openAuthority(folder string) (*tlsconf.Authority, error) {
	cert, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has no authority: quoit cert ca %s makes one", folder, folder)
	}
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(folder, "ca.key"))
	if err != nil {
		return nil, err
	}
	a, err := tlsconf.OpenAuthority(tlsconf.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	return a, nil
}

// writePair writes a certificate and its key into files that are not there yet, the key
// for its owner alone, and says so.
func writePair(c *cobra.Command, asJSON bool, folder, name string, p tlsconf.Pair) error {
	key, cert := filepath.Join(folder, name+".key"), filepath.Join(folder, name+".pem")
	if _, err := os.Lstat(cert); err == nil {
		return fmt.Errorf("%s is there already: a certificate is never written over another", cert)
	}
	if err := writeNew(key, p.Key, 0o600); err != nil {
		return err
	}
	if err := writeNew(cert, p.Cert, 0o644); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]string{"certificate": cert, "key": key})
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s and %s\n", cert, key)
	return err
}

func writeNew(name string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already: a key is never written over another", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
