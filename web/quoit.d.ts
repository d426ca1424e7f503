/**
 * The smart client of a Quoit cluster, for web pages.
 *
 * ```js
 * import { connect } from "/quoit.js";
 *
 * const db = await connect();                       // the gateway that served quoit.js
 * await db.put("cart:7", "two pears", { ttl: 60_000 });
 * console.log(await db.get("cart:7", { as: "text" }));
 * for await (const change of db.watch("cart:", { as: "text" })) {
 *   console.log(change.type, change.key, change.value);
 * }
 * ```
 *
 * It is the Go client compiled to WebAssembly, so it does what that does: it holds
 * the ring, computes which node owns a key, asks that node, follows it when the key
 * moves, and sends a request again only where that is safe. Three files belong
 * together, in one folder: quoit.js, quoit.wasm and wasm_exec.js.
 *
 * Rules that hold everywhere:
 *
 * - What returns a promise never throws at once; what is wrong with the arguments
 *   rejects it with an {@link ArgumentError}. Only ownerOf throws.
 * - Bytes that are passed in may be changed as soon as the call has returned its
 *   promise. Bytes that come out belong to the caller.
 * - Text is UTF-8. What is not, and was asked for as text, is a {@link NotTextError},
 *   never a string with characters lost.
 * - Times are milliseconds, as everywhere in JavaScript.
 */

/** Opens a database: loads the client (once for a page), learns the topology from a
 * gateway, and resolves when the first topology is there. Nodes are connected to when
 * they are first needed.
 *
 * `url` is where a gateway is: `https://host/`, `wss://host/`, also with a path in
 * front of `/v1/`. The default is the gateway that quoit.js was loaded from. With
 * several, the next one is taken when one cannot be reached or stops.
 *
 * It goes on trying until `signal` or `timeout` ends it, or for 10 seconds without. */
export function connect<D extends As = "bytes">(url?: string | URL | readonly (string | URL)[], options?: ConnectOptions<D>): Promise<Database<D>>;
export function connect<D extends As = "bytes">(options?: ConnectOptions<D>): Promise<Database<D>>;

/** A key: text, or bytes. `"é"` and its UTF-8 bytes are the same key. At most 64 KiB. */
export type Key = string | Uint8Array;

/** A value as it is given: text is stored as UTF-8. At most 64 MiB unless the nodes
 * and the gateway are told otherwise. */
export type Input = string | Uint8Array | ArrayBuffer | DataView;

/** How values, and keys, come out. */
export type As = "bytes" | "text";
/** What comes out for it. */
export type Out<A extends As> = A extends "text" ? string : Uint8Array;

/** The version of a value: it orders all values that a key has had, over all nodes.
 * `0n` stands for "there is no such key".
 *
 * A bigint, because it does not fit into a number: it is unix milliseconds times
 * 65536 and a counter, about 2^57, and numbers are exact up to 2^53 only. Two that are
 * one millisecond's neighbours would become equal, and a comparison that should have
 * lost would win. To keep one as text use `String(version)`; methods take that too. */
export type Version = bigint;

/** What every call takes. */
export interface CallOptions {
  /** Ends the wait. The promise is then rejected with an {@link AbortedError}, or with
   * an {@link OutcomeUnknownError} if a write was under way. */
  signal?: AbortSignal;
  /** Milliseconds for everything, tries and pauses included. Then a {@link TimeoutError},
   * or an {@link OutcomeUnknownError}. The default is that of connect; without any the
   * client tries for 10 seconds from the first failure on. */
  timeout?: number;
}

/** What connect takes. */
export interface ConnectOptions<D extends As = "bytes"> extends CallOptions {
  /** The default of `as` for all calls: `"bytes"` if not given. */
  as?: D;
  /** The default of `timeout` for all calls but watch and scan; none if not given.
   * (`timeout` is that of connect itself.) */
  callTimeout?: number;
  /** How nodes are reached: `"direct"` (the default) goes straight to a node that
   * publishes a WebSocket endpoint, and through the gateway where it has none or it
   * cannot be reached; `"gateway"` always takes the gateway. */
  prefer?: "direct" | "gateway";
  /** A token that says what the page may do, where the cluster asks for one; or a function that
   * gives one. The function is called for each connection that is opened, so also when a token has
   * expired: it should then give a new one, and has 30 seconds. What waits for a connection, calls
   * and watches, goes on with it. It is never part of a URL, nor of an error.
   *
   * Without one such a cluster answers with an {@link UnauthenticatedError}. */
  token?: string | (() => string | Promise<string>);
  /** How many connections to each node the calls share: 1 (the default) to 8. */
  connections?: number;
  /** Where quoit.wasm and wasm_exec.js are; the folder of quoit.js if not given. Only the
   * first connect of a page counts. */
  assets?: string | URL;
}

