// What a page is told, and what it tells: feeds and their handles, values, acknowledgements, sending.

import assert from 'node:assert/strict';
import test from 'node:test';
import { runInNewContext } from 'node:vm';
import { Page, Tab, open } from './harness.mjs';

const follows = (alias, name = 'run/42') => ({ feed: { name, alias, seq: 0, how: 'snapshot' } });
const asked = (tab) => tab.socket.said.slice(1);
const asObject = (values) => Object.fromEntries(values);

test('messages, values and gaps say which feed they are of: null is the mailbox', () => {
  const tab = open();
  tab.socket.say({ text: [0, 1, 0, 'mine'] }, { json: [1, 1, 0, { all: 1 }] }, { json: [1, 5, 0, 0.4, 'stiffness'] }, { gap: { alias: 0, from: 2, to: 3, why: 'slow' } });
  assert.deepEqual(tab.events, [
    { type: 'message', feed: null, seq: 1, time: tab.clock.now(), data: 'mine' },
    { type: 'message', feed: '', seq: 1, time: tab.clock.now(), data: { all: 1 } },
    { type: 'value', feed: '', key: 'stiffness', time: tab.clock.now(), data: 0.4 },
    { type: 'gap', feed: null, from: 2, to: 3, why: 'slow' },
  ]);
});

test('on returns what takes the listener off, and the hub is an EventTarget, too', () => {
  const tab = open();
  const heard = [];
  const off = tab.hub.on('message', ({ data }) => heard.push(data));
  tab.hub.addEventListener('message', (event) => {
    assert.ok(event instanceof CustomEvent);
    heard.push(event.detail.seq);
  }, { once: true });
  tab.socket.say({ text: [1, 1, 0, 'a'] });
  off();
  tab.socket.say({ text: [1, 2, 0, 'b'] });
  assert.deepEqual(heard, ['a', 1]);
});

test('a listener may be for one event, or until a signal, also of a feed', () => {
  const tab = open();
  const heard = [];
  const controller = new AbortController();
  const all = tab.hub.feed('');
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows(3));
  tab.hub.on('message', ({ data }) => heard.push(`hub once ${data}`), { once: true });
  run.on('message', ({ data }) => heard.push(`once ${data}`), { once: true });
  all.on('message', ({ data }) => heard.push(`until ${data}`), { signal: controller.signal });
  run.on('message', ({ data }) => heard.push(`until ${data}`), controller);
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [3, 1, 0, 'b'] }, { text: [3, 2, 0, 'c'] });
  assert.deepEqual(heard.splice(0), ['hub once a', 'until a', 'once b', 'until b', 'until c']);
  run.close();
  tab.socket.say({ unfollowed: { alias: 3 } }, { text: [1, 2, 0, 'd'] });
  assert.deepEqual(heard.splice(0), ['until d']);
  controller.abort();
  tab.socket.say({ text: [1, 3, 0, 'e'] });
  assert.deepEqual(heard, []);
});

test('off takes a listener off where on was given it, and there alone', () => {
  const tab = open();
  const run = tab.hub.feed('run/42'), other = tab.hub.feed('run/42');
  tab.socket.say(follows(3));
  const heard = [];
  const listener = ({ data }) => heard.push(data);
  for (const each of [tab.hub, run, run, other]) each.on('message', listener);
  tab.hub.on('gap', listener);
  tab.socket.say({ text: [3, 1, 0, 'a'] });
  assert.deepEqual(heard.splice(0), ['a', 'a', 'a', 'a']);
  run.off('message', listener);
  tab.socket.say({ text: [3, 2, 0, 'b'] });
  assert.deepEqual(heard.splice(0), ['b', 'b']);
  tab.hub.off('message', listener);
  tab.hub.off('message', () => {});
  tab.socket.say({ text: [3, 3, 0, 'c'] }, { gap: { alias: 3, from: 4, to: 5, why: 'slow' } });
  assert.deepEqual(heard.splice(0), ['c', undefined]);
  other.close();
  other.on('message', listener);
  tab.socket.say({ text: [3, 6, 0, 'd'] });
  assert.deepEqual(heard, []);
});

test('a listener whose signal was aborted before is never called, and one that is off leaves its signal alone', () => {
  const tab = open();
  tab.hub.on('message', () => assert.fail(), { signal: AbortSignal.abort() });
  let left = 0;
  const { signal } = new AbortController();
  signal.addEventListener = () => { left += 1; };
  signal.removeEventListener = () => { left -= 1; };
  tab.hub.on('message', () => assert.fail(), { signal })();
  assert.equal(left, 0);
  tab.socket.say({ text: [1, 1, 0, 'a'] });
});

/** What a loop over a feed has, and how it ended. */
function loop(feed, { most = Infinity } = {}) {
  const has = [];
  const ended = (async () => {
    for await (const { seq, data } of feed) {
      has.push([seq, data]);
      if (has.length === most) return 'left';
    }
    return 'ended';
  })().catch((error) => String(error));
  return { has, ended };
}

