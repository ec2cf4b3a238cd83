// The picture: groups, edges, nodes. What it draws comes laid out; what is chosen comes from the address.
import { html, Still, useCallback, useEffect, useLayoutEffect, useRef, useState } from '../lib/dom.js';
import { NODE } from './size.js';
import { caption, label, words } from './graph.js';
import { View } from './view.js';

/** Labels on all edges of more than this would cover the picture. */
const LABELLED = 40;
const NAME = 17;

const cut = (text, most = NAME) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
/** Within the box of its namespace a name need not say it again. */
const briefly = (node) => (node.name.startsWith(`${node.namespace}-`) ? node.name.slice(node.namespace.length + 1) : node.name);

const SHAPES = {
  good: html`<circle r="4.6" />`,
  warn: html`<path d="M0-5.4 5.4 4.4H-5.4Z" />`,
  bad: html`<path d="M-4.6-4.6H4.6V4.6H-4.6Z" />`,
  none: html`<circle r="4.2" class="ring" />`,
};

/** What is written comes first, where it is cut short; then all of it. */
function spoken(node, text) {
  const all = words(node, text);
  if (node.name.length > NAME) return `${cut(node.name)} ${text}, ${cut(briefly(node), 12)}, ${all}`;
  return node.name.length > 12 ? `${cut(briefly(node), 12)}, ${all}` : all;
}

class Node extends Still {
  render({ id, x, y, name, brief, text, level, meshing, dim, chosen, stop, say, kind, onChoose, onFocus }) {
    return html`<g class=${`node ${level} ${meshing} ${dim ? 'dim' : ''} ${chosen ? 'chosen' : ''}`} transform=${`translate(${x} ${y})`} data-id=${id}
      role="button" tabindex=${stop ? 0 : -1} aria-label=${say} aria-pressed=${chosen} onClick=${() => onChoose(id)} onFocus=${() => onFocus(id)}>
      <title>${kind}/${name}</title>
      <rect class="box" x=${-NODE.w / 2} y=${-NODE.h / 2} width=${NODE.w} height=${NODE.h} rx=${meshing === 'outside' ? NODE.h / 2 : 6} />
      <g class="sign" transform=${`translate(${-NODE.w / 2 + 15} -6)`}>${SHAPES[level]}</g>
      <g aria-hidden="true"><text class="name" x=${-NODE.w / 2 + 27} y="-2">${cut(name)}</text>${' '}
        <text class="short" x=${-NODE.w / 2 + 32} y="8">${cut(brief, 12)}</text>${' '}
        <text class="numbers" x=${-NODE.w / 2 + 27} y="14">${text}</text></g>
    </g>`;
  }
}

class Edge extends Still {
  render({ id, d, level, tls, width, dim, chosen, onChoose }) {
    return html`<g class=${`edge ${level} ${tls} ${dim ? 'dim' : ''} ${chosen ? 'chosen' : ''}`} data-id=${id} onClick=${() => onChoose(id)}>
      <path class="wide" d=${d} />
      <path class="line" d=${d} stroke-width=${width} marker-end="url(#tip)" />
    </g>`;
  }
}

/** What is written on an edge, over all edges: its numbers, and a sign where it is not well. */
class Label extends Still {
  render({ id, x, y, level, text, dim, chosen, onChoose }) {
    const unwell = level === 'bad' || level === 'warn';
    if (!text) return html`<g class=${`label ${level} ${dim ? 'dim' : ''}`} transform=${`translate(${x} ${y})`}>${unwell && html`<g class="sign">${SHAPES[level]}</g>`}</g>`;
    const w = text.length * 5.7 + (unwell ? 26 : 12);
    return html`<g class=${`label ${level} ${dim ? 'dim' : ''} ${chosen ? 'chosen' : ''}`} transform=${`translate(${x} ${y})`} onClick=${() => onChoose(id)}>
      <rect x=${-w / 2} y="-9" width=${w} height="18" rx="4" />
      ${unwell && html`<g class="sign" transform=${`translate(${-w / 2 + 11} 0)`}>${SHAPES[level]}</g>`}
      <text x=${unwell ? 7 : 0} y="4">${text}</text></g>`;
  }
}

const meshing = (node) => (node.outside ? 'outside' : node.meshed === 0 ? 'unmeshed' : node.meshed < node.pods ? 'partly' : 'meshed');
const width = (edge) => (edge.idle ? 1 : Math.round(Math.min(4, 1.1 + Math.log10(1 + edge.numbers.rps) * 0.9) * 4) / 4);

