// One key: its value, version and expiry, and what can be done with them. A save is a
// compare-and-put on the version that is shown, so nobody's work is overwritten unseen.

import { byId, el, pieces, say, sayOrHide } from "./dom.js";
import { asText, bytes, hex, line, position, span, toBytes, unhex } from "./format.js";
import { badge, paint } from "./palette.js";

const mostBytes = 64 << 10; // of a value that is shown whole, and so can be edited

const units = { seconds: 1000, minutes: 60_000, hours: 3_600_000, days: 86_400_000 };

/** Fills an element. `wrote(key, value, version)` and `deleted(key)` tell of what was
 * done, `shown(key)` of the key that is there now, null for none. */
export function newEditor(into, { wrote, deleted, shown }) {
  const at = build(into);
  let db = null;
  let key = null; // bytes; null: a new one
  let version = 0n; // of the value that is shown, 0n: there is none
  let expires = null; // performance.now() at which the key disappears
  let was = { text: "", expiry: "never" }; // as it was shown, to know what was edited
  let reading = 0; // counts what was begun, so that what comes late is not shown

  const dirty = () => !at.form.hidden && !at.value.readOnly && (at.value.value !== was.text || at.expiry.value !== was.expiry);

  /** Shows a key as it is now; null begins a new one. */
  async function open(wanted) {
    const turn = ++reading;
    at.form.removeAttribute("aria-busy");
    key = wanted;
    tell("");
    at.form.hidden = false;
    at.empty.hidden = true;
    at.name.hidden = key !== null;
    at.title.replaceChildren(...(key ? pieces(key, 300) : ["New key"]));
    shown(key);
    if (!key) {
      at.name.querySelector("input").value = "";
      present(new Uint8Array(), 0n, null);
      at.name.querySelector("input").focus();
      return;
    }
    at.form.setAttribute("aria-busy", "true");
    try {
      const [found, left] = await Promise.all([db.getVersion(key, { as: "bytes" }), ttlOf(key)]);
      if (turn !== reading) return;
      if (found) present(found.value, found.version, left);
      else absent("There is no such key any more. Saving makes it again.");
    } catch (error) {
      if (turn === reading) tell(`It could not be read: ${error.message}`, "bad", [["Try again", () => open(wanted)]]);
    }
    at.form.removeAttribute("aria-busy");
  }

  async function ttlOf(wanted) {
    try {
      return await db.ttl(wanted);
    } catch (error) {
      if (error.code === "NOT_FOUND") return null;
      throw error;
    }
  }

  function present(value, newVersion, left) {
    version = newVersion;
    expires = left === null ? null : performance.now() + left;
    const whole = value.length <= mostBytes;
    const text = asText(value);
    at.format.value = text === null ? "hex" : "text";
    at.format.disabled = !whole;
    at.value.value = was.text = text === null || !whole && asText(value.subarray(0, mostBytes)) === null ? hex(value.subarray(0, mostBytes)) : text.slice(0, mostBytes);
    at.value.readOnly = !whole;
    sayOrHide(at.cut, whole ? "" : `The first ${bytes(mostBytes)} of ${bytes(value.length)} are shown; so large a value is not edited here.`);
    at.expiry.value = was.expiry = left === null ? "never" : "keep";
    at.expiry.querySelector('[value="keep"]').hidden = left === null;
    at.save.disabled = !whole;
    at.remove.hidden = version === 0n;
    say(at.size, version === 0n ? "" : bytes(value.length));
    say(at.version, version === 0n ? "" : `version ${version}`);
    at.version.title = version === 0n ? "" : `written ${writtenAt(version).toLocaleString()}`;
    expiryChosen();
    place();
    tick();
  }

  function absent(why) {
    version = 0n;
    present(toBytes(at.form.contains(document.activeElement) && dirty() ? at.value.value : ""), 0n, null);
    tell(why, "bad");
  }

  function place() {
    at.owner.hidden = key === null;
    if (!key || !db) {
      say(at.place, "");
      return;
    }
    const { position: p, owner } = db.ownerOf(key);
    paint(at.badge, owner);
    say(at.place, `${owner ?? "nobody"} · ${position(p)}`);
  }

  /** What stands in the field as bytes; throws with the reason why it is none. */
  const content = () => (at.format.value === "hex" ? unhex(at.value.value) : toBytes(at.value.value));

  /** What the expiry that was chosen is for put. */
  function expiry() {
    if (at.expiry.value === "never") return {};
    if (at.expiry.value === "keep") return { keepTTL: true };
    const ttl = Math.round(Number(at.amount.value) * units[at.unit.value]);
    if (!(ttl >= 1) || !Number.isSafeInteger(ttl)) throw new Error("after how long it disappears has to be a number above 0");
    return { ttl };
  }

  /** Saves, if the version is the one shown; or in any case with `force`. */
  async function save(force) {
    let name, value, options;
    try {
      name = key ?? toBytes(at.name.querySelector("input").value);
      if (name.length === 0) throw new Error("a key has at least one character");
      value = content();
      options = expiry();
    } catch (error) {
      tell(`Not saved: ${error.message}.`, "bad");
      return;
    }
    const turn = reading;
    busy(true);
    try {
      if (force) await db.put(name, value, options);
      const next = force ? (await db.getVersion(name, { as: "bytes" }))?.version ?? 0n : await db.compareAndPut(name, value, version, options);
      wrote(name, value, next);
      const left = await ttlOf(name);
      if (turn === reading) saved(name, value, next, left);
    } catch (error) {
      if (turn === reading) refused(error, name);
      else tell(`${line(name, 60)} was not saved, or nobody knows: ${error.message}`, "bad"); // another key is shown by now
    }
    busy(false);
  }

  function saved(name, value, next, left) {
    key = name;
    at.name.hidden = true;
    at.title.replaceChildren(...pieces(key, 300));
    shown(key);
    present(value, next, left);
    tell("Saved.", "good");
  }

  /** Says why a save did not happen, and what can be done. */
  function refused(error, name) {
    const overwrite = ["Overwrite", () => save(true)];
    if (error.code === "VERSION_CONFLICT" && error.current === 0n) {
      version = 0n;
      tell("Not saved: somebody has deleted the key meanwhile. Saving again makes it anew.", "bad");
    } else if (error.code === "VERSION_CONFLICT") {
      tell(version === 0n ? "Not saved: there is such a key already." : "Not saved: somebody else has changed it since you read it.", "bad",
        [[version === 0n ? "Show it" : "Show theirs", () => open(name)], overwrite]);
    } else if (error.code === "OUTCOME_UNKNOWN") {
      tell(`Nobody knows whether it was saved: ${error.message}`, "bad", [["Read it again", () => open(name)]]);
    } else {
      tell(`Not saved: ${error.message}`, "bad");
    }
  }

  async function remove() {
    const name = key;
    if (!await confirmed(name)) return;
    const turn = reading;
    busy(true);
    try {
      const found = await db.delete(name);
      deleted(name);
      if (turn === reading) close(found > 0 ? `Deleted ${line(name, 60)}.` : `${line(name, 60)} was gone already.`);
    } catch (error) {
      const what = turn === reading ? "" : `${line(name, 60)}: `; // another key may be shown by now
      tell(what + (error.code === "OUTCOME_UNKNOWN" ? `Nobody knows whether it was deleted: ${error.message}` : `Not deleted: ${error.message}`), "bad");
    }
    busy(false);
  }

  function close(words) {
    key = null;
    reading++;
    at.form.removeAttribute("aria-busy");
    at.form.hidden = true;
    at.empty.hidden = false;
    say(at.empty, words);
    shown(null);
  }

  function busy(yes) {
    for (const button of [at.save, at.remove]) button.disabled = yes;
    if (!yes) at.save.disabled = at.value.readOnly;
  }

  function tell(text, kind = "", actions = []) {
    at.message.dataset.kind = kind;
    at.message.hidden = !text;
    at.message.replaceChildren(text, ...actions.map(([word, act]) => {
      const button = el("button", { type: "button" }, word);
      button.addEventListener("click", act);
      return button;
    }));
  }

  function tick() {
    const left = expires === null ? null : Math.max(0, expires - performance.now());
    say(at.expiry.querySelector('[value="keep"]'), left === null ? "" : `as it is: in ${span(left)}`);
    say(at.left, left === null ? "" : left === 0 ? "expired" : `disappears in ${span(left)}`);
  }

  function expiryChosen() { at.after.hidden = at.expiry.value !== "after"; }

  at.expiry.addEventListener("change", expiryChosen);
  at.format.addEventListener("change", () => convert(at, tell));
  at.remove.addEventListener("click", remove);
  at.form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(false);
  });

  return {
    open,
    /** A database, also in the place of one that has ended. */
    use(opened) { db = opened; },
    /** A change that somebody made. What is being edited stays, and is told of it. */
    changed(change) {
      if (!key || hex(key) !== hex(change.key) || change.version <= version) return;
      if (dirty()) tell(change.type === "put" ? "Somebody has just changed it." : "Somebody has just deleted it.", "bad", [["Show", () => open(key)]]);
      else if (change.type === "delete") absent("It was just deleted, or has expired.");
      else {
        present(change.value, change.version, change.expiresAt === null ? null : change.expiresAt - Date.now());
        tell("Changed just now.", "good");
      }
    },
    topology: place,
    tick,
  };
}

