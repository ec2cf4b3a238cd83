// What goes through now: request by request (the tap), or path by path.
import { html } from '../lib/dom.js';
import { change, useAddress } from '../lib/address.js';
import Requests from '../tap/page.js';
import Paths from './paths.js';

const VIEWS = [['', 'Requests'], ['paths', 'By path']];

export default function Live({ window }) {
  const { params } = useAddress();
  const view = params.view === 'paths' ? 'paths' : '';
  const views = html`<span class="choice" role="group" aria-label="What is shown">${VIEWS.map(
    ([id, title]) => html`<button type="button" class="control" aria-pressed=${view === id} onClick=${() => change({ view: id })}>${title}</button>`,
  )}</span>`;
  return view === 'paths' ? html`<${Paths} window=${window} views=${views} />` : html`<${Requests} views=${views} />`;
}
