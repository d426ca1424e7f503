package main

const (
	inSnapshot = "snapshot"
	inKeeper   = "node/keeper"
	inBucket   = "snapshot/bucket"
)

func snapshotMistakes() []mistake {
	return []mistake{
		{
			name: "snapshot-parts-not-synced", what: "A part file of the local snapshot is not synced.",
			file: "node/keeper/folder.go",
			old:  "return errors.Join(o.file.Sync(), o.file.Close())", new: "return o.file.Close()",
			pkg: inKeeper, tests: []string{"TestARestartNeedsNoBucketWhereverThePowerFailed"},
		},
		{
			name: "snapshot-names-not-synced", what: "The local manifest is put in place before the names of its parts are on the disk.",
			file: "node/keeper/folder.go",
			old:  "	if err := f.fs.SyncDir(f.dir); err != nil { // the names of the parts\n		return err\n	}\n", new: "",
			pkg: inKeeper, tests: []string{"TestARestartNeedsNoBucketWhereverThePowerFailed"},
		},
		{
			name: "snapshot-manifest-name-not-synced", what: "The log is cut before the rename of the local manifest is on the disk.",
			file: "node/keeper/folder.go",
			old:  "f.path(manifestName)); err != nil {\n		return err\n	}\n	return f.fs.SyncDir(f.dir)", new: "f.path(manifestName)); err != nil {\n		return err\n	}\n	return nil",
			pkg: inKeeper, tests: []string{"TestARestartNeedsNoBucketWhereverThePowerFailed"},
		},
		{
			name: "snapshot-log-cut-to-the-newest", what: "The log is cut to the newest snapshot, so that there is no way back when that is damaged.",
			file: "node/keeper/cut.go",
			old:  "	if k.cramped() {\n		before = newest\n	}\n", new: "	before = newest\n",
			pkg: inKeeper, tests: []string{"TestTheLogReachesBackToTheSnapshotBeforeTheNewest"},
		},
		{
			name: "snapshot-log-cut-before-publishing", what: "The log is cut before the manifest has been read back and published.",
			file: "node/keeper/cut.go",
			old:  "	m, err = c.o.Store.Publish(c.ctx, m)\n",
			new:  "	if err := c.o.Log.Truncate(state.MinCut()); err != nil {\n		return m, err\n	}\n	m, err = c.o.Store.Publish(c.ctx, m)\n",
			pkg:  inKeeper, tests: []string{"TestARestartNeedsNoBucketWhereverThePowerFailed"},
		},
		{
			name: "snapshot-zombie-publishes", what: "A process that was taken over swaps the head all the same.",
			file: "snapshot/store.go",
			old:  "		case h.Incarnation != own:\n			return h, &FencedError{s.node, own, h.Incarnation}\n		}\n		return fn(h)\n",
			new:  "		}\n		_ = own\n		return fn(h)\n",
			pkg:  inSnapshot, tests: []string{"TestAZombieAtEveryStep"},
		},
		{
			name: "snapshot-head-swapped-unconditionally", what: "The head is written whatever is there.",
			file: "snapshot/store.go",
			old:  "		_, err = c.store.bucket.PutIfMatch(ctx, key, body, etag)\n",
			new:  "		_, err = c.store.bucket.Put(ctx, key, strings.NewReader(string(body)), int64(len(body)))\n",
			pkg:  inSnapshot, tests: []string{"TestAZombieAtEveryStep", "TestTwoPublishersNeverShareASequence"},
		},
		{
			name: "snapshot-doubt-closed-by-a-negative-read", what: "After a lost reply, not finding the snapshot is taken as proof that it was not published.",
			file: "snapshot/store.go",
			old:  "	c.open = slices.DeleteFunc(c.open, func(a attempt) bool { return a.base != etag })\n", new: "	c.open = nil\n",
			pkg: inSnapshot, tests: []string{"TestADoubtIsNotClosedByFindingNothing"},
		},
		{
			name: "snapshot-manifest-not-read-back", what: "A manifest is published without having been read back.",
			file: "snapshot/publish.go",
			old:  "		// Nobody else writes this name: whatever", new: "		if err == nil {\n			return k, nil\n		}\n		// Nobody else writes this name: whatever",
			pkg: inSnapshot, tests: []string{"TestPublishReadsTheManifestBack"},
		},
		{
			name: "snapshot-parts-not-looked-at", what: "A manifest is published although parts that it names are not in the bucket.",
			file: "snapshot/publish.go",
			old:  "		g.Go(func() error { return s.expectPart(ctx, p) })\n", new: "		_ = p\n",
			pkg: inSnapshot, tests: []string{"TestPublishRefusesWhatIsNotThere"},
		},
		{
			name: "snapshot-newest-verified-pruned", what: "Pruning deletes the newest snapshot that passed verification.",
			file: "snapshot/prune.go",
			old:  "			return min(from, i)\n", new: "			return from\n",
			pkg: inSnapshot, tests: []string{"TestTheNewestVerifiedSnapshotIsSpared"},
		},
		{
			name: "snapshot-shared-part-pruned", what: "Pruning deletes parts that a kept snapshot shares with a condemned one.",
			file: "snapshot/prune.go",
			old:  "		return kept || !strings.HasPrefix(key, s.keys.prefix)\n", new: "		_ = kept\n		return !strings.HasPrefix(key, s.keys.prefix)\n",
			pkg: inSnapshot, tests: []string{"TestPruningDeletesWhatNothingRefersToAndNothingElse"},
		},
		{
			name: "snapshot-zombie-prunes", what: "Objects are deleted without a look at who has the head by now.",
			file: "snapshot/prune.go",
			old:  "	if err := s.confirm(ctx); err != nil {\n		return err\n	}\n	for _, key := range doomed {", new: "	for _, key := range doomed {",
			pkg: inSnapshot, tests: []string{"TestAZombieAtEveryStep", "TestPruningStopsWhereItDoesNotKnow"},
		},
		{
			name: "snapshot-block-checksum-ignored", what: "A block with a flipped bit is given to the engine.",
			file: "snapshot/block.go",
			old:  "	if crc != le.Uint32(trailer[8:]) || crc != b.crc {\n		return nil, \"checksum does not match\"\n	}\n", new: "	_ = crc\n",
			pkg: inSnapshot, tests: []string{"TestEveryFlippedBitIsFoundWhereItIs"},
		},
		{
			name: "bucket-condition-ignored", what: "The bucket in a folder replaces an object whatever it holds.",
			file: "snapshot/bucket/folder.go",
			old:  "	} else if have != want {\n", new: "	} else if false && have != want {\n",
			pkg: inBucket, tests: []string{"TestFolder"},
		},
		{
			name: "bucket-object-not-synced", what: "The bucket in a folder puts an object in place whose bytes are not on the disk.",
			file: "snapshot/bucket/folder.go",
			old:  "	return f.do(stepSync, w.file.Sync)\n", new: "	return nil\n",
			pkg: inBucket, tests: []string{"TestFolderTakesEveryStepInOrder"},
		},
		{
			name: "bucket-shows-what-is-not-durable", what: "A reader acts on an object that a power cut can still take back.",
			file: "snapshot/bucket/folder.go",
			old:  "	if settled := f.settled(key); settled != nil {\n		return nil, settled\n	}\n", new: "",
			pkg: inBucket, tests: []string{"TestFolderHidesWhatIsNotDurable"},
		},
	}
}
