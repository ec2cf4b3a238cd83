// A page in headless Chromium that notes everything that goes wrong in it.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.SHEER_NODE_MODULES}/`);
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const WIDE = { width: 1440, height: 900 };
export const NARROW = { width: 390, height: 844 };
/** Patience with anything that should happen. */
export const PATIENCE = 20_000;

/** Chromium; its sandbox needs namespaces that root does not get in a container. */
export const start = () => chromium.launch({ executablePath: process.env.SHEER_CHROMIUM, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });

/** A tab; `wrong` collects errors of its console, exceptions, and requests that left loopback. */
export async function tab(browser, { viewport = WIDE, theme = 'light' } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: theme, reducedMotion: 'reduce', timezoneId: 'UTC' });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && wrong.push(`console: ${message.text()} (${message.location().url})`));
  page.on('pageerror', (error) => wrong.push(`exception: ${error.stack ?? error}`));
  page.on('request', (request) => new URL(request.url()).hostname === '127.0.0.1' || wrong.push(`request to ${request.url()}`));
  return { page, wrong, close: () => context.close() };
}

/** What axe finds that is serious or critical, one line each. */
export async function inaccessible(page) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = result.violations.filter((violation) => ['serious', 'critical'].includes(violation.impact));
  return serious.map((violation) => `${violation.id}: ${violation.help}: ${violation.nodes.slice(0, 3).map((node) => `${node.target} (${node.failureSummary?.split('\n')[1]?.trim()})`).join(' | ')}`);
}

export function check(condition, message) {
  if (!condition) throw new Error(message);
}

/** The text of an element, without runs of blanks. */
export const text = async (page, selector) => (await page.locator(selector).first().evaluate((element) => element.innerText ?? element.textContent)).replace(/\s+/g, ' ');
