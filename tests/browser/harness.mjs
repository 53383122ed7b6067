// What the browser tests share: examples that run on a free port, a browser, and waiting for
// something to become true. Nothing here sleeps for a guessed time.

import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createConnection, createServer as createTcpServer } from 'node:net';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const root = fileURLToPath(new URL('../..', import.meta.url));
const examples = process.env.STEPCAST_EXAMPLES ?? join(root, 'target/release/examples');
const pictures = join(root, 'target/browser');

/** Milliseconds within which anything that is waited for must have happened. */
const PATIENCE = 30_000;

/** Waits until `look` returns something true, and returns that. */
export async function until(what, look, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${patience / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Starts an example; its first line of output with an address in it says where it listens. */
export async function start(t, name, ...args) {
  const child = spawn(join(examples, name), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { errors = (errors + text).slice(-4000); });
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(`ended with ${signal ?? code}: ${errors}`));
  });
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  t.after(stop);
  const address = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /http:\/\/\S+:\d+\//.exec(line);
      if (found) resolve(found[0]);
    });
  });
  const deadline = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${name} printed no address: ${errors}`)), PATIENCE).unref();
  });
  const early = ended.then((how) => { throw new Error(`${name} ${how}`); });
  early.catch(() => {}); // also when it is stopped at the end, which is no error
  const url = await Promise.race([address, early, deadline]);
  return { url, port: new URL(url).port, stop };
}

/** Serves what `answer(request)` returns or promises, `{ headers, body }`, from a port of its own. */
export async function serve(t, answer) {
  const server = createServer(async (request, response) => {
    const { headers, body } = await answer(request);
    response.writeHead(200, headers).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}/`;
}

/**
 * A way to a port of this machine, by a port of its own. `cut()` ends all connections that go
 * this way, and says how many there were; while it is `down` nobody gets through.
 */
export async function cable(t, to) {
  const ways = new Set();
  const own = { down: false };
  const server = createTcpServer((near) => {
    if (own.down) return near.destroy();
    const far = createConnection({ port: to, host: '127.0.0.1', noDelay: true });
    const way = [near, far];
    ways.add(way);
    for (const end of way) {
      end.on('error', () => {}); // `close` follows
      end.on('close', () => { ways.delete(way); near.destroy(); far.destroy(); });
    }
    near.setNoDelay().pipe(far).pipe(near);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  own.port = server.address().port;
  own.url = `http://127.0.0.1:${own.port}/`;
  own.cut = () => {
    const count = ways.size;
    for (const [near, far] of ways) { near.destroy(); far.destroy(); }
    return count;
  };
  t.after(() => { own.down = true; own.cut(); server.close(); });
  return own;
}

/** A browser. `without` are switches that it is started with otherwise, `more` are others. */
export async function launch(t, without = [], more = []) {
  const browser = await chromium.launch({
    ignoreDefaultArgs: without,
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    chromiumSandbox: false,
    args: [
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', ...more,
    ],
  });
  t.after(() => browser.close());
  return browser;
}

/** Runs in each page before its own scripts. */
export function prepare() {
  // Read from a copy, so that the page's own canvas stays as the page made it.
  globalThis.pixelsOf = ({ width, height }) => {
    const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(document.querySelector('.heat'), 0, 0);
    return new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer);
  };
  document.addEventListener('securitypolicyviolation', (event) => {
    console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`);
  });
}

/** A page of a browser profile of its own, and what went wrong in it. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1180, height: 860 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.addInitScript(prepare);
  return { page, complaints };
}

export async function picture(page, name) {
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}

/** What the hub's page shows, read from its DOM. */
export function seen(page) {
  return page.evaluate(() => {
    const [bar, field] = [document.getElementById('progress'), document.querySelector('.heat')];
    const all = [...document.querySelectorAll('#log li')];
    const pixels = field?.dataset.ny ? pixelsOf(field) : [];
    const number = (name) => (bar.hasAttribute(name) ? Number(bar.getAttribute(name)) : null);
    return {
      state: document.getElementById('state').dataset.state,
      id: document.getElementById('client-id').textContent,
      count: Number(document.getElementById('count').textContent.replace(/\D/g, '')),
      now: number('aria-valuenow'),
      min: number('aria-valuemin'),
      max: number('aria-valuemax'),
      field: { ...field?.dataset },
      colours: new Set(pixels).size,
      // Of this run: the one before stays above a line across the log.
      lines: all.slice(all.findLastIndex((line) => line.dataset.kind === 'run') + 1).map((line) => line.textContent),
      link: document.getElementById('link').textContent,
      word: document.getElementById('state-word').textContent,
      notice: document.getElementById('notice-text').textContent,
      until: document.getElementById('until').textContent,
      title: document.title,
      wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    };
  });
}
