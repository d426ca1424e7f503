// The smart client of a Quoit cluster, for web pages. What it offers is described in
// quoit.d.ts, how it is used in docs/browser.md.
//
// The client itself is quoit.wasm, which is Go. This file loads it, gives promises and
// iterators to what are messages there, and has no opinion of its own: see the package
// comment of wasmclient/border for the messages.

const BORDER = 2; // the version of the messages

const OP = {
  open: 1, close: 2, get: 3, getVersion: 4, mget: 5, exists: 6, put: 7, mput: 8, swap: 9, delete: 10, increment: 11, append: 12,
  ttl: 13, expire: 14, persist: 15, count: 16, scan: 17, watch: 18, next: 19, stop: 20, refresh: 21, info: 22, ping: 23, observe: 24, panic: 25,
};
const OK = 0, FAILED = 1, MISSING = 2;
const EVENT = { 1: "topology", 2: "disconnect", 3: "reconnect", 4: "error", 5: "route" };
const CHANGE = { 1: "put", 2: "delete", 3: "synced", 4: "resync" };
const IF_ABSENT = 1, IF_PRESENT = 2, KEEP_TTL = 4, TTL = 8, EXPIRE_AT = 16;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true }); // for what people read: an error must not fail at its own words
const NOTHING = new Uint8Array(0);
const LARGE = 64 * 1024; // bytes

// ---- errors

export class QuoitError extends Error {
  constructor(code, message, { node = null, key = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.node = node;
    this.key = key;
  }
}
export class NotFoundError extends QuoitError {}
export class ExistsError extends QuoitError {}
export class VersionConflictError extends QuoitError {}
export class OutcomeUnknownError extends QuoitError {}
export class UnavailableError extends QuoitError {}
export class TimeoutError extends QuoitError {}
export class AbortedError extends QuoitError {}
export class ClosedError extends QuoitError {}
export class PartialError extends QuoitError {}
export class ArgumentError extends QuoitError {}
export class NotTextError extends QuoitError {}
export class UnsafeIntegerError extends QuoitError {}
export class ServerError extends QuoitError {}
export class UnauthenticatedError extends ServerError {}
export class ForbiddenError extends ServerError {}
export class ProtocolError extends QuoitError {}
export class LoadError extends QuoitError {}
export class CrashedError extends QuoitError {}

const CLASSES = {
  NOT_FOUND: NotFoundError, EXISTS: ExistsError, VERSION_CONFLICT: VersionConflictError, OUTCOME_UNKNOWN: OutcomeUnknownError,
  UNAVAILABLE: UnavailableError, TIMEOUT: TimeoutError, ABORTED: AbortedError, CLOSED: ClosedError, PARTIAL: PartialError,
  ARGUMENT: ArgumentError, NOT_TEXT: NotTextError, UNSAFE_INTEGER: UnsafeIntegerError, SERVER: ServerError, NOAUTH: UnauthenticatedError,
  NOPERM: ForbiddenError, PROTOCOL: ProtocolError,
  LOAD: LoadError, CRASHED: CrashedError,
};

// problem makes an error of its code, with the further properties that its class has.
function problem(code, message, details = {}, more = {}) {
  const error = new CLASSES[code](code, message, details);
  // The names that the platform's own functions use, so that code which looks at
  // those works here too.
  if (code === "ABORTED") error.name = "AbortError";
  if (code === "TIMEOUT") error.name = "TimeoutError";
  return Object.assign(error, more);
}

const wrong = (message) => problem("ARGUMENT", message);
const closed = () => problem("CLOSED", "the database is closed");

// ---- bytes

// Writer makes a message; Reader takes one apart.
class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.view = new DataView(this.bytes.buffer);
    this.size = 0;
  }
  reserve(n) {
    if (this.size + n > this.bytes.length) {
      const bigger = new Uint8Array(Math.max(this.size + n, 2 * this.bytes.length));
      bigger.set(this.bytes.subarray(0, this.size));
      this.bytes = bigger;
      this.view = new DataView(bigger.buffer);
    }
    this.size += n;
    return this.size - n;
  }
  // reserve may replace view: it comes first.
  u8(n) { const at = this.reserve(1); this.view.setUint8(at, n); return this; }
  u32(n) { const at = this.reserve(4); this.view.setUint32(at, n, true); return this; }
  u64(n) { const at = this.reserve(8); this.view.setBigUint64(at, BigInt.asUintN(64, n), true); return this; }
  f64(n) { const at = this.reserve(8); this.view.setFloat64(at, n, true); return this; }
  raw(field) {
    this.u32(field.length);
    const at = this.reserve(field.length);
    this.bytes.set(field, at);
    return this;
  }
  list(fields) {
    this.u32(fields.length);
    for (const field of fields) this.raw(field);
    return this;
  }
  done() { return this.bytes.subarray(0, this.size); }
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes ?? NOTHING;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.at = 0;
  }
  u8() { return this.view.getUint8(this.at++); }
  u32() { this.at += 4; return this.view.getUint32(this.at - 4, true); }
  u64() { this.at += 8; return this.view.getBigUint64(this.at - 8, true); }
  i64() { this.at += 8; return this.view.getBigInt64(this.at - 8, true); }
  f64() { this.at += 8; return this.view.getFloat64(this.at - 8, true); }
  // A copy: what is handed out must not hold on to a message of a thousand others.
  raw() { const n = this.u32(); this.at += n; return this.bytes.slice(this.at - n, this.at); }
  text() { const n = this.u32(); this.at += n; return lenient.decode(this.bytes.subarray(this.at - n, this.at)); }
  many(each) { return Array.from({ length: this.u32() }, () => each(this)); }
  rest() { return this.bytes.slice(this.at); }
  get more() { return this.at < this.bytes.length; }
}

