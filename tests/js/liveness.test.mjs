// How the client finds out that nobody is there any more.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Page, Tab, open } from './harness.mjs';

function openPage(t, options) {
  const page = new Page(t);
  const tab = open(options);
  t.after(() => tab.hub.close());
  return { page, tab };
}

/** How long the hub may be silent before the client gives up, to the millisecond. */
function patience(tab, most = 200_000) {
  const from = tab.clock.now();
  while (tab.hub.state !== 'waiting' && tab.clock.now() - from < most) tab.clock.pass(Math.min(tab.clock.next, most));
  return tab.clock.now() - from;
}

test('after ping and 10 s of silence it is dead', () => {
  const tab = open();
  assert.equal(patience(tab), 35_000);
  const [status] = tab.take('status');
  assert.deepEqual([status.state, status.code, status.reason], ['waiting', 1006, 'the hub was silent']);
  assert.equal(tab.socket.closing, 'none');
});

test('the hub says how often it pings', () => {
  const tab = new Tab();
  tab.socket.welcome({ ping: 1 });
  assert.equal(patience(tab), 11_000);
});

test('a page does not spin where the hub pings less often than the longest timer of a browser, 24.8 days', () => {
  for (const ping of [2_147_484, 365 * 86_400, Number.MAX_SAFE_INTEGER]) {
    const tab = new Tab();
    tab.socket.welcome({ ping });
    assert.equal(tab.clock.next, 2 ** 31 - 1);
    for (let timers = 0; timers < 2; timers++) tab.clock.pass(tab.clock.next);
    // The first of them is over by then, with the 10 s that a ping may be late.
    assert.equal(tab.hub.state, ping === 2_147_484 ? 'waiting' : 'open', `${ping} s`);
  }
});

test('a wait that is longer than the longest timer of a browser ends with it, and not at once', () => {
  const tab = open();
  tab.socket.say({ bye: { code: 4000, reason: '', retry: 1e12 } });
  assert.equal(tab.clock.next, 2 ** 31 - 1);
  assert.equal(tab.sockets.length, 1);
});

test('anything that is heard counts, what is ignored, too', () => {
  const tab = open();
  for (const data of ['{"probe":1}', new ArrayBuffer(1), '{', '{"ping":[1]}']) {
    tab.clock.pass(34_999);
    tab.socket.raw(data);
  }
  assert.equal(tab.hub.state, 'open');
  assert.equal(patience(tab), 35_000);
});

test('an attempt that hangs is given up after 5 s, or as the page says, also where the page is hidden', (t) => {
  const tab = new Tab();
  assert.equal(patience(tab), 5000);
  const { code, reason, retry } = tab.take('status').at(-1);
  assert.deepEqual([code, reason, retry], [1006, 'the hub was silent', 250]);
  assert.equal(tab.socket.closing, 'none');
  assert.equal(patience(new Tab({ timeout: 60_000 })), 60_000);
  const page = new Page(t);
  page.hidden = true;
  const hidden = new Tab();
  t.after(() => hidden.hub.close());
  assert.equal(patience(hidden), 5000);
});

test('a connection that is not answered is given up, too', () => {
  const silent = new Tab();
  silent.clock.pass(4000);
  silent.socket.open();
  assert.equal(patience(silent), 35_000);
});

test('an attempt of which nothing is told, not even its end, is followed by the next one, and so on', () => {
  // Node 20, where the connection is closed before the request for it has left.
  const tab = new Tab();
  for (const count of [2, 3, 4]) {
    tab.socket.readyState = 3;
    assert.equal(patience(tab), 5000);
    const { code, retry } = tab.take('status').at(-1);
    assert.equal(code, 1006);
    tab.clock.pass(retry);
    assert.equal(tab.sockets.length, count);
  }
  tab.socket.welcome();
  assert.equal(tab.hub.state, 'open');
});

test('a ping is answered at once, before anybody is told anything', () => {
  const tab = open();
  let answered;
  tab.hub.on('message', () => { answered = tab.socket.said.some(({ pong }) => pong); });
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { ping: [131072, 16384, 40213] });
  assert.equal(answered, true);
  assert.deepEqual(tab.socket.said.slice(1), [{ pong: [131072, 16384, 40213] }]);
});

