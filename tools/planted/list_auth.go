package main

const inAuth = "internal/auth"

func authMistakes() []mistake {
	return []mistake{
		{
			name: "auth-prefix-without-an-end", what: "A token for the prefix user:1 is made and taken, and opens user:10.",
			file: "internal/auth/scope.go",
			old:  "	if s.Prefix && len(s.Bytes) > 0 && isWordByte(", new: "	if s.Prefix && len(s.Bytes) > 1<<20 && isWordByte(",
			pkg: inAuth, tests: []string{"TestAPrefixThatWouldOpenItsNeighboursIsRefused", "TestAuthorizeAgreesWithTheOracle"},
		},
		{
			name: "auth-key-as-prefix", what: "A scope of one key opens every key that begins with it.",
			file: "internal/auth/scope.go",
			old:  "	return bytes.Equal(key, s.Bytes)\n", new: "	return bytes.HasPrefix(key, s.Bytes)\n",
			pkg: inAuth, tests: []string{"TestAuthorizeAgreesWithTheOracle"},
		},
		{
			name: "auth-read-writes", what: "Who may read a key may write it.",
			file: "internal/auth/principal.go",
			old:  "	return p != nil && (p.writes || p.opened(key, WriteAccess))\n", new: "	return p != nil && (p.writes || p.opened(key, ReadAccess))\n",
			pkg: inAuth, tests: []string{"TestATokenOpensWhatItsScopesSay"},
		},
		{
			name: "auth-first-key-only", what: "Of a batch the first key is asked for, and the others go along.",
			file: "internal/auth/authorize.go",
			old:  "	n := spec.Keys(len(args))\n", new: "	n := min(1, spec.Keys(len(args)))\n",
			pkg: inAuth, tests: []string{"TestATokenOpensWhatItsScopesSay"},
		},
		{
			name: "auth-last-key-unasked", what: "The last key of a batch is not asked for.",
			file: "internal/auth/authorize.go",
			old:  "	for i := range n {\n", new: "	for i := range max(1, n-1) {\n",
			pkg: inAuth, tests: []string{"TestAuthorizeAgreesWithTheOracle"},
		},
		{
			name: "auth-watch-of-a-wider-prefix", what: "A watch of a prefix is allowed to whoever may read some keys with it.",
			file: "internal/auth/scope.go",
			old:  "	return s.Prefix && bytes.HasPrefix(prefix, s.Bytes)\n", new: "	return s.Prefix && (bytes.HasPrefix(prefix, s.Bytes) || bytes.HasPrefix(s.Bytes, prefix))\n",
			pkg: inAuth, tests: []string{"TestATokenOpensWhatItsScopesSay"},
		},
		{
			name: "auth-undecided-is-allowed", what: "A command that the table does not have is open to everyone with a token.",
			file: "internal/auth/authorize.go",
			old:  "	undecided   need = iota // refused to all but the open\n	nothing                 // it may come before anything is proved\n	anyone                  // who has proved something\n",
			new:  "	anyone    need = iota\n	undecided\n	nothing\n",
			pkg:  inAuth, tests: []string{"TestEveryCommandHasADecision"},
		},
		{
			name: "auth-expiry-of-a-connection-ignored", what: "A token that has expired goes on working on a connection that is open.",
			file: "internal/auth/principal.go",
			old:  "	case now >= p.ends:\n", new: "	case now < 0:\n",
			pkg: inAuth, tests: []string{"TestATokenThatHasEndedOpensNothingButTheWayToANewOne"},
		},
		{
			name: "auth-expiry-ignored", what: "A token that has expired is taken.",
			file: "internal/auth/keys.go",
			old:  "jwt.WithTimeFunc(func() time.Time { return now }),\n", new: "jwt.WithTimeFunc(func() time.Time { return time.Unix(1, 0) }),\n",
			pkg: inAuth, tests: []string{"TestATokenLivesFromItsBeginningToItsEndAndTheLeewayMore"},
		},
		{
			name: "auth-no-expiry-needed", what: "A token without an end is taken.",
			file: "internal/auth/keys.go",
			old:  " jwt.WithExpirationRequired(),", new: "",
			pkg: inAuth, tests: []string{"TestWhatIsWrongWithATokenIsNotTaken"},
		},
		{
			name: "auth-audience-ignored", what: "A token that was made for another service is taken.",
			file: "internal/auth/keys.go",
			old:  "		jwt.WithAudience(Audience), ", new: "		",
			pkg: inAuth, tests: []string{"TestWhatIsWrongWithATokenIsNotTaken"},
		},
		{
			name: "auth-withdrawn-key-lives-on", what: "Connections of a key that was removed go on with its tokens.",
			file: "internal/auth/keys.go",
			old:  "			was.gone.Store(true)\n", new: "			was.gone.Store(false)\n",
			pkg: inAuth, tests: []string{"TestAKeyThatIsGoneTakesItsTokensAlong"},
		},
		{
			name: "auth-removed-key-still-verifies", what: "Keys that were removed from the file still verify tokens.",
			file: "internal/auth/keys.go",
			old:  "	k.table.Store(&table)\n", new: "	if old != nil {\n		for id, was := range *old {\n			if table[id] == nil {\n				table[id] = was\n			}\n		}\n	}\n	k.table.Store(&table)\n",
			pkg: inAuth, tests: []string{"TestAKeyThatIsGoneTakesItsTokensAlong"},
		},
		{
			name: "auth-algorithm-of-the-token", what: "The token says with which algorithm its key is used, and a public key is a secret then.",
			file: "internal/auth/keys.go",
			old:  "	if t.Method.Alg() != string(key.Algorithm) {\n",
			new:  "	if t.Method.Alg() == string(HS256) && key.Algorithm == EdDSA {\n		return &verifier{Key: Key{ID: id, Algorithm: HS256, secret: &key.public}}, nil\n	}\n	if t.Method.Alg() != string(key.Algorithm) {\n",
			pkg:  inAuth, tests: []string{"TestAPublicKeyIsNoSecret"},
		},
		{
			name: "auth-critical-header-ignored", what: "A token is taken although its header asks for something that nobody here does.",
			file: "internal/auth/keys.go",
			old:  "	if _, critical := t.Header[\"crit\"]; critical {\n", new: "	if _, critical := t.Header[\"crit\"]; critical && len(t.Header) == 0 {\n",
			pkg: inAuth, tests: []string{"TestWhatIsWrongWithATokenIsNotTaken"},
		},
		{
			name: "auth-unknown-limit-ignored", what: "A limit in a token that this version does not know is passed over.",
			file: "internal/auth/scope.go",
			old:  "		if !slices.Contains(names, m.name) {\n", new: "		if !slices.Contains(names, m.name) && len(names) == 0 {\n",
			pkg: inAuth, tests: []string{"TestWhatIsWrongWithATokenIsNotTaken"},
		},
		{
			name: "auth-two-keys-of-a-name", what: "Two keys with the same kid are taken, and one of them wins.",
			file: "internal/auth/key.go",
			old:  "return other.ID == k.ID }) {\n", new: "return other.ID == k.ID && other.ID == \"\" }) {\n",
			pkg: inAuth, tests: []string{"TestKeySetsThatAreNotTaken"},
		},
		{
			name: "auth-stage-from-anyone", what: "A node may open a move in the name of another node.",
			file: "internal/auth/authorize.go",
			old:  "		return len(args) > source && p.SpeaksFor(string(args[source]))\n", new: "		return len(args) > source && p.role == RoleNode\n",
			pkg: inAuth, tests: []string{"TestMembersSendWhatTheirRoleSends"},
		},
		{
			name: "token-key-written-over", what: "A new key is written over one that is there.",
			file: "cmd/quoit/cert.go",
			old:  "os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)", new: "os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)",
			pkg: "cmd/quoit", tests: []string{"TestTokenScripts"},
		},
		{
			name: "secrets-for-everybody", what: "The secrets of servers can be read by everybody, mounted or not.",
			file: "cmd/quoit/secrets.go",
			old:  "s == ofOwnerAndServers && mounted {", new: "s == ofOwnerAndServers {",
			pkg: "cmd/quoit", tests: []string{"TestSecretsAreForWhoMadeThem"},
		},
		{
			name: "secrets-in-an-open-folder", what: "Secrets that containers may read are put into a folder that everybody may enter.",
			file: "cmd/quoit/secrets.go",
			old:  "	return nil, os.Chmod(name, 0o700)", new: "	return nil, os.Chmod(name, 0o755)",
			pkg: "cmd/quoit", tests: []string{"TestSecretsAreForWhoMadeThem"},
		},
		{
			name: "secrets-half-made", what: "Secrets that could not all be made stay behind.",
			file: "cmd/quoit/secrets.go",
			old:  "		if err == nil {\n			return\n		}\n		for _, name := range slices.Backward(made)", new: "		if true {\n			return\n		}\n		for _, name := range slices.Backward(made)",
			pkg: "cmd/quoit", tests: []string{"TestSecretsThatCannotAllBeMadeAreNotMadeAtAll"},
		},
		{
			name: "token-key-for-everyone", what: "A private key lies in a file that everyone may read.",
			file: "cmd/quoit/token.go",
			old:  "return writeNew(name, text, 0o600)", new: "return writeNew(name, text, 0o644)",
			pkg: "cmd/quoit", tests: []string{"TestAKeyFileIsForItsOwnerAndAPublicOneForAll"},
		},
		{
			name: "token-exposed-key-signs", what: "Tokens are signed with a private key that others on the machine may read.",
			file: "cmd/quoit/token.go",
			old:  "	case f.Exposed:\n", new: "	case f.Exposed && len(f.Keys) == 0:\n",
			pkg: "cmd/quoit", tests: []string{"TestTokenScripts"},
		},
		{
			name: "secret-printed", what: "A secret among settings is printed as it is.",
			file: "internal/config/secret.go",
			old:  "	if s.held == nil {\n		return \"\"\n	}\n	return hidden\n", new: "	return s.Reveal()\n",
			pkg: "internal/config", tests: []string{"TestNothingPrintsASecret"},
		},
	}
}
