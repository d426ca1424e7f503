package main

const (
	inMove     = "node/migrate"
	inDocument = "internal/cluster"
)

func moveMistakes() []mistake {
	return []mistake{
		{
			name: "move-seal-not-durable", what: "The target hears of a seal that a power cut at the source can take back.",
			file: "node/migrate/transfer.go",
			old:  "	if err := s.m.o.Log.SyncTo(lsn); err != nil {\n		return fmt.Errorf(\"sync the seal: %w\", err)\n	}\n", new: "	_ = lsn\n",
			pkg: inMove, tests: []string{"TestWhatIsPromisedIsDurable"},
		},
		{
			name: "move-complete-not-durable", what: "The target says COMPLETE before that is on its disk.",
			file: "node/migrate/intake.go",
			old:  "	if err := m.o.Log.SyncTo(lsn); err != nil {\n		return reply, 0, err\n	}\n", new: "",
			pkg: inMove, tests: []string{"TestWhatIsPromisedIsDurable"},
		},
		{
			name: "move-unsealed-by-a-timer", what: "When the time for a seal is over, the source serves again without asking the document.",
			file: "node/migrate/source.go",
			old:  "		return s.abort()\n	}\n	if s.tried",
			new:  "		_, err := s.m.o.Engine.Unseal(string(s.move.ID))\n		s.end(errOverdue)\n		return err\n	}\n	if s.tried",
			pkg:  inMove, tests: []string{"TestTheBucketIsAwayWhileARangeIsSealed"},
		},
		{
			name: "move-handshake-without-the-document", what: "The target believes a handshake by the document that it happens to have.",
			file: "node/migrate/intake.go",
			old:  "	if _, err := m.refresh(ctx); err != nil {\n		return reply, 0, unavailable(err)\n	}\n", new: "	_ = ctx\n",
			pkg: inMove, tests: []string{"TestAHandshakeReadsTheDocument"},
		},
		{
			name: "move-old-connection-not-fenced", what: "After a new handshake, what the older connection still brings is applied as well.",
			file: "node/migrate/intake.go",
			old:  "		old.end()\n", new: "		_ = old\n",
			pkg: inMove, tests: []string{"TestLateBytesOfAnOlderConnectionChangeNothing"},
		},
		{
			name: "move-batch-applied-twice", what: "A batch that comes a second time counts as the next one.",
			file: "node/migrate/intake.go",
			old:  "	case msg.Seq < in.next:\n		return protocol.AppendInt(reply, int64(in.next-1)), in.lsn, nil\n", new: "",
			pkg: inMove, tests: []string{"TestATargetTakesBatchesInOrderOnce"},
		},
		{
			name: "move-gap-accepted", what: "A batch that is missing between two others is not missed.",
			file: "node/migrate/intake.go",
			old:  "	case msg.Seq > in.next || in.complete:\n", new: "	case in.complete:\n",
			pkg: inMove, tests: []string{"TestATargetTakesBatchesInOrderOnce"},
		},
		{
			name: "move-batch-checksum-ignored", what: "A batch that was damaged on its way is applied.",
			file: "node/migrate/batch.go",
			old:  "	if binary.LittleEndian.Uint32(b) != crc32.Checksum(records, castagnoli()) {\n		return nil, errBatch\n	}\n", new: "",
			pkg: inMove, tests: []string{"TestADamagedBatchIsRefused"},
		},
		{
			name: "move-sealed-against-the-document", what: "The source seals a range of which the document followed last does not plan the move any more.",
			file: "node/migrate/source.go",
			old:  "	if s.isOver() || !ok || move != s.move {\n		return 0, errDecided\n	}\n", new: "	_, _ = move, ok\n",
			pkg: inMove, tests: []string{"TestNothingIsSealedOrStagedForAMoveThatIsGone"},
		},
	}
}

