// The client `ws`: node ws.mjs HUB PINGING

import WebSocket from 'ws';
import { run } from './checks.mjs';

/** Sends one message in several frames, cut at these bytes, with a ping between two of them. */
function fragments(socket, content, cuts) {
  const bytes = Buffer.from(content);
  const binary = typeof content !== 'string';
  cuts.forEach((cut, i) => socket.send(bytes.subarray(cuts[i - 1] ?? 0, cut), { binary, fin: false }));
  socket.ping('between');
  socket.send(bytes.subarray(cuts.at(-1)), { binary, fin: true });
}

function ping(socket, payload) {
  return new Promise((resolve) => {
    socket.once('pong', (data) => resolve(data.toString()));
    socket.ping(payload);
  });
}

function countPings(socket) {
  let pings = 0;
  socket.on('ping', () => { pings += 1; });
  return () => pings;
}

const [hub, pinging] = process.argv.slice(2);
await run({ WebSocket, hub, pinging, print: console.log, fragments, ping, countPings });
process.exit(); // also where a failed check has left connections open
