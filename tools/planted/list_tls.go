package main

const inTLS = "internal/tlsconf"

func tlsMistakes() []mistake {
	return []mistake{
		{
			name: "tls-older-version", what: "TLS 1.2 is spoken with whoever knows nothing newer.",
			file: "internal/tlsconf/tlsconf.go",
			old:  "		MinVersion: tls.VersionTLS13,\n", new: "		MinVersion: tls.VersionTLS12,\n",
			pkg: inTLS, tests: []string{"TestNothingOlderThanTLS13"},
		},
		{
			name: "tls-server-not-verified", what: "Whoever dials believes every certificate.",
			file: "internal/tlsconf/client.go",
			old:  "	config.ServerName = host\n", new: "	config.ServerName, config.InsecureSkipVerify = host, true\n",
			pkg: inTLS, tests: []string{"TestWhomAClientBelieves"},
		},
		{
			name: "tls-old-certificate-stays", what: "A certificate that was replaced is shown until a restart.",
			file: "internal/tlsconf/watch.go",
			old:  "	w.warnAboutKey()\n	w.current.Store(m)\n	if m.cert != nil {\n", new: "	w.warnAboutKey()\n	if m.cert != nil {\n",
			pkg: inTLS, tests: []string{"TestACertificateIsReplacedWithoutARestart"},
		},
		{
			name: "tls-bad-pair-taken", what: "A pair of files that does not fit together takes the place of a good one.",
			file: "internal/tlsconf/watch.go",
			old:  "what was read before stays\", \"err\", err)\n		return\n", new: "what was read before stays\", \"err\", err)\n",
			pkg: inTLS, tests: []string{"TestAPairThatDoesNotFit"},
		},
		{
			name: "tls-stranger-taken-for-a-member", what: "A certificate of any authority is taken from a client.",
			file: "internal/tlsconf/server.go",
			old:  "tls.VerifyClientCertIfGiven\n", new: "tls.RequestClientCert\n",
			pkg: inTLS, tests: []string{"TestMembersCertificates", "TestAMemberWhoseCertificateHasExpired"},
		},
	}
}
