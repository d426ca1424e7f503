//go:build js

// Wasmclient is the client of web/quoit.js: package border, which is the client with
// messages at its edge, connected to a browser. It has no logic of its own.
//
//	GOOS=js GOARCH=wasm go build -trimpath -ldflags="-s -w" ./wasmclient
//
// It is started by quoit.js, which names a global variable in an environment variable
// and removes it at once. There it finds an object with four functions, which it calls
//
//	ready(api)                       once, with what quoit.js may call
//	settle(call, status, bytes)      for each call, once
//	emit(database, event, bytes)     for what concerns no call
//	token(source, ask)               for each connection that wants a token
//
// and api has call, calls, cancel, answer, place, stats, online, sleep and wake. Calls come from the page's event
// loop and return at once; whatever takes time has a goroutine of its own.
package main

import (
	"syscall"
	"syscall/js"

	"github.com/quoitdb/quoit/wasmclient/border"
)

// handshake names the environment variable that has the name of the global variable.
// (wasm_exec.js gives a program an environment; to read arguments would link package os.)
const handshake = "QUOIT_PAGE"

func main() {
	name, _ := syscall.Getenv(handshake)
	script := js.Global().Get(name)
	if name == "" || script.Type() != js.TypeObject {
		println("quoit.wasm is started by quoit.js")
		return
	}
	web := newBrowser()
	page := newPage(web, script)
	script.Call("ready", page.api(border.New(page, web.dial)))
	select {} // until the page goes
}