const settled = () => new Promise((resolve) => { setImmediate(resolve); });

test('a loop over a feed has its messages in order, and ends with the run', async () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows(3));
  const { has, ended } = loop(run);
  tab.socket.say({ text: [3, 1, 0, 'a'] }, { text: [1, 1, 0, 'not of this feed'] }, { text: [3, 2, 0, 'b'] });
  await settled();
  assert.deepEqual(has, [[1, 'a'], [2, 'b']]);
  tab.socket.say({ text: [3, 3, 0, 'c'] }, { bye: { code: 4503, reason: 'done' } });
  assert.equal(await ended, 'ended');
  assert.deepEqual(has.slice(2), [[3, 'c']]);
});

test('a feed that the program has finished says so, to handles that come later, too, until it is another one', async () => {
  const tab = open();
  const [run, told] = [tab.hub.feed('run/42'), []];
  run.on('ended', (detail) => told.push(detail));
  const loop = (async () => { for await (const { data } of run) told.push(data); })();
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 0, how: 'snapshot' } }, { text: [3, 1, 0, 'a'] });
  assert.deepEqual([run.ended, told], [false, []]);
  tab.socket.say({ text: [3, 2, 0, 'b'] }, { ended: [3, 9, 7] });
  await loop;
  assert.deepEqual([run.ended, told], [true, [{ feed: 'run/42', time: tab.clock.now() + 7 }, 'a', 'b']]);
  const late = tab.hub.feed('run/42');
  for await (const message of late) assert.fail(`${message}`);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds['run/42'], { seq: 2, set: 9 });
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 2, how: 'resumed' } });
  assert.deepEqual([run.ended, late.ended], [true, true]);
  tab.socket.say({ feed: { name: 'run/42', alias: 5, seq: 0, how: 'snapshot' } });
  assert.deepEqual([run.ended, late.ended, told.length], [false, false, 3]);
});

test('a loop over a feed throws where the run has failed, after the last message', async () => {
  const tab = open();
  const { has, ended } = loop(tab.hub.feed(''));
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { bye: { code: 4504, reason: 'diverged' } });
  assert.equal(await ended, 'Error: failed: 4504 diverged');
  assert.deepEqual(has, [[1, 'a']]);
});

for (const [name, end, how] of [
  ['its handle', ({ run }) => run.close(), 'ended'],
  ['the connection', ({ tab }) => tab.hub.close(), 'ended'],
  ['its handle by using', ({ run }) => run[Symbol.dispose](), 'ended'],
  ['the connection by using', ({ tab }) => tab.hub[Symbol.dispose](), 'ended'],
  ['the connection by the hub', ({ tab }) => tab.socket.say({ bye: { code: 4501, reason: 'not you' } }), 'Error: closed: 4501 not you'],
]) {
  test(`a loop over a feed is over once ${name} is closed`, async () => {
    const tab = open();
    const run = tab.hub.feed('run/42');
    tab.socket.say(follows(3));
    const { ended } = loop(run);
    await settled();
    end({ tab, run });
    assert.equal(await ended, how);
    // And one that is begun afterwards is over at once.
    assert.equal(await loop(run).ended, how);
  });
}

test('a loop that is left leaves no listener', async () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows(3));
  let listeners = 0;
  const { addEventListener, removeEventListener } = tab.hub;
  tab.hub.addEventListener = (...rest) => { listeners += 1; addEventListener.apply(tab.hub, rest); };
  tab.hub.removeEventListener = (...rest) => { listeners -= 1; removeEventListener.apply(tab.hub, rest); };
  const { ended } = loop(run, { most: 1 });
  assert.equal(listeners, 3);
  tab.socket.say({ text: [3, 1, 0, 'a'] });
  assert.equal(await ended, 'left');
  assert.equal(listeners, 0);
});

test('a loop that is slower than the messages come has the newest thousand', async () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows(3));
  const slow = loop(run);
  for (let seq = 1; seq <= 1500; seq += 1) tab.socket.say({ text: [3, seq, 0, 'x'] });
  tab.socket.say({ bye: { code: 4503, reason: 'done' } });
  assert.equal(await slow.ended, 'ended');
  assert.deepEqual(slow.has.map(([seq]) => seq), Array.from({ length: 1000 }, (_, i) => 501 + i));
});

