// Routes, rule by rule, with what went over each.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { levelOfSuccess } from '../lib/health.js';
import { useLive } from '../lib/live.js';
import { Endings } from '../parts/columns.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Page, Place, Words } from '../parts/messages.js';

const refused = (route) => route.parents.flatMap((parent) => parent.conditions.filter((condition) => condition.status !== (condition.kind !== 'PartiallyInvalid')).map((condition) => ({ parent, condition })));

const HEAD = html`<th scope="col" class="n">Req/s</th><th scope="col" class="n">Success</th><th scope="col" class="n" title="Of attempts at endpoints, before retries">Actual</th>
  <th scope="col" class="n">Retries</th><th scope="col" class="n">p50</th><th scope="col" class="n">p95</th><th scope="col" class="n">p99</th><th scope="col">Failed as</th>`;

/** A line of numbers, after a name. */
function Line({ rule, children }) {
  const { numbers } = rule;
  const level = levelOfSuccess(numbers.success);
  const retried = numbers.actual_success !== null;
  return html`<tr><td class="sign"><${Mark} level=${level} /></td><td class="cut">${children}</td>
    <td class="n">${format.rate(numbers.rps)}</td><td class="n"><span class=${level === 'good' || level === 'none' ? '' : level}>${format.percent(numbers.success)}</span></td>
    <td class="n">${retried ? format.percent(numbers.actual_success) : '–'}</td><td class="n">${retried ? format.count(numbers.retries) : '–'}</td>
    <td class="n">${format.ms(numbers.p50)}</td><td class="n">${format.ms(numbers.p95)}</td><td class="n">${format.ms(numbers.p99)}</td><td><${Endings} endings=${rule.endings} /></td></tr>`;
}

function Lines({ label, first, children }) {
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0"><table><thead><tr><th scope="col" class="sign"><span class="hidden-but-read">State</span></th><th scope="col">${first}</th>${HEAD}</tr></thead>
    <tbody>${children}</tbody></table></div>`;
}

function Route({ route }) {
  const wrong = refused(route);
  return html`<section class="block"><header><h2>${wrong.length > 0 && html`<${Mark} level="bad" label="not accepted" /> `}<span class="muted">${route.kind}</span> ${route.namespace && `${route.namespace}/`}${route.name}</h2>
      ${route.parents.length > 0 && html`<span class="muted">of ${route.parents.map((parent) => parent.name).join(', ')}</span>`}
      ${route.place && html`<span class="right"><${Place} text=${route.place} /></span>`}</header>
    ${wrong.map(({ parent, condition }) => html`<div class="inside" key=${parent.name + condition.kind}><div class="note"><${Mark} level="warn" label="not honoured" />
      <span><strong>${condition.reason}</strong> ${condition.field && html`<code>${condition.field}</code> `}<${Words} text=${condition.message} /></span></div></div>`)}
    ${route.rules.length
      ? html`<${Lines} label=${`Rules of ${route.name}`} first="Rule">${route.rules.map((rule) => html`<${Line} key=${rule.name} rule=${rule}><code>${rule.name || 'every request'}</code><//>`)}<//>`
      : html`<p class="inside muted">Nothing went over it within this time.</p>`}</section>`;
}

/** What no route of a user takes: one line each. */
function Unrouted({ routes }) {
  const lines = routes.flatMap((route) => route.rules.map((rule) => ({ route, rule })));
  return html`<section class="block"><header><h2>Without a route</h2><span class="muted">goes to the Service that it addresses</span></header>
    <${Lines} label="Without a route" first="Service">${lines.map(({ route, rule }) => html`<${Line} key=${route.id + rule.name} rule=${rule}><span class="sub">${route.namespace && `${route.namespace}/`}</span>${route.name}
      ${rule.name && rule.name !== 'default' && html` <code class="muted">${rule.name}</code>`}<//>`)}<//></section>`;
}

const isWritten = (route) => /route$/i.test(route.kind);

export default function Routes({ window }) {
  const { params } = useAddress();
  const live = useLive('routes', { ns: params.ns, window });
  const words = (params.q ?? '').toLowerCase().split(/\s+/);
  return html`<${Page} live=${live}>${(model) => {
    const shown = model.routes.filter((route) => words.every((word) => `${route.kind} ${route.id} ${route.parents.map((parent) => parent.name)}`.toLowerCase().includes(word)));
    return html`<div class="head"><h1>Routes</h1><span class="muted num">${shown.length} of ${model.routes.length}</span>
        <span class="right"><span class="search"><input type="search" class="control" placeholder="Search" aria-label="Search routes" value=${params.q ?? ''} onInput=${(event) => change({ q: event.target.value }, { replace: true })} /><kbd>/</kbd></span></span></div>
      ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
      ${shown.length
        ? html`${shown.filter(isWritten).map((route) => html`<${Route} key=${route.id} route=${route} />`)}
            ${shown.some((route) => !isWritten(route)) && html`<${Unrouted} routes=${shown.filter((route) => !isWritten(route))} />`}`
        : html`<section class="block"><${Empty} title=${model.routes.length ? 'No route is like that' : 'There are no routes'}>${model.routes.length
            ? 'Search for another name.'
            : 'Requests go to the Service that they address. An HTTPRoute or GRPCRoute with a Service as its parent splits, changes or retries them; docs/traffic.md shows how.'}<//></section>`}`;
  }}<//>`;
}
