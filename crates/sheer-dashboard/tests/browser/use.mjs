// What somebody does with the page: links that are shared, keys, searching, holding updates, another theme. Usage: node use.mjs URL.
import { check, PATIENCE, start, tab, text } from './browser.mjs';

const url = process.argv[2];
const at = (path) => new URL(path, url).href;
const browser = await start();
const { page, wrong } = await tab(browser);
const param = (name) => new URL(page.url()).searchParams.get(name);

async function map() {
  await page.goto(at('/'));
  await page.locator('.map .node').first().waitFor();
  check(new URL(page.url()).pathname === '/map', page.url());
  // By keyboard alone: into the map, to a neighbour, what is known of it, only its neighbours, and back.
  await page.locator('.map .node[tabindex="0"]').focus();
  const first = await page.evaluate(() => document.activeElement.dataset.id);
  await page.keyboard.press('ArrowRight');
  const second = await page.evaluate(() => document.activeElement.dataset.id);
  check(second && second !== first, `from ${first} to ${second}`);
  await page.keyboard.press('Enter');
  await page.locator('.panel').waitFor();
  check(param('sel') === second, page.url());
  await page.keyboard.press('f');
  await page.locator('.tools .tag').waitFor();
  check(param('focus') === second, page.url());
  const all = await page.locator('.map .node').count();
  await page.keyboard.press('Escape');
  await page.locator('.panel').waitFor({ state: 'detached' });
  check(param('sel') === null && param('focus') === second, page.url());
  await page.goBack();
  await page.locator('.panel').waitFor();
  await page.goBack();
  await page.locator('.tools .tag').waitFor({ state: 'detached' });
  await page.waitForFunction((few) => document.querySelectorAll('.map .node').length > few, all, { timeout: PATIENCE });
  // A link shows the same to whoever opens it.
  const shared = page.url();
  await page.goto(at('/health'));
  await page.goto(shared);
  await page.locator('.panel').waitFor();
}

async function search() {
  await page.goto(at('/map'));
  await page.locator('.map .node').first().waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('ledger');
  check(param('q') === 'ledger', page.url());
  check((await page.locator('.map .node:not(.dim)').count()) === 1, 'the search does not leave one node lit');
  await page.keyboard.press('Enter');
  await page.locator('.tools .tag').waitFor();
  check(param('focus') === 'bank/deploy/ledger', page.url());
}

async function keys() {
  await page.goto(at('/map'));
  await page.locator('.map .node').first().waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('w');
  await page.locator('h1', { hasText: 'Workloads' }).waitFor();
  await page.keyboard.press('?');
  await page.locator('dialog[open]').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('dialog[open]').waitFor({ state: 'detached' });
  await page.locator('th button', { hasText: 'Req/s' }).click();
  check(param('sort') === '-rps', page.url());
  const rates = (await page.locator('td.n:nth-child(5)').allInnerTexts()).map((rate) => Number(rate.replace(/[,k]/g, '')) || 0);
  check(rates.length > 3 && rates.every((rate, i) => i === 0 || rates[i - 1] >= rate), `not sorted: ${rates}`);
}

/** Numbers move without anybody asking, and stay while they are held. */
async function live() {
  await page.goto(at('/workloads?sort=name'));
  await page.locator('td').first().waitFor();
  const numbers = () => text(page, 'tbody');
  const before = await numbers();
  await page.waitForFunction((old) => document.querySelector('tbody').innerText.replace(/\s+/g, ' ') !== old, before, { timeout: PATIENCE });
  await page.keyboard.press('.');
  await page.locator('.below .right', { hasText: 'held back' }).waitFor();
  const held = await numbers();
  // Two more models have come by the time that the stream has said something twice.
  await page.waitForTimeout(4500);
  check((await numbers()) === held, 'numbers move though they are held');
  await page.keyboard.press('.');
  await page.waitForFunction((old) => document.querySelector('tbody').innerText.replace(/\s+/g, ' ') !== old, held, { timeout: PATIENCE });
}

