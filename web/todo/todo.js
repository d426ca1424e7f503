// A shared to-do list. Each item is a key of its own, todo:<time>-<random>, whose value
// is JSON: { "text": "...", "done": false }. The page holds no list: it shows what the
// watch tells, its own changes too. So it looks the same in every tab, whatever nodes
// join, leave or restart meanwhile.

import { connect } from "../quoit.js";

const list = document.getElementById("list");
const text = document.getElementById("text");
const state = document.getElementById("state");
const items = new Map(); // key -> { element, item, version }

let db;

async function main() {
  db = await connect({ as: "text", token: sessionStorage.getItem("quoit.token") ?? undefined }); // as the console keeps it
  showState();
  document.querySelector("#add button").disabled = false; // until now the page would send the form away
  for (const event of ["topology", "disconnect", "reconnect"]) db.addEventListener(event, showState);
  document.getElementById("add").addEventListener("submit", add);
  for await (const change of db.watch("todo:", { state: true })) {
    if (change.type === "put") try { show(change); } catch { forget(change.key); } // what is no item is not shown
    if (change.type === "delete") forget(change.key);
  }
}

function showState() {
  const nodes = db.topology.nodes.length;
  state.textContent = db.connected ? `Kept by ${nodes} node${nodes === 1 ? "" : "s"}.` : "Connecting again …";
}

async function add(event) {
  event.preventDefault();
  const key = `todo:${Date.now()}-${crypto.randomUUID().slice(0, 8)}`;
  const item = JSON.stringify({ text: text.value, done: false });
  if (await attempt(() => db.put(key, item))) text.value = "";
}

/** Ticks an item, or takes the tick away. It is written only over the version that the
 * person saw: what somebody else has just changed is shown instead. */
async function tick(key, done) {
  const { item, version } = items.get(key);
  const value = JSON.stringify({ ...item, done });
  if (!await attempt(() => db.compareAndPut(key, value, version)) && items.has(key)) draw(items.get(key));
}

/** Does something, and says so when it could not be done. */
async function attempt(what) {
  try {
    await what();
    showState();
    return true;
  } catch (error) {
    state.textContent = error.code === "VERSION_CONFLICT" ? "Somebody was faster." : `That did not work: ${error.message}`;
    return false;
  }
}

function show({ key, value, version }) {
  const item = JSON.parse(value);
  let entry = items.get(key);
  if (!entry) items.set(key, entry = { element: newElement(key) });
  Object.assign(entry, { item, version });
  draw(entry);
}

function draw({ element, item }) {
  element.classList.toggle("done", item.done);
  element.querySelector("input").checked = item.done;
  element.querySelector("span").textContent = item.text;
  element.querySelector("button").setAttribute("aria-label", `Remove ${item.text}`);
}

/** Makes an item's element and puts it in its place: keys begin with the time. */
function newElement(key) {
  const element = document.createElement("li");
  const label = element.appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  label.append(document.createElement("span"));
  const remove = element.appendChild(document.createElement("button"));
  element.dataset.key = key;
  box.type = "checkbox";
  remove.textContent = "Remove";
  box.addEventListener("change", () => tick(key, box.checked));
  remove.addEventListener("click", () => attempt(() => db.delete(key)));
  list.insertBefore(element, [...list.children].find((other) => other.dataset.key > key) ?? null);
  return element;
}

function forget(key) {
  items.get(key)?.element.remove();
  items.delete(key);
}

main().catch(async (error) => {
  await db?.close(); // no event of it writes over what follows
  state.textContent = error.code === "NOAUTH" ? "This cluster asks for a token. " : `The list has ended: ${error.message}`;
  document.getElementById("ask").hidden = error.code !== "NOAUTH";
});
