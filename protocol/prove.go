package protocol

// ProofSize is how many bytes a nonce and a mac have. On the wire each is twice as many
// characters, in lower-case hex.
const ProofSize = 32

// Challenge is CHALLENGE role name nonce: a member says who it is, and wants to know
// over what it has to prove that. The reply is a nonce of the server's, of the same form.
type Challenge struct {
	Role  []byte // node or manager
	Name  []byte // the address that a node advertises
	Nonce [ProofSize]byte
}

// ParseChallenge parses CHALLENGE.
func ParseChallenge(args [][]byte) (Challenge, error) {
	f := fieldsOf(CmdChallenge, args)
	m := Challenge{Role: f.name("role"), Name: f.name("name"), Nonce: f.proof("nonce")}
	if f.err == nil && !isWord(m.Role, "node") && !isWord(m.Role, "manager") {
		f.fail("role is neither node nor manager")
	}
	return m, f.result()
}

// Append appends the request.
func (m Challenge) Append(b []byte) []byte {
	b = appendMember(b, CmdChallenge, 3)
	b = AppendBulk(b, m.Role)
	b = AppendBulk(b, m.Name)
	return AppendProof(b, m.Nonce)
}

// Prove is PROVE mac: the member's proof. The reply is the server's, of the same form.
type Prove struct{ MAC [ProofSize]byte }

// ParseProve parses PROVE.
func ParseProve(args [][]byte) (Prove, error) {
	f := fieldsOf(CmdProve, args)
	m := Prove{MAC: f.proof("mac")}
	return m, f.result()
}

// Append appends the request.
func (m Prove) Append(b []byte) []byte { return AppendProof(appendMember(b, CmdProve, 1), m.MAC) }

// AppendProof appends a nonce or a mac, as it stands in requests and replies.
func AppendProof(b []byte, proof [ProofSize]byte) []byte {
	const digits = "0123456789abcdef"
	var text [2 * ProofSize]byte
	for i, c := range proof {
		text[2*i], text[2*i+1] = digits[c>>4], digits[c&0xf]
	}
	return AppendBulk(b, text[:])
}

// ParseProof reads what AppendProof has put into a bulk string.
func ParseProof(text []byte) (proof [ProofSize]byte, ok bool) {
	if len(text) != 2*ProofSize {
		return proof, false
	}
	for i := range proof {
		high, low := hexDigit(text[2*i]), hexDigit(text[2*i+1])
		// Nothing has two spellings.
		if high > 0xf || low > 0xf || isUpper(text[2*i]) || isUpper(text[2*i+1]) {
			return [ProofSize]byte{}, false
		}
		proof[i] = high<<4 | low
	}
	return proof, true
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func (f *fields) proof(what string) [ProofSize]byte {
	proof, ok := ParseProof(f.next())
	if !ok {
		f.fail(what + " is not 32 bytes in lower-case hex")
	}
	return proof
}
