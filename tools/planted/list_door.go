package main

// doorMistakes are about those who come with a token, and what passes it on.
func doorMistakes() []mistake {
	return []mistake{
		{
			name: "door-many-keys-uncounted", what: "A request with very many short keys takes memory that no limit has counted.",
			file: "gateway/dispatch.go",
			old:  "	if requests <= batchRequests {\n", new: "	if requests > 0 {\n",
			pkg: "gateway", tests: []string{"TestManyKeysInOneRequestAreCounted"},
		},
		{
			name: "client-token-in-an-error", what: "What a node says about a token is told with the token in it.",
			file: "client/token.go",
			old:  "	if strings.Contains(refusal.Message, token) {\n", new: "	if strings.Contains(\"\", token) {\n",
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
		{
			name: "gateway-channel-before-auth", what: "A channel passes requests on before its node has taken a token.",
			file: "gateway/channel.go",
			old:  "		refusal = c.denies(cmd, args)\n", new: "		_ = c.denies(cmd, args)\n",
			pkg: "gateway", tests: []string{"TestAChannelPassesNothingBeforeATokenIsTaken"},
		},
		{
			name: "gateway-node-overruled", what: "A channel goes on with a token that its node has refused.",
			file: "gateway/channel.go",
			old:  "	case '+', '*':\n", new: "	case '+', '*', '-':\n",
			pkg: "gateway", tests: []string{"TestTheNodeHasTheLastWordAboutAToken"},
		},
		{
			name: "gateway-reset-forgets-nothing", what: "A channel passes requests on after RESET.",
			file: "gateway/channel.go",
			old:  "		c.forget()\n		c.allow()\n", new: "		c.allow()\n",
			pkg: "gateway", tests: []string{"TestAChannelPassesNothingBeforeATokenIsTaken"},
		},
		{
			name: "gateway-door-shares-clients", what: "The Redis door asks the nodes with the token of somebody else.",
			file: "gateway/tenant.go",
			old:  "	name := sha256.Sum256(token)\n", new: "	name := sha256.Sum256(nil)\n",
			pkg: "gateway", tests: []string{"TestTheRedisDoorActsForWhoAsks"},
		},
		{
			name: "gateway-door-mixes-up-a-batch", what: "Requests before AUTH are done with the token behind them.",
			file: "gateway/dispatch.go",
			old:  "		v.perform() // what came before is for who it was then\n", new: "",
			pkg: "gateway", tests: []string{"TestTheRedisDoorActsForWhoAsks"},
		},
		{
			name: "gateway-door-scopes-unasked", what: "The Redis door passes on requests for keys that the token does not open: the node refuses them, if it asks.",
			file: "gateway/dispatch.go",
			old:  "	refusal := auth.Authorize(v.who(), v.gw.clock.coarse(), cmd, args)\n", new: "	refusal, _ := v.denies(cmd, args), auth.Authorize\n",
			pkg: "gateway", tests: []string{"FuzzWhatATokenOpens"},
		},
		{
			name: "gateway-status-without-token", what: "Everybody is told how the cluster does.",
			file: "gateway/console.go",
			old:  "	if !c.gw.asks() {\n		return nil, true\n", new: "	if !c.gw.asks() || least == auth.ClusterRead {\n		return nil, true\n",
			pkg: "gateway", tests: []string{"TestTheConsoleActsForWhoAsks"},
		},
		{
			name: "gateway-manager-asked-as-another", what: "The manager is asked with the token of who asked before.",
			file: "gateway/console.go",
			old:  "	if subtle.ConstantTimeCompare(m.shown, token) == 0 {\n", new: "	if subtle.ConstantTimeCompare(m.shown, token) == 2 {\n",
			pkg: "gateway", tests: []string{"TestTheConsoleActsForWhoAsks"},
		},
		{
			name: "gateway-shows-the-nodes-certificate", what: "A node's own gateway shows the node's certificate, which makes a member of every page.",
			file: "gateway/own.go",
			old:  "	c.TLS.TLSMode, c.TLS.TLSCert, c.TLS.TLSKey = modeOf(c.TLS), \"\", \"\"\n", new: "	c.TLS.TLSMode = modeOf(c.TLS)\n",
			pkg: "gateway", tests: []string{"TestWhereANodesOwnGatewayFindsItsNode"},
		},
	}
}
