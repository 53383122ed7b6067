// Who a tab is: reloaded, duplicated, taken over, put into the back/forward cache.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connect } from '../../src/page/stepcast.js';
import { EPOCH, KEY, Locks, Page, Storage, Tab, URL_OF_HUB, another, browser, channels, open } from './harness.mjs';

const leave = (page, persisted = false) => page.tell('pagehide', { persisted });

/** What the tab says first when it connects now. */
function helloOf(tab) {
  tab.socket.open();
  return tab.socket.hello;
}

test('a reload resumes the client, and asks for its feeds as having nothing', (t) => {
  const page = new Page(t);
  const first = open();
  first.socket.say({ text: [1, 40, 0, 'b'] }, { text: [1, 977, 0, 'x', 'key'] }, { text: [0, 12, 0, 'mine'] }, { text: [0, 980, 0, 'y', 'key'] });
  first.clock.pass(1000);
  assert.deepEqual(first.socket.said.at(-1), { ack: { seq: 12 } });
  first.socket.say({ text: [0, 13, 0, 'not acknowledged'] });
  leave(page);
  assert.equal(first.socket.closing, 'none', 'with no code, so that the hub waits for it');

  const second = new Tab({ storage: first.storage });
  t.after(() => second.hub.close());
  assert.deepEqual(helloOf(second), { id: 4711, key: KEY, epoch: EPOCH, mail: { seq: 12 }, feeds: { '': {} } });
  second.socket.welcome({ resumed: true });
  second.socket.say({ text: [0, 13, 0, 'not acknowledged'] }, { text: [0, 980, 0, 'y', 'key'] });
  assert.deepEqual(second.take('message').map(({ data }) => data), ['not acknowledged']);
  assert.deepEqual(second.take('value').map(({ data }) => data), ['y']);
});

test('an answer to a ping acknowledges the mailbox, so that a reload asks for what comes after it', (t) => {
  const page = new Page(t);
  const first = open();
  first.socket.say({ text: [0, 12, 0, 'mine'] }, { ping: [1, 2, 3] }, { text: [0, 13, 0, 'not acknowledged'] });
  leave(page);
  const second = new Tab({ storage: first.storage });
  t.after(() => second.hub.close());
  assert.deepEqual(helloOf(second).mail, { seq: 12 });
});

test('a reload before anything was acknowledged, and one before the hub has answered', (t) => {
  const page = new Page(t);
  const storage = new Storage();
  open({ storage });
  leave(page);
  const second = new Tab({ storage });
  assert.deepEqual(helloOf(second).mail, {});
  leave(page);
  const third = new Tab({ storage });
  t.after(() => third.hub.close());
  assert.equal(helloOf(third).id, 4711);
});

/** The ways to find out whether a page lives. `crash` ends the page that was made last. */
const ways = {
  'by locks': () => {
    const locks = new Locks();
    let page;
    return { next: () => browser({ locks: page = locks.page() }), crash: () => page.crash() };
  },
  'by channels, where there are no locks': () => {
    const BroadcastChannel = channels();
    return { next: () => browser({ BroadcastChannel }), crash: () => BroadcastChannel.crash() };
  },
};

for (const [way, pages] of Object.entries(ways)) {
  /** A tab of another page, and what ends it without a word. */
  const tabs = (t) => {
    t.after(() => browser());
    const { next, crash } = pages();
    return {
      crash,
      page: async (storage) => {
        next();
        return new Tab({ storage, connect: await another() });
      },
    };
  };

  test(`${way}: a tab that was duplicated becomes a client of its own`, async (t) => {
    const { page } = tabs(t);
    const first = await page(new Storage());
    first.socket.welcome();
    first.clock.pass(300);
    const second = await page(first.storage.copy());
    assert.equal(second.sockets.length, way === 'by locks' ? 0 : 1);
    second.clock.pass(300);
    await null;
    assert.deepEqual(helloOf(second), { epoch: EPOCH, feeds: { '': {} } });
    second.socket.welcome({ id: 815, key: 'its own' });
    first.hub.close();
    const third = await page(first.storage);
    assert.equal(helloOf(third).id, 4711);
    const fourth = await page(second.storage.copy());
    fourth.clock.pass(300);
    await null;
    assert.equal(helloOf(fourth).id, undefined, 'the second has the lock of its new id');
  });

  test(`${way}: a tab that crashed, or was discarded, is the same client`, async (t) => {
    const { page, crash } = tabs(t);
    const first = await page(new Storage());
    first.socket.welcome();
    first.socket.say({ text: [0, 12, 0, 'mine'] });
    first.clock.pass(1000);
    first.socket.say({ ping: [0] });
    crash();
    const second = await page(first.storage);
    second.clock.pass(300);
    assert.deepEqual([helloOf(second).id, helloOf(second).key], [4711, KEY]);
  });
}

