package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/auth"
)

// inspected is a token as JSON. Times that it does not have are left out.
type inspected struct {
	Algorithm   string       `json:"alg"`
	KeyID       string       `json:"kid"`
	Subject     string       `json:"sub,omitempty"`
	ID          string       `json:"id,omitempty"`
	Issued      time.Time    `json:"issued,omitzero"`
	NotBefore   time.Time    `json:"not_before,omitzero"`
	Expires     time.Time    `json:"expires,omitzero"`
	Scopes      []auth.Scope `json:"scopes"`
	Cluster     string       `json:"cluster,omitempty"`
	Connections int          `json:"connections,omitempty"`
	Rate        int          `json:"rate,omitempty"`
	Signature   string       `json:"signature"` // good, bad or unchecked
	Problem     string       `json:"problem,omitempty"`
}

func newTokenInspect(asJSON *bool) *cobra.Command {
	keys := ""
	c := &cobra.Command{
		Use:   "inspect [FILE]",
		Short: "Show what a token says, and whether a server would take it",
		Long: `Reads a token from FILE, from standard input for -, or without FILE from QUOIT_TOKEN
or QUOIT_TOKEN_FILE, and shows what it says. With --keys its signature is checked.
Exit code 1 means that a server would not take it.`,
		Example: "  quoit token inspect token --keys keys.json\n  quoit token create ... | quoit token inspect -",
		Args:    arguments(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			token, err := tokenFrom(c, args)
			if err != nil {
				return err
			}
			show, err := inspect(token, keys, time.Now())
			if show == nil {
				return err
			}
			if *asJSON {
				return errors.Join(err, printJSON(c.OutOrStdout(), show))
			}
			show.print(c.OutOrStdout(), time.Now())
			return err
		},
	}
	c.Flags().StringVar(&keys, "keys", os.Getenv("QUOIT_TOKEN_KEYS_FILE"), "file with the keys that verify it; default from QUOIT_TOKEN_KEYS_FILE")
	return c
}

// tokenFrom is the token's text, without the spaces around it.
func tokenFrom(c *cobra.Command, args []string) ([]byte, error) {
	name := os.Getenv("QUOIT_TOKEN_FILE")
	if len(args) == 1 {
		name = args[0]
	} else if token := os.Getenv("QUOIT_TOKEN"); token != "" {
		return []byte(strings.TrimSpace(token)), nil
	}
	var in io.Reader
	switch name {
	case "":
		return nil, usageError("no token: give the file it is in, - for standard input, or QUOIT_TOKEN or QUOIT_TOKEN_FILE")
	case "-":
		in = c.InOrStdin()
	default:
		if strings.Count(name, ".") == 2 && strings.HasPrefix(name, "eyJ") {
			return nil, usageError("that is a token, not a file: a command line is seen by others; use QUOIT_TOKEN, or - and standard input")
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	const enough = 2 * auth.MaxToken
	text, err := io.ReadAll(io.LimitReader(in, enough))
	return bytes.TrimSpace(text), err
}

// inspect says all that can be known of a token; the error is why no server would take it.
func inspect(token []byte, keysFile string, now time.Time) (*inspected, error) {
	algorithm, claims, problem := auth.Look(token)
	if claims == nil {
		return nil, fmt.Errorf("this is no token that a server takes: %w", problem)
	}
	show := &inspected{
		Algorithm: algorithm, KeyID: claims.KeyID, Subject: claims.Subject, ID: claims.ID,
		Issued: claims.Issued.UTC(), NotBefore: claims.NotBefore.UTC(), Expires: claims.Expires.UTC(),
		Scopes: claims.Scopes, Cluster: claims.Cluster.String(), Connections: claims.Connections, Rate: claims.Rate,
		Signature: "unchecked",
	}
	switch {
	case problem != nil:
	case !now.Before(claims.Expires):
		problem = auth.ErrExpired
	case now.Before(claims.NotBefore):
		problem = auth.ErrEarly
	}
	if keysFile != "" {
		keys, err := auth.LoadKeys(keysFile)
		if err != nil {
			return nil, err
		}
		show.Signature = "good"
		if _, err := keys.Verify(token, now); errors.Is(err, auth.ErrInvalid) {
			show.Signature, problem = "bad", err
		} else if problem == nil {
			problem = err
		}
	}
	if problem != nil {
		show.Problem = problem.Error()
		return show, fmt.Errorf("a server would not take it: %w", problem)
	}
	return show, nil
}

// print shows it to a person.
func (i *inspected) print(w io.Writer, now time.Time) {
	t := newTable("", "")
	row := func(name, value string) {
		if value != "" {
			t.add(name, visible(value))
		}
	}
	row("key", i.KeyID+" ("+i.Algorithm+")")
	row("signature", map[string]string{"good": "good", "bad": "bad", "unchecked": "not checked: give --keys"}[i.Signature])
	row("subject", i.Subject)
	row("id", i.ID)
	row("issued", howFar(i.Issued, now))
	row("not before", howFar(i.NotBefore, now))
	row("expires", howFar(i.Expires, now))
	for _, s := range i.Scopes {
		t.add(s.Access.String(), s.String())
	}
	row("cluster", i.Cluster)
	if i.Connections > 0 {
		row("limit", plural(i.Connections, "connection")+" to one server")
	}
	if i.Rate > 0 {
		row("limit", plural(i.Rate, "request")+" a second on one node")
	}
	t.write(w, "")
}

// howFar is a time, and how far it is away; "" for none.
func howFar(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	words := "now"
	switch away := at.Sub(now).Round(time.Second); {
	case away > 0:
		words = "in " + span(away)
	case away < 0:
		words = span(-away) + " ago"
	}
	return at.Format(time.RFC3339) + " (" + words + ")"
}
