// All workloads.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import { levelOf, WEIGHT } from '../lib/health.js';
import { useLive } from '../lib/live.js';
import { mtls, numbers, Who } from '../parts/columns.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Page } from '../parts/messages.js';
import { Spark } from '../parts/spark.js';
import { Table } from '../parts/table.js';

const meshed = (row) => (row.meshed === row.pods ? '' : row.meshed === 0 ? 'no sidecar' : `${row.meshed} with sidecar`);

const COLUMNS = [
  { id: 'level', title: '', kind: 'sign', cell: (row) => html`<${Mark} level=${levelOf(row)} />` },
  { id: 'name', title: 'Workload', value: (row) => row.id, cell: (row) => html`<${Who} id=${row.id} /> <span class="sub">${row.direction === 'out' ? 'what it sends' : ''}</span>` },
  {
    id: 'pods', title: 'Ready', number: true, help: 'Pods that are ready', value: (row) => row.ready,
    cell: (row) => html`${meshed(row) && html`<span class="tag warn">${meshed(row)}</span> `}<span class=${row.ready < row.pods ? 'bad' : ''}>${row.ready}/${row.pods}</span>`,
  },
  { id: 'line', title: 'Requests', cell: (row) => html`<${Spark} requests=${row.rps} failures=${row.failing} />` },
  ...numbers(),
  mtls(),
];

const matches = (row, text) => text.toLowerCase().split(/\s+/).every((word) => row.id.toLowerCase().includes(word));

export default function Workloads({ window }) {
  const { params } = useAddress();
  const live = useLive('workloads', { ns: params.ns, window });
  const only = params.only ?? '';
  return html`<${Page} live=${live}>${(model) => {
    const unwell = model.workloads.filter((row) => ['bad', 'warn'].includes(levelOf(row)));
    const rows = (only ? unwell : model.workloads).filter((row) => matches(row, params.q ?? ''));
    const byLevel = [...rows].sort((a, b) => WEIGHT[levelOf(a)] - WEIGHT[levelOf(b)] || a.id.localeCompare(b.id));
    return html`<div class="head"><h1>Workloads</h1><span class="muted num">${rows.length} of ${model.workloads.length}</span>
        <span class="right"><button type="button" class="control" aria-pressed=${only === 'unwell'} onClick=${() => change({ only: only ? '' : 'unwell' })}>Not well: ${unwell.length}</button>
        <span class="search"><input type="search" class="control" placeholder="Search" aria-label="Search workloads" value=${params.q ?? ''} onInput=${(event) => change({ q: event.target.value }, { replace: true })} /><kbd>/</kbd></span></span></div>
      ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
      <section class="block"><${Table} label="Workloads" columns=${COLUMNS} rows=${byLevel} by=${(row) => row.id} first="level"
        empty=${model.workloads.length
          ? html`<${Empty} title="No workload is like that">Search for another name${only && ', or show those that are well too'}.<//>`
          : html`<${Empty} title="No workload runs">Start some with <code>sheer up -f DIR</code>, or the sample with <code>sheer demo</code>.<//>`} /></section>`;
  }}<//>`;
}
