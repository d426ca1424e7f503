// The table of nodes. What it shows comes from the manager, by way of the gateway;
// while that is away, from the topology, which has only addresses and shares.

import { el, keyed, say } from "./dom.js";
import { bytes, number, percent, plural, span } from "./format.js";
import { colour, inOrder, paint } from "./palette.js";

const columns = [
  ["node", "Node"], ["state", "State"], ["share", "Share of the ring"], ["keys", "Keys"], ["bytes", "Data"],
  ["ops", "Ops/s"], ["log", "Log"], ["snapshot", "Snapshot"],
];

/** Fills an element with the table. `point(address)` is called when a node is pointed
 * at, and with null when it no longer is. */
export function newNodes(into, note, point) {
  const body = el("tbody", { role: "rowgroup" });
  const empty = el("p", { class: "empty" }, "No node has come yet.");
  const table = el("table", { class: "nodes", role: "table", "aria-labelledby": "nodes-title" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      ...columns.map(([name, title]) => el("th", { scope: "col", role: "columnheader", class: name }, title)))),
    body);
  into.append(table, empty);

  const show = keyed(body, { key: (n) => n.address, make: (n) => newRow(n.address, point), update: updateRow });

  return {
    /** The nodes, as CLUSTER STATUS or the topology has them. */
    update(list, { stale = null } = {}) {
      const nodes = [...list].sort((a, b) => inOrder(a.address, b.address));
      table.hidden = nodes.length === 0;
      empty.hidden = nodes.length > 0;
      table.classList.toggle("stale", stale !== null);
      show(nodes);
      say(note, stale ?? summary(nodes));
    },
    empty: (text) => say(empty, text),
  };
}

/** A row, and the cells in it that change. */
function newRow(address, point) {
  const view = { node: el("tr", { role: "row", "data-node": address }), badge: el("span"), bar: el("span"), condition: el("span", { class: "condition" }), share: el("span") };
  for (const [name, title] of columns) {
    const first = name === "node";
    view[`${name}Cell`] = el(first ? "th" : "td", { class: name, role: first ? "rowheader" : "cell", scope: first ? "row" : null, "data-title": title });
    view.node.append(view[`${name}Cell`]);
  }
  view.nodeCell.append(view.badge, el("span", { class: "address" }, address));
  view.stateCell.append(view.condition);
  view.shareCell.append(view.share, el("span", { class: "bar", "aria-hidden": "true" }, view.bar));
  view.node.addEventListener("pointerenter", () => point(address));
  view.node.addEventListener("pointerleave", () => point(null));
  return view;
}

function updateRow(view, n) {
  paint(view.badge, n.address);
  const { word, kind } = stateOf(n);
  say(view.condition, word);
  view.condition.dataset.kind = kind;
  say(view.share, goalWords(n));
  view.bar.className = colour(n.address);
  view.bar.style.inlineSize = `${(n.share * 100).toFixed(2)}%`;
  say(view.keysCell, known(n.keys, number));
  say(view.bytesCell, known(n.bytes, bytes));
  say(view.opsCell, known(n.ops_per_second, number));
  say(view.logCell, known(n.log_bytes, bytes));
  say(view.snapshotCell, snapshotWords(n.snapshot));
  view.snapshotCell.classList.toggle("warn", Boolean(n.snapshot && !["ok", "starting"].includes(n.snapshot.state)));
}

function summary(nodes) {
  if (nodes.length === 0) return "";
  const up = nodes.filter((n) => n.serving).length;
  const ops = nodes.reduce((sum, n) => sum + (n.ops_per_second ?? 0), 0);
  const data = nodes.reduce((sum, n) => sum + (n.bytes ?? 0), 0);
  if (nodes.every((n) => n.serving === undefined)) return plural(nodes.length, "node");
  return `${up === nodes.length ? `all ${number(up)}` : `${number(up)} of ${number(nodes.length)}`} serving · ${bytes(data)} · ${number(ops)} ops/s`;
}

/** What state a node is in: a word, and whether that is good. */
export function stateOf(n) {
  if (n.up === undefined) return { word: "in the ring", kind: "quiet" };
  if (!n.up) return { word: n.silent_ms < 0 ? "never heard of" : `silent for ${span(n.silent_ms)}`, kind: "bad" };
  if (n.state === "known") return { word: "waiting to join", kind: "quiet" };
  if (n.state === "leaving") return { word: "leaving", kind: "busy" };
  if (!n.serving) return { word: n.condition || "not serving", kind: "bad" };
  if (n.condition && n.condition !== "serving") return { word: n.condition, kind: "bad" };
  if (n.goal_share > n.share + 1e-6 && n.share < 1e-6) return { word: "joining", kind: "busy" };
  return { word: "serving", kind: "good" };
}

/** The share that a node owns, and what it will own, where that differs visibly. */
function goalWords(n) {
  const now = percent(n.share);
  const then = n.goal_share === undefined ? now : percent(n.goal_share);
  return now === then ? now : `${now} → ${then}`;
}

const known = (value, words) => (value === undefined ? "–" : words(value));

function snapshotWords(s) {
  if (!s) return "–";
  const age = s.age_ms < 0 ? "none yet" : `${span(s.age_ms)} old`;
  if (s.state === "ok" || s.state === "starting") return s.phase && s.phase !== "idle" ? `${age}, new one under way` : age;
  return `${age}: ${s.state}`;
}
