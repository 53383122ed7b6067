// What the lines of a run amount to, and what a page sees of a run that it follows.

import assert from 'node:assert/strict';
import test from 'node:test';
import { followRun, Recording, RunState } from '../../src/page/run.js';
import { FieldsState, readField, SeriesState } from '../../src/page/series.js';
import { fixtures, open } from './harness.mjs';

for (const { note, steps } of fixtures('run').conversations) {
  test(note, () => {
    const state = new RunState();
    for (const { take, means = true, remove, job, jobs, parameters, fractions = {}, log } of steps) {
      if (take) assert.equal(state.take(take, 0), means);
      if (remove) state.remove(remove);
      if (job) assert.deepEqual(state.jobs.get(job.id), job);
      if (jobs) assert.deepEqual([...state.jobs.keys()], jobs);
      if (parameters) assert.deepEqual([...state.parameters.keys()], parameters);
      if (log) assert.equal(state.log.length, log);
      for (const [id, fraction] of Object.entries(fractions)) {
        assert.equal(state.fraction(id === 'run' ? undefined : +id), fraction, `of ${id}`);
      }
    }
  });
}

for (const { note, steps } of fixtures('series').conversations) {
  test(note, () => {
    const state = new SeriesState();
    for (const { take, means = true, series, ids, last = {}, nan = {} } of steps) {
      assert.equal(state.take(take), means);
      if (series) assert.deepEqual(state.series.get(series.id), series);
      if (ids) assert.deepEqual([...state.series.keys()], ids);
      for (const [id, values] of Object.entries(last)) {
        assert.deepEqual(state.series.get(+id).y.map((line) => line.at(-1)), values.map(Number));
      }
      for (const [id, firsts] of Object.entries(nan)) assert.deepEqual(state.series.get(+id).nan, firsts);
    }
  });
}

test('a series takes bounded memory, and keeps its extremes and its segments', () => {
  const state = new SeriesState();
  state.take({ series: { slot: 1, id: 1, name: 'a' } });
  for (let i = 0; i < 100_000; i += 1) {
    const back = i === 50_000 ? { seg: [[0, i - 10]] } : undefined;
    state.take({ points: [back ? [1, i, i + 1, [i - 10], [i], 0, 0, back] : [1, i, i + 1, [i], [i === 777 ? -5 : i === 888 ? 'NaN' : i === 889 ? 'Infinity' : i]]] });
  }
  const { n, x, y: [y], low: [low], high: [high], segments } = state.series.get(1);
  assert.equal(n, 100_000);
  assert.ok(x.length <= 4096 && x.length === y.length && y.length === low.length && low.length === high.length);
  assert.equal(Math.min(...low.filter((v) => !Number.isNaN(v))), -5);
  assert.equal(Math.max(...high), 99_999);
  assert.equal(x.at(-1), 99_999);
  assert.equal(segments.length, 2);
  const { index } = segments[1];
  assert.deepEqual([x[index - 1], segments[1].x], [49_999, 49_990]);
  assert.equal(state.hasHole, false);
  const inFirstHalf = x.filter((at) => at < 50_000).length;
  assert.ok(inFirstHalf > x.length / 3, `${inFirstHalf} of ${x.length} buckets for the first half`);
});

const copyOf = (id, values, { version = 1, extent = [NaN, NaN, NaN, NaN] } = {}) => {
  const bytes = new ArrayBuffer(64 + 4 * values.length), view = new DataView(bytes);
  [version, 4, 64].forEach((byte, at) => view.setUint8(at, byte));
  view.setUint32(4, 1, true);
  view.setUint32(8, values.length, true);
  view.setBigUint64(16, BigInt(id), true);
  [412, ...extent].forEach((number, at) => view.setFloat64(24 + 8 * at, number, true));
  new Float32Array(bytes, 64).set(values);
  return bytes;
};

