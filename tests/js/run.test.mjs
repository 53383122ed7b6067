// What the lines of a run amount to, and what a page sees of a run that it follows.

import assert from 'node:assert/strict';
import test from 'node:test';
import { followRun, RunState } from '../../src/page/run.js';
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
