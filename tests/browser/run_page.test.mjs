// The hub's page and a run: jobs, series, fields, parameters, the log, and the states of both the run
// and the connection. The hub is the test's own. Pictures are in target/browser.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { picture, seen, until } from './harness.mjs';
import { AGO, FIELDS, RUN, SERIES, copy, describe, job, log, openPage, report, running, series } from './run_hub.mjs';

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', chromiumSandbox: false,
    args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'] });
});
after(() => browser.close());

const plain = (text) => text.replace(/[\u00a0\u202f]/g, ' ');

/** The page with a run that `tell` tells it of. */
async function show(t, tell = running, options = {}) {
  const opened = await openPage(t, { browser, options: { viewport: { width: 1440, height: 900 }, ...options } });
  t.after(() => opened.page.context().close());
  tell(opened.hub);
  const notice = (text) => until(`the notice ${text}`, async () => {
    const { notice } = await seen(opened.page);
    return text.test(plain(notice)) && plain(notice);
  });
  /** The cells of a job's row. */
  const row = (title) => opened.page.evaluate((title) => {
    const found = [...document.querySelectorAll('.tree [role=row]')].find((row) => row.querySelector('b')?.textContent === title);
    return found && Object.fromEntries([...found.children].map((cell) => [cell.className.split(' ')[0], cell.textContent.replace(/[\u00a0\u202f]/g, ' ')])
      .concat([['status', found.dataset.s], ['level', found.ariaLevel], ['said', found.querySelector('[role=progressbar]').ariaValueText.replace(/[\u00a0\u202f]/g, ' ')]]));
  }, title);
  const text = async (selector) => plain(await opened.page.textContent(selector));
  return { ...opened, notice, row, text };
}

test('a running run: head, tree of jobs, parameters, values, log', async (t) => {
  const { page, complaints, row, text, notice } = await show(t);
  await notice(/^member 06: no step for 3 min, usually 30 s$/);
  assert.equal(await page.title(), '42 % · Gray–Scott, F = 0.0367, k = 0.0649');
  assert.deepEqual([await text('#state'), await text('#percent'), await text('#link'), await text('#phases')], ['Running', '42.8%', 'Live', 'phase 3 of 4: time loop']);
  assert.match(await text('#left'), /^1 h 1\d min left$/);
  assert.match(await text('#until'), /^done about (\d+ \w+, )?\d\d:\d\d$/);
  assert.match(await text('#elapsed'), /^0:53:\d\d$/);
  const { rate, of, pct, said } = await row('time loop');
  assert.deepEqual([rate, of, pct], ['1 592 steps/s', '/ 11 800 000 steps', '41.3 %']);
  assert.match(said, /^running, 4 883 200 \/ 11 800 000 steps, 1 h 12 min left$/);
  assert.deepEqual(await row('member 06').then((cells) => [cells['left-in'], cells.rate, cells.level]), ['idle 3 min', 'usually 30 s', '2']);
  assert.deepEqual(await row('spin-up').then((cells) => [cells['left-in'], cells.status]), ['took 2 min 5 s', 'completed']);
  assert.equal(await page.getAttribute('#progress', 'aria-valuenow'), '42');
  assert.match(await text('#params'), /0\.0367moved by viewer 4903, 12 min ago/);
  assert.match(await text('#values'), /cg_iterations14.*max \|u\|0\.9997/);
  const lines = (await seen(page)).lines;
  assert.ok(lines.at(-1).endsWith('checkpointwrote restart_010.h5, 640 MB in 15.2 s'), lines.at(-1));
  assert.ok(lines.includes('1\u202f204 lines left out here: the program was faster than the hub'));
  assert.ok((await page.getAttribute('#icon', 'href')).startsWith('data:image/png'));
  await picture(page, 'page-running');
  assert.deepEqual(complaints, []);
});

