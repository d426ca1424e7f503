// quoit.js without a browser, a gateway or quoit.wasm: what those do, this plays. Each
// function exported here is a story; the Go test of its name runs it and reads what it
// returns.

import { connect } from "./quoit.js";

const OPEN = 1, GET = 3, WATCH = 18, NEXT = 19, STOP = 20; // of quoit.js

/** An answer, in the order in which quoit.js reads it. */
function message(...fields) {
  const parts = fields.map((field) => {
    if (typeof field === "string") return message(new TextEncoder().encode(field));
    if (field instanceof Uint8Array) return Buffer.concat([message(field.length), field]);
    const b = Buffer.alloc(field?.f64 === undefined ? field?.u8 === undefined ? 4 : 1 : 8);
    if (field?.f64 !== undefined) b.writeDoubleLE(field.f64);
    else if (field?.u8 !== undefined) b.writeUInt8(field.u8);
    else b.writeUInt32LE(field);
    return b;
  });
  return new Uint8Array(Buffer.concat(parts));
}

const topology = [ "fake", { f64: 1 }, 0, 0, 0, 0 ]; // a cluster of no nodes

/** The client behind quoit.js: it opens, and leaves all else to `answer(op, id, settle)`. */
function client(answer) {
  return class {
    importObject = {};
    run() {
      const page = globalThis[this.env.QUOIT_PAGE];
      const settle = (id, status, ...fields) => queueMicrotask(() => page.settle(id, status, message(...fields)));
      page.ready({
        version: 2,
        cancel() {},
        calls(batch) {
          const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
          for (let at = 0; at < batch.length;) {
            const id = view.getUint32(at, true), op = view.getUint8(at + 8);
            at += 8 + view.getUint32(at + 4, true);
            at += 4 + view.getUint32(at, true);
            if (op === OPEN) settle(id, 0, 7, ...topology);
            else answer(op, id, settle);
          }
        },
      });
      return new Promise(() => {});
    }
  };
}

globalThis.fetch = async () => new Response("");
globalThis.WebAssembly.instantiateStreaming = async () => ({ instance: {} });

export const stories = {
  /** return is called while the watch is being begun, and while a next waits for changes. */
  async ended() {
    const told = [];
    const waiting = {}; // op -> its end
    globalThis.Go = client((op, id, settle) => {
      told.push(op);
      if (op === WATCH) waiting[op] = () => settle(id, 0);
      if (op === NEXT) waiting[op] = () => settle(id, 1, "ABORTED", "", "context canceled", "", "", 0, 0);
      if (op === STOP) {
        waiting[NEXT]?.();
        settle(id, 0);
      }
    });
    const comes = async (op) => {
      while (!waiting[op]) await new Promise((resolve) => { setTimeout(resolve, 1); });
      const end = waiting[op];
      delete waiting[op];
      return end;
    };
    const db = await connect("http://g/");
    const early = db.watch("a"), late = db.watch("a");
    const first = early.next();
    const begun = await comes(WATCH);
    await early.return();
    begun();
    const answers = [await first, await early.next()];
    const second = late.next();
    (await comes(WATCH))();
    waiting[NEXT] = await comes(NEXT);
    await late.return();
    answers.push(await second, await late.next());
    return [answers.every((a) => a.done && a.value === undefined), told];
  },

  /** The signal ends a watch of which more has come than was taken. */
  async aborted() {
    globalThis.Go = client((op, id, settle) => {
      if (op === NEXT) settle(id, 0, { u8: 0 }, 2, { u8: 3 }, { u8: 3 }); // two that say synced
      else settle(id, 0);
    });
    const db = await connect("http://g/");
    const control = new AbortController();
    const watch = db.watch("a", { signal: control.signal });
    const { value } = await watch.next();
    control.abort();
    const error = await watch.next().catch((e) => e);
    return [value.type, error.code, (await watch.next()).done];
  },

  /** A node's words are no UTF-8. */
  async garbled() {
    globalThis.Go = client((op, id, settle) => {
      if (op === GET) settle(id, 1, "SERVER", "", Uint8Array.of(0x62, 0xff), "h:1", "ERR", 0, 0);
    });
    const db = await connect("http://g/", { timeout: 2 ** 40 }); // longer than a browser's timers can be
    const error = await db.get("k").catch((e) => e);
    return [error.name, error.serverCode, error.node, error.message];
  },
};

console.log(JSON.stringify(await stories[process.argv[2]]()));
process.exit(0);
