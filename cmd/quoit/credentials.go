package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// credentials are how tools show who they are, and whom they believe. They come from
// the environment, since other users of a machine see command lines.
type credentials struct {
	Token config.Secret `env:"QUOIT_TOKEN" help:"the token to show"`
	TLS   tlsconf.Config
}

// tokenFile is the flag that names the file of a token.
type tokenFile string

// texts are the flags of a command, or of all commands below it.
type texts interface {
	StringVar(value *string, name, otherwise, usage string)
}

func (f *tokenFile) addTo(flags texts) {
	flags.StringVar((*string)(f), "token-file", "", "file with the token to show; default from QUOIT_TOKEN_FILE, or the token itself from QUOIT_TOKEN")
}

// credentials reads the environment, in which the flag stands for the token.
func (f tokenFile) credentials() (*credentials, error) {
	environ := config.Environ(os.Environ())
	if f != "" {
		delete(environ, "QUOIT_TOKEN")
		environ["QUOIT_TOKEN_FILE"] = string(f)
	}
	c := &credentials{}
	if err := errors.Join(config.Load(c, environ), c.TLS.ValidateClient()); err != nil {
		return nil, settingsError(err)
	}
	return c, nil
}

// reads says whether the token opens all keys with a prefix. Where there is none, or
// none that could be read, the cluster says the rest.
func (f tokenFile) reads(prefix string) (bool, error) {
	c, err := f.credentials()
	if err != nil || !c.Token.IsSet() {
		return true, err
	}
	token, err := c.Token.Latest()
	if err != nil {
		return false, err
	}
	_, claims, _ := auth.Look([]byte(token))
	if claims == nil {
		return true, nil
	}
	return slices.ContainsFunc(claims.Scopes, func(s auth.Scope) bool { return s.Prefix && strings.HasPrefix(prefix, string(s.Bytes)) }), nil
}

// dialer opens connections that are encrypted, if that is asked for.
func (c *credentials) dialer() (peer.Dialer, error) {
	if !c.TLS.Enabled() {
		return peer.TCP, nil
	}
	secure, err := tlsconf.NewClient(c.TLS, tlsconf.Options{})
	if err != nil {
		return nil, settingsError(err)
	}
	return secure.Dial, nil
}

// options are for a client.
func (c *credentials) options() ([]client.Option, error) {
	dial, err := c.dialer()
	if err != nil {
		return nil, err
	}
	options := []client.Option{client.WithDialer(func(ctx context.Context, address string) (client.Conn, error) { return dial(ctx, address) })}
	if c.Token.IsSet() {
		options = append(options, client.WithToken(func(context.Context) (string, error) { return c.Token.Latest() }))
	}
	return options, nil
}

// proved is a dialer for the manager, which is shown the token before anything else.
func (c *credentials) proved() (peer.Dialer, error) {
	dial, err := c.dialer()
	if err != nil || !c.Token.IsSet() {
		return dial, err
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		token, err := c.Token.Latest()
		if err != nil {
			return nil, err
		}
		nc, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		if err := show(ctx, nc, token); err != nil {
			return nil, errors.Join(err, nc.Close())
		}
		return nc, nil
	}, nil
}

// show shows a token on a new connection, for as long as ctx lasts. That there is nobody
// who asks for one is no mistake.
func show(ctx context.Context, nc net.Conn, token string) error {
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	c := peer.New(nc, time.Minute)
	_, err := c.DoStrings(protocol.CmdAuth.String(), token)
	var refused *protocol.Error
	if errors.As(err, &refused) && refused.AsksNobody() {
		err = nil
	}
	if err != nil {
		return err
	}
	return c.Release()
}

// unreached says why nobody could be reached at an address, in one sentence.
func unreached(what, address, flag string, err error) error {
	var refused *protocol.Error
	var handshake *tlsconf.HandshakeError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("the %s at %s: %w", what, address, refused)
	case errors.As(err, &handshake):
		return fmt.Errorf("the %s at %s: %w", what, address, handshake)
	}
	return fmt.Errorf("no %s answers at %s (%s); say where it is with %s", what, address, reason(err), flag)
}

// isUnauthenticated says whether it would help to show a token, or another one.
func isUnauthenticated(err error) bool {
	var refused *protocol.Error
	return errors.Is(err, client.ErrUnauthenticated) || errors.As(err, &refused) && refused.Code == protocol.NOAUTH
}