for (const [name, options] of [['dark', { colorScheme: 'dark' }], ['forced', { forcedColors: 'active' }], ['360', { viewport: { width: 360, height: 780 } }],
  ['768', { viewport: { width: 768, height: 1024 } }], ['1920', { viewport: { width: 1920, height: 1080 } }], ['2560', { viewport: { width: 2560, height: 1440 }, colorScheme: 'dark' }]]) {
  test(`a running run at ${name} is no wider than its window`, async (t) => {
    const { page, complaints, notice } = await show(t, running, { reducedMotion: 'reduce', ...options });
    await notice(/member 06/);
    const { wider } = await seen(page);
    await picture(page, `page-running-${name}`);
    assert.ok(wider <= 0, `${wider} px wider`);
    assert.deepEqual(complaints, []);
  });
}

test('nothing moves while a run goes on', async (t) => {
  const { page, hub, notice } = await show(t);
  await notice(/member 06/);
  await page.evaluate(() => {
    globalThis.shift = 0;
    new PerformanceObserver((list) => { for (const { value } of list.getEntries()) globalThis.shift += value; }).observe({ type: 'layout-shift' });
  });
  for (let k = 1; k <= 20; k += 1) {
    report(hub, 3, { progress: 4_883_200 + k * 160_007, rate: 1592 + k * 13.7, eta: 4320 - k * 60 });
    hub.send({ points: [[2, 2800 + k, [5_083_200 + k * 1000], [0.13 + k / 100]]] }, undefined, SERIES);
    hub.send(copy(1, 256, 256, (y, x) => (k / 10) * Math.sin(y / 14) * Math.cos(x / 17), 4_883_200 + k), 'data/1', FIELDS);
    log(hub, `line ${k}`);
    hub.send(k * 1.7, 'dt');
    await until(`step ${k}`, async () => (await seen(page)).lines.at(-1).endsWith(`line ${k}`));
  }
  const shift = await page.evaluate(() => globalThis.shift);
  assert.ok(shift < 0.02, `${shift}`);
});

test('before the first step a run says that it waits for it', async (t) => {
  const { page, notice, text } = await show(t, (hub) => {
    describe(hub, { ago: 2 });
    job(hub, 1, { title: 'time loop', status: 'queued', total: 12_000_000, unit: 'steps', started: Date.now() });
    hub.send({ series: { slot: 1, id: 1, job: 1, name: 'residual u', n: 0, x: [], y: [] } }, 'series/1', SERIES);
    hub.send({ field: { slot: 1, id: 1, job: 1, name: 'v' } }, 'field/1', FIELDS);
  });
  await until('the series', () => page.isVisible('#plots canvas'));
  assert.deepEqual([await text('#state'), await text('#left'), await text('#until'), await text('#percent')], ['Waiting for the first step', 'no estimate yet', 'after the first steps', '0.0%']);
  assert.match(await text('.field header'), /none sent yet/);
  await notice(/./);
  await picture(page, 'page-before');
});

test('a run whose hub says that it has finished looks finished while the hub stays', async (t) => {
  const { page, notice, text, complaints } = await show(t, (hub) => {
    running(hub);
    for (const [id, title] of [[3, 'time loop'], [9, 'render film']]) job(hub, id, { title, status: 'completed', total: 750, progress: 750, ended: Date.now() });
    for (const id of [4, 5, 6, 7, 8]) job(hub, id, { parent: 3, title: `part ${id}`, status: 'completed', ended: Date.now() });
    const now = Date.now();
    hub.run({ run: { title: 'Gray–Scott', started: now - AGO * 1000, at: now, host: 'node17', pid: 4, done: now, end: { how: 'finished', reason: 'Converged: residual u 9.8e-7' }, ended: {} } }, 'run');
  });
  await notice(/^Converged: residual u 9\.8e-7\.$/);
  assert.deepEqual([await text('#state'), await text('#percent'), await text('#left'), await text('#link')], ['Finished', '100%', 'took 53 min', 'Live']);
  assert.match(await text('#until'), /^ended at /);
  assert.equal(await page.title(), 'Finished · 100 % · Gray–Scott');
  await picture(page, 'page-run-finished');
  assert.deepEqual(complaints, []);
});

