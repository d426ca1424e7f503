// The route log: for each request which node answered, and how long that took.

import { byId, el, pieces, say } from "./dom.js";
import { plural, span, toBytes } from "./format.js";
import { badge } from "./palette.js";

const most = 60; // rows
const remembered = 500; // times, for the median

/** Fills the card, and returns what takes a request's end: note(route). */
export function newRoutes(into) {
  const empty = el("p", { class: "empty" }, "Each request that this page sends is noted here, with the node that answered it.");
  const body = el("tbody");
  const table = el("table", { class: "routes", hidden: true, "aria-labelledby": "routes-title" },
    el("thead", {}, el("tr", {}, ...["Request", "Node", "Time"].map((title) => el("th", { scope: "col" }, title)))), body);
  into.append(empty, table);

  let waiting = []; // not drawn yet, oldest first
  let times = [];
  let held = false;
  let drawing = false;

  function draw() {
    drawing = false;
    body.prepend(...waiting.slice(-most).reverse().map(rowOf));
    waiting = [];
    while (body.rows.length > most) body.lastChild.remove();
    empty.hidden = body.rows.length > 0;
    table.hidden = !empty.hidden;
    say(byId("routes-note"), summary(times));
  }

  byId("routes-hold").addEventListener("click", ({ currentTarget }) => {
    held = !held;
    currentTarget.setAttribute("aria-pressed", String(held));
    say(currentTarget, held ? "Go on" : "Hold");
  });
  byId("routes-clear").addEventListener("click", () => {
    body.replaceChildren();
    waiting = [];
    times = [];
    draw();
  });

  return {
    note(route) {
      if (held) return;
      waiting.push(route);
      if (waiting.length > most) waiting.shift();
      if (!route.error) times.push(route.microseconds);
      if (times.length > remembered) times.shift();
      if (!drawing) requestAnimationFrame(draw); // thousands a second are drawn sixty times
      drawing = true;
    },
  };
}

function summary(times) {
  if (times.length === 0) return "";
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => span(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] / 1000);
  return `median ${at(0.5)} · 99 % below ${at(0.99)}`;
}

function rowOf(route) {
  const key = el("span", { class: "key" }, ...pieces(toBytes(route.key), 60));
  const request = el("td", {}, el("span", { class: "op" }, route.op), " ", key);
  const remark = remarkOf(route);
  if (remark) request.append(el("span", { class: "remark" }, remark));
  const row = el("tr", { class: route.error ? "failed" : null }, request,
    el("td", {}, badge(route.node), route.via === "direct" ? el("span", { class: "quiet direct" }, "direct") : null),
    el("td", { class: "time" }, span(route.microseconds / 1000)));
  return row;
}

function remarkOf({ redirects, retries, error }) {
  const words = [];
  if (redirects > 0) words.push(plural(redirects, "redirect"));
  if (retries > 0) words.push(`${retries === 1 ? "tried again" : `tried ${retries} times more`}`);
  if (error) words.push(error.message);
  return words.join(", ");
}
