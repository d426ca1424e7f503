package main

const inAdmin = "internal/admin"

func securityMistakes() []mistake {
	return []mistake{
		{
			name: "admin-any-host", what: "The admin listener answers under any name, a rebound one too.",
			file: "internal/admin/guard.go",
			old:  "	return !loopback && !strings.Contains(name, \".\")\n", new: "	return !loopback || name != \"\"\n",
			pkg: inAdmin, tests: []string{"TestAReboundNameReadsNothing"},
		},
		{
			name: "admin-profiles-for-everyone", what: "Profiles are served to whoever reaches the admin listener.",
			file: "internal/admin/guard.go",
			old:  "		if !overLoopback(r) {\n", new: "		if !overLoopback(r) && r.Host == \"\" {\n",
			pkg: inAdmin, tests: []string{"TestProfilesAreForThisMachineAlone"},
		},
		{
			name: "admin-cross-site", what: "A page of another site may ask the admin listener for work.",
			file: "internal/admin/guard.go",
			old:  "		case fromAnotherSite(r):\n", new: "		case false && fromAnotherSite(r):\n",
			pkg: inAdmin, tests: []string{"TestPagesOfOtherSitesAskInVain"},
		},
		{
			name: "data-folder-not-a-root", what: "The data folder is opened by its path, so that links lead out of it.",
			file: "node/identity.go",
			old:  "	within, root, err := vfs.Within(fsys, dir)\n", new: "	within, root, err := fsys, io.NopCloser(nil), error(nil)\n",
			pkg: inNode, tests: []string{"TestNoLinkInTheDataFolderLeadsOutOfIt"},
		},
		{
			name: "within-by-path", what: "A file within the folder is opened by its path after all.",
			file: "internal/vfs/root.go",
			old:  "	f, err := r.root.OpenFile(local, flag, fileMode)\n", new: "	f, err := os.OpenFile(filepath.Join(r.dir, local), flag, fileMode)\n",
			pkg: "internal/vfs", tests: []string{"TestNoLinkLeadsOutOfTheFolder"},
		},
		{
			name: "memory-not-bounded", what: "A write is taken whatever memory there is.",
			file: "node/engine/write.go",
			old:  "	if s.e.full(len(key)+len(value)) && p.grows(pos, key, value) {\n", new: "	if false && s.e.full(len(key)+len(value)) && p.grows(pos, key, value) {\n",
			pkg: inEngine, tests: []string{"TestAFullNodeTakesWhatNeedsNoMore"},
		},
		{
			name: "memory-of-large-entries", what: "Entries on the heap are not counted when they come.",
			file: "node/engine/table/bigs.go",
			old:  "	b.count(int64(cap(e.data)))\n", new: "	b.bytes += int64(cap(e.data))\n",
			pkg: inEngine, tests: []string{"TestLargeEntriesCountToo"},
		},
		{
			name: "memory-moves-first", what: "A range that comes in may take all the memory.",
			file: "node/engine/stage.go",
			old:  "	if e.fullForMoves(len(records)) {\n", new: "	if e.full(len(records)) && len(records) < 0 {\n",
			pkg: inEngine, tests: []string{"TestARangeThatDoesNotFitIsRefusedBeforeTheClientsAre"},
		},
		{
			name: "path-in-a-reply", what: "A client reads the text of an error of the disk or the network, path and address included.",
			file: "internal/discreet/discreet.go",
			old:  "	if text := err.Error(); !foreign && !Reveals(text) {\n", new: "	if text := err.Error(); text != \"\" {\n",
			pkg: inNode, tests: []string{"TestWhatClientsAreToldOfTroubleIsDiscreet"},
		},
		{
			name: "bucket-endpoint-told", what: "A key in the URL of an endpoint without a scheme is repeated in the error.",
			file: "snapshot/bucket/s3_url.go",
			old:  "	case strings.Contains(c.Endpoint, \"@\"):", new: "	case u.User != nil:",
			pkg: "snapshot/bucket", tests: []string{"FuzzLocation"},
		},
		{
			name: "node-any-error-as-it-is", what: "An error that has no reply of its own is sent to the client as it is.",
			file: "node/dispatch.go",
			old:  "		c.refuse(c.srv.replyFor(err))\n", new: "		c.refuse(protocol.AsError(err))\n",
			pkg: inNode, tests: []string{"TestAnErrorOfTheLogIsNoReply"},
		},
	}
}
