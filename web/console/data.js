// The data browser: keys by prefix, in ring order, page by page; and with "Live" their
// changes as they happen.

import { byId, el, keyed, pieces, say, sayOrHide } from "./dom.js";
import { bytes, hex, plural, span } from "./format.js";
import { badge, paint } from "./palette.js";

const page = 50; // keys
const mostRows = 1000; // a list that grows by itself is cut there
const watchWait = 2000; // milliseconds that a list waits for its watch; it is made again if that comes later
const previewBytes = 160; // of a value that a row keeps

/** A key's name in maps: its bytes cannot be one. */
export const idOf = (key) => hex(key);

/** Fills the card. `choose(key)` is called when a key is chosen (null: a new one), and
 * `changed(change)` for each change that the watch tells. */
export function newData({ choose, changed }) {
  const list = el("ul", { class: "rows", "aria-label": "Keys" });
  const empty = el("p", { class: "empty" }, "Connecting …");
  const more = el("button", { type: "button", hidden: true }, "More");
  byId("data-list").append(list, empty, more);

  let db = null;
  let prefix = "";
  let walk = new AbortController(); // of the pages of the list that is shown
  let watching = new AbortController(); // of its watch
  let rows = new Map(); // id -> row
  let gone = new Map(); // id -> version of a delete, which a page may not know yet
  let stale = new Set(); // ids of rows that a new list has not come to yet
  let last = 0; // position up to which rows are complete
  let complete = false;
  let loading = false;
  let turn = 0; // counts the pages begun: one that is not the newest is of a list that has gone
  let chosen = null; // id
  let drawing = false;

  const live = byId("data-live");
  byId("data-scan").addEventListener("submit", (event) => {
    event.preventDefault();
    start(byId("data-prefix").value);
  });
  live.addEventListener("change", () => {
    watching.abort();
    if (db && live.checked) follow(-1);
  });
  byId("data-new").addEventListener("click", () => choose(null));
  more.addEventListener("click", () => load());

  /** Lists the keys with a prefix, and follows their changes. Whoever lists first and then
   * follows misses what happens in between: so the watch has to be there before. */
  async function start(wanted) {
    walk.abort();
    watching.abort();
    const { signal } = walk = new AbortController();
    prefix = wanted;
    fail(null);
    if (!db) return; // use lists what was asked for meanwhile
    clear();
    if (live.checked) await Promise.race([follow(turn), new Promise((resolve) => setTimeout(resolve, watchWait))]);
    if (!signal.aborted) await load();
  }

  function clear() {
    turn++;
    rows = new Map();
    gone = new Map();
    stale = new Set();
    last = 0;
    complete = false;
    loading = true;
    draw();
  }

  /** Adds the next page, or all pages up to a position. */
  async function load(reach = 0) {
    const mine = ++turn;
    const from = last;
    let count = 0;
    loading = true;
    draw();
    try {
      complete = true;
      for await (const entry of db.scan({ prefix, values: true, as: "bytes", keys: "bytes", start: from, count: 2 * page, signal: walk.signal })) {
        if (mine !== turn) return;
        if (entry.position !== from && ++count > page && entry.position > reach) {
          complete = false;
          break;
        }
        last = entry.position;
        put(entry.key, entry.value, entry.version, null, false);
      }
    } catch (error) {
      if (mine !== turn) return;
      complete = false;
      fail(`The list ends here: ${error.message}`);
    }
    if (mine !== turn) return;
    loading = false;
    gone.clear();
    for (const id of stale) rows.delete(id);
    stale.clear();
    // What the watch told of keys further on is left to their page.
    if (!complete) for (const row of rows.values()) if (row.position > last) rows.delete(row.id);
    draw();
  }

  /** Takes changes until the list is another. It survives moves and restarts by itself.
   * If pages were read since a turn when it begins to tell every change, the list is made
   * again. The promise is kept then, or when nothing will be told. */
  function follow(since) {
    const { signal } = watching = new AbortController();
    return new Promise((resolve) => {
      (async () => {
        try {
          for await (const change of db.watch(prefix, { as: "bytes", keys: "bytes", signal })) {
            if (signal.aborted) break;
            if (change.type === "resync" || change.type === "synced" && turn !== since) relist();
            else if (change.type !== "synced") take(change);
            if (change.type === "synced") resolve();
          }
        } catch (error) {
          if (!signal.aborted) {
            live.checked = false;
            fail(`Changes are not followed any more: ${error.message}`);
          }
        }
        resolve();
      })();
    });
  }

  /** Makes the list anew, as far as it goes; what is there stays until it is known better. */
  function relist() {
    const reach = last;
    stale = new Set(rows.keys());
    last = 0;
    load(reach);
  }

  function take(change) {
    if (change.type === "put") put(change.key, change.value, change.version, change.expiresAt, true);
    else drop(change.key, change.version);
    changed(change);
  }

  /** Notes a value, unless a newer one is known. While a page is being read nobody knows
   * how far it has come, so all that is told then is kept. */
  function put(key, value, version, expiresAt, flash) {
    const id = idOf(key);
    stale.delete(id);
    const old = rows.get(id);
    if (old && old.version >= version || gone.get(id) > version) return;
    const { position, owner } = db.ownerOf(key);
    if (!old && flash && !complete && !loading && position > last) return;
    gone.delete(id);
    rows.set(id, {
      id, key, position, owner, version, expiresAt, flashes: (old?.flashes ?? 0) + flash,
      preview: value.slice(0, previewBytes), size: value.length,
    });
    if (flash) draw();
  }

  function drop(key, version) {
    const id = idOf(key);
    if (rows.get(id)?.version > version) return;
    rows.delete(id);
    if (loading) gone.set(id, version);
    draw();
  }

  function draw() {
    if (!drawing) requestAnimationFrame(drawNow);
    drawing = true;
  }

  function drawNow() {
    drawing = false;
    const shown = [...rows.values()].sort((a, b) => a.position - b.position || (a.id < b.id ? -1 : 1));
    if (shown.length > mostRows) cut(shown);
    show(shown);
    list.hidden = shown.length === 0;
    more.hidden = complete || loading || !db;
    empty.hidden = shown.length > 0;
    say(empty, emptyWords());
    say(byId("data-note"), db ? note(shown.length) : "");
  }

  function cut(shown) {
    for (const row of shown.splice(mostRows)) rows.delete(row.id);
    last = shown.at(-1).position;
    complete = false;
  }

  function emptyWords() {
    if (!db) return "Connecting …";
    if (loading) return "Reading …";
    return prefix ? `No key begins with “${prefix}”.` : "There is no key yet. Write the first one with “New key”, or: quoit put greeting hello";
  }

  function note(n) {
    if (loading) return "reading …";
    return n === 0 ? "" : `${complete ? "" : "the first "}${plural(n, "key")} in ring order`;
  }

  function fail(text) { sayOrHide(byId("data-error"), text); }

  const show = keyed(list, { key: (row) => row.id, make: (row) => newRow(row, choose), update: (view, row) => updateRow(view, row, chosen) });

  return {
    /** A database, also in the place of one that has ended. */
    use(opened) {
      db = opened;
      return start(prefix);
    },
    /** Marks the key that is shown beside the list. */
    mark(key) {
      chosen = key && idOf(key);
      if (db) draw();
    },
    /** Notes what this page has written or deleted itself, which without "Live" nobody tells. */
    wrote(key, value, version) { put(key, value, version, null, true); },
    deleted(key) { if (rows.delete(idOf(key))) draw(); },
    /** A new topology: keys may have another owner. */
    topology() {
      for (const row of rows.values()) row.owner = db.ownerOf(row.key).owner;
      draw();
    },
    /** A second has passed, and what expires has less time. */
    tick() {
      if ([...rows.values()].some((row) => row.expiresAt !== null)) draw();
    },
  };
}

