/// <reference lib="esnext.disposable" />
/**
 * The browser's end of a stepcast hub: what a running computation sends, through reloads and lost
 * connections.
 *
 * ```js
 * import { connect } from './stepcast.js';
 *
 * const hub = connect();
 * hub.on('message', ({ feed, data }) => console.log(feed, data));
 * const run = hub.feed('run/42');
 * run.on('value', ({ key, data }) => draw(key, data));
 * await hub.fetch('/runs', { method: 'POST' }); // told who asks, by the header `Stepcast-Client`
 * ```
 *
 * @module
 */

/**
 * Connects, and stays connected. After a lost connection the client retries for ever, and is the same
 * client where the hub still knows it. `close` ends that, and so does the hub where it says so.
 *
 * When the run has finished or failed, the client stops retrying and keeps what it has. It looks for a
 * hub once, without a word, each time that the page is looked at again or the network comes back.
 *
 * @param url Of the hub: `ws:`, `wss:`, `http:` or `https:`; a relative one is relative to the page.
 * Without it, the folder that this module was loaded from, which is the hub where the hub serves it.
 * Who bundles this module has to give it. An address that names a feed, such as that of the hub and
 * `feed/run/42`, follows this feed only, unless `Options.feeds` says otherwise. A slash at the end of a
 * name is `%2F` there, since an address that ends in `/` is that of a hub.
 * @throws SyntaxError, where it is no such address, and TypeError, where there is no WebSocket. What else
 * can go wrong is told by events.
 */
export function connect(url?: string | URL, options?: Options): Hub;

export interface Options {
  /** Names of the feeds that are followed from the start. `['']`, everyone's, if left out. */
  feeds?: readonly string[];
  /**
   * Which of the page's connections to this hub it is, where the page makes several. Each keeps its id
   * through a reload: by its name, and those of the same name by the order in which they were made.
   */
  name?: string;
  /**
   * Where this tab notes who it is, so that it is the same client after a reload. `sessionStorage`
   * if left out, nowhere if `null`. One that a second tab sees, such as `localStorage`, is wrong.
   *
   * A tab that was duplicated has a copy, and becomes a client of its own: the client asks whether a
   * living page is who is noted, by `navigator.locks`, or by a `BroadcastChannel` where the page is not
   * secure. A tab that has crashed, or was discarded, is the same client again.
   */
  storage?: Pick<Storage, 'getItem' | 'setItem'> | null;
  /**
   * To which origins `fetch` adds the header besides the page's and the hub's, as in
   * `location.origin`. They have to allow the header `Stepcast-Client` to other origins (CORS).
   */
  origins?: readonly string[];
  /**
   * How many of a feed's newest messages `Feed.snapshot` has: 100 if left out. They stay in memory, so
   * a page whose messages are large says fewer.
   */
  history?: number;
  /** `false`: it does not connect before `Hub.reconnect`. */
  start?: boolean;
  /** Milliseconds after which an attempt that hangs is given up: 5000 if left out. */
  timeout?: number;
  /**
   * Milliseconds between which the bound of the wait before an attempt doubles: 500 and 20 000 if left
   * out. The wait itself is drawn between 0 and the bound.
   */
  minRetry?: number;
  maxRetry?: number;
  /** Is told each input of `reduce`, and what came of it, as for a log. */
  debug?: (input: object, effects: readonly Effect[]) => void;
  /** In place of the global one, where there is none, and for tests. */
  WebSocket?: new (url: URL, protocol: string) => Socket;
  /** In place of the system's, which is looked up at each use, in milliseconds; for tests. */
  clock?: Clock;
  /** In place of `Math.random`; for tests. */
  random?: () => number;
}

export interface Clock {
  now(): number;
  setTimeout(run: () => void, after: number): unknown;
  clearTimeout(timer: any): void;
}

/** What is used of a `WebSocket`. */
export interface Socket {
  readonly readyState: number;
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number): void;
}

/** A connection to a hub. */
export interface Hub extends EventTarget {
  /**
   * The id that the first connection was given, a number below 2^53. It can be told to others: it is
   * the address for `hub.send(id, ..)` in the program. Rejected if the state becomes `closed` before
   * there is one.
   */
  readonly id: Promise<number>;

  /**
   * The id now, `null` while there is none. It is another one after a time away that was longer than
   * the hub keeps clients, and after the hub was restarted: `status` says so with `resumed: false`.
   */
  readonly client: number | null;

  /** As in the last `status`. */
  readonly state: Status['state'];

  /** The last `status`: the same object until the next one. */
  readonly status: Readonly<Status>;

