package browser

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// conversation is a story that a page tells: each line is the body of an async function
// and what it returns, as JSON would have it.
type conversation []struct {
	body string
	want any
}

func (c conversation) hold(t *testing.T, tab *tab) {
	t.Helper()
	for _, line := range c {
		if got := eval[any](tab, line.body); !reflect.DeepEqual(got, line.want) {
			t.Errorf("%s\n gives %#v\n  want %#v", line.body, got, line.want)
		}
	}
}

type list = []any

// TestEveryCall from a page, against a cluster of three.
func TestEveryCall(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab := s.browser().open("/test.html")
	conversation{
		{`return await db.get("nothing")`, nil},
		{`return await db.put("a", "größer ☃ \ufeff")`, nil},
		{`return await db.get("a", { as: "text" })`, "größer ☃ \ufeff"},
		{`return [...(await db.get("a"))].slice(0, 3)`, list{103.0, 114.0, 195.0}},
		{`await db.put("bom", "\ufefftext"); return [await db.get("bom", { as: "text" }) === "\ufefftext", (await db.get("bom")).length]`, list{true, 7.0}},
		{`await db.put("empty", ""); return [await db.get("empty", { as: "text" }), (await db.get("empty")).length]`, list{"", 0.0}},
		{`await db.put("buffer", new Uint8Array([1, 2, 3]).buffer); await db.put("view", new DataView(new Uint8Array([0, 9, 8, 0]).buffer, 1, 2));
			return [await db.get("buffer"), await db.get("view")]`, list{list{1.0, 2.0, 3.0}, list{9.0, 8.0}}},
		{`return [await db.exists("a"), await db.exists("nothing")]`, list{true, false}},
		{`return await db.mget(["a", "nothing", "empty", "a"], { as: "text" })`, list{"größer ☃ \ufeff", nil, "", "größer ☃ \ufeff"}},
		{`return await db.mget([])`, list{}},
		{`await db.mput({ m1: "1", m2: "2" }); await db.mput(new Map([["m3", "3"]])); await db.mput([["m4", new Uint8Array([52])]]);
			return await db.mget(new Set(["m1", "m2", "m3", "m4"]), { as: "text" })`, list{"1", "2", "3", "4"}},
		{`return [await db.delete("m1"), await db.delete("m1"), await db.delete(["m1", "m2", "m3", "m4"]), await db.delete([])]`, list{1.0, 0.0, 3.0, 0.0}},
		{
			`return [await db.increment("n"), await db.increment("n", 41), await db.increment("n", -2), typeof await db.increment("n", 0n), await db.increment("n", 2n)]`,
			list{1.0, 42.0, 40.0, "bigint", "42"},
		},
		{
			`await db.put("huge", "9223372036854775806"); return [await db.increment("huge", 1n), await db.increment("huge", -9007199254740993n)]`,
			list{"9223372036854775807", "9214364837600034814"},
		},
		{`return [await db.append("log", "ab"), await db.append("log", "ü"), await db.get("log", { as: "text" })]`, list{2.0, 4.0, "abü"}},
		{`await db.put("short", "x", { ttl: 100_000 }); const ms = await db.ttl("short"); return ms > 0 && ms <= 100_000`, true},
		{`await db.put("short", "y", { keepTTL: true }); return (await db.ttl("short")) !== null`, true},
		{`await db.put("short", "z"); return await db.ttl("short")`, nil},
		{`await db.put("dated", "x", { expireAt: new Date(Date.now() + 100_000) }); return (await db.ttl("dated")) > 0`, true},
		{`await db.expire("a", 100_000); return [(await db.ttl("a")) > 0, await db.persist("a"), await db.persist("a"), await db.ttl("a")]`, list{true, true, false, nil}},
		{`await db.expire("a", new Date(Date.now() + 100_000)); return (await db.ttl("a")) > 0`, true},
		{`await db.put("gone", "x"); await db.expire("gone", 0); return await db.get("gone")`, nil},
		{`return await db.getVersion("nothing")`, nil},
		{`const v1 = await db.compareAndPut("cas", "one", 0n);
			const v2 = await db.compareAndPut("cas", "two", v1);
			const v3 = await db.compareAndPut("cas", "three", String(v2), { ttl: 100_000 });
			const { value, version } = await db.getVersion("cas", { as: "text" });
			return [typeof v1, v1 > 2n ** 53n, v2 > v1, v3 > v2, version === v3, value]`, list{"bigint", true, true, true, true, "three"}},
		{`await db.put("there", "x", { ifAbsent: true }); await db.put("there", "y", { ifPresent: true }); return await db.get("there", { as: "text" })`, "y"},
		{`await db.mput(Object.fromEntries(Array.from({ length: 50 }, (_, i) => ["list:" + i, String(i)])));
			const keys = [];
			for await (const e of db.scan({ prefix: "list:" })) keys.push(e.key);
			return [keys.length, new Set(keys).size]`, list{50.0, 50.0}},
		{`let sum = 0, last = -1, rising = true;
			for await (const e of db.scan({ prefix: "list:", values: true, as: "text", count: 7 })) {
				sum += Number(e.value);
				rising &&= e.position >= last && typeof e.version === "bigint";
				last = e.position;
			}
			return [sum, rising]`, list{1225.0, true}},
		{`const found = [];
			for await (const e of db.scan({ match: "list:4?" })) found.push(e.key);
			return found.sort().join()`, "list:40,list:41,list:42,list:43,list:44,list:45,list:46,list:47,list:48,list:49"},
		{`for await (const e of db.scan({ prefix: "list:" })) { return e.position === db.ownerOf(e.key).position }`, true},
		{`const all = []; for await (const e of db.scan({ prefix: "list:" })) all.push(e.position);
			const half = []; for await (const e of db.scan({ prefix: "list:", start: all[25] })) half.push(e.position);
			return [half.length, half[0] === all[25]]`, list{25.0, true}},
		{`return (await db.count()) >= 50`, true},
		{`const t = db.topology, sum = t.nodes.reduce((n, node) => n + node.share, 0), again = await db.refreshTopology();
			return [t.nodes.length, Math.abs(sum - 1) < 1e-9, again === t, t.arcs.length > 3, db.connected]`, list{3.0, true, true, true, true}},
		{`return (await Promise.all(db.topology.nodes.map((n) => db.ping(n.address)))).every((ms) => ms > 0)`, true},
		{`return Object.keys(await db.info(db.topology.nodes[0].address)).length > 3`, true},
		{`const s = db.stats(); return [s.dials >= 3, s.sockets >= 3, s.pending]`, list{true, true, 0.0}},
		{`const options = { as: "text" }, own = await quoit.connect(location.origin, { as: "text", callTimeout: 60_000, connections: 2 });
			const value = await own.get("there"); await own.close(); return value`, "y"},
	}.hold(t, tab)
}

