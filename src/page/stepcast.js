// The browser's end of the wire `stepcast.v1` (docs/protocol.md), with its types in stepcast.d.ts.
// `reduce` decides, apart from sockets, timers and storage; `Connection` does it.

const FEED = /\/feed\/(.*[^/])$/; // in an address
const DISPOSE = Symbol.dispose ?? Symbol('dispose');

/** A client before it connects. After a reload it needs all again but the acknowledged mailbox. */
export function initial(feeds = [''], record, { timeout = 5000, minRetry = 500, maxRetry = 20_000 } = {}) {
  const { id, key, epoch, seq } = record ?? {};
  /** @type {any} */
  const state = {
    id, key, epoch, resumed: null, status: { state: 'waiting', id: null, resumed: null, epoch: null, retry: null, code: null, reason: '' },
    feeds: new Map([[null, { alias: 0, seq }]]), // by name; the mailbox has none
    acked: seq ?? 0, ackAt: 0,
    greeted: false, // whether this connection has our hello
    heard: Infinity, doubt: false, // when something came, whether the network has gone since
    // Since when it is open, or has asked to be; when the hub's times begin, by this machine's clock.
    since: 0, zero: 0, attempts: 0, timeout, minRetry, maxRetry, ping: 25_000, limit: 64,
    queue: [], free: 0, rate: Infinity, // what waits, until when the rate is used, lines a second
  };
  for (const name of feeds) state.feeds.set(name, { wanted: true });
  return state;
}

export function reduce(state, input) {
  if (state.status.state === 'closed') return [state, []]; // for good
  const turn = new Turn(state, input);
  turn[input.type](input);
  return [turn.state, turn.effects];
}

/** One input: its type is the method that takes it. */
class Turn {
  effects = []; state; feeds; now; random; hidden;

  constructor(state, input) {
    this.feeds = new Map(state.feeds);
    Object.assign(this, input, { state: { ...state, feeds: this.feeds } });
  }

  start() {
    this.drop();
    Object.assign(this.state, { doubt: false, heard: this.now });
    this.status('connecting');
    this.check();
    this.do('open'); // last: it may fail at once
  }

  opened() {
    const { feeds, state: { id, key, epoch } } = this;
    Object.assign(this.state, { greeted: true, heard: this.now, since: this.now });
    for (const [name, { alias, asked, ...feed }] of feeds) {
      if (feed.wanted === false) feeds.delete(name);
      else if (alias || asked) feeds.set(name, feed);
    }
    const { seq, set } = feeds.get(null);
    this.send({ hello: { id, key, epoch, mail: id && { seq, set }, feeds: this.ask() } });
  }

  ask() {
    const { feeds, state: { limit, most } } = this;
    const idle = [...feeds].filter(([, { alias, asked }]) => alias === undefined && !asked);
    const room = Math.max(0, limit - feeds.size + 1 + idle.length);
    for (const [feed] of idle.splice(room)) if (most) this.emit('error', { code: 'full', feed, reason: `more than ${limit} feeds` });
    this.spend(idle.length);
    for (const [name, feed] of idle) feeds.set(name, { ...feed, asked: true });
    return Object.fromEntries(idle.map(([name, { epoch, seq, set }]) => [name, { epoch, seq, set }]));
  }

  closed({ code, reason, retry = 0 }) {
    const { state } = this, { greeted, minRetry, maxRetry } = state;
    if (state.status.state === 'open' && this.now - state.since >= maxRetry) state.attempts = 0;
    this.drop();
    if (this.ended) return;
    if (code === 4503 || code === 4504) return this.status(code > 4503 ? 'failed' : 'finished', { code, reason });
    // Anything on the way may end a connection, or refuse who was let in before.
    if (/^4[5-9]..$/.test(code) || /^40[34]$/.test(code) && !state.id) return this.finish(code, reason);
    if (!greeted && !state.attempts) this.do('ask');
    if (!(retry > 0)) retry = Math.round(this.random * Math.min(maxRetry, minRetry * 2 ** state.attempts++));
    this.arm('start', retry);
    this.status('waiting', { code, reason, retry });
  }

  finish(code, reason) {
    this.store(false);
    if (code === 4500) this.do('store', { record: {} }); // nor does a reload take back
    this.status('closed', { code, reason });
  }

