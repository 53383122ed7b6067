/// <reference lib="esnext.disposable" />
/**
 * The browser's client of a stepcast hub. It shows a running computation through reloads and lost
 * connections.
 *
 * ```js
 * import { connect } from './stepcast.js';
 *
 * const hub = connect();
 * hub.on('message', ({ feed, data }) => console.log(feed, data));
 * const run = hub.feed('run/42');
 * run.on('value', ({ key, data }) => draw(key, data));
 * await hub.fetch('/runs', { method: 'POST' }); // with this client's id in `Stepcast-Client`
 * ```
 *
 * @module
 */

/**
 * Connects to a hub, and reconnects after each lost connection, for ever. It is the same client
 * again if the hub still knows it. `close` ends that, and so does a hub that refuses the client for
 * good.
 *
 * After a run has finished or failed, the client stops retrying and keeps its data. It looks for a
 * new hub once, silently, each time that the page is shown again or the network comes back.
 *
 * @param url The hub's address: `ws:`, `wss:`, `http:` or `https:`; a relative one is relative to
 * the page. Default: the folder that this module was loaded from, which is the hub if the hub
 * serves it. A bundled module needs an address. An address that names a feed, such as the hub's and
 * `feed/run/42`, follows only this feed, unless `Options.feeds` says otherwise. A slash at the end
 * of a feed's name is `%2F` there, since an address that ends in `/` is that of a hub.
 * @throws SyntaxError for any other address, and TypeError if there is no WebSocket. Events report
 * all other errors.
 */
export function connect(url?: string | URL, options?: Options): Hub;

export interface Options {
  /** Names of the feeds to follow from the start. Default: `['']`, everyone's feed. */
  feeds?: readonly string[];
  /**
   * The name of this connection, for a page with several connections to this hub. Each keeps its id
   * through a reload: by its name, and connections of one name by the order in which they were
   * made.
   */
  name?: string;
  /**
   * The storage in which this tab keeps its id, so that it is the same client after a reload.
   * Default: `sessionStorage`; `null`: none. A storage that a second tab sees, such as
   * `localStorage`, is wrong.
   *
   * A duplicated tab has a copy of the storage, and becomes a new client. To find out, the client
   * asks whether a living page has this id, by `navigator.locks`, or by a `BroadcastChannel` if the
   * page is not secure. A tab that crashed or was discarded is the same client again.
   */
  storage?: Pick<Storage, 'getItem' | 'setItem'> | null;
  /**
   * Origins, as in `location.origin`, to which `fetch` adds the header besides the page's and the
   * hub's. They must allow the header `Stepcast-Client` to other origins (CORS).
   */
  origins?: readonly string[];
  /**
   * The number of a feed's newest messages that `Feed.snapshot` has. Default: 100. They stay in
   * memory, so a page with large messages sets fewer.
   */
  history?: number;
  /** `false`: the client does not connect before `Hub.reconnect`. */
  start?: boolean;
  /** Milliseconds after which a hanging attempt is given up. Default: 5000. */
  timeout?: number;
  /**
   * Bounds of the back-off in milliseconds. The longest wait before a retry doubles from `minRetry`
   * (default 500) to `maxRetry` (default 20 000). The wait itself is random between 0 and the
   * longest.
   */
  minRetry?: number;
  maxRetry?: number;
  /** Gets each input of `reduce` and its effects, as for a log. */
  debug?: (input: object, effects: readonly Effect[]) => void;
  /** Replaces the global `WebSocket`, where there is none, and for tests. */
  WebSocket?: new (url: URL, protocol: string) => Socket;
  /** Replaces the system's clock, in milliseconds, which is looked up at each use; for tests. */
  clock?: Clock;
  /** Replaces `Math.random`; for tests. */
  random?: () => number;
}

export interface Clock {
  now(): number;
  setTimeout(run: () => void, after: number): unknown;
  clearTimeout(timer: any): void;
}

