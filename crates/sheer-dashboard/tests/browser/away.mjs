// Without a control plane the page says so and what to do; once there is one, it goes on by itself. Says `away` on stdout when the first is seen.
// Usage: node away.mjs URL.
import { check, start, tab, text } from './browser.mjs';

const browser = await start();
try {
  const { page, wrong } = await tab(browser);
  await page.goto(new URL('/map', process.argv[2]).href);
  await page.locator('.problem').waitFor();
  const said = await text(page, '.problem');
  for (const word of ['The control plane does not answer', 'sheer check', 'sheer logs control']) check(said.includes(word), said);
  console.log('away');
  await page.locator('.map .node').first().waitFor();
  await page.locator('.problem').waitFor({ state: 'detached' });
  check(wrong.length === 0, wrong.join('\n'));
} finally {
  await browser.close();
}
console.log('away: well');
