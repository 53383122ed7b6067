// What happens to a browser in the course of a run, against a hub that every tenth of a second sends a line
// and sets two values. What a viewer beside it has, to whom nothing happens, says what was sent.

import assert from 'node:assert/strict';
import test from 'node:test';
import { cable, launch, open, serve, start, until } from './harness.mjs';

/** Writes down all that the client tells, where a reload leaves it. */
const html = (url) => `<!doctype html><link rel="icon" href="data:,"><script type="module">
  import { connect } from '${url}stepcast.js';
  const log = (what) => sessionStorage.setItem('log', (sessionStorage.getItem('log') ?? '') + what + '\\n');
  let last = 0;
  globalThis.hub = connect(undefined, { feeds: ['stepcast/run'] });
  hub.on('message', ({ seq, data }) => {
    const now = JSON.stringify(data);
    const before = sessionStorage.getItem('message ' + seq);
    if (last && seq !== last + 1) log('fault: ' + seq + ' after ' + last);
    if (before !== null && before !== now) log('fault: ' + seq + ' is another now');
    sessionStorage.setItem('message ' + seq, now);
    sessionStorage.setItem('last', last = seq);
  });
  hub.on('value', ({ key, data }) => {
    if (data.report?.id !== 1) return;
    const { progress } = data.report;
    if (progress < Number(sessionStorage.getItem('progress'))) log('fault: ' + progress + ' is older than what was there');
    sessionStorage.setItem('progress', progress);
  });
  hub.on('gap', (gap) => log('fault: gap ' + JSON.stringify(gap)));
  hub.on('error', (error) => log('fault: error ' + JSON.stringify(error)));
  hub.on('feed', ({ feed, how }) => { if (feed === 'stepcast/run') log('feed ' + how); });
  hub.on('status', ({ state, id, resumed, code }) => log([state, state === 'open' ? id : code, resumed].join(' ')));
</script>`;

const last = (page) => page.evaluate(() => Number(sessionStorage.getItem('last')));
const progress = (page) => page.evaluate(() => Number(sessionStorage.getItem('progress')));
const idOf = (page) => page.evaluate(() => hub.id);
const state = (page) => page.evaluate(() => hub.state);
const log = async (page) => (await page.evaluate(() => sessionStorage.getItem('log'))).trim().split('\n');
const opened = async (page) => (await log(page)).filter((line) => line.startsWith('open '));
const faults = async (page) => (await log(page)).filter((line) => line.startsWith('fault'));
const messages = (page) => page.evaluate(() => (
  Object.entries(sessionStorage).filter(([key]) => key.startsWith('message '))
    .map(([key, what]) => [Number(key.slice(8)), what]).sort(([a], [b]) => a - b)));

/** A run that does not end, a viewer to whom nothing happens, and one whose way to the hub is `way`. */
async function watch(t, without) {
  const run = await start(t, 'gray_scott', '--addr', '127.0.0.1:0', '--size', '64', '--steps', '1000000000000',
    '--lines', '100');
  const way = await cable(t, run.port);
  const view = async (browser, url) => {
    const { page } = await open(browser);
    await page.goto(await serve(t, () => ({ headers: { 'content-type': 'text/html' }, body: html(url) })));
    await until('a message', () => last(page));
    return page;
  };
  const witness = await view(await launch(t), run.url);
  const browser = await launch(t, without);
  const page = await view(browser, way.url);
  /** Until so many more have been sent. */
  const sent = async (more) => {
    const before = await last(witness);
    await until(`${more} more messages`, async () => await last(witness) >= before + more);
  };
  /** Until the page has what has been sent. */
  const caughtUp = async (after) => {
    const [now, state] = [await last(witness), await progress(witness)];
    await until(`message ${now} after ${after}`, async () => await last(page) >= now);
    await until(`step ${state} after ${after}`, async () => await progress(page) >= state);
  };
  return { run, way, witness, browser, page, sent, caughtUp };
}

/** The page has all that the hub sent, up to the last that both have. */
async function missedNothing({ page, witness }) {
  assert.deepEqual(await faults(witness), []);
  assert.deepEqual(await faults(page), []);
  const [sent, had] = [await messages(witness), await messages(page)];
  const upto = Math.min(sent.at(-1)[0], had.at(-1)[0]);
  const until = (list) => list.filter(([seq]) => seq <= upto);
  assert.deepEqual(until(sent).map(([seq]) => seq), until(sent).map((_, i) => sent[0][0] + i));
  assert.deepEqual(until(had), until(sent));
  return upto;
}

test('a browser that is reloaded ten times, and whose network is cut ten times, misses nothing', async (t) => {
  const run = await watch(t);
  const { page, way, sent, caughtUp } = run;
  const id = await idOf(page);
  for (let round = 1; round <= 10; round++) {
    await page.reload();
    assert.equal(await idOf(page), id, `after reload ${round}`);
    await caughtUp(`reload ${round}`);

    way.down = true;
    assert.ok(way.cut() >= 1, `cut ${round} cut nothing`);
    await until('the loss to be seen', async () => await state(page) !== 'open');
    await sent(10);
    way.down = false;
    await caughtUp(`cut ${round}`);
  }
  await missedNothing(run);
  // Each time it was the same client. What a page has is gone with it; what it has, it is not sent again.
  assert.deepEqual(await opened(page), [`open ${id} false`, ...Array(20).fill(`open ${id} true`)]);
  assert.deepEqual((await log(page)).filter((line) => line.startsWith('feed ')),
    ['feed snapshot', ...Array(10).fill(['feed snapshot', 'feed resumed']).flat()]);
});