/** When a version was made: it begins with unix milliseconds. */
const writtenAt = (version) => new Date(Number(version >> 16n));

/** Writes the value in the form that was chosen, if it can be. */
function convert(at, tell) {
  const toHex = at.format.value === "hex";
  try {
    const data = toHex ? toBytes(at.value.value) : unhex(at.value.value);
    const text = toHex ? hex(data) : asText(data);
    if (text === null) throw new Error("these bytes are no text");
    at.value.value = text;
    tell("");
  } catch (error) {
    at.format.value = toHex ? "text" : "hex";
    tell(`It stays as it is: ${error.message}.`, "bad");
  }
}

/** Asks whether a key is to be deleted. The answer is taken from what the person does:
 * the event that the dialog has closed comes later, when it may be open again. */
function confirmed(key) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), "Delete this key?");
  byId("confirm-text").replaceChildren(...pieces(key, 300));
  dialog.showModal();
  return new Promise((resolve) => {
    const answered = new AbortController();
    const answer = (yes) => {
      answered.abort();
      resolve(yes);
    };
    const once = { signal: answered.signal };
    dialog.addEventListener("submit", ({ submitter }) => answer(submitter.value === "yes"), once);
    dialog.addEventListener("cancel", () => answer(false), once);
    dialog.addEventListener("close", () => { if (!dialog.open) answer(false); }, once);
  });
}

