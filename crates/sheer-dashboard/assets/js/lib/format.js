// Numbers as people read them: few digits, the same width from one moment to the next.

const NONE = '–';
const plain = (digits) => new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
const [WHOLE, ONE, TWO] = [0, 1, 2].map(plain);

const few = (value) => (value >= 100 ? WHOLE : value >= 10 ? ONE : TWO).format(value);

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return '0';
  if (value < 0.005) return '<0.01';
  if (value >= 1e6) return `${few(value / 1e6)}M`;
  if (value >= 1e4) return `${few(value / 1e3)}k`;
  return few(value);
}

export const count = (value) => (value >= 1e7 ? `${few(value / 1e6)}M` : WHOLE.format(value ?? 0));

/** From 0 to 1; never says 100 % of what is a little less. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  if (share === 1) return '100 %';
  const value = Math.floor(share * 1e4) / 100;
  return `${TWO.format(value)} %`;
}

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 1e5) return `${WHOLE.format(value / 1e3)} s`;
  if (value >= 1e3) return `${TWO.format(value / 1e3)} s`;
  if (value < 0.01) return value === 0 ? '0 ms' : '<0.01 ms';
  return `${few(value)} ms`;
}

export const us = (value) => ms(value / 1e3);

export function bytes(value) {
  if (!value) return '0 B';
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, value)) / 10));
  const scaled = value / 1024 ** unit;
  return `${unit === 0 ? WHOLE.format(scaled) : few(scaled)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}

export const bps = (value) => `${bytes(value)}/s`;

/** How long, from milliseconds: `12 s`, `3 min`, `5 h`, `12 d`. */
export function age(milliseconds) {
  const s = Math.max(0, milliseconds) / 1e3;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export const ago = (at_ms, now_ms = Date.now()) => (at_ms ? `${age(now_ms - at_ms)} ago` : 'never');

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const clock = (at_ms) => CLOCK.format(at_ms);

/** The time of day of a moment as RFC 3339 has it, in UTC, to the millisecond: as proxies and their commands tell it. */
export const moment = (time) => time.slice(11, 23);

const GRPC = ['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'];
/** A status of gRPC as it calls it. */
export const grpc = (code) => GRPC[code] ?? `code ${code}`;

/** `web.bank.serviceaccount.identity.…` as operators know it. */
export function identity(name) {
  return name ? name.replace(/\.serviceaccount\.identity\..*$/, '') : NONE;
}

/** Parts of `bank/deploy/ledger`. */
export function parts(id) {
  const [namespace, kind, ...name] = id.split('/');
  return { namespace, kind, name: name.join('/') || (kind === 'other' ? 'others' : kind) };
}