test('a hidden page has 70 s', (t) => {
  const { page, tab } = openPage(t);
  page.hidden = true;
  assert.equal(patience(tab), 70_000);
});

test('a page that is visible again has its usual patience, from what it heard last', (t) => {
  const { page, tab } = openPage(t);
  page.hidden = true;
  tab.clock.pass(60_000);
  tab.socket.say({ ping: [0] });
  tab.clock.pass(20_000); // it looked meanwhile, and is to look again in 50 s
  page.hidden = false;
  assert.equal(tab.sockets.length, 1);
  assert.equal(patience(tab), 15_000);
});

test('a hidden page has longer where the hub pings less often', (t) => {
  const page = new Page(t);
  const tab = new Tab();
  t.after(() => tab.hub.close());
  tab.socket.welcome({ ping: 90 });
  page.hidden = true;
  assert.equal(patience(tab), 100_000);
});

test('timers that a hidden page gets late do no harm', (t) => {
  const { page, tab } = openPage(t);
  page.hidden = true;
  for (let minute = 0; minute < 10; minute++) {
    // What comes over the network is not late.
    for (let i = 0; i < 2; i++) { tab.clock.sleep(25_000); tab.socket.say({ ping: [0] }); }
    tab.clock.sleep(10_000);
    tab.clock.pass(0);
  }
  assert.equal(tab.hub.state, 'open');
  assert.equal(tab.sockets.length, 1);
});

const signs = {
  'visible again': (page) => { page.hidden = true; page.hidden = false; },
  'shown again': (page) => page.tell('pageshow', { persisted: false }),
  'online again': (page) => page.tell('online'),
};
for (const [name, sign] of Object.entries(signs)) {
  test(`${name}: who waits connects at once`, (t) => {
    const { page, tab } = openPage(t, { random: () => 0.9 });
    tab.socket.end();
    sign(page);
    assert.equal(tab.sockets.length, 2);
    tab.clock.pass(5000);
    assert.equal(tab.sockets.length, 2, 'and not once more when the wait would have ended');
  });

  test(`${name}: a connection that was silent for longer than ping is replaced at once`, (t) => {
    const { page, tab } = openPage(t);
    const old = tab.socket;
    tab.clock.sleep(25_001);
    sign(page);
    assert.equal(tab.sockets.length, 2);
    assert.equal(old.closing, 'none');
    assert.equal(tab.hub.state, 'connecting');
    tab.socket.open();
    assert.equal(tab.socket.hello.id, 4711);
  });

  test(`${name}: an attempt that has hung for more than a second begins anew, and so do the waits`, (t) => {
    const { page, tab } = openPage(t, { random: () => 0.999999 });
    for (let attempt = 0; attempt < 9; attempt++) { tab.socket.end(); tab.clock.pass(20_000); tab.clock.pass(5000); }
    while (tab.hub.state !== 'connecting') tab.clock.pass(tab.clock.next);
    const count = tab.sockets.length;
    tab.clock.pass(1000);
    sign(page);
    assert.equal(tab.sockets.length, count, 'one that has just begun goes on');
    tab.clock.pass(1);
    sign(page);
    assert.equal(tab.sockets.length, count + 1);
    assert.equal(tab.sockets.at(-2).closing, 'none');
    tab.socket.end();
    assert.equal(tab.take('status').at(-1).retry, 500);
  });

  test(`${name}: a connection that was heard stays, and is given up when it should be`, (t) => {
    const { page, tab } = openPage(t);
    tab.clock.sleep(25_000);
    sign(page);
    assert.equal(tab.sockets.length, 1);
    assert.equal(patience(tab), 10_000);
  });
}

test('to be hidden is no reason to connect', (t) => {
  const { page, tab } = openPage(t);
  tab.socket.end();
  page.hidden = true;
  assert.equal(tab.sockets.length, 1);
});

test('to be offline does not close, and what was heard since proves the connection', (t) => {
  const { page, tab } = openPage(t);
  page.tell('offline');
  assert.equal(tab.hub.state, 'open');
  tab.socket.say({ text: [1, 1, 0, 'x'] });
  page.tell('online');
  assert.equal(tab.sockets.length, 1);
});

