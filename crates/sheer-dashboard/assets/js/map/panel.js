// What is known of the node or edge that is chosen.
import { html } from '../lib/dom.js';
import { A, change, link, pageOf } from '../lib/address.js';
import * as format from '../lib/format.js';
import { levelOfSuccess } from '../lib/health.js';
import { Who } from '../parts/columns.js';
import { Mark, Mtls, Tls } from '../parts/marks.js';

const Row = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;

function Golden({ numbers }) {
  if (!numbers.requests) {
    return html`<dl class="facts">
      <${Row} name="Requests">none<//><${Row} name="Connections">${format.count(numbers.tcp_open)} open<//>
      <${Row} name="Read / written">${format.bps(numbers.read_bps)} / ${format.bps(numbers.write_bps)}<//></dl>`;
  }
  return html`<dl class="facts">
    <${Row} name="Requests">${format.rate(numbers.rps)}/s<//>
    <${Row} name="Success">${format.percent(numbers.success)}<//>
    <${Row} name="p50 / p95 / p99">${[numbers.p50, numbers.p95, numbers.p99].map(format.ms).join(' · ')}<//>
    ${numbers.retries > 0 && html`<${Row} name="Retries">${format.count(numbers.retries)}<//>`}
    <${Row} name="mTLS"><${Mtls} share=${numbers.mtls} /><//>
  </dl>`;
}

function Near({ title, edges, end }) {
  if (!edges.length) return null;
  return html`<h3>${title}</h3><ul class="near">${edges.map((edge) => html`<li key=${edge.id}>
    <${Mark} level=${edge.level} /><button type="button" class="plain" onClick=${() => change({ sel: edge[end] })}>${format.parts(edge[end]).name}</button>
    <span class="num">${edge.idle ? 'idle' : edge.numbers.requests ? `${format.rate(edge.numbers.rps)}/s` : 'tcp'}</span></li>`)}</ul>`;
}

function OfNode({ node, graph, onFocusOn }) {
  const page = pageOf(node.id);
  const calls = graph.edges.filter((edge) => edge.source === node.id);
  const called = graph.edges.filter((edge) => edge.destination === node.id);
  return html`<header><h2><${Mark} level=${node.level} /> ${node.name}</h2><p class="muted">${node.outside ? node.kind : `${node.kind} in ${node.namespace}`}</p></header>
    ${!node.outside && html`<${Golden} numbers=${node.numbers} /><dl class="facts">
      <${Row} name="Pods">${node.ready} of ${node.pods} ready<//>
      <${Row} name="Sidecars">${node.meshed === node.pods ? 'all' : node.meshed === 0 ? html`<span class="warn">none: what it sends is plaintext</span>` : `${node.meshed} of ${node.pods}`}<//></dl>`}
    <p class="do">${page && html`<${A} class="control" to=${link(page)}>Open<//>`}
      <button type="button" class="control" onClick=${() => onFocusOn(node.id)}>Only its neighbours</button></p>
    <${Near} title="Called by" edges=${called} end="source" /><${Near} title="Calls" edges=${calls} end="destination" />`;
}

function OfEdge({ edge }) {
  return html`<header><h2><${Mark} level=${edge.level} label=${levelOfSuccess(edge.numbers.success)} /> ${format.parts(edge.source).name} → ${format.parts(edge.destination).name}</h2>
      <p class="muted"><${Who} id=${edge.source} /> to <${Who} id=${edge.destination} /></p></header>
    <${Golden} numbers=${edge.numbers} /><dl class="facts">
      <${Row} name="Protocol">${edge.protocols.join(', ') || '–'}<//>
      <${Row} name="Service">${edge.services.join(', ') || 'its own address'}<//>
      <${Row} name="Secured by"><${Tls} tls=${edge.tls} /><//>
      ${edge.why_plain.map((why) => html`<${Row} name="Why"><span class="warn">${why}</span><//>`)}
      <${Row} name="Client"><code>${format.identity(edge.source_identity)}</code><//>
      <${Row} name="Server"><code>${format.identity(edge.destination_identity)}</code><//>
      <${Row} name="Last seen">${format.ago(edge.last_seen_ms)}<//></dl>`;
}

export function Panel({ graph, chosen, onFocusOn, onClose }) {
  const node = graph.nodes.get(chosen);
  const edge = node ? null : graph.edges.find((edge) => edge.id === chosen);
  if (!node && !edge) return null;
  return html`<aside class="panel" aria-label="What is chosen" tabindex="0">
    <button type="button" class="control icon close" aria-label="Close" title="Close (Esc)" onClick=${onClose}>×</button>
    ${node ? html`<${OfNode} node=${node} graph=${graph} onFocusOn=${onFocusOn} />` : html`<${OfEdge} edge=${edge} />`}
  </aside>`;
}