test('a run that has failed says why, and where the first NaN was', async (t) => {
  const { page, notice, text, hub } = await show(t, (hub) => {
    running(hub);
    job(hub, 3, { title: 'time loop', status: 'failed', total: 11_800_000, progress: 4_846_112, weight: 11.2, message: 'NaN in v at cell (113, 87)', ended: Date.now() });
    job(hub, 9, { title: 'render film', status: 'abandoned', weight: 0.3, ended: Date.now() });
    series(hub, 2, 'mean v', (x) => (x > 0.4 ? NaN : 0.1 + x), { nan: [[0, 5_046_112, 9]] });
    hub.send(copy(1, 64, 64, (y, x) => ((y - 30) ** 2 + (x - 20) ** 2 < 40 ? NaN : Math.sin(x / 9))), 'data/1', FIELDS);
    log(hub, 'NaN in v at cell (113, 87), step 5 046 112', { level: 'error', job: 3 });
  });
  hub.say({ bye: { code: 4504, reason: 'NaN in v at cell (113, 87)' } });
  hub.socket.close({ code: 4504 });
  await notice(/^NaN in v at cell \(113, 87\)\. First NaN at 5 046 112, in mean v\.$/);
  assert.deepEqual([await text('#state'), await text('#left'), await text('#link')], ['Failed', 'after 53 min', 'Ended']);
  assert.match(await text('.plot:nth-child(2) .note'), /^first NaN at 5 046 112$/);
  await page.click('text=Show in log');
  await picture(page, 'page-run-failed');
});

test('a lost connection is told with its age and the next attempt, which can be had at once, and goes', async (t) => {
  const { page, notice, text, hub, hubs, next } = await show(t);
  await notice(/member 06/);
  hub.say({ bye: { code: 4000, reason: 'restarting', retry: 60_000 } });
  hub.socket.close({ code: 4000 });
  const before = await notice(/^Last update (just now|\d s ago), at \d\d:\d\d:\d\d\. The run may well go on\. Next attempt in \d\d s\.$/);
  await notice(/^Last update [2-9] s ago.*Next attempt in 5\d s\.$/);
  assert.ok(before);
  assert.deepEqual([await text('#state'), await text('#link'), await page.evaluate(() => document.body.dataset.link)], ['No connection', 'No connection', 'lost']);
  assert.match(await text('#until'), /^as of \d\d:\d\d:\d\d$/);
  assert.equal(await page.isDisabled('.tree .act button'), true);
  assert.match(await page.title(), /^No connection · 42 % · /);
  await picture(page, 'page-disconnected');
  await page.click('text=Try now');
  const second = await until('another connection', async () => hubs.length > 1 && next());
  second.greet({ resumed: true });
  await until('the return', async () => await text('#link') === 'Live');
  assert.equal(await text('#state'), 'Running');
});

test('a hub that leaves without a word, and does not come back, has lost its run', async (t) => {
  const { page, notice, text, hub, hubs } = await show(t);
  await notice(/member 06/);
  hub.say({ bye: { code: 4000, reason: 'the hub has ended', retry: 300 } });
  hub.socket.close({ code: 4000 });
  for (let i = 1; i < 3; i += 1) {
    await until('an attempt', () => hubs.length > i);
    await hubs[i].socket.close({ code: 1001 });
  }
  await notice(/^The program ended without saying how\. Nothing answers here since \d\d:\d\d:\d\d\./);
  assert.deepEqual([await text('#state'), await text('#left')], ['Lost', 'after 53 min']);
  assert.match(await text('#until'), /^last heard /);
  await picture(page, 'page-lost');
});

test('a view that went to another tab can be had back', async (t) => {
  const { page, notice, text, hub, hubs } = await show(t);
  await notice(/member 06/);
  hub.say({ bye: { code: 4500, reason: 'another connection' } });
  hub.socket.close({ code: 4500 });
  await notice(/^This view went to another tab at \d\d:\d\d:\d\d\.$/);
  assert.equal(await text('#state'), 'Taken over');
  await picture(page, 'page-taken-over');
  await page.click('text=Use this one');
  await until('another connection', () => hubs.length > 1);
});

