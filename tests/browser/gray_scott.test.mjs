// The hub's own page, as the main example serves it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { launch, open, picture, seen, start, until } from './harness.mjs';

/** The share of the run at which the pattern is worth a picture. */
const PICTURE = 0.08;

test('the page shows the bar and the field of a running model', async (t) => {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0');
  const browser = await launch(t);
  const { page, complaints } = await open(browser, { colorScheme: 'light' });
  await page.goto(run.url);

  const first = await until('a connection, an id, a bar and a field', async () => {
    const now = await seen(page);
    return now.state === 'open' && /^\d+$/.test(now.id) && now.max > 0 && now.field.ny && now;
  });
  assert.equal(first.min, 0);
  assert.ok(first.lines[0].endsWith(`connected as client ${first.id}`), first.lines[0]);
  const next = await until('the bar moves', async () => {
    const now = await seen(page);
    return now.now > first.now && now.colours > 16 && now;
  });
  assert.ok(next.now <= next.max);
  assert.match(next.title, /^\d+ % /);
  const { ny, nx, min, max } = next.field;
  assert.ok(Number(ny) > 1 && Number(nx) > 1);
  assert.ok(Number(min) < Number(max), `the field goes from ${min} to ${max}`);
  assert.ok(next.count > first.count);

  // More than one looks at the same run, each in its own way, and each has an id of its own.
  const dark = await open(browser, { colorScheme: 'dark' });
  const phone = await open(browser, { colorScheme: 'light', viewport: { width: 390, height: 844 } });
  await dark.page.goto(run.url);
  await phone.page.goto(run.url);
  await until('the pattern', async () => {
    const now = await seen(page);
    return now.now / now.max >= PICTURE;
  }, 120_000);
  const ids = new Set([first.id]);
  for (const [name, viewer] of [['-dark', dark], ['-phone', phone]]) {
    const now = await until(`the field at${name}`, async () => {
      const now = await seen(viewer.page);
      return now.now > 0 && now.colours > 16 && now;
    });
    ids.add(now.id);
    assert.ok(now.wider <= 0, `${name} is ${now.wider} px wider than its window`);
    await picture(viewer.page, `gray_scott${name}`);
    assert.deepEqual(viewer.complaints, []);
  }
  await picture(page, 'gray_scott');
  assert.equal(ids.size, 3, 'three viewers, three ids');
  assert.deepEqual(complaints, []);
});

test('the page comes back to a run that was started again', async (t) => {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0');
  const { page } = await open(await launch(t));
  await page.goto(run.url);
  const before = await until('an id', async () => {
    const now = await seen(page);
    return now.state === 'open' && /^\d+$/.test(now.id) && now;
  });
  await run.stop();
  await until('the loss to be seen', async () => (await seen(page)).state !== 'open');
  await start(t, 'gray_scott', '--addr', `127.0.0.1:${run.port}`);
  await until('a new id and progress', async () => {
    const now = await seen(page);
    return now.state === 'open' && /^\d+$/.test(now.id) && now.id !== before.id && now.now > 0;
  });
});

/** The page when its run has ended, which it must have seen. */
async function ended(page, word) {
  await until(`the end: ${word}`, async () => await page.textContent('#state-word') === word);
  return { ...await seen(page), text: await page.innerText('body') };
}

/** It is looked at again, as a tab is that comes to the front. */
const look = (page) => page.evaluate(() => { document.dispatchEvent(new Event('visibilitychange')); });

test('a run that has finished says so, keeps its last state, and the page goes on with the next run when it is looked at', async (t) => {
  const browser = await launch(t);
  let run, page;
  // Longer and longer, until one lasts until the page is there and has a field.
  for (let steps = 1000; ; steps *= 4) {
    run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0', '--size', '64', '--steps', String(steps));
    ({ page } = await open(browser));
    if (!await page.goto(run.url).catch(() => null)) continue;
    const now = await until('a field, or the end', async () => {
      const now = await seen(page);
      return (now.field.ny || now.state === 'finished' || now.state === 'closed') && now;
    });
    if (now.field.ny) break;
  }
  const now = await ended(page, 'Finished');
  assert.match(now.notice, /^\d+ steps in [\d.]+ s\.$/);
  assert.match(now.until, /^ended at \d\d:\d\d$/);
  assert.equal(now.now, now.max, 'the last state has arrived');
  assert.equal(now.field.ny, '64');
  assert.doesNotMatch(now.text, /next attempt|Not connected/);
  await picture(page, 'gray_scott-finished');

  // Nobody answers: it stays so.
  const attempt = page.waitForEvent('websocket');
  await look(page);
  const socket = await attempt;
  if (!socket.isClosed()) await socket.waitForEvent('close').catch(() => {});
  assert.equal(await page.textContent('#state'), 'Finished');

  await start(t, 'gray_scott', '--addr', `127.0.0.1:${run.port}`);
  const next = await until('the next run', async () => {
    await look(page);
    const next = await seen(page);
    return next.state === 'open' && next.field.ny === '256' && next;
  });
  assert.notEqual(next.id, now.id);
  assert.doesNotMatch(next.until, /ended/);
});

test('a run that has failed says so, with the reason', async (t) => {
  // The example looks at what it shows, and so finds out when somebody watches.
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0', '--size', '64', '--diffusion', '2');
  const { page } = await open(await launch(t));
  await page.goto(run.url);
  const now = await ended(page, 'Failed');
  assert.match(now.notice, /^v is not finite at step \d+\. /);
  assert.ok(now.max > 0, 'the bar is kept');
  assert.doesNotMatch(now.text, /next attempt|Not connected/);
  await picture(page, 'gray_scott-failed');
});

test('every answer has a policy with a nonce of its own', async (t) => {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0');
  const nonces = [];
  for (let i = 0; i < 2; i++) {
    const answer = await fetch(run.url);
    const [policy, body] = [answer.headers.get('content-security-policy'), await answer.text()];
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    const nonce = /script-src 'nonce-([^']+)'/.exec(policy)[1];
    assert.ok(nonce.length >= 16, nonce);
    assert.equal(body.split(`nonce="${nonce}"`).length, 3, 'one style and one script');
    assert.doesNotMatch(body, /\{\{\w+\}\}/, 'a place was left open');
    nonces.push(nonce);
  }
  assert.notEqual(nonces[0], nonces[1]);
});
