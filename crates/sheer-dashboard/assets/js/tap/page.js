// Requests one by one, as both proxies saw them: a line each, when it is over.
import { html, Still, useState } from '../lib/dom.js';
import { A, change, go, link, useAddress } from '../lib/address.js';
import * as format from '../lib/format.js';
import { paused, status, useAsked } from '../lib/live.js';
import { useStore } from '../lib/store.js';
import { Mark } from '../parts/marks.js';
import { Empty, Note, Problem } from '../parts/messages.js';
import { FILTERS, Form } from './form.js';
import { ends, MOST, remarks } from './rows.js';
import { useTap } from './stream.js';

const COLUMNS = [['State', 'sign'], ['Time'], ['From → to'], ['Request', 'cut'], ['Status'], ['Took', 'n'], ['Up', 'n'], ['Down', 'n'], ['Why']];

/** The page of a line's request; null where there is none. */
const pageOf = (line) => (line.kind === 'end' && line.namespace ? link(`/requests/${line.namespace}/${line.id}`) : null);

function Status({ line }) {
  if (line.kind === 'tcp') return html`<span class=${`tag ${line.failed ? 'bad' : ''}`}>${line.failed ? 'failed' : 'closed'}</span>`;
  const code = line.grpc_status !== null ? `${line.grpc_status} ${format.grpc(line.grpc_status)}` : line.status ?? (line.reset_code || 'none');
  return html`<span class=${`tag ${line.failed ? 'bad' : ''}`} title=${line.grpc_status !== null ? `HTTP ${line.status ?? 'none'}, gRPC ${line.grpc_status}` : `HTTP ${line.status ?? 'none'}`}>${code}</span>`;
}

function what(line) {
  if (line.kind === 'tcp') return html`<span class="muted">${line.protocol.toUpperCase()}</span> ${line.server_name || line.views.outbound?.destination || ''}`;
  return html`<span class="muted">${line.method}</span> ${line.path}`;
}

class Row extends Still {
  render({ line }) {
    if (line.gap) return html`<tr class="gap"><td colspan="9">watching began anew: what passed before is not here</td></tr>`;
    const to = pageOf(line);
    const [source, destination] = ends(line);
    const why = remarks(line).join(', ');
    return html`<tr class=${`link ${to ? 'opens' : ''} ${line.failed ? 'failed' : ''}`} onClick=${(event) => to && !event.target.closest('a') && go(to)}>
      <td class="sign"><${Mark} level=${line.failed ? 'bad' : 'good'} label=${line.failed ? 'failed' : 'well'} /></td>
      <td class="num">${format.moment(line.time)}</td>
      <td>${source} <span class="muted">→</span> ${destination}</td>
      <td class="cut"><code title=${`${line.method ?? ''} ${line.authority ?? ''}${line.path ?? ''}`}>${to ? html`<${A} class="main" to=${to}>${what(line)}<//>` : what(line)}</code></td>
      <td><${Status} line=${line} /></td>
      <td class="n">${line.timing_us.end === null ? '–' : format.us(line.timing_us.end)}</td>
      <td class="n">${format.bytes(line.request_bytes)}</td>
      <td class="n">${format.bytes(line.response_bytes)}</td>
      <td class="why" title=${[why, line.message].filter(Boolean).join(': ')}>${line.kept && html`<span class="tag accent" title="It failed before this page began to watch; its proxy has kept it">kept</span> `}${why}</td></tr>`;
  }
}

function Rows({ rows }) {
  return html`<div class="scroll" role="region" aria-label="Requests" tabindex="0"><table class="tap"><thead><tr>${COLUMNS.map(
    ([title, kind]) => html`<th key=${title} scope="col" class=${kind ?? ''}>${kind === 'sign' ? html`<span class="hidden-but-read">${title}</span>` : title}</th>`,
  )}</tr></thead><tbody>${rows.map((line) => html`<${Row} key=${line.key} line=${line} />`)}</tbody></table></div>`;
}

/** Whose requests, where the address does not say and more than one namespace could be meant. */
function Choose({ namespaces, views }) {
  return html`<div class="page"><div class="content"><div class="head"><h1>Live</h1>${views}</div>
    <${Empty} title="Whose requests?"><span>A whole mesh has too many to read. Choose a namespace: </span>${namespaces.map(
      (name) => html`<button key=${name} type="button" class="control" onClick=${() => change({ ns: name }, { replace: true })}>${name}</button> `,
    )}<//></div></div>`;
}

function Shown({ params, tap, views, onPoint }) {
  const filtered = FILTERS.some((name) => params[name]);
  const of = params.of ? format.parts(params.of).name : params.ns;
  return html`<div class="page">${tap.trouble && html`<${Problem} problem=${tap.trouble} />`}
    <div class=${`content ${tap.trouble ? 'stale' : ''}`}><div class="head"><h1>Live</h1>${views}
        <span class="muted num">${format.count(tap.seen)} requests of ${of} seen</span>
        ${tap.beyond > 0 && html`<span class="tag warn" title="Filter them, or let more come">${format.count(tap.beyond)} beyond ${tap.rate}/s not shown</span>`}
        ${tap.slow > 0 && html`<span class="tag bad" title="They came faster than they could be told">${format.count(tap.slow)} events lost</span>`}
        <span class="right">${tap.waiting.length > 0 && html`<span class="tag accent waits">${tap.waiting.length >= MOST ? `${MOST} or more` : tap.waiting.length} wait</span>`}
          <button type="button" class="control" aria-pressed=${tap.held} onClick=${() => paused.set(!tap.held)}>${tap.held ? 'Go on' : 'Hold'}</button></span></div>
      <${Form} params=${params} />
      ${tap.notes.map((text) => html`<${Note} key=${text} text=${text} />`)}
      <section class="block" onMouseEnter=${() => onPoint(true)} onMouseLeave=${() => onPoint(false)} onFocusIn=${() => onPoint(true)} onFocusOut=${() => onPoint(false)}>${tap.rows.length ? html`<${Rows} rows=${tap.rows} />` : html`<${Empty} title=${filtered ? 'No request is like that yet' : 'No request yet'}>
        ${params.failed === '1' ? 'Proxies have kept no failure that fits. New ones are shown as they happen.' : 'Lines come when requests are over. Proxies watch for as long as this page is open.'}<//>`}</section>
      ${tap.rows.length >= MOST && html`<p class="muted">The latest ${MOST} are shown.</p>`}</div></div>`;
}

export default function Requests({ views }) {
  const { params } = useAddress();
  const known = useStore(status);
  const asked = useAsked('status', {}, params.ns || params.of || known ? 0 : 3000);
  const namespaces = (known ?? asked.data)?.namespaces ?? [];
  const ns = params.ns || (namespaces.length === 1 ? namespaces[0] : '');
  const chosen = Boolean(params.of || ns);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, params[name]]));
  // Nobody can choose a line that moves away: while one is pointed at, or has the focus, new ones wait.
  const [pointed, onPoint] = useState(false);
  const tap = useTap(chosen ? { ns, rate: params.rate, ...filters } : null, pointed);
  if (!chosen) return namespaces.length || asked.problem ? html`<${Choose} namespaces=${namespaces} views=${views} />` : html`<p class="waiting" role="status">asking the control plane …</p>`;
  return html`<${Shown} params=${{ ...params, ns }} tap=${tap} views=${views} onPoint=${onPoint} />`;
}
