// A table that is sorted by its address: `sort=-rps`.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';

function compare(a, b) {
  const [none, other] = [a === null || a === undefined, b === null || b === undefined];
  if (none || other) return none - other; // what was not measured comes last
  return typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b;
}

/** Rows in the order that `sort` names; `-` turns it round. */
export function sorted(rows, columns, sort) {
  const down = sort.startsWith('-');
  const column = columns.find((column) => column.id === sort.replace(/^-/, ''));
  if (!column?.value) return rows;
  const keyed = rows.map((row) => [column.value(row), row]);
  keyed.sort(([a], [b]) => (a === null || b === null || a === undefined || b === undefined ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
  return keyed.map(([, row]) => row);
}

function Heading({ column, sort, name }) {
  const here = sort.replace(/^-/, '') === column.id;
  const down = sort.startsWith('-');
  const kind = `${column.number ? 'n' : ''} ${column.kind === 'sign' ? 'sign' : ''}`;
  if (!column.value) return html`<th scope="col" class=${kind}>${column.title || html`<span class="hidden-but-read">State</span>`}</th>`;
  // Numbers are wanted largest first, names from A.
  const next = here ? (down ? column.id : `-${column.id}`) : column.number ? `-${column.id}` : column.id;
  const arrow = here ? (down ? '↓' : '↑') : '';
  return html`<th scope="col" class=${kind} aria-sort=${here ? (down ? 'descending' : 'ascending') : 'none'}>
    <button type="button" title=${column.help} onClick=${() => change({ [name]: next })}>
      ${column.number && html`<span class="arrow" aria-hidden="true">${arrow}</span>`}${column.title}${!column.number && html`<span class="arrow" aria-hidden="true">${arrow}</span>`}
    </button></th>`;
}

/** `columns`: `{ id, title, value?, cell, number?, help? }`. `name` is the parameter of the order, for pages with several tables. */
export function Table({ columns, rows, by, name = 'sort', first, empty, label, chosen, most = 500 }) {
  const sort = useAddress().params[name] ?? first;
  const order = sorted(rows, columns, sort);
  if (!rows.length) return empty;
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0"><table>
    <thead><tr>${columns.map((column) => html`<${Heading} key=${column.id} column=${column} sort=${sort} name=${name} />`)}</tr></thead>
    <tbody>${order.slice(0, most).map(
      (row) => html`<tr key=${by(row)} class=${`link ${chosen && chosen === by(row) ? 'chosen' : ''}`}>
        ${columns.map((column) => html`<td class=${`${column.number ? 'n' : ''} ${column.kind ?? ''}`}>${column.cell(row)}</td>`)}</tr>`,
    )}</tbody>
  </table></div>`;
}
