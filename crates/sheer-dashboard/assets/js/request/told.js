// What both proxies told the tap of a request, for where the wire is forgotten.
import { html } from '../lib/dom.js';

const SIDES = [['outbound', "the caller's proxy"], ['inbound', "the callee's proxy"]];

function Fields({ title, fields }) {
  if (!fields?.length) return null;
  return html`<tbody><tr class="part"><th scope="rowgroup" colspan="2">${title}</th></tr>
    ${fields.map(([name, value], i) => html`<tr key=${i}><th scope="row"><code>${name}</code></th><td class="value"><code title=${value}>${value}</code></td></tr>`)}</tbody>`;
}

export function Told({ line }) {
  const { headers, trailers, views } = line;
  const nothing = ![headers, trailers].some((of) => of.request?.length || of.response?.length);
  const by = SIDES.filter(([side]) => views[side]).map(([, words]) => words).join(' and ');
  return html`<section class="block four"><header><h2>As it was told</h2><span class="muted">by ${by || 'nobody'}</span></header>
    <div class="scroll" role="region" aria-label="What was told of the request" tabindex="0"><table class="points-table told"><thead><tr><th scope="col">Field</th><th scope="col">Value</th></tr></thead>
      <${Fields} title="Request" fields=${headers.request} /><${Fields} title="Request trailers" fields=${trailers.request} />
      <${Fields} title="Response" fields=${headers.response} /><${Fields} title="Response trailers" fields=${trailers.response} />
      ${nothing && html`<tbody><tr><td class="muted" colspan="2">Nothing of its fields: only how it went, which is above.</td></tr></tbody>`}</table></div></section>`;
}