test('a program that was started again is a new run, and the one before stays until it is dismissed', async (t) => {
  const { page, notice, text, hub, hubs, next } = await show(t);
  await notice(/member 06/);
  hub.socket.close({ code: 1001 });
  const second = await until('another connection', async () => hubs.length > 1 && next());
  second.greet({ id: 8, epoch: 'ffffffffffffffff' });
  describe(second, { ago: 92 });
  job(second, 1, { title: 'time loop', unit: 'steps', total: 12_000_000, started: Date.now() - 92_000 });
  report(second, 1, { progress: 142_000, rate: 1611, eta: 7300 });
  series(second, 2, 'mean v', (x) => 0.1 + x, { n: 20, last: 142_000, job: 1 });
  log(second, 'a line of the new run', { job: 1 });
  await notice(/^A new run began at \d\d:\d\d:\d\d\. The run before was lost at 42\.8 % after 53 min\.$/);
  assert.ok((await text('#log')).includes('wrote restart_010.h5'), 'the log of the run before');
  await until('the new run', async () => (await seen(page)).lines.at(-1).endsWith('a line of the new run'));
  assert.ok(await page.isVisible('text=Run before'));
  await picture(page, 'page-restarted');
  await page.click('text=Dismiss');
  await until('the run before to go', async () => !(await text('#log')).includes('wrote restart_010.h5') && !await page.isVisible('text=Run before'));
});

test('cancel asks first, away from the pointer, and its way to cancelled is seen', async (t) => {
  const { page, hub, row, notice } = await show(t);
  await notice(/member 06/);
  await page.click('[aria-label="Cancel time loop"]');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Keep running');
  await picture(page, 'page-cancel');
  await page.keyboard.press('Escape');
  assert.deepEqual(hub.heard, []);
  await page.focus('.tree [data-id="3"]');
  await page.keyboard.press('Delete');
  await page.click('text=Cancel the job');
  const [said] = await until('the command', () => hub.heard.length && hub.heard);
  assert.deepEqual(said, { cancel: { id: 3 } });
  job(hub, 3, { title: 'time loop', status: 'cancelling', total: 11_800_000, unit: 'steps', weight: 11.2, cancellable: true });
  await notice(/^time loop: cancel asked for by you (just now|\d+ s ago)\. The program stops at its next check\.$/);
  assert.equal((await row('time loop'))['left-in'], 'cancelling');
  await picture(page, 'page-cancelling');
  job(hub, 3, { title: 'time loop', status: 'cancelled', total: 11_800_000, unit: 'steps', weight: 11.2, progress: 4_900_000, ended: Date.now() });
  await until('the end of it', async () => (await row('time loop'))['left-in'] === 'after 53 min');
});

test('parameters are moved, switched, chosen and pressed', async (t) => {
  const { page, hub, text } = await show(t);
  await until('the parameters', () => page.isVisible('#p-1'));
  await page.focus('#p-1');
  await page.keyboard.press('ArrowRight');
  await until('the slider', () => hub.heard.some(({ set }) => set?.id === 1 && set.value > 0.0367 && set.value < 0.0369));
  await page.selectOption('#p-2', 'explicit Euler');
  await page.click('#p-3');
  await page.click('#p-4');
  const said = await until('all of them', () => hub.heard.some(({ set }) => set?.id === 4) && hub.heard.slice(-3).map(({ set }) => [set.id, set.value]));
  assert.deepEqual(said, [[2, 'explicit Euler'], [3, false], [4, true]]);
  hub.run({ parameter: { id: 3, name: 'checkpoints', kind: 'switch', value: false, by: '7', at: Date.now() } }, 'parameter/3');
  await until('who did it', async () => (await text('#params')).includes('moved by you, just now'));
  await picture(page, 'page-parameters');
});

