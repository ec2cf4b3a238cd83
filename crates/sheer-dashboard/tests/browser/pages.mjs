// Every page in both themes and widths: it shows what it must, its console is silent, axe finds nothing serious, and a screenshot is kept.
// Usage: node pages.mjs URL FOLDER WORKLOAD (as bank/deploy/ledger).
import { mkdirSync } from 'node:fs';
import { check, inaccessible, NARROW, start, tab, text, WIDE } from './browser.mjs';

const [url, folder, workload] = process.argv.slice(2);
const at = (path) => new URL(path, url).href;
mkdirSync(folder, { recursive: true });

const PAGES = [
  { name: 'map', path: '/map', ready: '.map .node', shows: '.map', words: ['ledger', 'payments', '/s'] },
  { name: 'map-chosen', path: `/map?sel=${encodeURIComponent(workload)}`, ready: '.panel', shows: '.panel', words: ['ledger', 'Success', 'Called by', 'payments', 'mTLS'] },
  { name: 'map-table', path: '/map?view=table', ready: 'table tbody tr', shows: 'table', words: ['payments', 'ledger', 'mTLS', 'grpc'] },
  { name: 'workloads', path: '/workloads', ready: 'table tbody tr', shows: 'main', words: ['ledger', 'payments', 'Req/s', '%'] },
  { name: 'workload', path: `/workloads/${workload}`, ready: '.chart canvas', shows: 'main', words: ['ledger', 'Success', 'Requests', 'Latency', 'Called by', 'Pods', 'Certificate ends in'] },
  { name: 'routes', path: '/routes', ready: 'main h1', shows: 'main', words: ['Routes'] },
  { name: 'live', path: '/live?ns=bank', ready: 'table.tap tbody tr.opens:nth-child(12)', shows: 'main', words: ['/bank.v1', 'payments', '0 OK', 'seen', 'Failed only'] },
  { name: 'live-paths', path: '/live?view=paths', ready: 'table tbody tr:has-text("/bank.v1")', shows: 'main', words: ['/bank.v1', 'payments', 'told by'] },
  { name: 'traces', path: '/traces', ready: 'table tbody tr', shows: 'main', words: ['/v1/payments', 'kept'] },
  { name: 'policy', path: '/policy', ready: 'main h1', shows: 'main', words: ['What it denied', 'What applies', 'ledger'] },
  { name: 'explain', path: '/policy?ns=bank&from=deploy/payments&to=svc/ledger:9000&method=POST&path=/bank.v1.Ledger/Post', ready: '.steps li', shows: '.ask', words: ['forwarded', 'service'] },
  { name: 'health', path: '/health', ready: '.point', shows: 'main', words: ['control-plane', 'Control plane', 'Proxies that report'] },
];

async function visit(browser, { name, path, ready, shows, words }, theme, viewport) {
  const { page, wrong, close } = await tab(browser, { viewport, theme });
  const what = `${name} (${theme}, ${viewport.width})`;
  await page.goto(at(path));
  await page.locator(ready).first().waitFor();
  await page.locator('.below .right').filter({ hasText: 'updated' }).waitFor();
  await page.waitForTimeout(250); // charts are drawn in the next frame
  // What is live comes bit by bit, from one sidecar after the other.
  let shown = await text(page, shows);
  for (let tries = 0; tries < 20 && !words.every((word) => shown.includes(word)); tries += 1) {
    await page.waitForTimeout(500);
    shown = await text(page, shows);
  }
  for (const word of words) check(shown.includes(word), `${what} does not say "${word}": ${shown.slice(0, 600)}`);
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(beyond <= 0, `${what} is ${beyond} px wider than the screen`);
  const found = await inaccessible(page);
  check(found.length === 0, `${what}: axe finds\n  ${found.join('\n  ')}`);
  await page.screenshot({ path: `${folder}/${name}-${theme}-${viewport.width}.png` });
  check(wrong.length === 0, `${what}:\n  ${wrong.join('\n  ')}`);
  await close();
}

/** The first failed request of the list leads to its waterfall. */
async function waterfall(browser, theme, viewport) {
  const { page, wrong, close } = await tab(browser, { viewport, theme });
  await page.goto(at('/traces'));
  await page.locator('td a.main').first().click();
  await page.locator('.waterfall .track').first().waitFor();
  // Its first spans are here; those of the other sidecars are on their way.
  for (let tries = 0; tries < 10 && !(await text(page, '.waterfall')).includes('gateway'); tries += 1) {
    await page.waitForTimeout(1000);
    await page.reload();
    await page.locator('.waterfall .track').first().waitFor();
  }
  check(new URL(page.url()).pathname.startsWith('/traces/'), page.url());
  await page.locator('.waterfall td.who button').first().click();
  await page.locator('.details').waitFor();
  const shown = await text(page, '.waterfall');
  for (const word of ['network', 'application', 'gateway', 'Recorded by']) check(shown.includes(word), `the waterfall does not say "${word}": ${shown.slice(0, 600)}`);
  const found = await inaccessible(page);
  check(found.length === 0, `trace (${theme}): axe finds\n  ${found.join('\n  ')}`);
  await page.screenshot({ path: `${folder}/trace-${theme}-${viewport.width}.png` });
  check(wrong.length === 0, wrong.join('\n'));
  await close();
}