export interface ReadOptions<A extends As = As> extends CallOptions {
  /** How the value comes out. */
  as?: A;
}

export interface PutOptions extends CallOptions {
  /** The key disappears after so many milliseconds. */
  ttl?: number;
  /** The key disappears then: a Date, or unix milliseconds. */
  expireAt?: Date | number;
  /** The time at which the key disappears stays as it is. Without this, and without a new
   * one, a write makes the key stay. */
  keepTTL?: boolean;
  /** Write only if there is no such key; otherwise {@link ExistsError}. */
  ifAbsent?: boolean;
  /** Write only if the key exists; otherwise {@link NotFoundError}. */
  ifPresent?: boolean;
}

/** A value and its version. */
export interface Versioned<A extends As> {
  value: Out<A>;
  version: Version;
}

export interface ScanOptions<A extends As = As, K extends As = "text"> extends CallOptions {
  /** Only keys that begin so. */
  prefix?: Key;
  /** Only keys that match this glob, as in Redis: `cart:*:total`. */
  match?: Key;
  /** Fetch the values and versions too. */
  values?: boolean;
  /** How values come out. */
  as?: A;
  /** How keys come out: `"text"` (the default), or `"bytes"` where keys may be anything. */
  keys?: K;
  /** Where on the ring to begin: the position of the last entry of an earlier walk goes on
   * there (and gives the keys of that position again). */
  start?: number;
  /** About how many keys a node looks at for one page (default 1000). */
  count?: number;
}

/** A key that scan found. */
export interface Entry<A extends As, K extends As = "text"> {
  key: Out<K>;
  /** The key's place on the ring, 0 to 2^32-1. Scan goes in this order. */
  position: number;
  /** With `values` only. */
  value?: Out<A>;
  /** With `values` only. */
  version?: Version;
}

export interface WatchOptions<A extends As = As, K extends As = "text"> {
  /** Ends the watch: the iteration is rejected with an {@link AbortedError}. To leave the
   * loop, or to call `return()`, ends it too, without an error. */
  signal?: AbortSignal;
  /** Tell first what there is: a `put` for each key, then `synced`, then changes. */
  state?: boolean;
  /** How values come out. */
  as?: A;
  /** How keys come out: `"text"` (the default), or `"bytes"` where keys may be anything. */
  keys?: K;
}

/** What a watch tells. */
export type Change<A extends As, K extends As = "text"> =
  | {
      /** The key has this value now. */
      type: "put";
      key: Out<K>;
      value: Out<A>;
      version: Version;
      /** Unix milliseconds at which the key disappears; null if it stays. */
      expiresAt: number | null;
    }
  | {
      /** The key was deleted, or has expired. */
      type: "delete";
      key: Out<K>;
      value?: undefined;
      version: Version;
      expiresAt?: undefined;
    }
  | {
      /** What was told is everything up to the moment at which the watch began: with `state`
       * the list is complete. Comes once. */
      type: "synced";
      key?: undefined;
      value?: undefined;
      version?: undefined;
      expiresAt?: undefined;
    }
  | {
      /** Only without `state`: the page was away for longer than nodes remember deletes, and some
       * deletes before this point may not have been told. */
      type: "resync";
      key?: undefined;
      value?: undefined;
      version?: undefined;
      expiresAt?: undefined;
    };

/** A node as the topology has it. */
export interface TopologyNode {
  /** Its name, and where members reach it: `host:port`. */
  address: string;
  /** How many tokens it has on the ring; 0 for one that is leaving. */
  tokens: number;
  /** What part of the ring it owns, 0 to 1. */
  share: number;
  /** Other ways to reach it, such as `{ kind: "ws", url: "wss://…" }`. */
  endpoints: { kind: string; url: string }[];
}