/** Makes the form, and returns its parts. */
function build(into) {
  const at = {
    empty: el("p", { class: "empty" }, "Choose a key to see its value, or begin a new one."),
    title: el("h3", { class: "key" }),
    badge: badge(null),
    place: el("span", { class: "quiet" }),
    size: el("span", { class: "quiet" }),
    version: el("span", { class: "quiet version" }),
    left: el("span", { class: "quiet" }),
    value: el("textarea", { id: "value", rows: 8, spellcheck: "false", autocapitalize: "off" }),
    format: select("format", { text: "Text", hex: "Hexadecimal" }),
    cut: el("p", { class: "quiet", hidden: true }),
    expiry: select("expiry", { never: "never", keep: "as it is", after: "after …" }),
    amount: el("input", { id: "amount", type: "number", min: "0", step: "any", value: "10", "aria-label": "After how many" }),
    unit: select("unit", Object.fromEntries(Object.keys(units).map((name) => [name, name]))),
    save: el("button", { type: "submit", class: "primary" }, "Save"),
    remove: el("button", { type: "button", class: "danger" }, "Delete …"),
    message: el("p", { class: "message", role: "status", hidden: true }),
  };
  at.unit.value = "minutes";
  at.unit.setAttribute("aria-label", "Unit");
  at.owner = el("span", {}, at.badge, " ", at.place);
  at.after = el("span", { class: "row" }, at.amount, at.unit);
  at.name = el("div", { class: "field" }, el("label", { for: "new-key" }, "Key"),
    el("input", { id: "new-key", type: "text", spellcheck: "false", autocapitalize: "off", autocomplete: "off" }));
  at.form = el("form", { hidden: true, autocomplete: "off" },
    at.title,
    el("p", { class: "facts" }, at.owner, at.size, at.version, at.left),
    at.name,
    el("div", { class: "field" },
      el("div", { class: "row" }, el("label", { for: "value" }, "Value"), el("label", { for: "format", class: "hidden" }, "Shown as"), at.format),
      at.value, at.cut),
    el("div", { class: "row" }, el("label", { for: "expiry" }, "Disappears"), at.expiry, at.after),
    el("div", { class: "row" }, at.save, at.remove),
    at.message);
  into.append(at.empty, at.form);
  return at;
}

function select(id, options) {
  return el("select", { id }, ...Object.entries(options).map(([value, word]) => el("option", { value }, word)));
}

