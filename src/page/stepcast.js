// The browser's end of the wire `stepcast.v1` (docs/protocol.md). `reduce` decides, apart from
// sockets, timers and storage; `Connection` does it.

/** @import { Effect, Hub, Input, Options, State, Stored } from './stepcast.d.ts' */

// Milliseconds.
const FRESH = 1000; // an attempt that is left alone when the network comes back
const LATE = 10_000; // that a ping may be
const HIDDEN = 70_000; // a hidden page's timers run once a minute
const ACK = 1000;
const FEEDS = 64; // in a hello, until the hub says how many
const LONGEST_TIMER = 2 ** 31 - 1; // a browser fires a longer one at once

const ENDS = { 4503: 'finished', 4504: 'failed' };

/**
 * A client before it connects. `record`: who it was before a reload, after which it needs all again
 * but the acknowledged mailbox.
 *
 * @param {Iterable<string>} [feeds]
 * @param {Stored | null} [record]
 * @returns {State}
 */
export function initial(feeds = [''], record, { timeout = 5000, minRetry = 500, maxRetry = 20_000 } = {}) {
  const { id, key, epoch, seq } = record ?? {};
  /** @type {any} */
  const state = {
    state: 'waiting', status: {}, id, key, epoch, resumed: null,
    feeds: new Map([[null, { alias: 0, seq }]]), // by name; the mailbox has none
    acked: seq ?? 0, ackAt: 0,
    greeted: false, // whether this connection has our hello
    heard: 0, doubt: false, // when something came, whether the network has gone since
    timeout, minRetry, maxRetry,
    since: 0, attempts: 0, ping: 25_000, limit: FEEDS,
  };
  for (const name of feeds) state.feeds.set(name, { wanted: true });
  return state;
}

/**
 * @param {State} state stays as it is
 * @param {Input} input
 * @returns {[State, Effect[]]}
 */
export function reduce(state, input) {
  if (state.state === 'closed') return [state, []]; // for good
  const turn = new Turn(state, input);
  /** @type {any} */ (turn)[input.type](input);
  return [turn.state, turn.effects];
}

/** One input: its type is the method that takes it. */
class Turn {
  effects = []; now; random; hidden;

  constructor(state, { now, random, hidden }) {
    this.state = { ...state, feeds: new Map(state.feeds) };
    Object.assign(this, { now, random, hidden });
  }

  start() {
    this.drop();
    Object.assign(this.state, { doubt: false, heard: this.now });
    this.status('connecting');
    this.check();
    this.do('open'); // last: it may fail at once
  }

  opened() {
    const { id, key, epoch, feeds } = this.state;
    Object.assign(this.state, { greeted: true, heard: this.now });
    for (const [name, { alias, asked, ...feed }] of feeds) {
      if (feed.wanted === false) feeds.delete(name);
      else if (alias || asked) feeds.set(name, feed);
    }
    const { seq, set } = feeds.get(null);
    this.send({ hello: { id, key, epoch, mail: id && { seq, set }, feeds: this.ask() } });
  }

  /** Feeds to ask for, with what it has of each: as many as it may follow. */
  ask() {
    const { feeds, limit } = this.state;
    const idle = [...feeds].filter(([, { alias, asked }]) => alias === undefined && !asked);
    const room = Math.max(0, limit - feeds.size + 1 + idle.length);
    for (const [name] of idle.splice(room)) {
      if (this.state.most) this.emit('error', { code: 'full', feed: name, reason: `a client may follow ${limit} feeds` });
    }
    for (const [name, feed] of idle) feeds.set(name, { ...feed, asked: true });
    // A feed may be called "__proto__": no assignment.
    return Object.fromEntries(idle.map(([name, { seq, set }]) => [name, { seq, set }]));
  }

  closed({ code, reason, retry = 0 }) {
    const { state } = this;
    // One that did not last has failed.
    if (state.state === 'open' && this.now - state.since >= state.maxRetry) state.attempts = 0;
    this.drop();
    if (this.ended) return;
    if (code in ENDS) return this.status(ENDS[code], { code, reason });
    // What a hub does not say itself, anything on the way may say.
    if (/^4[5-9]..$/.test(code)) return this.finish(code, reason);
    if (!(retry > 0)) retry = Math.round(this.random * Math.min(state.maxRetry, state.minRetry * 2 ** state.attempts++));
    this.arm('start', retry);
    this.status('waiting', { code, reason, retry });
  }