const wellFormed = typeof "".isWellFormed === "function" ? (s) => s.isWellFormed() : (s) => !/[\ud800-\udfff]/u.test(s);

// bytesOf is UTF-8 of text, and a view of bytes.
function bytesOf(input, what) {
  if (typeof input === "string") {
    if (!wellFormed(input)) throw wrong(`${what} has half of a surrogate pair, which UTF-8 cannot say`);
    return encoder.encode(input);
  }
  if (input instanceof Uint8Array) return input;
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  throw wrong(`${what} must be a string or bytes, not ${input === null ? "null" : typeof input}`);
}

const keyOf = (key) => {
  if (typeof key !== "string" && !(key instanceof Uint8Array)) throw wrong(`a key must be a string or a Uint8Array, not ${key === null ? "null" : typeof key}`);
  return bytesOf(key, "a key");
};
const keysOf = (keys) => {
  if (keys === null || typeof keys !== "object" || typeof keys[Symbol.iterator] !== "function" || keys instanceof Uint8Array) throw wrong("keys must be an array, or something else to iterate over");
  return Array.from(keys, keyOf);
};

function outOf(bytes, as, what) {
  if (as !== "text") return bytes;
  try {
    return decoder.decode(bytes);
  } catch {
    throw problem("NOT_TEXT", `${what} is not UTF-8: ask for it as bytes`, {}, { bytes });
  }
}

// The key of a route event: text where it is text.
function looseKey(bytes) {
  try { return decoder.decode(bytes); } catch { return bytes; }
}

// ---- options

function asOf(as, otherwise) {
  if (as === undefined) return otherwise;
  if (as !== "bytes" && as !== "text") throw wrong(`as and keys take "bytes" or "text", not ${String(as)}`);
  return as;
}

function milliseconds(value, what, least) {
  if (typeof value !== "number" || !(value >= least) || !Number.isFinite(value)) throw wrong(`${what} must be a number of milliseconds${least > 0 ? " above 0" : ""}, not ${String(value)}`);
  return value;
}

function whole(value, what, most) {
  if (!Number.isInteger(value) || value < 0 || value > most) throw wrong(`${what} must be a whole number from 0 to ${most}, not ${String(value)}`);
  return value;
}

const momentOf = (at) => milliseconds(at instanceof Date ? at.getTime() : at, "expireAt", Number.MIN_VALUE);

function putOptions(w, options, conditions = true) {
  const { ttl, expireAt, keepTTL, ifAbsent, ifPresent } = options;
  if ((ttl !== undefined) + (expireAt !== undefined) + Boolean(keepTTL) > 1) throw wrong("ttl, expireAt and keepTTL exclude each other");
  if (ifAbsent && ifPresent) throw wrong("ifAbsent and ifPresent exclude each other");
  if (!conditions && (ifAbsent || ifPresent)) throw wrong("compareAndPut has a condition already: version 0n is ifAbsent");
  let flags = (ifAbsent ? IF_ABSENT : 0) | (ifPresent ? IF_PRESENT : 0) | (keepTTL ? KEEP_TTL : 0), ms = 0;
  if (ttl !== undefined) [flags, ms] = [flags | TTL, milliseconds(ttl, "ttl", Number.MIN_VALUE)];
  if (expireAt !== undefined) [flags, ms] = [flags | EXPIRE_AT, momentOf(expireAt)];
  w.u8(flags).f64(ms);
}

