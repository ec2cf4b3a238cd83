// A map of 200 services: how long until it stands, and that it can be read. Usage: node large.mjs URL FOLDER COUNT LIMIT_MS.
import { mkdirSync } from 'node:fs';
import { check, inaccessible, start, tab } from './browser.mjs';

const [url, folder, count, limit] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await start();
try {
  const times = [];
  for (let i = 0; i < 3; i += 1) {
    const { page, wrong, close } = await tab(browser);
    await page.goto(new URL('/map', url).href, { waitUntil: 'commit' });
    // By the page's own clock, which begins with the navigation.
    const handle = await page.waitForFunction((least) => document.querySelectorAll('.map .node').length >= least && performance.now(), Number(count), { polling: 'raf' });
    times.push(Math.round(await handle.jsonValue()));
    if (i === 0) {
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${folder}/large-all.png` });
      await page.locator('input[type=search]').fill('ledger-store');
      await page.keyboard.press('Enter');
      await page.locator('.tools .tag').waitFor();
      await page.waitForFunction((least) => document.querySelectorAll('.map .node').length < least, Number(count));
      // Names and numbers can be read around one node.
      await page.locator('svg.map[data-level=near]').waitFor();
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${folder}/large-around.png` });
      const found = await inaccessible(page);
      check(found.length === 0, `axe finds\n  ${found.join('\n  ')}`);
    }
    check(wrong.length === 0, wrong.join('\n'));
    await close();
  }
  console.log(`large: ${count} nodes stand after ${times.join(', ')} ms`);
  check(Math.min(...times) < Number(limit), `that is more than ${limit} ms`);
} finally {
  await browser.close();
}
