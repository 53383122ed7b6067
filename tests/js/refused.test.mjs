// Why there is no connection: a browser says 1006 of everything, so the client asks by GET.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Page, Tab, open } from './harness.mjs';

/** What answers to `fetch`, and the requests for it. */
function server(t, answer) {
  const requests = [];
  t.mock.method(globalThis, 'fetch', async (url, init) => {
    requests.push([String(url), init]);
    return answer();
  });
  return requests;
}

const settled = () => new Promise((resolve) => { setImmediate(resolve); });
const last = ({ hub: { status: { state, code, reason } } }) => [state, code, reason];

for (const status of [403, 404]) {
  test(`${status} to who was never let in is for good, and the reason is told`, async (t) => {
    const requests = server(t, () => new Response('expected an origin of this hub, got "http://a.example"\n', { status }));
    const tab = new Tab({ url: 'wss://hub.example/prefix/?token=1' });
    tab.socket.end();
    assert.deepEqual(last(tab), ['waiting', 1006, '']);
    await settled();
    assert.deepEqual(requests, [['https://hub.example/prefix/?token=1', { cache: 'no-store' }]]);
    assert.deepEqual(last(tab), ['closed', status, `${status}: expected an origin of this hub, got "http://a.example"`]);
    assert.equal(tab.clock.armed, 0);
    await assert.rejects(tab.hub.id, new RegExp(`${status}: expected`));
  });

  test(`${status} to who was let in before, also before a reload, is the network's`, async (t) => {
    server(t, () => new Response('<html><style>b</style>\n<h1>Not here</h1></html>', { status, headers: { 'content-type': 'text/html' } }));
    const page = new Page(t);
    const first = open();
    page.tell('pagehide');
    const second = new Tab({ storage: first.storage });
    t.after(() => { first.hub.close(); second.hub.close(); });
    second.socket.end();
    await settled();
    assert.deepEqual(last(second), ['waiting', status, `${status}: b Not here`]);
    second.clock.pass(second.clock.next);
    assert.equal(second.sockets.length, 2);
  });
}

test('a full hub, a gateway and what takes no WebSocket are told, and retried', async (t) => {
  const answers = [[503, 'expected room for one more', '503: expected room for one more'], [502, '', '502: '],
    [200, 'Log in to the hotel', '200: GET is answered, a WebSocket is not']];
  for (const [status, text, reason] of answers) {
    t.mock.restoreAll();
    server(t, () => new Response(text, { status }));
    const tab = new Tab();
    tab.socket.end();
    await settled();
    assert.deepEqual(last(tab), ['waiting', status, reason]);
    assert.equal(tab.clock.armed, 1);
    tab.clock.pass(tab.clock.next);
    assert.equal(tab.sockets.length, 2);
  }
});

test('a page whose origin a proxy hides from the hub asks by OPTIONS, with which a browser says it', async (t) => {
  const reason = 'expected an origin of this hub, got "http://run.example"';
  const ask = async (options) => {
    t.mock.restoreAll();
    const methods = [];
    t.mock.method(globalThis, 'fetch', async (url, { method = 'GET' }) => {
      methods.push(method);
      return method === 'GET' ? new Response('the page') : options();
    });
    const tab = new Tab();
    tab.socket.end();
    await settled();
    assert.deepEqual(methods, ['GET', 'OPTIONS']);
    return last(tab);
  };
  assert.deepEqual(await ask(() => new Response(reason, { status: 403 })), ['closed', 403, `403: ${reason}`]);
  // What else comes of it means nothing.
  const others = [() => new Response(null, { status: 204 }), () => new Response('', { status: 405 }), () => { throw new TypeError('forbidden'); }];
  for (const other of others) assert.deepEqual(await ask(other), ['waiting', 200, '200: GET is answered, a WebSocket is not']);
});

test('it asks once until there was a connection, or until the page is looked at again', async (t) => {
  const page = new Page(t);
  const requests = server(t, () => { throw new TypeError('nobody answers'); });
  const tab = new Tab();
  t.after(() => tab.hub.close());
  for (let attempt = 0; attempt < 5; attempt++) { tab.socket.end(); await settled(); tab.clock.pass(tab.clock.next); }
  assert.equal(requests.length, 1);
  tab.socket.end();
  page.tell('online');
  tab.socket.end();
  assert.equal(requests.length, 2);
  page.tell('online');
  tab.socket.welcome();
  tab.socket.end();
  await settled();
  assert.equal(requests.length, 2, 'a connection that is lost is no refusal');
});

test('an answer that comes when there is a connection is of no interest', async (t) => {
  let answer;
  server(t, () => new Promise((resolve) => { answer = resolve; }));
  const tab = new Tab();
  tab.socket.end();
  tab.clock.pass(tab.clock.next);
  tab.socket.welcome();
  answer(new Response('', { status: 404 }));
  await settled();
  assert.equal(tab.hub.state, 'open');
});

test('the address of a feed is asked about at its hub', async (t) => {
  const requests = server(t, () => { throw new TypeError('nobody answers'); });
  new Tab({ url: 'ws://hub.example/prefix/feed/run/1?token=1' }).socket.end();
  assert.equal(requests[0][0], 'http://hub.example/prefix/?token=1');
});

test("the page's own policy is told as the reason, for good where this client was never let in", (t) => {
  const page = new Page(t);
  const violate = (rest) => page.document.dispatchEvent(Object.assign(new Event('securitypolicyviolation'), {
    disposition: 'enforce', blockedURI: 'ws://hub.example/', effectiveDirective: 'connect-src', ...rest,
  }));
  const tab = new Tab({ url: 'ws://hub.example/' });
  t.after(() => tab.hub.close());
  violate({ blockedURI: 'https://elsewhere.example/picture.png', effectiveDirective: 'img-src' });
  violate({ disposition: 'report' });
  assert.equal(tab.hub.state, 'connecting');
  tab.socket.end();
  violate();
  assert.deepEqual(last(tab), ['closed', 403, 'Content-Security-Policy: connect-src']);
  assert.equal(tab.clock.armed, 0);
  violate(); // the look for a reason was forbidden, too
  assert.equal(tab.sockets.length, 1);
});