function versionOf(version) {
  try {
    if (typeof version === "bigint" || typeof version === "string" && /^\d{1,20}$/.test(version)) {
      const v = BigInt(version);
      if (v >= 0n && v < 2n ** 63n) return v;
    }
  } catch { /* said below */ }
  throw wrong(`a version must be a bigint, or its digits as a string, not ${typeof version} ${String(version)}: a number cannot hold one exactly`);
}

// gatewaysOf makes the bases of WebSocket URLs.
function gatewaysOf(url) {
  const list = url === undefined ? [new URL(".", import.meta.url)] : Array.isArray(url) ? url : [url];
  if (list.length === 0) throw wrong("connect needs the URL of a gateway");
  return list.map((one) => {
    let base;
    try { base = new URL(one, globalThis.location?.href ?? import.meta.url); } catch { throw wrong(`${String(one)} is not the URL of a gateway`); }
    const scheme = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[base.protocol];
    if (!scheme) throw wrong(`${base.href} is not the URL of a gateway: want https://, http://, wss:// or ws://`);
    const path = base.pathname.endsWith("/") ? base.pathname : base.pathname + "/";
    return `${scheme}//${base.host}${path}`;
  });
}

// ---- the module

// Core is one running quoit.wasm. All databases of a page share it.
class Core {
  constructor() {
    this.calls = new Map(); // by number: { resolve, reject, decode, database, release }
    this.databases = new Map(); // by handle
    this.tokens = new Map(); // functions that give them, by number
    this.lastTokens = 0;
    this.lastCall = 0;
    this.crashed = null;
    this.waiting = null; // a Writer with the calls of this turn of the event loop
  }

  // pass hands a call over, together with all others that are made before the event loop
  // turns: to cross the border costs more than most calls, and what crosses together goes
  // to a node in one message. A large body goes alone and at once, uncopied.
  pass(id, request, body) {
    if (body && body.length > LARGE) {
      this.flush();
      this.api.call(id, request, body);
      return;
    }
    if (!this.waiting) {
      this.waiting = new Writer();
      queueMicrotask(() => this.flush());
    }
    this.waiting.u32(id).raw(request).raw(body ?? NOTHING);
    if (this.waiting.size > LARGE) this.flush();
  }

  flush() {
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting && !this.crashed) this.api.calls(waiting.done());
  }

  // call sends a message and resolves to what decode makes of the answer.
  call(database, op, options, fill, decode, body) {
    return new Promise((resolve, reject) => {
      const { signal, timeout } = options;
      if (timeout !== undefined) milliseconds(timeout, "timeout", Number.MIN_VALUE);
      if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrong("signal must be an AbortSignal");
      if (database?.ended) throw closed();
      if (this.crashed) throw this.crashed;
      const w = new Writer().u8(op).u32(database?.handle ?? 0).f64(timeout ?? 0);
      fill?.(w);
      if (signal?.aborted) throw aborted(signal);
      const id = this.lastCall = (this.lastCall + 1) >>> 0 || 1;
      const entry = { resolve, reject, decode, database, signal, release: null };
      this.calls.set(id, entry);
      if (signal) {
        const abort = () => {
          this.flush();
          this.api.cancel(id);
        };
        signal.addEventListener("abort", abort, { once: true });
        entry.release = () => signal.removeEventListener("abort", abort);
      }
      this.pass(id, w.done(), body);
    });
  }

  finish(id, entry, end) {
    this.calls.delete(id);
    entry.release?.();
    end();
  }

  // settle is called by quoit.wasm, and must not throw.
  settle(id, status, payload) {
    const entry = this.calls.get(id);
    if (!entry) return;
    this.finish(id, entry, () => {
      try {
        if (status === FAILED) entry.reject(readError(new Reader(payload), entry.signal));
        else if (status === MISSING) entry.resolve(null);
        else entry.resolve(entry.decode ? entry.decode(new Reader(payload), id) : undefined);
      } catch (error) {
        entry.reject(error);
      }
    });
  }

  // emit is called by quoit.wasm, and must not throw. Listeners run later: they may call
  // back, and may be slow.
  emit(handle, event, payload) {
    const database = this.databases.get(handle);
    if (database) queueMicrotask(() => database.event(EVENT[event], payload));
  }

  // token is called by quoit.wasm for each connection that is opened, and must not throw.
  token(source, ask) {
    const answer = (token, problem) => { if (!this.crashed) this.api.answer(ask, encoder.encode(token), encoder.encode(problem)); };
    Promise.resolve().then(() => this.tokens.get(source)?.()).then(
      (token) => typeof token === "string" && token !== "" ? answer(token, "") : answer("", `it gave ${token === "" ? "an empty string" : token === null ? "null" : typeof token} and no token`),
      (error) => answer("", String(error?.message ?? error) || "it was rejected"),
    );
  }

  // crash is the end of quoit.wasm: everything that waits is told.
  crash(why) {
    this.crashed = problem("CRASHED", `the client has ended because of a fault in it: ${why}`);
    if (running === this.loading) running = null;
    this.api = null; // with the memory of what has ended
    for (const [id, entry] of [...this.calls]) this.finish(id, entry, () => entry.reject(this.crashed));
    for (const database of this.databases.values()) database.end(this.crashed);
    this.databases.clear();
  }
}

