// The hub's page against a server that sends what no honest run would.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { launch, open, picture, root, seen, serve, until } from './harness.mjs';
import { NOW, field, openPage } from './run_hub.mjs';

const source = readFileSync(join(root, 'src/page/index.html'), 'utf8');

test('the socket is opened beside the page', async (t) => {
  const { hub, base } = await openPage(t);
  assert.equal(hub.socket.url(), `${base.replace('http', 'ws')}behind/a/proxy/`);
});

test('the page of a feed follows that feed, and has its name', async (t) => {
  const { page, complaints, hub, hubs } = await openPage(t, { path: 'feed/run%2F42/a%20b?x=/feed/', up: '../../' });
  assert.deepEqual(hub.hello.feeds, { 'run/42/a b': {} });
  assert.match(new URL(hubs[0].socket.url()).pathname, /^\/behind\/a\/proxy\//);
  hub.say({ feed: { name: 'run/42/a b', alias: 2, seq: 0, how: 'snapshot' } });
  hub.say({ json: [2, 1, NOW, { progress: 1, total: 4 }, 'progress'] });
  await until('the percentage', async () => (await page.title()) === '25 % · run/42/a b');
  assert.deepEqual(complaints, []);
});

test('the page of a feed whose name ends in a slash follows that feed', async (t) => {
  const { hub } = await openPage(t, { path: 'feed/run/', up: '../../' });
  assert.deepEqual(hub.hello.feeds, { 'run/': {} });
});

test('the page of a feed says that the feed is finished, until there is another one of its name', async (t) => {
  const { page, complaints, hub, hubs, next } = await openPage(t, { path: 'feed/run', up: '../' });
  const follows = (of, rest) => of.say({ feed: { name: 'run', alias: 2, seq: 0, how: 'snapshot', ...rest } });
  const badge = (text) => until(text, async () => await page.textContent('#link') === text);
  follows(hub);
  hub.say({ feed: { name: 'other', alias: 3, seq: 0, how: 'snapshot' } });
  hub.say({ json: [2, 1, NOW, { progress: 1, total: 1 }] });
  hub.say({ ended: [3, 90, NOW] });
  await until('the end of another feed', async () => (await seen(page)).lines.at(-1)?.includes('finished'));
  assert.deepEqual([await page.textContent('#link'), await page.title()], ['Live', '100 % · run']);
  hub.say({ ended: [2, 91, NOW] });
  await badge('Ended');
  assert.deepEqual([(await seen(page)).state, await page.title()], ['finished', 'Finished · 100 % · run']);
  assert.match(await page.textContent('#until'), /^ended at \d\d:\d\d$/);
  await picture(page, 'page-feed-finished');

  // It has all, so a lost connection changes nothing.
  hub.socket.close({ code: 4000, reason: 'restarting' });
  await until('the loss', async () => (await seen(page)).lines.at(-1)?.includes('connection closed'));
  assert.equal(await page.textContent('#state'), 'Finished');
  const second = await until('another connection', async () => hubs.length > 1 && next());
  second.greet({ resumed: true });
  follows(second, { seq: 1, how: 'resumed' });
  await until('the return', async () => (await seen(page)).lines.at(-1)?.endsWith('connected again as client 7'));
  assert.deepEqual([await page.textContent('#state'), await page.title()], ['Finished', 'Finished · 100 % · run']);

  follows(second);
  second.say({ json: [2, 1, NOW, { progress: 1, total: 4 }] });
  await badge('Live');
  const now = await until('the other feed', async () => {
    const now = await seen(page);
    return now.now === 1 && now;
  });
  assert.deepEqual([now.state, now.title, now.count, now.until], ['open', '25 % · run', 1, '']);
  assert.deepEqual(complaints, []);
});

test('markup in a message stays text', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  const markup = '<img src=x onerror="document.title=1"><script>document.title = 2</script>';
  hub.send(markup);
  hub.send(JSON.stringify({ progress: 1, total: 4, message: markup, [markup]: markup }));
  const now = await until('both messages', async () => {
    const now = await seen(page);
    return now.count === 2 && now.now === 1 && now;
  });
  assert.ok(now.lines.some((line) => line.endsWith(markup)));
  assert.equal(now.title, '25 % · stepcast');
  assert.equal(await page.locator('img, body script:not([nonce])').count(), 0);
  assert.deepEqual(complaints, []);
});

test('one message is counted in the singular', async (t) => {
  const { page, hub } = await openPage(t);
  const counted = () => page.locator('#counted').textContent();
  for (const [count, word] of [[1, 'message'], [2, 'messages']]) {
    hub.send('some');
    await until(`${count} of them`, async () => (await seen(page)).count === count);
    assert.equal(await counted(), word);
  }
});

