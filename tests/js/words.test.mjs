// The words and figures of the page (src/page/words.js).

import assert from 'node:assert/strict';
import test from 'node:test';
import { RunState } from '../../src/page/run.js';
import * as words from '../../src/page/words.js';

/** Thin and fixed spaces as plain ones: what a reader sees. */
const seen = (text) => text?.replace(/[\u202f\u00a0]/g, ' ') ?? text;

test('figures', () => {
  const table = [
    [words.whole, [5_083_200], '5 083 200'], [words.whole, [-1234], '−1 234'], [words.whole, [999], '999'],
    [words.percent, [0], '0.0'], [words.percent, [0.9997], '99.9'], [words.percent, [1], '100'], [words.percent, [0.29], '29.0'],
    [words.number, [0.1365], '0.1365'], [words.number, [8.081e-4], '8.08e−4'], [words.number, [1e6], '1.00e6'],
    [words.number, [0.1311, true], '1.31e−1'], [words.number, [0], '0'], [words.number, [NaN], 'NaN'], [words.number, [-Infinity], '−Infinity'],
    [words.value, [14], '14'], [words.value, [0.0367], '0.03670'],
    [words.rate, [1592.4, 'steps'], '1 592 steps/s'], [words.rate, [7.9612, 'samples'], '7.96 samples/s'],
    [words.rate, [0.0013, 'members'], '4.68 members/h'], [words.rate, [0], ''], [words.rate, [undefined], ''],
    [words.total, [640, 'MB'], '/ 640 MB'], [words.total, [undefined, 'samples'], 'samples'],
    [words.axis, [1e-4, true], '10⁻⁴'], [words.axis, [250_000], '2.5e5'], [words.rough, [2.5e6], '2.5 M'],
  ];
  for (const [what, given, text] of table) assert.equal(seen(what(...given)), text, `${what.name}(${given})`);
});

test('durations and times', () => {
  const table = [
    [0.2, '1 s'], [59.4, '59 s'], [59.6, '1 min'], [125, '2 min 5 s'], [127, '2 min 5 s'], [596, '9 min 55 s'], [598, '10 min'],
    [3569, '59 min'], [3571, '1 h'], [4320, '1 h 12 min'], [86_380, '1 d'], [100_000, '1 d 4 h'],
  ];
  for (const [seconds, text] of table) assert.equal(seen(words.span(seconds)), text, `${seconds}`);
  assert.equal(words.exact(3192), '0:53:12');
  assert.equal(words.exact(90_061), '25:01:01');
  const at = new Date(2026, 10, 28, 13, 6, 41).getTime();
  assert.equal(words.clock(at), '13:06');
  assert.equal(words.clock(at, true), '13:06:41');
  assert.equal(words.moment(at, at + 1000), '13:06');
  assert.equal(words.moment(at, at - 86_400_000), '28 Nov, 13:06');
  assert.equal(seen(words.ago(14.9)), '14 s ago');
  assert.equal(words.ago(0.3), 'just now');
});

test('a remaining time, and how sure it is', () => {
  const table = [
    [[0.3], 'any moment'], [[7.3, 4, 12], '7 s'], [[42], '42 s'], [[78, 75, 81], '1 min 20 s'], [[740, 700, 780], '12 min'],
    [[4320], '1 h 12 min'], [[273_000], '3 d 4 h'], [[1e12], 'more than 1000 d'],
    [[720, 600, 840], '10 to 14 min'], [[240, 220, 295], '4 to 5 min'], [[40, 33, 49], '35 to 50 s'], [[3700, 3000, 4600], '50 min to 1 h 17 min'], [[1200, 700, 2000], 'roughly 20 min'], [[330, 200, 600], 'roughly 6 min'],
    [[undefined], null], [[NaN], null], [[-1], null], [[720, undefined, undefined], '12 min'],
  ];
  for (const [given, text] of table) assert.equal(seen(new words.Remaining().words(...given)), text, `${given}`);
  assert.equal(words.left('12 min'), '12 min left');
  assert.equal(words.left('any moment'), 'any moment');
});

test('a shown remaining time rests while the estimate moves by less than three quarters of a step', () => {
  const shown = new words.Remaining();
  const told = [720, 763, 766, 740, 734].map((eta) => seen(shown.words(eta)));
  assert.deepEqual(told, ['12 min', '12 min', '13 min', '13 min', '12 min']);
  const kinds = new words.Remaining();
  const ranges = [[640, 800], [620, 840], [580, 850], [640, 800], [700, 760]].map(([low, high]) => seen(kinds.words(720, low, high)));
  assert.deepEqual(ranges, ['12 min', '12 min', '10 to 14 min', '10 to 14 min', '12 min']);
});

test('text of a program has neither colours nor controls', () => {
  assert.equal(words.plain('\x1b[1;31mred\x1b[0m\x07 and\r\n\tplain'), 'red and\n\tplain');
});

test('a run takes as long as its longest part, and as its queued parts at the same pace', () => {
  const state = new RunState();
  const job = (id, more) => state.take({ job: { slot: id, id, title: `job ${id}`, started: 0, ...more } });
  assert.equal(words.remaining(state, undefined, 0), null);
  job(1, { status: 'completed', ended: 1 });
  job(2, { status: 'working', total: 100, weight: 2 });
  assert.equal(words.remaining(state, undefined, 0), null);
  state.take({ report: { id: 2, progress: 50, eta: 30, low: 20, high: 40 } }, 0);
  assert.deepEqual(words.remaining(state, undefined, 0), { eta: 30, low: 20, high: 40 });
  assert.equal(words.remaining(state, undefined, 10_000).eta, 20, 'counted down');
  job(3, { status: 'queued', weight: 1 });
  assert.equal(words.remaining(state, undefined, 0).eta, 60, 'half of a job of weight 2 takes 30 s');
  job(5, { status: 'working', total: 10 });
  state.take({ report: { id: 5, progress: 5, eta: 10 } }, 0);
  assert.equal(words.remaining(state, undefined, 0).eta, 45, 'two at a time');
  job(4, { status: 'paused' });
  assert.equal(words.remaining(state, undefined, 0), null, 'nobody knows when a paused one goes on');
});