const aborted = (signal) => problem("ABORTED", "aborted", { cause: signal.reason });

function readError(r, signal) {
  const code = r.text(), causeCode = r.text(), message = r.text(), node = r.text() || null, serverCode = r.text(), current = r.u64();
  let cause;
  if (causeCode === "ABORTED" && signal) cause = aborted(signal);
  else if (causeCode) cause = problem(causeCode, message, { node });
  if (code === "ABORTED" && signal) cause = signal.reason;
  const more = {};
  if (code === "SERVER" || code === "NOAUTH" || code === "NOPERM") more.serverCode = serverCode;
  if (code === "VERSION_CONFLICT") more.current = current;
  return problem(code, message, { node, cause }, more);
}

let running = null; // the promise of a Core, shared by the page

function load(assets) {
  if (!running) {
    const loading = start(assets);
    running = loading;
    loading.catch(() => { if (running === loading) running = null; }); // the next connect tries again
  }
  return running;
}

async function start(assets) {
  const at = (name) => new URL(name, assets);
  const core = new Core();
  const binary = at("quoit.wasm"), response = await fetched(binary); // first: only this can be told to ask again
  if (typeof globalThis.Go !== "function") {
    await import(at("wasm_exec.js").href).catch((cause) => {
      response.body?.cancel();
      throw problem("LOAD", `wasm_exec.js cannot be loaded from ${at("wasm_exec.js")}: ${cause.message}`, { cause });
    });
  }
  const go = new globalThis.Go();
  const module = await instantiated(response, binary, go.importObject);
  const name = `quoit:${Math.random()}`;
  go.env = { QUOIT_PAGE: name };
  const ready = new Promise((resolve) => {
    globalThis[name] = { ready: resolve, settle: (...a) => core.settle(...a), emit: (...a) => core.emit(...a), token: (...a) => core.token(...a) };
  });
  const ended = go.run(module.instance);
  delete globalThis[name];
  core.api = await Promise.race([ready, ended.then(() => null, () => null)]);
  if (core.api?.version !== BORDER) throw problem("LOAD", core.api ? "quoit.wasm is of another version than quoit.js: reload the page" : "quoit.wasm has ended at once");
  core.loading = running;
  ended.then(() => core.crash("see the console"), (error) => core.crash(error.message));
  const on = (type, tell) => globalThis.addEventListener?.(type, (event) => core.crashed || tell(event));
  on("online", () => core.api.online());
  // A page that the browser keeps to come back to runs nothing, and holds no connections.
  on("pagehide", (event) => event.persisted && core.api.sleep());
  on("pageshow", (event) => event.persisted && core.api.wake());
  return core;
}

// fetched begins to load quoit.wasm. A gateway that builds it at this moment, and
// wasm_exec.js with it, answers 503 and says when to ask again.
async function fetched(url) {
  const most = 120;
  for (let tries = 1; ; tries++) {
    let response;
    try {
      response = await fetch(url, { credentials: "same-origin" });
    } catch (cause) {
      throw problem("LOAD", `${url} cannot be loaded: ${cause.message}`, { cause });
    }
    if (response.ok) return response;
    const pause = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || !(pause > 0) || tries === most) throw problem("LOAD", `${url} cannot be loaded: ${response.status} ${(await response.text()).trim()}`);
    await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.min(pause, 5)); });
  }
}

async function instantiated(response, url, imports) {
  try {
    return await WebAssembly.instantiateStreaming(response, imports);
  } catch (cause) {
    throw problem("LOAD", `${url} cannot be started: ${cause.message} (a Content-Security-Policy needs 'wasm-unsafe-eval', and the file the type application/wasm)`, { cause });
  }
}

