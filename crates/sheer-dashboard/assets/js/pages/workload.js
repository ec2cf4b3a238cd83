// One workload: how it does over time, with whom it talks, its pods, what its proxies hold.
import { html } from '../lib/dom.js';
import { A, link } from '../lib/address.js';
import * as format from '../lib/format.js';
import { levelOf, levelOfSuccess } from '../lib/health.js';
import { useAsked, useLive } from '../lib/live.js';
import { Chart } from '../parts/chart.js';
import { Endings, numbers, tls, Who } from '../parts/columns.js';
import { Mark, Mtls } from '../parts/marks.js';
import { Empty, Note, Page } from '../parts/messages.js';
import { Table } from '../parts/table.js';

const Tile = ({ name, children, unit }) => html`<div><dt>${name}</dt><dd>${children}${unit && html`<small> ${unit}</small>`}</dd></div>`;

function Tiles({ model }) {
  const { numbers } = model;
  const level = levelOfSuccess(numbers.success);
  return html`<dl class="tiles">
    <${Tile} name=${model.direction === 'out' ? 'Success of what it sends' : 'Success'}><span class=${level === 'good' ? '' : level}>${format.percent(numbers.success)}</span><//>
    <${Tile} name="Requests" unit="/s">${format.rate(numbers.rps)}<//>
    <${Tile} name="p50">${format.ms(numbers.p50)}<//><${Tile} name="p95">${format.ms(numbers.p95)}<//><${Tile} name="p99">${format.ms(numbers.p99)}<//>
    <${Tile} name="mTLS"><${Mtls} share=${numbers.mtls} /><//>
    <${Tile} name="Connections">${format.count(numbers.tcp_open)}<//>
    <${Tile} name="Read">${format.bps(numbers.read_bps)}<//><${Tile} name="Written">${format.bps(numbers.write_bps)}<//>
    <${Tile} name="Pods" unit=${`of ${model.pods_total}`}>${model.ready}<//>
  </dl>`;
}

const PALETTE = ['accent', 'share-callee', 'warn-fill', 'share-network', 'bad-fill', 'share-application'];
const DASHES = [undefined, [6, 3], [2, 2], [9, 3, 2, 3], [4, 4], [1, 3]];
const perSecond = (value) => `${format.rate(value)}/s`;

function Charts({ model }) {
  const { inbound, outbound } = model;
  const sent = outbound.length > 0;
  if (!inbound) return null;
  return html`<div class="columns three">
    <${Chart} title="Requests" at=${inbound.at} show=${perSecond} lines=${[
      { label: 'all', colour: 'accent', values: inbound.rps, filled: true },
      { label: 'failed', colour: 'bad-fill', values: inbound.failing, width: 2 },
    ]} />
    <${Chart} title="Latency" at=${inbound.at} show=${format.ms} lines=${[
      { label: 'p50', colour: 'share-application', values: inbound.p50 },
      { label: 'p95', colour: 'accent', values: inbound.p95 },
      { label: 'p99', colour: 'warn-fill', values: inbound.p99, dash: [5, 3] },
    ]} />
    <${Chart} title="Bytes" at=${inbound.at} show=${format.bps} lines=${[
      { label: 'read', colour: 'accent', values: inbound.read },
      { label: 'written', colour: 'share-callee', values: inbound.written, dash: [5, 3] },
    ]} />
    ${sent && html`<${Chart} title="Calls, by service" at=${outbound[0].at} show=${perSecond} lines=${outbound.map((line, i) => ({
      label: format.parts(line.name).name, colour: PALETTE[i], dash: DASHES[i], values: line.rps,
    }))} />
    <${Chart} title="Latency of calls (p95)" at=${outbound[0].at} show=${format.ms} lines=${outbound.map((line, i) => ({
      label: format.parts(line.name).name, colour: PALETTE[i], dash: DASHES[i], values: line.p95,
    }))} />
    <${Chart} title="Failed calls" at=${outbound[0].at} show=${perSecond} lines=${outbound.map((line, i) => ({
      label: format.parts(line.name).name, colour: PALETTE[i], dash: DASHES[i], values: line.failing,
    }))} />`}
  </div>`;
}

