// Chromium's WebSocket, in a page that the hub serves: node chromium.mjs HUB PINGING

import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const [hub, pinging] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  chromiumSandbox: false,
  args: [
    '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  ],
});
try {
  const page = await browser.newPage();
  await page.exposeFunction('print', (line) => console.log(line));
  const path = fileURLToPath(new URL('checks.mjs', import.meta.url));
  await page.route('**/checks.mjs', (route) => route.fulfill({ path, contentType: 'text/javascript' }));
  await page.goto(hub);
  await page.evaluate(async (addresses) => {
    const { run } = await import('/checks.mjs');
    await run({ WebSocket, print, ...addresses });
  }, { hub, pinging });
} finally {
  await browser.close();
}
