// Package web is what a gateway serves to browsers: quoit.js with its types, the client
// that it loads, and the pages. New gives all of it as a file system.
//
//	quoit.js, quoit.d.ts    the client's JavaScript side; see docs/browser.md
//	quoit.wasm              the client, also as quoit.wasm.gz and quoit.wasm.br
//	wasm_exec.js            what Go programs need in a browser, from the Go that built it
//	index.html, console/    the console: a page that shows a cluster, and lets keys be read and written
//	todo/                   a small application, to be copied from
//
// quoit.wasm and wasm_exec.js are built, not committed. `task wasm` puts them into dist, and a binary
// that is built after that has them in it. One that was built without, as by `go run`
// in a fresh clone, builds them with the Go that is there, when they are first asked
// for; who asks waits. Where that is not possible the error says what to do.
package web