test('a plot has one cursor with the others, a log axis, and a window', async (t) => {
  const { page, text } = await show(t);
  await until('the plots', () => page.isVisible('.plot canvas'));
  const canvas = page.locator('.plot canvas').nth(1);
  await canvas.focus();
  for (const key of ['Home', 'ArrowRight', 'l']) await page.keyboard.press(key);
  await until('the cursor', async () => /^at /.test(await text('#cursor-at')));
  const reads = await until('bands', () => page.evaluate(() => {
    const bands = [...document.querySelectorAll('.plot em:not(.key)')].map((band) => band.textContent);
    return bands.every((text) => / to /.test(text)) && bands;
  }));
  assert.equal(reads.length, 4);
  assert.equal(await page.getAttribute('[aria-label="Log axis of mean v"]', 'aria-pressed'), 'true');
  assert.match(await canvas.getAttribute('aria-label'), /^mean v: now \d\.\d\de−\d$/);
  await page.keyboard.press('Escape');
  await until('the latest', async () => await text('#cursor-at') === 'latest');
  await page.click('text=Last 10 %');
  await until('the window', async () => await page.getAttribute('text=Last 10 %', 'aria-pressed') === 'true');
  await picture(page, 'page-log-axis');
});

test('the range of a field grows only, and can be locked; the value under the pointer is told', async (t) => {
  const { page, hub, text } = await show(t);
  const range = () => page.evaluate(() => [...document.querySelectorAll('.scale > span')].map((end) => end.textContent));
  await until('the field', async () => (await range())[1] === '0.4100');
  hub.send(copy(1, 256, 256, () => 0.3, 1), 'data/1', FIELDS);
  await until('a flat one', async () => await text('.field .under') === 'at 1');
  assert.deepEqual(await range(), ['0.01000', '0.4100']);
  await page.click('text=Lock range');
  hub.send(copy(1, 256, 256, () => 7, 2), 'data/1', FIELDS);
  await until('a greater one', async () => await text('.field .under') === 'at 2');
  assert.deepEqual(await range(), ['0.01000', '0.4100']);
  await page.hover('.heat', { position: { x: 3, y: 3 } });
  await until('the value', async () => /^row \d, column \d: 7\.000$/.test(await text('.field header .cut')));
});

test('three hundred jobs are cells, chips and twenty rows a page, failed first', async (t) => {
  const { page, notice, text } = await show(t, (hub) => {
    describe(hub, { title: 'Parameter sweep, 300 members' });
    for (let i = 1; i <= 300; i += 1) {
      const status = i === 37 || i === 118 ? 'failed' : i <= 211 ? 'completed' : i <= 215 ? 'working' : 'queued';
      job(hub, i, { title: `member ${String(i).padStart(3, '0')}`, status, total: 40_000, unit: 'steps', ...['failed', 'completed'].includes(status) && { ended: Date.now() - 1000, progress: status === 'failed' ? 25_000 : 40_000 } });
      if (status === 'working') report(hub, i, { progress: 9000, rate: 398, eta: 78 });
    }
  }, { colorScheme: 'dark' });
  await notice(/^2 of 300 jobs failed: member 037, member 118\.$/);
  const titles = () => page.locator('.tree b').allTextContents();
  await until('the rows', async () => (await titles()).length === 20);
  assert.deepEqual((await titles()).slice(0, 3), ['member 037', 'member 118', 'member 212']);
  assert.equal(await page.locator('.cells i').count(), 300);
  await picture(page, 'page-300-jobs');
  await page.click('text=Next 20');
  await until('the next page', async () => (await text('#jobs .under')).startsWith('21 to 40 of 300'));
  await page.fill('[aria-label="Filter jobs"]', 'member 29');
  await until('the filter', async () => (await titles()).length === 10);
  await page.fill('[aria-label="Filter jobs"]', '');
  await page.click('text=Show them');
  await until('the failed ones', async () => (await titles()).join() === 'member 037,member 118');
});