/** The node that lies next in a direction: near, and not far off the line. */
function next(layout, from, [dx, dy]) {
  const [x, y] = layout.nodes[from];
  let best = null;
  let least = Infinity;
  for (const [id, [ox, oy]] of Object.entries(layout.nodes)) {
    const along = (ox - x) * dx + (oy - y) * dy;
    const off = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    if (id !== from && along > 8 && along + off * 2 < least) [best, least] = [id, along + off * 2];
  }
  return best;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function Canvas({ graph, made, found, chosen, over: covered, onChoose, onFocusOn, onAspect, control }) {
  const svg = useRef(null);
  const layer = useRef(null);
  const view = useRef(null);
  const [stop, setStop] = useState(null);
  const [over, setOver] = useState(null);
  const { layout } = made ?? {};

  useLayoutEffect(() => {
    view.current = new View(svg.current, layer.current);
    view.current.apply();
    const [w, h] = view.current.size();
    onAspect(Math.max(0.4, w / Math.max(1, h - 60)));
  }, []);
  useEffect(() => {
    if (!layout) return undefined;
    const fit = () => view.current.fit(layout.w, layout.h);
    fit();
    const seen = new ResizeObserver(() => !view.current.touched && fit());
    seen.observe(svg.current);
    return () => seen.disconnect();
  }, [made?.key]);
  useEffect(() => {
    if (layout && chosen && layout.nodes[chosen]) view.current.show(layout.nodes[chosen], covered);
  }, [chosen, covered, made?.key]);
  control.current = {
    zoom: (factor) => view.current.zoom(factor),
    fit: () => layout && view.current.fit(layout.w, layout.h),
  };

  const lit = over ?? chosen;
  const near = lit && graph.nodes.get(lit)?.near;
  const faint = (id) => (found ? !found.has(id) : lit && graph.nodes.has(lit) ? id !== lit && !near.has(id) : false);
  const touches = (edge) => edge.source === lit || edge.destination === lit;
  const faintEdge = (edge) => (found ? !(found.has(edge.source) || found.has(edge.destination)) : lit ? (graph.nodes.has(lit) ? !touches(edge) : edge.id !== lit) : false);
  const choose = useCallback((id) => !view.current.dragged() && onChoose(id), [onChoose]);
  const mixed = graph.together && new Set([...graph.nodes.values()].map((node) => node.group)).size > 1;
  const few = graph.edges.length <= LABELLED;
  const ids = layout ? [...graph.nodes.keys()].filter((id) => layout.nodes[id]) : [];
  const entry = stop && layout?.nodes[stop] ? stop : ids[0];

  const pressed = (event) => {
    const id = event.target.closest?.('.node')?.dataset.id;
    if (!id) return;
    const arrow = ARROWS[event.key];
    if (!arrow && !['Enter', ' ', 'f'].includes(event.key)) return;
    // Handled here, for the node that has the focus; the page would do it for the one that is chosen.
    event.preventDefault();
    event.stopPropagation();
    if (arrow) {
      const to = next(layout, id, arrow);
      if (to) {
        view.current.show(layout.nodes[to], covered);
        svg.current.querySelector(`[data-id="${CSS.escape(to)}"]`)?.focus();
      }
    } else if (event.key === 'f') {
      onFocusOn(id);
    } else {
      onChoose(id);
    }
  };
  return html`<svg class=${`map ${ids.length > 60 ? 'many' : ''}`} ref=${svg} role="group" aria-label=${`Map of ${ids.length} workloads and peers; arrow keys go from one to the next`}
      onKeyDown=${pressed} onClick=${(event) => event.target === svg.current && choose(null)}
      onMouseOver=${(event) => setOver(event.target.closest?.('.node')?.dataset.id ?? null)} onMouseLeave=${() => setOver(null)}>
    <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 .8 7.4 4 0 7.2Z" /></marker></defs>
    <g ref=${layer}>
      ${layout && layout.groups.length > 1 && layout.groups.map((group) => html`<g key=${group.name} class="group" transform=${`translate(${group.x} ${group.y})`}>
        <rect width=${group.w} height=${group.h} rx="10" /><text x="16" y="26">${group.name}</text></g>`)}
      ${layout && graph.edges.map((edge) => {
        const line = layout.edges[edge.id];
        return line && html`<${Edge} key=${edge.id} id=${edge.id} d=${line.d} level=${edge.level} tls=${edge.tls} width=${width(edge)} dim=${faintEdge(edge)}
          chosen=${edge.id === chosen || touches(edge)} onChoose=${choose} />`;
      })}
      ${layout && graph.edges.map((edge) => {
        const line = layout.edges[edge.id];
        const text = few || touches(edge) || edge.id === lit ? label(edge) : '';
        return line && (text || edge.level === 'bad' || edge.level === 'warn') && html`<${Label} key=${edge.id} id=${edge.id} x=${line.middle[0]} y=${line.middle[1]} level=${edge.level} text=${text}
          dim=${faintEdge(edge)} chosen=${edge.id === chosen} onChoose=${choose} />`;
      })}
      ${ids.map((id) => {
        const node = graph.nodes.get(id);
        const [x, y] = layout.nodes[id];
        const text = caption(node, mixed);
        return html`<${Node} key=${id} id=${id} x=${x} y=${y} name=${node.name} brief=${layout.groups.length > 1 ? briefly(node) : node.name} kind=${node.kind} text=${text} level=${node.level} meshing=${meshing(node)}
          dim=${faint(id)} chosen=${id === chosen} stop=${id === entry} say=${spoken(node, text)} onChoose=${choose} onFocus=${setStop} />`;
      })}
    </g>
  </svg>`;
}