test('a handle that is made later follows at once, and has the events of its feed only', () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  assert.equal(run.name, 'run/42');
  assert.deepEqual(tab.socket.said.at(-1), { follow: { 'run/42': {} } });
  const heard = [];
  for (const type of ['message', 'value', 'gap', 'feed', 'error']) run.on(type, (detail) => heard.push([type, detail]));
  tab.socket.say(
    { feed: { name: 'run/42', alias: 3, seq: 6, how: 'snapshot' } }, { text: [3, 7, 0, 'a'] }, { text: [1, 1, 0, 'not of this feed'] },
    { text: [3, 8, 0, 'x', 'key'] }, { gap: { alias: 3, from: 8, to: 9, why: 'expired' } }, { error: { code: 'full', feed: 'run/42', reason: '' } },
  );
  assert.deepEqual(heard, [
    ['feed', { feed: 'run/42', how: 'snapshot' }],
    ['message', { feed: 'run/42', seq: 7, time: tab.clock.now(), data: 'a' }],
    ['value', { feed: 'run/42', key: 'key', time: tab.clock.now(), data: 'x' }],
    ['gap', { feed: 'run/42', from: 8, to: 9, why: 'expired' }],
    ['error', { code: 'full', feed: 'run/42', reason: '' }],
  ]);
});

test('handles of one name share one following, and the last to close ends it', () => {
  const tab = open();
  const [a, b] = [tab.hub.feed('run/42'), tab.hub.feed('run/42')];
  const said = () => tab.socket.said.slice(1);
  assert.deepEqual(said(), [{ follow: { 'run/42': {} } }]);
  tab.socket.say({ feed: { name: 'run/42', alias: 3, seq: 0, how: 'snapshot' } });
  const heard = [];
  a.on('message', () => heard.push('a'));
  b.on('message', () => heard.push('b'));
  a.close();
  a.close();
  a.on('message', () => heard.push('closed'));
  tab.socket.say({ text: [3, 1, 0, ''] });
  assert.deepEqual(heard, ['b']);
  assert.equal(said().length, 1);
  b.close();
  assert.deepEqual(said().slice(1), [{ unfollow: ['run/42'] }]);
  tab.events = [];
  tab.socket.say({ text: [3, 2, 0, 'under way'] }, { text: [3, 3, 0, 'x', 'key'] }, { unfollowed: { alias: 3 } });
  assert.equal(said().length, 2);
  assert.deepEqual(tab.events, []);
  assert.deepEqual(tab.hub.feed('run/42').values.size, 0);
  assert.deepEqual(said().at(-1), { follow: { 'run/42': {} } });
});

test('the feeds of the options stay followed without a handle', () => {
  const tab = open();
  const everyone = tab.hub.feed('');
  everyone.close();
  assert.equal(tab.socket.said.length, 1);
});

test('a feed that is left and followed before the hub has answered is asked for once, and comes once', () => {
  const tab = open();
  const first = tab.hub.feed('run/42');
  first.close();
  const heard = [];
  const second = tab.hub.feed('run/42');
  second.on('message', ({ seq }) => heard.push(seq));
  assert.deepEqual(asked(tab), [{ follow: { 'run/42': {} } }]);
  tab.socket.say(follows(3), { text: [3, 1, 0, 'a'] }, { text: [3, 9, 0, 'x', 'key'] });
  assert.deepEqual(heard, [1]);
  assert.deepEqual(asObject(second.values), { key: 'x' });
  assert.deepEqual(tab.take('feed'), [{ feed: 'run/42', how: 'snapshot' }]);
  assert.equal(asked(tab).length, 1);
});

test('a feed that is left before the hub has answered is left then, without a word', () => {
  const tab = open();
  tab.hub.feed('run/42').close();
  assert.equal(asked(tab).length, 1);
  tab.socket.say(follows(3), { text: [3, 1, 0, 'a'] });
  assert.deepEqual(asked(tab).slice(1), [{ unfollow: ['run/42'] }]);
  tab.socket.say({ text: [3, 2, 0, 'b'] }, { unfollowed: { alias: 3 } });
  assert.deepEqual(tab.events, []);
  tab.back();
  assert.deepEqual(Object.keys(tab.socket.hello.feeds), ['']);
});

test('what is under way of a feed that was left is not for its successor, which is asked for after the answer', () => {
  const tab = open();
  tab.hub.feed('run/42').close();
  tab.hub.feed('run/42').close();
  const run = tab.hub.feed('run/42');
  tab.socket.say(follows(3), { text: [3, 1, 0, 'a'] });
  run.close();
  const again = tab.hub.feed('run/42');
  assert.deepEqual(asked(tab).slice(1), [{ unfollow: ['run/42'] }]);
  tab.events = [];
  tab.socket.say({ text: [3, 2, 0, 'b'] }, { text: [3, 10, 0, 'y', 'key'] }, { gap: { alias: 3, from: 3, to: 4, why: 'slow' } });
  assert.deepEqual([tab.events, again.values.size], [[], 0]);
  tab.socket.say({ unfollowed: { alias: 3 } });
  assert.deepEqual(asked(tab).slice(2), [{ follow: { 'run/42': {} } }]);
  tab.socket.say(follows(3), { text: [3, 1, 0, 'a'] }, { text: [3, 2, 0, 'b'] });
  assert.deepEqual(tab.take('message').map(({ seq }) => seq), [1, 2]);
  assert.deepEqual(tab.take('feed').map(({ how }) => how), ['snapshot']);
});

