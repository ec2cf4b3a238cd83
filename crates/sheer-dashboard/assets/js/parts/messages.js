// What a page says when it has nothing to show, or nothing new.
import { html } from '../lib/dom.js';
import { Mark } from './marks.js';

/** Text in which `commands` are set as such. */
export function Words({ text }) {
  const spans = text.split('`').map((part, i) => (i % 2 ? html`<code>${part}</code>` : part));
  return html`<span>${spans}</span>`;
}

/** A place in a file: its last two parts, the whole of it where somebody points. */
export function Place({ text }) {
  return html`<code class="muted" title=${text}>${text.split('/').slice(-2).join('/')}</code>`;
}

export function Problem({ problem }) {
  return html`<div class="problem" role="alert"><${Mark} level="bad" label="problem" />
    <div><strong><${Words} text=${problem.what} /></strong><${Words} text=${problem.todo} /></div></div>`;
}

export function Note({ text }) {
  return html`<div class="note"><${Mark} level="warn" label="note" /><${Words} text=${text} /></div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><strong>${title}</strong><p>${children}</p></div>`;
}

export const Waiting = () => html`<p class="waiting" role="status">asking the control plane …</p>`;

/** A page's content, or why there is none; what is there stays while something is wrong. */
export function Page({ live, children, wide = false }) {
  const { data, stale, trouble } = live;
  return html`<div class=${wide ? 'whole' : 'page'}>
    ${trouble && html`<${Problem} problem=${trouble} />`}
    ${data ? html`<div class=${`content ${stale || trouble ? 'stale' : ''}`}>${children(data)}</div>` : !trouble && html`<${Waiting} />`}
  </div>`;
}
