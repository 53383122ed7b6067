// When messages were sent, as the page is told.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Tab, open } from './harness.mjs';

const times = (tab, type) => tab.events.filter((event) => event.type === type).map(({ time }) => time);

test('after a reconnect the past is the past, and the age of a message is right whatever the clock says', () => {
  const tab = open();
  const begun = tab.clock.now();
  tab.clock.pass(5000);
  tab.socket.say({ text: [1, 1, 4000, 'a'] }, { text: [1, 5, 4500, 'x', 'key'] }, { removed: [1, 6, 4700, 'key'] });
  tab.clock.sleep(3_600_000); // and the machine's clock is set
  tab.back({ resumed: true, base: 123, now: 60_000 });
  const now = tab.clock.now();
  tab.socket.say({ feed: { name: '', alias: 1, seq: 1, how: 'resumed' } }, { json: [1, 2, 8000, 0] }, { text: [0, 1, 60_000, 'mine'] });
  assert.deepEqual(times(tab, 'message'), [begun + 4000, now - 52_000, now]);
  assert.deepEqual([...times(tab, 'value'), ...times(tab, 'removed')], [begun + 4500, begun + 4700]);
});

test('two tabs agree, whose hellos were answered at different speeds', () => {
  const told = [];
  for (const way of [20, 400]) {
    const tab = new Tab();
    const asked = tab.clock.now();
    tab.socket.open();
    tab.clock.pass(way);
    tab.socket.welcome({ now: 7000 + way / 2 });
    tab.clock.pass(1000);
    tab.socket.say({ feed: { name: '', alias: 1, seq: 0, how: 'snapshot' } }, { text: [1, 1, 7500, 'a'] });
    told.push(times(tab, 'message')[0] - asked);
  }
  assert.deepEqual(told, [500, 500]);
});