test('a reload does not wait, by locks nor without them', async (t) => {
  for (const way of Object.values(ways)) {
    const page = new Page(t);
    const { next } = way();
    next();
    const first = open({ connect: await another() });
    leave(page);
    next();
    const second = new Tab({ storage: first.storage, connect: await another() });
    assert.equal(helloOf(second).id, 4711);
    assert.equal(second.clock.armed, 1, 'but for the check whether the hub answers');
    second.hub.close();
    first.hub.close();
    browser();
  }
});

test('a lock that the browser fails to give is asked for again', async (t) => {
  const locks = new Locks();
  t.after(() => browser());
  const { request } = locks.page();
  let failures = 2;
  // As Chromium does with a page that stands still, in `window.open` or in a debugger.
  browser({ locks: { request: (...rest) => failures-- > 0 ? Promise.reject(new Error('not runnable')) : request(...rest) } });
  const first = open({ connect: await another() });
  for (let i = 0; i < 2; i++) {
    for (let turn = 0; turn < 9; turn++) await null;
    first.clock.pass(50);
  }
  browser({ locks: locks.page() });
  const second = new Tab({ storage: first.storage.copy(), connect: await another() });
  second.clock.pass(300);
  assert.equal(helloOf(second).id, undefined);
  first.hub.close();
  second.hub.close();
});

test('a page that leaves, or is closed, while it asks, does not connect', async (t) => {
  const page = new Page(t);
  const locks = new Locks();
  browser({ locks: locks.page() });
  t.after(() => browser());
  const first = open({ connect: await another() });
  const connect = await another();
  for (const end of [({ hub }) => hub.close(), () => leave(page)]) {
    browser({ locks: locks.page() });
    const second = new Tab({ storage: first.storage.copy(), connect });
    end(second);
    second.clock.pass(300);
    await null;
    assert.equal(second.sockets.length, 0);
    second.hub.close();
  }
  first.hub.close();
});

test('a page that is loaded, looked at or online while it asks goes on asking', async (t) => {
  const page = new Page(t);
  const locks = new Locks();
  t.after(() => browser());
  browser({ locks: locks.page() });
  const first = open({ connect: await another() });
  browser({ locks: locks.page() });
  const second = new Tab({ storage: first.storage.copy(), connect: await another() });
  const signs = () => {
    page.tell('offline');
    page.tell('pageshow', { persisted: false });
    page.tell('online');
    page.hidden = false;
  };
  signs();
  assert.equal(second.sockets.length, 0);
  second.clock.pass(300);
  assert.equal(helloOf(second).id, undefined);
  // And one that comes back from the cache.
  second.socket.welcome({ id: 815 });
  leave(page, true);
  first.hub.close();
  browser({ locks: locks.page() });
  const third = open({ storage: second.storage.copy(), connect: await another() });
  assert.equal(third.socket.hello.id, 815);
  const before = second.sockets.length;
  page.tell('pageshow', { persisted: true });
  signs();
  assert.equal(second.sockets.length, before);
  second.clock.pass(300);
  assert.equal(helloOf(second).id, undefined);
  second.hub.close();
  third.hub.close();
});

test('where no page can be asked, a tab is who it was', async () => {
  const first = open({ connect: await another() });
  const second = new Tab({ storage: first.storage.copy(), connect: await another() });
  assert.equal(helloOf(second).id, 4711);
});

test('two connections of one page to one hub are the same two clients after a reload', async (t) => {
  const page = new Page(t);
  const storage = new Storage();
  const connect = await another();
  const make = (options) => new Tab({ storage, connect, ...options });
  const first = make(), second = make(), named = make({ name: 'log' });
  [first, second, named].forEach(({ socket }, i) => {
    assert.deepEqual(socket.said, []);
    socket.welcome({ id: 100 + i, key: 'its own' });
    assert.deepEqual(socket.hello, { feeds: { '': {} } });
  });
  assert.equal(storage.items.size, 3);
  leave(page);
  // The one that has a name may come in any order.
  const again = [make({ name: 'log' }), make(), make()];
  assert.deepEqual(again.map((tab) => helloOf(tab).id), [102, 100, 101]);
  // One that is closed leaves its place.
  again[1].hub.close();
  const next = make();
  assert.equal(helloOf(next).id, 100);
  for (const { hub } of [first, second, named, ...again, next]) hub.close();
});

test('hubs at other addresses are other clients', () => {
  const storage = new Storage();
  const first = open({ storage });
  first.hub.close();
  const second = new Tab({ storage, url: 'ws://hub.example/other/' });
  assert.deepEqual(helloOf(second), { feeds: { '': {} } });
  assert.equal(storage.items.size, 2);
});

