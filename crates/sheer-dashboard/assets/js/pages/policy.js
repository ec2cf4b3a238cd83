// What applies, what it denied, and what would become of one request.
import { html, useState } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useAsked, useLive } from '../lib/live.js';
import { Who } from '../parts/columns.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Page, Place, Problem } from '../parts/messages.js';
import { Table } from '../parts/table.js';
import { Ports } from './workload.js';

const DENIED = [
  { id: 'count', title: 'Requests', number: true, value: (row) => row.ending.count, cell: (row) => format.count(row.ending.count) },
  { id: 'reason', title: 'Reason', value: (row) => row.ending.reason, cell: (row) => html`<span class="tag bad">${row.ending.reason}</span>` },
  { id: 'source', title: 'Who asked', value: (row) => row.source, cell: (row) => html`<${Who} id=${row.source} /> ${row.source_identity ? html`<code class="muted">${format.identity(row.source_identity)}</code>` : html`<span class="tag warn">no identity</span>`}` },
  { id: 'destination', title: 'For', value: (row) => row.destination, cell: (row) => html`<${Who} id=${row.destination} /> <span class="sub">${row.service}</span>` },
  { id: 'status', title: 'Answered', value: (row) => row.ending.status, cell: (row) => row.ending.status },
  { id: 'seen', title: 'Last seen', number: true, value: (row) => row.last_seen_ms, cell: (row) => format.ago(row.last_seen_ms) },
];

const FORM = [
  ['from', 'From', 'deploy/web', '150px'],
  ['to', 'To', 'svc/ledger:8080', '170px'],
  ['method', 'Method', 'GET', '80px'],
  ['path', 'Path', '/', '200px'],
  ['header', 'Header', 'x-tenant: acme', '160px'],
];

const WELL = new Set(['forwarded', 'redirected', 'answered']);

function Explained({ answer }) {
  const level = WELL.has(answer.outcome) ? 'good' : 'bad';
  return html`<p class="outcome"><${Mark} level=${level} label=${answer.outcome} /><strong>${answer.outcome}</strong>
      ${answer.reason && html`<span class="tag bad">${[answer.status || '', answer.grpc_status !== null ? `gRPC ${answer.grpc_status}` : '', answer.reason].filter(Boolean).join(' · ')}</span>`}
      <span class="muted">${answer.source} → ${answer.destination}</span></p>
    <ol class="steps">${answer.decisions.map((step, i) => html`<li key=${i}><span class="stage">${step.stage}</span><div><strong>${step.choice}</strong> ${step.object && step.object !== step.choice && html`<span class="muted">${step.object}</span> `}
      ${step.place && html`<${Place} text=${step.place} />`}<div class="muted">${step.why}</div>
      ${step.losers.map((loser) => html`<div class="loser" key=${loser.what}>not ${loser.what}: ${loser.why}</div>`)}</div></li>`)}</ol>
    ${[...answer.differences, ...answer.notes].map((text) => html`<${Note} key=${text} text=${text} />`)}`;
}

function Ask({ params }) {
  const [draft, set] = useState({});
  const value = (name) => draft[name] ?? params[name] ?? '';
  const submit = (event) => {
    event.preventDefault();
    change(Object.fromEntries(FORM.map(([name]) => [name, value(name)])));
  };
  return html`<form class="form" onSubmit=${submit}>${FORM.map(([name, label, hint, width]) => html`<label key=${name}>${label}<input type="text" class="control" style=${{ width }} required=${name === 'from' || name === 'to'}
      value=${value(name)} placeholder=${hint} onInput=${(event) => set({ ...draft, [name]: event.target.value })} /></label>`)}
    <button type="submit" class="control main">Explain</button></form>`;
}

function Answer({ params }) {
  const { ns, from, to, method, path, header } = params;
  const { data, problem } = useAsked('explain', { ns, from, to, method, path, header }, 0);
  if (problem) return html`<${Problem} problem=${problem} />`;
  return data ? html`<${Explained} answer=${data} />` : html`<p class="muted">asking both proxies …</p>`;
}

export default function Policy({ window }) {
  const { params } = useAddress();
  const live = useLive('policy', { ns: params.ns, window });
  return html`<${Page} live=${live}>${(model) => {
    const denied = model.denied.reduce((sum, row) => sum + row.ending.count, 0);
    const words = (params.q ?? '').toLowerCase().split(/\s+/);
    const ports = model.ports.filter((port) => words.every((word) => `${port.workload} ${port.server} ${port.authorizations}`.toLowerCase().includes(word)));
    return html`<div class="head"><h1>Policy</h1><span class="muted num">${format.count(denied)} requests ended by policy, ${format.count(model.let_through)} let through</span></div>
      ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
      <section class="block"><header><h2>What it denied</h2></header><${Table} label="What policy denied" columns=${DENIED} rows=${model.denied} by=${(row) => [row.source, row.destination, row.service, row.ending.reason, row.ending.status].join(' ')} first="-count"
        empty=${html`<${Empty} title="Policy has ended no request within this time">Requests that an AuthorizationPolicy, a rate limit or a route refuses are listed here, with who asked.<//>`} /></section>
      <section class="block"><header><h2>What becomes of a request</h2><span class="muted">both proxies are asked; nothing is sent</span></header>
        <div class="inside ask"><${Ask} params=${params} />${params.from && params.to && html`<${Answer} params=${params} />`}</div></section>
      <section class="block"><header><h2>What applies</h2><span class="muted">by what the sidecars hold</span>
        <span class="right search"><input type="search" class="control" placeholder="Search" aria-label="Search ports" value=${params.q ?? ''} onInput=${(event) => change({ q: event.target.value }, { replace: true })} /><kbd>/</kbd></span></header>
        ${ports.length ? html`<${Ports} ports=${ports} named=${true} />` : html`<${Empty} title="No port is like that">Workloads without a sidecar have no policy.<//>`}</section>`;
  }}<//>`;
}
