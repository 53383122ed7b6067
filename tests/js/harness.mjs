// A browser and a hub that the tests play: time that they move, sockets that they answer, storage
// that they copy, and the events of a page. Nothing here waits.

import { readFileSync } from 'node:fs';
import { connect as own } from '../../src/page/stepcast.js';

export const URL_OF_HUB = 'ws://hub.example/';
export const KEY = '9f86d081884c7d659a2feaa0c55ad015';
export const EPOCH = '5e1f00d2a4b3c687';

export function fixtures(subject) {
  return JSON.parse(readFileSync(new URL(`../protocol/${subject}.json`, import.meta.url), 'utf8'));
}

export class Clock {
  #now = 1_000_000;
  #timers = new Map();
  #last = 0;

  now() { return this.#now; }

  /** As browsers do: what is longer than 2^31 - 1 ms fires at once. */
  setTimeout(run, after) {
    const wait = after >= 0 && after < 2 ** 31 ? after : 0;
    this.#timers.set(++this.#last, { at: this.#now + wait, run });
    return this.#last;
  }

  clearTimeout(timer) { this.#timers.delete(timer); }

  get armed() { return this.#timers.size; }

  /** Milliseconds until the next timer. */
  get next() { return Math.min(...[...this.#timers.values()].map(({ at }) => at)) - this.#now; }

  /** Moves on, and runs what is due in its order. */
  pass(time) {
    const end = this.#now + time;
    for (;;) {
      const [due] = [...this.#timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0]);
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = due[1].at;
      due[1].run();
    }
    this.#now = end;
  }

  /** Moves on without running anything: the machine slept, or the browser throttles. */
  sleep(time) { this.#now += time; }
}

export class Storage {
  constructor(items = []) { this.items = new Map(items); }
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, String(value)); }
  copy() { return new Storage(this.items); }
  get record() { const [item] = this.items.values(); return item && JSON.parse(item); }
}

/**
 * The locks of a browser, by its pages. What has no one else's lock is granted at once, so that tests
 * need not wait.
 */
export class Locks {
  #held = new Map(); // a queue by name; the first has it

  /** What a page sees. The lock is its until `release`: the page has crashed. */
  page() {
    const own = new Set();
    return {
      request: (name, { signal }, run) => {
        const queue = this.#held.get(name) ?? [];
        this.#held.set(name, queue);
        return new Promise((resolve, reject) => {
          const entry = {
            run: () => { entry.held = true; run().then(() => entry.leave()).then(resolve, reject); },
            leave: () => {
              if (!queue.includes(entry)) return;
              const first = queue[0] === entry;
              queue.splice(queue.indexOf(entry), 1);
              if (first) queue[0]?.run();
            },
          };
          signal.addEventListener('abort', () => {
            if (entry.held) return;
            entry.leave();
            reject(signal.reason);
          });
          own.add(entry);
          queue.push(entry);
          if (queue[0] === entry) entry.run();
        });
      },
      crash: () => own.forEach((entry) => entry.leave()),
    };
  }
}

/** Channels between the pages of a browser, which deliver at once. */
export function channels() {
  const open = new Set();
  return class {
    constructor(name) { this.name = name; open.add(this); }
    close() { open.delete(this); }
    postMessage(data) {
      for (const other of open) if (other !== this && other.name === this.name) other.onmessage?.({ data });
    }
    /** All that are open are of a page that is no more. */
    static crash() { open.clear(); }
  };
}

let copies = 0;

/** The module as another page has it. */
export async function another() {
  return (await import(`../../src/page/stepcast.js?${++copies}`)).connect;
}

/** As whose page the next tabs are made, by what the client looks at. */
export function browser({ locks, BroadcastChannel } = {}) {
  const globals = { navigator: { locks }, BroadcastChannel };
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
browser(); // Node's own channels would keep it from ending
globalThis.fetch = async () => { throw new TypeError('nobody answers'); };

/** The events and properties of a page, as the globals that the client looks at. */
export class Page {
  window = new EventTarget();
  signals = []; // that take the window's listeners off
  document = Object.assign(new EventTarget(), { hidden: false, baseURI: 'http://app.example/page/' });

  constructor(t) {
    const globals = {
      document: this.document,
      location: new URL('http://app.example/page/'),
      addEventListener: (type, listener, options) => {
        this.signals.push(options.signal);
        this.window.addEventListener(type, listener, options);
      },
    };
    for (const [name, value] of Object.entries(globals)) {
      Object.defineProperty(globalThis, name, { value, configurable: true });
    }
    t.after(() => { for (const name of Object.keys(globals)) delete globalThis[name]; });
  }

  tell(type, rest = {}) { this.window.dispatchEvent(Object.assign(new Event(type), rest)); }

  set hidden(hidden) {
    this.document.hidden = hidden;
    this.document.dispatchEvent(new Event('visibilitychange'));
  }
}

/** One end of a connection; the test is the other end. */
class Socket {
  readyState = 0;
  sent = [];
  closing; // the code, when the client has closed it; 'none' without one

  constructor(url, protocol) { Object.assign(this, { url: String(url), protocol }); }

  send(data) { this.sent.push(data); }

  close(code) { this.closing = code ?? 'none'; this.readyState = 2; }

  // ---- What the hub does.

  open() { this.readyState = 1; this.onopen?.({}); }

  say(...objects) { this.raw(objects.map((object) => JSON.stringify(object)).join('\n')); }

  raw(data) { this.onmessage?.({ data }); }

  end(code = 1006, reason = '') { this.readyState = 3; this.onclose?.({ code, reason }); }

  welcome(rest) {
    if (!this.readyState) this.open();
    this.say({ hello: { id: 4711, key: KEY, epoch: EPOCH, resumed: false, base: 0, now: 0, ping: 25, limits: { message: 65536, feeds: 64, rate: 1000 }, ...rest } });
  }

  /** The text frames that came from the client, parsed. */
  get said() { return this.sent.filter((data) => typeof data === 'string').map((data) => JSON.parse(data)); }

  get hello() { return this.said[0].hello; }
}

/** A tab: its hub, its sockets, and all events that were told, in order. */
export class Tab {
  sockets = [];
  events = [];

  constructor({ url = URL_OF_HUB, clock = new Clock(), storage = new Storage(), random = () => 0.5, connect = own, ...options } = {}) {
    const tab = this;
    Object.assign(this, { clock, storage });
    this.hub = connect(url, {
      storage, clock, random,
      WebSocket: class extends Socket {
        constructor(...rest) { super(...rest); tab.sockets.push(this); }
      },
      ...options,
    });
    for (const type of ['message', 'value', 'removed', 'gap', 'ended', 'feed', 'status', 'error', 'bye']) {
      this.hub.on(type, (detail) => this.events.push({ type, ...detail }));
    }
  }

  /** The newest socket. */
  get socket() { return this.sockets.at(-1); }

  /** The events of a type so far, and no more the next time; without their times, which times.test.mjs looks at. */
  take(type) {
    const found = this.events.filter((event) => event.type === type).map(({ type, time, ...detail }) => detail);
    this.events = this.events.filter((event) => event.type !== type);
    return found;
  }

  /** Loses the connection, and waits until the client has come back. */
  back(welcome = { resumed: true }) {
    const before = this.sockets.length;
    this.socket.end();
    this.clock.pass(this.clock.next);
    if (this.sockets.length !== before + 1) throw new Error('it has not come back once');
    this.socket.welcome(welcome);
  }
}

/** A tab that is connected, with everyone's feed followed from its beginning. */
export function open(options) {
  const tab = new Tab(options);
  tab.socket.welcome();
  if (!options?.feeds) tab.socket.say({ feed: { name: '', alias: 1, seq: 0, how: 'snapshot' } });
  tab.events = [];
  return tab;
}

/** Numbers from 0 to 1, the same each time (mulberry32). */
export function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