/** The parts of a `WebSocket` that the client uses. */
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
   * The id of the first connection, a number below 2^53. Others may know it: it is the address for
   * `hub.send(id, ..)` in the program. The promise is rejected if the state becomes `closed` before
   * there is an id.
   */
  readonly id: Promise<number>;

  /**
   * The current id, or `null` while there is none. The id changes after an absence longer than the
   * hub keeps clients, and after a restart of the hub. `status` then has `resumed: false`.
   */
  readonly client: number | null;

  /** The state of the last `status`. */
  readonly state: Status['state'];

  /** The last `status`: the same object until the next one. */
  readonly status: Readonly<Status>;

  /**
   * Calls `listener` with the detail of each event, and returns a function that removes the
   * listener. With `once` the listener is removed after the first event, with `signal` when it is
   * aborted.
   */
  on<K extends keyof HubEvents>(
    type: K,
    listener: (detail: HubEvents[K]) => void,
    options?: ListenerOptions,
  ): () => void;

  /** Removes a listener that `on` added for this type, however often it was added. */
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
   * share one subscription. A new handle has earlier messages in its `snapshot` and earlier values
   * in `values`; its listeners do not get them again.
   *
   * @typeParam T The type of the feed's messages and values, as the page knows it; nothing checks
   * it.
   */
  feed<T = any>(name: string): Feed<T>;

  /**
   * Sends a message to the program: a string as text; an `ArrayBuffer`, a view of one or a `Blob`
   * as bytes; anything else as JSON. Half a surrogate pair becomes U+FFFD, as with
   * `WebSocket.send`.
   *
   * @throws TypeError if JSON has no form for the data: a `Map`, a function or a promise.
   *
   * Returns whether the message was handed to an open connection, which does not promise that it
   * arrives. Without a connection nothing is queued. A message above the hub's limit is not sent:
   * the result is `false`, and an `error` event has the code `too-long`.
   *
   * Messages beyond the hub's rate wait here, and are lost with the connection. A message that
   * would have to wait longer than five seconds is not sent: the result is `false`.
   */
  send(data: unknown): boolean;

  /**
   * Calls `fetch` with the header `Stepcast-Client: <id>`, which tells the program whom to send to.
   * It waits for a connection first, since the hub may have forgotten an earlier id. Only requests
   * to the page's origin, to the hub's and to `Options.origins` get the header; others are passed
   * on at once, unchanged.
   *
   * The promise is rejected as by `fetch`, by the request's signal also while it waits, and when
   * the state becomes `closed`.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;

  /**
   * Disconnects without ending: the hub keeps this client and its mail for as long as after a lost
   * connection. The state is `waiting` until `reconnect`.
   */
  disconnect(): void;

  /** Connects at once: after `disconnect`, with `start: false`, during a back-off, or anew. */
  reconnect(): void;

  /** Ends the connection for good, with close code 1000. */
  close(): void;

  /** Calls `close`, for `using`. Without `Symbol.dispose` there is no such method. */
  [Symbol.dispose](): void;
}

export interface ListenerOptions {
  once?: boolean;
  signal?: AbortSignal;
}

/**
 * A feed that the page follows.
 *
 * `for await (const message of feed)` yields the messages from then on. At most a thousand wait for
 * a slow loop; beyond that the oldest is skipped, which `seq` shows. The loop ends when the feed or
 * the run has finished, or the page closes this handle or the connection. If the run has failed, or
 * the hub has ended the connection for good, the loop throws an Error after the last message.
 */
export interface Feed<T = any> extends AsyncIterable<Message<T>> {
  readonly name: string;
  /** The latest values by key. They are current even without a listener. */
  readonly values: ReadonlyMap<string, T>;
  /**
   * Whether the program has finished the feed, and all of it has come. A handle made after that
   * gets no `ended` event.
   */
  readonly ended: boolean;
  /**
   * Returns the feed so far: for a late handle, and for stores such as React's
   * `useSyncExternalStore(feed.subscribe, feed.snapshot)`. The result is the same object until an
   * event of the feed comes, and it never changes. The call needs no `this`.
   */
  snapshot(): Snapshot<T>;
  /**
   * Calls `listener` after each event of the feed that changes the snapshot, and returns a function
   * that removes the listener. The call needs no `this`.
   */
  subscribe(listener: () => void): () => void;
  /** Adds a listener as `Hub.on` does, for the events of this feed only. */
  on<K extends keyof FeedEvents<T>>(
    type: K,
    listener: (detail: FeedEvents<T>[K]) => void,
    options?: ListenerOptions,
  ): () => void;
  /** Removes a listener as `Hub.off` does, if this handle's `on` added it. */
  off<K extends keyof FeedEvents<T>>(type: K, listener: (detail: FeedEvents<T>[K]) => void): void;
  /**
   * Sends a message as `Hub.send` does, and names this feed. Returns `false` also while the feed is
   * not followed.
   */
  send(data: unknown): boolean;
  /**
   * Removes this handle's listeners. With the last handle of a name, the page unfollows the feed.
   */
  close(): void;
  /** Calls `close`, for `using`. */
  [Symbol.dispose](): void;
}

