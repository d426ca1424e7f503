package main

const inEngine = "node/engine"

func engineMistakes() []mistake {
	return []mistake{
		{
			name: "engine-acknowledges-before-fsync", what: "A batch's replies do not wait for the log.",
			file: "node/engine/session.go",
			old:  "if err := s.e.log.Wait(s.seen); err != nil {", new: "if err := s.e.log.Err(); err != nil {",
			pkg: inEngine, tests: []string{"TestNothingUnsyncedIsRevealed"},
		},
		{
			name: "engine-reveals-an-unsynced-read", what: "A read does not wait for the fsync of the write that it saw.",
			file: "node/engine/session.go",
			old:  "	s.seen = max(s.seen, p.seen[seenSlot(pos)])\n", new: "",
			pkg: inEngine, tests: []string{"TestNothingUnsyncedIsRevealed"},
		},
		{
			name: "engine-reveals-an-unsynced-scan", what: "A scan does not wait for the fsync of the writes that it saw.",
			file: "node/engine/scan.go",
			old:  "	s.seen = max(s.seen, p.last)\n", new: "",
			pkg: inEngine, tests: []string{"TestNothingUnsyncedIsRevealed"},
		},
		{
			name: "engine-compare-and-set-without-compare", what: "A write with a condition on the version is done whatever the version is.",
			file: "node/engine/write.go",
			old:  "	case o.HasIfVersion && Version(e.Version) != o.IfVersion:\n		return &VersionError{Current: Version(e.Version)}\n", new: "",
			pkg: inEngine, tests: []string{"TestConditionsOfPut", "TestCompareAndSetLosesNothing"},
		},
		{
			name: "engine-delete-not-logged", what: "A delete changes memory and not the log, so a restart brings the key back.",
			file: "node/engine/write.go",
			old:  "	err = s.appendAs(urgent, p, entry{kind: kindDelete, pos: pos, version: version, key: key})\n	if err != nil {\n		return err\n	}\n",
			new:  "	_, _ = version, urgent\n",
			pkg:  inEngine, tests: []string{"TestRecoveryIsTheSameWithAnyNumberOfWorkers"},
		},
		{
			name: "engine-expired-key-revived", what: "Time follows the wall clock when it is set back, so a key that was told expired is there again.",
			file: "node/engine/clock.go",
			old:  "func (c *Clock) Now() int64 { return c.reach(c.wall()) }", new: "func (c *Clock) Now() int64 { return c.wall() }",
			pkg: inEngine, tests: []string{"TestClockSteppingBackDoesNotReviveAKey", "TestClockRisesWhateverTheWallClockDoes"},
		},
		{
			name: "engine-expiry-not-logged", what: "A key found expired is hidden and its end not logged, so a restart with a clock set back shows it again.",
			file: "node/engine/session.go",
			old:  "		_ = s.expire(p, seg, pos, key, true) // A refusal changes nothing for the reader.\n", new: "",
			pkg: inEngine, tests: []string{"TestClockSteppingBackDoesNotReviveAKey"},
		},
		{
			name: "engine-versions-fall-after-a-restart", what: "Recovery does not raise the clock above the versions in the log.",
			file: "node/engine/recover.go",
			old:  "		e.clock.Observe(w.newest)\n", new: "",
			pkg: inEngine, tests: []string{"TestClockSteppingBackKeepsVersionsRising"},
		},
		{
			name: "engine-append-replayed-twice", what: "Replay begins with the last record that the checkpoint has already, so a tail is appended twice.",
			file: "node/engine/recover.go",
			old:  "w.lsn <= w.replay.base.Cuts[index] {\n		return nil\n	}\n	r, rest", new: "w.lsn < w.replay.base.Cuts[index] {\n		return nil\n	}\n	r, rest",
			pkg: inEngine, tests: []string{"TestACutInTheMiddleOfAGroupIsExact"},
		},
		{
			name: "engine-wipe-replayed-over-a-newer-base", what: "Replay wipes a range although the checkpoint is newer than the wipe.",
			file: "node/engine/recover.go",
			old:  " && w.lsn > w.replay.base.Cuts[pc.index] {", new: " {",
			pkg: inEngine, tests: []string{"TestCheckpointModel"},
		},
		{
			name: "engine-checkpoint-shown-before-fsync", what: "A checkpoint is finished although the log is not durable up to its cuts.",
			file: "node/engine/checkpoint.go",
			old:  "	if err := c.e.log.SyncTo(s.LSN); err != nil {\n		return nil, fmt.Errorf(\"engine: finish a checkpoint: %w\", err)\n	}\n", new: "",
			pkg: inEngine, tests: []string{"TestAFailedSyncKeepsACheckpointFromBeingFinished"},
		},
		{
			name: "engine-log-gap-accepted", what: "A log that begins behind what its base has is used all the same.",
			file: "node/engine/base.go",
			old:  "	if start := l.log.Start(); start > known {", new: "	if start := l.log.Start(); start > known && known > 0 {",
			pkg: inEngine, tests: []string{"TestACheckpointOfAnotherTimeOrLogIsRefused", "TestANodeComesBackFromABaseAndWhatTheLogKept"},
		},
	}
}