test('a lost connection answers what was asked: the next hello names what the page wants then', () => {
  const tab = open();
  for (const name of ['left', 'followed again', 'never answered']) tab.hub.feed(name);
  tab.socket.say(follows(3, 'left'), follows(4, 'followed again'), { text: [4, 1, 0, 'a'] });
  tab.hub.feed('left'); // one of two handles
  tab.back({ resumed: true });
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 0 }, left: { seq: 0 }, 'followed again': { seq: 1 }, 'never answered': {} });
  const run = tab.hub.feed('run');
  run.close(); // not answered
  tab.back();
  assert.equal('run' in tab.socket.hello.feeds, false);
});

test('a feed that was refused may be left, and asked for again', () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say({ error: { code: 'forbidden', feed: 'run/42', reason: '' } });
  run.close();
  tab.hub.feed('run/42');
  assert.deepEqual(asked(tab), [{ follow: { 'run/42': {} } }, { follow: { 'run/42': {} } }]);
});

test('values are current when their event comes, whoever asks and whenever', () => {
  const tab = open();
  tab.socket.say({ text: [1, 5, 0, 'a', 'state'] }, { text: [1, 6, 0, 'b', 'state'] }, { json: [1, 7, 0, 0.5, '__proto__'] });
  const everyone = tab.hub.feed('');
  assert.deepEqual([...everyone.values], [['state', 'b'], ['__proto__', 0.5]]);
  const seen = [];
  everyone.on('value', ({ key, data }) => seen.push(everyone.values.get(key) === data));
  tab.socket.say({ text: [1, 8, 0, 'c', 'state'] }, { text: [1, 9, 0, 'd', 'state'] });
  assert.deepEqual(seen, [true, true]);
});

test('a snapshot clears the values, and a resumed feed keeps them', () => {
  const tab = open();
  const { values } = tab.hub.feed('');
  tab.socket.say({ text: [1, 5, 0, 'a', 'old'] });
  tab.back();
  tab.socket.say({ feed: { name: '', alias: 1, seq: 0, how: 'resumed' } }, { text: [1, 6, 0, 'b', 'new'] });
  assert.deepEqual(asObject(values), { old: 'a', new: 'b' });
  tab.back({ resumed: false, id: 1, key: 'k', epoch: 'e' });
  let size;
  tab.hub.on('feed', ({ feed, how }) => { if (feed === '') size = [how, values.size]; });
  tab.socket.say({ feed: { name: '', alias: 9, seq: 0, how: 'snapshot' } }, { text: [9, 2, 0, 'c', 'newest'] });
  assert.deepEqual(size, ['snapshot', 0]);
  assert.deepEqual(asObject(values), { newest: 'c' });
  // Nothing from before the snapshot is said to be had.
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 0, set: 2 } });
});

test('a value that the program removes is forgotten, and its feed is told', () => {
  const tab = open();
  const all = tab.hub.feed('');
  const heard = [];
  all.on('removed', ({ feed, key }) => heard.push([feed, key, all.values.has(key)]));
  tab.socket.say({ text: [1, 5, 0, 'a', 'old'] }, { text: [1, 6, 0, 'b', 'new'] }, { text: [0, 7, 0, 'mine', 'old'] }, { removed: [1, 8, 0, 'old'] });
  assert.deepEqual(asObject(all.values), { new: 'b' });
  assert.deepEqual(heard, [['', 'old', false]]);
  assert.deepEqual(tab.take('removed'), [{ feed: '', key: 'old' }]);
  tab.socket.say({ removed: [0, 9, 0, 'old'] }, { text: [1, 10, 0, 'c', 'old'] });
  assert.deepEqual(tab.take('removed'), [{ feed: null, key: 'old' }]);
  assert.deepEqual(asObject(all.values), { new: 'b', old: 'c' });
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 0, set: 10 } });
});

test('a removal that is not newer than the value, or of a value that the page does not have, is not told', () => {
  const tab = open();
  const { values } = tab.hub.feed('');
  tab.socket.say({ text: [1, 5, 0, 'a', 'key'] }, { removed: [1, 4, 0, 'key'] }, { removed: [1, 5, 0, 'key'] }, { removed: [1, 6, 0, 'never had'] });
  assert.deepEqual(asObject(values), { key: 'a' });
  assert.deepEqual(tab.take('removed'), []);
});