test('a page whose process is stopped for a while goes on where it was, with its connection or without', async (t) => {
  const run = await watch(t);
  const { page, browser, way, sent, caughtUp } = run;
  const id = await idOf(page);
  // Chromium freezes no page that can be seen, and without a screen all can: so by the system.
  const devtools = await browser.newBrowserCDPSession();
  const { processInfo } = await devtools.send('SystemInfo.getProcessInfo');
  const processes = processInfo.filter(({ type }) => type === 'renderer').map((process) => process.id);
  const stopped = async (meanwhile) => {
    for (const pid of processes) process.kill(pid, 'SIGSTOP');
    try {
      assert.equal(await Promise.race([last(page), sent(20).then(() => 'stopped')]), 'stopped');
      meanwhile?.();
    } finally {
      for (const pid of processes) process.kill(pid, 'SIGCONT');
    }
  };
  await stopped();
  await caughtUp('the first time');
  assert.deepEqual(await opened(page), [`open ${id} false`]);

  await stopped(() => assert.ok(way.cut() >= 1));
  await until('another connection', async () => (await opened(page)).length > 1);
  await caughtUp('the second time');
  assert.deepEqual(await opened(page), [`open ${id} false`, `open ${id} true`]);
  await missedNothing(run);
});

test('a page that the browser kept as it was, while another was looked at, goes on where it was', async (t) => {
  const run = await watch(t, ['--disable-back-forward-cache']); // as users have it
  const { page, sent, caughtUp } = run;
  const id = await idOf(page);
  await page.evaluate(() => { addEventListener('pageshow', ({ persisted }) => { globalThis.persisted = persisted; }); });
  await page.goto(await serve(t, () => ({ headers: { 'content-type': 'text/html' }, body: 'another page' })));
  await sent(10);
  // Not `goBack`, which waits for the page to be loaded.
  await page.evaluate(() => { history.back(); });
  await until('the page as it was', () => page.evaluate(() => globalThis.persisted).catch(() => false));
  await caughtUp('it was come back to');
  await missedNothing(run);
  assert.deepEqual(await opened(page), [`open ${id} false`, `open ${id} true`]);
  // Its script is the same, and so is what it has: it was sent nothing twice.
  assert.deepEqual((await log(page)).filter((line) => line.startsWith('feed ')), ['feed snapshot', 'feed resumed']);
});

test('a tab that is duplicated is a client of its own, and takes nothing from the first', async (t) => {
  const run = await watch(t);
  const { page, witness, caughtUp } = run;
  const id = await idOf(page);
  const another = page.context().waitForEvent('page');
  await page.evaluate(() => { open(location.href); });
  const copy = await another;
  await copy.waitForLoadState();
  const own = await idOf(copy);
  assert.notEqual(own, id);
  await caughtUp('it was duplicated');
  await copy.reload();
  await page.reload();
  assert.deepEqual([await idOf(page), await idOf(copy)], [id, own]);
  await caughtUp('both were reloaded');
  await until('the copy to have as much', async () => await last(copy) >= await last(page));
  await missedNothing(run);
  await missedNothing({ page: copy, witness });
  assert.deepEqual(await opened(page), [`open ${id} false`, `open ${id} true`]);
});

test('a tab that has crashed is the same client when it is loaded again', { timeout: 120_000 }, async (t) => {
  const { page } = await watch(t);
  const id = await idOf(page);
  const devtools = await page.context().newCDPSession(page);
  const crashed = new Promise((resolve) => { page.once('crash', resolve); });
  devtools.send('Page.crash').catch(() => {}); // nobody is there to answer
  await crashed;
  // Not by `page`, which takes the tab for gone.
  await devtools.send('Page.reload');
  const evaluate = async (expression) => {
    const { result } = await devtools.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    return result.value;
  };
  await until('the page', () => evaluate('globalThis.hub && 1').catch(() => false));
  assert.equal(await evaluate('hub.id'), id);
});

test('after the hub was killed and started again, a page goes on by itself as a new client', async (t) => {
  const { run, way, page, witness } = await watch(t);
  const id = await idOf(page);
  await witness.close();
  await run.stop();
  way.cut();
  await until('the loss to be seen', async () => await state(page) !== 'open');
  await page.evaluate(() => ['last', 'progress'].forEach((key) => sessionStorage.removeItem(key)));
  await start(t, 'gray_scott', '--addr', `127.0.0.1:${run.port}`, '--size', '64');
  await until('messages of the new run', () => last(page));
  const now = await page.evaluate(() => hub.client);
  assert.notEqual(now, id);
  assert.deepEqual(await opened(page), [`open ${id} false`, `open ${now} false`]);
  assert.deepEqual((await log(page)).filter((line) => line.startsWith('feed ')), ['feed snapshot', 'feed snapshot']);
});
