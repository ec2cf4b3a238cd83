// Small signs: how something is, what secures a connection.
import { html } from '../lib/dom.js';
import { LEVELS } from '../lib/health.js';

const SHAPES = {
  good: html`<circle cx="5" cy="5" r="4.2" />`,
  warn: html`<path d="M5 .6 9.7 9.2H.3Z" />`,
  bad: html`<path d="M1 1h8v8H1Z" />`,
  none: html`<circle cx="5" cy="5" r="3.6" />`,
};

/** A circle is well, a triangle warns, a square is bad, a ring has nothing to say. */
export function Mark({ level, label }) {
  return html`<svg class=${`mark ${level}`} viewBox="0 0 10 10" role="img" aria-label=${label ?? LEVELS[level]}>${SHAPES[level]}</svg>`;
}

const CLOSED = html`<path d="M2.5 5.5h7v5h-7zM4 5.5V4a2 2 0 0 1 4 0v1.5" />`;
const OPEN = html`<path d="M2.5 5.5h7v5h-7zM4 5.5V3.4a2 2 0 0 1 3.9-.6" />`;
export const TLS = {
  mutual: ['mTLS', '', CLOSED],
  opaque: ["the application's TLS", 'muted', CLOSED],
  plain: ['plaintext', 'warn', OPEN],
  mixed: ['partly mTLS', 'warn', OPEN],
  loopback: ['within the pod', 'muted', CLOSED],
  unknown: ['unknown', 'muted', OPEN],
};

export function Tls({ tls, why }) {
  const [text, tone, path] = TLS[tls] ?? TLS.unknown;
  return html`<span class=${`tls ${tone}`} title=${why || text}><svg viewBox="0 0 12 12" aria-hidden="true">${path}</svg>${text}</span>`;
}

/** Share of mTLS as a number. */
export function Mtls({ share }) {
  if (share === null || share === undefined) return html`<span class="muted">–</span>`;
  const tls = share === 1 ? 'mutual' : share === 0 ? 'plain' : 'mixed';
  const [, tone, path] = TLS[tls];
  const text = share === 1 ? '100 %' : `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
  return html`<span class=${`tls ${tone}`}><svg viewBox="0 0 12 12" aria-hidden="true">${path}</svg>${text}</span>`;
}