func documentMistakes() []mistake {
	return []mistake{
		{
			name: "document-412-ignored", what: "A refused compare-and-swap of the document is taken for a success.",
			file: "internal/cluster/store.go",
			old:  "	_, err = u.store.bucket.PutIfMatch(ctx, u.store.o.Key, body, etag)\n	switch {\n	case err == nil:",
			new:  "	_, err = u.store.bucket.PutIfMatch(ctx, u.store.o.Key, body, etag)\n	switch {\n	case err == nil, errors.Is(err, bucket.ErrConditionFailed):",
			pkg:  inDocument, tests: []string{"TestStoreTwoRace", "TestStoreOneFault"},
		},
		{
			name: "document-doubt-closed-by-a-negative-read", what: "After a lost reply, not finding the swap is taken as proof that it will not happen.",
			file: "internal/cluster/store.go",
			old:  "	u.open = slices.DeleteFunc(u.open, func(a attempt) bool { return a.base != etag })\n", new: "	u.open = nil\n",
			pkg: inDocument, tests: []string{"TestStoreFindsItsLateSwap", "TestStoreClosesADoubt", "TestStoreGivesUpInDoubt"},
		},
		{
			name: "document-nonce-reused", what: "Documents repeat their nonce, so that a late swap finds an ETag that was there before (ABA), and a writer takes another's swap for its own.",
			file: "internal/cluster/store.go",
			old:  "	next.Counter, next.Nonce = d.Counter+1, u.store.o.Nonce()\n", new: "	next.Counter, next.Nonce = d.Counter+1, d.Nonce\n",
			pkg: inDocument, tests: []string{"TestStoreKeepsSwapsApart", "TestStoreTwoRace"},
		},
		{
			name: "document-goes-back", what: "A node acts on a document that is older than one it has acted on.",
			file: "internal/cluster/reconcile.go",
			old:  "	if d.Counter < l.Counter {\n", new: "	if false && d.Counter < l.Counter {\n",
			pkg: inDocument, tests: []string{"TestReconcileIdentity"},
		},
		{
			name: "document-zombie-serves", what: "A process goes on although another one with its identity has started since.",
			file: "internal/cluster/reconcile.go",
			old:  "	case m.Incarnation > l.Incarnation:\n", new: "	case false && m.Incarnation > l.Incarnation:\n",
			pkg: inDocument, tests: []string{"TestReconcileIdentity"},
		},
		{
			name: "document-start-is-no-fence", what: "The moves of a node's former process keep their ids when it starts again.",
			file: "internal/cluster/members.go",
			old:  "			mv.ID = next.nextMove()\n", new: "			_ = mv\n",
			pkg: inDocument, tests: []string{"TestRegisterFences"},
		},
		{
			name: "document-abort-keeps-the-id", what: "An aborted move keeps its id, so that a late commit still fits.",
			file: "internal/cluster/moves.go",
			old:  "		next.Moves[i].ID = next.nextMove()\n", new: "		_ = i\n",
			pkg: inDocument, tests: []string{"TestAbort"},
		},
		{
			name: "document-committed-move-aborted", what: "A move can be aborted after its commit, so that both ends own the range.",
			file: "internal/cluster/moves.go",
			old:  "		case next.Moves[i].Phase == Committed:\n			return d, &MoveError{id, ErrCommitted}\n", new: "",
			pkg: inDocument, tests: []string{"TestAbort"},
		},
		{
			name: "document-two-moves-of-one-range", what: "A move is committed while an earlier one of the same range is not finished.",
			file: "internal/cluster/moves.go",
			old:  "		if busy.overlaps(m.Range) {\n			return d, &MoveError{id, ErrBlocked}\n		}\n", new: "		_ = busy\n",
			pkg: inDocument, tests: []string{"TestOneMoveOfARangeAtATime"},
		},
		{
			name: "document-epoch-stands-still", what: "Ownership changes and the epoch does not, so that clients do not learn of it.",
			file: "internal/cluster/moves.go",
			old:  "	next.Epoch++\n", new: "",
			pkg: inDocument, tests: []string{"TestCommit"},
		},
		{
			name: "document-drop-before-commit", what: "The source deletes a sealed range whose move is only planned.",
			file: "internal/cluster/reconcile.go",
			old:  "			r.do(KeepSealed, h)\n", new: "			r.do(Drop, h)\n",
			pkg: inDocument, tests: []string{"TestReconcileSource"},
		},
		{
			name: "document-stale-staging-served", what: "What was staged for a move that is gone is served if the range has come to this node since.",
			file: "internal/cluster/reconcile.go",
			old:  "	case len(mine) == 0, len(mine.intersect(r.lost)) > 0:\n		r.do(Unstage, h)\n", new: "	case len(mine) == 0:\n		r.do(Unstage, h)\n",
			pkg: inDocument, tests: []string{"TestReconcileStaleStaging"},
		},
		{
			name: "document-lost-tail-not-noticed", what: "A node serves a range that was committed to it and of which its log has no trace.",
			file: "internal/cluster/reconcile.go",
			old:  "		if !staged[m.ID] && !m.Lost && r.local.Counter < m.CommittedAt {", new: "		if false && !staged[m.ID] && !m.Lost && r.local.Counter < m.CommittedAt {",
			pkg: inDocument, tests: []string{"TestReconcileTarget", "TestReconcileContradictions"},
		},
	}
}
