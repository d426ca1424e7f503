package main

const (
	inTLS    = "internal/tlsconf"
	inMember = "internal/auth"
)

func tlsMistakes() []mistake {
	return []mistake{
		{
			name: "tls-older-version", what: "TLS 1.2 is spoken with whoever knows nothing newer.",
			file: "internal/tlsconf/tlsconf.go",
			old:  "		MinVersion: tls.VersionTLS13,\n", new: "		MinVersion: tls.VersionTLS12,\n",
			pkg: inTLS, tests: []string{"TestNothingOlderThanTLS13"},
		},
		{
			name: "tls-server-not-verified", what: "Whoever dials believes every certificate.",
			file: "internal/tlsconf/client.go",
			old:  "	config.ServerName = host\n", new: "	config.ServerName, config.InsecureSkipVerify = host, true\n",
			pkg: inTLS, tests: []string{"TestWhomAClientBelieves"},
		},
		{
			name: "tls-old-certificate-stays", what: "A certificate that was replaced is shown until a restart.",
			file: "internal/tlsconf/watch.go",
			old:  "	w.warnAboutKey()\n	w.current.Store(m)\n	if m.cert != nil {\n", new: "	w.warnAboutKey()\n	if m.cert != nil {\n",
			pkg: inTLS, tests: []string{"TestACertificateIsReplacedWithoutARestart"},
		},
		{
			name: "tls-bad-pair-taken", what: "A pair of files that does not fit together takes the place of a good one.",
			file: "internal/tlsconf/watch.go",
			old:  "what was read before stays\", \"err\", err)\n		return\n", new: "what was read before stays\", \"err\", err)\n",
			pkg: inTLS, tests: []string{"TestAPairThatDoesNotFit"},
		},
		{
			name: "tls-stranger-taken-for-a-member", what: "A certificate of any authority is taken from a client.",
			file: "internal/tlsconf/server.go",
			old:  "tls.VerifyClientCertIfGiven\n", new: "tls.RequestClientCert\n",
			pkg: inTLS, tests: []string{"TestMembersCertificates", "TestAMemberWhoseCertificateHasExpired"},
		},
		{
			name: "member-server-not-asked", what: "A member believes a server that has not proved that it knows the secret.",
			file: "internal/auth/dial.go",
			old:  "	if !hmac.Equal(theirs[:], ours[:]) {\n", new: "	if _ = ours; !hmac.Equal(theirs[:], theirs[:]) {\n",
			pkg: inMember, tests: []string{"TestAServerThatCannotProveItself"},
		},
		{
			name: "member-proof-without-a-side", what: "The server's proof is good for the member's, and the other way round.",
			file: "internal/auth/member.go",
			old:  "[][]byte{[]byte(label), []byte(c.role),", new: "[][]byte{[]byte(label[:6]), []byte(c.role),",
			pkg: inMember, tests: []string{"TestEachSideHasItsOwnProof"},
		},
		{
			name: "member-proof-not-bound", what: "A proof is good through somebody who ends the TLS in between.",
			file: "internal/auth/member.go",
			old:  "	return state.ExportKeyingMaterial(exporterLabel, nil, protocol.ProofSize)\n", new: "	_, err := state.ExportKeyingMaterial(exporterLabel, nil, protocol.ProofSize)\n	return nil, err\n",
			pkg: inMember, tests: []string{"TestAProofIsWorthNothingThroughSomebodyInBetween"},
		},
		{
			name: "member-proof-twice", what: "A connection may try one proof after the other.",
			file: "internal/auth/member.go",
			old:  "	c.over = true\n	for _, secret", new: "	for _, secret",
			pkg: inMember, tests: []string{"TestAConnectionHasOneChallengeAndOneProof"},
		},
		{
			name: "member-secret-never-taken-out", what: "A secret that has been rotated out is good until a restart.",
			file: "internal/auth/secrets.go",
			old:  "			s.list = list\n", new: "			s.list = append(list, s.list...)\n",
			pkg: inMember, tests: []string{"TestTheClusterSecretIsRotatedUnderRunningMembers"},
		},
		{
			name: "member-second-secret-not-taken", what: "In a rotation only the first secret is taken from others.",
			file: "internal/auth/member.go",
			old:  "secrets: m.secrets.current(), p: p,", new: "secrets: m.secrets.current()[:1], p: p,",
			pkg: inMember, tests: []string{"TestTheClusterSecretIsRotatedUnderRunningMembers"},
		},
		{
			name: "gateway-with-a-members-certificate", what: "A gateway shows a node's certificate to the nodes, for every page.",
			file: "gateway/transport.go",
			old:  "		o.Fits = auth.Fits(auth.RoleGateway, \"\", g.config.TLS.Members())\n", new: "		_ = auth.RoleGateway\n",
			pkg: "internal/local", tests: []string{"TestAServerShowsACertificateOfItsOwn"},
		},
		{
			name: "member-nonce-fixed", what: "A server asks for the same proof again and again.",
			file: "internal/auth/member.go",
			old:  "client: msg.Nonce, server: newNonce(),", new: "client: msg.Nonce, server: proof{1},",
			pkg: inMember, tests: []string{"TestAProofThatWasOverheardProvesNothing"},
		},
		{
			name: "member-certificate-for-another-role", what: "Who knows the secret may claim a role that its certificate does not give it.",
			file: "internal/auth/member.go",
			old:  "	case by.role != p.role || by.name != \"\" && by.name != p.name:\n", new: "	case by.name != \"\" && by.name != p.name:\n",
			pkg: inMember, tests: []string{"TestRolesOfCertificates"},
		},
		{
			name: "member-dials-anybody-with-a-certificate", what: "A member tells things to whoever has a certificate of the members' authority, a gateway for one.",
			file: "internal/auth/dial.go",
			old:  "	case p.role == RoleManager, p.role == RoleNode && (p.name == \"\" || p.name == address):\n", new: "	default:\n",
			pkg: inMember, tests: []string{"TestWhoIsDialledIsAMemberToo"},
		},
		{
			name: "member-role-unchecked", what: "Any member may have a node send a range away, not the manager alone.",
			file: "internal/auth/authorize.go",
			old:  "	case fromManager:\n		return p.role == RoleManager\n", new: "	case fromManager:\n		return p.role == RoleNode || p.role == RoleManager\n",
			pkg: inNode, tests: []string{"TestWhatMembersMaySay"},
		},
		{
			name: "node-certificate-without-a-role", what: "A certificate of the members' authority is good for a connection whatever role it names.",
			file: "node/prove.go",
			old:  "for its certificate\", c.nc, err)\n		return false\n", new: "for its certificate\", c.nc, err)\n",
			pkg: inNode, tests: []string{"TestCertificatesAtARealListener"},
		},
		{
			name: "node-stranger-taken-for-nobody", what: "A node with an empty folder takes somebody at its address who proves nothing for nobody.",
			file: "node/restore.go",
			old:  "	if errors.Is(err, auth.ErrProof) {", new: "	if false && errors.Is(err, auth.ErrProof) {",
			pkg: inNode, tests: []string{"TestSomebodyElseAtTheNodesAddress"},
		},
		{
			name: "manager-registers-anybody", what: "A node may register and report under another node's address.",
			file: "manager/prove.go",
			old:  "	if who.SpeaksFor(address) {\n", new: "	if who.SpeaksFor(address) || who.Role() == auth.RoleNode {\n",
			pkg: "manager", tests: []string{"TestANodeSpeaksForItselfAlone", "TestAMoveIsItsSourcesToCommit"},
		},
		{
			name: "node-one-record-one-sync", what: "Over TLS each small request of a shared connection waits for a sync of its own.",
			file: "node/conn.go",
			old:  "	for c.arrived != nil && c.in.Room() > 0 {\n", new: "	for false && c.arrived != nil {\n",
			pkg: inNode, tests: []string{"TestRequestsInManyRecordsShareASync"},
		},
	}
}
