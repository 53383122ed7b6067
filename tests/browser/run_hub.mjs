// A hub of the tests: the other end of the page's WebSocket, and runs that it tells of.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open, root, serve, until } from './harness.mjs';

const file = (name) => readFileSync(join(root, 'src/page', name), 'utf8');

/** What a message of now has for its time. */
export const NOW = 86_400_000;

export const RUN = 'stepcast/run', SERIES = 'stepcast/series', FIELDS = 'stepcast/fields';

/** What the wire `stepcast.v1` asks of a hub, for one page. */
export class Hub {
  seq = {};

  constructor(socket) {
    this.socket = socket;
    socket.onMessage((data) => {
      const said = JSON.parse(data);
      this.hello ??= said.hello;
      if (said.json) this.heard.push(said.json);
    });
  }

  heard = [];

  say(object) { this.socket.send(JSON.stringify(object)); }

  greet({ id = 7, epoch = '5e1f00d2a4b3c687', resumed = false, seq = 0, how = resumed ? 'resumed' : 'snapshot' } = {}) {
    this.say({ hello: { id, key: '0'.repeat(32), epoch, resumed, base: 0, now: NOW, ping: 25, limits: { message: 65536, feeds: 64, rate: 1000 } } });
    this.aliases = Object.fromEntries(Object.keys(this.hello.feeds).map((name, i) => [name, i + 1]));
    for (const [name, alias] of Object.entries(this.aliases)) {
      this.say({ feed: { name, alias, seq: name === '' ? seq : 0, how } });
      this.seq[alias] = name === '' ? seq : 0;
    }
    return this;
  }

  /** Sends everyone a message, or a value of a key. */
  send(data, key, feed = '') {
    const alias = this.aliases[feed] ?? 1;
    this.seq[alias] += 1;
    const seq = this.seq[alias];
    if (typeof data === 'string') return this.say({ text: [alias, seq, NOW, data, ...key ? [key] : []] });
    if (!Buffer.isBuffer(data)) return this.say({ json: [alias, seq, NOW, data, ...key ? [key] : []] });
    const name = Buffer.from(key ?? ''), head = Buffer.alloc(1 + 4 + 8 + 8 + 2);
    head[0] = 1;
    head.writeUInt32BE(alias, 1);
    head.writeUInt32BE(seq, 9);
    head.writeUInt32BE(NOW, 17);
    head.writeUInt16BE(name.length, 21);
    this.socket.send(Buffer.concat([head, name, data]));
  }

  run(data, key) { this.send(data, key, RUN); }
}

/** Opens the page below a prefix; `hub` is the other end of its WebSocket. */
export async function openPage(t, { path = '?query', up = './', options = {}, browser, refuse } = {}) {
  const nonce = 'b3BlbiBzZXNhbWUsIG9wZW4';
  const base = await serve(t, ({ url }) => (url.endsWith('.js')
    ? { headers: { 'content-type': 'text/javascript' }, body: file(url.split('/').pop()) }
    : {
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': `default-src 'none'; script-src 'nonce-${nonce}' 'self'; `
          + `style-src 'nonce-${nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; `
          + "form-action 'none'; frame-ancestors 'self'",
      },
      body: file('index.html').replaceAll('{{nonce}}', nonce).replaceAll('{{root}}', up),
    }));
  const { page, complaints } = await open(browser ?? await launch(t), options);
  const hubs = [];
  await page.routeWebSocket(/.*/, (socket) => hubs.push(new Hub(socket)));
  if (refuse) return { page, complaints, hubs, base, url: `${base}behind/a/proxy/${path}` };
  await page.goto(`${base}behind/a/proxy/${path}`);
  /** Of the newest connection, once the page has said who it is. */
  const hub = () => until('a hello', () => hubs.at(-1)?.hello && hubs.at(-1));
  return { page, complaints, hub: (await hub()).greet(), next: hub, hubs, base };
}

/** A field as an ordinary feed has it. */
export function field(ny, nx, values) {
  const bytes = Buffer.alloc(8 + 4 * values.length);
  bytes.writeUInt32LE(ny, 0);
  bytes.writeUInt32LE(nx, 4);
  values.forEach((value, i) => bytes.writeFloatLE(value, 8 + 4 * i));
  return bytes;
}

/** A copy of a field of the run. */
export function copy(id, ny, nx, valueOf, position = 0) {
  const bytes = Buffer.alloc(64 + 4 * ny * nx);
  bytes[0] = 1;
  bytes[1] = 4;
  bytes.writeUInt16LE(64, 2);
  bytes.writeUInt32LE(ny, 4);
  bytes.writeUInt32LE(nx, 8);
  bytes.writeBigUInt64LE(BigInt(id), 16);
  bytes.writeDoubleLE(position, 24);
  for (const at of [32, 40, 48, 56]) bytes.writeDoubleLE(NaN, at);
  for (let y = 0, at = 64; y < ny; y += 1) for (let x = 0; x < nx; x += 1, at += 4) bytes.writeFloatLE(valueOf(y, x), at);
  return bytes;
}

let seed = 1993;
const random = () => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return seed / 4294967296; };

/** The run of the pictures: phases, members, series, a field, parameters, a log. `AGO` seconds old. */
export const AGO = 3192;

export function describe(hub, { title = 'Gray–Scott, F = 0.0367, k = 0.0649', ago = AGO, ended } = {}) {
  const now = Date.now();
  hub.run({ run: { title, started: now - ago * 1000, at: now, host: 'node17', pid: 48213, description: { F: 0.0367, k: 0.0649, grid: '256 x 256' },
    ended: { completed: 2, failed: 0, cancelled: 0, abandoned: 0, ...ended } } }, 'run');
}