/** A part of the ring: the positions after `start` up to and with `end`, past the top if
 * `start` is not below `end`. When both are equal it is the whole ring. */
export interface Arc {
  start: number;
  end: number;
  owner: string;
}

/** Who owns what at one epoch. It never changes; a newer one takes its place. */
export interface Topology {
  cluster: string;
  /** Counts the changes of ownership. */
  epoch: number;
  nodes: TopologyNode[];
  /** Ranges that still belong to this owner, because they have not been handed over yet. */
  held: Arc[];
  /** All arcs in ring order, as they are owned now. Neighbours have different owners. */
  arcs: Arc[];
}

/** Where a key lies and who owns it. */
export interface Place {
  /** 0 to 2^32-1. */
  position: number;
  /** The address of the node, null when nobody owns it. */
  owner: string | null;
}

/** What a database has been through since it was opened. */
export interface Stats {
  /** Connections opened, or tried to. */
  dials: number;
  /** MOVED answers followed. */
  redirects: number;
  /** Requests sent again for any other reason. */
  retries: number;
  /** Topologies asked for. */
  refreshes: number;
  /** Waits that a signal or a timeout cut short. */
  abandoned: number;
  /** WebSockets that are open now, or being opened. */
  sockets: number;
  /** Calls that wait for their answer now. */
  pending: number;
}

/** What one key of a call on many came to. */
export type Outcome<T> = { value: T; error?: undefined } | { value?: undefined; error: QuoitError };

/** A connection to a cluster. Any number of calls may be under way at the same time; they
 * share the connections, and nobody waits for another's answer. */
export interface Database<D extends As = "bytes"> extends EventTarget {
  /** The value of a key; null if there is no such key. */
  get<A extends As = D>(key: Key, options?: ReadOptions<A>): Promise<Out<A> | null>;
  /** The value and its version; null if there is no such key. */
  getVersion<A extends As = D>(key: Key, options?: ReadOptions<A>): Promise<Versioned<A> | null>;
  /** The values of many keys, from all their owners at once, in order; null for a key that
   * does not exist. If some could not be read it is a {@link PartialError}, which has the others. */
  mget<A extends As = D>(keys: Iterable<Key>, options?: ReadOptions<A>): Promise<(Out<A> | null)[]>;
  /** Whether there is such a key. */
  exists(key: Key, options?: CallOptions): Promise<boolean>;

  /** Writes a value. When the promise resolves it is durable, as QUOIT_FSYNC demands. */
  put(key: Key, value: Input, options?: PutOptions): Promise<void>;
  /** Writes many keys, to all their owners at once. This is no transaction: if some could not
   * be written it is a {@link PartialError}, and the others are. With a key given twice either
   * value may stay. */
  mput(pairs: Iterable<readonly [Key, Input]> | Record<string, Input>, options?: PutOptions): Promise<void>;
  /** Writes a value if the key has this version, `0n` meaning that there must be no such key,
   * and resolves to the new version. When the key has another: {@link VersionConflictError},
   * whose `current` is that. */
  compareAndPut(key: Key, value: Input, version: Version | string, options?: Pick<PutOptions, "ttl" | "expireAt" | "keepTTL"> & CallOptions): Promise<Version>;
  /** Removes keys; resolves to how many there were. With several keys that could not all be
   * removed: {@link PartialError}. */
  delete(keys: Key | Iterable<Key>, options?: CallOptions): Promise<number>;
  /** Adds to the number that a key holds (0 if there is no such key) and resolves to the sum.
   * Counters go up to 2^63-1: a bigint `delta` makes the sum a bigint. With a number, a sum
   * that a number cannot hold exactly is an {@link UnsafeIntegerError} that has it as a bigint;
   * the addition was made. */
  increment(key: Key, delta?: number, options?: CallOptions): Promise<number>;
  increment(key: Key, delta: bigint, options?: CallOptions): Promise<bigint>;
  /** Adds bytes to the end of a value, making the key if need be; resolves to the new length
   * in bytes. */
  append(key: Key, data: Input, options?: CallOptions): Promise<number>;