async function themes() {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole('button', { name: 'Dark colours' }).click();
  const dark = await ground();
  check(light !== dark, `${light} stays`);
  await page.reload();
  await page.locator('td').first().waitFor();
  check((await ground()) === dark, 'the choice is forgotten');
}

/** The page does not move while numbers come. */
async function steady() {
  await page.goto(at('/workloads'));
  await page.locator('td').first().waitFor();
  await page.waitForTimeout(500);
  await page.evaluate(() => {
    globalThis.moved = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (globalThis.moved += entry.value))).observe({ type: 'layout-shift' });
  });
  await page.waitForTimeout(6000);
  const moved = await page.evaluate(() => globalThis.moved);
  check(moved < 0.01, `the page moves while numbers come: ${moved}`);
}

/** The tap by its filters: failures that are kept, held rows that wait, a line that is chosen by keyboard, a filter that is a link. */
async function tapped() {
  // Of the only namespace, as no other could be meant.
  await page.goto(at('/live'));
  await page.locator('table.tap tr.opens').first().waitFor();
  check((await text(page, 'main')).includes('has no sidecar'), 'what is not watched is not told');
  await page.locator('.head .tag', { hasText: 'beyond 100/s not shown' }).waitFor();
  await page.getByRole('button', { name: 'Failed only' }).click();
  await page.locator('table.tap .tag', { hasText: 'kept' }).first().waitFor();
  check(param('failed') === '1', page.url());
  check((await page.locator('table.tap tr.opens').count()) === (await page.locator('table.tap tr.failed').count()), 'a line that did not fail');
  await page.goto(at('/live?ns=bank&path=/bank.v1.Ledger'));
  await page.locator('table.tap tr.opens').first().waitFor();
  await page.keyboard.press('.');
  await page.locator('.head .waits').waitFor();
  const rows = await page.locator('table.tap tr').count();
  await page.waitForFunction(() => Number.parseInt(document.querySelector('.head .waits')?.textContent, 10) > 3, undefined, { timeout: PATIENCE });
  check((await page.locator('table.tap tr').count()) === rows, 'rows come though they are held');
  await page.locator('td a.main').first().focus();
  await page.keyboard.press('Enter');
  // Every fifth request is forgotten: that is said, and what was told of it is there.
  await page.locator('.points-table tbody tr').first().waitFor();
  await page.goBack();
  await page.keyboard.press('.');
  await page.mouse.move(5, 5).then(() => page.locator('.head .waits').waitFor({ state: 'detached' }));
}

/** A failure at a glance: whose fault, what nobody can explain, the frames that were kept. */
async function blamed() {
  await page.goto(at('/requests/bank/payments-6d9f4-0/3'));
  await page.locator('.verdict.bad', { hasText: 'capacity is at fault: failfast' }).waitFor();
  check((await text(page, '.four')).includes('1 of which nobody can explain; the first appears at point ③'), await text(page, '.four'));
  check((await page.locator('td.unexplained').count()) === 1 && (await page.locator('td.documented').count()) === 1, 'differences are not told apart');
  await page.getByRole('button', { name: 'Only differences' }).click();
  check(param('only') === 'changed', page.url());
  check((await page.locator('.points-table th[scope="row"]').allInnerTexts()).join() === 'x-tenant,l5d-client-id', 'other fields are shown');
  await page.locator('table.frames', { hasText: 'RST_STREAM' }).waitFor();
  check((await text(page, '.facts-line')).includes('kept when it failed'), await text(page, '.facts-line'));
}

/** What the mesh says is text, whatever is in it. */
async function harmless() {
  for (const path of ['/live?view=paths', '/live?ns=bank']) {
    await page.goto(at(path));
    await page.locator('code', { hasText: '<img src=x onerror=alert(1)>' }).first().waitFor();
  }
  check((await page.locator('main img').count()) === 0, 'a path became an element');
}

try {
  for (const step of [map, search, keys, live, tapped, blamed, themes, steady, harmless]) await step();
  check(wrong.length === 0, wrong.join('\n'));
} finally {
  await browser.close();
}
console.log('use: well');
