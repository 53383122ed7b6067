// The browser's end of the wire `stepcast.v1` (docs/protocol.md). `reduce` decides, apart from
// sockets, timers and storage; `Connection` does what it says.

/** @import { Effect, Hub, Input, Options, State, Stored } from './stepcast.d.ts' */

// Milliseconds.
const FIRST_WAIT = 500, LONGEST_WAIT = 20_000; // bounds of the wait before an attempt
const LATE = 10_000; // that a ping may be
const HIDDEN = 70_000; // a hidden page's timers run about once a minute
const ACK = 1000;

/**
 * A client before it connects: new, or the one of `record`, whose page is gone with all that it
 * showed. So feeds and latest values are asked for anew; but not what had been acknowledged of the
 * mailbox, which the hub does not keep.
 *
 * @param {Iterable<string>} [feeds]
 * @param {Stored | null} [record]
 * @returns {State}
 */
export function initial(feeds = [''], record) {
  const { id, key, epoch, seq } = record ?? {};
  /** @type {State} */
  const state = {
    state: 'waiting', id, key, epoch, resumed: null,
    feeds: new Map([[null, { alias: 0, seq }]]), // by name; the mailbox has none
    names: new Map([[0, null]]), // by alias
    acked: seq ?? 0, ackAt: 0,
    greeted: false, // whether this connection has our hello
    heard: 0, doubt: false, // when something came last, and whether the network has gone since
    since: 0, attempts: 0, ping: 25_000,
  };
  for (const name of feeds) state.feeds.set(name, { wanted: true }); // not by the program alone
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
  effects = [];

  constructor(state, { now, random, hidden }) {
    this.state = { ...state, feeds: new Map(state.feeds), names: new Map(state.names) };
    this.now = now;
    this.random = random;
    this.hidden = hidden;
  }

  // ---- The connection.

  start() {
    this.drop();
    Object.assign(this.state, { doubt: false, heard: this.now });
    this.do('open');
    this.check();
    this.status('connecting');
  }

  opened() {
    const { id, key, epoch, feeds } = this.state;
    this.state.heard = this.now;
    this.state.greeted = true;
    const wanted = [];
    for (const [name, { alias, ...feed }] of feeds) {
      if (name === null) continue;
      feeds.set(name, feed);
      wanted.push([name, had(feed)]);
    }
    // A feed may be called "__proto__": no assignment.
    this.send({ hello: { id, key, epoch, mail: id && had(feeds.get(null)), feeds: Object.fromEntries(wanted) } });
  }

  closed({ code, reason, retry = 0 }) {
    const { state } = this;
    // What did not last is one more failed attempt.
    if (state.state === 'open' && this.now - state.since >= LONGEST_WAIT) state.attempts = 0;
    if (/^(1000|100[89]|4[5-9]..)$/.test(code)) return this.finish(code, reason);
    this.drop();
    if (!(retry > 0)) retry = Math.round(this.random * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** state.attempts++));
    this.arm('start', retry);
    this.status('waiting', { code, reason, retry });
  }

  finish(code, reason) {
    // Without a code, the hub keeps the mailbox of who may come back.
    this.drop(code ? undefined : 1000);
    // Who was taken over never takes back, nor after a reload.
    this.store(code === 4500 ? null : false);
    this.status('closed', { code, reason });
  }

  drop(code) {
    Object.assign(this.state, { greeted: false, ackAt: 0 });
    for (const name of ['start', 'check', 'ack']) this.arm(name);
    this.do('close', { code });
  }

  /** Whether the connection lives. */
  check() {
    const left = this.state.heard + Math.max(this.state.ping + LATE, this.hidden ? HIDDEN : 0) - this.now;
    if (left > 0) this.arm('check', left);
    else this.closed({ code: 1006, reason: 'the hub was silent' });
  }

  // ---- What the browser tells.

  /** Or the page is looked at. In doubt it reconnects: to resume is cheap. */
  online() {
    const { state, doubt, heard, ping } = this.state;
    if (state === 'waiting' || doubt || this.now - heard > ping) this.start();
    else this.check();
  }

  offline() { this.state.doubt = true; }

  /** The page is left, maybe into the back/forward cache, where no connection may stay. */
  pagehide() {
    this.drop();
    this.store(false);
    this.status('waiting', { reason: 'left' });
  }

  /** `lost`: another page is this client now. */
  pageshow({ lost }) {
    if (lost) this.renew();
    this.store(true, true);
    this.start();
  }

  // ---- What the page asks for.

  follow({ name }) {
    const { feeds, greeted } = this.state;
    const feed = feeds.get(name);
    feeds.set(name, { ...feed, wanted: true });
    if (!feed && greeted) this.send({ follow: { [name]: {} } });
  }

  unfollow({ name }) {
    if (this.state.feeds.delete(name) && this.state.greeted) this.send({ unfollow: [name] });
  }

  say({ data }) {
    const { most } = this.state;
    if (typeof data === 'string') data = JSON.stringify({ text: data });
    else if (!(data instanceof ArrayBuffer || ArrayBuffer.isView(data))) data = JSON.stringify({ json: data ?? null });
    const size = data.byteLength ?? new TextEncoder().encode(data).length;
    // More would close the connection for good.
    if (size > most) this.error('too-long', `${size} bytes where the hub takes ${most}`);
    else this.do('send', { data });
  }

  close() { this.finish(null, 'closed by the page'); }

  // ---- What the hub says.

  frame({ data }) {
    const { state, now } = this;
    state.heard = now;
    state.doubt = false;
    for (const part of typeof data === 'string' ? data.split('\n').filter(Boolean) : [data]) {
      if (!state.greeted) return; // as of a bye
      try {
        if (typeof part === 'string') this.line(JSON.parse(part));
        else this.binary(part);
      } catch (error) {
        this.error('malformed', String(error));
      }
    }
    // The timer of a hidden page may be late.
    if (state.ackAt && now >= state.ackAt) this.ack();
  }

  line(object) {
    const [kind] = Object.keys(object);
    const body = object[kind];
    switch (kind) {
      case 'hello': return this.hello(body);
      case 'feed': return this.feed(body);
      case 'unfollowed': return this.unfollowed(body);
      case 'text': case 'json': return this.message(body[0], body[1], body[3], body[2]);
      case 'gap': return this.gap(body);
      case 'ping': return this.send({ pong: body });
      case 'error': return this.error(body.code, body.reason, body.feed);
      case 'bye':
        number(body.code);
        this.emit('bye', body);
        return this.closed(body);
    }
  }

  hello({ id, key, epoch, resumed, ping, limits }) {
    const { state } = this;
    if (!resumed) this.renew();
    if (epoch !== state.epoch) { // what it has of feeds means nothing there
      for (const [name, { wanted, alias }] of state.feeds) state.feeds.set(name, { wanted, alias });
    }
    Object.assign(state, {
      id: number(id), key, epoch, resumed, since: this.now, ping: 1000 * number(ping), most: limits?.message,
    });
    this.store(true);
    this.check();
    this.status('open');
    this.emit('feed', { feed: null, how: resumed ? 'resumed' : 'snapshot' });
    this.owe();
  }

  feed({ name, alias, seq, how }) {
    const { feeds, names } = this.state;
    const { wanted, set } = feeds.get(name) ?? {};
    names.set(number(alias), name);
    feeds.set(name, { wanted, alias, seq: number(seq), set: how === 'resumed' ? set : undefined });
    this.emit('feed', { feed: name, how });
  }

  unfollowed({ alias }) {
    const { name, feed } = this.find(alias);
    if (alias) this.state.names.delete(alias);
    if (!feed || !alias) return;
    // What the page still wants is asked for again with the next connection.
    if (feed.wanted) this.state.feeds.set(name, { ...feed, alias: undefined });
    else this.state.feeds.delete(name);
    this.emit('feed', { feed: name, how: 'unfollowed' });
  }

  message(alias, at, key, data) {
    if (key === undefined) this.move(alias, { seq: number(at) }, 'message', { seq: at, data });
    else this.move(alias, { set: number(at) }, 'value', { key, data });
  }

  gap({ alias, from, to, why }) { this.move(alias, { seq: number(to) }, 'gap', { from, to, why }); }

  binary(data) {
    const view = new DataView(data);
    const kind = view.getUint8(0);
    if (kind !== 1 && kind !== 2) return;
    const at = view.getUint32(5) * 2 ** 32 + view.getUint32(9);
    const length = view.getUint16(13);
    const key = new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array(data, 15, length));
    this.message(view.getUint32(1), at, kind === 2 ? key : undefined, data.slice(15 + length));
  }

  // ---- Where this client stands.

  /** From here on a new client, whose mailbox is empty. */
  renew() {
    this.state.feeds.set(null, { alias: 0 });
    Object.assign(this.state, { id: undefined, key: undefined, acked: 0 });
  }

  /** Not by the alias alone: some of a feed that was left may still be under way. */
  find(alias) {
    const name = this.state.names.get(number(alias));
    const feed = this.state.feeds.get(name);
    return feed?.alias === alias ? { name, feed } : {};
  }

  move(alias, to, event, detail) {
    const { name, feed } = this.find(alias);
    if (!feed) return;
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

  /** Without `set`, as a reload needs the values, and what is acknowledged need not be kept. */
  ack() {
    const { seq } = this.state.feeds.get(null);
    Object.assign(this.state, { ackAt: 0, acked: seq });
    this.arm('ack');
    this.send({ ack: { seq } });
  }

  do(type, rest) { this.effects.push({ type, ...rest }); }

  send(object) { this.do('send', { data: JSON.stringify(object) }); }

  /** Has the input `name` come later, or never. */
  arm(name, after) { this.do('timer', { name, after }); }

  store(live, claim) {
    const { id, key, epoch, acked } = this.state;
    this.do('store', { record: live === null ? {} : { live, id, key, epoch, seq: acked || undefined }, claim });
  }

  emit(event, detail) { this.do('emit', { event, detail }); }

  error(code, reason, feed) { this.emit('error', { code, feed, reason }); }

  status(name, rest) {
    const { id = null, resumed, epoch = null } = this.state;
    this.state.state = name;
    this.emit('status', { state: name, id, resumed, epoch, retry: null, code: null, reason: '', ...rest });
  }
}

