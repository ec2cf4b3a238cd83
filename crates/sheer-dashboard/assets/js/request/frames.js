// The frames that carried a request, point by point, as `sheer frames` has them.
import { Fragment, html } from '../lib/dom.js';
import { change } from '../lib/address.js';
import * as format from '../lib/format.js';
import { useAsked } from '../lib/live.js';
import { Empty, Note, Problem } from '../parts/messages.js';
import { POINTS } from './points.js';

const SIGNS = POINTS.map(([sign]) => sign);

const wanted = (leg) => [leg.point, leg.pod, leg.request, leg.connection, leg.stream].join(':');

/** What stands behind the type of a frame. */
function detail(frame) {
  const parts = [];
  if (frame.flags.length) parts.push(frame.flags.join(' | '));
  if (frame.settings) parts.push(frame.settings.map((one) => `${one.name || `0x${one.id.toString(16)}`}=${one.value}`).join('  '));
  if (frame.goaway) parts.push(`last stream ${frame.goaway.last_stream}, ${frame.goaway.error_code}${frame.goaway.debug ? ` “${frame.goaway.debug}”` : ''}`);
  else if (frame.error_code) parts.push(frame.error_code);
  if (frame.increment) parts.push(`+${format.count(frame.increment)}`);
  if (frame.type === 'DATA' || frame.type === 'HEADERS') parts.push(format.bytes(frame.length));
  if (frame.http1) parts.push(frame.http1.line);
  if (frame.windows) parts.push(`windows ${[frame.windows.stream, frame.windows.connection].filter((one) => one !== null && one !== undefined).map(format.count).join(' / ')}`);
  if (frame.ending) parts.push(`${frame.ending.how} by the ${frame.ending.by}`);
  return parts.join(' · ');
}

/** How HPACK carried a field. */
function representation({ hpack }) {
  if (!hpack) return '';
  const place = hpack.index ? `${hpack.index > 61 ? 'table' : 'static'} ${hpack.index}` : '';
  const name = hpack.representation === 'indexed' ? place : place && `name: ${place}`;
  return [`${hpack.representation}${name ? ` (${name})` : ''}`, hpack.evicted ? `evicts ${hpack.evicted}` : '', `${hpack.bytes} B`].filter(Boolean).join(', ');
}

const table = (one) => (one ? `${one.size} B in ${one.entries}` : '–');

function Fields({ fields, block }) {
  return html`<tr class="fields"><td colspan="5"><table><tbody>${fields.map((field, i) => html`<tr key=${i}><td><code>${field.name}</code></td><td><code title=${field.value}>${field.value}</code></td><td class="sub">${representation(field)}</td></tr>`)}</tbody></table>
    ${block && html`<p class="muted">${block.kind}: ${block.bytes} B${block.frames > 1 ? ` in ${block.frames} frames` : ''}, table ${table(block.table_before)} → ${table(block.table_after)}${block.error ? html` <span class="tag bad">${block.error}</span>` : ''}</p>`}</td></tr>`;
}

const after = (us) => (us < 0 ? `−${format.us(-us)}` : format.us(us));

/** Microseconds since the epoch; a Date has only milliseconds. */
const micros = (time) => Date.parse(time) * 1e3 + (Number(time.slice(23, 26)) || 0);

function Frame({ frame, zero, own }) {
  const fields = frame.block?.fields ?? frame.http1?.fields;
  const tone = frame.violations.length || frame.ending?.clean === false ? 'bad' : ['RST_STREAM', 'GOAWAY'].includes(frame.type) ? 'warn' : '';
  return html`<${Fragment}><tr class=${own ? '' : 'other'}><td class="n">${after(micros(frame.time) - zero)}</td>
      <td><span title=${frame.direction}>${frame.direction === 'written' ? '→' : '←'}</span><span class="hidden-but-read">${frame.direction}</span></td><td class="n">${frame.stream || '–'}</td>
      <td><span class=${`kind ${tone}`}>${frame.type}</span></td><td class="detail">${detail(frame)}${frame.violations.map((text) => html` <span class="tag bad" key=${text}>${text}</span>`)}</td></tr>
    ${fields?.length > 0 && html`<${Fields} fields=${fields} block=${frame.block} />`}<//>`;
}

function Timeline({ point }) {
  const own = point.frames.filter((frame) => frame.stream === point.stream);
  const zero = own.length ? micros(own[0].time) : 0;
  return html`<div class="scroll tall" role="region" aria-label="Frames" tabindex="0"><table class="frames"><thead><tr><th scope="col" class="n">After</th><th scope="col"><span class="hidden-but-read">Direction</span></th><th scope="col" class="n">Stream</th><th scope="col">Frame</th><th scope="col">What it says</th></tr></thead>
    <tbody>${point.frames.map((frame) => html`<${Frame} key=${frame.number} frame=${frame} zero=${zero} own=${frame.stream === point.stream} />`)}</tbody></table></div>`;
}

function Points({ points, chosen }) {
  return html`<span class="choice right" role="group" aria-label="Point">${points.map((point) => html`<button key=${point} type="button" class="control" aria-pressed=${point === chosen}
    aria-label=${`Point ${point}: ${POINTS[point - 1][1]}`} title=${POINTS[point - 1][1]} onClick=${() => change({ at: point }, { replace: true })}>${SIGNS[point - 1]}</button>`)}</span>`;
}

/** `legs`: the streams that carried the request, as its page has them. */
export function Frames({ legs, params }) {
  const known = legs.filter((leg) => leg.connection > 0);
  const { data, problem } = useAsked('frames', { legs: known.map(wanted).join(' ') }, 0);
  const points = known.map((leg) => leg.point);
  // Where nobody has chosen, a point at which there is something to see.
  const usual = data?.points.find((one) => one.frames.length > 0)?.point ?? points[0];
  const chosen = points.includes(Number(params.at)) ? Number(params.at) : usual;
  const leg = known.find((one) => one.point === chosen);
  const point = data?.points.find((one) => one.point === chosen);
  return html`<section class="block"><header><h2>Frames</h2>${leg && html`<span class="muted">${leg.pod}, connection ${leg.connection}, stream ${leg.stream}</span>`}<${Points} points=${points} chosen=${chosen} /></header>
    ${problem ? html`<div class="inside"><${Problem} problem=${problem} /></div>` : !data ? html`<p class="waiting" role="status">asking the proxies …</p>` : html`<${Fragment}>
      ${leg && html`<p class="inside muted facts-line">${[leg.local && `${leg.local} ↔ ${leg.remote}`, leg.protocol, leg.tls, leg.identity && format.identity(leg.identity), point?.kept && 'kept when it failed'].filter(Boolean).join(' · ')}</p>`}
      ${point?.notes.map((text) => html`<div class="inside" key=${text}><${Note} text=${text} /></div>`)}
      ${point?.frames.length > 0 && html`<${Timeline} point=${point} />`}
      ${point?.left_out > 0 && html`<p class="inside muted">${point.left_out} more are not shown; <code>sheer frames pod/${leg.pod.split('/').pop()} --conn ${leg.connection} --stream ${leg.stream}</code> has them.</p>`}<//>`}</section>`;
}

export const NoFrames = () => html`<section class="block"><header><h2>Frames</h2></header><${Empty} title="Its frames are forgotten">Proxies keep those of failures for longer.<//></section>`;
