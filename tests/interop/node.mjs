// Node's own WebSocket: node --experimental-websocket node.mjs HUB PINGING

import { run } from './checks.mjs';

const [hub, pinging] = process.argv.slice(2);
await run({ WebSocket, hub, pinging, print: console.log });
process.exit(); // also where a failed check has left connections open
