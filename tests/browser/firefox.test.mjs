// The same in Firefox: the hub's page, and the client through a reload, the way back, and a lost connection.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import test from 'node:test';
import puppeteer from 'puppeteer-core';
import { cable, picture, prepare, root, seen, serve, start, until } from './harness.mjs';

/** Firefox, with one page of 1180 x 860, and what went wrong in it. */
async function firefox(t) {
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr', headless: true, args: ['--no-remote'],
    defaultViewport: { width: 1180, height: 860 },
  });
  t.after(() => browser.close());
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => { if (['error', 'warn'].includes(message.type())) complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.evaluateOnNewDocument(prepare);
  return { page, complaints };
}

test('in Firefox the page shows the bar, the field and the messages of a running model', async (t) => {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0');
  const { page, complaints } = await firefox(t);
  await page.goto(run.url);
  const first = await until('a connection, an id, a bar and a field', async () => {
    const now = await seen(page);
    return now.state === 'open' && /^\d+$/.test(now.id) && now.max > 0 && now.field.ny && now;
  });
  const next = await until('the bar to move', async () => {
    const now = await seen(page);
    return now.now > first.now && now.colours > 16 && now;
  });
  assert.match(next.title, /^\d+ % /);
  assert.ok(next.count > first.count);
  assert.ok(next.wider <= 0, `${next.wider} px wider than the window`);
  await picture(page, 'gray_scott-firefox');
  assert.deepEqual(complaints, []);
});

test('in Firefox the page says which line lets its socket in behind a proxy that changes Host', async (t) => {
  const run = await start(t, 'plain', '127.0.0.1:0');
  const { host, port, hostname } = new URL(run.url);
  const proxy = createServer((client) => {
    const hub = connect(Number(port), hostname);
    client.on('data', (data) => hub.write(data.toString('latin1').replace(/^Host: .*$/m, `Host: ${host}`), 'latin1'));
    hub.pipe(client);
    for (const [one, other] of [[client, hub], [hub, client]]) one.on('error', () => {}).on('close', () => other.destroy());
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  t.after(() => proxy.close());
  const { page } = await firefox(t);
  const origin = `http://run.localhost:${proxy.address().port}`;
  await page.goto(`${origin}/`);
  await until('the line', () => page.evaluate((line) => document.body.innerText.includes(line), `.allow_origin("${origin}")`));
});

const html = (url) => `<!doctype html><link rel="icon" href="data:,"><script type="module">
  import { connect } from '${url}stepcast.js';
  const before = Number(sessionStorage.getItem('last')); // of the page as it was: what is kept comes again
  let last = 0;
  globalThis.faults = [];
  globalThis.hub = connect(undefined, { feeds: ['stepcast/run'] });
  hub.on('message', ({ seq }) => {
    if (last ? seq !== last + 1 : before && seq > before + 1) faults.push(seq + ' after ' + (last || before));
    last = seq;
    if (seq > before) sessionStorage.setItem('last', seq);
  });
  hub.on('gap', (gap) => faults.push(JSON.stringify(gap)));
</script>`;

test('in Firefox a client keeps its id and misses nothing, reloaded, come back to, and cut off', async (t) => {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0', '--size', '64', '--steps', '1000000000000', '--lines', '100');
  const way = await cable(t, run.port);
  const { page } = await firefox(t);
  await page.goto(await serve(t, () => ({ headers: { 'content-type': 'text/html' }, body: html(way.url) })));
  const last = () => page.evaluate(() => Number(sessionStorage.getItem('last')));
  /** Until so many more messages have come; then the client's id, and whether the hub knew it. */
  const more = async (what) => {
    const before = await last();
    await until(`messages ${what}`, async () => await last() > before + 3);
    assert.deepEqual(await page.evaluate(() => faults), [], what);
    return page.evaluate(() => [hub.client, hub.status.resumed]);
  };
  const [id, resumed] = await more('at first');
  assert.equal(resumed, false);
  await page.reload();
  assert.deepEqual(await more('after a reload'), [id, true]);
  await page.goto('about:blank');
  await page.goBack();
  assert.deepEqual(await more('after the way back'), [id, true]);
  assert.ok(way.cut() > 0);
  await until('the loss to be seen', () => page.evaluate(() => hub.state !== 'open'));
  await until('the connection', () => page.evaluate(() => hub.state === 'open'));
  assert.deepEqual(await more('after a cut'), [id, true]);
});

test('in Firefox a page whose own policy forbids the connection is told so', async (t) => {
  const { page } = await firefox(t);
  const script = readFileSync(join(root, 'src/page/stepcast.js'), 'utf8');
  await page.goto(await serve(t, ({ url }) => (url.endsWith('.js')
    ? { headers: { 'content-type': 'text/javascript' }, body: script }
    : { headers: { 'content-type': 'text/html', 'content-security-policy': "connect-src 'none'" }, body: html('./') })));
  await until('the end', () => page.evaluate(() => globalThis.hub?.state === 'closed'));
  const { code, reason } = await page.evaluate(() => hub.status);
  assert.deepEqual([code, reason], [403, 'Content-Security-Policy: connect-src']);
});
