// How much a page says: no more than the hub takes, which its hello tells.

import assert from 'node:assert/strict';
import test from 'node:test';
import { open, Tab } from './harness.mjs';

/** Counts what was said as the hub does, in a bucket of two seconds; throws where it closes with 1008. */
class Counter {
  used = 0; // ms
  at = 0; seen = 0;

  constructor(tab, { message = 65536, rate }) { Object.assign(this, { tab, rate, sixteenth: Math.max(4096, message / 16) }); }

  read() {
    const { tab, rate, sixteenth } = this, now = tab.clock.now();
    for (const data of tab.socket.sent.slice(this.seen)) {
      const { hello, follow, unfollow, pong } = typeof data === 'string' ? JSON.parse(data) : {};
      const names = Object.keys(hello?.feeds ?? follow ?? unfollow ?? {}).length;
      const lines = pong ? 0 : 1 + names + Math.floor((data.length ?? data.size) / sixteenth);
      this.used = Math.max(0, this.used - (now - this.at));
      this.at = now;
      if (lines && this.used > 2000 - 1000 / rate) throw new Error('1008: too many messages a second');
      this.used += 1000 * lines / rate;
      if (hello) this.used = Math.min(1000, this.used);
    }
    this.seen = tab.socket.sent.length;
  }
}

const texts = (tab) => tab.socket.said.filter(({ text }) => text !== undefined).map(({ text }) => text);

for (const rate of [20, 1000, 4294967295]) {
  test(`at ${rate} a second, what a page says at once comes whole, in order, and is not too fast`, () => {
    const tab = new Tab({ feeds: Array.from({ length: 60 }, (_, i) => `run/${i}`) });
    tab.socket.welcome({ limits: { message: 65536, feeds: 64, rate } });
    const counter = new Counter(tab, { rate });
    counter.read();
    let said = 0;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < Math.min(2 * rate, 1150); i++) assert.equal(tab.hub.send(`${++said}`), true);
      if (rate > 20) assert.equal(tab.hub.send(new Uint8Array(60_000)), true); // 15 more
      tab.hub.feed(`more/${round}`).close();
      tab.socket.say({ ping: [round] });
      counter.read();
      for (let i = 0; i < 100; i++) {
        tab.clock.pass(10);
        counter.read();
      }
    }
    for (let i = 0; i < 20_000 && tab.clock.next < 20_000 && texts(tab).length < said; i++) {
      tab.clock.pass(10);
      counter.read();
    }
    assert.deepEqual(texts(tab), Array.from({ length: said }, (_, i) => `${i + 1}`));
    assert.deepEqual(tab.take('error'), []);
  });
}

test('half a second\'s worth goes at once, and five seconds\' worth waits; what comes then is not sent', () => {
  const tab = open();
  let taken = 0;
  while (taken < 9000 && tab.hub.send('x')) taken += 1;
  // And the hello, and the bytes.
  assert.ok(taken > 4980 && taken <= 5000 && texts(tab).length > 490 && texts(tab).length <= 500, `${taken}`);
  assert.equal(tab.hub.send('too much'), false);
  tab.clock.pass(500);
  assert.equal(tab.hub.send('y'), true);
  tab.clock.pass(5000);
  assert.equal(texts(tab).length, taken + 1);
  assert.equal(texts(tab).at(-1), 'y');
});

test('messages that wait go with their connection, and the next one begins with none', () => {
  const tab = open();
  for (let i = 0; i < 1500; i++) tab.hub.send('x');
  tab.back();
  assert.equal(tab.hub.send('y'), true);
  tab.clock.pass(5000);
  assert.deepEqual(texts(tab), ['y']);
  for (let i = 0; i < 1500; i++) tab.hub.send('x');
  tab.hub.close();
  assert.equal(tab.clock.armed, 0);
});
