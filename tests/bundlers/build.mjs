// Builds a page that imports the npm package with each bundler, and runs what comes of it.
// Usage: node build.mjs FOLDER, where the package is installed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import resolved from '@rollup/plugin-node-resolve';
import * as esbuild from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';
import webpack from 'webpack';

const folder = resolve(process.argv[2]);
const entry = join(folder, 'page.js');
writeFileSync(entry, `
  import { connect } from 'stepcast';
  const hub = connect('ws://hub.example/run/');
  hub.on('message', ({ data }) => globalThis.told(data));
`);

/** What each warns of is an error: a user would see it, and may take it for one. */
const bundlers = {
  async esbuild(out) {
    const { warnings } = await esbuild.build({
      entryPoints: [entry], bundle: true, minify: true, format: 'esm', outfile: join(out, 'page.js'), logLevel: 'silent',
    });
    return warnings;
  },
  async rollup(out) {
    const warnings = [];
    const bundle = await rollup({ input: entry, plugins: [resolved()], onwarn: (warning) => warnings.push(warning) });
    await bundle.write({ dir: out, format: 'es' });
    return warnings;
  },
  async vite(out) {
    const warnings = [];
    const customLogger = { ...vite.createLogger('silent'), warn: (text) => warnings.push(text) };
    await vite.build({
      root: folder, configFile: false, customLogger,
      build: { outDir: out, emptyOutDir: true, rollupOptions: { input: entry, output: { entryFileNames: 'page.js' } } },
    });
    return warnings;
  },
  async webpack(out) {
    const compiler = webpack({ mode: 'production', target: 'web', context: folder, entry, output: { path: out, filename: 'page.js' } });
    const stats = await new Promise((done, fail) => { compiler.run((error, stats) => (error ? fail(error) : done(stats))); });
    const { errors, warnings } = stats.toJson();
    return [...errors, ...warnings];
  },
};

for (const [name, build] of Object.entries(bundlers)) {
  const out = join(folder, 'built', name);
  assert.deepEqual(await build(out), [], name);
  assert.deepEqual(readdirSync(out), ['page.js'], `${name}: one file, and no asset`);
  const run = fileURLToPath(new URL('run.mjs', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [run, join(out, 'page.js')], { encoding: 'utf8', timeout: 20_000 });
  assert.equal(status, 0, `${name}: ${stdout}${stderr}`);
  console.log(`${name}: ${stdout.trim()}`);
}