  /** Without a code the hub keeps the mailbox: the client may come back. */
  drop(code) {
    Object.assign(this.state, { greeted: false, ackAt: 0, heard: -Infinity, queue: [] });
    for (const name of ['start', 'check', 'ack', 'flow']) this.arm(name);
    this.do('close', { code });
  }

  check() {
    const { state } = this;
    // A ping may be 10 s late, and a hidden page has its timers once a minute.
    const left = state.heard - this.now + (state.greeted ? Math.max(state.ping + 10_000, this.hidden ? 70_000 : 0) : state.timeout);
    if (left > 0) this.arm('check', left);
    else this.closed({ code: 1006, reason: 'the hub was silent' });
  }

  /** Or the page is looked at. */
  online() {
    const { state } = this;
    if (state.heard === Infinity) return;
    if (state.doubt || this.now - state.heard > (state.greeted ? state.ping : 1000)) this.pageshow({ lost: false });
    else this.check();
  }

  offline() { this.state.doubt = true; }

  pagehide() {
    this.drop();
    this.state.heard = Infinity;
    this.store(false);
    this.status('waiting', { reason: 'left' });
  }

  /** `lost`: another page is this client now. */
  pageshow({ lost }) {
    if (lost) this.renew();
    this.store(true);
    this.state.attempts = 0;
    this.start();
  }

  /** One question about a feed at a time: what comes of it is looked at when the hub has answered. */
  want({ name, wanted }) {
    const { feeds, state: { greeted } } = this, feed = feeds.get(name);
    feeds.set(name, { ...feed, wanted });
    if (!greeted) return wanted || feeds.delete(name);
    if (feed?.asked) return;
    if (!wanted && !feed?.alias) feeds.delete(name);
    else if (!wanted || !feed?.alias) {
      feeds.set(name, { wanted, alias: feed?.alias, asked: true });
      this.send(wanted ? { follow: { [name]: {} } } : { unfollow: [name] });
    }
  }

