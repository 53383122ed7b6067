// Runs a page that was built, beside a WebSocket that plays the hub. Usage: node run.mjs FILE
import { pathToFileURL } from 'node:url';

Object.assign(globalThis, { self: globalThis, location: new URL('http://app.example/') });

globalThis.WebSocket = class {
  constructor(url, protocol) {
    if (String(url) !== 'ws://hub.example/run/' || protocol !== 'stepcast.v1') throw new Error(`${url} ${protocol}`);
    setTimeout(() => {
      this.readyState = 1;
      this.onopen();
    });
  }

  send(text) {
    if (!JSON.parse(text).hello) return;
    const lines = [
      { hello: { id: 4711, key: 'key', epoch: 'epoch', resumed: false, base: 0, now: 0, ping: 25, limits: { message: 65536, feeds: 64, rate: 1000 } } },
      { feed: { name: '', alias: 1, seq: 0, how: 'snapshot' } },
      { text: [1, 1, 0, 'step 41'] },
    ];
    this.onmessage({ data: lines.map((line) => JSON.stringify(line)).join('\n') });
  }

  close() {}
};

globalThis.told = (data) => {
  console.log(`the page was told '${data}'`);
  process.exit(data === 'step 41' ? 0 : 1);
};

await import(pathToFileURL(process.argv[2]));
