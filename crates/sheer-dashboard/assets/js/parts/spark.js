// A line as small as a word: requests over time, with what failed below.
import { html, Still } from '../lib/dom.js';

const [W, H] = [96, 20];

function path(values, top) {
  const step = W / Math.max(1, values.length - 1);
  return values.map((value, i) => `${i ? 'L' : 'M'}${(i * step).toFixed(1)} ${(H - 1 - (value / top) * (H - 3)).toFixed(1)}`).join('');
}

class Line extends Still {
  render({ requests, failures }) {
    const values = requests ? requests.split(',').map(Number) : [];
    const failing = failures ? failures.split(',').map(Number) : [];
    const top = Math.max(...values, 1e-9);
    const step = W / Math.max(1, values.length - 1);
    const line = path(values, top);
    const bars = failing.map((value, i) => (value > 0 ? `M${(i * step - 1).toFixed(1)} ${H}v-${Math.max(2, (value / top) * (H - 3)).toFixed(1)}h2V${H}Z` : '')).join('');
    return html`<svg class="spark" viewBox="0 0 96 20" aria-hidden="true">
      ${values.length > 1 && html`<path class="area" d=${`${line}L${W} ${H}L0 ${H}Z`} /><path class="line" d=${line} />`}
      ${bars && html`<path class="failing" d=${bars} />`}
    </svg>`;
  }
}

export const Spark = ({ requests, failures }) => html`<${Line} requests=${requests.join(',')} failures=${failures.join(',')} />`;