// ---- topology

function readTopology(r) {
  const cluster = r.text(), epoch = r.f64();
  const nodes = r.many(() => ({ address: r.text(), tokens: r.u32(), share: r.f64(), endpoints: r.many(() => ({ kind: r.text(), url: r.text() })) }));
  const names = r.many(() => r.text());
  const arc = () => ({ start: r.u32(), end: r.u32(), owner: names[r.u32()] });
  return { cluster, epoch, nodes, held: r.many(arc), arcs: r.many(arc) };
}

// ---- calls

class Database extends EventTarget {
  #core;
  #as;
  #timeout;
  #topology;
  #connected = true;
  #closing = null;
  #listeners = new Map(); // of "route": listener -> how often it was added
  constructor(core, handle, topology, as, timeout, tokens) {
    super();
    this.#core = core;
    this.#as = as;
    this.#timeout = timeout;
    this.#topology = topology;
    this.handle = handle; // this, tokens and ended are for this file, and not in quoit.d.ts
    this.tokens = tokens;
    this.ended = false;
  }

  // call is one of the calls below.
  #call(op, options, fill, decode, body) {
    if (options === null || typeof options !== "object") return Promise.reject(wrong("options must be an object"));
    const o = options.timeout === undefined && this.#timeout !== undefined ? { ...options, timeout: this.#timeout } : options;
    return this.#core.call(this, op, o, fill, decode, body);
  }

  // value is how a value comes out.
  #value(options, what) {
    const as = asOf(options?.as, this.#as);
    return (bytes) => outOf(bytes, as, what);
  }

  async get(key, options = {}) {
    const out = this.#value(options, "the value");
    return this.#call(OP.get, options, (w) => w.raw(keyOf(key)), (r) => out(r.bytes));
  }

  async getVersion(key, options = {}) {
    const out = this.#value(options, "the value");
    return this.#call(OP.getVersion, options, (w) => w.raw(keyOf(key)), (r) => { const version = r.u64(); return { value: out(r.rest()), version }; });
  }

  async mget(keys, options = {}) {
    const out = this.#value(options, "a value"), list = keysOf(keys);
    return this.#call(OP.mget, options, (w) => w.list(list), (r) => outcomes(r, list, (bytes) => out(bytes), null));
  }

  async exists(key, options = {}) {
    return this.#call(OP.exists, options, (w) => w.raw(keyOf(key)), (r) => r.u8() === 1);
  }

  async put(key, value, options = {}) {
    const body = bytesOf(value, "a value");
    return this.#call(OP.put, options, (w) => putOptions(w.raw(keyOf(key)), options), null, body);
  }

  async mput(pairs, options = {}) {
    if (pairs === null || typeof pairs !== "object") throw wrong("pairs must be an object, a Map or an array of [key, value]");
    const list = Array.from(typeof pairs[Symbol.iterator] === "function" ? pairs : Object.entries(pairs), ([key, value]) => [keyOf(key), bytesOf(value, "a value")]);
    return this.#call(OP.mput, options, (w) => {
      putOptions(w, options);
      w.u32(list.length);
      for (const [key, value] of list) w.raw(key).raw(value);
    }, (r) => { outcomes(r, list.map(([key]) => key), () => undefined, undefined); });
  }

  async compareAndPut(key, value, version, options = {}) {
    const body = bytesOf(value, "a value"), expected = versionOf(version);
    return this.#call(OP.swap, options, (w) => putOptions(w.raw(keyOf(key)).u64(expected), options, false), (r) => r.u64(), body);
  }

  async delete(keys, options = {}) {
    const single = typeof keys === "string" || keys instanceof Uint8Array;
    const list = single ? [keyOf(keys)] : keysOf(keys);
    return this.#call(OP.delete, options, (w) => w.list(list), (r) => {
      let existed = 0;
      outcomes(r, list, (bytes) => { existed += bytes[0]; }, undefined, single);
      return existed;
    });
  }

  async increment(key, delta = 1, options = {}) {
    const exact = typeof delta === "bigint";
    if (!exact && !Number.isSafeInteger(delta)) throw wrong(`delta must be a whole number that is exact, or a bigint, not ${String(delta)}`);
    if (exact && BigInt.asIntN(64, delta) !== delta) throw wrong("delta must be within 64 bits");
    return this.#call(OP.increment, options, (w) => w.raw(keyOf(key)).u64(BigInt(delta)), (r) => {
      const sum = r.i64();
      if (exact) return sum;
      if (!Number.isSafeInteger(Number(sum))) throw problem("UNSAFE_INTEGER", `the sum is ${sum}, which a number cannot hold exactly: pass delta as a bigint. The addition was made.`, {}, { exact: sum });
      return Number(sum);
    });
  }

  async append(key, data, options = {}) {
    const body = bytesOf(data, "data");
    return this.#call(OP.append, options, (w) => w.raw(keyOf(key)), (r) => r.f64(), body);
  }

  async ttl(key, options = {}) {
    return this.#call(OP.ttl, options, (w) => w.raw(keyOf(key)), (r) => { const ms = r.f64(); return ms < 0 ? null : ms; });
  }

  async expire(key, ttl, options = {}) {
    const at = ttl instanceof Date, ms = at ? momentOf(ttl) : milliseconds(ttl, "ttl", 0);
    return this.#call(OP.expire, options, (w) => w.raw(keyOf(key)).u8(at ? 1 : 0).f64(ms));
  }

  async persist(key, options = {}) {
    return this.#call(OP.persist, options, (w) => w.raw(keyOf(key)), (r) => r.u8() === 1);
  }

  async count(options = {}) {
    return this.#call(OP.count, options, null, (r) => r.f64());
  }

  scan(options = {}) {
    return new Stream(this.#core, this, OP.scan, options, () => {
      const { prefix = "", match = "", values = false, start = 0, count = 0 } = options;
      const as = asOf(options.as, this.#as), keys = asOf(options.keys, "text");
      const fill = (w) => w.raw(keyOf(prefix)).raw(keyOf(match)).u8(values ? 1 : 0).u32(whole(start, "start", 2 ** 32 - 1)).u32(whole(count, "count", 2 ** 31 - 1));
      const read = (r) => {
        const key = outOf(r.raw(), keys, "a key"), entry = { key, position: r.u32() };
        if (values) [entry.version, entry.value] = [r.u64(), outOf(r.raw(), as, "a value")];
        return entry;
      };
      return { fill, read };
    });
  }

  watch(prefix, options = {}) { return this.#watch(prefix, false, options); }
  watchKey(key, options = {}) { return this.#watch(key, true, options); }
  #watch(key, exact, options) {
    return new Stream(this.#core, this, OP.watch, options, () => {
      const as = asOf(options.as, this.#as), keys = asOf(options.keys, "text");
      const fill = (w) => w.raw(keyOf(key)).u8(exact ? 1 : 0).u8(options.state ? 1 : 0);
      const read = (r) => {
        const change = { type: CHANGE[r.u8()] };
        if (change.type !== "put" && change.type !== "delete") return change;
        change.key = outOf(r.raw(), keys, "a key");
        change.version = r.u64();
        if (change.type === "put") {
          const value = r.raw(), at = r.f64();
          change.value = outOf(value, as, "a value");
          change.expiresAt = at > 0 ? at : null;
        }
        return change;
      };
      return { fill, read };
    });
  }

  get connected() { return this.#connected; }

  get topology() { return this.#topology; }

  async refreshTopology(options = {}) {
    return this.#call(OP.refresh, options, null, (r) => this.#take(readTopology(r)));
  }

  // #take keeps the newest topology, and the same object for the same one.
  #take(topology) {
    const old = this.#topology;
    if (topology.epoch < old.epoch || topology.epoch === old.epoch && topology.nodes.length === old.nodes.length && JSON.stringify(topology) === JSON.stringify(old)) return old;
    this.#topology = topology;
    return topology;
  }

  ownerOf(key) {
    const bytes = keyOf(key);
    const place = this.ended ? null : this.#core.api.place(this.handle, bytes);
    if (!place) throw closed();
    return { position: place.position, owner: place.owner || null };
  }

  async info(address, options = {}) {
    return this.#call(OP.info, options, (w) => w.raw(bytesOf(address, "an address")), (r) => {
      const lines = lenient.decode(r.bytes).split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
      return Object.fromEntries(lines.map((line) => { const colon = line.indexOf(":"); return [line.slice(0, colon), line.slice(colon + 1)]; }));
    });
  }

  async ping(address, options = {}) {
    return this.#call(OP.ping, options, (w) => w.raw(bytesOf(address, "an address")), (r) => r.f64());
  }

  stats() {
    const s = this.ended ? {} : this.#core.api.stats(this.handle);
    let pending = 0;
    for (const entry of this.#core.calls.values()) if (entry.database === this) pending++;
    return { dials: 0, redirects: 0, retries: 0, refreshes: 0, abandoned: 0, sockets: 0, ...s, pending };
  }

  close() {
    if (!this.#closing) {
      this.#closing = this.ended ? Promise.resolve() : this.#core.call(this, OP.close, {}, null, null).catch((error) => {
        if (error.code !== "CLOSED" && error.code !== "CRASHED") throw error;
      });
      this.end(null);
      this.#core.databases.delete(this.handle);
      this.#core.tokens.delete(this.tokens);
    }
    return this.#closing;
  }

  // end is called when nothing can be asked any more.
  end(error) {
    this.ended = true;
    this.#connected = false;
    if (error) this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  // event is what quoit.wasm tells.
  event(type, payload) {
    if (this.ended) return;
    const r = new Reader(payload);
    let detail;
    if (type === "topology") {
      const before = this.#topology;
      detail = this.#take(readTopology(r));
      if (detail === before) return;
    } else if (type === "disconnect") {
      detail = { node: r.text() || null, via: via(r), code: r.u32(), reason: r.text() };
    } else if (type === "reconnect") {
      detail = { node: r.text() || null, via: via(r), milliseconds: r.f64() };
    } else if (type === "error") {
      detail = readError(r);
    } else {
      detail = { op: r.text(), key: looseKey(r.raw()), position: r.u32(), node: r.text() || null, via: via(r), microseconds: r.f64(), redirects: r.u32(), retries: r.u32(), error: null };
      const error = r.raw();
      if (error.length > 0) detail.error = readError(new Reader(error));
    }
    if ((type === "disconnect" || type === "reconnect") && detail.node === null) this.#connected = type === "reconnect";
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
    if (type === "route" && listener) this.#observe(() => this.#listeners.set(listener, options));
  }

  removeEventListener(type, listener, options) {
    super.removeEventListener(type, listener, options);
    if (type === "route" && listener) this.#observe(() => this.#listeners.delete(listener));
  }

  // #observe switches the measuring of requests on with the first listener, and off with
  // the last. (One that was added with once or a signal counts until it is removed.)
  #observe(change) {
    const before = this.#listeners.size > 0;
    change();
    const now = this.#listeners.size > 0;
    if (before !== now && !this.ended) this.#core.call(this, OP.observe, {}, (w) => w.u8(now ? 1 : 0)).catch(() => {}); // closed meanwhile
  }
}