test('a feed that is followed may be said to go on again, and nothing is delivered twice', () => {
  const tab = open();
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 5, 0, 'x', 'key'] });
  tab.socket.say({ feed: { name: '', alias: 1, seq: 0, how: 'resumed' } }, { text: [1, 1, 0, 'a'] }, { text: [1, 5, 0, 'x', 'key'] });
  tab.socket.say({ gap: { alias: 1, from: 1, to: 1, why: 'slow' } }, { text: [1, 2, 0, 'b'] }, { text: [1, 7, 0, 'y', 'key'] });
  assert.deepEqual(tab.take('message').map(({ seq }) => seq), [1, 2]);
  assert.deepEqual(tab.take('value').map(({ data }) => data), ['x', 'y']);
  assert.deepEqual(tab.take('gap'), []);
  assert.deepEqual(tab.take('feed'), [{ feed: '', how: 'resumed' }]);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 2, set: 7 } });
});

test('a client that wants more feeds than it may follow goes on with as many as it may, and says which are left out', () => {
  const tab = new Tab({ feeds: ['a', 'b', 'c'] });
  tab.socket.welcome({ limits: { message: 65536, feeds: 2, rate: 1000 } });
  assert.equal(tab.socket.said.length, 1);
  tab.socket.say({ error: { code: 'full', reason: '3 feeds where a client may follow 2' } });
  assert.deepEqual(tab.take('error').map(({ code, feed }) => [code, feed]), [['full', undefined], ['full', 'c']]);
  assert.deepEqual(asked(tab), [{ follow: { a: {}, b: {} } }]);
  // From then on it asks for no more in one line, and keeps what it has.
  tab.socket.say({ feed: { name: 'a', alias: 1, seq: 7, how: 'snapshot' } }, { feed: { name: 'b', alias: 2, seq: 0, how: 'snapshot' } });
  tab.back({ resumed: true, limits: { message: 65536, feeds: 2, rate: 1000 } });
  assert.deepEqual(tab.socket.hello.feeds, { a: { seq: 7 }, b: { seq: 0 } });
  // An error about one feed is no reason to ask again.
  tab.socket.say({ error: { code: 'full', feed: '', reason: '' } });
  assert.equal(tab.socket.said.length, 1);
  tab.hub.feed('d');
  assert.deepEqual(tab.socket.said.at(-1), { follow: { d: {} } });
});

test('a hello names 64 feeds at most, and the rest is asked for when the hub has said how many it may be', () => {
  const feeds = Array.from({ length: 3000 }, (_, i) => `run/${i}`);
  const tab = new Tab({ feeds });
  tab.socket.open();
  assert.deepEqual(Object.keys(tab.socket.hello.feeds), feeds.slice(0, 64));
  tab.hub.feed('early');
  tab.socket.welcome({ limits: { message: 65536, feeds: 100, rate: 1000 } });
  assert.deepEqual(asked(tab).slice(0, 1), [{ follow: { early: {} } }]);
  assert.deepEqual(asked(tab).slice(1).map(({ follow }) => Object.keys(follow)), [feeds.slice(64, 99)]);
  assert.deepEqual(tab.take('error').map(({ code, feed }) => [code, feed]), feeds.slice(99).map((name) => ['full', name]));
});

test('a snapshot forgets the stamp, so that a loss right after it loses no value', () => {
  const tab = open();
  tab.socket.say({ text: [1, 5, 0, 'a', 'key'] }, { feed: { name: '', alias: 2, seq: 3, how: 'snapshot' } });
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 3 } });
});

test('the program may have it follow, and follow no more', () => {
  const tab = open();
  const follow = { feed: { name: 'run/7', alias: 7, seq: 2, how: 'snapshot' } };
  tab.socket.say(follow, { text: [7, 3, 0, 'a'] }, { text: [7, 9, 0, 'x', 'key'] });
  assert.equal(tab.take('message').at(-1).feed, 'run/7');
  assert.deepEqual(asObject(tab.hub.feed('run/7').values), { key: 'x' }, 'known before there was a handle');
  assert.equal(tab.socket.said.length, 1, 'nothing to ask for');
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds['run/7'], { seq: 3, set: 9 });
  tab.socket.say({ feed: { name: 'run/8', alias: 8, seq: 0, how: 'snapshot' } }, { unfollowed: { alias: 8 } }, { text: [8, 1, 0, 'x'] });
  assert.deepEqual(tab.take('feed').at(-1), { feed: 'run/8', how: 'unfollowed' });
  assert.deepEqual(tab.take('message'), []);
  tab.back();
  assert.equal('run/8' in tab.socket.hello.feeds, false);
});

test('the values of a feed that is followed no more are freed', () => {
  const tab = open();
  const value = (alias, stamp) => ({ text: [alias, stamp, 0, 'x', 'key'] });
  tab.socket.say(follows(7, 'run/7'), value(7, 9), { unfollowed: { alias: 7 } });
  assert.equal(tab.hub.feed('run/7').values.size, 0);
  // One that is left by a listener, while more is to be told of it.
  const run = tab.hub.feed('run/8');
  run.on('value', () => run.close());
  tab.socket.say(follows(8, 'run/8'), value(8, 10), value(8, 11), { text: [8, 12, 0, 'y', 'another'] });
  tab.socket.say({ unfollowed: { alias: 8 } });
  assert.equal(tab.hub.feed('run/8').values.size, 0);
});