/** A line of the tap leads to its request: the four views, the frames and the trace. Held, so that the line stays where it is. */
async function request(browser, theme, viewport) {
  const { page, wrong, close } = await tab(browser, { viewport, theme });
  // A busy proxy forgets the wire of what went well within a second or two: then another line is chosen, until one of the proxies has its half.
  for (let tries = 0; ; tries += 1) {
    await page.goto(at('/live?ns=bank&path=/bank.v1.Ledger'));
    await page.locator('table.tap tr.opens').first().waitFor();
    // New lines wait while somebody points at one.
    await page.locator('table.tap thead').hover();
    const said = await text(page, 'table.tap tr.opens');
    check(said.includes('/bank.v1.Ledger/Post') && said.includes('ledger'), `a line that the filter does not let through: ${said}`);
    await page.locator('td a.main').first().click();
    const there = (selector, timeout) => page.locator(selector).first().waitFor({ timeout }).then(() => true, () => false);
    const found = (await there('.points-table tbody tr', 5000)) && (await there('table.frames tbody tr', 3000));
    if (found && (await text(page, '.points-table thead')).includes('④ the other proxy → its application http/2')) break;
    check(tries < 40, `no request of 40 is recorded: ${await text(page, 'main')}`);
  }
  check(/^\/requests\/bank\/[^/]+\/\d+$/.test(new URL(page.url()).pathname), page.url());
  const four = await text(page, '.four');
  for (const word of ['①', '④', ':path', '/bank.v1.Ledger/Post', 'documented', 'l5d-client-id', 'grpc-status']) check(four.includes(word), `the four views do not say "${word}": ${four.slice(0, 900)}`);
  check(!four.includes('unexplained'), `honest traffic has a difference that nobody can explain: ${four.slice(0, 900)}`);
  const frames = await text(page, 'table.frames');
  for (const word of ['HEADERS', 'DATA', 'END_STREAM', 'content-type']) check(frames.includes(word), `the frames do not say "${word}": ${frames.slice(0, 600)}`);
  check((await text(page, '.verdict')).includes('It went well: 0 OK'), await text(page, '.verdict'));
  await page.getByRole('button', { name: /^Point 3/ }).click();
  await page.locator('table.frames tbody tr').first().waitFor();
  check(new URL(page.url()).searchParams.get('at') === '3', page.url());
  await page.locator('.below .right').filter({ hasText: 'updated' }).waitFor();
  // The page as it was opened is what a link to it shows, also when the proxies have forgotten the request.
  const shared = page.url();
  await page.goto(at('/health'));
  await page.goto(shared);
  await page.locator('.points-table tbody tr').first().waitFor();
  await page.locator('table.frames tbody tr').first().waitFor();
  await page.locator('.below .right').filter({ hasText: 'updated' }).waitFor();
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(beyond <= 0, `the request's page is ${beyond} px wider than the screen`);
  const found = await inaccessible(page);
  check(found.length === 0, `request (${theme}): axe finds\n  ${found.join('\n  ')}`);
  await page.screenshot({ path: `${folder}/request-${theme}-${viewport.width}.png` });
  // A request that is forgotten by the time that its page asks is not there (404).
  const away = wrong.filter((one) => !one.includes('404'));
  check(away.length === 0, away.join('\n'));
  await close();
}

/** A span leads to its request, and the request to the whole trace. */
async function spanned(browser) {
  const { page, wrong, close } = await tab(browser);
  await page.goto(at('/traces'));
  await page.locator('td a.main').first().click();
  await page.locator('.waterfall td.who button').last().click();
  await page.locator('.details').waitFor();
  const trace = new URL(page.url()).pathname.split('/').pop();
  await page.getByRole('link', { name: 'The request at the four points' }).click();
  // Found, or forgotten since: its trace is there in either case.
  await page.locator('.points-table tbody tr, .problem').first().waitFor();
  await page.locator('.waterfall .track').first().waitFor();
  check(new URL(page.url()).searchParams.get('trace') === trace, `${page.url()} is not of trace ${trace}`);
  const away = wrong.filter((one) => !one.includes('404'));
  check(away.length === 0, away.join('\n'));
  await close();
}

const browser = await start();
try {
  const only = process.env.SHEER_PAGES?.split(',');
  for (const theme of ['light', 'dark']) {
    for (const viewport of [WIDE, NARROW]) {
      for (const page of PAGES) if (!only || only.includes(page.name)) await visit(browser, page, theme, viewport);
      if (!only || only.includes('trace')) await waterfall(browser, theme, viewport);
      // Either theme and either width, but not each with each: where proxies are busy the page is hard to come by.
      if ((!only || only.includes('request')) && (theme === 'light') === (viewport === WIDE)) await request(browser, theme, viewport);
    }
  }
  if (!only || only.includes('request')) await spanned(browser);
} finally {
  await browser.close();
}
console.log('pages: well');