// rangeMistakes are about which ranges the engine holds, and what for.
func rangeMistakes() []mistake {
	return []mistake{
		{
			name: "range-served-before-the-document", what: "After a restart everything in the log is served before the document was read.",
			file: "node/engine/partition.go",
			old:  "{{end: p.hi, state: recovered}}", new: "{{end: p.hi, state: owned}}",
			pkg: inEngine, tests: []string{"TestNothingIsServedBeforeOwnershipIsKnown"},
		},
		{
			name: "range-leftovers-taken-over", what: "A range that comes back is served together with what was left from the time before.",
			file: "node/engine/ownership.go",
			old:  "		if isMine && s.keys == 0 {", new: "		if isMine {",
			pkg: inEngine, tests: []string{"TestLeftoversAreHiddenWipedAndDoNotComeBack"},
		},
		{
			name: "range-residue-not-wiped-on-stage", what: "Staging a range does not wipe what an earlier ownership has left there.",
			file: "node/engine/stage.go",
			old:  "			through = s.purgeStep(&e.parts[pc.index], pc)", new: "			_, _, through = s, pc, true",
			pkg: inEngine, tests: []string{"TestThereAndBackAgain", "TestDeleteLinkBreakCopyAgain"},
		},
		{
			name: "range-residue-back-after-a-restart", what: "Replay does not wipe a range where it was staged, so what was there before is back.",
			file: "node/engine/recover.go",
			old:  "	if ev.kind != kindWipe && ev.kind != kindStage {", new: "	if ev.kind != kindWipe {",
			pkg: inEngine, tests: []string{"TestDeleteLinkBreakCopyAgain"},
		},
		{
			name: "range-drop-not-logged", what: "A range that moved away is forgotten in memory only, and comes back from the log.",
			file: "node/engine/hold.go",
			old:  "	lsn, err := e.logEvent(event{kind: kindWipe, name: h.move, r: h.r})\n	if err != nil {\n		e.release(h, foreign)\n		return 0, err\n	}\n",
			new:  "	lsn, err := e.log.Appended(), error(nil)\n	if err != nil {\n		e.release(h, foreign)\n		return 0, err\n	}\n",
			pkg:  inEngine, tests: []string{"TestAMovedRangeStaysAwayAfterRestart"},
		},
		{
			name: "range-seal-forgotten-at-restart", what: "A range that was sealed is served again after a restart, before anybody asked the document.",
			file: "node/engine/recover.go",
			old:  "		e.setState(held.Range, sealed, h)\n", new: "		_ = h\n",
			pkg: inEngine, tests: []string{"TestWhatARestartFinds", "TestASealedRangeIsCopiedAgainAfterARestart"},
		},
		{
			name: "range-sealed-still-read", what: "A sealed range refuses writes and goes on answering reads.",
			file: "node/engine/partition.go",
			old:  "	if seg.state != owned {\n", new: "	if seg.state != owned && seg.state != sealed {\n",
			pkg: inEngine, tests: []string{"TestStatesRefuseEveryOperation"},
		},
		{
			name: "range-staged-visible", what: "Keys of a range that is still being received are counted and shown.",
			file: "node/engine/partition.go",
			old:  "return s.state == owned || s.state == sealed }", new: "return s.state == owned || s.state == sealed || s.state == staging || s.state == staged }",
			pkg: inEngine, tests: []string{"TestStagedIsInvisibleUntilActivated"},
		},
		{
			name: "range-activated-incomplete", what: "A range is served that has not come whole.",
			file: "node/engine/stage.go",
			old:  "	if !h.complete {\n", new: "	if false && !h.complete {\n",
			pkg: inEngine, tests: []string{"TestStepsAreIdempotentOrRefused"},
		},
		{
			name: "range-count-not-compared", what: "The target does not compare its number of keys with the source's.",
			file: "node/engine/stage.go",
			old:  "	if here := e.count(h.r); here != count {", new: "	if here := e.count(h.r); false && here != count {",
			pkg: inEngine, tests: []string{"TestAWrongCountIsRefusedAndTheMoveGoesOn"},
		},
		{
			name: "range-version-not-carried", what: "A key gets a new version when its range moves.",
			file: "node/engine/stage.go",
			old:  "	return s.apply(p, seg, rec)\n", new: "	rec.version, _ = s.e.clock.Next()\n	return s.apply(p, seg, rec)\n",
			pkg: inEngine, tests: []string{"TestAMoveFromBeginningToEnd", "TestMoveModel"},
		},
		{
			name: "range-expiry-not-carried", what: "A key that expires lives for ever after its range has moved.",
			file: "node/engine/capture.go",
			old:  "			kind: putKind(e.ExpireAt), pos: pos, version: Version(e.Version),\n			expireAt: e.ExpireAt, key: e.Key, value: e.Value,\n",
			new:  "			kind: kindPut, pos: pos, version: Version(e.Version),\n			key: e.Key, value: e.Value,\n",
			pkg:  inEngine, tests: []string{"TestAMoveFromBeginningToEnd", "TestExpiryMidCopy", "TestMoveModel"},
		},
		{
			name: "range-clock-not-observed", what: "The new owner does not raise its clock to the source's, so versions may fall.",
			file: "node/engine/stage.go",
			old:  "	e.clock.Observe(hlc)\n", new: "",
			pkg: inEngine, tests: []string{"TestVersionsRiseAfterADeleteAtTheSource"},
		},
		{
			name: "range-delete-not-streamed", what: "A delete during the copy is not sent to the target.",
			file: "node/engine/write.go",
			old:  "	p.mourn(s.e.hub.tombLimit, pos, key, version)\n	s.finish(p, pos, key, version)\n",
			new:  "	p.mourn(s.e.hub.tombLimit, pos, key, version)\n	s.torn = false\n",
			pkg:  inEngine, tests: []string{"TestCaptureMissesNothing", "TestMoveModel"},
		},
		{
			name: "range-delete-not-applied", what: "The target passes over the deletes in the stream.",
			file: "node/engine/stage.go",
			old:  "!ok && rec.kind == kindDelete:", new: "rec.kind == kindDelete:",
			pkg: inEngine, tests: []string{"TestMoveModel", "TestAMoveFromBeginningToEnd", "TestDeleteLinkBreakCopyAgain"},
		},
		{
			name: "range-change-missed-at-the-edge", what: "A change to the position that the copy has just passed is not streamed.",
			file: "node/engine/capture.go",
			old:  "	return uint64(pos-c.first) < c.passed.Load()\n", new: "	return uint64(pos-c.first)+1 < c.passed.Load()\n",
			pkg: inEngine, tests: []string{"TestCaptureKnowsItsBorders", "TestCaptureMissesNothing"},
		},
		{
			name: "range-no-back-pressure", what: "Writers of a moving range are never held back.",
			file: "node/engine/capture.go",
			old:  "	if full == nil {\n", new: "	if full == nil || true {\n",
			pkg: inEngine, tests: []string{"TestThrottle"},
		},
		{
			name: "ring-wrap-forgotten", what: "A range that runs over the top of the ring contains nothing.",
			file: "ring/range.go",
			old:  "	return p-r.first() <= r.End-r.first()\n", new: "	return r.Start == r.End || r.Start < p && p <= r.End\n",
			pkg: "ring", tests: []string{"TestRangeContains"},
		},
		{
			name: "ring-start-inclusive", what: "A range contains its start, which is its neighbour's.",
			file: "ring/range.go",
			old:  "	return p-r.first() <= r.End-r.first()\n", new: "	return p-r.Start <= r.End-r.Start || r.Start == r.End\n",
			pkg: "ring", tests: []string{"TestRangeContains"},
		},
		{
			name: "ring-past-the-last-token", what: "A position behind the last token belongs to that token's node instead of the first one's.",
			file: "ring/map.go",
			old:  "	return m.owners[0] // Past", new: "	return m.owners[len(m.owners)-1] // Past",
			pkg: "ring", tests: []string{"TestGolden", "TestKeysBelongToTheFirstTokenAtOrAfter"},
		},
		{
			name: "ring-wrap-in-pieces", what: "A range is cut at the borders of partitions one position too late.",
			file: "node/engine/partition.go",
			old:  "partitionSpan-uint64(from%partitionSpan))", new: "partitionSpan-uint64(from%partitionSpan)+1)",
			pkg: inEngine, tests: []string{"TestPiecesCoverTheRange"},
		},
		{
			name: "ring-comes-round-again", what: "Two ranges that meet at both ends are said to have one part in common.",
			file: "ring/range.go",
			old:  "	if end > ringSize {\n", new: "	if false && end > ringSize {\n",
			pkg: "ring", tests: []string{"TestRangeIntersect", "TestIntersectHoldsWhatBothHold"},
		},
	}
}
