// `examples/plain.html`: a WebSocket and nothing else, from disk and from another server.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { pathToFileURL } from 'node:url';
import { launch, open, root, serve, start, until } from './harness.mjs';

const written = readFileSync(join(root, 'examples/plain.html'), 'utf8');

/** The page as it is written, but for the port: the test takes a free one. */
function pageFor(port) {
  const parts = written.split('ws://localhost:8002');
  assert.equal(parts.length, 2, 'the page names the address once');
  return parts.join(`ws://localhost:${port}`);
}

async function getsItsIdAndThenItsMessage(t, url) {
  const { page, complaints } = await open(await launch(t));
  await page.goto(url);
  const lines = await until('two messages', async () => {
    const found = await page.locator('p').allTextContents();
    return found.length >= 2 && found;
  });
  const hello = /^\{"type":1,"body":(\d+)\}$/.exec(lines[0]);
  assert.ok(hello, `the first message is ${lines[0]}`);
  await until(`a message that names ${hello[1]}`, async () => {
    const found = await page.locator('p').allTextContents();
    return found.slice(1).some((line) => line.includes(hello[1]));
  });
  assert.deepEqual(complaints, []);
}

test('the plain page works from disk', async (t) => {
  const { port } = await start(t, 'plain', '0.0.0.0:0');
  const copy = join(root, 'target/browser/plain.html');
  mkdirSync(join(copy, '..'), { recursive: true });
  writeFileSync(copy, pageFor(port));
  await getsItsIdAndThenItsMessage(t, pathToFileURL(copy).href);
});

test('the plain page works from a server of its own', async (t) => {
  const { port } = await start(t, 'plain', '0.0.0.0:0');
  const url = await serve(t, () => ({
    headers: { 'content-type': 'text/html; charset=utf-8' },
    body: pageFor(port),
  }));
  // By the host name that the page connects to: the port may differ, the name may not.
  await getsItsIdAndThenItsMessage(t, url.replace('127.0.0.1', 'localhost'));
});
