// What a handle that is made later has of its feed, and what a store of a framework has of it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { createElement, StrictMode, useSyncExternalStore } from 'react';
import { act, create } from 'react-test-renderer';
import { open } from './harness.mjs';

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const follows = { feed: { name: 'run/42', alias: 3, seq: 0, how: 'snapshot' } };

/** A tab that follows a run, of which so many messages have come, and a value. */
function running(count, options) {
  const tab = open(options);
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows, ...Array.from({ length: count }, (_, i) => text(i + 1)), { text: [3, 900, 0, 'warm', 'phase'] });
  return { tab, run };
}

const text = (seq) => ({ text: [3, seq, 7, `${seq}`] });
const seqs = ({ messages }) => messages.map(({ seq }) => seq);

test('a handle that is made later has what the first one has had, in order, and then what comes', () => {
  const { tab } = running(3);
  const first = [];
  tab.hub.on('message', (message) => first.push(message));
  const late = tab.hub.feed('run/42');
  const { how, values, messages } = late.snapshot();
  assert.deepEqual([how, [...values]], ['snapshot', [['phase', 'warm']]]);
  assert.deepEqual(messages, [1, 2, 3].map((seq) => ({ feed: 'run/42', seq, time: tab.clock.now() + 7, data: `${seq}` })));
  const has = [...messages];
  late.on('message', (message) => has.push(message));
  tab.socket.say(text(4), text(5));
  assert.deepEqual(has.map(({ seq }) => seq), [1, 2, 3, 4, 5]);
  assert.deepEqual(has.slice(3), first);
  assert.deepEqual(seqs(late.snapshot()), [1, 2, 3, 4, 5]);
  assert.equal(tab.socket.said.filter(({ follow }) => follow).length, 1, 'the hub is not asked again');
});

test('a handle that is made by a listener, in the middle of a frame, misses nothing and has nothing twice', () => {
  const { tab, run } = running(1);
  const has = [];
  run.on('message', ({ seq }) => {
    if (seq !== 3) return;
    const late = tab.hub.feed('run/42');
    has.push(...seqs(late.snapshot()));
    late.on('message', (message) => has.push(message.seq));
  });
  tab.socket.say(text(2), text(3), text(4), text(5));
  assert.deepEqual(has, [1, 2, 3, 4, 5]);
});

test('a hundred messages are kept, or as many as the page says', () => {
  assert.deepEqual(seqs(running(250).run.snapshot()), Array.from({ length: 100 }, (_, i) => 151 + i));
  assert.deepEqual(seqs(running(250, { history: 2 }).run.snapshot()), [249, 250]);
  assert.deepEqual(seqs(running(250, { history: 0 }).run.snapshot()), []);
});

test('what has come stays through a lost connection, and goes where the feed begins anew or is left', () => {
  const { tab, run } = running(2);
  tab.back();
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 2, how: 'resumed' } }, text(3));
  assert.deepEqual([run.snapshot().how, seqs(run.snapshot())], ['resumed', [1, 2, 3]]);
  tab.socket.say({ ended: [3, 990, 7] });
  assert.deepEqual([run.snapshot().how, run.ended, tab.hub.feed('run/42').ended], ['ended', true, true]);
  tab.back();
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 3, how: 'resumed' } });
  assert.equal(run.snapshot().how, 'ended');
  tab.socket.say({ feed: { name: 'run/42', alias: 4, seq: 9, how: 'snapshot' } }, { text: [4, 10, 7, 'new'] });
  assert.deepEqual([run.snapshot().how, seqs(run.snapshot()), run.snapshot().values.size, run.ended], ['snapshot', [10], 0, false]);
  tab.socket.say({ unfollowed: { alias: 4 } });
  assert.equal(run.snapshot().how, 'unfollowed');
  const other = tab.hub.feed('run/43');
  assert.deepEqual([other.snapshot().how, seqs(other.snapshot())], [null, []]);
});

test('a snapshot is the same object until something of the feed comes, and is never changed', () => {
  const { tab, run } = running(1);
  const { snapshot, subscribe } = run; // without `this`, as frameworks call them
  let changes = 0;
  const off = subscribe(() => { changes += 1; });
  let before = snapshot();
  const same = () => Object.is(snapshot(), before) && Object.is(snapshot(), tab.hub.feed('run/42').snapshot());
  assert.ok(same());
  tab.socket.say({ text: [1, 1, 0, 'of another feed'] }, { ping: [1] }, { removed: [3, 950, 0, 'unknown'] });
  assert.ok(same());
  assert.equal(changes, 0);
  const made = [before];
  for (const line of [text(2), { text: [3, 960, 0, 'cold', 'phase'] }, { removed: [3, 961, 0, 'phase'] }, { gap: { alias: 3, from: 3, to: 4, why: 'slow' } }, { ended: [3, 962, 0] }]) {
    tab.socket.say(line);
    assert.ok(!Object.is(snapshot(), before), JSON.stringify(line));
    before = snapshot();
    assert.ok(same());
    made.push(before);
  }
  assert.equal(changes, 5);
  assert.deepEqual(made.map(({ how, values, messages }) => [how, values.get('phase'), messages.length]), [
    ['snapshot', 'warm', 1], ['snapshot', 'warm', 2], ['snapshot', 'cold', 2], ['snapshot', undefined, 2], ['snapshot', undefined, 2], ['ended', undefined, 2],
  ]);
  off();
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 9, how: 'snapshot' } });
  assert.equal(changes, 5);
});

test('React shows a feed by its snapshot, also in StrictMode and in a component that is mounted later', async () => {
  const { tab, run } = running(1);
  let renders = 0;
  const Log = () => {
    renders += 1;
    return useSyncExternalStore(run.subscribe, run.snapshot).messages.map(({ data }) => data).join();
  };
  const log = (key) => createElement(Log, { key });
  const show = (...logs) => createElement(StrictMode, null, ...logs);
  let root;
  await act(() => { root = create(show(log('a'))); });
  assert.equal(root.toJSON(), '1');
  await act(() => tab.socket.say(text(2), text(3)));
  assert.equal(root.toJSON(), '1,2,3');
  await act(() => root.update(show(log('a'), log('b'))));
  await act(() => tab.socket.say(text(4)));
  assert.deepEqual(root.toJSON(), ['1,2,3,4', '1,2,3,4']);
  assert.ok(renders < 20, `${renders}`);
  await act(() => root.unmount());
  const before = renders;
  await act(() => tab.socket.say(text(5)));
  assert.equal(renders, before);
});