test('what is no progress leaves the bar alone', async (t) => {
  const { page, hub } = await openPage(t);
  hub.send('{"progress":3,"total":10}');
  const wrong = ['{"progress":4', '{"progress":"5","total":10}', '{"progress":6,"total":0}',
    '{"progress":7}', 'null "progress"', '{"progress":null,"total":10}', '[{"progress":8,"total":10}]'];
  wrong.forEach((text) => hub.send(text));
  const now = await until('all of them', async () => {
    const now = await seen(page);
    return now.count === 1 + wrong.length && now;
  });
  assert.deepEqual([now.now, now.min, now.max], [3, 0, 10]);
  hub.send('{"progress":11,"total":10}');
  const full = await until('the end', async () => {
    const now = await seen(page);
    return now.title.startsWith('100 %') && now;
  });
  assert.equal(full.now, 10);
});

test('a field is drawn with its range, and what is not a number is red', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  hub.send(field(2, 3, [-1, 0, 3, NaN, Infinity, 1]));
  const now = await until('the field', async () => {
    const now = await seen(page);
    return now.field.ny && now;
  });
  assert.deepEqual(now.field, { ny: '2', nx: '3', min: '-1', max: '3' });
  const pixels = await page.evaluate(() => {
    return [...new Uint8Array(pixelsOf(document.querySelector('.heat')).buffer)];
  });
  const pixel = (i) => pixels.slice(4 * i, 4 * i + 4);
  const light = (i) => { const [r, g, b] = pixel(i); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  assert.ok(light(0) < light(1) && light(1) < light(5) && light(5) < light(2), 'the greater, the lighter');
  assert.ok(light(0) < 30 && light(2) > 200, 'the whole of the map');
  for (const i of [3, 4]) assert.deepEqual(pixel(i), [224, 48, 48, 255], 'neither NaN nor infinity is in the map');
  assert.deepEqual(complaints, []);
});

test('binary messages that are no field are ignored with a line', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  const wrong = [Buffer.alloc(0), Buffer.alloc(7), field(0, 0, []), field(2, 2, [1, 2, 3]),
    field(0xffffffff, 0xffffffff, [1]), Buffer.concat([field(1, 1, [1]), Buffer.alloc(1)])];
  wrong.forEach((bytes) => hub.send(bytes));
  const now = await until('all of them', async () => {
    const now = await seen(page);
    return now.count === wrong.length && now;
  });
  assert.equal(now.lines.filter((line) => line.includes('is not a field')).length, wrong.length);
  assert.equal(now.colours, 0);
  assert.deepEqual(complaints, []);
});

test('a flood leaves a thousand lines, the newest, and a page that answers', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  const many = 2_000;
  for (let i = 1; i <= many; i++) hub.send(`line ${i}`);
  const now = await until('the last line', async () => {
    const now = await seen(page);
    return now.count === many && now.lines.at(-1)?.endsWith(`line ${many}`) && now;
  });
  assert.equal(now.lines.length, 1000);
  assert.ok(now.lines[0].endsWith(`line ${many - 999}`));
  assert.deepEqual(complaints, []);
});

const PHONE = { viewport: { width: 390, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 3 };

test('on a phone the log stays at its end, but for a reader who has scrolled up', async (t) => {
  const { page, complaints, hub } = await openPage(t, { options: PHONE });
  /** How far the end of the log is from what is seen of it, once so many messages are there. */
  const below = (count) => until(`${count} messages`, async () => (await seen(page)).count === count
    && page.evaluate(() => new Promise((resolve) => {
      const log = document.getElementById('log');
      requestAnimationFrame(() => requestAnimationFrame(() => resolve([log.scrollHeight - log.scrollTop - log.clientHeight])));
    })));
  const log = (change) => page.evaluate(change);
  const line = 'a line that is long enough for two or three rows of a phone in portrait, and of none in landscape';
  let count = 0;
  const say = async (many) => {
    for (let i = 0; i < many; i++) hub.send(`${count + i + 1} ${line}`);
    count += many;
    return (await below(count))[0];
  };
  assert.ok(await say(60) < 2);
  assert.ok(await log(() => document.getElementById('log').scrollTop > 0), 'the log scrolls by itself');
  // The phone is turned, and back; a field appears above; the keys of the phone take a part.
  for (const [width, height] of [[740, 390], [390, 740], [390, 420], [390, 740]]) {
    await page.setViewportSize({ width, height });
    assert.ok((await below(count))[0] < 2, `${width} x ${height}`);
    assert.ok(await say(1) < 2, `${width} x ${height}`);
  }
  hub.send(field(64, 64, Array(64 * 64).fill(1)));
  count += 1;
  assert.ok((await below(count))[0] < 2, 'a field');
  // A reader scrolls up, and stays there while more comes and while the phone is turned.
  await log(() => {
    const log = document.getElementById('log');
    log.dispatchEvent(new WheelEvent('wheel', { deltaY: -200 }));
    log.scrollTop -= 200;
  });
  assert.ok(await say(3) > 150);
  assert.match(await page.textContent('#back'), /^3 new$/);
  await page.setViewportSize({ width: 740, height: 390 });
  assert.ok(await say(3) > 100);
  // And comes back.
  await log(() => { document.getElementById('log').scrollTop = 1e6; });
  assert.ok((await below(count))[0] < 2);
  assert.ok(await say(3) < 2);
  assert.deepEqual(complaints, []);
});

test('a message of the past has the time at which it was sent', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  hub.say({ text: [1, 1, NOW - 7_200_000, 'two hours ago'] });
  const found = await until('the line', () => page.evaluate(() => {
    const [time, , text] = document.querySelector('#log li:last-child')?.children ?? [];
    return text?.textContent === 'two hours ago' && Date.now() - Date.parse(time.dateTime);
  }));
  assert.ok(found >= 7_200_000 && found < 7_260_000, `${found}`);
  assert.deepEqual(complaints, []);
});