  say({ data, feed }) {
    const { state } = this, kind = {}.toString.call(data), to = this.feeds.get(feed)?.alias;
    if (feed !== undefined && !to) return;
    const head = Uint8Array.of(1, to >>> 24, to >>> 16, to >>> 8, to);
    if (/ (Blob|File)]/.test(kind)) data = new Blob([head, data]);
    else if (ArrayBuffer.isView(data) || / ArrayBuffer]/.test(kind)) {
      const { buffer = data, byteOffset, byteLength } = data, bytes = new Uint8Array(5 + byteLength);
      bytes.set(head);
      bytes.set(new Uint8Array(buffer, byteOffset, byteLength), 5);
      data = bytes;
    } else {
      const said = json(data ?? null);
      if (!said || said === '{}' && !/ Object]/.test(kind)) throw new TypeError(`${kind} cannot be sent`);
      data = `{"${typeof data === 'string' ? 'text' : 'json'}":${said}${to ? `,"to":${to}` : ''}}`;
    }
    const { size } = new Blob([data]);
    if (size > state.most) this.emit('error', { code: 'too-long', reason: `${size} bytes, ${state.most} at most` });
    else if (state.free < this.now + 5000) { // until then it waits at most
      this.spend(1 + size / Math.max(4096, state.most / 16));
      state.queue = [...state.queue, { data, at: state.free }];
      this.flow();
    }
  }

  /** Sends what is due: half a second's worth at once, of two that the hub lets through. */
  flow() {
    for (const { data, at } of this.state.queue) {
      const wait = at - this.now - 500;
      if (wait > 0) return this.arm('flow', wait);
      this.state.queue = this.state.queue.slice(1);
      this.do('send', { data });
    }
  }

  spend(lines) { this.state.free = Math.max(this.state.free, this.now) + 1000 * lines / this.state.rate; }

  close() {
    this.drop(1000);
    this.finish(null, 'closed by the page');
  }

  frame({ data }) {
    const { state } = this;
    Object.assign(state, { doubt: false, heard: this.now });
    for (const part of data.split?.('\n').filter(Boolean) ?? [data]) {
      if (!state.greeted) return;
      try {
        if (typeof part !== 'string') this.binary(part);
        // A line's key is, after a `$`, the method that takes it.
        else for (const [kind, body] of Object.entries(JSON.parse(part))) this[`$${kind}`]?.(body);
      } catch (error) {
        this.emit('error', { code: 'malformed', reason: String(error) });
      }
    }
    if (state.ackAt && this.now >= state.ackAt) this.ack();
  }

  $hello({ id, key, epoch, resumed, now, ping, limits }) {
    const { state, feeds } = this;
    if (!resumed) this.renew();
    if (epoch !== state.epoch) { // that program has not said what it has this client follow
      for (const [name, { wanted, alias }] of feeds) {
        if (wanted !== undefined || alias === 0) continue;
        this.emit('feed', { feed: name, how: 'unfollowed' });
        this.want({ name, wanted: false });
      }
    }
    Object.assign(state, {
      id: number(id), key, epoch, resumed, since: this.now, zero: Math.round((state.since + this.now) / 2) - number(now), ping: 1000 * number(ping), most: limits.message, limit: limits.feeds, rate: limits.rate,
    });
    this.store(true);
    this.check();
    this.status('open');
    this.emit('feed', { feed: null, how: resumed ? 'resumed' : 'snapshot' });
    this.owe();
    this.more();
  }

  more() {
    const follow = this.ask();
    if (Object.keys(follow).length) this.send({ follow });
  }

  $feed({ name, alias, epoch, seq, how }) {
    const { wanted, asked, ...had } = this.feeds.get(name) ?? {};
    this.feeds.set(name, { wanted, seq: number(seq), ...how === 'resumed' && had, alias: number(alias), epoch });
    if (wanted === false) this.want({ name, wanted });
    else this.emit('feed', { feed: name, how });
  }

  $unfollowed({ alias }) {
    const [name, feed] = this.find(alias);
    if (!feed?.alias) return;
    const { wanted, asked, ...had } = feed;
    // The next connection asks again for what the page wants.
    if (wanted) this.feeds.set(name, { ...had, wanted, alias: undefined });
    else this.feeds.delete(name);
    if (!asked) this.emit('feed', { feed: name, how: 'unfollowed' });
    else if (wanted) this.want({ name, wanted });
  }

  $text([alias, seq, at, data, key]) {
    const time = this.state.zero + number(at);
    if (key === undefined) this.move(alias, 'seq', seq, 'message', { seq, time, data });
    else this.move(alias, 'set', seq, 'value', { key, time, data });
  }

  $json(body) { this.$text(body); }

  $removed([alias, set, at, key]) { this.move(alias, 'set', set, 'removed', { key, time: this.state.zero + number(at) }); }

  $ended([alias, set, at]) { this.move(alias, 'set', set, 'ended', { time: this.state.zero + number(at) }); }

  $gap({ alias, from, to, why }) { this.move(alias, 'seq', to, 'gap', { from, to, why }); }

  /** A pong is an ack, too. */
  $ping(pong) {
    this.state.acked = this.feeds.get(null).seq ?? 0;
    this.do('send', { data: json({ pong }) });
  }

  $error({ code, feed, reason }) {
    this.emit('error', { code, feed, reason });
    const whole = code === 'full' && feed === undefined; // of a line
    for (const [name, { asked, ...rest }] of this.feeds) {
      if (!asked || name !== feed && !whole) continue;
      this.feeds.set(name, rest);
      if (rest.wanted === false) this.want({ name, wanted: false });
    }
    if (whole) this.more();
  }

  $bye(bye) {
    number(bye.code);
    this.emit('bye', bye);
    this.closed(bye);
  }

  binary(data) {
    const view = new DataView(data), kind = view.getUint8(0);
    if (kind !== 1 && kind !== 2) return;
    const length = view.getUint16(21), long = (at) => Number(view.getBigUint64(at)), key = new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array(data, 23, length));
    this.$text([view.getUint32(1), long(5), long(13), data.slice(23 + length), kind > 1 ? key : undefined]);
  }

  renew() {
    this.feeds.set(null, { alias: 0 });
    Object.assign(this.state, { id: undefined, key: undefined, acked: 0 });
  }

  find(alias) {
    number(alias);
    for (const entry of this.feeds) if (entry[1].alias === alias) return entry;
    return [];
  }

  /** Nothing twice, and nothing of a feed that was left. */
  move(alias, member, to, event, detail) {
    const [name, feed] = this.find(alias);
    if (number(to) <= feed?.[member] || !feed || feed.asked) return;
    this.feeds.set(name, { ...feed, [member]: to });
    this.emit(event, { feed: name, ...detail });
    this.owe();
  }

  owe() {
    const { state } = this;
    if (state.ackAt || !(this.feeds.get(null).seq > state.acked)) return;
    state.ackAt = this.now + 1000;
    this.arm('ack', 1000);
  }

  /** Without `set`: after a reload the page needs the values again. */
  ack() {
    const { seq } = this.feeds.get(null);
    Object.assign(this.state, { ackAt: 0, acked: seq });
    this.arm('ack');
    this.send({ ack: { seq } });
  }

  do(type, rest) { this.effects.push({ type, ...rest }); }

  /** A line about a feed counts twice. */
  send(object) {
    this.spend(2);
    this.do('send', { data: json(object) });
  }

  arm(name, after) { this.do('timer', { name, after }); }

  store(live) {
    const { id, key, epoch, acked } = this.state;
    this.do('store', { record: { live, id, key, epoch, seq: acked || undefined } });
  }

  emit(event, detail) { this.do('emit', { event, detail }); }

  /** Whether the run has: then attempts are not told. */
  get ended() { return /^f/.test(this.state.status.state); }

  status(state, rest) {
    if (this.ended && /g$/.test(state)) return;
    const { id = null, resumed, epoch = null } = this.state;
    this.state.status = { state, id, resumed, epoch, retry: null, code: null, reason: '', ...rest };
    this.emit('status', this.state.status);
  }
}