  finish(code, reason) {
    this.store(false);
    // Nor does a reload take back.
    if (code === 4500) this.do('store', { record: {} });
    this.status('closed', { code, reason });
  }

  /** Without a code the hub keeps the mailbox: the client may come back. */
  drop(code) {
    Object.assign(this.state, { greeted: false, ackAt: 0, heard: -Infinity });
    for (const name of ['start', 'check', 'ack']) this.arm(name);
    this.do('close', { code });
  }

  /** Whether the connection lives. */
  check() {
    const { ping, greeted, timeout } = this.state;
    this.state.heard = Math.min(this.state.heard, this.now); // a clock may be set back
    const left = this.state.heard - this.now + (greeted ? Math.max(ping + LATE, this.hidden ? HIDDEN : 0) : timeout);
    if (left > 0) this.arm('check', left);
    else this.closed({ code: 1006, reason: greeted ? 'the hub was silent' : 'no connection in time' });
  }

  // ---- From the browser.

  /** Or the page is looked at. To reconnect in doubt is cheap. */
  online() {
    const { doubt, heard, ping, greeted } = this.state;
    if (doubt || this.now - heard > (greeted ? ping : FRESH)) this.anew();
    else this.check();
  }

  offline() { this.state.doubt = true; }

  /** The back/forward cache takes no page with a connection. */
  pagehide() {
    this.drop();
    this.store(false);
    this.status('waiting', { reason: 'left' });
  }

  /** `lost`: another page is this client now. */
  pageshow({ lost }) {
    if (lost) this.renew();
    this.store(true, true);
    this.anew();
  }

  anew() {
    this.state.attempts = 0;
    this.start();
  }

  // ---- From the page.

  follow({ name }) { this.want(name, true); }

  unfollow({ name }) { this.want(name, false); }

  /** Asks the hub to follow a feed, or to leave it, when it has answered what was asked before. */
  want(name, wanted) {
    const { feeds, greeted } = this.state;
    const feed = { ...feeds.get(name), wanted };
    feeds.set(name, feed);
    if (feed.asked && greeted) return;
    if (!wanted && !(feed.alias && greeted)) feeds.delete(name);
    else if (greeted && !wanted === !!feed.alias) {
      feeds.set(name, { wanted, alias: feed.alias, asked: true });
      this.send(wanted ? { follow: { [name]: {} } } : { unfollow: [name] });
    }
  }

