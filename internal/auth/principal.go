package auth

import "github.com/quoitdb/quoit/protocol"

// Kind is how a connection has proved who it is.
type Kind uint8

// The kinds.
const (
	AnonymousKind   Kind = iota // nothing proved
	OpenKind                    // nothing to prove: authentication is off
	ApplicationKind             // a token
	MemberKind                  // the cluster's secret, or a certificate
)

// Role is what a member is.
type Role uint8

// The roles. A gateway's opens no more than the topology, an operator's what a token with
// cluster access "operate" opens; both come from certificates only.
const (
	NoRole Role = iota
	RoleNode
	RoleManager
	RoleGateway
	RoleOperator
)

var roles = [...]string{NoRole: "", RoleNode: "node", RoleManager: "manager", RoleGateway: "gateway", RoleOperator: "operator"}

// String is the word for a role.
func (r Role) String() string {
	if int(r) >= len(roles) {
		return ""
	}
	return roles[r]
}

// ParseRole reads the word for a role.
func ParseRole(word string) (Role, bool) {
	for r := RoleNode; int(r) < len(roles); r++ {
		if roles[r] == word {
			return r, true
		}
	}
	return NoRole, false
}

// Principal is who is on a connection. It is made once and never changed. A nil one is
// anonymous.
type Principal struct {
	kind    Kind
	role    Role
	name    string
	cluster ClusterAccess
	// reads and writes say that a scope opens every key.
	reads, writes bool
	scopes        []Scope
	// of an application only
	ends   int64 // unix milliseconds
	key    *verifier
	claims *Claims
}

var (
	openPrincipal      = &Principal{kind: OpenKind, reads: true, writes: true, cluster: ClusterOperate}
	anonymousPrincipal = &Principal{}
)

// Open may do everything: authentication is off.
func Open() *Principal { return openPrincipal }

// Anonymous has proved nothing, and may do no more than prove something.
func Anonymous() *Principal { return anonymousPrincipal }

// Member has proved its role, and its name: the address that a node advertises, "" for a
// node whose certificate is good for any.
func Member(role Role, name string) *Principal {
	p := &Principal{kind: MemberKind, role: role, name: name}
	if role == RoleManager || role == RoleOperator {
		p.cluster = ClusterOperate
	}
	return p
}

// application has shown a token that key has signed.
func application(c *Claims, key *verifier) *Principal {
	p := &Principal{
		kind: ApplicationKind, name: c.Subject, cluster: c.Cluster, scopes: c.Scopes,
		ends: c.Expires.Add(Leeway).UnixMilli(), key: key, claims: c,
	}
	for i := range p.scopes {
		s := &p.scopes[i]
		all := s.coversPrefix(nil)
		p.reads = p.reads || all && s.Access >= ReadAccess
		p.writes = p.writes || all && s.Access >= WriteAccess
	}
	return p
}

// Kind is how it has proved who it is.
func (p *Principal) Kind() Kind {
	if p == nil {
		return AnonymousKind
	}
	return p.kind
}

// IsOpen says whether everything is allowed, because authentication is off.
func (p *Principal) IsOpen() bool { return p != nil && p.kind == OpenKind }

// Role is a member's.
func (p *Principal) Role() Role {
	if p == nil {
		return NoRole
	}
	return p.role
}

// Name is a member's name, or the subject of an application's token.
func (p *Principal) Name() string {
	if p == nil {
		return ""
	}
	return p.name
}

// Claims are those of an application's token, nil for others. They are not to be changed.
func (p *Principal) Claims() *Claims {
	if p == nil {
		return nil
	}
	return p.claims
}

// MayRead says whether it may read a key.
func (p *Principal) MayRead(key []byte) bool {
	return p != nil && (p.reads || p.opened(key, ReadAccess))
}

// MayWrite says whether it may change a key.
func (p *Principal) MayWrite(key []byte) bool {
	return p != nil && (p.writes || p.opened(key, WriteAccess))
}

func (p *Principal) opened(key []byte, a Access) bool {
	for i := range p.scopes {
		if s := &p.scopes[i]; s.Access >= a && s.covers(key) {
			return true
		}
	}
	return false
}

// CoversPrefix says whether it may read every key with the prefix.
func (p *Principal) CoversPrefix(prefix []byte) bool {
	if p == nil || p.reads {
		return p != nil
	}
	for i := range p.scopes {
		if s := &p.scopes[i]; s.Access >= ReadAccess && s.coversPrefix(prefix) {
			return true
		}
	}
	return false
}

// ReadsAll says whether it may read every key.
func (p *Principal) ReadsAll() bool { return p != nil && p.reads }

// readsNothing says that no scope opens any key.
func (p *Principal) readsNothing() bool { return !p.reads && len(p.scopes) == 0 }

// SeesServer says whether it may see what a server tells of all its keys and clients: the
// whole of INFO, how many keys there are.
func (p *Principal) SeesServer() bool { return p != nil && (p.reads || p.cluster >= ClusterRead) }

// Cluster is what it may ask about the cluster.
func (p *Principal) Cluster() ClusterAccess {
	if p == nil {
		return ClusterNone
	}
	return p.cluster
}

// SpeaksFor says whether a message may be of the node with this address: of a node with
// that name, or of anyone where authentication is off.
func (p *Principal) SpeaksFor(address string) bool {
	return p.IsOpen() || p.Role() == RoleNode && (p.name == address || p.name == "")
}

// errEnded and errRevoked are what a connection is told whose token has ended.
var (
	errEnded   = &protocol.Error{Code: protocol.NOAUTH, Message: "the token has expired: AUTH with a new one"}
	errRevoked = &protocol.Error{Code: protocol.NOAUTH, Message: "the token's key has been withdrawn: AUTH with a new token"}
)

// Ended is why the principal counts no more: its token has expired, or the key that signed
// it is gone. It is nil as long as it counts; now is unix milliseconds.
func (p *Principal) Ended(now int64) *protocol.Error {
	switch {
	case p == nil || p.key == nil:
		return nil
	case now >= p.ends:
		return errEnded
	case p.key.gone.Load():
		return errRevoked
	}
	return nil
}