const had = ({ seq, set }) => ({ seq, set }); // JSON leaves out what is undefined

function number(value) {
  if (!Number.isSafeInteger(value)) throw new TypeError(`${value} is no number below 2^53`);
  return value;
}

class Connection extends EventTarget {
  #state; #socket; #url; #slot; #options; #origins; #known; #unknown;
  #timers = {};
  #events = []; // that listeners are not told yet
  #telling = false;
  #values = new Map();
  #handles = new Map(); // how many each feed has
  #tab = String(Math.random());
  #listening = new AbortController();

  constructor(url, options) {
    super();
    const { feeds, origins } = this.#options = {
      feeds: [''], origins: [], WebSocket: globalThis.WebSocket, clock, random: Math.random, ...options,
    };
    this.#url = url;
    this.#slot = `stepcast ${url.origin}${url.pathname}`;
    this.#origins = [url.origin.replace('ws', 'http'), globalThis.location?.origin, ...origins];
    this.id = new Promise((known, unknown) => { this.#known = known; this.#unknown = unknown; });
    this.id.catch(() => {}); // nobody has to wait for it
    for (const name of feeds) this.#handles.set(name, 1);

    // One in use is that of the tab that this is a copy of, or was left by a crash.
    const record = this.#read();
    this.#state = initial(feeds, record?.live ? null : record);
    this.#dispatch({ type: 'pageshow' });

    const { signal } = this.#listening, page = globalThis.document;
    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal });
    const plain = ({ type }) => this.#dispatch({ type });
    const probe = () => page?.hidden || this.#dispatch({ type: 'online' });
    listen(globalThis, 'offline', plain);
    listen(globalThis, 'online', plain);
    listen(globalThis, 'pagehide', plain);
    listen(page, 'visibilitychange', probe);
    listen(globalThis, 'pageshow', ({ type, persisted }) => {
      if (!persisted) return probe();
      const record = this.#read();
      this.#dispatch({ type, lost: record?.live && record.tab !== this.#tab });
    });
  }

  get client() { return this.#state.id ?? null; }

  get state() { return this.#state.state; }

  on(type, fn) {
    const listener = (event) => fn(event.detail);
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  feed(name) {
    const count = this.#handles.get(name) ?? 0;
    this.#handles.set(name, count + 1);
    if (!count) this.#dispatch({ type: 'follow', name });
    let open = true;
    const offs = [];
    return {
      name,
      values: this.#picture(name),
      on: (type, fn) => {
        const off = this.on(type, (detail) => { if (open && detail.feed === name) fn(detail); });
        offs.push(off);
        return off;
      },
      close: () => {
        if (!open) return;
        open = false;
        for (const off of offs) off();
        const count = this.#handles.get(name) - 1;
        this.#handles.set(name, count);
        if (count) return;
        this.#values.delete(name);
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
    if (this.#origins.includes(new URL(request.url).origin)) {
      await this.id;
      request.headers.set('Stepcast-Client', `${this.client}`);
    }
    return fetch(request);
  }

  #picture(name) {
    if (!this.#values.has(name)) this.#values.set(name, new Map());
    return this.#values.get(name);
  }

  #dispatch(input) {
    const { clock, random } = this.#options;
    const [state, effects] = reduce(this.#state, {
      now: clock.now(), random: random(), hidden: globalThis.document?.hidden, ...input,
    });
    this.#state = state;
    for (const effect of effects) this.#do(effect);
    // A listener may call this again.
    if (this.#telling) return effects;
    this.#telling = true;
    while (this.#events.length) this.#tell(this.#events.shift());
    this.#telling = false;
    return effects;
  }

  #do(effect) {
    const { clock } = this.#options;
    switch (effect.type) {
      case 'open': return this.#open();
      case 'send': return this.#socket.send(effect.data);
      case 'close': return this.#drop(effect.code);
      case 'store': return this.#store(effect);
      case 'emit': return this.#events.push(effect);
      case 'timer': {
        const { name: type, after } = effect;
        clock.clearTimeout(this.#timers[type]);
        if (after >= 0) this.#timers[type] = clock.setTimeout(() => this.#dispatch({ type }), after);
      }
    }
  }

  #open() {
    const socket = this.#socket = new this.#options.WebSocket(this.#url, 'stepcast.v1');
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#dispatch({ type: 'opened' });
    socket.onmessage = ({ data }) => this.#dispatch({ type: 'frame', data });
    socket.onclose = ({ code, reason }) => this.#dispatch({ type: 'closed', code, reason });
    // In Node 20 no `close` follows.
    socket.onerror = () => socket.readyState || socket.onclose?.({ code: 1006, reason: '' });
  }

  /** Does not wait for `close`: without a network it may be minutes away. */
  #drop(code) {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #tell({ event, detail }) {
    const { feed, how, state } = detail;
    if (event === 'value') this.#picture(feed).set(detail.key, detail.data);
    if (how === 'snapshot') this.#values.get(feed)?.clear();
    if (state === 'open') this.#known(detail.id);
    if (state === 'closed') {
      this.#listening.abort();
      this.#unknown(new Error(`closed: ${detail.code} ${detail.reason}`));
    }
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  // ---- Who this tab is, in its `sessionStorage`, which a duplicated tab gets a copy of. `live`
  // while in use: leaving the page, as a reload does, frees it.

  #read() {
    try {
      const { storage = sessionStorage } = this.#options;
      return JSON.parse(storage.getItem(this.#slot));
    } catch { /* none, or forbidden */ }
  }

  #store({ record, claim }) {
    const tab = this.#tab;
    // Another connection of this page may have it by now.
    if (!claim && this.#read()?.tab !== tab) return;
    try {
      const { storage = sessionStorage } = this.#options;
      storage.setItem(this.#slot, JSON.stringify({ ...record, tab }));
    } catch { /* or full: a new client after a reload */ }
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
