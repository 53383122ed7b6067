// A run that a browser starts with a request that carries its id, and that answers to that id.

import assert from 'node:assert/strict';
import test from 'node:test';
import { launch, open, start, until } from './harness.mjs';

const lines = ({ page }) => page.evaluate(() => (
  [...document.querySelectorAll('#log li')].map((line) => line.textContent)));
const iterations = (lines) => lines.map((line) => Number(/iteration (\d+)/.exec(line)?.[1])).filter(Boolean);

test('a browser that reloads mid-run, and one whose network is cut, stay who they are and miss nothing', async (t) => {
  const { url } = await start(t, 'run_on_request', '127.0.0.1:0', '127.0.0.1:0');
  const viewer = await open(await launch(t));
  const { page } = viewer;
  const id = () => page.textContent('#client-id');
  await page.goto(url);
  await until('an id', async () => /^\d+$/.test(await id()));
  const first = await id();
  await page.click('#start');
  const seen = new Set();
  const look = async () => { for (const n of iterations(await lines(viewer))) seen.add(n); };
  for (let round = 0; round < 3; round++) {
    const before = seen.size;
    await until('some iterations', async () => { await look(); return seen.size >= before + 2; });
    await page.reload();
    await until('the same id', async () => await id() === first);
    await page.context().setOffline(true);
    await page.context().setOffline(false);
  }
  await until('some more', async () => { await look(); return seen.size >= 12; });
  const all = [...seen].sort((a, b) => a - b);
  assert.deepEqual(all, all.map((_, i) => 1000 * (i + 1)));
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
