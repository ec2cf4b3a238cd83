// The four views of a request, side by side.
import { Fragment, html } from '../lib/dom.js';
import { change } from '../lib/address.js';
import { Mark } from '../parts/marks.js';
import { Empty } from '../parts/messages.js';
import { POINTS, sections, verdictOf } from './points.js';

/** Values of a repeated field; many of them unfold. */
function Values({ values }) {
  const all = values.map((text, i) => html`<code key=${i} title=${text}>${text || ' '}</code>`);
  return values.length <= 4 ? all : html`<details><summary><code>${values[0]}</code> and ${values.length - 1} more</summary>${all}</details>`;
}

function Cell({ cell, row }) {
  const here = row.differences.filter((one) => one.first_seen_at >= cell.from && one.first_seen_at < cell.from + cell.span);
  const tone = here.length === 0 ? '' : here.some((one) => !one.documented) ? 'unexplained' : 'documented';
  const value = cell.values === undefined ? html`<span class="muted">?</span>` : cell.values === null ? html`<span class="muted">absent</span>` : html`<${Values} values=${cell.values} />`;
  return html`<td colspan=${cell.span} class=${`value ${tone} ${cell.values ? '' : 'none'}`}>${value}</td>`;
}

const Why = ({ one }) => html`<tr class="why"><td></td><td colspan="4"><span class=${`tag ${one.documented ? 'warn' : 'bad'}`}>${one.documented ? 'documented' : 'unexplained'}</span> ${one.field === 'order' ? 'the order differs' : ''} at ${POINTS[one.first_seen_at - 1]?.[0] ?? one.first_seen_at}: ${one.why}</td></tr>`;

function Section({ section }) {
  return html`<tbody><tr class="part"><th scope="rowgroup" colspan="5">${section.title}</th></tr>
    ${section.order.map((one, i) => html`<${Why} key=${`order ${i}`} one=${one} />`)}
    ${section.rows.map((row) => html`<${Fragment} key=${row.name}><tr><th scope="row"><code>${row.name}</code></th>${row.cells.map((cell) => html`<${Cell} key=${cell.from} cell=${cell} row=${row} />`)}</tr>
      ${row.differences.map((one, i) => html`<${Why} key=${i} one=${one} />`)}<//>`)}</tbody>`;
}

const LABELS = { good: 'explained', warn: 'not known', bad: 'unexplained' };

export function Diff({ diff, params }) {
  const changed = params.only === 'changed';
  const told = verdictOf(diff);
  const shown = sections(diff, changed);
  return html`<section class="block four"><header><h2>At the four points</h2>
      <span class=${`told ${told.level}`}><${Mark} level=${told.level} label=${LABELS[told.level]} />${told.text}</span>
      <span class="right"><button type="button" class="control" aria-pressed=${changed} onClick=${() => change({ only: changed ? '' : 'changed' }, { replace: true })}>Only differences</button></span></header>
    <div class="scroll" role="region" aria-label="The request at the four points" tabindex="0"><table class="points-table"><thead><tr><th scope="col">Field</th>
      ${POINTS.map(([sign, words], i) => html`<th key=${sign} scope="col"><b>${sign}</b> ${words}<span class="sub">${diff.points[i + 1]?.missing || diff.points[i + 1]?.protocol || 'not known'}</span></th>`)}</tr></thead>
      ${shown.map((section) => html`<${Section} key=${section.part} section=${section} />`)}</table></div>
    ${!shown.length && html`<${Empty} title=${changed ? 'No field differs' : 'Nothing is known of its fields'}>${changed ? 'Show all fields to read them.' : 'Its proxies have forgotten them.'}<//>`}</section>`;
}
