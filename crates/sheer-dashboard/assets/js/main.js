// The frame around every page: which page the address means, the bar, the line below, keys.
import { Fragment, html, render, useEffect, useRef, useState } from './lib/dom.js';
import { A, address, change, go, link, useAddress } from './lib/address.js';
import * as format from './lib/format.js';
import { useKeys } from './lib/keys.js';
import { connection, paused, status } from './lib/live.js';
import { useStore } from './lib/store.js';
import { theme, toggle } from './lib/theme.js';
import { Empty, Waiting } from './parts/messages.js';

const PAGES = [
  { path: '/map', title: 'Map', key: 'm', load: () => import('./pages/map.js') },
  { path: '/workloads', title: 'Workloads', key: 'w', load: () => import('./pages/workloads.js') },
  { path: '/routes', title: 'Routes', key: 'r', load: () => import('./pages/routes.js') },
  { path: '/live', title: 'Live', key: 'l', load: () => import('./pages/live.js') },
  { path: '/traces', title: 'Traces', key: 't', load: () => import('./pages/traces.js') },
  { path: '/policy', title: 'Policy', key: 'p', load: () => import('./pages/policy.js') },
  { path: '/health', title: 'Health', key: 'h', load: () => import('./pages/health.js') },
];
const BELOW = [
  { match: /^\/workloads\/([^/]+)\/([^/]+)\/(.+)$/, load: () => import('./pages/workload.js'), params: ([, ns, kind, name]) => ({ of: `${ns}/${kind}/${name}` }) },
  { match: /^\/requests\/([^/]+)\/(deploy|sts|pod)\/([^/]+)$/, load: () => import('./pages/request.js'), params: ([, ns, kind, name]) => ({ of: `${ns}/${kind}/${name}` }) },
  { match: /^\/requests\/([^/]+)\/([^/]+)\/(\d+)$/, load: () => import('./pages/request.js'), params: ([, ns, pod, number]) => ({ ns, id: `${pod}/${number}` }) },
  { match: /^\/traces\/([0-9a-f]+)$/, load: () => import('./pages/trace.js'), params: ([, id]) => ({ id }) },
];

/** Times to choose from, the one that holds where none is chosen, and none for pages that have no such thing. */
function windowsOf(path, view) {
  if (path === '/live') return view === 'paths' ? [['10s', '30s', '1m'], '30s'] : [[], ''];
  if (path.startsWith('/requests/')) return [[], ''];
  if (path === '/traces') return [['5m', '10m', '1h', '6h'], '1h'];
  if (path === '/health' || path.startsWith('/traces/')) return [[], ''];
  return [['30s', '1m', '5m', '10m', '1h', '6h'], path.startsWith('/workloads/') ? '10m' : '1m'];
}

function windowOf(path, chosen, view) {
  const [windows, usual] = windowsOf(path, view);
  return windows.includes(chosen) ? chosen : usual;
}

function find(path) {
  const page = PAGES.find((page) => page.path === path);
  if (page) return { load: page.load, params: {} };
  for (const page of BELOW) {
    const match = path.match(page.match);
    if (match) return { load: page.load, params: page.params(match.map(decodeURIComponent)) };
  }
  return null;
}

const loaded = new Map();

/** The page of an address; its module is fetched when it is wanted first. */
function Content({ path }) {
  const found = find(path);
  const { params } = useAddress();
  const [, redraw] = useState(0);
  useEffect(() => {
    if (found && !loaded.has(found.load.toString())) {
      found.load().then((module) => {
        loaded.set(found.load.toString(), module.default);
        redraw((n) => n + 1);
      });
    }
  }, [path]);
  if (!found) {
    return html`<${Empty} title="There is no such page">The link may be of another version. <${A} to=${link('/map')}>To the map<//><//>`;
  }
  const Shown = loaded.get(found.load.toString());
  return Shown ? html`<${Shown} key=${path} ...${found.params} window=${windowOf(path, params.window, params.view)} />` : html`<${Waiting} />`;
}

const ICONS = {
  sun: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="3" /><path d="M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13" /></svg>`,
  moon: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3Z" /></svg>`,
  pause: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M5.5 3.5v9M10.5 3.5v9" /></svg>`,
  play: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M5 3.5v9l7.5-4.5Z" /></svg>`,
};