// TestKeysAndValuesAreBytes: a key is the same whether it is given as text or as bytes,
// and what is no text is never shown as one.
func TestKeysAndValuesAreBytes(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab, native := s.browser().open("/test.html"), s.client()
	odd := "odd:\xff\x00\r\n\xc3"
	if err := native.Put(t.Context(), odd, []byte("\x80 not text")); err != nil {
		t.Fatal(err)
	}
	conversation{
		{`window.odd = new Uint8Array([111, 100, 100, 58, 255, 0, 13, 10, 195]); return [...(await db.get(odd))].slice(0, 2)`, list{128.0, 32.0}},
		{`await db.put("é", "1"); return [await db.get(new TextEncoder().encode("é"), { as: "text" }), db.ownerOf("é").position === db.ownerOf(new TextEncoder().encode("é")).position]`, list{"1", true}},
		{`try { await db.get(odd, { as: "text" }) } catch (e) { return [e instanceof quoit.NotTextError, e.code, e.bytes[0]] }`, list{true, "NOT_TEXT", 128.0}},
		{`try { for await (const e of db.scan({ prefix: "odd" })); } catch (e) { return [e.code, e.bytes.length] }`, list{"NOT_TEXT", 9.0}},
		{
			`for await (const e of db.scan({ prefix: "odd", keys: "bytes", values: true })) return [e.key, e.value.length]`,
			list{list{111.0, 100.0, 100.0, 58.0, 255.0, 0.0, 13.0, 10.0, 195.0}, 10.0},
		},
		{`const key = new Uint8Array([107]), value = new Uint8Array([1]), done = db.put(key, value); key[0] = 0; value[0] = 9; await done; return await db.get("k")`, list{1.0}},
		{`return await db.delete([odd, "k"])`, 2.0},
	}.hold(t, tab)
}