  say({ data }) {
    const { most } = this.state;
    const kind = {}.toString.call(data); // also of what was made in another frame
    if (!ArrayBuffer.isView(data) && !/ (ArrayBuffer|Blob|File)]/.test(kind)) {
      data = json({ [typeof data === 'string' ? 'text' : 'json']: data ?? null });
      if (data === '{}' || data === '{"json":{}}' && !/ Object]/.test(kind)) throw new TypeError(`${kind} is neither text, bytes nor JSON`);
    }
    const size = data.byteLength ?? data.size ?? new TextEncoder().encode(data).length;
    // It would close the connection for good.
    if (size > most) this.emit('error', { code: 'too-long', reason: `${size} bytes where the hub takes ${most}` });
    else this.do('send', { data });
  }

  close() {
    this.drop(1000);
    this.finish(null, 'closed by the page');
  }

  // ---- From the hub.

  frame({ data }) {
    const { state } = this;
    Object.assign(state, { doubt: false, heard: this.now });
    for (const part of data.split?.('\n').filter(Boolean) ?? [data]) {
      if (!state.greeted) return; // as of a bye
      try {
        if (typeof part === 'string') this.line(JSON.parse(part));
        else this.binary(part);
      } catch (error) {
        this.emit('error', { code: 'malformed', reason: String(error) });
      }
    }
    // A hidden page's timer may be late.
    if (state.ackAt && this.now >= state.ackAt) this.ack();
  }

  /** Its key is the method that takes it. */
  line(object) {
    const [kind] = Object.keys(object);
    if (/^(hello|feed|unfollowed|text|json|gap|removed|ping|error|bye)$/.test(kind)) this[kind](object[kind]);
  }

  hello({ id, key, epoch, resumed, ping, limits }) {
    const { state } = this;
    if (!resumed) this.renew();
    if (epoch !== state.epoch) { // what it has of feeds means nothing there
      for (const [name, { wanted, alias, asked }] of state.feeds) state.feeds.set(name, { wanted, alias, asked });
    }
    Object.assign(state, {
      id: number(id), key, epoch, resumed, since: this.now, ping: 1000 * number(ping), most: limits?.message, limit: limits?.feeds ?? FEEDS,
    });
    this.store(true);
    this.check();
    this.status('open');
    this.emit('feed', { feed: null, how: resumed ? 'resumed' : 'snapshot' });
    this.owe();
    this.more();
  }

  /** Follows what there was no room for in the hello. */
  more() {
    const follow = this.ask();
    if (Object.keys(follow).length) this.send({ follow });
  }

  feed({ name, alias, seq, how }) {
    const { wanted, asked, ...had } = this.state.feeds.get(name) ?? {};
    this.state.feeds.set(name, { wanted, seq: number(seq), ...how === 'resumed' && had, alias: number(alias) });
    if (wanted === false) this.want(name, wanted);
    else this.emit('feed', { feed: name, how });
  }

  unfollowed({ alias }) {
    const [name, feed] = this.find(alias);
    if (!feed || !alias) return;
    const { wanted, asked } = feed;
    // The next connection asks again for what the page wants.
    if (wanted) this.state.feeds.set(name, { ...feed, alias: undefined, asked: undefined });
    else this.state.feeds.delete(name);
    if (!asked) this.emit('feed', { feed: name, how: 'unfollowed' });
    else if (wanted) this.want(name, wanted);
  }

  text([alias, at, data, key]) {
    if (key === undefined) this.move(alias, { seq: number(at) }, 'message', { seq: at, data });
    else this.move(alias, { set: number(at) }, 'value', { key, data });
  }

  json(body) { this.text(body); }

  removed([alias, at, key]) { this.move(alias, { set: number(at) }, 'removed', { key }); }

  gap({ alias, from, to, why }) { this.move(alias, { seq: number(to) }, 'gap', { from, to, why }); }

  /** A pong is an ack, too. */
  ping(pong) {
    this.state.acked = this.state.feeds.get(null).seq ?? 0;
    this.send({ pong });
  }

  error({ code, feed, reason }) {
    this.emit('error', { code, feed, reason });
    const { feeds } = this.state;
    // Without a name a line was refused whole.
    const whole = code === 'full' && feed == null;
    for (const [name, { asked, ...rest }] of feeds) {
      if (!asked || name !== feed && !whole) continue;
      feeds.set(name, rest);
      if (rest.wanted === false) this.want(name, false);
    }
    if (whole) this.more();
  }

  bye(bye) {
    number(bye.code);
    this.emit('bye', bye);
    this.closed(bye);
  }

  binary(data) {
    const view = new DataView(data);
    const kind = view.getUint8(0);
    if (kind !== 1 && kind !== 2) return;
    const length = view.getUint16(13);
    const key = new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array(data, 15, length));
    this.text([view.getUint32(1), Number(view.getBigUint64(5)), data.slice(15 + length), kind === 2 ? key : undefined]);
  }

  /** From here on it is a new client. */
  renew() {
    this.state.feeds.set(null, { alias: 0 });
    Object.assign(this.state, { id: undefined, key: undefined, acked: 0 });
  }

  /** Nothing for a feed that was left. */
  find(alias) {
    number(alias);
    for (const entry of this.state.feeds) if (entry[1].alias === alias) return entry;
    return [];
  }

  move(alias, to, event, detail) {
    const [name, feed] = this.find(alias);
    // Not twice, and nothing after the page has left.
    if (!feed || feed.asked || to.seq <= feed.seq || to.set <= feed.set) return;
    this.state.feeds.set(name, { ...feed, ...to });
    this.emit(event, { feed: name, ...detail });
    this.owe();
  }

  owe() {
    const { state } = this;
    if (state.ackAt || !(state.feeds.get(null).seq > state.acked)) return;
    state.ackAt = this.now + ACK;
    this.arm('ack', ACK);
  }

  /** Without `set`: after a reload the page needs the values again. */
  ack() {
    const { seq } = this.state.feeds.get(null);
    Object.assign(this.state, { ackAt: 0, acked: seq });
    this.arm('ack');
    this.send({ ack: { seq } });
  }

  do(type, rest) { this.effects.push({ type, ...rest }); }

  send(object) { this.do('send', { data: json(object) }); }

  /** Has the input `name` come later, or never. */
  arm(name, after) { this.do('timer', { name, after }); }

  store(live, claim) {
    const { id, key, epoch, acked } = this.state;
    this.do('store', { record: { live, id, key, epoch, seq: acked || undefined }, claim });
  }

  emit(event, detail) { this.do('emit', { event, detail }); }

  /** Whether the run has: then attempts are not told. */
  get ended() { return /^f/.test(this.state.state); }

  status(name, rest) {
    if (this.ended && /g$/.test(name)) return;
    const { id = null, resumed, epoch = null } = this.state;
    this.state.state = name;
    this.state.status = { state: name, id, resumed, epoch, retry: null, code: null, reason: '', ...rest };
    this.emit('status', this.state.status);
  }
}

