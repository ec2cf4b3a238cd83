// What is well: one rule for every page.

/** Shares of requests that went well below which something warns, and is bad. */
const WARN = 0.99;
const BAD = 0.95;

export const LEVELS = { good: 'well', warn: 'degraded', bad: 'failing', none: 'no requests' };

export function levelOfSuccess(success) {
  if (success === null || success === undefined) return 'none';
  if (success >= WARN) return 'good';
  return success >= BAD ? 'warn' : 'bad';
}

/** A workload: its requests, and whether its pods are ready. */
export function levelOf(node) {
  if (node.pods > 0 && node.ready === 0) return 'bad';
  const level = levelOfSuccess(node.numbers.success);
  if (node.pods > node.ready && level !== 'bad') return 'warn';
  return level;
}

/** Worst first. */
export const WEIGHT = { bad: 0, warn: 1, good: 2, none: 3 };