test('who was taken over never takes back, nor after a reload', (t) => {
  const page = new Page(t);
  for (const end of [(tab) => tab.socket.end(4500), (tab) => tab.socket.say({ bye: { code: 4500, reason: '' } })]) {
    const tab = open();
    end(tab);
    for (const type of ['online', 'pagehide']) page.tell(type);
    page.tell('pageshow', { persisted: true });
    tab.clock.pass(1e9);
    assert.equal(tab.sockets.length, 1);
    const { id, key } = tab.storage.record;
    assert.deepEqual([id, key], [undefined, undefined]);
    const next = new Tab({ storage: tab.storage });
    assert.deepEqual(helloOf(next), { feeds: { '': {} } });
    next.hub.close();
  }
});

test('who has closed may connect again as the same client', () => {
  const tab = open();
  tab.hub.close();
  assert.equal(helloOf(new Tab({ storage: tab.storage })).id, 4711);
});

test('from the back/forward cache it comes back with all that it has', (t) => {
  const page = new Page(t);
  const tab = open();
  t.after(() => tab.hub.close());
  tab.socket.say({ text: [1, 40, 0, 'b'] }, { text: [1, 977, 0, 'x', 'key'] }, { text: [0, 13, 0, 'mine'] });
  leave(page, true);
  assert.equal(tab.socket.closing, 'none');
  assert.equal(tab.clock.armed, 0);
  assert.deepEqual(tab.take('status').map(({ state, retry }) => [state, retry]), [['waiting', null]]);
  assert.equal(tab.storage.record.live, false);
  tab.clock.sleep(60_000);
  page.tell('pageshow', { persisted: true });
  assert.equal(tab.storage.record.live, true);
  assert.deepEqual(helloOf(tab), { id: 4711, key: KEY, epoch: EPOCH, mail: { seq: 13 }, feeds: { '': { seq: 40, set: 977 } } });
});

test('a later page of the tab may have been the client meanwhile, and has left', (t) => {
  const page = new Page(t);
  const tab = open();
  leave(page, true);
  const later = new Tab({ storage: tab.storage });
  later.socket.welcome({ resumed: true });
  later.hub.close();
  page.tell('pageshow', { persisted: true });
  t.after(() => tab.hub.close());
  assert.equal(helloOf(tab).id, 4711);
});

test('where another page is the client when it comes back from the cache, it is a new one', async (t) => {
  const page = new Page(t);
  const locks = new Locks();
  t.after(() => browser());
  browser({ locks: locks.page() });
  const tab = open({ connect: await another() });
  tab.socket.say({ text: [1, 40, 0, 'b'] }, { text: [0, 13, 0, 'mine'] });
  leave(page, true);
  const other = new Tab({ storage: tab.storage.copy(), connect: await another() });
  assert.equal(helloOf(other).id, 4711);
  page.tell('pageshow', { persisted: true });
  assert.equal(tab.sockets.length, 1);
  tab.clock.pass(300);
  t.after(() => { tab.hub.close(); other.hub.close(); });
  assert.deepEqual(helloOf(tab), { epoch: EPOCH, feeds: { '': { seq: 40 } } });
  tab.socket.say({ hello: { id: 815, key: 'its own', epoch: EPOCH, resumed: false, base: 0, now: 0, ping: 25, limits: {} } });
  assert.equal(tab.hub.client, 815);
  assert.equal(tab.storage.record.id, 815);
});

test('without storage, with one that fails and with what is no record, it works as a new client', (t) => {
  const page = new Page(t);
  const full = Object.assign(new Storage(), { setItem() { throw new Error('full'); } });
  const forbidden = { getItem() { throw new Error('forbidden'); }, setItem() { throw new Error('forbidden'); } };
  for (const storage of [null, full, forbidden]) {
    const tab = open({ storage });
    leave(page);
    page.tell('pageshow', { persisted: true });
    assert.equal(helloOf(tab).id, 4711);
    tab.hub.close();
  }
  for (const item of ['', '{', 'null', '7', '[]', '{"live":false}']) {
    const storage = Object.assign(new Storage(), { getItem: () => item });
    const tab = new Tab({ storage });
    assert.deepEqual(helloOf(tab), { feeds: { '': {} } }, item);
    tab.hub.close();
  }
});

test('sessionStorage is used where none is named, and done without where it is forbidden', (t) => {
  class Silent { close() {} }
  const storage = new Storage();
  t.after(() => delete globalThis.sessionStorage);
  for (const get of [() => storage, () => { throw new Error('forbidden'); }]) {
    Object.defineProperty(globalThis, 'sessionStorage', { get, configurable: true });
    connect(URL_OF_HUB, { WebSocket: Silent }).close();
  }
  assert.equal(storage.record.live, false);
});

test('a channel that cannot be had keeps no tab from connecting as itself', async (t) => {
  t.after(() => browser());
  const first = new Tab({ storage: new Storage(), connect: await another() });
  first.socket.welcome();
  browser({ BroadcastChannel: class { constructor() { throw new Error('not here'); } } });
  const second = new Tab({ storage: first.storage, connect: await another() });
  second.clock.pass(300);
  await null;
  assert.equal(helloOf(second).id, 4711);
});
