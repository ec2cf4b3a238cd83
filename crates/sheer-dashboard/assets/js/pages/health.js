// `sheer check` as a page, with what the control plane says of the manifests and of itself.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useLive } from '../lib/live.js';
import { Mark } from '../parts/marks.js';
import { Empty, Page, Place, Words } from '../parts/messages.js';
import { Table } from '../parts/table.js';
import { Who } from '../parts/columns.js';

const LEVEL = { success: 'good', warning: 'warn', error: 'bad' };

function Point({ point }) {
  return html`<li class="point"><${Mark} level=${LEVEL[point.result]} label=${point.result} /><div><span>${point.description}</span>
    ${point.details.map((text) => html`<div key=${text} class=${LEVEL[point.result]}>${text}</div>`)}
    ${point.hint && html`<div class="muted"><${Words} text=${point.hint} /></div>`}</div></li>`;
}

const PROXIES = [
  { id: 'pod', title: 'Proxy of', value: (row) => `${row.namespace}/${row.pod}`, cell: (row) => html`<${Mark} level=${row.connected ? 'good' : 'bad'} label=${row.connected ? 'reports' : 'gone'} /> ${' '}<${Who} id=${`${row.namespace}/${row.workload || `pod/${row.pod}`}`} /> <code class="muted">${row.pod}</code>` },
  { id: 'version', title: 'Version', value: (row) => row.version, cell: (row) => row.version },
  { id: 'since', title: 'Up', number: true, value: (row) => row.started_ms, cell: (row) => (row.started_ms ? format.age(Date.now() - row.started_ms) : '–') },
  { id: 'certificate', title: 'Certificate ends in', number: true, value: (row) => row.certificate_not_after, cell: (row) => (row.certificate_not_after ? format.age(row.certificate_not_after * 1000 - Date.now()) : html`<span class="bad">none</span>`) },
  { id: 'clock', title: 'Clock ahead', number: true, value: (row) => row.clock_ahead_ms, cell: (row) => html`<span class=${Math.abs(row.clock_ahead_ms) > 1000 ? 'warn' : ''}>${format.count(row.clock_ahead_ms)} ms</span>` },
  { id: 'overflowed', title: 'Not told apart', number: true, help: 'Series beyond the proxy’s bound, counted together', value: (row) => row.overflowed, cell: (row) => format.count(row.overflowed) },
  { id: 'heard', title: 'Heard of', number: true, value: (row) => row.last_seen_ms, cell: (row) => format.ago(row.last_seen_ms) },
];

function Control({ control }) {
  const left = control.issuer_not_after * 1000 - Date.now();
  const days = (milliseconds) => (milliseconds < 0 ? 'ended' : format.age(milliseconds));
  return html`<dl class="tiles">
    <div><dt>Control plane</dt><dd>${control.version}</dd></div>
    <div><dt>Trust domain</dt><dd><small>${control.trust_domain}</small></dd></div>
    <div><dt>Issuer ends in</dt><dd>${control.issuer_not_after ? days(left) : '–'}</dd></div>
    <div><dt>Last change</dt><dd>${format.age(control.last_change_age_ms)}<small> ago</small></dd></div>
    <div><dt>Objects</dt><dd>${format.count(control.objects.reduce((sum, [, n]) => sum + n, 0))}</dd></div>
    <div><dt>Streams to proxies</dt><dd>${format.count(control.streams.reduce((sum, [, n]) => sum + n, 0))}</dd></div></dl>`;
}

function Findings({ findings }) {
  return html`<section class="block"><header><h2>Findings in manifests</h2></header>${findings.length
    ? html`<ul class="points">${findings.map((found) => html`<li class="point" key=${found.place + found.object + found.field}><${Mark} level=${LEVEL[found.severity]} label=${found.severity} />
        <div><span>${found.message}</span><div class="muted">${[found.object, found.field].filter(Boolean).join(': ')} ${found.place && html`<${Place} text=${found.place} />`}</div></div></li>`)}</ul>`
    : html`<p class="inside muted">None: every file can be read, and every field is honoured.</p>`}</section>`;
}

export default function Health() {
  const { params } = useAddress();
  const live = useLive('health', {});
  const all = params.all !== 'no';
  return html`<${Page} live=${live}>${(model) => {
    const { checked, control } = model;
    const points = checked.categories.flatMap((category) => category.points);
    const of = (result) => points.filter((point) => point.result === result).length;
    const shown = checked.categories.map((category) => ({ ...category, points: category.points.filter((point) => all || point.result !== 'success') })).filter((category) => category.points.length);
    return html`<div class="head"><h1><${Mark} level=${checked.success ? (of('warning') ? 'warn' : 'good') : 'bad'} />Health</h1>
        <span class="muted num">${of('success')} well, ${of('warning')} to look at, ${of('error')} not well · looked at ${format.age(model.checked_age_ms)} ago</span>
        <span class="right"><button type="button" class="control" aria-pressed=${!all} onClick=${() => change({ all: all ? 'no' : '' })}>Only what is not well</button></span></div>
      ${control && html`<${Control} control=${control} />`}
      <div class="columns">
        <div class="stack">${shown.length ? shown.map((category) => html`<section class="block" key=${category.name}><header><h2>${category.name}</h2></header><ul class="points">${category.points.map((point) => html`<${Point} key=${point.description} point=${point} />`)}</ul></section>`)
          : html`<section class="block"><${Empty} title="All is well">Every point of the check passes.<//></section>`}</div>
        ${control && html`<div class="stack"><${Findings} findings=${control.findings} /></div>`}
      </div>
      <section class="block"><header><h2>Proxies that report</h2></header><${Table} label="Proxies" columns=${PROXIES} rows=${model.proxies} by=${(row) => `${row.namespace}/${row.pod}`} first="pod"
        empty=${html`<${Empty} title="No proxy reports">They do so once a second, when they reach the control plane's policy port. <code>sheer check</code> says whether they do.<//>`} /></section>`;
  }}<//>`;
}
