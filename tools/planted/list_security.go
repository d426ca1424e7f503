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
	}
}