/** A feed at one moment, by `Feed.snapshot`. */
export interface Snapshot<T = any> {
  /** The last `feed` event's `how`; `null` before the first; `ended` after the feed's end. */
  readonly how: FeedNotice['how'] | 'ended' | null;
  /** The latest values by key. */
  readonly values: ReadonlyMap<string, T>;
  /**
   * The newest messages, at most `Options.history`, the oldest first. The next message follows them
   * without a hole, unless a `gap` event reports one.
   */
  readonly messages: readonly Message<T>[];
}

/**
 * The events of a feed. `feed` is its name: `''` is everyone's feed, `null` this client's own
 * mailbox. `data` is a string if it was sent as text, an `ArrayBuffer` if it was sent as bytes, and
 * a JSON value otherwise.
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
 * The time at which the program pushed to the hub: milliseconds as of `Date.now()`, by this
 * machine's clock, however wrong. So `Date.now() - time` is the age, also of data pushed while this
 * client was away. Two tabs differ only by the time that their connections took to begin.
 */
export type Time = number;

/**
 * A message of a log. Messages come once and in order. A `gap` comes before a message after skipped
 * ones.
 */
export interface Message<T = any> {
  feed: string | null;
  /** Consecutive numbers in each feed. */
  seq: number;
  time: Time;
  data: T;
}

/** The latest value of a key. Intermediate values may be skipped. */
export interface Value<T = any> {
  feed: string | null;
  key: string;
  time: Time;
  data: T;
}

/** The program has removed the latest value of `key`, which is no longer in `values`. */
export interface Removed {
  feed: string | null;
  key: string;
  time: Time;
}

/** The messages `from` to `to`, both included, were skipped. */
export interface Gap {
  feed: string | null;
  from: number;
  to: number;
  /**
   * `slow`: this client was too far behind. `expired`: the messages are no longer kept. `lost`: the
   * program was faster than the hub, and no client has had them.
   */
  why: 'slow' | 'expired' | 'lost' | (string & {});
}

/** The program has finished this feed: no further message comes. */
export interface Ended {
  feed: string | null;
  time: Time;
}

/** The page begins to follow this feed, or no longer follows it. */
export interface FeedNotice {
  feed: string | null;
  /**
   * `resumed`: the feed goes on where it was. `snapshot`: everything that is kept follows. Forget
   * what the page has of this feed; its `values` are empty. `unfollowed`: the program makes this
   * client unfollow the feed, or is another program. If the page has handles of the feed, the next
   * connection asks for it again; otherwise its values are freed.
   */
  how: 'resumed' | 'snapshot' | 'unfollowed';
}

export interface Status {
  /**
   * `waiting`: for the next retry. `finished`, `failed`: the run has ended so, and `reason` is the
   * program's message; `open` comes next if a new hub answers. `closed`: for good.
   */
  state: 'connecting' | 'open' | 'waiting' | 'finished' | 'failed' | 'closed';
  id: number | null;
  /** Whether the hub knew this client again at the last connection; `null` before the first. */
  resumed: boolean | null;
  /** Identifies the hub's start: a restarted hub has another epoch. */
  epoch: string | null;
  /** Milliseconds until the next retry, if one is planned. */
  retry: number | null;
  /**
   * The code that closed the connection: 1006 if there was none, 4503 if finished, 4504 if failed.
   * Only a code from the hub between 4500 and 4999 makes the state `closed`: the network closed the
   * connection for any other.
   *
   * After a failed first attempt the client asks the hub by `GET` and by `OPTIONS`, since a browser
   * does not report why a WebSocket was refused. If the page may read the answer, `code` is its
   * HTTP status, and `reason` begins with it. 403 and 404 are for good if this client was never let
   * in before. 403 also means that the page's own policy (Content-Security-Policy, `connect-src`)
   * forbids the connection.
   */
  code: number | null;
  /** The reason for a close or a refusal; the program's message for `finished` and `failed`. */
  reason: string;
}

export interface ErrorNotice {
  /**
   * Codes from the hub: `malformed`, `forbidden`, `invalid`, `full`, `failed` (the program's rule
   * about the feed panicked), and `unknown` (a message about a feed that is no longer followed).
   * Codes from this module: `malformed` (the hub sent a frame outside the protocol) and `too-long`
   * (see `Hub.send`).
   */
  code: 'malformed' | 'forbidden' | 'invalid' | 'full' | 'failed' | 'unknown' | 'too-long' | (string & {});
  /**
   * The feed that the error is about. The next connection asks for it again. A client that wants
   * more feeds than it may follow goes on with the first of them, in the order in which it asked.
   * `full` reports each further one.
   */
  feed?: string;
  reason: string;
}

