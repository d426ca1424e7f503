// The ranges that are on their way from one node to another, and the button that has
// no further one start.

import { byId, el, keyed, say, sayOrHide } from "./dom.js";
import { bytes, number, percent, plural, span } from "./format.js";
import { badge, paint } from "./palette.js";
import { changeMoves } from "./status.js";

const most = 8; // moves that are shown one by one
const whole = 2 ** 32;

const phases = {
  planned: "planned", waiting: "waiting", copy: "copying", seal: "changing hands", commit: "changing hands",
  drop: "tidying up",
};

/** Fills the card of moves. `taken(report)` gets the report that a change answers with. */
export function newMoves(into, taken) {
  const note = byId("moves-note");
  const button = byId("moves-pause");
  const empty = el("p", { class: "empty", hidden: true });
  const overall = el("progress", { "aria-label": "All moves", max: 1, value: 0, hidden: true });
  const list = el("ul", { class: "moves" });
  const rest = el("p", { class: "quiet" });
  into.append(empty, overall, list, rest);
  const show = keyed(list, { key: (move) => move.id, make: newMove, update: updateMove });

  let paused = false;
  let total = 0; // the most ranges that this page has seen at once since all was quiet
  let pause = 0; // the longest that requests were held, in milliseconds

  button.addEventListener("click", async () => {
    const verb = paused ? "resume" : "pause";
    button.disabled = true;
    sayOrHide(byId("moves-error"), "");
    try {
      taken(await changeMoves(verb));
    } catch (error) {
      sayOrHide(byId("moves-error"), error.message);
      button.disabled = false;
    }
  });

  function summary(moves, cluster) {
    const words = [];
    if (moves.length > 0) words.push(`${number(moves.length)} of ${plural(total, "range")} to go`);
    if (paused) words.push("paused");
    if (cluster.move_bytes_per_second) words.push(`at most ${bytes(cluster.move_bytes_per_second)}/s from each node`);
    if (pause > 0) words.push(`longest pause ${span(pause)}`);
    return words.join(" · ");
  }

  return {
    /** A report with a cluster in it. */
    update({ cluster, console: may, trouble }) {
      const moves = cluster.moves.filter((move) => move.phase !== "committed"); // those are as good as done
      paused = cluster.moves_paused;
      total = moves.length === 0 ? 0 : Math.max(total, moves.length);
      pause = Math.max(pause, ...moves.map((move) => move.pause_ms));
      say(note, summary(moves, cluster));
      empty.hidden = moves.length > 0;
      say(empty, paused ? "Nothing moves, and nothing will until moves are resumed." : "Nothing moves: every range is where it belongs.");
      overall.hidden = moves.length === 0;
      overall.value = total === 0 ? 0 : 1 - moves.reduce((left, move) => left + 1 - doneOf(move), 0) / total;
      const running = moves.filter((move) => move.phase !== "planned").slice(0, most);
      show(running);
      const hidden = moves.length - running.length;
      sayOrHide(rest, hidden > 0 ? `${running.length > 0 ? "and " : ""}${plural(hidden, "range")} ${paused ? "held back by the pause" : "waiting for their turn"}` : "");
      say(button, paused ? "Resume moves" : "Pause moves");
      const why = reasonAgainst(may, trouble);
      button.disabled = why !== "";
      sayOrHide(byId("moves-why"), why);
    },
    /** The gateway has told nothing yet, or not for a while. */
    unknown(why) {
      button.disabled = true;
      say(note, "");
      empty.hidden = overall.hidden = true;
      show([]);
      sayOrHide(rest, "");
      sayOrHide(byId("moves-why"), why);
    },
  };
}

/** Why the button cannot be used; "" if it can. */
function reasonAgainst(may, trouble) {
  if (may !== "operate") return "This gateway only shows the cluster. QUOIT_GATEWAY_CONSOLE=operate lets its page pause and resume moves.";
  return trouble ? "Moves can be paused when the manager answers again." : "";
}

const doneOf = (move) => ({ planned: 0, waiting: 0, drop: 1 }[move.phase] ?? move.share);

function newMove(move) {
  const view = {
    from: badge(move.source), to: badge(move.target), size: el("span", { class: "size" }), phase: el("span", { class: "phase" }),
    bar: el("progress", { max: 1, value: 0, "aria-label": `Move from ${move.source} to ${move.target}` }),
    figures: el("span", { class: "figures quiet" }),
  };
  const ends = el("span", { class: "ends" }, view.from, el("span", { "aria-hidden": "true" }, "→"), view.to);
  view.node = el("li", { class: "move" }, ends, view.size, view.phase, view.bar, view.figures);
  return view;
}

function updateMove(view, move) {
  paint(view.from, move.source);
  paint(view.to, move.target);
  say(view.size, `${percent(sizeOf(move.range))} of the ring`);
  say(view.phase, phases[move.phase] ?? move.phase);
  view.bar.value = doneOf(move);
  const figures = [plural(move.keys, "key"), bytes(move.bytes)];
  if (move.pause_ms > 0) figures.push(`held ${span(move.pause_ms)}`);
  if (move.reason) figures.push(move.reason);
  say(view.figures, figures.join(" · "));
}

const sizeOf = ({ Start, End }) => ((End - Start + whole) % whole || whole) / whole;
