// What goes through now, path by path: a part of the live page.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { levelOfSuccess } from '../lib/health.js';
import { useLive } from '../lib/live.js';
import { Endings, numbers, Who } from '../parts/columns.js';
import { Mark } from '../parts/marks.js';
import { Empty, Page } from '../parts/messages.js';
import { Spark } from '../parts/spark.js';
import { Table } from '../parts/table.js';

const COLUMNS = [
  { id: 'level', title: '', kind: 'sign', cell: (row) => html`<${Mark} level=${levelOfSuccess(row.numbers.success)} />` },
  { id: 'line', title: 'Last seconds', cell: (row) => html`<${Spark} requests=${row.requests} failures=${row.failures} />` },
  { id: 'source', title: 'From', value: (row) => row.source, cell: (row) => html`<${Who} id=${row.source} />` },
  { id: 'destination', title: 'To', value: (row) => row.destination, cell: (row) => html`<${Who} id=${row.destination} />` },
  { id: 'path', title: 'Request', kind: 'cut', value: (row) => row.path, cell: (row) => html`<code title=${row.path}><span class="muted">${row.method}</span> ${row.path}</code>` },
  ...numbers(),
  { id: 'endings', title: 'Failed as', cell: (row) => html`<${Endings} endings=${row.endings} />` },
];

const by = (row) => [row.source, row.destination, row.method, row.path, row.seen_by].join(' ');

export default function Paths({ window, views }) {
  const { params } = useAddress();
  const live = useLive('live', { ns: params.ns, of: params.of, window });
  const words = (params.q ?? '').toLowerCase().split(/\s+/);
  const failing = params.only === 'failing';
  return html`<${Page} live=${live}>${(model) => {
    const hit = (row) => words.every((word) => by(row).toLowerCase().includes(word)) && (!failing || row.numbers.failures > 0);
    const rows = model.paths.filter(hit);
    const total = rows.reduce((sum, row) => sum + row.numbers.rps, 0);
    return html`<div class="head"><h1>Live</h1>${views}
        <span class="muted num">${rows.length} paths · ${format.rate(total)} requests a second in ${format.age(model.known_ms)} · told by ${model.proxies} proxies</span>
        <span class="right">
          ${params.of && html`<button type="button" class="control" aria-pressed="true" onClick=${() => change({ of: '' })}>only ${format.parts(params.of).name} ×</button>`}
          <button type="button" class="control" aria-pressed=${failing} onClick=${() => change({ only: failing ? '' : 'failing' })}>Only failing</button>
          <span class="search"><input type="search" class="control" placeholder="Search paths and workloads" aria-label="Search paths and workloads" value=${params.q ?? ''}
            onInput=${(event) => change({ q: event.target.value }, { replace: true })} /><kbd>/</kbd></span></span></div>
      <section class="block"><${Table} label="Requests by path" columns=${COLUMNS} rows=${rows} by=${by} first="-rps" most=${200} empty=${model.paths.length
        ? html`<${Empty} title="No request is like that">Search for another path, or show those that go well too.<//>`
        : html`<${Empty} title="No request within the last seconds">Proxies tell of paths while this page is open. Send a request, as <code>sheer exec deploy/web -- curl http://ledger:8080/</code>.<//>`} /></section>
      ${model.left_out + Math.max(0, rows.length - 200) > 0 && html`<p class="muted">The busiest are shown; ${model.left_out + Math.max(0, rows.length - 200)} more lie below. Search to see them.</p>`}`;
  }}<//>`;
}
