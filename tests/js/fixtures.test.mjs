// `reduce` against tests/protocol, which the hub's tests read, too.

import assert from 'node:assert/strict';
import test from 'node:test';
import { initial, reduce } from '../../src/page/stepcast.js';
import { EPOCH, KEY, fixtures } from './harness.mjs';

const at = { now: 1_000_000, random: 0.5, hidden: false };

/** Gives inputs one after the other. Returns the state and the effects of the last. */
function run(state, ...inputs) {
  let effects = [];
  for (const input of inputs) [state, effects] = reduce(state, { ...at, ...input });
  return { state, effects };
}

const frame = (...objects) => ({ type: 'frame', data: objects.map((one) => JSON.stringify(one)).join('\n') });
const hello = (rest) => frame({ hello: { id: 4711, key: KEY, epoch: EPOCH, resumed: false, base: 0, now: 600_000, ping: 25, limits: { message: 65536, feeds: 64, rate: 1000 }, ...rest } });
const opened = (feeds) => run(initial(feeds), { type: 'pageshow' }, { type: 'opened' }).state;

const BEGUN = at.now - 600_000; // the hub's moment 0, by this machine's clock

/** Connected, following everyone's feed and two more, by the greatest alias, too. */
function connected() {
  return run(opened(['', 'run/42', 'far']), hello(), frame(
    { feed: { name: '', alias: 1, seq: 0, how: 'snapshot' } },
    { feed: { name: 'run/42', alias: 3, seq: 41, how: 'snapshot' } },
    { feed: { name: 'far', alias: 4294967295, seq: 0, how: 'snapshot' } },
  )).state;
}
const names = new Map([[0, null], [1, ''], [3, 'run/42'], [4294967295, 'far']]);

const emitted = (effects) => effects.filter(({ type }) => type === 'emit').map(({ event, detail }) => [event, detail]);
const sent = (effects) => effects.filter(({ type }) => type === 'send').map(({ data }) => data);

/** One test for each example; a subject without any would prove nothing. */
function each(subject, part, check) {
  const examples = fixtures(subject)[part];
  assert.ok(examples.length > 0);
  for (const example of examples) test(`${subject}: ${example.note}`, () => check(example));
}

each('hello', 'from_hub', ({ line, means }) => {
  const { state, effects } = run(opened(), { type: 'frame', data: line });
  const [[event, status]] = emitted(effects);
  assert.equal(event, 'status');
  assert.deepEqual([status.state, status.id, status.epoch, status.resumed], ['open', means.id, means.epoch, means.resumed]);
  assert.deepEqual([state.key, state.zero, state.ping, state.most], [means.key, at.now - means.now, 1000 * means.ping, means.limits.message]);
});

each('hello', 'from_client', ({ line, means }) => {
  const { id, key, epoch, mail, feeds } = means;
  const reloaded = mail?.seq && mail.set === undefined;
  let state = initial(Object.keys(feeds), reloaded ? { id, key, epoch, seq: mail.seq } : null);
  if (id && !reloaded) {
    const lines = [];
    if (mail.seq) lines.push({ text: [0, mail.seq, 0, ''] });
    if (mail.set) lines.push({ text: [0, mail.set, 0, '', 'key'] });
    Object.entries(feeds).forEach(([name, { epoch: of, seq, set }], i) => {
      if (seq === undefined) return;
      lines.push({ feed: { name, alias: i + 1, epoch: of, seq, how: 'snapshot' } });
      if (set) lines.push({ text: [i + 1, set, 0, '', 'key'] });
    });
    state = run(state, { type: 'pageshow' }, { type: 'opened' }, hello({ id, key, epoch }), frame(...lines), { type: 'closed', code: 1006, reason: '' }).state;
  }
  const [data] = sent(run(state, { type: 'start' }, { type: 'opened' }).effects);
  assert.deepEqual(JSON.parse(data), JSON.parse(line));
  assert.deepEqual(JSON.parse(line).hello, means);
});

each('feed', 'from_hub', ({ line, means: { type, ...means } }) => {
  const { state, effects } = run(connected(), { type: 'frame', data: line });
  if (type === 'feed') {
    assert.deepEqual(emitted(effects), [['feed', { feed: means.name, how: means.how }]]);
    const { alias, epoch, seq } = state.feeds.get(means.name);
    assert.deepEqual([alias, epoch, seq], [means.alias, means.epoch, means.seq]);
  } else {
    assert.deepEqual(emitted(effects), [['feed', { feed: names.get(means.alias), how: 'unfollowed' }]]);
  }
});

