// Columns that many tables have.
import { html } from '../lib/dom.js';
import { A, link, pageOf } from '../lib/address.js';
import * as format from '../lib/format.js';
import { levelOfSuccess } from '../lib/health.js';
import { Mark, Mtls, TLS, Tls } from './marks.js';

/** A workload or peer, with its namespace in grey where that is not clear. */
export function Who({ id, plain = false }) {
  const { namespace, kind, name } = format.parts(id);
  const page = pageOf(id);
  const before = namespace && !plain ? html`<span class="sub">${namespace}/</span>` : '';
  if (!page) return html`<span>${before}${name}${kind !== 'pod' && kind !== 'svc' && html` <span class="tag">${kind}</span>`}</span>`;
  return html`<${A} class="main" to=${link(page)}>${before}${name}<//>`;
}

export const success = (of = (row) => row.numbers) => ({
  id: 'success',
  title: 'Success',
  number: true,
  help: 'Share of requests that went well',
  value: (row) => of(row).success,
  cell: (row) => {
    const level = levelOfSuccess(of(row).success);
    return html`<span class=${level === 'good' || level === 'none' ? '' : level}>${format.percent(of(row).success)}</span>`;
  },
});

export const level = (of) => ({
  id: 'level',
  title: '',
  kind: 'sign',
  cell: (row) => html`<${Mark} level=${of(row)} />`,
});

const one = (id, title, help, value, show) => ({ id, title, help, number: true, value, cell: (row) => show(value(row)) });

export const rps = (of = (row) => row.numbers) => one('rps', 'Req/s', 'Requests a second', (row) => of(row).rps, format.rate);
export const p50 = (of = (row) => row.numbers) => one('p50', 'p50', 'Half of the requests were answered within this', (row) => of(row).p50, format.ms);
export const p95 = (of = (row) => row.numbers) => one('p95', 'p95', '95 % of the requests were answered within this', (row) => of(row).p95, format.ms);
export const p99 = (of = (row) => row.numbers) => one('p99', 'p99', '99 % of the requests were answered within this', (row) => of(row).p99, format.ms);
export const numbers = () => [rps(), success(), p50(), p95(), p99()];

export const mtls = () => ({
  id: 'mtls',
  title: 'mTLS',
  number: true,
  help: 'Share of requests over mutual TLS',
  value: (row) => row.numbers.mtls,
  cell: (row) => html`<${Mtls} share=${row.numbers.mtls} />`,
});

export const tls = () => ({
  id: 'tls',
  title: 'Secured by',
  value: (row) => (TLS[row.tls] ?? TLS.unknown)[0],
  cell: (row) => html`<${Tls} tls=${row.tls} why=${row.why_plain.join('; ')} />`,
});

/** How requests ended, other than well. */
export function Endings({ endings, all = false }) {
  const shown = endings.filter((ending) => all || !ending.success);
  if (!shown.length) return html`<span class="muted">–</span>`;
  return html`<span>${shown.slice(0, 3).map(
    (ending) => html`<span class=${`tag ${ending.success ? '' : 'bad'}`} title=${`${ending.count} requests`}>${ending.status}${ending.reason && ` · ${ending.reason}`}</span> `,
  )}</span>`;
}