export function job(hub, id, more) {
  hub.run({ job: { slot: id, id, started: Date.now() - AGO * 1000, status: 'working', title: `job ${id}`, ...more } }, `job/${id}`);
}

export function report(hub, id, more) { hub.run({ report: { id, ...more } }, `report/${id}`); }

export function log(hub, text, more = {}) { hub.run({ log: { at: Date.now(), level: 'info', text, ...more } }); }

const gauss = () => random() + random() + random() - 1.5;

export function series(hub, id, name, valueOf, { unit, lines, job: of = 3, n = 400, last = 5_083_200, nan = [] } = {}) {
  const [x, y, lo, hi] = [[], [], [], []], count = lines?.length ?? 1;
  for (let i = 0; i < n; i += 1) {
    const at = Math.round((i + 1) / n * last);
    x.push(at);
    for (let line = 0; line < count; line += 1) {
      const v = valueOf(at / 12e6, line), w = Math.abs(v) * 0.08;
      y.push(v + gauss() * w);
      lo.push(y.at(-1) - w * random());
      hi.push(y.at(-1) + w * random());
    }
  }
  const told = (values) => values.map((v) => (Number.isNaN(v) ? 'NaN' : v));
  hub.send({ series: { slot: id, id, job: of, name, unit, lines, n: n * 7, x, y: told(y), lo: told(lo), hi: told(hi), seg: [[0, 0]], nan } }, `series/${id}`, SERIES);
}

/** What the mock-up shows as running. */
export function running(hub) {
  const ms = (s) => Date.now() - s * 1000;
  describe(hub);
  job(hub, 1, { title: 'compile kernels', unit: 'kernels', status: 'completed', total: 6, progress: 6, weight: 0.01, ended: ms(AGO - 3) });
  job(hub, 2, { title: 'spin-up', unit: 'steps', status: 'completed', total: 200_000, progress: 200_000, weight: 0.5, rate: 1600, ended: ms(AGO - 125) });
  job(hub, 3, { title: 'time loop', unit: 'steps', total: 11_800_000, weight: 11.2, message: 'block 318 of 750', cancellable: true });
  job(hub, 4, { parent: 3, title: 'checkpoint', unit: 'MB', total: 640, message: '11 of 24' });
  job(hub, 5, { parent: 3, title: 'statistics', unit: 'samples' });
  job(hub, 6, { parent: 3, title: 'spectra', unit: 'bins', total: 240, status: 'paused', message: 'waiting for a core', paused_since: ms(100) });
  job(hub, 7, { parent: 3, title: 'member 05', unit: 'steps', total: 40_000, message: 'F = 0.0360' });
  job(hub, 8, { parent: 3, title: 'member 06', unit: 'steps', total: 40_000 });
  job(hub, 9, { title: 'render film', unit: 'frames', status: 'queued', total: 750, weight: 0.3 });
  report(hub, 3, { progress: 4_883_200, rate: 1592, eta: 4320, low: 4200, high: 4500 });
  report(hub, 4, { progress: 312, rate: 41, eta: 8 });
  report(hub, 5, { progress: 25_416, rate: 7.96 });
  report(hub, 6, { progress: 96 });
  report(hub, 7, { progress: 24_410, rate: 398, eta: 39 });
  report(hub, 8, { progress: 8_260, rate: 402, idle: 180, usual: 30 });
  hub.run({ parameter: { id: 1, name: 'feed rate', kind: 'number', value: 0.0367, min: 0, max: 0.1, step: 0.0001, by: '4903', at: ms(720) } }, 'parameter/1');
  hub.run({ parameter: { id: 2, name: 'scheme', kind: 'choice', value: 'RK2', names: ['explicit Euler', 'RK2'] } }, 'parameter/2');
  hub.run({ parameter: { id: 3, name: 'checkpoints', kind: 'switch', value: true } }, 'parameter/3');
  hub.run({ parameter: { id: 4, name: 'Write a snapshot', kind: 'button', value: 2 } }, 'parameter/4');
  series(hub, 1, 'residual', (x, line) => (line ? 0.42 : 1) * (0.08 * Math.exp(-9 * x) + 2e-5), { lines: ['u', 'v'] });
  series(hub, 2, 'mean v', (x) => 0.132 / (1 + Math.exp(-26 * (x - 0.11))) + 0.004);
  series(hub, 3, 'max v', (x) => 0.41 - 0.06 * Math.exp(-20 * x));
  series(hub, 4, 'mass drift', (x) => 1e-8 * x * 12);
  series(hub, 5, 'step time', () => 0.628, { unit: 'ms' });
  hub.send({ field: { slot: 1, id: 1, job: 3, name: 'v' } }, 'field/1', FIELDS);
  hub.send(copy(1, 256, 256, (y, x) => 0.21 + 0.2 * Math.sin(y / 14) * Math.cos(x / 17), 4_883_200), 'data/1', FIELDS);
  for (let k = 40; k > 0; k -= 1) log(hub, `step ${5_083_200 - 16_000 * k}: v is between 0.00${10 + k * 7 % 60} and 0.40${10 + k * 13 % 80}`, { job: 3, at: ms(k * 10) });
  hub.run({ log: { lost: 1204 } });
  log(hub, 'Courant number 0.98 is near the limit; dt is kept', { job: 8, level: 'warn' });
  log(hub, 'wrote restart_010.h5, 640 MB in 15.2 s', { job: 4 });
  for (const [key, value] of Object.entries({ cg_iterations: 14, dt: 1, 'max |u|': 0.99974, Courant: 0.4213, free_disk: '184.2 GB', threads: 8 })) hub.send(value, key);
}