  /** Milliseconds that the key has to live, null if it stays. {@link NotFoundError} if there is
   * no such key. */
  ttl(key: Key, options?: CallOptions): Promise<number | null>;
  /** Makes a key disappear after `ttl` milliseconds, or at a Date. {@link NotFoundError} if there
   * is no such key. */
  expire(key: Key, ttl: number | Date, options?: CallOptions): Promise<void>;
  /** Makes a key stay; resolves to whether there was an expiry to remove. */
  persist(key: Key, options?: CallOptions): Promise<boolean>;

  /** Walks over the keys of the whole cluster in ring order. Each key that exists all the time
   * is given exactly once, whatever moves, joins or leaves meanwhile; one that is written or
   * deleted during the walk may or may not be. */
  scan<A extends As = D, K extends As = "text">(options?: ScanOptions<A, K>): AsyncIterableIterator<Entry<A, K>>;
  /** The number of keys in the cluster. */
  count(options?: CallOptions): Promise<number>;

  /** Changes of all keys that begin with a prefix (`""`: all keys), in order for each key, from
   * now on, or after what there is with `state`.
   *
   * It goes on through moves, restarts of nodes and gateways and lost connections without a
   * gap. A page that takes the changes too slowly may not see each change of a key, but always
   * the last one, deletes included. */
  watch<A extends As = D, K extends As = "text">(prefix: Key, options?: WatchOptions<A, K>): AsyncIterableIterator<Change<A, K>>;
  /** The same for one key. */
  watchKey<A extends As = D, K extends As = "text">(key: Key, options?: WatchOptions<A, K>): AsyncIterableIterator<Change<A, K>>;

  /** The topology in use. Cheap: the same object until there is a newer one. */
  readonly topology: Topology;
  /** Asks the cluster for its topology now. That is never needed for correctness. */
  refreshTopology(options?: CallOptions): Promise<Topology>;
  /** Where a key lies and who owns it, by the topology in use. Asks nobody; throws an
   * {@link ArgumentError}, or a {@link ClosedError} when the database is closed. */
  ownerOf(key: Key): Place;
  /** What a node says about itself: `{ name: value }`, all text; see INFO in docs/protocol.md. */
  info(address: string, options?: CallOptions): Promise<Record<string, string>>;
  /** Milliseconds that a node takes to answer. */
  ping(address: string, options?: CallOptions): Promise<number>;
  /** What this database has been through. */
  stats(): Stats;
  /** Whether the gateway's topology channel is open. Calls work without it as long as nodes can
   * be reached. */
  readonly connected: boolean;

  /** Ends all connections. Calls and watches under way are rejected with a {@link ClosedError}.
   * Resolves when every WebSocket is closed. To close twice does no harm. */
  close(): Promise<void>;

