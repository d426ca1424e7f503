package client

import (
	"net"
	"strings"

	"github.com/quoitdb/quoit/protocol"
)

// fakeToken is what a token that the nodes know is good for. The zero value is
// everything, for as long as it is in FakeCluster.tokens.
type fakeToken struct {
	prefix string
}

// Tokens has the nodes ask for a token from now on, and take these.
func (f *FakeCluster) Tokens(tokens map[string]fakeToken) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = tokens
}

// Expire has the nodes take a token no more. Connections that watch with it are told,
// and closed.
func (f *FakeCluster) Expire(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tokens, token)
	for _, n := range f.nodes {
		for conn, w := range n.watches {
			if n.shown[conn] == token {
				p := protocol.Push{Kind: protocol.PushRefused, ID: w.what.ID, Message: []byte("NOAUTH " + expiredText)}
				w.queue = append(w.queue, fakePush{raw: p.Append(nil), last: true})
				w.nudge()
			}
		}
	}
}

const expiredText = "the token has expired: AUTH with a new one"

// authenticated answers AUTH, and what the connection may not ask for: nil is that
// it may. Whoever shows a token that is none is hung up on.
func (n *FakeNode) authenticated(conn net.Conn, name string, args [][]byte) (reply []byte, open bool) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	tokens := n.cluster.tokens
	if name == "AUTH" && tokens == nil {
		return protocol.AppendError(nil, protocol.AsksNobody("node")), true
	}
	if name == "AUTH" {
		if _, known := tokens[string(args[1])]; !known {
			return protocol.AppendErrorCode(nil, protocol.NOAUTH, "the token is not valid here: "+string(args[1])), false
		}
		n.shown[conn] = string(args[1])
		return protocol.AppendOK(nil), true
	}
	if tokens == nil {
		return nil, true
	}
	shown, is := n.shown[conn]
	may, valid := tokens[shown]
	switch {
	case !is:
		return protocol.AppendErrorCode(nil, protocol.NOAUTH, "AUTH with a token first"), true
	case !valid:
		return protocol.AppendErrorCode(nil, protocol.NOAUTH, expiredText), true
	case len(args) > 1 && name != "CLIENT" && name != "WATCH" && name != "SCAN" && !strings.HasPrefix(string(args[1]), may.prefix):
		return protocol.AppendErrorCode(nil, protocol.NOPERM, name+" of a key that is outside of the token's scopes"), true
	}
	return nil, true
}