test('a copy of a field and what the field is may come in any order', () => {
  const state = new FieldsState();
  assert.equal(state.takeData(copyOf(2, [1, 2], { extent: [0, 2.5, NaN, NaN] })), true);
  assert.equal(state.take({ field: { slot: 1, id: 2, job: 1, name: 'u' } }), true);
  const { name, shape, values, position, x, y } = state.fields.get(2);
  assert.deepEqual([name, shape, [...values], position, x, y], ['u', [1, 2], [1, 2], 412, [0, 2.5], undefined]);
  state.takeData(copyOf(2, [3, 4]));
  state.take({ field: { slot: 1, id: 2, job: 1, name: 'u', unit: 'K' } });
  assert.deepEqual([[...state.fields.get(2).values], state.fields.get(2).unit], [[3, 4], 'K']);
  state.take({ field: { slot: 1, id: 3, job: 1, name: 'v' } });
  assert.deepEqual([...state.fields.keys()], [3]);
});

test('bytes that are no copy of a field are not taken', () => {
  for (const bytes of [new ArrayBuffer(0), new ArrayBuffer(64), copyOf(1, [1], { version: 2 }), copyOf(1, [1]).slice(0, 66)]) {
    assert.equal(readField(bytes), null);
    assert.equal(new FieldsState().takeData(bytes), false);
  }
});

test('a recorded run is what it was, line by line', () => {
  const { lines, means } = fixtures('recorded');
  const run = new Recording();
  for (const [place, line] of lines.entries()) {
    assert.equal(run.take(JSON.parse(line)), true, line);
    const { parameters, log, end, series, ...job } = means[place + 1] ?? {};
    const { state } = run;
    for (const [name, value] of Object.entries(job)) assert.equal(state.jobs.get(1)[name], value, line);
    if (parameters) assert.deepEqual([...state.parameters.keys()], parameters);
    if (log) assert.equal(state.log.length, log);
    if (series) assert.deepEqual(run.series.get(9).x, series);
    assert.deepEqual(state.end, end ?? null);
  }
  assert.equal(run.state.run.title, 'Gray-Scott');
  assert.equal(run.take({ at: 1, colour: 7 }), false);
});

test('after a hole in a recording only what follows counts', () => {
  const run = new Recording();
  const job = (id) => ({ at: 1, job: { slot: id, id, title: `job ${id}`, status: 'working', started: 1 } });
  const series = { at: 1, series: { slot: 1, id: 9, name: 'residual' } };
  for (const line of [job(1), job(2), series, { at: 2, lost: 7 }, job(2)]) assert.equal(run.take(line), true);
  assert.deepEqual([[...run.state.jobs.keys()], run.series.size], [[2], 0]);
  assert.deepEqual(run.state.log, [{ lost: 7 }]);
});

const RUN = { feed: { name: 'stepcast/run', alias: 3, seq: 0, how: 'snapshot' } };
const job = (id, stamp, more = {}) => ({ json: [3, stamp, 7, { job: { id, title: `job ${id}`, status: 'working', started: 1, ...more } }, `job/${id}`] });

test('a page follows a run, and is told of changes that came together once', async () => {
  const tab = open({ feeds: [] });
  const run = followRun(tab.hub);
  let changes = 0;
  run.on('change', () => { changes += 1; });
  tab.socket.say(RUN, job(1, 1), job(2, 2, { parent: 1 }), { json: [3, 1, 9, { log: { at: 1, level: 'info', text: 'a' } }] });
  await null;
  assert.equal(changes, 1);
  assert.deepEqual(run.state.children().map(({ id }) => id), [1]);
  assert.deepEqual(run.state.children(1).map(({ id }) => id), [2]);
  assert.equal(run.state.log.length, 1);
  tab.socket.say(job(3, 3, { parent: 1 }), { gap: { alias: 3, from: 2, to: 6, why: 'slow' } });
  await null;
  assert.equal(changes, 2);
  assert.deepEqual([...run.state.jobs.keys()], [1, 2, 3]);
  assert.deepEqual(run.state.log.at(-1), { lost: 5 });
});

test('a run that is followed late has what came before', () => {
  const tab = open({ feeds: ['stepcast/run'] });
  tab.socket.say(RUN, job(1, 1));
  assert.deepEqual([...followRun(tab.hub).state.jobs.keys()], [1]);
});