test('what the program had it follow ends with the program, and is not asked of the next one', () => {
  const tab = open();
  tab.socket.say(follows(7, 'run/7'), { text: [7, 9, 0, 'x', 'key'] });
  tab.back({ resumed: false, id: 815, epoch: 'another' });
  assert.deepEqual(tab.take('feed').filter(({ feed }) => feed === 'run/7').at(-1), { feed: 'run/7', how: 'unfollowed' });
  // The hello named it, to go on with it if the program was the same.
  tab.socket.say(follows(1, ''), follows(2, 'run/7'), { text: [2, 1, 0, 'x', 'key'] });
  assert.deepEqual(asked(tab), [{ unfollow: ['run/7'] }]);
  assert.deepEqual(tab.take('value').length, 1, 'that of before');
  tab.socket.say({ unfollowed: { alias: 2 } });
  assert.equal(tab.hub.feed('run/7').values.size, 0);
});

test('what the program has it follow no more is asked for again where the page still wants it', () => {
  const tab = open();
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 5, 0, 'x', 'key'] }, { unfollowed: { alias: 1 } }, { text: [1, 2, 0, 'not any more'] });
  assert.deepEqual(tab.take('feed'), [{ feed: '', how: 'unfollowed' }]);
  assert.equal(tab.take('message').length, 1);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 1, set: 5 } });
});

test('a feed that goes on keeps what was had of it, and nothing comes of it before it is said to go on', () => {
  const tab = open();
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 5, 0, 'x', 'key'] });
  tab.back();
  tab.socket.say({ text: [1, 7, 0, 'whose?'] }, { feed: { name: '', alias: 1, seq: 1, how: 'resumed' } }, { text: [1, 2, 0, 'b'] });
  assert.deepEqual(tab.take('message').map(({ data }) => data), ['a', 'b']);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds, { '': { seq: 2, set: 5 } });
});

test('a client that is ahead of a hub begins anew where the hub says so, and is told numbers that it had before', () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say({ feed: { name: 'run/42', alias: 3, epoch: 'e', seq: 40, how: 'snapshot' } }, { text: [3, 80, 0, 'a'] }, { text: [3, 99, 0, 'x', 'key'] });
  tab.events = [];
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds['run/42'], { epoch: 'e', seq: 80, set: 99 });
  tab.socket.say({ feed: { name: 'run/42', alias: 5, epoch: 'e', seq: 40, how: 'snapshot' } }, { text: [5, 41, 0, 'b'] }, { text: [5, 50, 0, 'y', 'key'] });
  assert.deepEqual(tab.take('message').map(({ seq }) => seq), [41]);
  assert.deepEqual(asObject(run.values), { key: 'y' });
  // Where a feed is made anew under a connection, the alias of before means nothing.
  tab.socket.say({ feed: { name: 'run/42', alias: 6, epoch: 'f', seq: 0, how: 'snapshot' } }, { text: [5, 42, 0, 'old'] }, { text: [6, 1, 0, 'new'] });
  assert.deepEqual(tab.take('message').map(({ data }) => data), ['new']);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds['run/42'], { epoch: 'f', seq: 1 });
});

test('a feed that was refused is asked for again with the next connection', () => {
  const tab = open();
  const run = tab.hub.feed('run/42');
  tab.socket.say({ error: { code: 'forbidden', feed: 'run/42', reason: 'not for you' } });
  assert.deepEqual(tab.take('error'), [{ code: 'forbidden', feed: 'run/42', reason: 'not for you' }]);
  tab.back();
  assert.deepEqual(tab.socket.hello.feeds['run/42'], {});
  run.close();
  tab.back();
  assert.equal('run/42' in tab.socket.hello.feeds, false);
});

test('feeds that are followed and left without a connection are what the next one begins with', () => {
  const tab = open();
  const a = tab.hub.feed('a');
  tab.socket.end();
  tab.hub.feed('b');
  a.close();
  tab.clock.pass(500);
  tab.socket.open();
  tab.hub.feed('c'); // the hello is on its way, its answer is not here
  assert.deepEqual(Object.keys(tab.socket.hello.feeds), ['', 'b']);
  assert.deepEqual(tab.socket.said.slice(1), [{ follow: { c: {} } }]);
});

test('a listener may call the hub: what comes of it is told after what it was told', () => {
  const tab = open();
  const order = [];
  tab.hub.on('message', ({ seq }) => {
    order.push(`first ${seq}`);
    if (seq === 1) tab.socket.say({ text: [1, 3, 0, 'c'] }); // as if it came meanwhile
  });
  tab.hub.on('message', ({ seq }) => order.push(`second ${seq}`));
  tab.socket.say({ text: [1, 1, 0, 'a'] }, { text: [1, 2, 0, 'b'] });
  assert.deepEqual(order, ['first 1', 'second 1', 'first 2', 'second 2', 'first 3', 'second 3']);
});