test('online after offline replaces a connection that nothing was heard from since', (t) => {
  const { page, tab } = openPage(t);
  page.tell('offline');
  tab.clock.pass(1000);
  page.tell('online');
  assert.equal(tab.sockets.length, 2);
  page.tell('online');
  assert.equal(tab.sockets.length, 2);
});

const ends = { finished: 4503, failed: 4504 };
for (const [state, code] of Object.entries(ends)) {
  const end = (t) => {
    const { page, tab } = openPage(t);
    tab.socket.say({ text: [1, 1, 0, 'x'] }, { text: [1, 2, 0, 'y', 'key'] });
    tab.socket.say({ bye: { code, reason: 'the message' } });
    tab.events = [];
    return { page, tab };
  };

  for (const [name, sign] of Object.entries(signs)) {
    test(`${state}, ${name}: the client looks for a hub once, and tells nothing if none answers`, (t) => {
      const { page, tab } = end(t);
      for (const attempt of [2, 3]) {
        sign(page);
        assert.equal(tab.sockets.length, attempt);
        sign(page);
        assert.equal(tab.sockets.length, attempt, 'this attempt goes on');
        tab.socket.end(1006);
        tab.clock.pass(1e9);
        assert.equal(tab.sockets.length, attempt);
        assert.equal(tab.clock.armed, 0);
      }
      assert.deepEqual([tab.hub.state, tab.events], [state, []]);
    });

    test(`${state}, ${name}: a new hub that answers is gone on with, and retried from then on`, async (t) => {
      const { page, tab } = end(t);
      sign(page);
      tab.socket.welcome({ id: 815, epoch: 'another' });
      tab.socket.say({ feed: { name: '', alias: 1, seq: 0, how: 'snapshot' } }, { text: [1, 1, 0, 'of the new run'] });
      assert.deepEqual(tab.take('status').map(({ state, id, epoch }) => [state, id, epoch]), [['open', 815, 'another']]);
      assert.deepEqual(tab.take('message').map(({ data }) => data), ['of the new run']);
      assert.equal(tab.hub.feed('').values.size, 0);
      tab.socket.end();
      assert.equal(tab.hub.state, 'waiting');
      tab.clock.pass(500);
      assert.equal(tab.sockets.length, 3);
    });
  }

  test(`${state}: an attempt that nobody answers is given up without a word`, (t) => {
    const { page, tab } = end(t);
    page.tell('online');
    tab.socket.open();
    tab.clock.pass(1e9);
    assert.equal(tab.socket.closing, 'none');
    assert.deepEqual([tab.hub.state, tab.sockets.length, tab.clock.armed, tab.events], [state, 2, 0, []]);
  });

  test(`${state}: from the back/forward cache, too, it looks once and keeps its end`, (t) => {
    const { page, tab } = end(t);
    page.tell('pagehide', { persisted: true });
    assert.equal(tab.storage.record.live, false);
    page.tell('pageshow', { persisted: true });
    assert.equal(tab.sockets.length, 2);
    tab.socket.end();
    assert.deepEqual([tab.hub.state, tab.clock.armed, tab.events], [state, 0, []]);
  });

  test(`${state}: a page that is hidden when the run ends looks when it is looked at`, (t) => {
    const { page, tab } = openPage(t);
    page.hidden = true;
    tab.socket.say({ bye: { code, reason: 'the message' } });
    tab.clock.pass(1e9);
    assert.equal(tab.sockets.length, 1);
    page.hidden = false;
    assert.equal(tab.sockets.length, 2);
  });
}

test('who was closed for good looks at nothing any more', (t) => {
  const { page, tab } = openPage(t);
  tab.socket.end(4501);
  const record = tab.storage.record;
  for (const sign of Object.values(signs)) sign(page);
  page.tell('pagehide', { persisted: true });
  page.tell('pageshow', { persisted: true });
  assert.equal(tab.sockets.length, 1);
  assert.deepEqual(tab.storage.record, record);
  assert.ok(page.signals.length > 0 && page.signals.every(({ aborted }) => aborted));
});
