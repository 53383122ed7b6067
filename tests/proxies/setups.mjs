// The proxies, each with the lines of docs/proxies.md, and with other lines that are in use.

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import httpProxy from 'http-proxy';
import { root, until } from '../browser/harness.mjs';

const page = readFileSync(join(root, 'docs/proxies.md'), 'utf8');

/** The lines that the page has for a proxy, with the hub's port. */
function written(language, hub) {
  const block = page.match(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'ms'));
  return change(block[1], /127\.0\.0\.1:8002/g, `127.0.0.1:${hub}`);
}

/** `replace` that replaces something. */
function change(text, old, by) {
  const changed = text.replace(old, by);
  if (changed === text) throw new Error(`${old} is not in ${text}`);
  return changed;
}

let nextPort = 20_000 + Math.floor(Math.random() * 10_000);

/** A port that nobody listens on, and that no connection from here gets: those are given higher ones. */
export async function freePort() {
  for (;;) {
    const port = nextPort++;
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.on('error', () => resolve(false)).listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.on('connect', () => socket.destroy(resolve(true))).on('error', () => resolve(false));
  });
}

/** Runs a proxy, in a folder of its own with its configuration, until it listens on its port. */
async function run(t, configuration, command) {
  const folder = mkdtempSync(join(tmpdir(), 'stepcast-proxy-'));
  const port = await freePort();
  const file = join(folder, 'configuration');
  writeFileSync(file, configuration(port, folder));
  const [program, ...args] = command(port, folder, file);
  const log = join(folder, 'log');
  const output = openSync(log, 'a');
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', output, output], env: { ...process.env, HOME: folder } });
  closeSync(output);
  let end = null;
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve(end = error.message));
    child.on('exit', (code, signal) => resolve(end = `ended with ${signal ?? code}`));
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  });
  await until(`${program} listens`, async () => {
    if (end) throw new Error(`${program} ${end}: ${readFileSync(log, 'utf8').slice(-4000)}`);
    return listens(port);
  }, 90_000);
  return { port, folder, path: '/run/' };
}

// ---- nginx

function nginx({ server = '', location = (text) => text } = {}) {
  return (t, hub) => run(t, (port, folder) => `
    daemon off; master_process off; pid nginx.pid; error_log stderr;
    events {}
    http {
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${folder}/${what};`).join(' ')}
      access_log off; types { text/html html; }
      proxy_read_timeout ${IDLE}s; proxy_send_timeout ${IDLE}s;
      server { listen 127.0.0.1:${port}; ${server} ${location(written('nginx', hub))} }
    }`, (port, folder, file) => ['nginx', '-p', folder, '-e', 'stderr', '-c', file]);
}

const HOST = /proxy_set_header Host .*\n/;

export const keepsPrefix = nginx({ location: (text) => change(text, /(:\d+)\/;/, '$1;') });

// ---- HAProxy

function haproxy(backend = (text) => text) {
  return async (t, hub) => {
    const proxy = await run(t, (port, folder) => `
global
    stats socket ${folder}/stats
defaults
    mode http
    timeout client ${IDLE}s
frontend public
    bind 127.0.0.1:${port}
    default_backend run
${change(backend(written('haproxy', hub)), /tunnel 1h/, `tunnel ${IDLE}s`)}`, (port, folder, file) => ['haproxy', '-db', '-f', file]);
    await until('the health check is passed', () => healthOf(join(proxy.folder, 'stats')));
    return proxy;
  };
}

/** Whether HAProxy has asked the hub, and has taken it for up. */
async function healthOf(socket) {
  const connection = createConnection(socket).setEncoding('utf8');
  connection.end('show stat\n');
  let text = '';
  for await (const part of connection) text += part;
  const [names, ...rows] = text.split('\n').map((line) => line.split(','));
  const hub = Object.fromEntries(rows.find(([, name]) => name === 'hub').map((value, i) => [names[i], value]));
  if (hub.check_status.startsWith('L') && hub.check_status !== 'L7OK') throw new Error(`the check: ${hub.check_status} ${hub.check_code}`);
  return hub.status === 'UP' && hub.check_status === 'L7OK';
}

// ---- Apache

function apache(language, lines = (text) => text) {
  const modules = ['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'proxy_wstunnel', 'rewrite', 'filter', 'deflate'];
  return (t, hub) => run(t, (port, folder) => `
