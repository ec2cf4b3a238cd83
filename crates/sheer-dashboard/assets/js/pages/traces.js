// Traces that are kept, with their search.
import { html, useRef } from '../lib/dom.js';
import { A, change, link, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useLive } from '../lib/live.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Page } from '../parts/messages.js';
import { Table } from '../parts/table.js';

const ended = (row) => (row.failed ? [row.reason || (row.grpc_status !== null ? (row.grpc_name || `gRPC ${row.grpc_status}`) : row.http_status), row.verdict].filter(Boolean).join(' · ') : '');

function columns(longest) {
  return [
    { id: 'level', title: '', kind: 'sign', cell: (row) => html`<${Mark} level=${row.failed ? 'bad' : 'good'} label=${row.failed ? 'failed' : 'well'} />` },
    { id: 'at', title: 'When', number: true, value: (row) => row.at_ms, cell: (row) => format.clock(row.at_ms) },
    { id: 'name', title: 'Request', kind: 'cut', value: (row) => row.name, cell: (row) => html`<${A} class="main" to=${link(`/traces/${row.id}`)}>${row.name}<//> <span class="sub">${row.source} → ${row.target}</span>` },
    { id: 'failed', title: 'Failed at', value: (row) => row.failed_at || null, cell: (row) => (row.failed ? html`<span>${row.failed_at.split('/').pop()} <span class="tag bad">${ended(row)}</span></span>` : html`<span class="muted">–</span>`) },
    { id: 'duration', title: 'Duration', number: true, value: (row) => row.duration_us, cell: (row) => html`<span class="share" aria-hidden="true"><i style=${{ width: `${(row.duration_us / longest) * 100}%` }}></i></span>${format.us(row.duration_us)}` },
    { id: 'spans', title: 'Spans', number: true, value: (row) => row.spans, cell: (row) => row.spans },
    { id: 'workloads', title: 'Workloads', number: true, value: (row) => row.workloads.length, cell: (row) => html`<span title=${row.workloads.join('\n')}>${row.workloads.length}</span>` },
    { id: 'kept', title: 'Kept as', value: (row) => row.kept, cell: (row) => html`<span class="muted">${row.kept}</span>` },
    { id: 'id', title: 'Id', cell: (row) => html`<code class="muted">${row.id.slice(0, 8)}</code>` },
  ];
}

function Form({ params }) {
  const timer = useRef(0);
  const later = (name) => (event) => {
    const { value } = event.target;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change({ [name]: value.trim() }, { replace: true }), 300);
  };
  const text = (name, label, hint, width) => html`<label>${label}<input type=${name === 'service' ? 'search' : 'text'} class="control" style=${{ width }} value=${params[name] ?? ''} placeholder=${hint} onInput=${later(name)} /></label>`;
  return html`<form class="form" role="search" onSubmit=${(event) => event.preventDefault()}>
    ${text('service', 'Workload or Service', 'bank/ledger', '170px')}
    <label>Ended<select class="control" value=${params.status ?? ''} onChange=${(event) => change({ status: event.target.value })}>
      ${[['', 'any way'], ['failed', 'failed'], ['ok', 'well']].map(([value, name]) => html`<option value=${value} selected=${value === (params.status ?? '')}>${name}</option>`)}</select></label>
    ${text('min_ms', 'At least (ms)', '100', '84px')}
    ${text('code', 'Status or verdict', '503, UNAVAILABLE', '140px')}
    ${text('id', 'Id begins', '4bf92f35', '110px')}
  </form>`;
}

export default function Traces({ window }) {
  const { params } = useAddress();
  const { ns, service, status, min_ms, code, id } = params;
  const live = useLive('traces', { ns, service, status, min_ms, code, id, window });
  const filtered = Boolean(service || status || min_ms || code || id || ns);
  return html`<${Page} live=${live}>${(model) => {
    const { store } = model;
    const longest = Math.max(...model.traces.map((row) => row.duration_us), 1);
    return html`<div class="head"><h1>Traces</h1>
        <span class="muted num">${model.traces.length} shown of ${format.count(store.traces)} kept · ${format.bytes(store.bytes)} of ${format.bytes(store.max_bytes)}</span></div>
      <${Form} params=${params} />
      ${store.dropped_by_proxies > 0 && html`<${Note} text=${`Proxies have dropped ${format.count(store.dropped_by_proxies)} spans since the start, as they had more than they could send.`} />`}
      ${model.breaks.map((found) => html`<${Note} key=${found.workload} text=${found.finding || `${found.workload} does not pass on the trace context.`} />`)}
      <section class="block"><${Table} label="Traces" columns=${columns(longest)} rows=${model.traces} by=${(row) => row.id} first="-at" empty=${filtered && store.traces > 0
        ? html`<${Empty} title="No trace is like that">Ask for less, or for a longer time. A part of the requests is drawn; failed and slow ones are kept always.<//>`
        : html`<${Empty} title="No trace within this time">Proxies draw a part of the requests, and keep those that failed or were slow. Choose a longer time above, or send requests; docs/settings.md says how to draw more.<//>`} /></section>`;
  }}<//>`;
}
