// What stands between this page and the cluster, in words: the mark at the top, and a
// banner while something is not as it should be.

import { byId, say } from "./dom.js";
import { span } from "./format.js";

const pill = byId("connection");
const banner = byId("banner");

/** Follows a database's connections and the gateway's reports. */
export function newConnection() {
  let state = "waiting"; // of the database: waiting, open, failed, asking for a token
  let why = ""; // it failed
  let feed = null; // the lost connection to the gateway: { since, code, reason }
  const lost = new Map(); // node -> the same
  let report = null;

  function draw() {
    const words = troubles();
    const good = state === "open" && !feed;
    pill.dataset.state = good ? (words.length > 0 ? "warn" : "good") : state === "waiting" ? "waiting" : "bad";
    say(pill, good ? "Connected" : state === "waiting" ? "Connecting" : state === "asking" ? "Token needed" : "Reconnecting");
    banner.dataset.kind = good ? "warn" : "error";
    banner.hidden = words.length === 0;
    say(banner, words.join(" "));
  }

  function troubles() {
    const words = [];
    if (state === "asking") return words; // the form says why
    if (state === "failed") words.push(`No connection: ${why} Trying again.`);
    if (feed) words.push(`The connection to the gateway is lost${reasonOf(feed)}. This page connects again by itself; reads and writes wait.`);
    if (!feed) for (const [node, end] of lost) words.push(`Node ${node} cannot be reached${reasonOf(end)}; what it owns waits for it.`);
    if (report?.trouble && !feed) words.push(managerWords(report));
    return words;
  }

  return {
    waiting() { state = "waiting"; draw(); },
    asking() { state = "asking"; draw(); },
    failed(error) { state = "failed"; why = sentence(error.message); draw(); },
    /** A database is open: listens to it. */
    open(db) {
      state = "open";
      feed = null;
      lost.clear();
      db.addEventListener("disconnect", ({ detail }) => {
        if (detail.node === null) feed = detail;
        else if (!expected.has(detail.code)) lost.set(detail.node, detail);
        draw();
      });
      db.addEventListener("reconnect", ({ detail }) => {
        if (detail.node === null) feed = null;
        else lost.delete(detail.node);
        draw();
      });
      db.addEventListener("route", ({ detail }) => { // an answer says that a node is there
        if (!detail.error && lost.delete(detail.node)) draw();
      });
      db.addEventListener("topology", ({ detail }) => {
        const members = new Set(detail.nodes.map((node) => node.address));
        for (const node of lost.keys()) if (!members.has(node)) lost.delete(node);
        draw();
      });
      draw();
    },
    report(next) { report = next; draw(); },
  };
}

// Closed because nothing was asked, or as both sides wanted.
const expected = new Set([1000, 4003]);

const reasons = {
  1006: "it broke off", 4000: "the gateway stops", 4001: "the node has closed it", 4002: "this page took its answers too slowly",
  4005: "the gateway has no memory left", 4006: "the token is not valid any more",
};

function reasonOf({ code, reason }) {
  const words = reasons[code] ?? reason;
  return words ? ` (${words})` : "";
}

function managerWords({ trouble, cluster, age_ms: age }) {
  return sentence(trouble) + (cluster ? ` Nodes and moves are shown as they were ${span(age)} ago; reads and writes go on.` : "");
}

const sentence = (text) => {
  const words = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(words) ? words : `${words}.`;
};