  /**
   * Calls `listener` with each event's detail. Returns what takes it off again; `once` does so after the
   * first event, `signal` when it is aborted.
   */
  on<K extends keyof HubEvents>(
    type: K,
    listener: (detail: HubEvents[K]) => void,
    options?: ListenerOptions,
  ): () => void;

  /** Takes a listener off that `on` was given for this type, as often as it was. */
  off<K extends keyof HubEvents>(type: K, listener: (detail: HubEvents[K]) => void): void;

  addEventListener<K extends keyof HubEvents>(
    type: K,
    listener: (event: CustomEvent<HubEvents[K]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof HubEvents>(
    type: K,
    listener: (event: CustomEvent<HubEvents[K]>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;

  /**
   * Follows a feed, from the first frame on if there is no connection yet. All handles of one name
   * share one following: what had come before a handle was made is in its `snapshot` and its `values`,
   * but is not told to its listeners again.
   *
   * @typeParam T What the feed's messages and values are, as the page knows; nothing checks it.
   */
  feed<T = any>(name: string): Feed<T>;

  /**
   * Sends a message to the program: a string as text; an `ArrayBuffer`, a view of one or a `Blob` as
   * bytes; anything else as JSON. Half a surrogate pair becomes U+FFFD, as with `WebSocket.send`.
   *
   * @throws TypeError, where JSON has nothing of it, as of a `Map`, a function or a promise.
   *
   * Returns whether it was handed to an open connection, which is no promise that it arrives. While
   * there is none, nothing is queued. What is larger than the hub takes is not sent: `false`, and an
   * `error` event with the code `too-long`.
   *
   * What is more than the hub takes in a second waits here, and is lost with the connection. What
   * would have to wait longer than five seconds is not sent: `false`.
   */
  send(data: unknown): boolean;

  /**
   * `fetch` with the header `Stepcast-Client: <id>`, by which the program knows whom to send to. It
   * waits for a connection, since the hub may have forgotten an id of before. Only requests to the page's
   * origin, to the hub's and to those of `Options.origins` are given the header; others are passed on at
   * once, as they are.
   *
   * Rejected like `fetch`, by its signal also while it waits, and when the state becomes `closed`.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;

  /**
   * Leaves without ending: the hub keeps this client, and its mail, for as long as for one that has lost
   * its connection. The state is `waiting` until `reconnect`.
   */
  disconnect(): void;

  /** Connects at once: after `disconnect`, with `start: false`, in a wait, or anew. */
  reconnect(): void;

  /** Ends the connection for good, with close code 1000. */
  close(): void;

  /** As `close`, for `using`. Where there is no `Symbol.dispose`, it is under no name. */
  [Symbol.dispose](): void;
}

export interface ListenerOptions {
  once?: boolean;
  signal?: AbortSignal;
}

/**
 * A feed that is followed.
 *
 * `for await (const message of feed)` has its messages from then on. A thousand of them wait for a loop that is
 * slower than they come; then the oldest is left out, which `seq` shows. The loop ends when the feed or the run has finished, or this
 * handle or the connection was closed by the page. Where the run has failed, or the hub has ended the connection for good, it throws an
 * Error, after the last message.
 */
export interface Feed<T = any> extends AsyncIterable<Message<T>> {
  readonly name: string;
  /** The latest values, by key: always current, also while no listener is there. */
  readonly values: ReadonlyMap<string, T>;
  /**
   * Whether the program has finished the feed, and all of it has come. A handle that is made after that
   * hears no `ended`.
   */
  readonly ended: boolean;
  /**
   * What has come of the feed so far: for a handle that is made later, and for stores such as React's
   * `useSyncExternalStore(feed.subscribe, feed.snapshot)`. It is the same object until something of
   * the feed comes, and it never changes. Needs no `this`.
   */
  snapshot(): Snapshot<T>;
  /**
   * Calls `listener` after each event of the feed that makes another snapshot. Returns what takes the
   * listener off again. Needs no `this`.
   */
  subscribe(listener: () => void): () => void;
  /** Like `Hub.on`, with the events of this feed only. */
  on<K extends keyof FeedEvents<T>>(
    type: K,
    listener: (detail: FeedEvents<T>[K]) => void,
    options?: ListenerOptions,
  ): () => void;
  /** Like `Hub.off`, of what this handle's `on` was given. */
  off<K extends keyof FeedEvents<T>>(type: K, listener: (detail: FeedEvents<T>[K]) => void): void;
  /** As `Hub.send`, about this feed: the program is told so. `false` also while it is not followed. */
  send(data: unknown): boolean;
  /** Takes the listeners off. With the last handle of a name, its feed is followed no more. */
  close(): void;
  /** As `close`, for `using`. */
  [Symbol.dispose](): void;
}

/** A feed at one moment; see `Feed.snapshot`. */
export interface Snapshot<T = any> {
  /** As in the last `feed` event, `null` before the first; `ended` once the program has finished the feed. */
  readonly how: FeedNotice['how'] | 'ended' | null;
  /** The latest values, by key. */
  readonly values: ReadonlyMap<string, T>;
  /**
   * The newest messages, as many as `Options.history`, the oldest first. Those that come next follow
   * them without a hole but where a `gap` is told.
   */
  readonly messages: readonly Message<T>[];
}

/**
 * What a feed tells. `feed` is its name: `''` is everyone's, `null` this client's own mailbox. `data` that
 * was sent as text is a string, and what was sent as bytes an `ArrayBuffer`; otherwise, JSON.
 */
export interface FeedEvents<T = any> {
  message: Message<T>;
  value: Value<T>;
  removed: Removed;
  gap: Gap;
  ended: Ended;
  feed: FeedNotice;
  error: ErrorNotice;
}

export interface HubEvents extends FeedEvents {
  status: Status;
  bye: Bye;
}

/**
 * When the hub was given it: milliseconds as of `Date.now()`, by this machine's clock, however wrong it is. So
 * `Date.now() - time` is its age, also of what was sent while this client was away. Two tabs agree but for the time
 * that their connections took to begin.
 */
export type Time = number;

/** A message of a log. Each comes once and in order; where some are left out, a `gap` comes first. */
export interface Message<T = any> {
  feed: string | null;
  /** consecutive in each feed. */
  seq: number;
  time: Time;
  data: T;
}

/** The latest value of a key. Where several are set in a short time, only the newest may come. */
export interface Value<T = any> {
  feed: string | null;
  key: string;
  time: Time;
  data: T;
}

/** The program has removed the latest value of `key`; it is no longer in `values`. */
export interface Removed {
  feed: string | null;
  key: string;
  time: Time;
}

/** The messages `from` to `to`, both included, do not come. */
export interface Gap {
  feed: string | null;
  from: number;
  to: number;
  /**
   * `slow`: this client was too far behind. `expired`: they are not kept any more. `lost`: the program
   * was faster than the hub, and nobody has had them.
   */
  why: 'slow' | 'expired' | 'lost' | (string & {});
}

/** The program has finished this feed: nothing comes after what has come. */
export interface Ended {
  feed: string | null;
  time: Time;
}

/** From here on this feed is followed, or no more. */
export interface FeedNotice {
  feed: string | null;
  /**
   * `resumed`: it goes on where it was. `snapshot`: all that is kept follows, and what the page has
   * of this feed is to be forgotten; its `values` are empty. `unfollowed`: the program has this client
   * follow it no more, or is another one; if there are handles of it, it is asked for again with the next
   * connection, and otherwise its values are freed.
   */
  how: 'resumed' | 'snapshot' | 'unfollowed';
}

export interface Status {
  /**
   * `waiting`: for the next attempt. `finished`, `failed`: the run has ended so, and `reason` is the
   * program's message; `open` comes next if a new hub answers. `closed`: for good.
   */
  state: 'connecting' | 'open' | 'waiting' | 'finished' | 'failed' | 'closed';
  id: number | null;
  /** Whether the hub knew this client again with the last connection; `null` before the first. */
  resumed: boolean | null;
  /** Different each time that the hub is started. */
  epoch: string | null;
  /** Milliseconds until the next attempt, if one is planned. */
  retry: number | null;
  /**
   * With which code the connection was closed: 1006 if without one, 4503 if finished, 4504 if failed. Only
   * what the hub says for good, 4500 to 4999, makes the state `closed`: anything else is the network's.
   *
   * After a failed first attempt the client asks by `GET`, and by `OPTIONS`, what there is, since a browser does not say how a
   * WebSocket was refused. Where that is answered, and the page may read it, `code` is the status of HTTP,
   * and `reason` begins with it. 403 and 404 are for good where this client was never let in before. 403 is also
   * said where the page's own policy (Content-Security-Policy, `connect-src`) forbids the connection.
   */
  code: number | null;
  /** Why it was closed, or refused; of `finished` and `failed`, the program's message. */
  reason: string;
}

export interface ErrorNotice {
  /**
   * From the hub: `malformed`, `forbidden`, `invalid`, `full`, `failed`, where the program's rule
   * about the feed has failed, and `unknown`, where a message was about a feed that was not followed any more. From this module: `malformed`, when the hub sent what is no frame of the
   * protocol; `too-long`, see `Hub.send`.
   */
  code: 'malformed' | 'forbidden' | 'invalid' | 'full' | 'failed' | 'unknown' | 'too-long' | (string & {});
  /**
   * The feed that it is about. It is asked for again with the next connection. A client that wants more
   * feeds than it may follow goes on with the first of them, in the order in which they were asked for;
   * `full` says of each other one that it is left out.
   */
  feed?: string;
  reason: string;
}

/** The hub takes its leave; `status` says what comes of it. */
export interface Bye {
  code: number;
  reason: string;
  /** Milliseconds after which to come back, where that is wanted. */
  retry?: number;
}

// What is below is the pure part of the client, for tests and for other transports.

/** What is known of a feed. */
export interface Position {
  /** Whether the page follows it. `false`: it has left; left out: only the program follows it. */
  wanted?: boolean;
  /** While it is followed, the number that stands for it. */
  alias?: number;
  /** Whether the hub has been asked to follow it, or to leave it, and has not answered. */
  asked?: boolean;
  /** In which `seq` and `set` mean something. */
  epoch?: string;
  /** Number of the last message. */
  seq?: number;
  /** Stamp of the last value. */
  set?: number;
}

export interface State {
  /** What the page is told. */
  status: Status;
  id?: number;
  key?: string;
  epoch?: string;
  resumed: boolean | null;
  /** By name; the mailbox is `null`. */
  feeds: Map<string | null, Position>;
  acked: number;
  ackAt: number;
  greeted: boolean;
  /** When something came last; `Infinity` until it has asked whether a living page is it, and when it has left. */
  heard: number;
  doubt: boolean;
  /** When the hub was told who this is, and then when it answered. */
  since: number;
  /** The moment from which the hub's times count, by the clock of the inputs. */
  zero: number;
  attempts: number;
  timeout: number;
  minRetry: number;
  maxRetry: number;
  /** Milliseconds. */
  ping: number;
  /** Bytes of a message to the hub. */
  most?: number;
  /** Feeds that it may follow; 64 until the hub says so. */
  limit: number;
  /** Lines a second that the hub takes; no bound until the hub has said so. */
  rate: number;
  /** Until when what was said takes at this rate. */
  free: number;
  /** Messages that wait, each with the time at which the rate has had it. */
  queue: readonly { data: string | Blob | Uint8Array; at: number }[];
}

/** With each input come the time in milliseconds, a random number and whether the page is hidden. */
export type Input = { now: number; random: number; hidden: boolean } & (
  | { type: 'opened' | 'close' | 'offline' | 'pagehide' }
  /** Also when the page is looked at again. */
  | { type: 'online' }
  /** Also the first; `lost`: another page is this client now. */
  | { type: 'pageshow'; lost?: boolean }
  | { type: 'frame'; data: string | ArrayBuffer }
  | { type: 'closed'; code: number; reason: string }
  | { type: TimerName }
  | { type: 'want'; name: string; wanted: boolean }
  /** `feed`: what it is about. */
  | { type: 'say'; data: unknown; feed?: string }
);

/** Input that comes by itself after some time. */
export type TimerName = 'start' | 'check' | 'ack' | 'flow';

export type Effect =
  /** Opens a connection; a `close` of the one before has come by then. */
  | { type: 'open' }
  /** Asks by `GET` and `OPTIONS` why there is none: an answer is the input `closed`, with the status as its code. */
  | { type: 'ask' }
  | { type: 'send'; data: string | ArrayBuffer | ArrayBufferView }
  | { type: 'close'; code?: number }
  /** Gives the input `name` after so many milliseconds, or never; once, and not as ordered before. */
  | { type: 'timer'; name: TimerName; after?: number }
  | { type: 'store'; record: Stored }
  | { [K in keyof HubEvents]: { type: 'emit'; event: K; detail: HubEvents[K] } }[keyof HubEvents];

/** What a tab keeps of itself. */
export interface Stored {
  /** Whether a page was it when this was written. */
  live?: boolean;
  id?: number;
  key?: string;
  epoch?: string;
  /** What has been acknowledged of the mailbox. */
  seq?: number;
}

export function initial(
  feeds?: Iterable<string>,
  record?: Stored | null,
  options?: Pick<Options, 'timeout' | 'minRetry' | 'maxRetry'>,
): State;

/** The next state, and what is to be done, in this order; `state` stays as it is. */
export function reduce(state: State, input: Input): [State, Effect[]];
