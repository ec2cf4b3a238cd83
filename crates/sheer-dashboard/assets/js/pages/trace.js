// The waterfall of one trace: where the time went, and which hop failed.
import { html } from '../lib/dom.js';
import { A, change, link, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useKeys } from '../lib/keys.js';
import { useLive } from '../lib/live.js';
import { Mark } from '../parts/marks.js';
import { Note, Page } from '../parts/messages.js';

const SHARES = [
  ['caller', 'caller_proxy_us', "caller's proxy"],
  ['network', 'network_us', 'network'],
  ['callee', 'callee_proxy_us', "callee's proxy"],
  ['application', 'application_us', 'application'],
];

const at = (us, total) => `${Math.min(100, Math.max(0, (us / total) * 100))}%`;

function Bar({ span, total }) {
  const width = Math.max(0.15, (span.duration_us / total) * 100);
  const sum = span.shares ? SHARES.reduce((all, [, key]) => all + span.shares[key], 0) : 0;
  return html`<div class=${`track ${span.kind}`} aria-hidden="true">
    <div class="span" style=${{ left: at(span.offset_us, total), width: `${width}%` }}>
      ${sum > 0 && SHARES.map(([name, key]) => span.shares[key] > 0 && html`<i key=${name} class=${name} style=${{ width: `${(span.shares[key] / sum) * 100}%` }}></i>`)}
    </div>
    ${span.events.map((event) => html`<b class="event" style=${{ left: at(event.offset_us, total) }} title=${`${event.name} at ${format.us(event.offset_us)}`}></b>`)}
  </div>`;
}

function Line({ span, index, total, chosen, culprit }) {
  const choose = () => change({ span: chosen ? '' : span.id }, { replace: true });
  return html`<tr class=${`link ${chosen ? 'chosen' : ''}`}>
    <td class="who"><button type="button" class="plain" style=${{ paddingLeft: `${span.depth * 12}px` }} aria-expanded=${chosen} onClick=${choose}>
      ${span.failed ? html`<${Mark} level="bad" label="failed" />` : html`<span class="kind" aria-hidden="true">${span.kind === 'client' ? '→' : span.kind === 'server' ? '⇥' : '·'}</span>`}
      <span>${span.workload.split('/').pop()}</span> <span class="sub">${span.name}</span></button>
      ${culprit === index && html` <span class="tag bad">failed here</span>`}${span.joined_by_wire && html` <span class="tag" title="The request carried no trace context; the parent was found by its connection and stream">joined by stream</span>`}</td>
    <td class="n">${format.us(span.duration_us)}</td>
    <td class="bars"><${Bar} span=${span} total=${total} /></td></tr>`;
}

const Pairs = ({ of }) => html`<dl class="facts">${of.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** The page of the request that a span is of: the stream that carried it names it, or else the trace does. */
function requestOf(span, trace) {
  const [namespace, pod] = [span.workload.split('/')[0], span.pod.split('/').pop()];
  return namespace && pod ? link(`/requests/${namespace}/pod/${pod}`, { wire: span.carried_by, trace }) : null;
}

function Details({ span, trace }) {
  const shares = span.shares ? SHARES.map(([name, key, text]) => [html`<i class=${`swatch ${name}`}></i>${text}`, format.us(span.shares[key])]) : [];
  return html`<tr class="details"><td colspan="3"><div class="columns three">
    <div>${requestOf(span, trace) && html`<p class="to"><${A} class="control" to=${requestOf(span, trace)}>The request at the four points<//></p>`}<h3>Span</h3><${Pairs} of=${[
      ['Recorded by', `the ${span.kind === 'server' ? "callee's" : "caller's"} proxy, ${span.pod}`],
      ['Begins', `${format.us(span.offset_us)} after the first`],
      ['Kept as', span.kept || '–'],
      ['Connection', span.wire || '–'],
      ...(span.failed ? [['Failed', [span.message, span.reason, span.verdict && `verdict ${span.verdict}`].filter(Boolean).join(' · ')]] : []),
    ]} /></div>
    <div><h3>Where its time went</h3>${shares.length ? html`<${Pairs} of=${shares} />` : html`<p class="muted">The other proxy's span is missing.</p>`}
      <h3>Events</h3><${Pairs} of=${span.events.map((event) => [format.us(event.offset_us), [event.name, ...event.attributes.map(([key, value]) => `${key}=${value}`)].join(' ')])} /></div>
    <div><h3>Attributes</h3><${Pairs} of=${span.attributes.map(([key, value]) => [html`<code>${key}</code>`, html`<code>${value}</code>`])} /></div>
  </div></td></tr>`;
}

function Scale({ total }) {
  return html`<div class="scale" aria-hidden="true">${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<span style=${{ left: `${part * 100}%` }}>${format.us(total * part)}</span>`)}</div>`;
}

/** The waterfall alone. */
export function Spans({ model, chosen }) {
  const { trace, spans } = model;
  const total = Math.max(trace.duration_us, ...spans.map((span) => span.offset_us + span.duration_us), 1);
  return html`<section class="block waterfall"><header><h2>Waterfall</h2><ul class="shares" aria-label="Colours">${SHARES.map(([name, , text]) => html`<li key=${name}><i class=${`swatch ${name}`}></i>${text}</li>`)}</ul>
        <span class="muted right"><code>${trace.id}</code></span></header>
      <div class="scroll" role="region" aria-label="Spans" tabindex="0"><table><thead><tr><th scope="col">Span</th><th scope="col" class="n">Duration</th><th scope="col" class="bars"><${Scale} total=${total} /><span class="hidden-but-read">Time</span></th></tr></thead>
        <tbody>${spans.map((span, index) => html`<${Line} key=${span.id} span=${span} index=${index} total=${total} chosen=${span.id === chosen} culprit=${model.culprit} />
          ${span.id === chosen && html`<${Details} key=${`${span.id} details`} span=${span} trace=${trace.id} />`}`)}</tbody></table></div></section>`;
}

function Waterfall({ model, chosen }) {
  const { trace } = model;
  return html`<div class="head"><h1><${Mark} level=${trace.failed ? 'bad' : 'good'} label=${trace.failed ? 'failed' : 'well'} />${trace.name}</h1>
      <span class="muted">${trace.source} → ${trace.target}</span>
      <span class="right"><${A} class="control" to=${link('/traces')}>All traces<//></span></div>
    <dl class="tiles">
      <div><dt>Duration</dt><dd>${format.us(trace.duration_us)}</dd></div><div><dt>Began</dt><dd>${format.clock(trace.at_ms)}</dd></div>
      <div><dt>Spans</dt><dd>${trace.spans}</dd></div><div><dt>Workloads</dt><dd>${trace.workloads.length}</dd></div>
      <div><dt>Status</dt><dd>${trace.grpc_status !== null ? html`${trace.grpc_status}<small> gRPC</small>` : trace.http_status || '–'}</dd></div>
      <div><dt>Failed at</dt><dd>${trace.failed ? html`<span class="bad">${trace.failed_at.split('/').pop()}</span>` : '–'}</dd></div>
      <div class="two"><dt>Verdict</dt><dd>${trace.verdict || '–'}${trace.reason && html`<small> ${trace.reason}</small>`}</dd></div></dl>
    ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
    <${Spans} model=${model} chosen=${chosen} />`;
}

export default function Trace({ id }) {
  const { params } = useAddress();
  const live = useLive('trace', { id });
  useKeys({ Escape: () => params.span && change({ span: '' }, { replace: true }) });
  return html`<${Page} live=${live}>${(model) => html`<${Waterfall} model=${model} chosen=${params.span} />`}<//>`;
}
