// Which node has which colour. There are ten, chosen so that neighbours in the order
// differ in lightness too and can be told apart by colour-blind people; a number in
// the badge says the same without any colour.

import { el } from "./dom.js";

const colours = 10;
const slots = new Map(); // address -> number from 0
let storage = null;

/** Gives the nodes of a cluster their numbers. They stay over reloads: those that have
 * one keep it, and a new node takes the next that is free. */
export function assign(cluster, addresses) {
  if (storage !== `quoit.nodes.${cluster}`) {
    storage = `quoit.nodes.${cluster}`;
    slots.clear();
    for (const [address, slot] of kept()) slots.set(address, slot);
  }
  const fresh = addresses.filter((address) => !slots.has(address));
  const used = new Set(addresses.filter((address) => slots.has(address)).map((address) => slots.get(address)));
  for (const address of fresh.sort(byPort)) {
    let slot = 0;
    while (used.has(slot)) slot++;
    used.add(slot);
    slots.set(address, slot);
  }
  if (fresh.length > 0) keep(addresses);
}

const byPort = (a, b) => a.localeCompare(b, "en", { numeric: true });

function kept() {
  try {
    const pairs = JSON.parse(localStorage.getItem(storage) ?? "[]");
    return pairs.filter(([address, slot]) => typeof address === "string" && Number.isInteger(slot) && slot >= 0);
  } catch {
    return []; // nothing is remembered, or something else
  }
}

function keep(addresses) {
  try {
    localStorage.setItem(storage, JSON.stringify(addresses.map((address) => [address, slots.get(address)])));
  } catch { /* storage may be forbidden */ }
}

const slot = (address) => slots.get(address);

/** The class that has a node's colour. */
export const colour = (address) => (slots.has(address) ? `n${slot(address) % colours}` : "n-none");

/** A node's number, for people: from 1. */
export const numberOf = (address) => (slots.has(address) ? String(slot(address) + 1) : "?");

/** Orders addresses by their numbers. */
export const inOrder = (a, b) => (slot(a) ?? Infinity) - (slot(b) ?? Infinity) || byPort(a, b);

/** A small round badge. Whoever cannot see it is told the address. */
export function badge(address) {
  const node = el("span", { class: "badge" });
  paint(node, address);
  return node;
}

/** Makes a badge that of another node. */
export function paint(node, address) {
  const text = address ? numberOf(address) : "–";
  if (node.textContent === text && node.title === (address ?? "nobody")) return;
  node.className = `badge ${address ? colour(address) : "n-none"}`;
  node.textContent = text;
  node.title = address ?? "nobody";
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", address ? `node ${address}` : "nobody");
}
