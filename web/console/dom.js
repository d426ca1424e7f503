// Making elements. Text is always text: nothing on this page parses HTML, so a key
// named <script> is a key with a strange name and no more.

import { parts } from "./format.js";

/** Makes an element. A string among the children is text; null is left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Makes an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Bytes as children: text, and escapes for what is none, which look like what they are. */
export const pieces = (data, most) => parts(data, most).map(({ text, escape }) => (escape ? el("span", { class: "escape" }, text) : text));

export const byId = (id) => document.getElementById(id);

/** Sets a text, and touches nothing if it is that already: a selection stays, and a
 * screen reader says nothing twice. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows a text in an element that is hidden while there is none. */
export function sayOrHide(node, text) {
  say(node, text ?? "");
  node.hidden = !text;
}

/** Returns what makes the children of an element those of a list, in its order. What
 * stays, stays the same element: the focus is not lost, and nothing is drawn that has
 * not changed. `make(item)` returns a view once, an object with the element as `node`
 * and whatever else `update(view, item)` needs to bring it up to date. */
export function keyed(parent, { key, make, update }) {
  const views = new Map();
  return (items) => {
    const wanted = new Set(items.map(key));
    for (const [name, view] of views) {
      if (wanted.has(name)) continue;
      view.node.remove();
      views.delete(name);
    }
    let next = parent.firstChild;
    for (const item of items) {
      const name = key(item);
      let view = views.get(name);
      if (!view) views.set(name, view = make(item));
      update(view, item);
      if (view.node === next) next = next.nextSibling;
      else parent.insertBefore(view.node, next);
    }
  };
}