const edgeColumns = (end, title) => [
  { id: 'level', title: '', kind: 'sign', cell: (edge) => html`<${Mark} level=${edge.idle ? 'none' : levelOfSuccess(edge.numbers.success)} />` },
  { id: 'who', title, value: (edge) => edge[end], cell: (edge) => html`<${Who} id=${edge[end]} />` },
  { id: 'protocol', title: 'Protocol', value: (edge) => edge.protocols.join(), cell: (edge) => edge.protocols.join(', ') || '–' },
  ...numbers().slice(0, 4),
  tls(),
];
const CALLED_BY = edgeColumns('source', 'Called by');
const CALLS = edgeColumns('destination', 'Calls');

const PODS = [
  { id: 'pod', title: 'Pod', value: (pod) => pod.name, cell: (pod) => html`<${Mark} level=${pod.ready ? 'good' : 'bad'} label=${pod.ready ? 'ready' : 'not ready'} /> ${' '}<code>${pod.name}</code>` },
  ...numbers(),
  { id: 'proxy', title: 'Proxy', value: (pod) => pod.proxy?.version ?? null, cell: (pod) => (pod.proxy ? pod.proxy.version : pod.meshed ? html`<span class="warn">does not report</span>` : html`<span class="warn">no sidecar</span>`) },
  { id: 'since', title: 'Up', number: true, value: (pod) => pod.proxy?.started_ms ?? null, cell: (pod) => (pod.proxy?.started_ms ? format.age(Date.now() - pod.proxy.started_ms) : '–') },
  { id: 'certificate', title: 'Certificate ends in', number: true, value: (pod) => pod.proxy?.certificate_not_after ?? null, cell: (pod) => certificate(pod.proxy) },
  { id: 'heard', title: 'Heard of', number: true, value: (pod) => pod.proxy?.last_seen_ms ?? null, cell: (pod) => heard(pod.proxy) },
];

function certificate(proxy) {
  if (!proxy?.certificate_not_after) return html`<span class="muted">none</span>`;
  const left = proxy.certificate_not_after * 1000 - Date.now();
  return html`<span class=${left < 0 ? 'bad' : left < 3600e3 ? 'warn' : ''}>${left < 0 ? 'ended' : format.age(left)}</span>`;
}

function heard(proxy) {
  if (!proxy) return html`<span class="muted">–</span>`;
  return html`<span class=${proxy.connected ? '' : 'bad'}>${proxy.connected ? '' : 'gone, '}${format.ago(proxy.last_seen_ms)}</span>`;
}

/** Rules at the ports, as policy and this page show them. */
export function Ports({ ports, named = false }) {
  return html`<div class="scroll" role="region" aria-label="Ports" tabindex="0"><table>
    <thead><tr>${named && html`<th scope="col">Workload</th>`}<th scope="col" class="n">Port</th><th scope="col">Server</th><th scope="col">Let in</th><th scope="col">Limit</th><th scope="col">Routes</th></tr></thead>
    <tbody>${ports.map((port) => html`<tr key=${`${port.workload}:${port.port}:${port.server}`}>
      ${named && html`<td><${Who} id=${port.workload} />${port.pods > 1 && html` <span class="sub">×${port.pods}</span>`}</td>`}
      <td class="n">${port.port}</td><td>${port.server || '–'} <span class="sub">${port.protocol}</span></td>
      <td class="wrap">${port.authorizations.length ? port.authorizations.map((text) => html`<div key=${text}>${text}</div>`) : html`<span class="warn">nobody</span>`}</td>
      <td>${port.rate_limit || html`<span class="muted">–</span>`}</td>
      <td class="wrap">${port.routes.map((rule) => html`<div key=${rule.route + rule.matches}>${rule.route} <span class="sub">${rule.matches} ${rule.actions}</span></div>`)}</td></tr>`)}</tbody>
  </table></div>`;
}

