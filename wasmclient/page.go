//go:build js

package main

import (
	"syscall/js"

	"github.com/quoitdb/quoit/wasmclient/border"
)

// page is quoit.js.
type page struct {
	web          *browser
	settle, emit js.Value
	token        js.Value
}

func newPage(web *browser, script js.Value) *page {
	return &page{web: web, settle: script.Get("settle"), emit: script.Get("emit"), token: script.Get("token")}
}

// Settle ends a call.
func (p *page) Settle(call uint32, s border.Status, payload []byte) {
	p.settle.Invoke(call, int(s), p.web.toJS(payload))
}

// Emit tells of an event.
func (p *page) Emit(database uint32, e border.Event, payload []byte) {
	p.emit.Invoke(database, int(e), p.web.toJS(payload))
}

// Token asks for a token.
func (p *page) Token(source, ask uint32) { p.token.Invoke(source, ask) }

// api is what quoit.js may call. Its functions live as long as the page does; those
// that quoit.js makes for itself, one for each call, it keeps to itself.
func (p *page) api(b *border.Border) js.Value {
	api := js.Global().Get("Object").New()
	expose := func(name string, f func(args []js.Value) any) {
		api.Set(name, js.FuncOf(func(_ js.Value, args []js.Value) (result any) {
			defer func() {
				if recover() != nil {
					result = js.Undefined() // an argument of another type than quoit.js passes
				}
			}()
			return f(args)
		}))
	}
	api.Set("version", border.Version)
	expose("call", func(args []js.Value) any {
		b.Call(number(args[0]), p.web.toGo(args[1]), p.web.toGo(args[2]))
		return true
	})
	expose("calls", func(args []js.Value) any {
		return b.Calls(p.web.toGo(args[0])) == nil
	})
	expose("cancel", func(args []js.Value) any {
		b.Cancel(number(args[0]))
		return true
	})
	expose("answer", func(args []js.Value) any {
		b.Answer(number(args[0]), string(p.web.toGo(args[1])), string(p.web.toGo(args[2])))
		return true
	})
	expose("place", func(args []js.Value) any {
		position, owner, ok := b.Place(number(args[0]), string(p.web.toGo(args[1])))
		if !ok {
			return js.Null()
		}
		return map[string]any{"position": float64(position), "owner": owner}
	})
	expose("stats", func(args []js.Value) any {
		s, sockets := b.Stats(number(args[0]))
		return map[string]any{
			"dials": float64(s.Dials), "redirects": float64(s.Redirects), "retries": float64(s.Retries),
			"refreshes": float64(s.Refreshes), "abandoned": float64(s.Abandoned), "sockets": sockets,
		}
	})
	expose("sleep", func([]js.Value) any {
		b.Sleep()
		return true
	})
	expose("wake", func([]js.Value) any {
		b.Wake()
		return true
	})
	expose("online", func([]js.Value) any {
		b.Online()
		return true
	})
	return api
}

func number(v js.Value) uint32 { return uint32(v.Int()) }