test('another run of the program begins anew', () => {
  const tab = open({ feeds: [] });
  const run = followRun(tab.hub);
  tab.socket.say(RUN, job(1, 1));
  tab.socket.say({ feed: { ...RUN.feed, epoch: '5e1f00d2a4b3c688' } });
  assert.equal(run.state.jobs.size, 0);
});

test('commands are messages about the feed of the run', () => {
  const tab = open({ feeds: [] });
  const run = followRun(tab.hub);
  assert.equal(run.cancel(1), false, 'the feed is not followed yet');
  tab.socket.say(RUN, job(1, 1));
  assert.equal(run.cancel(1), true);
  assert.equal(run.set(3, 0.05), true);
  const said = tab.socket.said.filter(({ json }) => json);
  assert.deepEqual(said, [{ json: { cancel: { id: 1 } }, to: 3 }, { json: { set: { id: 3, value: 0.05 } }, to: 3 }]);
  run.close();
  assert.ok(tab.socket.said.some(({ unfollow }) => unfollow));
});

const SERIES = { feed: { name: 'stepcast/series', alias: 4, seq: 0, how: 'snapshot' } };

test('a page has the series of a run, and asks anew where points are missing', (t) => {
  t.mock.timers.enable({ apis: ['Date', 'setTimeout'], now: 1_000_000 });
  const tab = open({ feeds: [] });
  const run = followRun(tab.hub);
  const value = (stamp, more) => ({ json: [4, stamp, 7, { series: { slot: 1, id: 9, name: 'residual', ...more } }, 'series/1'] });
  const points = (seq, fresh) => ({ json: [4, seq, 9, { points: [fresh] }] });
  tab.socket.say(RUN, SERIES, value(1), points(1, [9, 0, 1, [0], [0.5]]));
  const before = run.series;
  assert.deepEqual(run.series.get(9).y, [[0.5]]);
  tab.socket.say({ gap: { alias: 4, from: 2, to: 6, why: 'slow' } });
  t.mock.timers.tick(0);
  assert.deepEqual(tab.socket.said.at(-1), { unfollow: ['stepcast/series'] });
  tab.socket.say({ unfollowed: { alias: 4 } });
  assert.deepEqual(tab.socket.said.at(-1), { follow: { 'stepcast/series': {} } });
  tab.socket.say(SERIES, value(1, { n: 3, x: [2], y: [0.5], lo: [0.25], hi: [null] }));
  assert.notEqual(run.series, before);
  assert.deepEqual(run.series.get(9).low, [[0.25]]);
  // Not again at once, but later, though nothing else is said.
  tab.socket.say(points(1, [9, 5, 6, [5], [0.5]]));
  t.mock.timers.tick(29_000);
  assert.ok(tab.socket.said.at(-1).follow);
  t.mock.timers.tick(1_000);
  assert.deepEqual(tab.socket.said.at(-1), { unfollow: ['stepcast/series'] });
  run.close();
});

test('those who follow the run of one hub share what they know, and fields are followed while somebody shows them', () => {
  const tab = open({ feeds: [] });
  const run = followRun(tab.hub);
  tab.socket.say(RUN, SERIES, { json: [4, 1, 7, { series: { slot: 1, id: 9, name: 'residual', n: 3, x: [2], y: [0.5] } }, 'series/1'] });
  const follows = () => tab.socket.said.flatMap(({ follow = {}, unfollow = [] }) => [...Object.keys(follow), ...unfollow.map((name) => `-${name}`)]);
  assert.ok(!follows().includes('stepcast/fields'));
  const other = followRun(tab.hub, { fields: true });
  assert.equal(other.series, run.series);
  assert.equal(follows().filter((name) => name === 'stepcast/fields').length, 1);
  tab.socket.say({ feed: { name: 'stepcast/fields', alias: 5, seq: 0, how: 'snapshot' } });
  run.close();
  run.close();
  assert.ok(!follows().includes('-stepcast/series'));
  other.close();
  for (const name of ['run', 'series', 'fields']) assert.ok(follows().includes(`-stepcast/${name}`), name);
  assert.notEqual(followRun(tab.hub).series, other.series);
});
