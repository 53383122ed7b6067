// When the client comes back, as whom, and when it does not.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connect } from '../../src/page/stepcast.js';
import { Clock, EPOCH, KEY, Page, Tab, open, seeded } from './harness.mjs';

test('it asks for stepcast.v1, and says hello first', () => {
  const tab = new Tab({ feeds: ['', 'run/42'] });
  tab.hub.feed('run/43'); // before there is a connection
  assert.deepEqual([tab.socket.url, tab.socket.protocol, tab.socket.binaryType], ['ws://hub.example/', 'stepcast.v1', 'arraybuffer']);
  assert.deepEqual(tab.socket.sent, []);
  tab.socket.open();
  assert.deepEqual(tab.socket.said, [{ hello: { feeds: { '': {}, 'run/42': {}, 'run/43': {} } } }]);
});

test('the address may be http or https', () => {
  const at = (url) => new Tab({ url }).socket.url;
  assert.equal(at('http://a.example/prefix/?token=1#part'), 'ws://a.example/prefix/?token=1');
  assert.equal(at('https://a.example/'), 'wss://a.example/');
  assert.equal(at(new URL('wss://a.example:8443/x/')), 'wss://a.example:8443/x/');
});

test('without one it is the folder that the module was loaded from', () => {
  // Which is a file's here: Node loads no module over http.
  assert.throws(() => connect(undefined, { WebSocket: class {} }), new SyntaxError(`${new URL('../../src/page/', import.meta.url)} is no hub address`));
});

test('an address that names a feed follows this feed only, unless the options say otherwise', () => {
  const feedsOf = (url, options) => {
    const tab = new Tab({ url, ...options });
    tab.socket.open();
    return [tab.socket.url, Object.keys(tab.socket.hello.feeds)];
  };
  for (const [path, ...names] of [['feed/run/1', 'run/1'], ['prefix/feed/a%20b%2Fc?token=1', 'a b/c'], ['feed/run/1%2F', 'run/1/'], ['feed/', ''], ['feed/behind/', ''], ['feedback/x', '']]) {
    assert.deepEqual(feedsOf(`ws://a.example/${path}`), [`ws://a.example/${path}`, names]);
  }
  assert.deepEqual(feedsOf('ws://a.example/feed/run/1', { feeds: ['', 'x'] })[1], ['', 'x']);
});

test('timers and the time are looked up when they are used, as they may be replaced for a test', (t) => {
  const sockets = [];
  class Socket { constructor() { sockets.push(this); } close() {} }
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const hub = connect('ws://a.example/', { WebSocket: Socket, storage: null, random: () => 0.5 });
  t.mock.timers.tick(5000);
  assert.equal(hub.state, 'waiting');
  t.mock.timers.tick(250);
  assert.equal(sockets.length, 2);
  hub.close();
});

test('status is the last that was told, the same object until the next', () => {
  const tab = new Tab();
  const told = [];
  assert.equal(tab.hub.status.state, 'connecting');
  tab.hub.on('status', (status) => told.push([status, tab.hub.status]));
  tab.socket.welcome();
  const before = tab.hub.status;
  tab.socket.say({ text: [1, 1, 0, 'x'] });
  assert.equal(tab.hub.status, before);
  tab.socket.end();
  assert.deepEqual(told.map(([{ state }]) => state), ['open', 'waiting']);
  for (const [status, now] of told) assert.equal(status, now);
  assert.equal(before.state, 'open', 'what was told stays as it is');
});

test('debug is told what goes in and what comes of it', () => {
  const log = [];
  const tab = new Tab({ debug: ({ type }, effects) => log.push([type, effects.map(({ type }) => type).filter((type) => /open|send/.test(type))]) });
  tab.socket.open();
  assert.deepEqual(log, [['pageshow', ['open']], ['opened', ['send']]]);
});

test('what is no address is an error at the call', () => {
  for (const url of ['ftp://a.example/', 'blob:http://a.example/1', 'http://']) assert.throws(() => connect(url, { WebSocket: class {} }));
});

test('where there is no WebSocket, the error says what to pass', (t) => {
  const { WebSocket } = globalThis;
  t.after(() => { globalThis.WebSocket = WebSocket; });
  delete globalThis.WebSocket;
  assert.throws(() => connect('ws://a.example/'), /no WebSocket here: pass one as an option/);
});

