// Where nodes and edges lie: pure. Within a namespace by dagre, from left (who calls) to right (who is called); namespaces by dagre too, or packed in rows
// where that is larger on the screen. The same graph always gives the same picture.
import * as dagre from '../../vendor/dagre/dagre.js';
import { NODE } from './size.js';

const GAP = { nodes: 16, ranks: 84, pad: 18, title: 30, groups: 56 };

function run(boxes, arrows, { nodesep, ranksep }) {
  const graph = new dagre.Graph({ multigraph: false });
  graph.setGraph({ rankdir: 'LR', nodesep, ranksep, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: box.w, height: box.h });
  for (const [from, to] of arrows) if (from !== to) graph.setEdge(from, to);
  dagre.layout(graph);
  return graph;
}

/** One namespace: nodes that have edges within it by dagre, the others in columns below. */
function inside(nodes, edges) {
  const joined = new Set(edges.flat());
  const tied = nodes.filter((node) => joined.has(node.id));
  const loose = nodes.filter((node) => !joined.has(node.id));
  const at = new Map();
  const paths = new Map();
  let [w, h] = [0, 0];
  if (tied.length) {
    const graph = run(tied.map((node) => ({ ...node, ...NODE })), edges, { nodesep: GAP.nodes, ranksep: GAP.ranks });
    for (const node of tied) {
      const { x, y } = graph.node(node.id);
      at.set(node.id, [x, y]);
      w = Math.max(w, x + NODE.w / 2);
      h = Math.max(h, y + NODE.h / 2);
    }
    for (const [from, to] of edges) {
      const edge = from === to ? null : graph.edge(from, to);
      if (edge) paths.set(`${from} → ${to}`, edge.points.map(({ x, y }) => [x, y]));
    }
  }
  const columns = Math.max(1, Math.min(loose.length, w ? Math.max(1, Math.floor((w + GAP.nodes) / (NODE.w + GAP.nodes))) : Math.ceil(Math.sqrt(loose.length / 3))));
  const top = h ? h + GAP.nodes * 1.5 : 0;
  loose.forEach((node, i) => {
    const [x, y] = [(i % columns) * (NODE.w + GAP.nodes) + NODE.w / 2, top + Math.floor(i / columns) * (NODE.h + GAP.nodes) + NODE.h / 2];
    at.set(node.id, [x, y]);
    w = Math.max(w, x + NODE.w / 2);
    h = Math.max(h, y + NODE.h / 2);
  });
  return { at, paths, w, h };
}

/** Boxes in rows of about a width, in the order that dagre found. */
function packed(boxes, width) {
  const at = new Map();
  let [x, y, row, w] = [0, 0, 0, 0];
  for (const box of boxes) {
    if (x > 0 && x + box.w > width) {
      [x, y, row] = [0, y + row + GAP.groups, 0];
    }
    at.set(box.id, [x, y]);
    x += box.w + GAP.groups;
    row = Math.max(row, box.h);
    w = Math.max(w, x - GAP.groups);
  }
  return { at, w, h: y + row };
}

/** How large it is on a screen of a shape. */
const scale = ({ w, h }, aspect) => Math.min(aspect / w, 1 / h);

function arrange(boxes, arrows, aspect) {
  const graph = run(boxes, arrows, { nodesep: GAP.groups, ranksep: GAP.groups * 1.6 });
  const flow = { at: new Map(), w: 0, h: 0 };
  for (const box of boxes) {
    const { x, y } = graph.node(box.id);
    flow.at.set(box.id, [x - box.w / 2, y - box.h / 2]);
    flow.w = Math.max(flow.w, x + box.w / 2);
    flow.h = Math.max(flow.h, y + box.h / 2);
  }
  const order = [...boxes].sort((a, b) => flow.at.get(a.id)[0] - flow.at.get(b.id)[0] || flow.at.get(a.id)[1] - flow.at.get(b.id)[1]);
  const area = boxes.reduce((sum, box) => sum + (box.w + GAP.groups) * (box.h + GAP.groups), 0);
  const widths = [0.8, 0.95, 1.1, 1.25, 1.45, 1.7].map((factor) => Math.sqrt(area * aspect) * factor);
  const rows = widths.map((width) => packed(order, width)).sort((a, b) => scale(b, aspect) - scale(a, aspect))[0];
  return scale(flow, aspect) > 0.8 * scale(rows, aspect) ? flow : rows;
}

