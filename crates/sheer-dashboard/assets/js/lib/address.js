// The address is the page's state: a link shows the same to whoever opens it. Two parameters go along from page to page: `ns` and `window`.
import { html } from './dom.js';
import { store, useStore } from './store.js';

const KEPT = ['ns', 'window'];

const read = () => ({
  path: location.pathname === '/' ? '/map' : location.pathname.replace(/\/+$/, ''),
  params: Object.fromEntries(new URLSearchParams(location.search)),
});

export const address = store(read());
addEventListener('popstate', () => address.set(read()));

export const useAddress = () => useStore(address);

function write(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== null && value !== '') query.set(name, value);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** The address of another page, with what goes along. */
export function link(path, params = {}) {
  const now = address.get().params;
  const kept = Object.fromEntries(KEPT.filter((name) => now[name]).map((name) => [name, now[name]]));
  return write(path, { ...kept, ...params });
}

/** Goes to an address within the dashboard. */
export function go(to, { replace = false } = {}) {
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  address.set(read());
}

/** Changes parameters of the page that is shown; typing replaces, choosing can be undone with Back. */
export function change(params, options) {
  const now = address.get();
  go(write(now.path, { ...now.params, ...params }), options);
}

const plain = (event) => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;

/** A link within the dashboard. */
export function A({ to, children, ...rest }) {
  const follow = (event) => {
    if (!plain(event)) return;
    event.preventDefault();
    go(to);
  };
  return html`<a href=${to} onClick=${follow} ...${rest}>${children}</a>`;
}

/** `bank/deploy/ledger` as a page of its own; null for what has none. */
export function pageOf(id) {
  const [namespace, kind, ...name] = id.split('/');
  return namespace && (kind === 'deploy' || kind === 'sts') ? `/workloads/${namespace}/${kind}/${name.join('/')}` : null;
}
