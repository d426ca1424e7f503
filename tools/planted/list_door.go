package main

// doorMistakes are about those who come with a token, and what passes it on.
func doorMistakes() []mistake {
	return []mistake{
		{
			name: "client-token-in-an-error", what: "What a node says about a token is told with the token in it.",
			file: "client/token.go",
			old:  "	if strings.Contains(refusal.Message, token) {\n", new: "	if token == \"\" {\n",
			pkg: inClient, tests: []string{"TestATokenThatIsNotTakenIsAnErrorAtOnce"},
		},
		{
			name: "client-connection-without-token", what: "The connections of watches do not begin with the token.",
			file: "client/watch_conn.go",
			old:  "	stream, err := k.node.dialStream(k.ctx)\n", new: "	stream, err := k.node.env.dialer(k.ctx, k.node.dial)\n",
			pkg: inClient, tests: []string{"TestAWatchGoesOnWhereItWasWithTheNextToken"},
		},
		{
			name: "client-cuts-what-expired", what: "A connection whose token has expired is cut with requests under way.",
			file: "client/node.go",
			old:  "	if l.leave() {\n", new: "	if l.leave() {\n		defer l.fail(errLeft)\n",
			pkg: inClient, tests: []string{"TestARequestThatIsOnItsWayWhenTheTokenExpiresIsNotLost"},
		},
		{
			name: "client-renews-many-times", what: "A request that is refused with every token is sent many times.",
			file: "client/trip.go",
			old:  "		if fresh == 0 || k.link.opened <= fresh {\n", new: "		if fresh == 0 || k.link.opened <= fresh+9 {\n",
			pkg: inClient, tests: []string{"TestANodeThatTakesNoTokenForLongIsAskedOnceMore"},
		},
		{
			name: "client-watch-ends-with-its-token", what: "A watch ends when its token expires.",
			file: "client/watcher.go",
			old:  "	case expired: // the next connection has a new token\n		s.renewed = true\n", new: "	case expired && false:\n		s.renewed = true\n",
			pkg: inClient, tests: []string{"TestAWatchGoesOnWhereItWasWithTheNextToken"},
		},
	}
}
