// hub.fetch: who is told the id.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import test from 'node:test';
import { Page, Tab, open } from './harness.mjs';

/** Has `fetch` note what it is given. */
function record(t) {
  const requests = [];
  t.mock.method(globalThis, 'fetch', async (request) => {
    requests.push(request);
    return new Response('ok');
  });
  return requests;
}

const headerOf = ({ headers }) => headers.get('stepcast-client');

test('the page, the hub and the listed origins are told the id, and nobody else', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = open({ url: 'wss://hub.example:8443/prefix/', origins: ['https://api.example'] });
  t.after(() => tab.hub.close());
  const told = ['http://app.example/run', 'https://hub.example:8443/run', 'https://api.example/x', new URL('https://api.example/y')];
  const not = ['https://app.example/run', 'http://app.example:81/', 'http://hub.example:8443/', 'https://hub.example/',
    'https://api.example.evil.example/', 'https://evil.example/https://api.example', 'http://api.example/'];
  for (const url of [...told, ...not]) assert.equal(await (await tab.hub.fetch(url)).text(), 'ok');
  assert.deepEqual(requests.map(headerOf), [...told.map(() => '4711'), ...not.map(() => null)]);
});

test('the request stays what it is otherwise', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = open();
  t.after(() => tab.hub.close());
  const { signal } = new AbortController();
  await tab.hub.fetch('http://app.example/run', { method: 'POST', body: '{"n":1}', headers: { 'Content-Type': 'application/json' }, signal });
  await tab.hub.fetch(new Request('http://app.example/run', { method: 'PUT', headers: { a: 'b' } }));
  const [post, put] = requests;
  assert.deepEqual([post.method, await post.text(), post.headers.get('content-type'), headerOf(post)], ['POST', '{"n":1}', 'application/json', '4711']);
  assert.deepEqual([put.method, put.headers.get('a'), headerOf(put)], ['PUT', 'b', '4711']);
});

test('it waits for the id, but for the others it does not', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = new Tab();
  t.after(() => tab.hub.close());
  const waiting = tab.hub.fetch('http://app.example/run');
  await tab.hub.fetch('https://other.example/');
  assert.deepEqual(requests.map(({ url }) => url), ['https://other.example/']);
  tab.socket.welcome();
  await waiting;
  assert.equal(headerOf(requests[1]), '4711');
});

test('it tells the newest id', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = open();
  t.after(() => tab.hub.close());
  tab.back({ id: 815, key: 'another', epoch: 'another', resumed: false });
  await tab.hub.fetch('http://app.example/run');
  assert.equal(headerOf(requests[0]), '815');
});

test('it waits for a connection, as the hub may have forgotten the id of before', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = open();
  t.after(() => tab.hub.close());
  tab.socket.end();
  const waiting = tab.hub.fetch('http://app.example/run');
  await tab.hub.fetch('https://other.example/');
  assert.equal(requests.length, 1);
  tab.clock.pass(500);
  tab.socket.welcome({ id: 815, resumed: false });
  await waiting;
  assert.equal(headerOf(requests[1]), '815');
});

test('it leaves no listener behind', async (t) => {
  new Page(t);
  record(t);
  const tab = open();
  t.after(() => tab.hub.close());
  const { signal } = new AbortController();
  const count = () => getEventListeners(tab.hub, 'status').length;
  const before = count();
  for (let i = 0; i < 3; i++) await tab.hub.fetch('http://app.example/run', { signal });
  assert.equal(count(), before);
});

test('it obeys its signal, also while it waits', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = new Tab();
  t.after(() => tab.hub.close());
  const controller = new AbortController();
  const waiting = tab.hub.fetch('http://app.example/run', { signal: controller.signal });
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  await assert.rejects(tab.hub.fetch('http://app.example/run', { signal: AbortSignal.abort() }), { name: 'AbortError' });
  tab.socket.welcome();
  await tab.hub.id;
  assert.equal(requests.length, 0);
});

test('where there will be no id, it is rejected', async (t) => {
  new Page(t);
  const requests = record(t);
  const tab = new Tab();
  tab.socket.end(4501);
  await assert.rejects(tab.hub.fetch('http://app.example/run'), /4501/);
  assert.equal(requests.length, 0);
});

test('without a page only the hub and the listed origins are told', async (t) => {
  const requests = record(t);
  const tab = open();
  await tab.hub.fetch('http://hub.example/run');
  await tab.hub.fetch('http://app.example/run');
  assert.deepEqual(requests.map(headerOf), ['4711', null]);
});
