// The hub's page against a server that sends what no honest run would.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { launch, open, root, seen, serve, until } from './harness.mjs';

const source = readFileSync(join(root, 'src/page/index.html'), 'utf8');

/** Opens the page below a prefix; `socket` is the other end of its WebSocket. */
async function openPage(t) {
  const nonce = 'b3BlbiBzZXNhbWUsIG9wZW4';
  const base = await serve(t, () => ({
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': `default-src 'none'; script-src 'nonce-${nonce}'; `
        + `style-src 'nonce-${nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; `
        + "form-action 'none'; frame-ancestors 'self'",
    },
    body: source.replaceAll('{{nonce}}', nonce),
  }));
  const { page, complaints } = await open(await launch(t));
  let connected;
  const socket = new Promise((resolve) => { connected = resolve; });
  await page.routeWebSocket(/.*/, connected);
  await page.goto(`${base}behind/a/proxy/?query`);
  return { page, complaints, socket: await socket, base };
}

function field(ny, nx, values) {
  const bytes = Buffer.alloc(8 + 4 * values.length);
  bytes.writeUInt32LE(ny, 0);
  bytes.writeUInt32LE(nx, 4);
  values.forEach((value, i) => bytes.writeFloatLE(value, 8 + 4 * i));
  return bytes;
}

test('the socket is opened beside the page', async (t) => {
  const { socket, base } = await openPage(t);
  assert.equal(socket.url(), `${base.replace('http', 'ws')}behind/a/proxy/`);
});

test('markup in a message stays text', async (t) => {
  const { page, complaints, socket } = await openPage(t);
  const markup = '<img src=x onerror="document.title=1"><script>document.title = 2</script>';
  socket.send(markup);
  socket.send(JSON.stringify({ progress: 1, total: 4, message: markup, [markup]: markup }));
  const now = await until('both messages', async () => {
    const now = await seen(page);
    return now.count === 2 && now.now === 1 && now;
  });
  assert.ok(now.lines[0].endsWith(markup));
  assert.equal(now.title, '25 % · stepcast');
  assert.equal(await page.locator('img, #log script, #caption script').count(), 0);
  assert.deepEqual(complaints, []);
});

test('what is no progress leaves the bar alone', async (t) => {
  const { page, socket } = await openPage(t);
  socket.send('{"progress":3,"total":10}');
  const wrong = ['{"progress":4', '{"progress":"5","total":10}', '{"progress":6,"total":0}',
    '{"progress":7}', 'null "progress"', '{"progress":null,"total":10}', '[{"progress":8,"total":10}]'];
  wrong.forEach((text) => socket.send(text));
  const now = await until('all of them', async () => {
    const now = await seen(page);
    return now.count === 1 + wrong.length && now;
  });
  assert.deepEqual([now.now, now.min, now.max], [3, 0, 10]);
  socket.send('{"progress":11,"total":10}');
  const full = await until('the end', async () => {
    const now = await seen(page);
    return now.title.startsWith('100 %') && now;
  });
  assert.equal(full.now, 10);
});

test('a field is drawn with its range, and what is not a number is transparent', async (t) => {
  const { page, complaints, socket } = await openPage(t);
  socket.send(field(2, 3, [-1, 0, 3, NaN, Infinity, 1]));
  const now = await until('the field', async () => {
    const now = await seen(page);
    return now.field.ny && now;
  });
  assert.deepEqual(now.field, { ny: '2', nx: '3', min: '-1', max: '3' });
  const pixels = await page.evaluate(() => {
    return [...new Uint8Array(pixelsOf(document.getElementById('field')).buffer)];
  });
  const pixel = (i) => pixels.slice(4 * i, 4 * i + 4);
  assert.deepEqual(pixel(0), [0x44, 0x01, 0x54, 255], 'the least');
  assert.deepEqual(pixel(2), [0xfd, 0xe7, 0x25, 255], 'the most');
  assert.deepEqual([pixel(3)[3], pixel(4)[3]], [0, 0], 'neither NaN nor infinity has a colour');
  assert.deepEqual(complaints, []);
});

test('binary messages that are no field are ignored with a line', async (t) => {
  const { page, complaints, socket } = await openPage(t);
  const wrong = [Buffer.alloc(0), Buffer.alloc(7), field(0, 0, []), field(2, 2, [1, 2, 3]),
    field(0xffffffff, 0xffffffff, [1]), Buffer.concat([field(1, 1, [1]), Buffer.alloc(1)])];
  wrong.forEach((bytes) => socket.send(bytes));
  const now = await until('all of them', async () => {
    const now = await seen(page);
    return now.count === wrong.length && now;
  });
  assert.equal(now.lines.filter((line) => line.includes('is no field')).length, wrong.length);
  assert.equal(now.colours, 0);
  assert.deepEqual(complaints, []);
});

test('a flood leaves two hundred lines, the newest, and a page that answers', async (t) => {
  const { page, complaints, socket } = await openPage(t);
  const many = 2_000;
  for (let i = 1; i <= many; i++) socket.send(`line ${i}`);
  const now = await until('the last line', async () => {
    const now = await seen(page);
    return now.count === many && now.lines.at(-1)?.endsWith(`line ${many}`) && now;
  });
  assert.equal(now.lines.length, 200);
  assert.ok(now.lines[0].endsWith(`line ${many - 199}`));
  assert.deepEqual(complaints, []);
});