each('messages', 'from_hub', ({ line, means }) => {
  const { state, effects } = run(connected(), { type: 'frame', data: line });
  const feed = names.get(means.alias);
  const { seq, set } = state.feeds.get(feed);
  if (means.key === undefined) {
    assert.deepEqual(emitted(effects), [['message', { feed, seq: means.seq, time: BEGUN + means.at, data: means.data }]]);
    assert.equal(seq, means.seq);
  } else {
    assert.deepEqual(emitted(effects), [['value', { feed, key: means.key, time: BEGUN + means.at, data: means.data }]]);
    assert.equal(set, means.stamp);
  }
  assert.equal(Object.keys(JSON.parse(line))[0], means.form);
});

each('removed', 'from_hub', ({ line, means }) => {
  const { state, effects } = run(connected(), { type: 'frame', data: line });
  const feed = names.get(means.alias);
  assert.deepEqual(emitted(effects), [['removed', { feed, key: means.key, time: BEGUN + means.at }]]);
  assert.equal(state.feeds.get(feed).set, means.stamp);
});

each('ended', 'from_hub', ({ line, means }) => {
  const { state, effects } = run(connected(), { type: 'frame', data: line });
  const feed = names.get(means.alias);
  assert.deepEqual(emitted(effects), [['ended', { feed, time: BEGUN + means.at }]]);
  assert.equal(state.feeds.get(feed).set, means.stamp);
});

each('messages', 'from_client', ({ line, means }) => {
  assert.equal(typeof means.data === 'string' ? 'text' : 'json', means.form);
  const [data] = sent(run(connected(), { type: 'say', data: means.data, feed: means.to && names.get(means.to) }).effects);
  assert.deepEqual(JSON.parse(data), JSON.parse(line));
});

each('binary', 'binary_from_client', ({ hex, means }) => {
  const data = Buffer.from(means.payload_hex, 'hex');
  const [bytes] = sent(run(connected(), { type: 'say', data, feed: means.to ? names.get(means.to) : undefined }).effects);
  assert.equal(Buffer.from(bytes).toString('hex'), hex);
});

each('gap', 'from_hub', ({ line, means: { alias, ...means } }) => {
  const { state, effects } = run(connected(), { type: 'frame', data: line });
  assert.deepEqual(emitted(effects), [['gap', { feed: names.get(alias), ...means }]]);
  assert.equal(state.feeds.get(names.get(alias)).seq, means.to);
});

each('ping', 'from_hub', ({ line, means }) => {
  const [data, ...others] = sent(run(connected(), { type: 'frame', data: line }).effects);
  assert.deepEqual(JSON.parse(data), { pong: means.value });
  assert.deepEqual(others, []);
});

each('ping', 'from_client', ({ line, means }) => {
  const [data] = sent(run(connected(), frame({ ping: means.value })).effects);
  assert.equal(data, line);
});

each('bye', 'from_hub', ({ line, means }) => {
  const { effects } = run(connected(), { type: 'frame', data: line });
  const [bye, [event, status]] = emitted(effects);
  assert.deepEqual(bye, ['bye', means]);
  assert.deepEqual([event, status.code, status.reason], ['status', means.code, means.reason]);
  const ends = { 4503: 'finished', 4504: 'failed' };
  assert.equal(status.state, means.code < 4500 ? 'waiting' : ends[means.code] ?? 'closed');
});

each('error', 'from_hub', ({ line, means }) => {
  const { effects } = run(connected(), { type: 'frame', data: line });
  assert.deepEqual(emitted(effects), [['error', { feed: undefined, ...means }]]);
});

each('follow', 'from_client', ({ line, means }) => {
  const state = connected();
  assert.deepEqual(JSON.parse(line), means);
  if (Object.values(means.follow ?? {})[0]?.epoch) return; // which this client says in a hello, or after one
  const input = means.follow
    ? { type: 'want', name: Object.keys(means.follow)[0], wanted: true }
    : { type: 'want', name: means.unfollow[0], wanted: false };
  const [data] = sent(run(state, input).effects);
  assert.deepEqual(JSON.parse(data), JSON.parse(line));
});

each('ack', 'from_client', ({ line, means }) => {
  assert.deepEqual(JSON.parse(line), { ack: means });
  const { state } = run(connected(), frame({ text: [0, means.seq, 0, ''] }, { text: [0, 980, 0, '', 'key'] }));
  const [data] = sent(run(state, { type: 'ack', now: at.now + 1000 }).effects);
  assert.deepEqual(JSON.parse(data), JSON.parse(line));
});

each('binary', 'binary', ({ hex, means }) => {
  const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
  const { effects } = run(connected(), { type: 'frame', data: bytes.buffer });
  const [[event, { data, ...detail }]] = emitted(effects);
  const feed = names.get(means.alias);
  const time = BEGUN + means.at;
  if (means.kind === 1) assert.deepEqual([event, detail], ['message', { feed, seq: means.seq, time }]);
  else assert.deepEqual([event, detail], ['value', { feed, key: means.key, time }]);
  assert.ok(data instanceof ArrayBuffer);
  assert.equal(Buffer.from(data).toString('hex'), means.payload_hex);
});