function Endpoints({ targets }) {
  const rows = targets.flatMap((target) => (target.endpoints.length ? target.endpoints.map((endpoint, i) => ({ target, endpoint, first: i === 0 })) : [{ target, endpoint: null, first: true }]));
  return html`<div class="scroll" role="region" aria-label="Endpoints" tabindex="0"><table>
    <thead><tr><th scope="col">Destination</th><th scope="col">Endpoint</th><th scope="col">Pod</th><th scope="col">State</th><th scope="col" class="n">Expected</th><th scope="col" class="n">Under way</th><th scope="col">Identity</th></tr></thead>
    <tbody>${rows.map(({ target, endpoint, first }) => html`<tr key=${target.address + (endpoint?.address ?? '')}>
      <td>${first && html`${target.name} <span class="sub">${target.protocol}</span>`}</td>
      ${endpoint
        ? html`<td><code>${endpoint.address}</code></td><td>${endpoint.pod || '–'}</td>
          <td><${Mark} level=${endpoint.ready ? 'good' : endpoint.breaker === 'closed' ? 'warn' : 'bad'} label=${endpoint.ready ? 'ready' : 'not ready'} /> ${' '}${endpoint.ready ? 'ready' : endpoint.why || 'not ready'}${endpoint.breaker !== 'closed' && html` <span class="tag bad">breaker ${endpoint.breaker}</span>`}</td>
          <td class="n">${format.ms(endpoint.rtt_ms)}</td><td class="n">${endpoint.pending}</td><td><code>${format.identity(endpoint.identity)}</code></td>`
        : html`<td colspan="6" class="muted">no endpoints known</td>`}</tr>`)}</tbody>
  </table></div>`;
}

function Holds({ of }) {
  const { data, problem } = useAsked('holds', { of }, 10_000);
  if (problem) return html`<section class="block"><header><h2>What its proxies hold</h2></header><${Empty} title=${problem.what}>${problem.todo}<//></section>`;
  if (!data) return null;
  return html`${data.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
    ${data.streams.filter((stream) => stream.closed.length).map((stream) => html`<${Note} key=${stream.pod} text=${`${stream.pod} has lost the control plane: ${stream.closed.join('; ')}`} />`)}
    ${data.ports.length > 0 && html`<section class="block"><header><h2>Inbound, by what its proxies hold</h2></header><${Ports} ports=${data.ports} /></section>`}
    ${data.targets.length > 0 && html`<section class="block"><header><h2>Outbound, by what its proxies hold</h2><span class="muted">of the first pod that knows each</span></header><${Endpoints} targets=${data.targets} /></section>`}`;
}

function Body({ model }) {
  const calledBy = model.edges.filter((edge) => edge.destination === model.id);
  const calls = model.edges.filter((edge) => edge.source === model.id);
  const none = (text) => html`<${Empty} title="Nothing">${text}<//>`;
  return html`<div class="head"><h1><${Mark} level=${levelOf({ ...model, pods: model.pods_total })} />${model.name}</h1>
      <span class="muted">${model.kind} in ${model.namespace}</span>${model.protocols.map((name) => html`<span key=${name} class="tag">${name}</span>`)}
      <span class="right"><${A} class="control" to=${link('/map', { focus: model.id, sel: model.id })}>On the map<//><${A} class="control" to=${link('/traces', { service: `${model.namespace}/${model.name}` })}>Traces<//>
      <${A} class="control" to=${link('/live', { of: model.id })}>Live<//></span></div>
    ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
    <${Tiles} model=${model} />
    <${Charts} model=${model} />
    ${model.endings.some((ending) => !ending.success) && html`<section class="block"><header><h2>How requests failed</h2><span class="muted"><${Endings} endings=${model.endings} /></span></header></section>`}
    <div class="columns">
      <section class="block"><header><h2>Called by</h2></header><${Table} label="Called by" name="in" columns=${CALLED_BY} rows=${calledBy} by=${(edge) => edge.id ?? edge.source} first="-rps" empty=${none('Nobody has called it within this time.')} /></section>
      <section class="block"><header><h2>Calls</h2></header><${Table} label="Calls" name="out" columns=${CALLS} rows=${calls} by=${(edge) => edge.destination} first="-rps" empty=${none('It has called nobody within this time.')} /></section>
    </div>
    <section class="block"><header><h2>Pods</h2></header><${Table} label="Pods" name="pods" columns=${PODS} rows=${model.pods} by=${(pod) => pod.name} first="pod" empty=${none('No pod of it runs.')} /></section>
    <${Holds} of=${model.id} />`;
}

export default function Workload({ of, window }) {
  const live = useLive('workload', { of, window });
  return html`<${Page} live=${live}>${(model) => html`<${Body} model=${model} />`}<//>`;
}
