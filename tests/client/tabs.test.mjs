// Who a tab is: reloaded, duplicated, taken over, put into the back/forward cache.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connect } from '../../src/page/stepcast.js';
import { EPOCH, KEY, Page, Storage, Tab, URL_OF_HUB, open } from './harness.mjs';

const leave = (page, persisted = false) => page.tell('pagehide', { persisted });

/** What the tab says first when it connects now. */
function helloOf(tab) {
  tab.socket.open();
  return tab.socket.hello;
}

test('a reload resumes the client, and asks for its feeds as having nothing', (t) => {
  const page = new Page(t);
  const first = open();
  first.socket.say({ text: [1, 40, 'b'] }, { text: [1, 977, 'x', 'key'] }, { text: [0, 12, 'mine'] }, { text: [0, 980, 'y', 'key'] });
  first.clock.pass(1000);
  assert.deepEqual(first.socket.said.at(-1), { ack: { seq: 12 } });
  first.socket.say({ text: [0, 13, 'not acknowledged'] });
  leave(page);
  assert.equal(first.socket.closing, 'none', 'with no code, so that the hub waits for it');

  const second = new Tab({ storage: first.storage });
  t.after(() => second.hub.close());
  assert.deepEqual(helloOf(second), { id: 4711, key: KEY, epoch: EPOCH, mail: { seq: 12 }, feeds: { '': {} } });
  second.socket.welcome({ resumed: true });
  second.socket.say({ text: [0, 13, 'not acknowledged'] }, { text: [0, 980, 'y', 'key'] });
  assert.deepEqual(second.take('message').map(({ data }) => data), ['not acknowledged']);
  assert.deepEqual(second.take('value').map(({ data }) => data), ['y']);
});

test('an answer to a ping acknowledges the mailbox, so that a reload asks for what comes after it', (t) => {
  const page = new Page(t);
  const first = open();
  first.socket.say({ text: [0, 12, 'mine'] }, { ping: [1, 2, 3] }, { text: [0, 13, 'not acknowledged'] });
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

test('a duplicated tab becomes a client of its own', (t) => {
  const page = new Page(t);
  const first = open();
  const second = new Tab({ storage: first.storage.copy() });
  assert.deepEqual(helloOf(second), { feeds: { '': {} } });
  second.socket.welcome({ id: 815, key: 'its own' });
  leave(page); // both, each with its own storage
  const [reloaded, other] = [new Tab({ storage: first.storage }), new Tab({ storage: second.storage })];
  t.after(() => { reloaded.hub.close(); other.hub.close(); });
  assert.deepEqual([helloOf(reloaded).id, helloOf(other).id], [4711, 815]);
});

test('after a crash it is a new client', () => {
  const first = open();
  assert.equal(first.storage.record.live, true);
  assert.deepEqual(helloOf(new Tab({ storage: first.storage })), { feeds: { '': {} } });
});

test('two connections of one page do not take each other over', (t) => {
  const page = new Page(t);
  const storage = new Storage();
  const first = open({ storage });
  const second = new Tab({ storage });
  assert.deepEqual(helloOf(second), { feeds: { '': {} } });
  second.socket.welcome({ id: 815, key: 'its own' });
  first.socket.say({ text: [0, 1, 'x'] });
  first.back(); // which would save it
  assert.equal(storage.record.id, 815);
  leave(page);
  assert.deepEqual([storage.record.id, storage.record.live], [815, false]);
  first.hub.close();
  second.hub.close();
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
  tab.socket.say({ text: [1, 40, 'b'] }, { text: [1, 977, 'x', 'key'] }, { text: [0, 13, 'mine'] });
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

test('where another page is the client when it comes back from the cache, it is a new one', (t) => {
  const page = new Page(t);
  const tab = open();
  tab.socket.say({ text: [1, 40, 'b'] }, { text: [0, 13, 'mine'] });
  leave(page, true);
  const [slot] = tab.storage.items.keys();
  tab.storage.setItem(slot, JSON.stringify({ ...tab.storage.record, live: true, tab: 'another' }));
  page.tell('pageshow', { persisted: true });
  t.after(() => tab.hub.close());
  assert.deepEqual(helloOf(tab), { epoch: EPOCH, feeds: { '': { seq: 40 } } });
  tab.socket.say({ hello: { id: 815, key: 'its own', epoch: EPOCH, resumed: false, ping: 25, limits: {} } });
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