test('a relative address is relative to the page', (t) => {
  new Page(t);
  const tab = new Tab({ url: '../hub/' });
  assert.equal(tab.socket.url, 'ws://app.example/hub/');
  tab.hub.close();
});

test('the id is told once it is there', async () => {
  const tab = new Tab();
  assert.equal(tab.hub.client, null);
  assert.equal(tab.hub.state, 'connecting');
  tab.socket.welcome();
  assert.equal(await tab.hub.id, 4711);
  assert.equal(tab.hub.client, 4711);
  assert.deepEqual(tab.take('status'), [{ state: 'open', id: 4711, resumed: false, epoch: EPOCH, retry: null, code: null, reason: '' }]);
});

test('a lost connection is resumed with all that the client has', async () => {
  const tab = open({ feeds: ['', 'run/42', 'never answered'] });
  tab.socket.say(
    { feed: { name: '', alias: 1, seq: 38, how: 'snapshot' } }, { feed: { name: 'run/42', alias: 3, seq: 0, how: 'snapshot' } },
    { text: [1, 39, 0, 'a'] }, { text: [1, 40, 0, 'b'] }, { text: [3, 977, 0, 'x', 'key'] }, { text: [0, 12, 0, 'mine'] }, { text: [0, 980, 0, 'y', 'key'] },
    { gap: { alias: 3, from: 1, to: 7, why: 'slow' } },
  );
  tab.socket.end();
  assert.deepEqual(tab.take('status').at(-1), { state: 'waiting', id: 4711, resumed: false, epoch: EPOCH, retry: 250, code: 1006, reason: '' });
  tab.clock.pass(249);
  assert.equal(tab.sockets.length, 1);
  tab.clock.pass(1);
  assert.equal(tab.sockets.length, 2);
  tab.socket.open();
  assert.deepEqual(tab.socket.hello, {
    id: 4711, key: KEY, epoch: EPOCH, mail: { seq: 12, set: 980 },
    feeds: { '': { seq: 40 }, 'run/42': { seq: 7, set: 977 }, 'never answered': {} },
  });
  tab.socket.say({ hello: { id: 4711, key: KEY, epoch: EPOCH, resumed: true, base: 0, now: 0, ping: 25, limits: { message: 1, feeds: 1, rate: 1000 } } });
  const [, status] = tab.take('status');
  assert.deepEqual([status.state, status.resumed, status.id], ['open', true, 4711]);
  assert.deepEqual(tab.take('feed').at(-1), { feed: null, how: 'resumed' });
});

test('at another hub it is another client, and says of which epoch it has what of a feed', async () => {
  const tab = open();
  tab.socket.say({ feed: { name: '', alias: 1, epoch: EPOCH, seq: 39, how: 'snapshot' } }, { text: [1, 40, 0, 'b'] }, { text: [1, 977, 0, 'x', 'key'] }, { text: [0, 12, 0, 'mine'] });
  tab.back({ id: 815, key: 'another', epoch: 'another', resumed: false });
  assert.equal(tab.hub.client, 815);
  assert.equal(await tab.hub.id, 4711);
  assert.deepEqual(tab.take('feed').at(-1), { feed: null, how: 'snapshot' });
  // It is lost again before the hub has said how the feeds go on.
  tab.back({ id: 815, key: 'another', epoch: 'another' });
  assert.deepEqual(tab.socket.hello, {
    id: 815, key: 'another', epoch: 'another', mail: {}, feeds: { '': { epoch: EPOCH, seq: 40, set: 977 } },
  });
  // Made anew, also on the same connection.
  tab.socket.say({ feed: { name: '', alias: 1, epoch: 'another', seq: 0, how: 'snapshot' } }, { text: [1, 1, 0, 'c'] });
  tab.socket.say({ feed: { name: '', alias: 7, epoch: 'a third', seq: 90, how: 'snapshot' } }, { text: [1, 2, 0, 'of the old one'] });
  tab.back({ id: 815, key: 'another', epoch: 'another' });
  assert.deepEqual(tab.socket.hello.feeds, { '': { epoch: 'a third', seq: 90 } });
});

test('after the grace period it is another client, whose feeds go on', () => {
  const tab = open();
  tab.socket.say({ text: [1, 40, 0, 'b'] }, { text: [0, 12, 0, 'mine'] });
  tab.back({ id: 815, key: 'another', resumed: false });
  tab.back({ id: 815, key: 'another' });
  assert.deepEqual(tab.socket.hello, { id: 815, key: 'another', epoch: EPOCH, mail: {}, feeds: { '': { seq: 40 } } });
});