ServerRoot ${folder}
ServerName run.example
Listen 127.0.0.1:${port}
PidFile apache.pid
ErrorLog log
User nobody
Group nogroup
${modules.map((name) => `LoadModule ${name}_module ${APACHE}/mod_${name}.so`).join('\n')}
${lines(written(language, hub))}`, (port, folder, file) => ['apache2', '-X', '-d', folder, '-f', file]);
}

/** The modules lie where the program is from: in its PATH's folder of another name. */
const APACHE = process.env.PATH.split(':').map((folder) => join(folder, '../lib/apache2/modules')).find(existsSync);
const PRESERVE = 'ProxyPreserveHost On\n';

// ---- Jupyter

async function jupyter(t, hub) {
  const token = randomUUID();
  const proxy = await run(t, () => '', (port, folder) => [
    'jupyter-server', '--allow-root', '--no-browser', `--port=${port}`, '--ServerApp.port_retries=0', '--ServerApp.ip=127.0.0.1',
    `--IdentityProvider.token=${token}`, '--ServerApp.allow_remote_access=True', `--ServerApp.root_dir=${folder}`,
  ]);
  return { ...proxy, path: `/proxy/${hub}/?token=${token}` };
}

// ---- node's http-proxy, which Vite's and webpack's development servers have

function node(options) {
  return async (t, hub) => {
    const server = httpProxy.createServer({ target: `http://127.0.0.1:${hub}`, ws: true, ...options });
    server.on('error', () => {}); // a connection that ends
    // It writes a refusal to a browser that may have gone, and listens for no error of that.
    server.on('proxyReqWs', (request, incoming, socket) => socket.on('error', () => {}));
    const port = await freePort();
    server.listen(port, '127.0.0.1');
    t.after(() => server.close());
    await until('http-proxy listens', () => listens(port));
    return { port, path: '/' };
  };
}

/** Seconds after which nginx and HAProxy give a silent connection up. The hub of the tests pings more often. */
export const IDLE = 3;

const HOST_LINE = () => '.allow_host("run.example")';
const ORIGIN_LINE = (port) => `.allow_origin("http://run.example:${port}")`;
const TRUSTED = '.trusted_proxy([127, 0, 0, 1])';
const COMPRESSED = /^W\/|-gzip"$/;

/**
 * By name: the lines that the hub has from the start, and those that its refusals say; how the script's tag
 * looks; whether a silence is waited for.
 */
export const setups = {
  'nginx, as the page has it': { proxy: nginx(), says: [HOST_LINE], idle: true },
  'nginx, asked without the slash': { proxy: async (t, hub) => ({ ...await nginx()(t, hub), path: '/run' }), says: [HOST_LINE] },
  'nginx with the port in Host': { proxy: nginx({ location: (text) => change(text, '$host', '$http_host') }), says: [HOST_LINE] },
  'nginx at the root': {
    proxy: async (t, hub) => ({
      ...await nginx({ location: (text) => change(change(text, '/run/', '/'), /(:\d+)\/;/, '$1;') })(t, hub), path: '/',
    }),
    says: [HOST_LINE],
  },
  'nginx without Host': { proxy: nginx({ location: (text) => change(text, HOST, '') }), says: [ORIGIN_LINE] },
  'nginx without Host, trusted': {
    proxy: nginx({ location: (text) => change(text, HOST, 'proxy_set_header X-Forwarded-Host $host;\n') }), has: [TRUSTED],
  },
  'nginx with Forwarded, trusted': {
    proxy: nginx({ location: (text) => change(text, HOST, 'proxy_set_header Forwarded "for=_hidden;host=\\"$http_host\\";proto=$scheme";\n') }),
    has: [TRUSTED],
  },
  'nginx with gzip': {
    proxy: nginx({ server: 'gzip on; gzip_proxied any; gzip_types text/javascript;' }), has: [HOST_LINE()], tag: COMPRESSED,
  },
  'HAProxy, as the page has it': { proxy: haproxy(), says: [HOST_LINE], idle: true },
  'HAProxy that asks by OPTIONS, with independent streams': {
    proxy: haproxy((text) => change(text, 'httpchk HEAD /', 'httpchk\n    option independent-streams')), says: [HOST_LINE], idle: true,
  },
  'HAProxy that compresses': {
    proxy: haproxy((text) => `${text}    compression algo gzip\n    compression type text/javascript\n`), has: [HOST_LINE()], tag: COMPRESSED,
  },
  'Apache, as the page has it': { proxy: apache('apache'), says: [HOST_LINE] },
  'Apache with a rewrite': { proxy: apache('apache-rewrite'), says: [HOST_LINE] },
  'Apache that changes Host': { proxy: apache('apache', (text) => change(text, PRESERVE, '')), says: [ORIGIN_LINE] },
  'Apache that changes Host, trusted': { proxy: apache('apache', (text) => change(text, PRESERVE, '')), has: [TRUSTED] },
  'Apache that compresses': {
    proxy: apache('apache', (text) => `${text}AddOutputFilterByType DEFLATE text/html text/javascript\n`), has: [HOST_LINE()], tag: COMPRESSED,
  },
  'Jupyter at its own address': { proxy: jupyter, host: 'localhost', loses: true },
  'Jupyter by a name': { proxy: jupyter, says: [HOST_LINE], loses: true },
  'http-proxy': { proxy: node(), says: [HOST_LINE] },
  'http-proxy with changeOrigin': { proxy: node({ changeOrigin: true }), says: [ORIGIN_LINE] },
};