/** The hub says goodbye; `status` has the result. */
export interface Bye {
  code: number;
  reason: string;
  /** Milliseconds after which the client should come back, if it should. */
  retry?: number;
}

// What is below is the pure part of the client, for tests and for other transports.

/** The client's position in a feed. */
export interface Position {
  /**
   * Whether the page follows the feed. `false`: it has unfollowed; left out: only the program
   * follows it.
   */
  wanted?: boolean;
  /** The number that stands for the feed while it is followed. */
  alias?: number;
  /** Whether the hub has an unanswered request to follow or unfollow the feed. */
  asked?: boolean;
  /** The epoch in which `seq` and `set` are valid. */
  epoch?: string;
  /** The number of the last message. */
  seq?: number;
  /** The stamp of the last value. */
  set?: number;
}

export interface State {
  /** The page's view of the connection. */
  status: Status;
  id?: number;
  key?: string;
  epoch?: string;
  resumed: boolean | null;
  /** Positions by the feed's name; the mailbox is `null`. */
  feeds: Map<string | null, Position>;
  acked: number;
  ackAt: number;
  greeted: boolean;
  /**
   * The time of the last input from the hub. `Infinity` until the client has asked whether a living
   * page has its id, and after it has left.
   */
  heard: number;
  doubt: boolean;
  /** The time of the `hello`, and then that of its answer. */
  since: number;
  /** The zero of the hub's times, by the clock of the inputs. */
  zero: number;
  attempts: number;
  timeout: number;
  minRetry: number;
  maxRetry: number;
  /** The interval between pings in milliseconds. */
  ping: number;
  /** The most bytes of a message to the hub. */
  most?: number;
  /** The number of feeds that the client may follow; 64 until the hub's answer. */
  limit: number;
  /** The lines a second that the hub takes; no bound until the hub's answer. */
  rate: number;
  /** The time at which the messages so far are spent, at this rate. */
  free: number;
  /** The waiting messages, each with its time at this rate. */
  queue: readonly { data: string | Blob | Uint8Array; at: number }[];
}

/** An input, with its time in milliseconds, a random number, and whether the page is hidden. */
export type Input = { now: number; random: number; hidden: boolean } & (
  | { type: 'opened' | 'close' | 'offline' | 'pagehide' }
  /** Also when the page is shown again. */
  | { type: 'online' }
  /** Also the first time. `lost`: another page is this client now. */
  | { type: 'pageshow'; lost?: boolean }
  | { type: 'frame'; data: string | ArrayBuffer }
  | { type: 'closed'; code: number; reason: string }
  | { type: TimerName }
  | { type: 'want'; name: string; wanted: boolean }
  /** `feed`: the feed that the message is about. */
  | { type: 'say'; data: unknown; feed?: string }
);

/** An input that a timer gives. */
export type TimerName = 'start' | 'check' | 'ack' | 'flow';

export type Effect =
  /** Opens a connection; the previous one has had its `close`. */
  | { type: 'open' }
  /**
   * Asks by `GET` and `OPTIONS` why a connection failed. The answer is the input `closed`, with the
   * HTTP status as its code.
   */
  | { type: 'ask' }
  | { type: 'send'; data: string | ArrayBuffer | ArrayBufferView }
  | { type: 'close'; code?: number }
  /**
   * Gives the input `name` once after this many milliseconds, or never. It replaces an earlier
   * timer of this name.
   */
  | { type: 'timer'; name: TimerName; after?: number }
  | { type: 'store'; record: Stored }
  | { [K in keyof HubEvents]: { type: 'emit'; event: K; detail: HubEvents[K] } }[keyof HubEvents];

/** The data that a tab keeps of itself. */
export interface Stored {
  /** Whether a page had this id at the time of writing. */
  live?: boolean;
  id?: number;
  key?: string;
  epoch?: string;
  /** The last acknowledged message of the mailbox. */
  seq?: number;
}

export function initial(
  feeds?: Iterable<string>,
  record?: Stored | null,
  options?: Pick<Options, 'timeout' | 'minRetry' | 'maxRetry'>,
): State;

/** Returns the next state and its effects, to be done in this order. `state` is not changed. */
export function reduce(state: State, input: Input): [State, Effect[]];