test('the wait is drawn between 0 and a bound that doubles from 0.5 s to 20 s, for ever', () => {
  const bounds = [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, ...Array(1100).fill(20000)];
  for (const share of [0, 0.25, 0.999999]) {
    const tab = new Tab({ random: () => share });
    bounds.forEach((bound, i) => {
      tab.socket.end();
      const wait = Math.round(share * bound);
      assert.equal(tab.take('status').at(-1).retry, wait);
      tab.clock.pass(wait);
      assert.equal(tab.sockets.length, i + 2);
    });
  }
});

test('a connection that lasted begins the waits anew, and one that did not is a failed attempt', () => {
  const tab = new Tab({ random: () => 0.999999 });
  const lose = (lasted) => {
    tab.socket.welcome();
    tab.take('status');
    // Something is heard, so that it is this connection that lasts.
    for (let time = 0; time < lasted; time += 10_000) { tab.clock.pass(10_000); tab.socket.say({ ping: [0] }); }
    tab.socket.end();
    const { retry } = tab.take('status').at(-1);
    tab.clock.pass(retry);
    return retry;
  };
  assert.deepEqual([lose(0), lose(0), lose(10_000), lose(20_000), lose(0)], [500, 1000, 2000, 500, 1000]);
});

test('a thousand clients that lose their hub come back evenly spread', () => {
  const random = seeded(20);
  const tabs = Array.from({ length: 1000 }, () => open({ random, storage: null }));
  for (const bound of [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]) {
    const waits = tabs.map((tab) => {
      tab.socket.end(1006);
      const { retry } = tab.take('status').at(-1);
      tab.clock.pass(retry);
      return retry;
    });
    assert.ok(Math.min(...waits) >= 0 && Math.max(...waits) <= bound);
    // In each tenth of the time a tenth of them: 100, with a standard deviation of 9.5.
    const tenths = Array(10).fill(0);
    for (const wait of waits) tenths[Math.min(9, Math.floor(10 * wait / bound))] += 1;
    assert.ok(Math.min(...tenths) > 60 && Math.max(...tenths) < 140, `${bound} ms: ${tenths}`);
  }
});

test('bye says how it ends, whatever becomes of the Close frame', () => {
  const tab = open();
  const { socket } = tab;
  socket.say({ bye: { code: 4000, reason: 'restarting', retry: 3200 } }, { text: [1, 1, 0, 'after the end'] });
  assert.deepEqual(tab.take('bye'), [{ code: 4000, reason: 'restarting', retry: 3200 }]);
  const [status] = tab.take('status');
  assert.deepEqual([status.state, status.code, status.reason, status.retry], ['waiting', 4000, 'restarting', 3200]);
  assert.deepEqual(tab.take('message'), []);
  assert.equal(socket.closing, 'none');
  socket.end(1006); // the proxy lost the code
  assert.deepEqual(tab.take('status'), []);
  tab.clock.pass(3199);
  assert.equal(tab.sockets.length, 1);
  tab.clock.pass(1);
  assert.equal(tab.sockets.length, 2);
  // The next waits are its own.
  tab.socket.end();
  assert.equal(tab.take('status').at(-1).retry, 250);
});

test('a bye without a time leaves it to the client', () => {
  for (const retry of [undefined, null, 'soon', 0, -1]) {
    const tab = open({ random: () => 0.1 });
    tab.socket.say({ bye: { code: 4001, reason: '', retry } });
    assert.equal(tab.take('status').at(-1).retry, 50);
    tab.clock.pass(50);
    assert.equal(tab.sockets.length, 2);
  }
});

for (const code of [4500, 4501, 4502, 4999]) {
  test(`${code} is for good, by a Close frame and by a bye`, async () => {
    for (const end of [(tab) => tab.socket.end(code, 'why'), (tab) => tab.socket.say({ bye: { code, reason: 'why', retry: 10 } })]) {
      const tab = open();
      end(tab);
      const [status] = tab.take('status');
      assert.deepEqual([status.state, status.code, status.reason, status.retry], ['closed', code, 'why', null]);
      assert.equal(tab.clock.armed, 0);
      tab.clock.pass(1e9);
      assert.equal(tab.sockets.length, 1);
      assert.equal(tab.hub.send('x'), false);
      assert.equal(await tab.hub.id, 4711);
    }
  });
}