function Bar({ here, onHelp }) {
  const now = useStore(status);
  const held = useStore(paused);
  const shown = useStore(theme);
  const { path, params } = useAddress();
  const namespaces = [...new Set([...(now?.namespaces ?? []), params.ns].filter(Boolean))].sort();
  const [windows] = windowsOf(path, params.view);
  const window = windowOf(path, params.window, params.view);
  return html`<header class="bar">
    <${A} class="brand" to=${link('/map')} aria-label="Sheer: the map"><img src="/assets/icon.svg" alt="" width="20" height="20" /><span>Sheer</span><//>
    <nav class="tabs" aria-label="Pages">${PAGES.map(
      (page) => html`<${A} key=${page.path} to=${link(page.path)} aria-current=${here === page ? 'page' : undefined}>${page.title}<//>`,
    )}</nav>
    <div class="right">
      <select class="control" aria-label="Namespace" value=${params.ns ?? ''} onChange=${(event) => change({ ns: event.target.value })}>
        <option value="">all namespaces</option>
        ${namespaces.map((name) => html`<option key=${name} value=${name} selected=${name === params.ns}>${name}</option>`)}
      </select>
      <select class="control" aria-label="Time that numbers are about" value=${window} disabled=${!windows.length} onChange=${(event) => change({ window: event.target.value })}>
        ${windows.length ? windows.map((name) => html`<option key=${name} value=${name} selected=${name === window}>last ${name}</option>`) : html`<option value="">now</option>`}
      </select>
      <button type="button" class="control icon" aria-pressed=${held} aria-label=${held ? 'Go on with updates' : 'Hold updates back'} title=${held ? 'Go on (.)' : 'Hold (.)'}
        onClick=${() => paused.set(!held)}>${held ? ICONS.play : ICONS.pause}</button>
      <button type="button" class="control icon" aria-label=${shown === 'dark' ? 'Light colours' : 'Dark colours'} title="Colours (d)" onClick=${toggle}>
        ${shown === 'dark' ? ICONS.sun : ICONS.moon}</button>
      <button type="button" class="control icon keys-button" aria-label="Keys" title="Keys (?)" onClick=${onHelp}>?</button>
    </div>
  </header>`;
}

/** Which mesh this is and whether it is heard of. Its width does not change with the numbers. */
function Below() {
  const now = useStore(status);
  const open = useStore(connection);
  const held = useStore(paused);
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const state = held ? 'paused' : open.state === 'away' ? 'away' : '';
  const words = held ? 'held back' : open.at ? `${open.state === 'away' ? 'not since' : 'updated'} ${format.ago(open.at)}` : 'waiting';
  return html`<footer class="below">
    ${now && html`<${Fragment}>
      <span>${now.connected} of ${now.proxies} proxies report</span>
      <span class="wide">control plane ${now.version}</span>
      <span class="wide">trust domain ${now.trust_domain}</span>
      <span class="wide">${format.bytes(now.bytes)} of ${format.bytes(now.bytes_limit)} remembered in ${format.count(now.series)} series</span>
      ${now.errors + now.warnings > 0 && html`<${A} to=${link('/health')}>${now.errors + now.warnings} ${now.errors + now.warnings === 1 ? 'finding' : 'findings'} in manifests<//>`}
    <//>`}
    <span class="right"><i class=${`pulse ${state}`}></i>${words}</span>
  </footer>`;
}

const KEYS = [
  ['/', 'search'],
  ...PAGES.map((page) => [`g ${page.key}`, page.title]),
  ['.', 'hold updates back, and go on'],
  ['d', 'dark or light colours'],
  ['?', 'these keys'],
  ['← ↑ → ↓', 'map: to the neighbour in that direction'],
  ['Enter', 'map: what is known of it'],
  ['f', 'map: only it and its neighbours'],
  ['+  −  0', 'map: closer, further, all'],
  ['Esc', 'back'],
];

function Help({ open, onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    if (open && !dialog.current.open) dialog.current.showModal();
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="keys">
    <h1 id="keys">Keys</h1>
    <dl class="keys">${KEYS.map(([key, what]) => html`<dt key=${key}>${key.split(' ').filter(Boolean).map((part) => html`<kbd>${part}</kbd> `)}</dt><dd>${what}</dd>`)}</dl>
    <button type="button" class="control" onClick=${onClose}>Close</button>
  </dialog>`;
}

function Shell() {
  const { path } = useAddress();
  const [help, setHelp] = useState(false);
  const main = useRef(null);
  // A request is a line of the live page, looked at closely.
  const place = path.replace(/^\/requests\//, '/live/');
  const here = PAGES.find((page) => place === page.path || place.startsWith(`${page.path}/`));
  useEffect(() => {
    const [, , , ...name] = path.split('/');
    document.title = `${place !== path ? 'Request ' : ''}${name.length ? `${decodeURIComponent(name.join('/'))} · ` : ''}${here?.title ?? 'Not found'} · Sheer`;
    main.current.scrollTop = 0;
  }, [path]);
  useKeys({
    '?': () => setHelp(true),
    '.': () => paused.set(!paused.get()),
    d: toggle,
    '/': () => document.querySelector('input[type=search]')?.focus(),
    ...Object.fromEntries(PAGES.map((page) => [`g ${page.key}`, () => go(link(page.path))])),
  });
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>To the content</a>
    <${Bar} here=${here} onHelp=${() => setHelp(true)} />
    <main id="main" tabindex="-1" ref=${main}><${Content} path=${path} /></main>
    <${Below} />
    <${Help} open=${help} onClose=${() => setHelp(false)} />
  </div>`;
}

if (location.pathname === '/') go(link('/map', address.get().params), { replace: true });
render(html`<${Shell} />`, document.getElementById('app'));
