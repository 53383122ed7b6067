// Compiled and not run: what users write fits the declarations, and what is wrong does not.

import { connect, type Feed, type Hub, type Options, type Status } from '../../src/page/stepcast.js';

const options: Options = { feeds: ['', 'run/42'], origins: ['https://app.example'], storage: null };
const hub: Hub = connect(new URL('https://hub.example/prefix/'), options);
connect();
connect('ws://localhost:8002/', { WebSocket, random: Math.random, storage: sessionStorage });

const id: number = await hub.id;
const now: number | null = hub.client;
const off: () => void = hub.on('status', ({ state, retry, reason }: Status) => {
  if (state === 'waiting' && retry !== null) console.log(`again in ${retry / 1000} s`);
  if (state === 'finished' || state === 'failed') console.log(reason.length);
});
off();
hub.addEventListener('gap', (event) => console.log(event.detail.to - event.detail.from));
hub.addEventListener('something else', () => {});
hub.on('message', ({ feed, seq, time, data }) => console.log(feed === null ? 'mine' : feed.length, seq + 1, new Date(time), data.any.thing));
hub.on('error', ({ code, feed, reason }) => console.log(code, feed?.length, reason));
hub.on('bye', ({ retry }) => console.log(retry));

const run: Feed = hub.feed('run/42');
run.on('value', ({ key, data }) => console.log(key.length, data));
run.on('removed', ({ feed, key, time }) => console.log(feed, key.length, Date.now() - time));
run.on('ended', ({ time }) => console.log(run.ended, new Date(time)));
run.on('feed', ({ how }) => { if (how === 'snapshot') console.log(run.values.size); });
if (!run.send({ pause: true })) console.log('not sent');
for (const [key, data] of run.values) console.log(key, data);
const heard = ({ seq }: { seq: number }) => console.log(seq);
run.on('message', heard);
run.off('message', heard);
hub.off('message', heard);
run.close();
{
  using feed = hub.feed<string>('run/44');
  for await (const { seq, data } of feed) console.log(seq, data.length);
}

const typed: Feed<{ residual: number }> = hub.feed<{ residual: number }>('run/43');
typed.on('message', ({ data }) => console.log(data.residual.toFixed(3)), { once: true });
typed.on('value', ({ data }) => console.log(data.residual), { signal: AbortSignal.timeout(1000) });
const residual: number | undefined = typed.values.get('key')?.residual;
// React: useSyncExternalStore(subscribe, snapshot).
const subscribe = (changed: () => void): (() => void) => hub.on('status', changed);
const snapshot = (): Status => hub.status;
connect('http://localhost:8002/feed/run/1', { name: 'log', history: 10, timeout: 3000, minRetry: 100, maxRetry: 5000, debug: console.debug });
const store: [(changed: () => void) => () => void, () => { messages: readonly { data: { residual: number } }[] }] = [typed.subscribe, typed.snapshot];
console.log(residual, subscribe, snapshot, store, typed.snapshot().how, typed.snapshot().values.get('key')?.residual);

const sent: boolean = hub.send('text') && hub.send(new Float32Array(3)) && hub.send({ stiffness: 0.4 });
const response: Response = await hub.fetch('/runs', { method: 'POST' });
connect('/', { start: false }).reconnect();
hub.disconnect();
hub.reconnect();
hub.close();
console.log(id, now, sent, response);

// @ts-expect-error: there is no such event
hub.on('messages', () => {});
// @ts-expect-error: the data has no such member
typed.on('message', ({ data }) => data.residuum);
// @ts-expect-error: a feed has no status
run.on('status', () => {});
// @ts-expect-error: values are the hub's to set
run.values.set('key', 1);
// @ts-expect-error: and what has come
run.snapshot().messages.push();
// @ts-expect-error: so is the id
hub.client = 3;
// @ts-expect-error: names are strings
hub.feed(42);
// @ts-expect-error: there is no such option
connect(undefined, { feed: '' });