test('all examples in one frame mean what they mean one by one', () => {
  const lines = ['messages', 'removed', 'ended', 'gap', 'ping', 'error'].flatMap((subject) => fixtures(subject).from_hub.map(({ line }) => line));
  const apart = [];
  let state = connected();
  for (const data of lines) {
    const [next, effects] = reduce(state, { ...at, type: 'frame', data });
    apart.push(...effects);
    state = next;
  }
  const [together, effects] = reduce(connected(), { ...at, type: 'frame', data: lines.join('\n') });
  assert.deepEqual(effects, apart);
  assert.deepEqual(together, state);
});

test('what is not known is ignored, and so are members that are not known', () => {
  const state = connected();
  const before = structuredClone(state);
  const odd = ['{"probe":1}', '{}', '{"__proto__":{}}', '{"constructor":[]}', '{"toString":1}', '', '[]', '7',
    '{"text":[99,1,0,"a feed that is not followed"]}', '{"gap":{"alias":99,"from":1,"to":2,"why":"slow"}}', '{"unfollowed":{"alias":99}}'];
  const { state: after, effects } = run(state, { type: 'frame', data: odd.join('\n') });
  assert.deepEqual(effects, []);
  assert.deepEqual(after, { ...before, heard: at.now });
  const { effects: more } = run(state, frame({ gap: { alias: 3, from: 42, to: 43, why: 'bored', new: 1 } }));
  assert.deepEqual(emitted(more), [['gap', { feed: 'run/42', from: 42, to: 43, why: 'bored' }]]);
});

test('what is malformed is told, and what comes after it counts', () => {
  const wrong = ['{"text":', 'null', '{"text":5}', '{"text":["3",42,0,""]}', '{"text":[3,"42",0,""]}', '{"text":[3]}', '{"text":[3,42,"0",""]}',
    '{"json":[3,9007199254740992,0,0]}', '{"feed":{"name":"x"}}', '{"gap":{"alias":3}}', '{"ended":[3]}', '{"ended":3}', '{"hello":null}', '{"hello":{}}', '{"error":null}', '{"bye":null}', '{"bye":{}}'];
  for (const line of wrong) {
    const { effects } = run(connected(), { type: 'frame', data: `${line}\n{"text":[3,42,0,"after"]}` });
    const [[event, { code, reason }], message, ...others] = emitted(effects);
    assert.deepEqual([event, code], ['error', 'malformed'], line);
    assert.ok(reason.length > 0);
    assert.deepEqual(message, ['message', { feed: 'run/42', seq: 42, time: BEGUN, data: 'after' }]);
    assert.deepEqual(others, []);
  }
});

test('a binary frame of another kind is ignored, and one that is too short is told', () => {
  const [{ hex }] = fixtures('binary').binary;
  const frameOf = (bytes) => ({ type: 'frame', data: Uint8Array.from(bytes).buffer });
  const bytes = Buffer.from(hex, 'hex');
  for (const kind of [0, 3, 255]) {
    assert.deepEqual(run(connected(), frameOf([kind, ...bytes.subarray(1)])).effects, []);
    assert.deepEqual(run(connected(), frameOf([kind])).effects, []);
  }
  for (let length = 0; length < 23; length++) {
    const [[event, { code }]] = emitted(run(connected(), frameOf(bytes.subarray(0, length))).effects);
    assert.deepEqual([event, code], ['error', 'malformed'], `${length} bytes`);
  }
  const longKey = [2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 200, 1, 2];
  assert.equal(emitted(run(connected(), frameOf(longKey)).effects)[0][1].code, 'malformed');
});

test('no input changes the state that it is given', () => {
  const lines = ['hello', 'feed', 'messages', 'ended', 'gap', 'ping', 'error', 'bye'].flatMap((subject) => fixtures(subject).from_hub.map(({ line }) => line));
  const inputs = [
    ...lines.map((data) => ({ type: 'frame', data })),
    { type: 'frame', data: `${lines.join('\n')}` },
    ...['start', 'opened', 'check', 'ack', 'online', 'offline', 'pagehide', 'close'].map((type) => ({ type })),
    { type: 'pageshow', lost: true }, { type: 'closed', code: 1006, reason: '' }, { type: 'closed', code: 4500, reason: '' },
    { type: 'want', name: 'x', wanted: true }, { type: 'want', name: 'run/42', wanted: false }, { type: 'say', data: 'x' },
  ];
  const { state } = run(connected(), frame({ text: [0, 1, 0, ''] }));
  const before = structuredClone(state);
  for (const input of inputs) {
    reduce(state, Object.freeze({ ...at, ...input }));
    assert.deepEqual(state, before, input.type);
  }
});
