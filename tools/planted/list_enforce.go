package main

func enforceMistakes() []mistake {
	return []mistake{
		{
			name: "node-scan-unfiltered", what: "SCAN gives keys that the client may not read.",
			file: "node/scan.go",
			old:  "	if p.reader != nil && !p.reader.MayRead(key) {\n		return\n	}\n", new: "",
			pkg: inNode, tests: []string{"TestEveryReplyIsWhatTheOracleAllows"},
		},
		{
			name: "node-scan-cursor-behind-a-hidden-key", what: "A page of SCAN ends behind a key that the client may not read, and tells its hash.",
			file: "node/scan.go",
			old:  "	if page.reader != nil {\n		fill = c.scanScoped\n	}\n", new: "	_ = c.scanScoped\n",
			pkg: inNode, tests: []string{"TestEveryReplyIsWhatTheOracleAllows"},
		},
		{
			name: "node-second-watch-unasked", what: "A connection that watches already may watch everything.",
			file: "node/watch.go",
			old:  "	if err := t.c.guest.Authorize(t.c.srv.clock.coarse(), protocol.CmdWatch, args); err != nil {\n		return err\n	}\n", new: "",
			pkg: inNode, tests: []string{"TestAWatchIsHeldToItsScopes"},
		},
		{
			name: "node-pipelined-requests-unasked", what: "Of a pipeline only the first requests are held to the token.",
			file: "node/dispatch.go",
			old:  "	if !c.guest.Who().IsOpen() && !c.allowed(cmd, args) {", new: "	if !c.guest.Who().IsOpen() && (c.ahead == nil || c.ahead.key == nil) && !c.allowed(cmd, args) {",
			pkg: inNode, tests: []string{"TestEveryCommandIsHeldToItsScopes"},
		},
		{
			name: "node-told-after-its-token", what: "Who watches is told of changes after its token has ended.",
			file: "node/watching.go",
			old:  "	if t.c.standing.Load().Ended(t.c.srv.clock.coarse()) != nil {", new: "	if false && t.c.standing.Load().Ended(t.c.srv.clock.coarse()) != nil {",
			pkg: inNode, tests: []string{"TestNothingIsToldBetweenTheEndOfATokenAndTheSweeper"},
		},
		{
			name: "node-parked-past-its-token", what: "A request that was parked is done although its token has ended meanwhile.",
			file: "node/dispatch.go",
			old:  "		if ended := c.ended(); ended != nil {", new: "		if ended := c.ended(); false && ended != nil {",
			pkg: inNode, tests: []string{"TestARequestThatIsParkedWhileItsTokenEnds"},
		},
		{
			name: "node-stranger-not-bounded", what: "Before AUTH a client may send, and have the node hold, what everyone may.",
			file: "node/guard.go",
			old:  "	if !c.guest.Known() {\n		c.parser", new: "	if false && !c.guest.Known() {\n		c.parser",
			pkg: inNode, tests: []string{"TestAStrangerHoldsNextToNothing"},
		},
		{
			name: "node-hello-to-strangers", what: "HELLO tells the node's version to who has shown no token.",
			file: "node/session.go",
			old:  "	if stranger := c.guest.Unproved(c.srv.clock.coarse()); stranger != nil {", new: "	if stranger := c.guest.Unproved(c.srv.clock.coarse()); false && stranger != nil {",
			pkg: inNode, tests: []string{"TestHelloTellsAStrangerNothing"},
		},
		{
			name: "node-many-arguments-uncounted", what: "What a request with very many arguments needs is not counted.",
			file: "node/conn.go",
			old:  "	if !c.argsPart.Set(c.parser.Held()) {", new: "	if !c.argsPart.Set(0) {",
			pkg: inNode, tests: []string{"TestWhatVeryManyArgumentsNeedIsCounted"},
		},
		{
			name: "node-strangers-take-all-places", what: "One address that never says who it is takes all connections of a node.",
			file: "node/server.go",
			old:  "	if s.guard.On() && !r.strange.Enter(from) {", new: "	if s.guard.On() && !r.strange.Enter(from) && r.nextID == 0 {",
			pkg: inNode, tests: []string{"TestStrangersOfOneAddressCannotTakeAllPlaces"},
		},
		{
			name: "auth-rate-anew", what: "Who connects anew has the whole rate of its token again.",
			file: "internal/auth/shares.go",
			old:  "	case s.rate.Limit() == rate.Inf:\n", new: "	case s.rate.Limit() > 0:\n",
			pkg: inAuth, tests: []string{"TestWhoComesAgainHasNoNewRate"},
		},
		{
			name: "auth-claims-folded", what: "A claim QUOIT in a token is taken for quoit.",
			file: "internal/auth/claims.go",
			old:  "		switch m.name {\n", new: "		switch strings.ToLower(m.name) {\n",
			pkg: inAuth, tests: []string{"TestNamesInATokenAreWhatTheyAre"},
		},
		{
			name: "auth-limits-of-each-connection", what: "Each connection has the rate of its token for itself.",
			file: "internal/auth/shares.go",
			old:  "	case share == nil:\n", new: "	case share == nil || share.name == name:\n",
			pkg: inAuth, tests: []string{"TestLimitsBelongToATokenNotToAConnection"},
		},
	}
}
