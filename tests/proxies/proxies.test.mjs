// The hub's page through each proxy of setups.mjs, in Chromium. Where the hub refuses, the line that it
// names is added, and no other: so what a refusal says is enough.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as pass } from 'node:timers/promises';
import { launch, open, seen, start, until } from '../browser/harness.mjs';
import { IDLE, freePort, keepsPrefix, setups } from './setups.mjs';

const LINE = /\.(allow_host|allow_origin|trusted_proxy)\(.*?\)/;

/** Runs in the page. Asks for the script, and once more for what has changed since. */
async function script() {
  const first = await fetch('./stepcast.js', { cache: 'no-store' });
  const text = await first.text();
  const tag = first.headers.get('etag');
  const again = await fetch('./stepcast.js', { headers: { 'If-None-Match': tag } });
  return { status: first.status, type: first.headers.get('content-type'), exports: text.includes('export function connect'), tag, again: again.status };
}

/** Runs in the page. Ends the run by the plain wire, and gives what came. */
function finish() {
  return new Promise((resolve) => {
    const messages = [];
    const socket = new WebSocket(location.href.replace('http', 'ws'));
    socket.onmessage = ({ data }) => {
      messages.push(data);
      if (messages.length === 2) socket.send('finish');
    };
    socket.onclose = ({ code, reason }) => resolve({ messages, code, reason });
  });
}

const browser = await launch({ after }, [], ['--host-resolver-rules=MAP run.example 127.0.0.1']);

/** Opens a page, and gives it with what is in its way: null where its socket is open. */
async function visit(url) {
  const { page, complaints } = await open(browser);
  const response = await page.goto(url);
  const text = () => page.locator('body').innerText();
  const refusal = response.ok() ? await until('the page is open, or says why not', async () => {
    const { state } = await seen(page);
    if (state === 'open') return { line: null };
    const line = LINE.exec(await text());
    return line && { line: line[0] };
  }) : { line: LINE.exec(await text())?.[0] ?? (await text()).trim() };
  return { page, complaints, response, ...refusal };
}

describe('through', { concurrency: 3 }, () => {
  for (const [name, setup] of Object.entries(setups)) {
    test(name, { timeout: 180_000 }, async (t) => {
      const { proxy, host = 'run.example', has = [], says = [], tag = /^"/, loses = false, idle = false } = setup;
      const hubPort = await freePort();
      let hub = await start(t, 'proxied', String(hubPort), ...has);
      const { port, path } = await proxy(t, hubPort);
      const url = `http://${host}:${port}${path}`;

      const expected = says.map((line) => line(port));
      for (const [i, line] of expected.entries()) {
        const refused = await visit(url);
        assert.equal(refused.line, line);
        await refused.page.close();
        await hub.stop();
        hub = await start(t, 'proxied', String(hubPort), ...has, ...expected.slice(0, i + 1));
      }
      const { page, complaints, response, line } = await visit(url);
      assert.equal(line, null);
      assert.equal(response.headers()['content-type'], 'text/html; charset=utf-8');
      await until('the latest value', async () => (await seen(page)).now === 41);

      const asked = await page.evaluate(script);
      assert.match(asked.tag, tag);
      assert.deepEqual(asked, { status: 200, type: 'text/javascript; charset=utf-8', exports: true, tag: asked.tag, again: 304 });

      const { id } = await seen(page);
      if (idle) await pass(2 * IDLE * 1000);
      const still = await seen(page);
      assert.deepEqual([still.state, still.id], ['open', id]);
      assert.doesNotMatch(still.lines.join(), /closed|again/);

      const { messages, code, reason } = await page.evaluate(finish);
      assert.match(messages[0], /^\{"type":1,"body":\d+\}$/);
      assert.equal(messages[1], '{"progress":41,"total":100}');
      if (!loses) assert.deepEqual([code, reason], [1000, 'converged']);
      await until('the end', async () => (await seen(page)).state === 'finished');
      assert.match((await seen(page)).lines.join(), /finished: converged/);
      assert.deepEqual(complaints, []);
    });
  }

  test('nginx that leaves the prefix in the path is told so', async (t) => {
    const { port: hubPort } = await start(t, 'proxied', '0', '.allow_host("run.example")');
    const { port, path } = await keepsPrefix(t, hubPort);
    const { response, line } = await visit(`http://run.example:${port}${path}`);
    assert.deepEqual([response.status(), line], [404, 'expected a path that is served here, got "/run/"; see /']);
  });
});
