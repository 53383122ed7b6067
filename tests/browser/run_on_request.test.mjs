// A run that a browser starts with a request that carries its id, and that answers to that id.

import assert from 'node:assert/strict';
import test from 'node:test';
import { cable, launch, open, serve, start, until } from './harness.mjs';

/** Keeps what the log shows, line by line, where a reload leaves it: all that each page of a tab showed. */
function record() {
  const pages = JSON.parse(sessionStorage.getItem('pages') ?? '[]');
  const own = [];
  pages.push(own);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) if (node.matches?.('#log li')) own.push(node.textContent);
    }
    sessionStorage.setItem('pages', JSON.stringify(pages));
  }).observe(document, { subtree: true, childList: true });
}

test('a browser that reloads mid-run, and whose network is cut, stays who it is and misses nothing', async (t) => {
  const { url } = await start(t, 'run_on_request', '127.0.0.1:0', '127.0.0.1:0');
  // The page as it is served, but for the hub's port: the way there is one that can be cut.
  const written = await (await fetch(url)).text();
  const [, port] = /:(\d+)\/stepcast\.js/.exec(written);
  const way = await cable(t, Number(port));
  const { page, complaints } = await open(await launch(t));
  await page.addInitScript(record);
  const base = await serve(t, async ({ url: path, method, headers }) => {
    const client = headers['stepcast-client'] ?? '';
    return path === '/'
      ? { headers: { 'content-type': 'text/html' }, body: written.replace(`:${port}/`, `:${way.port}/`) }
      : { body: await (await fetch(new URL(path, url), { method, headers: { 'stepcast-client': client } })).text() };
  });
  await page.goto(base);
  const ready = () => until('an id, and the button', () => page.evaluate(() => (
    document.getElementById('start').disabled ? null : document.getElementById('client-id').textContent)));
  const first = await ready();
  assert.match(first, /^\d+$/);
  await page.click('#start');

  const pages = () => page.evaluate(() => JSON.parse(sessionStorage.getItem('pages') ?? '[]'));
  const all = async () => [...new Set((await pages()).flat())];
  const over = async () => (await all()).some((line) => line.includes('done'));
  const more = async (what) => {
    const before = (await all()).length;
    await until(`messages after ${what}`, async () => (await all()).length > before || await over());
  };
  await more('the start');
  let rounds = 0;
  for (; rounds < 3 && !await over(); rounds++) { // the run takes some seconds only
    await page.reload();
    assert.equal(await ready(), first, 'the id after a reload');
    await more('a reload');
    way.down = true; // or it may be back before the loss is seen
    assert.equal(way.cut(), 1, 'connections');
    await until('the loss to be seen', () => page.isDisabled('#start'));
    way.down = false;
    assert.equal(await ready(), first, 'the id after a cut');
    await more('a cut');
  }
  assert.ok(rounds >= 1);
  await until('the end', over);

  // A page that is gone may have shown what the hub had not heard that it had, so that the next was
  // given it again. But each page has an unbroken piece of the run, and no piece begins too late.
  const number = (line) => (line.includes('done') ? Infinity : Number(/iteration (\d+),/.exec(line)[1]) / 1000);
  let newest = 0;
  for (const shown of (await pages()).map((lines) => lines.map(number))) {
    for (const [i, now] of shown.entries()) {
      if (i === 0) assert.ok(now >= 1 && now <= newest + 1 || now === Infinity, `${now} after ${newest}`);
      else if (now !== Infinity) assert.equal(now, shown[i - 1] + 1);
      newest = Math.max(newest, now);
    }
  }
  assert.ok((await all()).at(-1).includes('done'), 'what came last');
  assert.ok((await all()).every((line) => line.startsWith(`run of ${first}: `)));
  assert.deepEqual(complaints.filter((text) => !/WebSocket|ERR_CONNECTION/.test(text)), []);
});

test('two browsers start a run each, and each sees only its own', async (t) => {
  const { url } = await start(t, 'run_on_request', '127.0.0.1:0');
  const browser = await launch(t);
  const viewers = await Promise.all([open(browser), open(browser)]);
  const look = ({ page }) => page.evaluate(() => ({
    id: document.getElementById('client-id').textContent.trim(),
    lines: [...document.querySelectorAll('#log li')].map((line) => line.textContent),
  }));
  await Promise.all(viewers.map(({ page }) => page.goto(url)));
  const ids = await Promise.all(viewers.map(async (viewer) => {
    const { id } = await until('an id', async () => {
      const now = await look(viewer);
      return /^\d+$/.test(now.id) && now;
    });
    return id;
  }));
  assert.notEqual(ids[0], ids[1]);

  await Promise.all(viewers.map(({ page }) => page.click('#start')));
  await Promise.all(viewers.map((viewer, i) => until('messages of the own run', async () => {
    const { lines } = await look(viewer);
    return lines.filter((line) => line.includes(ids[i])).length >= 3;
  })));
  for (const [i, viewer] of viewers.entries()) {
    const { lines } = await look(viewer);
    const others = lines.filter((line) => line.includes(ids[1 - i]));
    assert.deepEqual(others, [], 'what was sent to the other browser');
    assert.deepEqual(viewer.complaints, []);
  }
});