/** Half a surrogate pair becomes U+FFFD, as where a WebSocket sends it. */
function json(value) {
  return JSON.stringify(value).replace(/\\(ud...|.)/g, (escape, { length }) => length > 1 ? '\ufffd' : escape);
}

function number(value) {
  if (!Number.isSafeInteger(value)) throw new TypeError(`${value} is no number below 2^53`);
  return value;
}

class Connection extends EventTarget {
  #state; #socket; #url; #options;
  #timers = {};
  #events = []; // that listeners are not told yet
  #telling = false;
  #feeds = new Map();
  #tab = String(Math.random());

  constructor(url, options) {
    super();
    const { feeds } = this.#options = {
      feeds: [''], origins: [], WebSocket: globalThis.WebSocket, clock, random: Math.random, ...options,
    };
    this.#url = url;
    for (const name of feeds) this.#feed(name).handles = 1;
    const closing = new AbortController(), { signal } = closing;
    this.on('status', ({ state }) => { if (state === 'closed') closing.abort(); });
    // A duplicated tab has a live copy; a crash leaves a live one.
    const record = this.#record();
    this.#state = initial(feeds, record?.live ? null : record, options);
    this.id = this.#living();
    this.id.catch(() => {}); // nobody has to wait for it
    this.#dispatch({ type: 'pageshow' });