  addEventListener<E extends keyof DatabaseEvents>(type: E, listener: (this: Database<D>, event: CustomEvent<DatabaseEvents[E]>) => unknown, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<E extends keyof DatabaseEvents>(type: E, listener: (this: Database<D>, event: CustomEvent<DatabaseEvents[E]>) => unknown, options?: boolean | EventListenerOptions): void;
}

/** The events of a database, and what `event.detail` is. */
export interface DatabaseEvents {
  /** There is a newer topology; `db.topology` is it already. */
  topology: Topology;
  /** A connection was lost, or a gateway closed it. Calls look for another by themselves. */
  disconnect: Disconnect;
  /** A connection that was lost is there again. */
  reconnect: Reconnect;
  /** Something that concerns no single call: a topology that cannot be read, a fault in the
   * client, or that it has ended (`code` is then `"CRASHED"`, and all calls are rejected). */
  error: QuoitError;
  /** A request has its answer; one for each key of a call on many. Nothing is measured, or told,
   * while nobody listens. */
  route: Route;
}

export interface Disconnect {
  /** The node's address; null for the gateway's topology channel. */
  node: string | null;
  /** Which way it went. */
  via: "gateway" | "direct";
  /** The WebSocket's close code; see "Over WebSocket" in docs/protocol.md. 1006: no close came. */
  code: number;
  reason: string;
}

export interface Reconnect {
  /** The node's address; null for the gateway's topology channel. */
  node: string | null;
  via: "gateway" | "direct";
  /** How long it was gone. */
  milliseconds: number;
}

export interface Route {
  /** The command as it was sent: `GET`, `PUT`, `INCRBY`, … */
  op: string;
  key: Key;
  position: number;
  /** Who answered. */
  node: string | null;
  via: "gateway" | "direct";
  /** From sending to the answer, redirects and repetitions included. */
  microseconds: number;
  /** MOVED answers that were followed. */
  redirects: number;
  /** How often it was sent again for another reason. */
  retries: number;
  /** Null if it was answered; otherwise why not. */
  error: QuoitError | null;
}

/** What an error is about. Programs branch on this, or on the class. */
export type Code =
  | "NOT_FOUND" | "EXISTS" | "VERSION_CONFLICT" | "OUTCOME_UNKNOWN" | "UNAVAILABLE" | "TIMEOUT" | "ABORTED" | "CLOSED"
  | "PARTIAL" | "ARGUMENT" | "NOT_TEXT" | "UNSAFE_INTEGER" | "SERVER" | "NOAUTH" | "NOPERM" | "PROTOCOL" | "LOAD" | "CRASHED";

/** What every rejected promise has. `message` is for people and may change. */
export class QuoitError extends Error {
  readonly code: Code;
  /** The node that it is about, where there is one. */
  readonly node: string | null;
  /** The key of a call on several keys that it is about, where there is one. */
  readonly key: Key | null;
}

/** There is no such key: put with `ifPresent`, ttl, expire. (get resolves to null.) */
export class NotFoundError extends QuoitError {}
/** The key exists already: put with `ifAbsent`. */
export class ExistsError extends QuoitError {}
/** compareAndPut lost: the key has another version, and was not changed. */
export class VersionConflictError extends QuoitError {
  /** The version that the key has; `0n`: there is no such key. */
  readonly current: Version;
}
/** A write was sent and its answer did not come: it may or may not have happened. Read before
 * you write again. `cause` says what ended the wait: an {@link AbortedError}, a
 * {@link TimeoutError}, a {@link ClosedError} or an {@link UnavailableError}. */
export class OutcomeUnknownError extends QuoitError {}
/** Nothing happened: nobody could be reached, or the node does not serve, in all the time there
 * was. */
export class UnavailableError extends QuoitError {}
/** The time was up. Nothing was changed. `name` is `"TimeoutError"`. */
export class TimeoutError extends QuoitError {}
/** The signal ended it. Nothing was changed. `name` is `"AbortError"`, `cause` the signal's reason. */
export class AbortedError extends QuoitError {}
/** The database was closed before or during the call. */
export class ClosedError extends QuoitError {}
/** Some keys of a call on many failed; the others are done. */
export class PartialError extends QuoitError {
  /** What became of each key, in order. `value` is that of mget, and nothing else has one. */
  readonly outcomes: Outcome<Uint8Array | string | null | undefined>[];
}
/** An argument cannot be used. Nothing was sent. */
export class ArgumentError extends QuoitError {}
/** A key or value that is not UTF-8 was asked for as text; ask for bytes. */
export class NotTextError extends QuoitError {
  /** What it is. */
  readonly bytes: Uint8Array;
}
/** A number cannot hold the sum exactly. The addition was made. */
export class UnsafeIntegerError extends QuoitError {
  readonly exact: bigint;
}
/** A node answered with an error that sending again does not help. */
export class ServerError extends QuoitError {
  /** The first word of the answer: `ERR`, `WRONGTYPE`, `TOOLARGE`, `READONLY`, … */
  readonly serverCode: string;
}
/** The cluster asks for a token and there is none, or it does not take the one there is. The
 * message says why. (`code` is `"NOAUTH"`.) */
export class UnauthenticatedError extends ServerError {}
/** The token does not allow this. (`code` is `"NOPERM"`.) */
export class ForbiddenError extends ServerError {}
/** What came is not an answer to what was asked: it speaks another version, or is no node. */
export class ProtocolError extends QuoitError {}
/** The client could not be loaded: quoit.wasm or wasm_exec.js are missing, of another version
 * than quoit.js, or refused by the page's Content-Security-Policy. */
export class LoadError extends QuoitError {}
/** The client has ended because of a fault in it. Connect again. */
export class CrashedError extends QuoitError {}
