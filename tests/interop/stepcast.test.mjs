// The browser's client in Node, with Node's own WebSocket, against a hub that does what it is told
// (src/bin/told.rs). Figures are printed, and not judged.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect } from '../../src/page/stepcast.js';

const binaries = process.env.STEPCAST_CLIENTS ?? fileURLToPath(new URL('../../target/release', import.meta.url));

/** Milliseconds within which anything that is waited for must have happened. */
const PATIENCE = 30_000;

const CROWD = 1000;

/** Waits until `look` returns something true, and returns that. */
async function until(what, look) {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${PATIENCE / 1000} s`);
    await sleep(5);
  }
}

/** A hub in a process of its own, and what has happened at it. */
async function start(t, ...args) {
  const child = spawn(`${binaries}/told`, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  t.after(kill);
  const events = [];
  const waiting = [];
  const answer = () => new Promise((resolve, reject) => {
    waiting.push(resolve);
    ended.then(([code, signal]) => reject(new Error(`the hub ended with ${signal ?? code}`)), reject);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    const said = JSON.parse(line);
    if (said.event) events.push(said);
    else waiting.shift()(said);
  });
  const { hub: url, cable } = await answer();
  return {
    url, cable, events, kill,
    of: (event) => events.filter((each) => each.event === event),
    /** Resolves when it has done so. */
    tell: (command) => {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      return answer();
    },
    /** Shuts it down. */
    end: async () => {
      child.stdin.end();
      assert.deepEqual(await ended, [0, null]);
    },
  };
}

/** A client, and all that it is told. */
function open(t, url, options) {
  const client = connect(url, options);
  t.after(() => client.close());
  const told = [];
  for (const type of ['message', 'value', 'removed', 'gap', 'feed', 'status', 'error', 'bye']) {
    client.on(type, (detail) => told.push({ type, at: performance.now(), ...detail }));
  }
  const of = (wanted) => told.filter(({ type }) => type === wanted);
  return { client, of, opened: () => of('status').filter(({ state }) => state === 'open') };
}

/** A crowd at this address, when all have ids. */
async function gather(t, url) {
  const crowd = Array.from({ length: CROWD }, () => open(t, url));
  await until('all to be there', () => crowd.every(({ client }) => client.state === 'open'));
  assert.equal(new Set(crowd.map(({ client }) => client.client)).size, CROWD);
  return crowd;
}

/** Milliseconds from the hundredth to the nine hundredth of these: a machine that is late cannot make them few. */
function spread(t, what, events) {
  const times = events.map(({ at }) => at).sort((a, b) => a - b);
  const seconds = Array(1 + Math.floor((times.at(-1) - times[0]) / 1000)).fill(0);
  for (const time of times) seconds[Math.floor((time - times[0]) / 1000)] += 1;
  const time = times[0.9 * CROWD] - times[0.1 * CROWD];
  t.diagnostic(`${what}: ${seconds.join(' ')} in each second, eight tenths of them within ${time} ms`);
  return time;
}

/** Fails unless these, of 0 to 1, are spread evenly: as many in each tenth, but for six standard deviations. */
function evenly(shares) {
  const tenths = Array(10).fill(0);
  for (const share of shares) {
    assert.ok(share >= 0 && share <= 1, `${share}`);
    tenths[Math.min(9, Math.floor(10 * share))] += 1;
  }
  const far = (count) => Math.abs(count - shares.length / 10) > 6 * Math.sqrt(0.09 * shares.length);
  assert.deepEqual(tenths.filter(far), [], `${tenths}`);
}

const plain = (data) => (data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data);

test('it has an id, is given what is sent and set, and is heard', async (t) => {
  const hub = await start(t);
  await hub.tell({ do: 'send', to: 'run/1', what: { text: 'before' } });
  await hub.tell({ do: 'set', to: 'run/1', key: 'state', what: { text: 'begun' } });
  const { client, of } = open(t, hub.url, { feeds: ['', 'run/1'] });
  const id = await client.id;
  await until('the hub to know', () => hub.of('connected').length);
  assert.deepEqual(hub.of('connected').map((event) => event.id), [id]);

  const whats = [{ text: '第一步 😀' }, { json: { residual: [1e-9, null] } }, { bytes: [0, 255, 10] }];
  for (const to of [id, '', 'run/1']) {
    for (const what of whats) await hub.tell({ do: 'send', to, what });
    for (const what of whats) await hub.tell({ do: 'set', to, key: 'state', what });
  }
  await hub.tell({ do: 'send', to: 'run/2', what: { text: 'for others' } });
  await hub.tell({ do: 'send', to: 'run/1', what: { text: 'the last' } });
  await until('the last', () => of('message').find(({ data }) => data === 'the last'));

  const sent = whats.map((what) => Object.values(what)[0]);
  const had = (type, name) => of(type).filter(({ feed }) => feed === name).map(({ data }) => plain(data));
  assert.deepEqual([had('message', null), had('message', '')], [sent, sent]);
  assert.deepEqual(had('message', 'run/1'), ['before', ...sent, 'the last']);
  // The newest of all, whatever was left out before it.
  const values = ['', 'run/1'].map((name) => [...client.feed(name).values]);
  for (const value of [...values, [['state', had('value', null).at(-1)]]]) {
    assert.deepEqual(value.map(([key, data]) => [key, plain(data)]), [['state', sent.at(-1)]]);
  }
  assert.deepEqual([...of('gap'), ...of('error')], []);

  for (const data of ['stop', { stiffness: 0.4 }, new Uint8Array([1, 2])]) assert.ok(client.send(data));
  await until('what it said', () => hub.of('message').length === 3);
  assert.deepEqual(hub.of('message').map((event) => [event.id, event.what]),
    [[id, { text: 'stop' }], [id, { json: '{"stiffness":0.4}' }], [id, { bytes: [1, 2] }]]);

  for (const name of ['', 'run/1']) assert.ok(client.feed(name).send(`about ${name}`));
  assert.ok(client.feed('run/1').send(new Uint8Array([3])));
  await until('what it said about feeds', () => hub.of('message').length === 6);
  assert.deepEqual(hub.of('message').map((event) => event.feed), [null, null, null, '', 'run/1', 'run/1']);
  assert.deepEqual(hub.of('message').at(-1).what, { bytes: [3] });

  client.close();
  await until('the hub to know that it has gone', () => hub.of('gone').length);
  await hub.end();
});

test('a value that is removed is gone for whoever has it, was away, or comes late, and told to who had it', async (t) => {
  const hub = await start(t);
  const watch = (url) => open(t, url, { feeds: ['run/1'], random: () => 0.1 });
  const keys = ({ client }) => [...client.feed('run/1').values.keys()];
  const removed = ({ of }) => of('removed').map(({ feed, key }) => [feed, key]);
  const [here, away] = [watch(hub.url), watch(hub.cable)];
  const [id] = await Promise.all([here.client.id, away.client.id]);
  for (const key of ['a', 'b', 'c']) await hub.tell({ do: 'set', to: 'run/1', key, what: { text: key } });
  await until('the values', () => [here, away].every((each) => keys(each).length === 3));
  await hub.tell({ do: 'remove', to: 'run/1', key: 'a' });
  await until('the first removal', () => [here, away].every((each) => removed(each).length === 1));

  await hub.tell({ do: 'cut' });
  await until('the loss to be seen', () => hub.of('detached').length);
  await hub.tell({ do: 'remove', to: 'run/1', key: 'b' });
  await hub.tell({ do: 'mend' });
  await until('the second removal', () => [here, away].every((each) => removed(each).length === 2));
  assert.deepEqual(away.opened().map(({ resumed }) => resumed), [false, true]);

  // A late joiner may be told of removals of what it never had. Its page does not hear of them.
  const late = watch(hub.url);
  await late.client.id;
  await hub.tell({ do: 'remove', to: 'run/1', key: 'never set' });
  await hub.tell({ do: 'send', to: 'run/1', what: { text: 'the last' } });
  const all = [here, away, late];
  await until('the last', () => all.every(({ of }) => of('message').length));
  assert.deepEqual(all.map(keys), [['c'], ['c'], ['c']]);
  const [a, b] = [['run/1', 'a'], ['run/1', 'b']];
  assert.deepEqual(all.map(removed), [[a, b], [a, b], []]);

  // Of one client alone.
  await hub.tell({ do: 'set', to: id, key: 'mine', what: { text: 'x' } });
  await until('its value', () => here.of('value').some(({ feed }) => feed === null));
  await hub.tell({ do: 'remove', to: id, key: 'mine' });
  await until('its removal', () => removed(here).length === 3);
  assert.deepEqual([...removed(here).slice(2), ...removed(late)], [[null, 'mine']]);
  for (const { of } of all) assert.deepEqual([...of('gap'), ...of('error')], []);
  await hub.end();
});

for (const bytes of [64, 1024]) {
  test(`after a cut it has the 300 messages of ${bytes} B that it has missed, each once and in order`, async (t) => {
    const hub = await start(t);
    const [took, pongs] = [[], []];
    for (let round = 0; round < 20; round++) {
      const name = `run/${round}`;
      const sockets = [];
      let isCut = false;
      // It comes back when all has been sent, and not by the cable, which would take time.
      class Socket extends WebSocket {
        sent = [];

        constructor(url, protocol) {
          const begun = performance.now();
          super(sockets.length && !isCut ? hub.url.replace('http', 'ws') : url, protocol);
          this.begun = begun;
          sockets.push(this);
        }

        send(data) {
          this.sent.push(data);
          super.send(data);
        }
      }
      // Always a tenth of the longest wait, which is not what is measured.
      const { client, of, opened } = open(t, hub.cable, { feeds: [name], WebSocket: Socket, random: () => 0.1 });
      let first, last, frames;
      client.on('message', ({ data }) => {
        if (Number(data) === 1) frames = sockets.at(-1).sent.length;
        if (Number(data) === 300) last = performance.now();
      });
      await client.id;
      await hub.tell({ do: 'send', to: name, what: { text: 'before' } });
      await until('a message', () => of('message').length);

      isCut = true;
      await hub.tell({ do: 'cut' });
      await until('the loss to be seen', () => client.state !== 'open');
      await hub.tell({ do: 'number', feed: name, count: 300, bytes });
      isCut = false;
      await until('the last message', () => last);
      await hub.tell({ do: 'mend' });

      const numbers = Array.from({ length: 300 }, (_, i) => String(i + 1).padStart(bytes, '0'));
      assert.deepEqual(of('message').map(({ data }) => data), ['before', ...numbers]);
      const [{ seq }] = of('message');
      assert.deepEqual(of('message').map((message) => message.seq - seq), [...numbers.keys(), 300]);
      assert.deepEqual([...of('gap'), ...of('error')], []);
      assert.deepEqual(opened().map(({ id, resumed }) => [id, resumed]), [[await client.id, false], [await client.id, true]]);
      assert.deepEqual(of('feed').filter(({ feed }) => feed === name).map(({ how }) => how), ['snapshot', 'resumed']);
      // One round trip: nothing has to be asked for.
      assert.equal(frames, 1);
      took.push(last - sockets.at(-1).begun);
      pongs.push(sockets.at(-1).sent.filter((data) => data.includes('pong')).length);
      client.close();
    }
    took.sort((a, b) => a - b);
    const [least, median, most] = [took[0], (took[9] + took[10]) / 2, took[19]].map((ms) => ms.toFixed(1));
    t.diagnostic(`300 missed messages of ${bytes} B: ${median} (${least} to ${most}) ms from the new socket to the last, `
      + `${Math.min(...pongs)} to ${Math.max(...pongs)} pongs`);
  });
}

test('after the hub was killed and started again it comes back by itself, and is told so', async (t) => {
  const before = await start(t);
  const { client, of, opened } = open(t, before.url, { feeds: ['run/1'] });
  await client.id;
  for (const text of ['a', 'b']) await before.tell({ do: 'send', to: 'run/1', what: { text } });
  await before.tell({ do: 'set', to: 'run/1', key: 'state', what: { text: 'old' } });
  await until('all of it', () => of('value').length && of('message').length === 2);
  await before.kill();
  // Node's socket tells of an attempt that fails in its own way.
  await until('attempts that fail', () => of('status').filter(({ state }) => state === 'waiting').length >= 3);
  assert.equal(client.client, await client.id);

  const after = await start(t, new URL(before.url).host);
  await until('the new hub', () => opened().length === 2);
  await until('its feed', () => of('feed').filter(({ feed }) => feed === 'run/1').length === 2);
  await after.tell({ do: 'send', to: 'run/1', what: { text: 'c' } });
  await until('the new message', () => of('message').length === 3);
  const [was, is] = opened();
  assert.deepEqual([was.resumed, is.resumed], [false, false]);
  assert.notEqual(is.epoch, was.epoch);
  assert.notEqual(is.id, was.id);
  assert.deepEqual(of('feed').map(({ feed, how }) => [feed, how]),
    [[null, 'snapshot'], ['run/1', 'snapshot'], [null, 'snapshot'], ['run/1', 'snapshot']]);
  assert.deepEqual(of('message').map(({ data }) => data), ['a', 'b', 'c']);
  assert.deepEqual([...client.feed('run/1').values], []);
});

test('a thousand whose connections are cut at once come back spread out, as who they were', async (t) => {
  const hub = await start(t);
  const crowd = await gather(t, hub.cable);
  const ids = crowd.map(({ client }) => client.client);
  await hub.tell({ do: 'cut' });
  await until('all to have lost it', () => hub.of('detached').length === CROWD);
  // The longer it lasts, the longer they wait.
  await sleep(2000);
  await Promise.all(ids.map((to) => hub.tell({ do: 'send', to, what: { text: `for ${to}` } })));
  await hub.tell({ do: 'mend' });
  await until('all to be back', () => hub.of('resumed').length === CROWD);
  await hub.tell({ do: 'send', to: '', what: { text: 'for all' } });
  await until('what they have missed', () => crowd.every(({ of }) => of('message').length === 2));

  for (const [i, { of, opened }] of crowd.entries()) {
    assert.deepEqual(opened().map(({ id, resumed }) => [id, resumed]), [[ids[i], false], [ids[i], true]]);
    assert.deepEqual(of('message').map(({ data }) => data), [`for ${ids[i]}`, 'for all']);
  }
  assert.deepEqual([...hub.of('gone'), ...hub.of('connected').slice(CROWD)], []);

  // Each wait is drawn evenly below its bound, and nobody comes before it is over. It begins a moment before the page is
  // told, and with a thousand clients in one process there may be a pause in between.
  const shares = [];
  for (const { of } of crowd) {
    const statuses = of('status');
    const waits = [...statuses.keys()].filter((i) => statuses[i].state === 'waiting');
    for (const [attempt, i] of waits.entries()) {
      const { at, retry } = statuses[i];
      shares.push(retry / Math.min(20_000, 500 * 2 ** attempt));
      assert.ok(statuses[i + 1].at - at > retry - 50, `${statuses[i + 1].at - at} ms and not ${retry}`);
    }
  }
  assert.ok(shares.length >= CROWD);
  evenly(shares);
  // By that rule 3.1 s, and less on a busy machine; if all came at once, as long as Node takes: 0.4 s.
  assert.ok(spread(t, 'back after a cut', hub.of('resumed')) >= 1000);
});

test('a thousand whose hub is started again come back in the time that it has told them', async (t) => {
  const before = await start(t);
  const crowd = await gather(t, before.url);
  await before.end();
  const after = await start(t, new URL(before.url).host);
  await until('all to be back', () => crowd.every(({ opened }) => opened().length === 2));
  const [bye] = crowd[0].of('bye');
  assert.equal(bye.code, 4000);
  evenly(crowd.map(({ of }) => of('bye')[0].retry / (1000 + 2 * CROWD)));
  assert.ok(spread(t, 'back at a new hub', after.of('connected')) >= 1200); // of 2.4 s
  for (const { opened } of crowd) {
    const [was, is] = opened();
    assert.ok(!is.resumed && is.epoch !== was.epoch && is.id !== was.id);
  }
});
