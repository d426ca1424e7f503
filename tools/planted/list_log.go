package main

const inLog = "node/wal"

func logMistakes() []mistake {
	return []mistake{
		{
			name: "log-data-not-synced", what: "A group of records is called durable without an fsync of the segment.",
			file: "node/wal/commit.go",
			old:  "	if err := l.cur.file.Sync(); err != nil {\n		return err\n	}\n", new: "",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-durable-before-sync", what: "Records are called durable just before the fsync and not after it.",
			file: "node/wal/commit.go",
			old:  "	start := time.Now()\n	if err := l.cur.file.Sync()",
			new:  "	start := time.Now()\n	l.durable.Store(l.written.Load())\n	if err := l.cur.file.Sync()",
			pkg:  inLog, tests: []string{"TestPoison", "TestEveryOperationFailsOnce", "TestPoisonWakesAllWaiters"},
		},
		{
			name: "log-segment-header-not-synced", what: "A segment gets its name before its header is on the disk.",
			file: "node/wal/segment.go",
			old:  "	if err := s.file.Sync(); err != nil {\n		return err\n	}\n", new: "",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-directory-not-synced", what: "The directory is not synced after a segment got its name.",
			file: "node/wal/segment.go",
			old:  "	return o.FS.SyncDir(o.Dir)", new: "	return nil",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-parent-not-synced", what: "The name of a new log's folder is not synced in its parent.",
			file: "node/wal/recover.go",
			old:  "	if err := fsys.SyncDir(parent); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, vfs.ErrOutside) {\n		return err\n	}\n", new: "",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-failed-sync-retried", what: "A failed fsync is tried again, and the second one knows nothing of what the first has lost.",
			file: "node/wal/commit.go",
			old:  "	if err := l.cur.file.Sync(); err != nil {\n		return err\n	}\n",
			new:  "	if err := l.cur.file.Sync(); err != nil && l.cur.file.Sync() != nil {\n		return err\n	}\n",
			pkg:  inLog, tests: []string{"TestPoison", "TestEveryOperationFailsOnce"},
		},
		{
			name: "log-acknowledges-early", what: "Waiting for a record returns at once under fsync=always too.",
			file: "node/wal/commit.go",
			old:  "	return l.SyncTo(lsn)\n}\n\n// SyncTo", new: "	return l.Err()\n}\n\n// SyncTo",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-torn-tail-is-damage", what: "What a power cut leaves behind the last fsync is refused as damage, so the node does not start.",
			file: "node/wal/recover.go",
			old:  "	if promised || t.durable > t.end {", new: "	if promised || t.durable > t.end || reach > r.off {",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-damage-is-a-torn-tail", what: "A rotten frame in the middle of the newest segment is cut off with everything behind it.",
			file: "node/wal/recover.go",
			old:  "	if promised || t.durable > t.end {", new: "	if promised = false; promised || t.durable > t.end {",
			pkg: inLog, tests: []string{"TestFlipEveryBit", "TestHoleInTheTail"},
		},
		{
			name: "log-checksum-not-checked", what: "A frame's payload is believed without its checksum.",
			file: "node/wal/reader.go",
			old:  "err == nil && crc32.Checksum(payload, castagnoli) == f.payload", new: "err == nil && (true || crc32.Checksum(payload, castagnoli) == f.payload)",
			pkg: inLog, tests: []string{"TestFlipEveryBit"},
		},
		{
			name: "log-length-not-bounded", what: "The length in a frame's header is not compared with what is left of the segment.",
			file: "node/wal/format.go",
			old:  "		int64(f.length) <= room-frameHeader &&\n", new: "",
			pkg: inLog, tests: []string{"TestDecodeFrameRefuses"},
		},
		{
			name: "log-page-cache-believed", what: "At start, what can be read behind the last proven fsync is taken for durable and not written again.",
			file: "node/wal/recover.go",
			old:  "	l.id = t.log\n", new: "	l.id, t.durable = t.log, t.end\n",
			pkg: inLog, tests: []string{"TestEveryOperationFailsOnce", "TestRecoveryVouchesForTheTail"},
		},
		{
			name: "log-old-frames-of-a-recycled-file", what: "The checksum of a frame does not depend on its segment, so that a recycled file's old frames pass.",
			file: "node/wal/format.go",
			old:  "	le.PutUint64(b[8:], h.number)\n", new: "",
			pkg: inLog, tests: []string{"TestRecycledSegmentsDoNotLeak", "TestSeedsOfOneLogAreDistinct"},
		},
		{
			name: "log-truncated-before-the-mark", what: "Old segments are deleted before the mark that says so is durable.",
			file: "node/wal/truncate.go",
			old:  "	if err := l.SyncTo(mark); err != nil {\n		return err\n	}\n", new: "	_ = mark\n",
			pkg: inLog, tests: []string{"TestCrashBeforeEveryOperation"},
		},
		{
			name: "log-missing-segment-passed-over", what: "A segment that is missing in the middle of the log ends the search for older ones instead of the start.",
			file: "node/wal/recover.go",
			old:  "		if i == 0 || numbers[i-1] != h.number-1 {\n",
			new:  "		if i == 0 || numbers[i-1] != h.number-1 {\n			break\n		}\n		if i == 0 {\n",
			pkg:  inLog, tests: []string{"TestMissingSegments", "TestMissingSegmentAfterTruncate"},
		},
		{
			name: "log-no-reserve-on-a-full-disk", what: "Ordinary records use up what the seal of a range would need on a full disk.",
			file: "node/wal/append.go",
			old:  "	if !urgent && !l.stock.ready() {", new: "	if false && !urgent && !l.stock.ready() {",
			pkg: inLog, tests: []string{"TestDiskFullKeepsAReserve"},
		},
	}
}
