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
	}
}
