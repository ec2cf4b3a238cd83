// One request: whose fault it was, what was on the wire at the four points, its frames, and its trace.
import { html, useEffect } from '../lib/dom.js';
import { A, address, go, link, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useAsked, useLive } from '../lib/live.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Problem, Waiting } from '../parts/messages.js';
import { Diff } from '../request/diff.js';
import { Frames, NoFrames } from '../request/frames.js';
import { Told } from '../request/told.js';
import { remarks } from '../tap/rows.js';
import { Spans } from './trace.js';

const KEPT = ['only', 'at', 'span', 'trace'];

/** The request's own address, whichever way it was found: a link to it stays true when others come after it. */
function useOwnAddress(model) {
  useEffect(() => {
    if (!model?.namespace) return;
    const { path, params } = address.get();
    const own = `/requests/${model.namespace}/${model.id}`;
    if (path === own) return;
    const kept = Object.fromEntries(KEPT.filter((name) => params[name]).map((name) => [name, params[name]]));
    go(link(own, { trace: model.trace, ...kept }), { replace: true });
  }, [model?.namespace, model?.id]);
}

function Verdict({ line }) {
  const status = line.grpc_status !== null ? `${line.grpc_status} ${format.grpc(line.grpc_status)}` : line.status ?? (line.reset_code || 'no answer');
  const blame = line.verdict ? html`<strong>${line.verdict}</strong> is at fault: <strong>${line.reason}</strong>` : line.failed ? html`It failed: <strong>${status}</strong>` : html`It went well: <strong>${status}</strong>`;
  const why = [line.message || line.grpc_message, ...remarks({ ...line, reason: '', verdict: '', grpc_message: '' })].filter(Boolean);
  return html`<div class=${`verdict ${line.failed ? 'bad' : 'good'}`} role="status"><${Mark} level=${line.failed ? 'bad' : 'good'} label=${line.failed ? 'failed' : 'well'} />
    <div><p>${blame}</p>${why.map((text) => html`<p key=${text} class="muted">${text}</p>`)}</div></div>`;
}

function Tiles({ line }) {
  const { timing_us: timing } = line;
  const time = (us) => (us === null || us === undefined ? '–' : format.us(us));
  const view = line.views.outbound ?? line.views.inbound;
  return html`<dl class="tiles">
    <div><dt>Status</dt><dd>${line.status ?? '–'}${line.grpc_status !== null && html`<small> gRPC ${line.grpc_status}</small>`}</dd></div>
    <div><dt>Took</dt><dd>${time(timing.end)}</dd></div><div><dt>First byte</dt><dd>${time(timing.first_byte)}</dd></div>
    <div><dt>Sent</dt><dd>${format.bytes(line.request_bytes)}</dd></div><div><dt>Received</dt><dd>${format.bytes(line.response_bytes)}</dd></div>
    <div><dt>Attempts</dt><dd>${view?.attempts || 1}</dd></div><div><dt>Ended</dt><dd><small>${line.end || '–'}</small></dd></div>
    <div class="two"><dt>When</dt><dd>${format.moment(line.time)}<small> UTC, ${line.time.slice(0, 10)}</small></dd></div></dl>`;
}

function Trace({ id, params }) {
  const { data, problem } = useAsked('trace', { id, perhaps: 1 }, 0);
  if (data && !data.trace) return html`<section class="block"><header><h2>Trace</h2><code class="muted right">${id}</code></header><${Empty} title="This trace is not kept">Proxies draw a part of the requests, and keep those that fail or are slow.<//></section>`;
  if (problem) return html`<section class="block"><header><h2>Trace</h2></header><div class="inside"><${Problem} problem=${problem} /></div></section>`;
  if (!data) return html`<section class="block"><header><h2>Trace</h2></header><p class="waiting" role="status">asking the control plane …</p></section>`;
  return html`<${Spans} model=${data} chosen=${params.span} />`;
}

function Shown({ model, params }) {
  const line = model.summary;
  const trace = params.trace || model.trace;
  const request = line.method || line.path ? html`<span class="muted">${line.method}</span> ${line.path}` : `request ${model.id}`;
  return html`<div class="head"><h1 class="request-title">${request}</h1><span class="muted">${line.source} → ${line.destination}${line.authority && ` · ${line.authority}`}</span>
      <span class="right">${trace && html`<${A} class="control" to=${link(`/traces/${trace}`)}>The whole trace<//>`}<${A} class="control" to=${link('/live', { ns: model.namespace })}>Live<//></span></div>
    <${Verdict} line=${line} /><${Tiles} line=${line} />
    ${model.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
    <div class="side"><div class="stack">${model.diff ? html`<${Diff} diff=${model.diff} params=${params} />` : html`<${Told} line=${line} />`}</div>
      <div class="stack">${trace ? html`<${Trace} id=${trace} params=${params} />` : html`<section class="block"><header><h2>Trace</h2></header><${Empty} title="It is of no trace">No field of the request names one.<//></section>`}
        ${model.legs.some((leg) => leg.connection > 0) ? html`<${Frames} legs=${model.legs} params=${params} />` : html`<${NoFrames} />`}</div></div>
    <p class="muted">In a terminal: <code>sheer diff pod/${model.id.split('/')[0]} -n ${model.namespace || 'NAMESPACE'} --request ${model.id}</code></p>`;
}

export default function Request({ ns, id, of }) {
  const { params } = useAddress();
  useLive('status', {}); // the line below
  const { wire, trace, failed } = params;
  const { data, problem } = useAsked('request', id ? { ns, id } : { of, wire, trace, failed }, 0);
  useOwnAddress(data);
  return html`<div class="page">${problem && html`<${Problem} problem=${problem} />${trace && html`<${Trace} id=${trace} params=${params} />`}`}
    ${data ? html`<div class="content"><${Shown} model=${data} params=${params} /></div>` : !problem && html`<${Waiting} />`}</div>`;
}
