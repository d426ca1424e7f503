package browser

import (
	"testing"
)

// TestAPageGoesStraightToNodes that publish where, and through the gateway where it is
// told to, or cannot do otherwise.
func TestAPageGoesStraightToNodes(t *testing.T) {
	t.Parallel()
	s := startDirect(t, 2)
	tab := s.browser().open("/test.html")
	conversation{
		{`return db.topology.nodes.every((n) => n.endpoints.some((e) => e.kind === "ws" && e.url.startsWith("ws://")))`, true},
		{`window.via = []; window.listen = (e) => via.push(e.detail.via); db.addEventListener("route", listen);
			await db.mput(Object.fromEntries(Array.from({ length: 20 }, (_, i) => ["k" + i, "v"])));
			await db.get("k1");
			await new Promise((r) => setTimeout(r));
			return [via.length, via.every((v) => v === "direct")]`, list{21.0, true}},
		{`const own = await quoit.connect({ prefer: "gateway" }), ways = [];
			own.addEventListener("route", (e) => ways.push(e.detail.via));
			await own.get("k1");
			await new Promise((r) => setTimeout(r));
			await own.close();
			return ways`, list{"gateway"}},
	}.hold(t, tab)
	if n := s.metric(`quoit_gateway_clients{door="node"}`); n != "0" {
		t.Errorf("%s channels lead through the gateway", n)
	}
}
