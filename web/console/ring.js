// The ring, drawn: position 0 is at the top, and positions grow clockwise. What a node
// owns is one path, however many arcs that are. A second, thinner ring inside has what
// is on its way, in the colour of the node that will own it.

import { say, svg } from "./dom.js";
import { number, percent, plural, position } from "./format.js";
import { colour, inOrder, numberOf } from "./palette.js";

const whole = 2 ** 32;
const radius = 160;
const inner = 137;

const angle = (p) => (p / whole) * 2 * Math.PI;
const point = (p, r) => `${(r * Math.sin(angle(p))).toFixed(2)} ${(-r * Math.cos(angle(p))).toFixed(2)}`;

/** The path of arcs { start, end } at a radius. The end belongs to an arc, its start
 * does not, which at this size makes no difference; equal ones are the whole ring. */
export function pathOf(arcs, r) {
  let path = "";
  for (const { start, end } of arcs) {
    const size = (end - start + whole) % whole || whole;
    if (size > whole / 2) { // an arc of SVG that is a full turn is nothing
      const middle = (start + size / 2) % whole;
      path += `M${point(start, r)}A${r} ${r} 0 0 1 ${point(middle, r)}A${r} ${r} 0 0 1 ${point(end, r)}`;
    } else {
      path += `M${point(start, r)}A${r} ${r} 0 0 1 ${point(end, r)}`;
    }
  }
  return path;
}

/** Draws into an element, and returns what brings the picture up to date. */
export function newRing(into) {
  const title = svg("title", { id: "ring-name" }, "The ring");
  const description = svg("desc", { id: "ring-words" }, "Nothing is known yet.");
  const owned = svg("g", { class: "owned" });
  const moving = svg("g", { class: "moving" });
  const peg = svg("g", { class: "peg", visibility: "hidden" },
    svg("line", { x1: 0, y1: -131, x2: 0, y2: -186 }), svg("circle", { cx: 0, cy: -190, r: 6 }));
  const big = svg("text", { class: "big", y: 2 });
  const small = svg("text", { class: "small", y: 26 });
  const smaller = svg("text", { class: "small", y: 46 });
  const picture = svg("svg", { viewBox: "-204 -204 408 408", role: "img", "aria-labelledby": "ring-name ring-words" },
    title, description, svg("circle", { class: "track", r: radius }), owned, moving, ticks(), peg,
    svg("g", { "aria-hidden": "true" }, big, small, smaller));
  into.append(picture);

  let turn = 0; // of the peg, in degrees; it grows, so that the peg never goes all the way back
  return {
    /** A topology: who owns what. */
    topology(t) {
      owned.replaceChildren();
      for (const address of t.nodes.map((node) => node.address).sort(inOrder)) {
        const arcs = t.arcs.filter((arc) => arc.owner === address);
        owned.append(svg("path", { d: pathOf(arcs, radius), class: `arc ${colour(address)}`, "data-node": address }));
      }
      say(title, `The ring of ${plural(t.nodes.length, "node")} at epoch ${t.epoch}`);
      say(description, `${t.nodes.map((node) => `${numberOf(node.address)}: ${node.address} owns ${percent(node.share)}`).join("; ")}.`);
    },
    /** What is on its way: [{ range: { start, end }, target }], target "" if not known. */
    moves(list) {
      const targets = Map.groupBy(list, (move) => move.target);
      const paths = [...targets].map(([target, moves]) =>
        svg("path", { d: pathOf(moves.map((move) => move.range), inner), class: `way ${target ? colour(target) : "n-none"}` }));
      moving.replaceChildren(...paths);
    },
    /** One node, or null for all, is to be seen. */
    point(address) {
      owned.classList.toggle("some", address !== null);
      for (const path of owned.children) path.classList.toggle("one", path.dataset.node === address);
    },
    /** Where a key lies: { position, owner }; null takes the peg away. */
    land(place) {
      peg.setAttribute("visibility", place ? "visible" : "hidden");
      if (!place) return;
      const wanted = (place.position / whole) * 360;
      turn += ((wanted - turn) % 360 + 540) % 360 - 180;
      peg.style.transform = `rotate(${turn}deg)`;
      peg.setAttribute("class", `peg ${place.owner ? colour(place.owner) : "n-none"}`);
    },
    /** The words in the middle. */
    words(first, second = "", third = "") {
      say(big, first);
      say(small, second);
      say(smaller, third);
    },
  };
}

/** Where the quarters of the ring begin. */
function ticks() {
  const marks = ["0", "4", "8", "c"].map((digit, i) => {
    const p = (i * whole) / 4;
    const [x, y] = point(p, 119).split(" ");
    return svg("text", { x, y }, digit);
  });
  return svg("g", { class: "ticks", "aria-hidden": "true" }, ...marks);
}

/** The sentence about a key's place. */
export const placeWords = (place) => (place.owner
  ? `Position ${position(place.position)}, owned by node ${numberOf(place.owner)}, ${place.owner}.`
  : `Position ${position(place.position)}, which nobody owns yet.`);

export const keysWords = (n) => [number(n), n === 1 ? "key" : "keys"];