test('ack is said at most once a second, and only of what is new', () => {
  const tab = open();
  const acks = () => tab.socket.said.filter(({ ack }) => ack).map(({ ack }) => ack);
  tab.socket.say({ text: [1, 1, 0, 'not of the mailbox'] }, { text: [0, 3, 0, 'nor is this one in its log', 'key'] });
  tab.clock.pass(5000);
  assert.deepEqual(acks(), []);
  let seq = 0;
  for (let time = 0; time < 10_000; time += 100) {
    tab.socket.say({ text: [0, ++seq, 0, ''] });
    tab.clock.pass(100);
    assert.ok(acks().length <= (time + 100) / 1000);
  }
  assert.equal(acks().length, 10);
  tab.clock.pass(1000);
  assert.deepEqual(acks().at(-1), { seq: 100 });
  const count = acks().length;
  tab.socket.say({ ping: [1] });
  tab.clock.pass(20_000);
  assert.equal(acks().length, count);
  tab.socket.say({ gap: { alias: 0, from: 101, to: 120, why: 'slow' } });
  tab.clock.pass(1000);
  assert.deepEqual(acks().slice(count), [{ seq: 120 }]);
});

test('an ack whose timer is late goes with the next frame', () => {
  const tab = open();
  tab.socket.say({ text: [0, 1, 0, ''] });
  tab.clock.sleep(60_000);
  tab.socket.say({ text: [0, 2, 0, ''] });
  assert.deepEqual(tab.socket.said.at(-1), { ack: { seq: 2 } });
  tab.clock.pass(5000);
  assert.equal(tab.socket.said.filter(({ ack }) => ack).length, 1);
});

test('an ack that is due while a connection is replaced waits for the next one', (t) => {
  const page = new Page(t);
  const tab = open();
  t.after(() => tab.hub.close());
  tab.socket.say({ text: [0, 1, 0, ''] });
  page.tell('offline');
  page.tell('online');
  assert.equal(tab.sockets.length, 2);
  tab.clock.pass(4000);
  assert.deepEqual(tab.socket.sent, [], 'a socket that is not open yet throws');
  tab.socket.welcome({ resumed: true });
  assert.deepEqual(tab.socket.hello.mail, { seq: 1 });
  tab.clock.pass(1000);
  assert.deepEqual(tab.socket.said.at(-1), { ack: { seq: 1 } });
});

test('what could not be acknowledged is acknowledged after a reconnection', () => {
  const tab = open();
  tab.socket.say({ text: [0, 1, 0, ''] });
  tab.back();
  tab.clock.pass(999);
  assert.equal(tab.socket.said.length, 1);
  tab.clock.pass(1);
  assert.deepEqual(tab.socket.said.at(-1), { ack: { seq: 1 } });
});

test('send: a string as text, bytes behind a head of five, anything else as JSON', () => {
  const tab = open();
  const bytes = new Uint8Array([1, 2]);
  const wire = [bytes, bytes.buffer, new DataView(bytes.buffer), new Float64Array(2)];
  for (const data of ['two\nlines', ...wire, { a: [1] }, 3, null, undefined, false]) assert.equal(tab.hub.send(data), true);
  const [, text, ...others] = tab.socket.sent;
  assert.equal(text, '{"text":"two\\nlines"}');
  const [whole, floats] = [[1, 0, 0, 0, 0, 1, 2], [1, 0, 0, 0, 0, ...new Uint8Array(16)]];
  assert.deepEqual(others.slice(0, 4).map((data) => [...data]), [whole, whole, whole, floats]);
  // Of a part of a buffer that part alone.
  tab.hub.send(new Uint8Array([1, 2, 3, 4]).subarray(1, 3));
  assert.deepEqual([...tab.socket.sent.at(-1)], [1, 0, 0, 0, 0, 2, 3]);
  assert.deepEqual(others.slice(4), ['{"json":{"a":[1]}}', '{"json":3}', '{"json":null}', '{"json":null}', '{"json":false}']);
});

test('a message that a handle sends is about its feed, if that is followed', () => {
  const tab = open();
  const [run, all] = [tab.hub.feed('run/42'), tab.hub.feed('')];
  assert.equal(run.send('too early'), false);
  tab.socket.say({ feed: { name: 'run/42', alias: 66_051, seq: 0, how: 'snapshot' } });
  const before = tab.socket.sent.length;
  for (const [feed, data] of [[run, 'stop'], [run, { to: 7 }], [run, new Uint8Array([9])], [all, 'stop all']]) assert.equal(feed.send(data), true);
  const [text, object, bytes, ofAll] = tab.socket.sent.slice(before);
  assert.deepEqual([text, object, ofAll], ['{"text":"stop","to":66051}', '{"json":{"to":7},"to":66051}', '{"text":"stop all","to":1}']);
  assert.deepEqual([...bytes], [1, 0, 1, 2, 3, 9]);
  tab.socket.say({ unfollowed: { alias: 66_051 } });
  assert.equal(run.send('too late'), false);
  all.close();
  assert.deepEqual([all.send('closed'), tab.socket.sent.length], [false, before + 4]);
});

