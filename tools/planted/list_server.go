package main

const (
	inNode   = "node"
	inClient = "client"
)

func serverMistakes() []mistake {
	return []mistake{
		{
			name: "node-identity-not-synced", what: "The node's identity is renamed into place and the folder not synced.",
			file: "node/identity.go",
			old:  "	if err := f.fs.SyncDir(f.dir); err != nil {\n		return fmt.Errorf(\"write the node's identity: %w\", err)\n	}\n", new: "",
			pkg: inNode, tests: []string{"TestAnIdentitySurvivesAPowerFailure"},
		},
		{
			name: "node-mark-not-durable", what: "A node acts on a document, and says so, before that is on its disk.",
			file: "node/follow.go",
			old:  "	if err := f.store.log.SyncTo(max(settled, wiped)); err != nil {\n		return err\n	}\n", new: "	_ = max(settled, wiped)\n",
			pkg: inNode, tests: []string{"TestWhatANodeReportsIsDurable"},
		},
		{
			name: "node-replies-after-a-failed-sync", what: "Replies that were handed over to the log are sent although its fsync has failed.",
			file: "node/later.go",
			old:  "		c.srv.fail(err)\n	} else if l.raw.Write(l.try) != nil {", new: "		_ = l.raw.Write(func(fd uintptr) bool { sendNow(fd, c.out); return true })\n		c.srv.fail(err)\n	} else if l.raw.Write(l.try) != nil {",
			pkg: inNode, tests: []string{"TestRepliesHandedOverToALogThatFailsAreNeverSent"},
		},
		{
			name: "manager-doubt-is-a-refusal", what: "The manager tells a source that its commit was refused when it does not know.",
			file: "manager/commands.go",
			old:  "	case errors.Is(err, cluster.ErrInDoubt):\n", new: "	case false && errors.Is(err, cluster.ErrInDoubt):\n",
			pkg: "manager", tests: []string{"TestOutcomeUnknown"},
		},
		{
			name: "gateway-panic-not-contained", what: "A panic in a goroutine of one WebSocket takes the gateway down.",
			file: "gateway/socket.go",
			old:  "			defer s.contained()\n", new: "",
			pkg: "gateway", tests: []string{"TestAPanicEndsOneWebSocket"},
		},
		{
			name: "panic-not-told-to-the-tests", what: "A panic that a server contains is counted, and the tests are not told of it.",
			file: "internal/contain/contain.go",
			old:  "	process.count++\n", new: "",
			pkg: "internal/contain", tests: []string{"TestAPanicThatNoTestHasAskedForIsFound"},
		},
	}
}

func clientMistakes() []mistake {
	return []mistake{
		{
			name: "client-sent-write-sent-again", what: "A write whose reply was lost is sent a second time.",
			file: "client/retry.go",
			old:  "		if harmless {\n", new: "		if harmless || !harmless {\n",
			pkg: inClient, tests: []string{"TestAWriteThatMayHaveHappenedIsNeverSentAgain"},
		},
		{
			name: "client-old-moved-followed", what: "A MOVED of an older epoch than the client's own is followed.",
			file: "client/trip.go",
			old:  "	case ring.Epoch(epoch) < c.routing.Load().topology.Epoch:\n", new: "	case epoch == 0 && ring.Epoch(epoch) < c.routing.Load().topology.Epoch:\n",
			pkg: inClient, tests: []string{"TestANodeThatLagsBehindIsWaitedFor"},
		},
		{
			name: "client-topology-goes-back", what: "A client takes a topology that is older than the one it has.",
			file: "client/routing.go",
			old:  "	if old != nil && t.Epoch < old.topology.Epoch {\n		return nil\n	}\n", new: "",
			pkg: inClient, tests: []string{"TestTheTopologyNeverGoesBack"},
		},
		{
			name: "client-page-of-another-owner", what: "A page of SCAN is believed for ranges that its node did not own.",
			file: "client/scan.go",
			old:  "	return min(p.to, p.owned.until(at))\n", new: "	return p.to\n",
			pkg: inClient, tests: []string{"TestScanFindsEveryKeyOnceInRingOrder", "TestScanWhileRangesMove"},
		},
		{
			name: "client-page-during-a-change", what: "A page of SCAN is used although ownership changed while it was made.",
			file: "client/scan.go",
			old:  "	if !sight.steady {\n		return &page{}, answered, nil\n	}\n", new: "",
			pkg: inClient, tests: []string{"TestScanWhileRangesMove"},
		},
	}
}