// TestALargeValue goes there and back in many messages, and is the same one for others.
func TestALargeValue(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab, native := s.browser().open("/test.html"), s.client()
	got := eval[string](tab, `
		const value = new Uint8Array(5 * 1024 * 1024);
		for (let i = 0; i < value.length; i += 65536) crypto.getRandomValues(value.subarray(i, i + 65536));
		await db.put("large", value);
		const back = await db.get("large");
		const hex = async (bytes) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");
		const [one, two] = [await hex(value), await hex(back)];
		return one === two ? one : "differs";`)
	value, err := native.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(value); hex.EncodeToString(sum[:]) != got || len(value) != 5<<20 {
		t.Errorf("a program reads %d bytes of %x, the page had %s", len(value), sum, got)
	}
	if err := native.Put(t.Context(), "large", bytes.Repeat([]byte("x"), 3<<20)); err != nil {
		t.Fatal(err)
	}
	if n := eval[int](tab, `return (await db.get("large", { as: "text" })).length`); n != 3<<20 {
		t.Errorf("the page reads %d characters", n)
	}
}

// TestManyCallsAtOnce share the connections, and each gets its own answer.
func TestManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab := s.browser().open("/test.html")
	wrong := eval[int](tab, `
		const n = 5000, keys = Array.from({ length: n }, (_, i) => "many:" + i);
		await Promise.all(keys.map((key, i) => db.put(key, String(i))));
		const values = await Promise.all(keys.map((key) => db.get(key, { as: "text" })));
		return values.filter((v, i) => v !== String(i)).length`)
	if wrong != 0 {
		t.Errorf("%d of 5000 answers are another's", wrong)
	}
	if n := eval[int](tab, `return db.stats().sockets`); n > 3 {
		t.Errorf("%d sockets for three nodes", n)
	}
}

// TestPagesHashAsProgramsDo: the golden vectors of package ring, and keys of all lengths
// around the block of the hash.
func TestPagesHashAsProgramsDo(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab, native := s.browser().open("/test.html"), s.client()
	want := goldenPositions(t)
	for i := range 200 {
		key := strings.Repeat("k", i)
		want[hex.EncodeToString([]byte(key))] = ring.PositionOfString(key)
	}
	keys := slices.Sorted(maps.Keys(want))
	list, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	places := eval[[]struct {
		Position ring.Position
		Owner    string
	}](tab, "return "+string(list)+".map((hex) => db.ownerOf(new Uint8Array((hex.match(/../g) ?? []).map((b) => parseInt(b, 16)))))")
	for i, key := range keys {
		raw, _ := hex.DecodeString(key)
		if places[i].Position != want[key] || places[i].Owner != native.Owner(string(raw)) {
			t.Errorf("%s: the page says %v, the position is %d and the owner %s", key, places[i], want[key], native.Owner(string(raw)))
		}
	}
}

// goldenPositions are those that an independent implementation has computed, by key in hex.
func goldenPositions(t *testing.T) map[string]ring.Position {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "ring", "testdata", "golden.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]ring.Position{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "position" {
			p, err := ring.ParsePosition(f[2])
			if err != nil {
				t.Fatal(err)
			}
			want[strings.TrimPrefix(f[1], "-")] = p
		}
	}
	if len(want) < 10 {
		t.Fatalf("only %d golden positions", len(want))
	}
	return want
}

// TestTwoTabsAndAProgram see what each other write.
func TestTwoTabsAndAProgram(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	b := s.browser()
	one, two, native := b.open("/test.html"), b.open("/test.html"), s.client()
	eval[any](one, `await db.put("shared", "from one")`)
	if got := eval[string](two, `return await db.get("shared", { as: "text" })`); got != "from one" {
		t.Errorf("the other tab reads %q", got)
	}
	version := eval[string](two, `const { version } = await db.getVersion("shared"); return await db.compareAndPut("shared", "from two", version)`)
	value, v, err := native.GetVersion(t.Context(), "shared")
	if err != nil || string(value) != "from two" || v.String() != version {
		t.Errorf("a program reads %q at %s, %v; the tab wrote version %s", value, v, err, version)
	}
	if _, err := native.CompareAndPut(t.Context(), "shared", []byte("x"), client.Version(1)); err == nil {
		t.Error("an old version was the right one")
	}
}