test('send says whether there was a connection, and queues nothing', () => {
  const tab = new Tab();
  assert.equal(tab.hub.send('too early'), false);
  tab.socket.open();
  assert.equal(tab.hub.send('before the answer'), false);
  tab.socket.welcome();
  assert.equal(tab.hub.send('now'), true);
  tab.socket.readyState = 2;
  assert.equal(tab.hub.send('closing'), false);
  tab.socket.end();
  assert.equal(tab.hub.send('waiting'), false);
  tab.clock.pass(500);
  tab.socket.welcome();
  assert.equal(tab.socket.sent.length, 1);
});

test('what is larger than the hub takes is refused here, as it would close the connection for good', () => {
  const tab = new Tab();
  tab.socket.welcome({ limits: { message: 20, feeds: 1, rate: 1000 } });
  const before = tab.socket.sent.length;
  assert.equal(tab.hub.send('1234567\u00e9'), true, '{"text":"1234567\u00e9"} is 19 characters and 20 bytes');
  assert.equal(tab.hub.send('12345678\u00e9'), false);
  assert.equal(tab.hub.send(new Uint8Array(15)), true, 'and its head');
  assert.equal(tab.hub.send(new Uint8Array(16)), false);
  assert.equal(tab.socket.sent.length, before + 2);
  assert.deepEqual(tab.take('error').map(({ code }) => code), ['too-long', 'too-long']);
});

test('half a surrogate pair becomes U+FFFD, as in WebSocket.send, wherever it is in what is sent', () => {
  const tab = open();
  for (const data of ['a\ud83db\udf89', ['\ud83d', 'whole \ud83c\udf89', '\\ud83d', '\\\udf89']]) assert.equal(tab.hub.send(data), true);
  tab.hub.send({ '\udf89': '\n' });
  tab.hub.feed('run/\ud83d');
  assert.deepEqual(tab.socket.sent.slice(1), [
    '{"text":"a\ufffdb\ufffd"}',
    '{"json":["\ufffd","whole \ud83c\udf89","\\\\ud83d","\\\\\ufffd"]}',
    '{"json":{"\ufffd":"\\n"}}',
    '{"follow":{"run/\ufffd":{}}}',
  ]);
});

test('bytes go as bytes, wherever they were made, and a Blob as one', async () => {
  const tab = new Tab();
  tab.socket.welcome({ limits: { message: 20, feeds: 1, rate: 1000 } });
  const foreign = runInNewContext('[new ArrayBuffer(2), new Uint8Array(2), new DataView(new ArrayBuffer(2))]');
  const wire = [...foreign, new Blob(['ab']), new File(['ab'], 'name')];
  for (const data of wire) assert.equal(tab.hub.send(data), true);
  const head = [1, 0, 0, 0, 0];
  const sent = await Promise.all(tab.socket.sent.slice(1).map(async (data) => (
    data instanceof Blob ? ['Blob', ...new Uint8Array(await data.arrayBuffer())] : [...data]
  )));
  const bytes = [...head, 0, 0], blob = ['Blob', ...head, 97, 98];
  assert.deepEqual(sent, [bytes, bytes, bytes, blob, blob]);
  assert.equal(tab.hub.send(new Blob(['a'.repeat(21)])), false);
  assert.equal(tab.hub.send(runInNewContext('new ArrayBuffer(21)')), false);
  assert.equal(tab.socket.sent.length, 1 + wire.length);
});

test('what JSON has nothing of is the caller\'s mistake, and is not sent', () => {
  const tab = open();
  const nothing = [new Map([[1, 2]]), new Set([1]), new SharedArrayBuffer(2), () => {}, Symbol('x'), Promise.resolve(1), new Error('x'), /x/];
  for (const data of nothing) assert.throws(() => tab.hub.send(data), TypeError, String(data));
  for (const data of [{}, [], { toJSON: () => ({}) }, Object.create(null), new (class {})()]) assert.equal(tab.hub.send(data), true);
  assert.throws(() => tab.hub.send({ toJSON() {} }), TypeError);
  assert.equal(tab.socket.sent.length, 6);
});

test('what JSON cannot say is the caller\'s mistake, and the connection goes on', () => {
  const tab = open();
  assert.throws(() => tab.hub.send(1n), TypeError);
  assert.equal(tab.hub.send('x'), true);
});