function newRow(row, choose) {
  const view = { owner: badge(row.owner), value: el("span", { class: "value" }), expiry: el("span", { class: "expiry quiet" }), version: null, flashes: 0 };
  view.button = el("button", { type: "button", class: "key-row" },
    view.owner, el("span", { class: "key" }, ...pieces(row.key, 80)), view.value, view.expiry);
  view.button.addEventListener("click", () => choose(row.key));
  view.node = el("li", {}, view.button);
  return view;
}

function updateRow(view, row, chosen) {
  paint(view.owner, row.owner);
  if (view.version !== row.version) view.value.replaceChildren(...valueWords(row));
  view.version = row.version;
  say(view.expiry, row.expiresAt === null ? "" : `for ${span(Math.max(0, row.expiresAt - Date.now()))}`);
  view.button.setAttribute("aria-current", String(row.id === chosen));
  if (view.flashes !== row.flashes) light(view.node);
  view.flashes = row.flashes;
}

/** Shows for a moment that a row has changed. */
function light(item) {
  item.classList.remove("changed");
  void item.offsetWidth; // so that the animation begins anew
  item.classList.add("changed");
}

function valueWords({ preview, size }) {
  if (size === 0) return [el("span", { class: "quiet" }, "empty")];
  const words = pieces(preview, previewBytes);
  if (size > preview.length) words.push(el("span", { class: "quiet" }, ` ${bytes(size)}`));
  return words;
}