const via = (r) => r.u8() === 1 ? "direct" : "gateway";

// outcomes reads what became of each key; if one failed it throws what all came to.
// single: for a call on one key that error is the call's.
function outcomes(r, keys, out, missing, single = false) {
  const values = [], all = [];
  let failed = null, failures = 0;
  for (const key of keys) {
    const status = r.u8();
    if (status === FAILED) {
      const error = readError(new Reader(r.raw()));
      error.key = looseKey(key);
      failed ??= error;
      failures++;
      all.push({ error });
      values.push(missing);
      continue;
    }
    let value = missing, error = null;
    if (status === OK) {
      try { value = out(r.raw()); } catch (e) { error = e; error.key = looseKey(key); failed ??= e; failures++; }
    }
    values.push(value);
    all.push(error ? { error } : { value });
  }
  if (failed && single) throw failed;
  if (failed) throw problem("PARTIAL", `${failures} of ${keys.length} keys failed, the first because: ${failed.message}`, { cause: failed }, { outcomes: all });
  return values;
}

// Stream is the iterator of a walk or a watch. It begins with the first next, and takes
// many items at once from the other side.
class Stream {
  #core; #database; #op; #options; #prepare;
  #read = null; // takes one item from a message; null before the stream has begun
  #id = 0; // its number on the other side
  #message = null; // what has come last
  #left = 0; // items in it that have not been given yet
  #last = false; // nothing comes after it
  #given = false; // up: return or throw was called, perhaps while a next waits
  #deadline = Infinity;
  #queue = Promise.resolve(); // next calls are answered one after the other
  constructor(core, database, op, options, prepare) {
    this.#core = core;
    this.#database = database;
    this.#op = op;
    this.#options = options;
    this.#prepare = prepare;
  }