test('what is JSON, what has a key, and what was left out', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  hub.say({ json: [1, 1, NOW, { progress: 1, total: 8, phase: 'warm' }] });
  hub.say({ text: [1, 90, NOW, '{"progress":2,"total":8}', 'state'] }); // drawn, so no line
  hub.say({ text: [1, 91, NOW, 'cooling', 'phase'] }); // a row of the table, so no line
  hub.say({ gap: { alias: 1, from: 2, to: 2, why: 'slow' } });
  hub.say({ gap: { alias: 1, from: 3, to: 80, why: 'expired' } });
  hub.say({ gap: { alias: 1, from: 81, to: 82, why: 'lost' } });
  hub.say({ text: [0, 1, NOW, 'for this client alone'] });
  const now = await until('all of them', async () => {
    const now = await seen(page);
    return now.lines.at(-1)?.endsWith('for this client alone') && now;
  });
  assert.deepEqual([now.now, now.max, now.count, now.id], [2, 8, 4, '7']);
  const lines = now.lines.map((line) => line.replace(/^[\d:]+/, ''));
  assert.deepEqual(lines, [
    'connected as client 7',
    '{"progress":1,"total":8,"phase":"warm"}',
    'message 2 skipped: this page was too slow',
    'messages 3 to 80 skipped: no longer kept',
    'messages 81 to 82 skipped: the program was faster than the hub',
    'for this client alone',
  ]);
  assert.match(await page.textContent('#values'), /phasecooling/);
  assert.deepEqual(complaints, []);
});

test('a lost connection leaves what is shown, and the next goes on behind it', async (t) => {
  const { page, complaints, hub, hubs, next } = await openPage(t);
  hub.send('{"progress":3,"total":10}');
  hub.send(field(2, 2, [0, 1, 2, 3]));
  await until('the field', async () => (await seen(page)).field.ny);
  hub.socket.close({ code: 4000, reason: 'restarting' });
  await until('the loss', async () => (await seen(page)).lines.at(-1)?.includes('connection closed (4000 restarting)'));
  const second = await until('another connection', async () => hubs.length > 1 && next());
  assert.deepEqual([second.hello.id, second.hello.feeds['']], [7, { seq: 2 }]);
  second.greet({ resumed: true, seq: 2, how: 'resumed' }).send('{"progress":4,"total":10}');
  const now = await until('the next message', async () => {
    const now = await seen(page);
    return now.now === 4 && now;
  });
  assert.deepEqual([now.state, now.id, now.count, now.field.ny], ['open', '7', 3, '2']);
  assert.ok(now.lines.some((line) => line.endsWith('connected again as client 7')));
  assert.deepEqual(complaints, []);
});

test('a hub that was started again begins with an empty page', async (t) => {
  const { page, complaints, hub, hubs, next } = await openPage(t);
  hub.send('{"progress":9,"total":10}');
  hub.send(field(2, 2, [0, 1, 2, 3]));
  hub.send('the old run');
  await until('the field', async () => (await seen(page)).field.ny && (await seen(page)).count === 3);
  hub.socket.close({ code: 1001 });
  const second = await until('another connection', async () => hubs.length > 1 && next());
  second.greet({ id: 8, epoch: 'ffffffffffffffff' }).send('the new run');
  const now = await until('the new run', async () => {
    const now = await seen(page);
    return now.lines.at(-1)?.endsWith('the new run') && now;
  });
  assert.deepEqual([now.now, now.max, now.count, now.id, now.lines.length], [null, null, 1, '8', 2]);
  assert.equal(await page.locator('.heat').count(), 0);
  assert.match(now.notice, /^A new run began at \d\d:\d\d:\d\d\. The run before was lost at 90\.0\s%\.$/);
  assert.ok((await page.textContent('#log')).includes('the old run'), 'what was said before stays');
  await page.click('text=Dismiss');
  await until('the old run is gone', async () => !(await page.textContent('#log')).includes('the old run'));
  assert.equal(now.title, 'stepcast');
  assert.deepEqual(complaints, []);
});