/** Half a surrogate pair becomes U+FFFD, as in `WebSocket.send`. */
function json(value) {
  return JSON.stringify(value)?.replace(/(\\\\)|\\ud.../g, (all, pair) => pair ?? '\ufffd');
}

function number(value) {
  if (!Number.isSafeInteger(value)) throw new TypeError(`no number: ${value}`);
  return value;
}

class Connection extends EventTarget {
  #state; #socket; #url; #options; #slot;
  #timers = {};
  #events = [];
  #listeners = new Map(); // by what takes each off
  #telling;
  #feeds = new Map();
  #claim = new AbortController(); // to be the client
  #claimed; // its id

  constructor(url, options) {
    super();
    const { feeds, name } = this.#options = {
      name: '', origins: [], history: 100, WebSocket: globalThis.WebSocket, random: Math.random, timers: options.clock ?? globalThis, ...options,
    };
    if (!this.#options.WebSocket) throw new TypeError('no WebSocket here: pass one as an option');
    this.#url = url;
    this.#slot = `stepcast ${url.origin}${url.pathname}${name}`;
    while (slots.has(this.#slot)) this.#slot += '+';
    slots.add(this.#slot);
    for (const name of feeds) this.#feed(name).handles = 1;
    this.#state = initial(feeds, this.#record(), options);
    this.id = this.#living();
    this.id.catch(() => {});
    const closing = new AbortController();
    this.on('status', ({ state }) => { if (state === 'closed') closing.abort(); });
    if (options.start !== false) this.#show();

    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, closing);
    const probe = () => globalThis.document?.hidden || this.#dispatch({ type: 'online' });
    for (const type of ['offline', 'online', 'pagehide']) listen(globalThis, type, () => this.#dispatch({ type }));
    listen(globalThis, 'pageshow', ({ persisted }) => { if (persisted) this.#show(); else probe(); });
    listen(globalThis.document, 'visibilitychange', probe);
    listen(globalThis.document, 'securitypolicyviolation', ({ disposition, blockedURI, effectiveDirective }) => {
      if (disposition === 'enforce' && blockedURI.startsWith(url.origin)) {
        this.#dispatch({ type: 'closed', code: 403, reason: `Content-Security-Policy: ${effectiveDirective}` });
      }
    });
  }

  get client() { return this.#state.id ?? null; }

  get status() { return this.#state.status; }

  get state() { return this.status.state; }

  on(type, fn, options, feed, owner) {
    const { once, signal } = options ?? {};
    const listener = (event) => {
      if (feed !== undefined && event.detail.feed !== feed) return;
      if (once) off();
      fn(event.detail);
    };
    const off = () => {
      this.#listeners.delete(off);
      signal?.removeEventListener('abort', off);
      this.removeEventListener(type, listener);
    };
    if (signal?.aborted) return off;
    signal?.addEventListener('abort', off);
    this.#listeners.set(off, { type, fn, owner });
    this.addEventListener(type, listener);
    return off;
  }

  off(type, fn, owner) {
    for (const [off, of] of this.#listeners) {
      if (of.owner === owner && (!type || of.type === type && of.fn === fn)) off();
    }
  }

  feed(name) {
    const hub = this, feed = this.#feed(name);
    if (!feed.handles++) this.#dispatch({ type: 'want', name, wanted: true });
    const closing = new AbortController(), { signal } = closing;
    const close = () => {
      if (signal.aborted) return;
      closing.abort();
      this.off(null, null, handle);
      if (--feed.handles) return;
      this.#feeds.delete(name);
      this.#dispatch({ type: 'want', name, wanted: false });
    };
    const handle = {
      name, values: feed.values, close, [DISPOSE]: close,
      get ended() { return feed.how === 'ended'; },
      subscribe: (fn) => handle.on('change', fn),
      snapshot: () => feed.shot ??= { how: feed.how, values: new Map(feed.values), messages: feed.messages },
      send: (data) => !signal.aborted && this.#say(data, name),
      on: (type, fn, options) => this.on(type, fn, signal.aborted ? { signal } : options, name, handle),
      off: (type, fn) => this.off(type, fn, handle),
      async *[Symbol.asyncIterator]() {
        const waiting = [], done = new AbortController(), look = () => wake?.();
        let wake;
        handle.on('message', (message) => {
          waiting.push(message);
          if (waiting.length > 1000) waiting.shift();
          look();
        }, done);
        handle.on('ended', look, done);
        hub.on('status', look, done);
        signal.addEventListener('abort', look);
        try {
          for (;;) {
            const { state, code, reason } = hub.status;
            if (signal.aborted) return;
            else if (waiting.length) yield waiting.shift();
            else if (handle.ended || state === 'finished' || state === 'closed' && !code) return;
            else if (state === 'failed' || state === 'closed') throw new Error(`${state}: ${code} ${reason}`);
            else await new Promise((resolve) => { wake = resolve; });
          }
        } finally {
          done.abort();
        }
      },
    };
    return handle;
  }

  send(data) { return this.#say(data); }

  #say(data, feed) {
    return this.state === 'open' && this.#socket.readyState === 1
      && this.#dispatch({ type: 'say', data, feed }).some(({ type }) => type !== 'emit');
  }

  disconnect() { this.#dispatch({ type: 'pagehide' }); }

  reconnect() { this.#show(); }

  close() {
    this.#events = [];
    this.#dispatch({ type: 'close' });
  }

  [DISPOSE]() { this.close(); }

  async fetch(input, init) {
    const request = new Request(input, init);
    const origins = [this.#url.origin.replace('ws', 'http'), globalThis.location?.origin, ...this.#options.origins];
    if (origins.includes(new URL(request.url).origin)) {
      request.headers.set('Stepcast-Client', `${await this.#living(request.signal)}`);
    }
    return fetch(request);
  }

  #living(signal) {
    return new Promise((resolve, reject) => {
      const done = new AbortController(), look = () => {
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
    if (!this.#feeds.has(name)) this.#feeds.set(name, { handles: 0, values: new Map(), messages: [], how: null });
    return this.#feeds.get(name);
  }

  #dispatch(input) {
    const { clock, random, debug } = this.#options;
    const [state, effects] = reduce(this.#state, {
      now: clock ? clock.now() : Date.now(), random: random(), hidden: globalThis.document?.hidden, ...input,
    });
    debug?.(input, effects);
    this.#state = state;
    for (const effect of effects) this.#do(effect);
    if (!this.#telling) {
      this.#telling = true;
      while (this.#events.length) this.#tell(this.#events.shift());
      this.#telling = false;
    }
    return effects;
  }

  #do(effect) {
    const { timers } = this.#options;
    switch (effect.type) {
      case 'open': return this.#open();
      case 'ask': return this.#ask();
      case 'send': return this.#socket.send(effect.data);
      case 'close': return this.#drop(effect.code);
      case 'emit': return this.#events.push(effect);
      case 'store': {
        const { live, id } = this.#record(effect.record) ?? {};
        slots[live ? 'add' : 'delete'](this.#slot);
        return live && id === this.#claimed || this.#be(live && id);
      }
      case 'timer': {
        const { name: type, after } = effect;
        timers.clearTimeout(this.#timers[type]);
        // A browser fires a longer one at once.
        if (after >= 0) this.#timers[type] = timers.setTimeout(() => this.#dispatch({ type }), Math.min(after, 0x7fffffff));
      }
    }
  }

  #open() {
    try {
      const socket = this.#socket = new this.#options.WebSocket(this.#url, 'stepcast.v1');
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => this.#dispatch({ type: 'opened' });
      socket.onmessage = ({ data }) => this.#dispatch({ type: 'frame', data });
      socket.onclose = ({ code, reason }) => this.#dispatch({ type: 'closed', code, reason });
      // Node 20 tells of an attempt that fails by an error alone.
      socket.onerror = () => socket.readyState || socket.onclose?.({ code: 1006, reason: '' });
    } catch (error) {
      this.#dispatch({ type: 'closed', code: 1006, reason: String(error) });
    }
  }

  /** Browsers do not say what a WebSocket was answered. */
  async #ask() {
    const url = new URL(this.#url.href.replace('ws', 'http'));
    url.pathname = url.pathname.replace(FEED, '/');
    try {
      let answer = await fetch(url, { cache: 'no-store' });
      // Of a GET within its origin a browser does not say the origin, which a proxy may hide from the hub.
      const ruled = answer.ok ? await fetch(url, { method: 'OPTIONS' }).catch(() => answer) : answer;
      if (ruled.status === 403) answer = ruled;
      const { status: code } = answer, reason = answer.ok ? 'GET is answered, a WebSocket is not' : (await answer.text()).replace(/(<[^>]*>|\s)+/g, ' ').trim();
      if (!this.#state.greeted) this.#dispatch({ type: 'closed', code, reason: `${code}: ${reason.slice(0, 512)}` });
    } catch {} // nobody answers, or not to this page
  }

  /** Without waiting for `close`, which may take minutes. */
  #drop(code) {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = socket.onopen = socket.onmessage = socket.onclose = null;
    try { socket.close(code); } catch {} // gone is gone
  }

  #tell({ event, detail }) {
    const { feed, how, key, data } = detail;
    const { history } = this.#options, own = how === 'snapshot' ? this.#feed(feed) : this.#feeds.get(feed);
    if (event === 'removed' && !own?.values.delete(key)) return;
    if (own) {
      own.shot = null;
      if (how === 'snapshot' || own.how !== 'ended') own.how = how ?? own.how;
      if (how === 'snapshot') {
        own.values.clear();
        own.messages = [];
      }
      if (how === 'unfollowed' && !own.handles) this.#feeds.delete(feed);
      if (event === 'value') own.values.set(key, data);
      if (event === 'ended') own.how = event;
      if (event === 'message') own.messages = [...own.messages, detail].slice(-history || Infinity);
    }
    for (const type of own ? [event, 'change'] : [event]) this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #show() {
    this.#be(this.#state.id, (free) => this.#dispatch({ type: 'pageshow', lost: !free }), this.#record()?.live);
  }

  /** Lives as the client `id`, once no other page does. */
  #be(id, then, asks) {
    this.#claim.abort();
    const { signal } = this.#claim = new AbortController();
    this.#claimed = id;
    const { navigator: { locks } = {}, BroadcastChannel } = globalThis, { timers } = this.#options;
    const tell = (free) => {
      timers.clearTimeout(timer);
      if (!signal.aborted) then?.(free);
      then = null;
    };
    const timer = timers.setTimeout(() => tell(!locks), 300);
    // Again where the page stood still.
    const lock = () => locks?.request(`stepcast ${id}`, { signal }, () => new Promise((release) => {
      signal.onabort = release;
      tell(true);
    })).catch(() => signal.aborted || timers.setTimeout(lock, 50));
    if (id && locks) lock();
    else if (id && BroadcastChannel) try { // there are no locks without https
      const channel = new BroadcastChannel(`stepcast ${id}`);
      signal.onabort = () => channel.close();
      channel.onmessage = ({ data }) => data ? tell(false) : then || channel.postMessage(true);
      channel.postMessage(false);
      if (!asks) tell(true);
    } catch {} // the timer tells
    else tell(true);
  }

  /** Who this tab is. `live`: a page is it. */
  #record(record) {
    try {
      const { storage = sessionStorage } = this.#options;
      if (record) storage.setItem(this.#slot, JSON.stringify(record));
      return JSON.parse(storage.getItem(this.#slot));
    } catch {} // none, forbidden, full
  }
}

const slots = new Set(); // of this page

export function connect(url = new URL(/* webpackIgnore: true */ /* @vite-ignore */ './', import.meta.url), options) {
  const address = new URL(url, globalThis.document?.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  if (!/^ws/.test(address.protocol)) throw new SyntaxError(`${address} is no hub address`);
  const [, feed = ''] = FEED.exec(address.pathname) ?? [];
  return new Connection(address, { feeds: [decodeURIComponent(feed)], ...options });
}