    const page = globalThis.document;
    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal });
    const probe = () => page?.hidden || this.#dispatch({ type: 'online' });
    for (const type of ['offline', 'online', 'pagehide']) listen(globalThis, type, () => this.#dispatch({ type }));
    listen(page, 'visibilitychange', probe);
    listen(globalThis, 'pageshow', ({ type, persisted }) => {
      if (!persisted) return probe();
      const record = this.#record();
      this.#dispatch({ type, lost: record?.live && record.tab !== this.#tab });
    });
  }

  get client() { return this.#state.id ?? null; }

  get state() { return this.#state.state; }

  get status() { return this.#state.status; }

  on(type, fn, options) {
    const listener = (event) => fn(event.detail);
    this.addEventListener(type, listener, options);
    return () => this.removeEventListener(type, listener);
  }

  feed(name) {
    const feed = this.#feed(name);
    if (!feed.handles++) this.#dispatch({ type: 'follow', name });
    const closing = new AbortController(), { signal } = closing;
    return {
      name,
      values: feed.values,
      on: (type, fn) => this.on(type, (detail) => { if (detail.feed === name) fn(detail); }, { signal }),
      close: () => {
        if (signal.aborted) return;
        closing.abort();
        if (--feed.handles) return;
        this.#feeds.delete(name);
        this.#dispatch({ type: 'unfollow', name });
      },
    };
  }

  send(data) {
    return this.state === 'open' && this.#socket.readyState === 1
      && this.#dispatch({ type: 'say', data }).some(({ type }) => type === 'send');
  }

  close() {
    this.#events = [];
    this.#dispatch({ type: 'close' });
  }

  async fetch(input, init) {
    const request = new Request(input, init);
    const origins = [this.#url.origin.replace('ws', 'http'), globalThis.location?.origin, ...this.#options.origins];
    if (origins.includes(new URL(request.url).origin)) {
      request.headers.set('Stepcast-Client', `${await this.#living(request.signal)}`);
    }
    return fetch(request);
  }

  /** The id, as soon as there is a connection. */
  #living(signal) {
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const look = () => {
        const { state, id, code, reason } = this.status;
        if (signal?.aborted) reject(signal.reason);
        else if (state === 'open') resolve(id);
        else if (state === 'closed') reject(new Error(`closed: ${code} ${reason}`));
        else return;
        done.abort();
      };
      signal?.addEventListener('abort', look, done);
      this.on('status', look, done);
      look();
    });
  }

  #feed(name) {
    if (!this.#feeds.has(name)) this.#feeds.set(name, { handles: 0, values: new Map() });
    return this.#feeds.get(name);
  }

  #dispatch(input) {
    const { clock, random } = this.#options;
    const [state, effects] = reduce(this.#state, {
      now: clock.now(), random: random(), hidden: globalThis.document?.hidden, ...input,
    });
    this.#state = state;
    for (const effect of effects) this.#do(effect);
    if (!this.#telling) { // a listener may call this again
      this.#telling = true;
      while (this.#events.length) this.#tell(this.#events.shift());
      this.#telling = false;
    }
    return effects;
  }

  #do(effect) {
    const { clock } = this.#options;
    switch (effect.type) {
      case 'open': return this.#open();
      case 'send': return this.#socket.send(effect.data);
      case 'close': return this.#drop(effect.code);
      case 'emit': return this.#events.push(effect);
      case 'store':
        // Another connection of this page may have it now.
        if (effect.claim || this.#record()?.tab === this.#tab) this.#record(effect.record);
        return;
      case 'timer': {
        const { name: type, after } = effect;
        clock.clearTimeout(this.#timers[type]);
        if (after >= 0) this.#timers[type] = clock.setTimeout(() => this.#dispatch({ type }), Math.min(after, LONGEST_TIMER));
      }
    }
  }

  #open() {
    try {
      this.#socket = new this.#options.WebSocket(this.#url, 'stepcast.v1');
    } catch (error) { // a policy of the page or of the browser
      return this.#dispatch({ type: 'closed', code: 1006, reason: String(error) });
    }
    const socket = this.#socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#dispatch({ type: 'opened' });
    socket.onmessage = ({ data }) => this.#dispatch({ type: 'frame', data });
    socket.onclose = ({ code, reason }) => this.#dispatch({ type: 'closed', code, reason });
    // In Node 20 no `close` follows.
    socket.onerror = () => socket.readyState || socket.onclose?.({ code: 1006, reason: '' });
  }

  /** Without waiting for `close`, which may take minutes. */
  #drop(code) {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = socket.onopen = socket.onmessage = socket.onclose = null;
    try { socket.close(code); } catch { /* gone is gone */ }
  }

  #tell({ event, detail }) {
    const { feed, how, key, data } = detail;
    if (event === 'value') this.#feed(feed).values.set(key, data);
    if (event === 'removed' && !this.#feed(feed).values.delete(key)) return;
    if (how === 'snapshot') this.#feed(feed).values.clear();
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  /** Reads who this tab is, or writes it. `live`: a page is it. */
  #record(record) {
    try {
      const { storage = sessionStorage } = this.#options;
      const slot = `stepcast ${this.#url.origin}${this.#url.pathname}`;
      if (record) storage.setItem(slot, JSON.stringify({ ...record, tab: this.#tab }));
      return JSON.parse(storage.getItem(slot));
    } catch { /* none, forbidden, full: a new client after a reload */ }
  }
}

const clock = {
  now: Date.now, // `performance.now()` may stop while the machine sleeps
  setTimeout: setTimeout.bind(globalThis),
  clearTimeout: clearTimeout.bind(globalThis),
};

/**
 * @param {string | URL} [url]
 * @param {Options} [options]
 * @returns {Hub}
 */
export function connect(url = new URL('./', import.meta.url), options) {
  const address = new URL(url, globalThis.document?.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  return /** @type {any} */ (new Connection(address, options));
}
