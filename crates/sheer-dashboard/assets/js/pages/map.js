// The map of who calls whom, and the same as a table.
import { html, useCallback, useMemo, useRef, useState } from '../lib/dom.js';
import { address, change, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useKeys } from '../lib/keys.js';
import { useLive } from '../lib/live.js';
import { Canvas } from '../map/canvas.js';
import { around, graphOf, matching } from '../map/graph.js';
import { Panel } from '../map/panel.js';
import { useLayout } from '../map/use-layout.js';
import { level, numbers, tls, Who } from '../parts/columns.js';
import { Mark } from '../parts/marks.js';
import { Empty, Page } from '../parts/messages.js';
import { Table } from '../parts/table.js';

const EDGES = [
  level((edge) => edge.level),
  { id: 'source', title: 'From', value: (edge) => edge.source, cell: (edge) => html`<${Who} id=${edge.source} />` },
  { id: 'destination', title: 'To', value: (edge) => edge.destination, cell: (edge) => html`<${Who} id=${edge.destination} />` },
  { id: 'protocol', title: 'Protocol', value: (edge) => edge.protocols.join(), cell: (edge) => edge.protocols.join(', ') || '–' },
  ...numbers(),
  tls(),
  { id: 'identity', title: 'Identities', cell: (edge) => html`<code>${format.identity(edge.source_identity)} → ${format.identity(edge.destination_identity)}</code>` },
  { id: 'seen', title: 'Last seen', number: true, value: (edge) => edge.last_seen_ms, cell: (edge) => format.ago(edge.last_seen_ms) },
];

const NOTHING = html`<${Empty} title="Nothing has been called yet">Workloads appear here as soon as their proxies report; arrows, with the first request. Send one, as
  <code>sheer exec deploy/web -- curl http://ledger:8080/</code>, or start the sample with <code>sheer demo</code>.<//>`;

function Search({ value, found, total, onEnter }) {
  return html`<div class="search"><input type="search" class="control" placeholder="Search workloads" aria-label="Search workloads" value=${value}
    onInput=${(event) => change({ q: event.target.value }, { replace: true })}
    onKeyDown=${(event) => event.key === 'Enter' && onEnter()} /><kbd>/</kbd></div>
    ${found && html`<span class="muted num" role="status">${found.size} of ${total}</span>`}`;
}

function Legend() {
  const line = (kind, text) => html`<li><svg class="map legend-line" viewBox="0 0 26 8" aria-hidden="true"><g class=${`edge ${kind}`}><path class="line" d="M1 4H25" stroke-width="1.75" /></g></svg>${text}</li>`;
  return html`<ul class="legend" aria-label="Signs">
    <li><${Mark} level="good" />≥ 99 %</li><li><${Mark} level="warn" />≥ 95 %</li><li><${Mark} level="bad" />below</li><li><${Mark} level="none" />no requests</li>
    ${line('mutual', 'mTLS')}${line('plain', 'plaintext')}${line('opaque', 'own TLS')}
  </ul>`;
}

function Tools({ graph, total, found, params, control, onEnter }) {
  const { view, focus, hops = '1' } = params;
  return html`<div class="tools">
    <${Search} value=${params.q ?? ''} found=${found} total=${total} onEnter=${onEnter} />
    ${focus && html`<span class="tag accent">around ${format.parts(focus).name}</span>
      <select class="control" aria-label="Steps" value=${hops} onChange=${(event) => change({ hops: event.target.value })}>
        ${['1', '2', '3'].map((n) => html`<option value=${n} selected=${n === hops}>${n} step${n === '1' ? '' : 's'}</option>`)}</select>
      <button type="button" class="control" onClick=${() => change({ focus: '', hops: '' })}>All ${total}</button>`}
    <span class="right">
      ${view !== 'table' && html`<button type="button" class="control icon" aria-label="Closer" title="Closer (+)" onClick=${() => control.current?.zoom(1.3)}>+</button>
        <button type="button" class="control icon" aria-label="Further" title="Further (−)" onClick=${() => control.current?.zoom(1 / 1.3)}>−</button>
        <button type="button" class="control" title="All (0)" onClick=${() => control.current?.fit()}>Fit</button>`}
      <button type="button" class="control" aria-pressed=${view === 'table'} onClick=${() => change({ view: view === 'table' ? '' : 'table' })}>
        Table<span class="hidden-but-read"> of ${graph.edges.length} edges</span></button>
    </span>
  </div>`;
}

function Picture({ model, params }) {
  const whole = useMemo(() => graphOf(model), [model]);
  const graph = useMemo(() => (params.focus ? around(whole, params.focus, Number(params.hops ?? 1)) : whole), [whole, params.focus, params.hops]);
  const found = matching(graph, params.q ?? '');
  const [aspect, setAspect] = useState(0);
  const made = useLayout(graph, aspect);
  const control = useRef(null);
  const choose = useCallback((id) => change({ sel: id ?? '' }, { replace: Boolean(address.get().params.sel) }), []);
  const focusOn = (id) => change({ focus: id, sel: id, q: '' });
  const onEnter = () => found?.size && focusOn([...found][0]);
  useKeys({
    '+': () => control.current?.zoom(1.3),
    '-': () => control.current?.zoom(1 / 1.3),
    0: () => control.current?.fit(),
    f: () => params.sel && graph.nodes.has(params.sel) && focusOn(params.sel),
    Escape: () => change(params.sel ? { sel: '' } : { focus: '', hops: '', q: '' }),
  });
  const table = params.view === 'table';
  const rows = graph.edges.filter((edge) => !found || found.has(edge.source) || found.has(edge.destination));
  const wide = innerWidth > 860;
  const over = useMemo(() => (!params.sel ? {} : wide ? { right: 330 } : { below: innerHeight * 0.45 }), [params.sel, wide]);
  if (!whole.nodes.size) return NOTHING;
  return html`<h1 class="hidden-but-read">Map</h1>
    <${Tools} graph=${graph} total=${whole.nodes.size} found=${found} params=${params} control=${control} onEnter=${onEnter} />
    ${table
      ? html`<div class="page"><section class="block"><${Table} label="Edges" columns=${EDGES} rows=${rows} by=${(edge) => edge.id} first="level" empty=${NOTHING} /></section></div>`
      : html`<${Canvas} graph=${graph} made=${made} found=${found} chosen=${params.sel ?? null} over=${over} onChoose=${choose} onFocusOn=${focusOn} onAspect=${setAspect} control=${control} />
        <${Legend} /><${Panel} graph=${graph} chosen=${params.sel} onFocusOn=${focusOn} onClose=${() => choose(null)} />`}`;
}

export default function Map({ window }) {
  const { params } = useAddress();
  const live = useLive('map', { ns: params.ns, window });
  return html`<${Page} live=${live} wide=${true}>${(model) => html`<${Picture} model=${model} params=${params} />`}<//>`;
}