test('sixty values do not push out the log', async (t) => {
  const { page } = await show(t, (hub) => {
    running(hub);
    for (let i = 0; i < 60; i += 1) hub.send(10 ** (i % 9 - 4) * 1.234, `solver/value ${i}`);
  }, { viewport: { width: 1920, height: 1080 } });
  await until('the values', async () => await page.textContent('#value-count') === '66');
  assert.ok(await page.isVisible('#log li:last-child'));
  const { bottom } = await page.evaluate(() => document.querySelector('#log li:last-child').getBoundingClientRect());
  assert.ok(bottom <= 1080, `${bottom}`);
  await picture(page, 'page-sixty-values');
});

test('markup in titles, units, names, messages and lines stays text', async (t) => {
  const markup = '<img src=x onerror="document.title=1">';
  const { page, complaints } = await show(t, (hub) => {
    describe(hub, { title: markup });
    job(hub, 3, { title: markup, unit: markup, message: markup, total: 9, cancellable: true });
    report(hub, 3, { progress: 4, rate: 2, eta: 3 });
    hub.run({ parameter: { id: 1, name: markup, kind: 'choice', value: markup, names: [markup], by: markup, at: Date.now() } }, 'parameter/1');
    series(hub, 1, markup, (x) => x, { unit: markup, lines: [markup, 'b'] });
    hub.send({ field: { slot: 1, id: 1, job: 3, name: markup, unit: markup } }, 'field/1', FIELDS);
    hub.send(copy(1, 2, 2, () => 1), 'data/1', FIELDS);
    log(hub, `\x1b[31m${markup}\x1b[0m`, { job: 3, level: 'error' });
    hub.send(markup, markup);
  });
  await until('the line', async () => (await seen(page)).lines.at(-1)?.endsWith(markup));
  await page.click('[aria-label^="Cancel"]');
  assert.equal(await page.locator('img').count(), 0);
  assert.equal(await page.title(), `44 % · ${markup}`);
  assert.deepEqual(complaints, []);
});

test('the log is searched, sifted by level, and followed until its reader scrolls up', async (t) => {
  const { page, hub } = await show(t);
  const shown = () => page.locator('#log li:not(.mark):not([hidden])').count();
  await until('the log', async () => await shown() > 40);
  await page.keyboard.press('/');
  await page.keyboard.type('courant');
  await until('what was searched', async () => await shown() === 1);
  await page.fill('#log-search', '');
  await page.selectOption('[aria-label="Least level shown"]', 'Warnings');
  await until('warnings', async () => await shown() === 1);
  await page.selectOption('[aria-label="Least level shown"]', 'All levels');
  const pressed = () => page.getAttribute('#log-tools button', 'aria-pressed');
  assert.equal(await pressed(), 'true');
  await page.focus('#log');
  await page.keyboard.press('PageUp');
  assert.equal(await pressed(), 'false');
  for (let k = 0; k < 12; k += 1) log(hub, `new ${k}`);
  await until('the new ones', async () => await page.textContent('#back') === '12 new');
  await page.click('#back');
  assert.equal(await pressed(), 'true');
  await page.keyboard.press('f');
  assert.equal(await pressed(), 'false');
});

test('the page is one of a run, and no other feed asks for more', async (t) => {
  const { hub } = await show(t);
  assert.deepEqual(Object.keys(hub.hello.feeds).sort(), ['', FIELDS, RUN, SERIES]);
});

test('a tab that nobody sees says in its title how the run ended, and notifies', async (t) => {
  const { page, hub } = await show(t);
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { get: () => true });
    window.notes = [];
    window.Notification = class { static permission = 'granted'; static requestPermission = async () => 'granted'; constructor(title) { window.notes.push(title); throw new TypeError('for service workers only'); } };
  });
  await page.click('#notify');
  hub.say({ bye: { code: 4504, reason: 'NaN in v' } });
  hub.socket.close({ code: 4504 });
  await until('the end in the title', async () => /^Failed · /.test(await page.title()));
  await until('a notification', async () => (await page.evaluate(() => window.notes)).length === 1);
  await page.waitForTimeout(1500);
  assert.equal((await page.evaluate(() => window.notes)).length, 1, 'once');
});