for (const [code, state] of [[4503, 'finished'], [4504, 'failed']]) {
  test(`${code}: the run has ${state}, so the client says so with the program's message, keeps what it has and retries no more`, async () => {
    for (const end of [(tab) => tab.socket.end(code, 'why'), (tab) => tab.socket.say({ bye: { code, reason: 'why', retry: 10 } })]) {
      const tab = open();
      tab.socket.say({ text: [1, 1, 0, 'x'] }, { text: [1, 2, 0, 'y', 'key'] });
      const { socket } = tab;
      end(tab);
      assert.deepEqual(tab.take('status'), [{ state, id: 4711, resumed: false, epoch: EPOCH, retry: null, code, reason: 'why' }]);
      socket.end(1006); // the Close frame, or what a proxy makes of it
      tab.clock.pass(1e9);
      assert.deepEqual([tab.sockets.length, tab.clock.armed, tab.hub.state], [1, 0, state]);
      assert.equal(tab.hub.send('x'), false);
      assert.deepEqual([...tab.hub.feed('').values], [['key', 'y']]);
      assert.equal(await tab.hub.id, 4711);
      assert.deepEqual(tab.take('status'), []);
      tab.hub.close();
      assert.equal(tab.hub.state, 'closed');
    }
  });
}

test('a hub that ends without a word is retried for ever', () => {
  const tab = open();
  tab.socket.say({ bye: { code: 4000, reason: 'the hub is shutting down', retry: 100 } });
  tab.clock.pass(100);
  for (let attempt = 2; attempt < 100; attempt++) {
    assert.deepEqual([tab.sockets.length, tab.hub.state], [attempt, 'connecting']);
    tab.socket.end();
    tab.clock.pass(tab.clock.next);
  }
});

// A gateway ends what is idle with 1000, a hub a burst with 1008.
for (const code of [1000, 1001, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 1015, 3000, 4000, 4001, 4499, 5000]) {
  test(`after ${code} it comes back`, () => {
    const tab = open();
    tab.socket.end(code);
    tab.clock.pass(500);
    assert.equal(tab.sockets.length, 2);
  });
}

test('an attempt that the browser forbids is followed by the next, and its reason is told', () => {
  const clock = new Clock();
  const told = [];
  const hub = connect('ws://hub.example/', {
    clock, random: () => 0.5, storage: null,
    WebSocket: class { constructor() { throw new DOMException('mixed content', 'SecurityError'); } },
  });
  assert.deepEqual([hub.state, hub.status.code, hub.status.reason, hub.status.retry], ['waiting', 1006, 'SecurityError: mixed content', 250]);
  hub.on('status', ({ state, retry }) => told.push([state, retry]));
  for (const wait of [250, 500, 1000]) clock.pass(wait);
  assert.deepEqual(told, [['connecting', null], ['waiting', 500], ['connecting', null], ['waiting', 1000], ['connecting', null], ['waiting', 2000]]);
  assert.equal(clock.armed, 1, 'the next attempt, and nothing else');
});

test('a socket that cannot be closed stops nothing', () => {
  const tab = new Tab();
  tab.socket.close = () => { throw new Error('no'); };
  tab.clock.pass(5000);
  tab.clock.pass(250);
  assert.equal(tab.sockets.length, 2);
});

test('the bounds of the waits are the page\'s to say', () => {
  const tab = new Tab({ random: () => 0.999999, minRetry: 10, maxRetry: 30 });
  for (const retry of [10, 20, 30, 30]) {
    tab.socket.end();
    assert.equal(tab.take('status').at(-1).retry, retry);
    tab.clock.pass(retry);
  }
});

test('an attempt that fails without a close, as in Node 20, is followed by the next', () => {
  const tab = new Tab();
  tab.socket.onerror({});
  const [status] = tab.take('status');
  assert.deepEqual([status.state, status.code, status.reason, status.retry], ['waiting', 1006, '', 250]);
  tab.socket?.onerror?.({}); // again, as it is closed
  assert.deepEqual(tab.take('status'), []);
  tab.clock.pass(250);
  assert.equal(tab.sockets.length, 2);
  // Browsers say the code by a close; there it is closed by then.
  tab.socket.readyState = 3;
  tab.socket.onerror({});
  assert.equal(tab.hub.state, 'connecting');
  tab.socket.end(4501);
  assert.equal(tab.hub.state, 'closed');
});