for (const [code, state, word] of [[4503, 'finished', 'Finished'], [4504, 'failed', 'Failed']]) {
  test(`a run that has ${state} says so with its message, keeps what it showed, and begins anew where a new hub answers`, async (t) => {
    const { page, complaints, hub, hubs, next } = await openPage(t);
    hub.send(field(2, 2, [0, 1, 2, 3]));
    hub.send('{"progress":7,"total":10,"message":"step 7"}');
    await until('the progress', async () => (await seen(page)).now === 7);
    hub.say({ bye: { code, reason: '<b>residual</b> u 9.8e-7' } });
    hub.socket.close({ code });
    await until('the end', async () => await page.textContent('#state') === word);
    const end = (await seen(page)).notice;
    assert.equal(end, '<b>residual</b> u 9.8e-7.');
    assert.match(await page.textContent('#until'), /^ended at \d\d:\d\d$/);
    const now = await seen(page);
    assert.deepEqual([now.state, now.now, now.count, now.field.ny, now.id], [state, 7, 2, '2', '7']);
    assert.equal(now.title, `${word} · 70 % · stepcast`);
    assert.equal(await page.getAttribute('#progress', 'aria-valuemax'), '10');
    assert.ok(now.lines.at(-1).endsWith(`${state}: <b>residual</b> u 9.8e-7`));
    assert.ok(!now.lines.some((line) => line.includes('connection closed')));
    assert.doesNotMatch(await page.innerText('body'), /next attempt/);
    await picture(page, `page-${state}`);
    assert.equal(hubs.length, 1);

    // It is looked at again, and nothing answers: it stays as it is.
    const look = () => page.evaluate(() => { document.dispatchEvent(new Event('visibilitychange')); });
    await look();
    await until('an attempt', () => hubs.length === 2);
    await hubs[1].socket.close({ code: 1001 });
    await until('another attempt, after the end of that one', async () => {
      await look();
      return hubs.length === 3;
    });
    assert.deepEqual([await page.textContent('#state'), (await seen(page)).notice], [word, end]);

    // A new hub answers.
    const second = await next();
    second.greet({ id: 8, epoch: 'ffffffffffffffff' }).send('the new run');
    const anew = await until('the new run', async () => {
      const anew = await seen(page);
      return anew.lines.at(-1)?.endsWith('the new run') && anew;
    });
    assert.deepEqual([anew.state, anew.now, anew.count, anew.id, anew.lines.length], ['open', null, 1, '8', 2]);
    assert.equal(anew.until, 'no total given');
    assert.equal(anew.title, 'stepcast');
    assert.deepEqual(complaints, []);
  });
}

test('a client that the program closes keeps what it showed, and does not come back', async (t) => {
  const { page, complaints, hub, hubs } = await openPage(t);
  hub.send('{"progress":10,"total":10}');
  hub.say({ bye: { code: 4501, reason: 'converged' } });
  await until('the end', async () => (await seen(page)).notice === 'The program has closed this view: converged.');
  const now = await seen(page);
  assert.deepEqual([now.state, now.now, now.count, hubs.length], ['closed', 10, 1, 1]);
  assert.deepEqual(complaints, []);
});

test('while it waits the page says why, where that is known', async (t) => {
  const { page, complaints, hub } = await openPage(t);
  hub.say({ bye: { code: 4000, reason: 'the hub is full', retry: 20_000 } });
  await until('the reason', async () => /^Last update just now, at .* The hub is full\. Next attempt in 20 s\.$/.test((await seen(page)).notice));
  assert.deepEqual(complaints, []);
});

test('a page whose script does not come says so, and not that it is connecting', async (t) => {
  const base = await serve(t, ({ url }) => (url.endsWith('.js')
    ? { headers: { 'content-type': 'text/plain' }, body: 'no script' }
    : {
      headers: { 'content-type': 'text/html; charset=utf-8' },
      body: source.replaceAll('{{root}}', './'),
    }));
  const { page } = await open(await launch(t));
  await page.goto(base);
  await until('the reason', async () => (await page.textContent('#state')).startsWith('Not loaded'));
  assert.equal((await seen(page)).state, 'closed');
});