/** From the border of one node to that of another, where dagre has drawn no line. */
function between([ax, ay], [bx, by]) {
  const [hw, hh] = [NODE.w / 2, NODE.h / 2];
  if (Math.abs(bx - ax) > NODE.w * 0.9) {
    const side = bx > ax ? 1 : -1;
    const bend = Math.max(36, Math.abs(bx - ax) * 0.4);
    const [x1, x2] = [ax + hw * side, bx - hw * side];
    return { d: `M${x1} ${ay}C${x1 + bend * side} ${ay} ${x2 - bend * side} ${by} ${x2} ${by}`, middle: [(x1 + x2) / 2, (ay + by) / 2] };
  }
  const side = by > ay ? 1 : -1;
  const bend = Math.max(24, Math.abs(by - ay) * 0.4);
  const [y1, y2] = [ay + hh * side, by - hh * side];
  return { d: `M${ax} ${y1}C${ax} ${y1 + bend * side} ${bx} ${y2 - bend * side} ${bx} ${y2}`, middle: [(ax + bx) / 2, (y1 + y2) / 2] };
}

/** A smooth line through points. */
function smooth(points) {
  if (points.length < 3) return { d: `M${points.map((point) => point.join(' ')).join('L')}`, middle: points[0] };
  let d = `M${points[0].join(' ')}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    const [x, y] = points[i];
    const [nx, ny] = i === points.length - 2 ? points[i + 1] : [(x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2];
    d += `Q${x} ${y} ${nx} ${ny}`;
  }
  const half = Math.floor(points.length / 2);
  const middle = points.length % 2 ? points[half] : [(points[half - 1][0] + points[half][0]) / 2, (points[half - 1][1] + points[half][1]) / 2];
  return { d, middle };
}

const round = (d) => d.replace(/-?\d+\.\d+/g, (number) => Number(number).toFixed(1));

/** `nodes`: `[id, group]`; `edges`: `[from, to]`. Groups are `{ name, x, y, w, h }`, nodes have the middle of their box. */
export function layout({ nodes, edges, aspect }) {
  const groups = new Map();
  const groupOf = new Map(nodes);
  for (const [id, group] of nodes) {
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push({ id });
  }
  const single = groups.size === 1;
  const boxes = [...groups].sort(([a], [b]) => a.localeCompare(b)).map(([name, members]) => {
    const own = edges.filter(([from, to]) => groupOf.get(from) === name && groupOf.get(to) === name);
    const placed = inside(members, own);
    return { id: name, placed, w: placed.w + GAP.pad * 2, h: placed.h + GAP.pad * 2 + (single ? 0 : GAP.title) };
  });
  const across = edges.map(([from, to]) => [groupOf.get(from), groupOf.get(to)]).filter(([from, to]) => from !== to);
  const arranged = arrange(boxes, across, aspect);
  const result = { nodes: {}, edges: {}, groups: [], w: arranged.w, h: arranged.h };
  const lines = new Map();
  for (const box of boxes) {
    const [left, top] = arranged.at.get(box.id);
    const [dx, dy] = [left + GAP.pad, top + GAP.pad + (single ? 0 : GAP.title)];
    result.groups.push({ name: box.id, x: left, y: top, w: box.w, h: box.h });
    for (const [id, [x, y]] of box.placed.at) result.nodes[id] = [x + dx, y + dy];
    for (const [id, points] of box.placed.paths) lines.set(id, points.map(([x, y]) => [x + dx, y + dy]));
  }
  for (const [from, to] of edges) {
    const id = `${from} → ${to}`;
    const line = lines.get(id) ? smooth(lines.get(id)) : between(result.nodes[from], result.nodes[to]);
    result.edges[id] = { d: round(line.d), middle: line.middle };
  }
  return result;
}
