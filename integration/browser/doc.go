// Package browser tests what web pages see, in a real Chromium that chromedp drives: a
// cluster and a gateway in this process, quoit.wasm as it would be served, and pages
// under the gateway's own Content-Security-Policy. Anything that a page writes to its
// console as an error fails the test that opened it, unless the test says that it
// expects that.
//
//	s := start(t, 3)               // a cluster of three nodes, and a gateway
//	b := s.browser()               // a profile of its own in Chromium; one is enough for many tabs
//	tab := b.open("/test.html")    // a page; connect() has been called, db is the database
//	n := eval[int](tab, `return await db.increment("n")`)
//	tab.screenshot("a-name")       // into $QUOIT_TEST_ARTIFACTS, or bin/screenshots
//
// What eval is given is the body of an async function, in which db, quoit (the module)
// and the page's globals are there; what it returns comes as JSON. Waiting is done with
// eventually, or in the page.
//
// A story about what becomes of pages when servers are killed runs them as processes
// (newFleet), with pages of a site of its own; live lets a page read, write and watch,
// and verdicts compares what it believes with what there is.
//
// It needs Chromium (apt-get install chromium) and skips without it, unless
// QUOIT_TEST_REQUIRE names chromium. The package has no code of its own.
package browser
