// The client of src/page in a real tab, where `sessionStorage`, `pagehide` and the module's address
// are the browser's. The hub is played by the test.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { launch, open, root, serve, start, until } from './harness.mjs';

const source = readFileSync(join(root, 'src/page/stepcast.js'), 'utf8');
const html = `<!doctype html><link rel="icon" href="data:,"><script type="module">
  import { connect } from './hub/stepcast.js';
  globalThis.hub = connect();
  globalThis.heard = [];
  hub.on('message', (detail) => heard.push(detail));
</script>`;

/**
 * A page below a prefix, its module below another, and the connections that its tabs make, each with
 * what the client said. Who says who it was is resumed; others are given new ids.
 */
async function play(t) {
  const requests = [];
  const base = await serve(t, (request) => {
    requests.push(request);
    return request.url.endsWith('.js')
      ? { headers: { 'content-type': 'text/javascript' }, body: source }
      : { headers: { 'content-type': 'text/html' }, body: html };
  });
  const { page, complaints } = await open(await launch(t, [], ['--host-resolver-rules=MAP hub.example 127.0.0.1']));
  const connections = [];
  let ids = 0;
  await page.context().routeWebSocket(/.*/, (socket) => {
    const connection = { socket, url: socket.url(), said: [] };
    connections.push(connection);
    socket.onMessage((data) => {
      const object = JSON.parse(data);
      connection.said.push(object);
      if (!object.hello) return;
      const { id, key } = object.hello;
      const who = id && key === `key of ${id}` ? id : ++ids;
      const hello = { id: who, key: `key of ${who}`, epoch: '5e1f00d2a4b3c687', resumed: who === id, base: 0, now: 0, ping: 25, limits: { message: 65536, feeds: 64, rate: 1000 } };
      socket.send(JSON.stringify({ hello }));
    });
  });
  await page.goto(`${base}behind/a/proxy/?query`);
  const idOf = (tab) => tab.evaluate(() => hub.id);
  return { page, complaints, connections, base, idOf, requests };
}

test('it connects to where the module came from, and a request tells the id', async (t) => {
  const { page, complaints, connections, base, idOf, requests } = await play(t);
  assert.equal(await idOf(page), 1);
  assert.equal(connections[0].url, `${base.replace('http', 'ws')}behind/a/proxy/hub/`);
  await page.evaluate(() => hub.fetch('run?n=1', { method: 'POST' }).then(() => {}));
  const { url, method, headers } = requests.at(-1);
  assert.deepEqual([url, method, headers['stepcast-client']], ['/behind/a/proxy/run?n=1', 'POST', '1']);
  assert.deepEqual(complaints, []);
});

test('a reload resumes, from what was acknowledged of the mailbox on', async (t) => {
  const { page, complaints, connections, idOf } = await play(t);
  await idOf(page);
  connections[0].socket.send('{"text":[0,12,0,"mine"]}\n{"text":[0,980,0,"running","state"]}');
  await until('the ack', () => connections[0].said.some(({ ack }) => ack?.seq === 12));
  await page.reload();
  assert.equal(await idOf(page), 1);
  const { hello } = connections.at(-1).said[0];
  assert.deepEqual([hello.mail, hello.feeds], [{ seq: 12 }, { '': {} }]);
  assert.deepEqual(complaints, []);
});

test('a tab that was given a copy of the storage becomes a client of its own', async (t) => {
  const { page, complaints, idOf } = await play(t);
  assert.equal(await idOf(page), 1);
  const opened = page.context().waitForEvent('page');
  await page.evaluate(() => { open(location.href); });
  const copy = await opened;
  await copy.waitForLoadState();
  const inherited = await copy.evaluate(() => sessionStorage.length);
  assert.equal(inherited, 1);
  assert.equal(await idOf(copy), 2);
  await copy.reload();
  assert.equal(await idOf(copy), 2);
  await page.reload();
  assert.equal(await idOf(page), 1);
  assert.deepEqual(complaints, []);
});

test('without https, where a page has no locks, a copy asks the first, too', async (t) => {
  const { page, base, idOf } = await play(t);
  await page.goto(`${base.replace('127.0.0.1', 'hub.example')}behind/a/proxy/`);
  assert.equal(await page.evaluate(() => isSecureContext || 'locks' in navigator), false);
  const id = await idOf(page);
  const opened = page.context().waitForEvent('page');
  await page.evaluate(() => { open(location.href); });
  const copy = await opened;
  await copy.waitForLoadState();
  const own = await idOf(copy);
  assert.notEqual(own, id);
  await page.reload();
  await copy.reload();
  assert.deepEqual([await idOf(page), await idOf(copy)], [id, own]);
});

test('bytes arrive as an ArrayBuffer, and a page that was left and come back to is the same client', async (t) => {
  const { page, connections, base, idOf } = await play(t);
  await idOf(page);
  const frame = Buffer.from('010000000000000000000000010000000000000000' + '00000102', 'hex');
  connections[0].socket.send(frame);
  assert.deepEqual(
    await until('the bytes', () => page.evaluate(() => heard.length && [...new Uint8Array(heard[0].data)])), [1, 2]);
  await page.goto(`${base}a/page/without/it.js`);
  await page.goBack();
  assert.equal(await idOf(page), 1);
});

test('a page whose own policy forbids the connection is told so', async (t) => {
  const base = await serve(t, ({ url }) => (url.endsWith('.js')
    ? { headers: { 'content-type': 'text/javascript' }, body: source }
    : { headers: { 'content-type': 'text/html', 'content-security-policy': "connect-src 'none'" }, body: html }));
  const { page } = await open(await launch(t));
  await page.goto(base);
  await until('the end', () => page.evaluate(() => hub.state === 'closed'));
  const { code, reason } = await page.evaluate(() => hub.status);
  assert.deepEqual([code, reason], [403, 'Content-Security-Policy: connect-src']);
});

test('a page of another site gets the script in no way', async (t) => {
  const { port } = await start(t, 'plain', '127.0.0.1:0');
  const browser = await launch(t, [], ['--host-resolver-rules=MAP other.example 127.0.0.1']);
  const url = await serve(t, () => ({ headers: { 'content-type': 'text/html' }, body: '<title>a page</title>' }));
  const ways = async (host) => {
    const { page } = await open(browser);
    await page.goto(url.replace('127.0.0.1', host));
    return page.evaluate(async (script) => {
      const classic = document.createElement('script');
      const loads = new Promise((resolve, reject) => Object.assign(classic, { onload: resolve, onerror: reject, src: script }));
      document.head.append(classic);
      const all = [import(script), fetch(script), loads, fetch(script, { mode: 'no-cors' })];
      return (await Promise.allSettled(all)).map(({ status }) => status);
    }, `http://localhost:${port}/stepcast.js`);
  };
  assert.deepEqual(await ways('other.example'), ['rejected', 'rejected', 'rejected', 'rejected']);
  // Of this host by another port: it may connect, and import.
  assert.deepEqual((await ways('localhost')).slice(0, 2), ['fulfilled', 'fulfilled']);
});
