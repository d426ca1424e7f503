// The console: a page that is a client of the cluster as any other, and shows what it
// sees. Each part has a module of its own; here they are put together.

import { connect } from "../quoit.js";
import { newConnection } from "./connection.js";
import { newData } from "./data.js";
import { byId, say } from "./dom.js";
import { newEditor } from "./editor.js";
import { plural, position } from "./format.js";
import { newMoves } from "./moves.js";
import { newNodes } from "./nodes.js";
import { assign, numberOf } from "./palette.js";
import { keysWords, newRing, placeWords } from "./ring.js";
import { newRoutes } from "./routes.js";
import { followStatus } from "./status.js";
import { askForToken, currentToken } from "./token.js";

const tryAgain = 2000; // milliseconds after a connect that failed
const noToken = 4006; // the gateway's close code where a token is missing, or good no more

let db = null;
let report = null; // the newest of the gateway
let landed = null; // the key that is on the ring: bytes or text

const connection = newConnection();
const ring = newRing(byId("ring-picture"));
const nodes = newNodes(byId("nodes-body"), byId("nodes-note"), (address) => ring.point(address ?? ownerOfLanded()));
const moves = newMoves(byId("moves-body"), (answer) => status.take(answer));
const routes = newRoutes(byId("routes-body"));
const data = newData({
  choose: (key) => editor.open(key),
  changed: (change) => editor.changed(change),
});
const editor = newEditor(byId("data-editor"), {
  wrote: data.wrote,
  deleted: data.deleted,
  shown(key) {
    data.mark(key);
    if (key) land(key);
  },
});
const status = followStatus(takeReport);

byId("find").addEventListener("submit", (event) => event.preventDefault());
byId("find-key").addEventListener("input", ({ target }) => land(target.value === "" ? null : target.value));
setInterval(() => {
  editor.tick();
  data.tick();
}, 1000);
open();

/** Connects, however long that takes. */
async function open() {
  connection.waiting();
  for (;;) {
    try {
      db = await connect({ callTimeout: 15_000, token: currentToken() });
      break;
    } catch (error) {
      if (error.code === "NOAUTH") {
        await otherToken(error.message);
        continue;
      }
      connection.failed(error);
      await new Promise((resolve) => setTimeout(resolve, tryAgain));
    }
  }
  db.addEventListener("topology", ({ detail }) => takeTopology(detail));
  db.addEventListener("route", ({ detail }) => routes.note(detail));
  db.addEventListener("error", ({ detail }) => {
    if (detail.code !== "CRASHED") return;
    db = null; // the client has ended; a new one takes its place
    open();
  });
  const opened = db;
  db.addEventListener("disconnect", async ({ detail }) => {
    if (detail.node !== null || detail.code !== noToken || db !== opened) return;
    db = null; // what the gateway takes no more, the nodes do not take either
    opened.close();
    await otherToken(detail.reason);
    await open();
  });
  connection.open(db);
  editor.use(db);
  takeTopology(db.topology);
  await data.use(db);
}

/** Waits for another token, and then asks how the cluster does at once. */
async function otherToken(why) {
  connection.asking();
  await askForToken(why.replace(/^.*? answered NOAUTH /, ""));
  connection.waiting();
  status.ask();
}

function takeTopology(topology) {
  assign(topology.cluster, topology.nodes.map((node) => node.address));
  ring.topology(topology);
  say(byId("cluster"), topology.cluster);
  document.title = `${topology.cluster} · Quoit`;
  showMoves();
  showNodes();
  showPlace();
  data.topology();
  editor.topology();
}

function takeReport(next) {
  const first = report === null;
  report = next;
  connection.report(next);
  if (next.version) say(byId("version"), `Quoit ${next.version}`);
  if (next.cluster) {
    assign(next.cluster.cluster, next.cluster.nodes.map((node) => node.address));
    moves.update(next);
    if (first) defaultLive(next.console);
  } else {
    moves.unknown(next.denied ? "Whether anything moves is not for this token to see." : "Whether anything moves is not known: the manager has not answered yet.");
  }
  showMoves();
  showNodes();
  showPlace();
}

/** Where the page is somebody's own, changes are shown at once. Elsewhere each page
 * that is open would have every value sent to it, unasked. */
function defaultLive(may) {
  const box = byId("data-live");
  if (may !== "operate" || box.checked) return;
  box.checked = true;
  box.dispatchEvent(new Event("change"));
}

function showNodes() {
  if (report?.cluster) {
    const away = report.trouble && report.age_ms > 2000;
    nodes.update(report.cluster.nodes, { stale: away ? "as they were when the manager last answered" : null });
    if (!report.cluster.formed) nodes.empty(`The cluster is not formed yet: it waits for ${plural(report.cluster.waiting_for ?? 1, "more node")}.`);
  } else if (db) {
    nodes.update(db.topology.nodes);
  }
}

/** Marks on the ring what is on its way: by the manager's list, which knows the
 * targets, else by the topology. */
function showMoves() {
  if (report?.cluster && !report.trouble) {
    ring.moves(report.cluster.moves.filter((move) => move.phase !== "committed")
      .map(({ range, target }) => ({ range: { start: range.Start, end: range.End }, target })));
  } else if (db) {
    ring.moves(db.topology.held.map((arc) => ({ range: arc, target: "" })));
  }
}

/** Puts a key on the ring; null takes it away. */
function land(key) {
  landed = key;
  showPlace();
}

/** Where the key on the ring lies; null for none, and for what can be no key. */
function placeOfLanded() {
  try {
    return db && landed !== null ? db.ownerOf(landed) : null;
  } catch {
    return null;
  }
}
const ownerOfLanded = () => placeOfLanded()?.owner ?? null;

function showPlace() {
  const place = placeOfLanded();
  const typed = byId("find-key").value;
  ring.land(place);
  ring.point(place?.owner ?? null);
  say(byId("find-answer"), typed !== "" && landed === typed && place ? placeWords(place) : "");
  if (place) {
    ring.words(place.owner ? `node ${numberOf(place.owner)}` : "nobody", place.owner ?? "", position(place.position));
  } else if (report?.cluster) {
    const [count, word] = keysWords(report.cluster.nodes.reduce((sum, node) => sum + node.keys, 0));
    ring.words(count, word, `epoch ${report.cluster.epoch}`);
  } else if (db) {
    ring.words(String(db.topology.nodes.length), "nodes", `epoch ${db.topology.epoch}`);
  } else {
    ring.words("", "connecting …");
  }
}