  [Symbol.asyncIterator]() { return this; }

  next() {
    const answer = this.#queue.then(() => this.#step());
    this.#queue = answer.catch(() => {});
    return answer;
  }

  async #step() {
    try {
      while (this.#left === 0 && !this.#last) await this.#fetch();
      if (this.#left === 0) return { done: true, value: undefined };
      if (this.#options.signal?.aborted) throw aborted(this.#options.signal); // what has come already is not told after that
      this.#left--;
      return { done: false, value: this.#read(this.#message) };
    } catch (error) {
      await this.#stop();
      if (this.#given) return { done: true, value: undefined }; // it was ended on purpose, and that is no error
      throw error;
    }
  }

  // #fetch begins the stream if need be, and waits for the next items.
  async #fetch() {
    if (this.#options === null || typeof this.#options !== "object") throw wrong("options must be an object");
    const { signal, timeout } = this.#options;
    if (!this.#read) {
      const { fill, read } = this.#prepare();
      if (timeout !== undefined) this.#deadline = performance.now() + milliseconds(timeout, "timeout", Number.MIN_VALUE);
      this.#id = await this.#core.call(this.#database, this.#op, { signal }, fill, (_, id) => id);
      this.#read = read;
      if (this.#given) return this.#stop(); // before it had a number to be stopped by
    }
    const left = this.#deadline === Infinity ? {} : { timeout: Math.max(this.#deadline - performance.now(), 0.001) };
    await this.#core.call(this.#database, OP.next, { signal, ...left }, (w) => w.u32(this.#id), (r) => {
      if (this.#given) return;
      this.#last = r.u8() === 1;
      this.#left = r.u32();
      this.#message = r;
    });
  }

  // #stop ends the other side; what it says about that is of no interest.
  async #stop() {
    this.#last = true;
    this.#left = 0;
    this.#message = null;
    const id = this.#id;
    this.#id = 0;
    if (id) await this.#core.call(this.#database, OP.stop, {}, (w) => w.u32(id)).catch(() => {});
  }

  async return(value) {
    this.#given = true;
    await this.#stop();
    return { done: true, value };
  }

  async throw(error) {
    this.#given = true;
    await this.#stop();
    throw error;
  }
}

// ---- connect

export async function connect(url, options) {
  if (options === undefined && url !== null && typeof url === "object" && !(url instanceof URL) && !Array.isArray(url)) [url, options] = [undefined, url];
  options ??= {};
  if (typeof options !== "object") throw wrong("options must be an object");
  const { signal, timeout, callTimeout, prefer = "direct", connections = 1, token, assets = new URL(".", import.meta.url) } = options;
  const as = asOf(options.as, "bytes"), gateways = gatewaysOf(url).map((base) => encoder.encode(base));
  if (prefer !== "direct" && prefer !== "gateway") throw wrong(`prefer takes "direct" or "gateway", not ${String(prefer)}`);
  if (!(Number.isInteger(connections) && connections >= 1 && connections <= 8)) throw wrong("connections takes 1 to 8");
  if (token !== undefined && typeof token !== "function" && !(typeof token === "string" && token !== "")) throw wrong("token must be a string that is not empty, or a function that gives one");
  if (callTimeout !== undefined) milliseconds(callTimeout, "callTimeout", Number.MIN_VALUE);
  if (timeout !== undefined) milliseconds(timeout, "timeout", Number.MIN_VALUE);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrong("signal must be an AbortSignal");
  if (signal?.aborted) throw aborted(signal);
  const began = performance.now();
  const core = await within(load(new URL(assets, globalThis.location?.href)), signal, timeout);
  const left = timeout === undefined ? {} : { timeout: Math.max(timeout - (performance.now() - began), 0.001) };
  let source = 0;
  if (token !== undefined) core.tokens.set(source = ++core.lastTokens, typeof token === "function" ? token : () => token);
  return core.call(null, OP.open, { signal, ...left }, (w) => w.list(gateways).u8(prefer === "direct" ? 1 : 0).u32(connections).u32(source), (r) => {
    const handle = r.u32();
    const database = new Database(core, handle, readTopology(r), as, callTimeout, source);
    core.databases.set(handle, database);
    return database;
  }).catch((error) => {
    core.tokens.delete(source);
    throw error;
  });
}

// within waits for a promise, but not longer than allowed.
function within(promise, signal, timeout) {
  if (!signal && timeout === undefined) return promise;
  return new Promise((resolve, reject) => {
    const timer = timeout === undefined ? undefined : setTimeout(() => reject(problem("TIMEOUT", "the client could not be loaded in time")), Math.min(timeout, 2 ** 31 - 1)); // a longer one would be over at once
    const abort = () => reject(aborted(signal));
    signal?.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    });
  });
}