test('without an id, an end for good rejects the promise of one', async () => {
  const tab = new Tab();
  tab.socket.end(4501, 'not you');
  await assert.rejects(tab.hub.id, /4501 not you/);
});

test('close is for good, with code 1000, and nothing more is told', () => {
  const tab = open();
  tab.hub.on('message', () => tab.hub.close());
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 2, 0, 'b'] });
  assert.equal(tab.socket.closing, 1000);
  assert.deepEqual(tab.take('message').length, 1);
  const [status] = tab.take('status');
  assert.deepEqual([status.state, status.reason], ['closed', 'closed by the page']);
  assert.equal(tab.hub.state, 'closed');
  assert.equal(tab.clock.armed, 0);
  tab.hub.close();
  tab.clock.pass(1e9);
  assert.deepEqual(tab.take('status'), []);
  assert.equal(tab.sockets.length, 1);
});

test('a page that disconnects does not come back by itself, and is the same client when it reconnects', (t) => {
  const page = new Page(t);
  const tab = open();
  t.after(() => tab.hub.close());
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 5, 0, 'x', 'key'] }, { text: [0, 12, 0, 'mine'] });
  tab.hub.disconnect();
  assert.equal(tab.socket.closing, 'none', 'with no code, so that the hub waits for it');
  assert.deepEqual(tab.take('status').map(({ state, retry, reason }) => [state, retry, reason]), [['waiting', null, 'left']]);
  for (const type of ['offline', 'online']) page.tell(type);
  page.tell('pageshow', { persisted: false });
  page.hidden = false;
  tab.clock.pass(1e9);
  assert.deepEqual([tab.sockets.length, tab.clock.armed, tab.hub.send('x')], [1, 0, false]);
  assert.deepEqual([...tab.hub.feed('').values], [['key', 'x']]);
  tab.hub.reconnect();
  tab.socket.open();
  assert.deepEqual(tab.socket.hello, { id: 4711, key: KEY, epoch: EPOCH, mail: { seq: 12 }, feeds: { '': { seq: 1, set: 5 } } });
});

test('to reconnect ends a wait, an attempt and a connection, and begins the waits anew', () => {
  const tab = open({ random: () => 0.999999 });
  const steps = [() => {}, () => tab.socket.end(), () => tab.socket.welcome({ resumed: true })];
  steps.forEach((step, i) => {
    step();
    const old = tab.socket;
    tab.hub.reconnect();
    assert.equal(tab.sockets.length, i + 2);
    assert.equal(old.onmessage, null);
  });
  tab.socket.end();
  assert.equal(tab.take('status').at(-1).retry, 500);
});

test('a page may start later', async (t) => {
  const page = new Page(t);
  const tab = new Tab({ start: false });
  t.after(() => tab.hub.close());
  const run = tab.hub.feed('run/42');
  page.tell('online');
  tab.clock.pass(1e9);
  assert.deepEqual([tab.sockets.length, tab.hub.status.state, tab.hub.client], [0, 'waiting', null]);
  tab.hub.reconnect();
  tab.socket.welcome();
  assert.deepEqual(tab.socket.hello.feeds, { '': {}, 'run/42': {} });
  assert.equal(await tab.hub.id, 4711);
  run.close();
});

test('close stops the wait for the next attempt, too, and an attempt', async () => {
  const waiting = open();
  waiting.socket.end();
  waiting.hub.close();
  const connecting = new Tab();
  connecting.hub.close();
  await assert.rejects(connecting.hub.id);
  for (const tab of [waiting, connecting]) {
    tab.clock.pass(1e9);
    assert.equal(tab.sockets.length, 1);
  }
});

test('what an old connection still says is not heard', () => {
  const tab = open();
  const old = tab.socket;
  const { onmessage, onclose } = old;
  tab.clock.pass(35_000);
  tab.clock.pass(500);
  tab.socket.welcome({ resumed: true });
  tab.take('status');
  assert.deepEqual([old.onopen, old.onmessage, old.onclose], [null, null, null]);
  assert.ok(onmessage && onclose);
  old.raw('{"text":[1,1,"late"]}');
  old.end(4500);
  assert.deepEqual([tab.take('message'), tab.take('status')], [[], []]);
  assert.equal(tab.hub.state, 'open');
});
