// Where nodes and edges lie: pure. The same graph always gives the same picture, from left (who calls) to right (who is called).
// * Few nodes: all by dagre, with room for what is written on edges; a box around each namespace where there are several.
// * Many: names must stay readable, so each namespace is a grid in the order of calls, and namespaces are packed to fill the screen.
import * as dagre from '../../vendor/dagre/dagre.js';
import { NODE } from './size.js';

const GAP = { nodes: 18, ranks: 84, pad: 18, title: 30, groups: 56 };
/** Room for what is written on an edge, and how far from its end that begins. */
const LABEL = { w: 106, ranks: 152 };
/** More nodes than this are laid out in grids. */
const MANY = 60;

function run(boxes, arrows, { nodesep, ranksep, down = false }) {
  const graph = new dagre.Graph({ multigraph: false });
  graph.setGraph({ rankdir: down ? 'TB' : 'LR', nodesep, ranksep, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: box.w, height: box.h });
  for (const [from, to] of arrows) if (from !== to) graph.setEdge(from, to);
  dagre.layout(graph);
  return graph;
}

/** From the side of one node through what dagre chose to the side of another; back where it goes back. */
function through(graph, from, to, points, down) {
  const [a, b] = [graph.node(from), graph.node(to)];
  const { ranksep } = graph.graph();
  // Between neighbours nothing is in the way.
  const neighbours = down ? Math.abs(b.y - a.y) < NODE.h + ranksep + 1 : Math.abs(b.x - a.x) < NODE.w + ranksep + 1;
  const between = neighbours ? [] : points.slice(1, -1).map(({ x, y }) => [x, y]);
  if (down) {
    const side = (b.y > a.y ? 1 : -1) * (NODE.h / 2);
    return [[a.x, a.y + side], ...between, [b.x, b.y - side]];
  }
  const side = (b.x > a.x ? 1 : -1) * (NODE.w / 2);
  return [[a.x + side, a.y], ...between, [b.x - side, b.y]];
}

/** Where labels stand free: beside a node that has one edge only on that side, else beside the target of the first edge that arrives there. The line is
 *  level where its label is. */
function labelled(lines) {
  const near = ([, , points]) => points.length === 2;
  const out = new Map();
  for (const line of lines.filter(near)) out.set(line[0], (out.get(line[0]) ?? 0) + 1);
  const taken = new Set();
  return lines.map((line) => {
    const [from, to, points] = line;
    const [start, end] = points;
    const side = near(line) && end[0] > start[0] ? 1 : -1;
    if (near(line) && out.get(from) === 1) return [from, to, [start, [start[0] + LABEL.w * side, start[1]], end], [start[0] + (LABEL.w / 2) * side, start[1]]];
    if (near(line) && !taken.has(to)) {
      taken.add(to);
      return [from, to, [start, [end[0] - LABEL.w * side, end[1]], end], [end[0] - (LABEL.w / 2 + 4) * side, end[1]]];
    }
    return [from, to, points, null];
  });
}

/** Nodes that have edges by dagre, the others in columns below. */
function flow(nodes, edges, { labels, down }) {
  const joined = new Set(edges.flat());
  const tied = nodes.filter((node) => joined.has(node.id));
  const loose = nodes.filter((node) => !joined.has(node.id));
  const placed = { at: new Map(), paths: new Map(), w: 0, h: 0 };
  const put = (id, x, y) => {
    placed.at.set(id, [x, y]);
    placed.w = Math.max(placed.w, x + NODE.w / 2);
    placed.h = Math.max(placed.h, y + NODE.h / 2);
  };
  if (tied.length) {
    const graph = run(tied.map((node) => ({ ...node, ...NODE })), edges, { nodesep: GAP.nodes + (labels ? 8 : 0), ranksep: labels && !down ? LABEL.ranks : GAP.ranks, down });
    for (const node of tied) put(node.id, graph.node(node.id).x, graph.node(node.id).y);
    const drawn = edges.filter(([from, to]) => from !== to && graph.edge(from, to));
    const lines = drawn.map(([from, to]) => [from, to, through(graph, from, to, graph.edge(from, to).points, down), null]);
    for (const [from, to, points, label] of labels && !down ? labelled(lines) : lines) placed.paths.set(`${from} → ${to}`, { points, label });
  }
  const columns = Math.max(1, placed.w ? Math.floor((placed.w + GAP.nodes) / (NODE.w + GAP.nodes)) : Math.ceil(Math.sqrt(loose.length / 3)));
  const top = placed.h ? placed.h + GAP.nodes * 1.5 : 0;
  loose.forEach((node, i) => put(node.id, (i % columns) * (NODE.w + GAP.nodes) + NODE.w / 2, top + Math.floor(i / columns) * (NODE.h + GAP.nodes) + NODE.h / 2));
  return placed;
}

/** Who calls before who is called. Where calls go round, whoever is called least comes first. */
function inOrder(ids, edges) {
  const waits = new Map(ids.map((id) => [id, 0]));
  const calls = new Map(ids.map((id) => [id, []]));
  for (const [from, to] of edges) {
    if (from === to) continue;
    calls.get(from).push(to);
    waits.set(to, waits.get(to) + 1);
  }
  const order = [];
  let left = [...ids].sort();
  while (left.length) {
    const least = Math.min(...left.map((id) => waits.get(id)));
    const next = least === 0 ? left.filter((id) => waits.get(id) === 0) : [left.find((id) => waits.get(id) === least)];
    for (const id of next) for (const to of calls.get(id)) waits.set(to, waits.get(to) - 1);
    order.push(...next);
    left = left.filter((id) => !next.includes(id));
  }
  return order;
}

/** Columns in the order of the flow. */
function grid(nodes, edges) {
  const columns = Math.max(1, Math.round(Math.sqrt(nodes.length / 1.9)));
  const rows = Math.ceil(nodes.length / columns);
  const placed = { at: new Map(), paths: new Map(), w: 0, h: 0 };
  inOrder(nodes.map((node) => node.id), edges).forEach((id, i) => {
    const [x, y] = [Math.floor(i / rows) * (NODE.w + GAP.nodes) + NODE.w / 2, (i % rows) * (NODE.h + 12) + NODE.h / 2];
    placed.at.set(id, [x, y]);
    placed.w = Math.max(placed.w, x + NODE.w / 2);
    placed.h = Math.max(placed.h, y + NODE.h / 2);
  });
  return placed;
}

/** Boxes in rows of about a width. */
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

/** In the flow by dagre, where that is about as large on the screen as rows are. */
function arrange(boxes, arrows, aspect) {
  const graph = run(boxes, arrows, { nodesep: GAP.groups, ranksep: GAP.groups * 1.6 });
  const flow = { at: new Map(), w: 0, h: 0 };
  for (const box of boxes) {
    const { x, y } = graph.node(box.id);
    flow.at.set(box.id, [x - box.w / 2, y - box.h / 2]);
    flow.w = Math.max(flow.w, x + box.w / 2);
    flow.h = Math.max(flow.h, y + box.h / 2);
  }
  const rows = inRows(boxes, arrows, aspect);
  return scale(flow, aspect) > 0.8 * scale(rows, aspect) ? flow : rows;
}

/** In rows of the width that is largest on the screen. */
function inRows(boxes, arrows, aspect) {
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const order = inOrder([...byId.keys()], arrows).map((id) => byId.get(id));
  const area = boxes.reduce((sum, box) => sum + (box.w + GAP.groups) * (box.h + GAP.groups), 0);
  const widths = [0.8, 0.95, 1.1, 1.25, 1.45, 1.7].map((factor) => Math.sqrt(area * aspect) * factor);
  return widths.map((width) => packed(order, width)).sort((a, b) => scale(b, aspect) - scale(a, aspect))[0];
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

/** A smooth line through points that leaves and arrives along the flow. */
function smooth(points, down) {
  let d = `M${points[0].join(' ')}`;
  for (let i = 1; i < points.length; i += 1) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const [half, straight] = down ? [(y1 - y0) / 2, Math.abs(x1 - x0) < 0.5] : [(x1 - x0) / 2, Math.abs(y1 - y0) < 0.5];
    if (straight) d += `L${x1} ${y1}`;
    else if (down) d += `C${x0} ${y0 + half} ${x1} ${y1 - half} ${x1} ${y1}`;
    else d += `C${x0 + half} ${y0} ${x1 - half} ${y1} ${x1} ${y1}`;
  }
  const half = (points.length - 1) / 2;
  const [[ax, ay], [bx, by]] = [points[Math.floor(half)], points[Math.ceil(half)]];
  return { d, middle: [(ax + bx) / 2, (ay + by) / 2] };
}

const round = (d) => d.replace(/-?\d+\.\d+/g, (number) => Number(number).toFixed(1));

/** `nodes`: `[id, group]`; `edges`: `[from, to]`; `outside` is the group of what no namespace has. Groups are `{ name, x, y, w, h }`, nodes have the
 * middle of their box. `together`: one flow, without groups. */
export function layout({ nodes, edges, aspect, outside, together = false }) {
  const many = nodes.length > MANY;
  const labels = !many && edges.length <= 40;
  // A narrow screen is read downwards.
  const down = aspect < 0.9;
  const names = new Set(nodes.map(([, group]) => group).filter((group) => group !== outside));
  // One namespace needs no box, and its peers outside of the mesh stand where the flow has them.
  const single = together || names.size <= 1;
  const groupOf = new Map(nodes.map(([id, group]) => [id, single ? 'all' : group]));
  const groups = new Map();
  for (const [id, group] of groupOf) groups.set(group, [...(groups.get(group) ?? []), { id }]);
  const boxes = [...groups].sort(([a], [b]) => a.localeCompare(b)).map(([name, members]) => {
    const own = edges.filter(([from, to]) => groupOf.get(from) === name && groupOf.get(to) === name);
    const placed = many && !single ? grid(members, own) : flow(members, own, { labels, down });
    return { id: name, placed, w: placed.w + GAP.pad * 2, h: placed.h + GAP.pad * 2 + (single ? 0 : GAP.title) };
  });
  const across = edges.map(([from, to]) => [groupOf.get(from), groupOf.get(to)]).filter(([from, to]) => from !== to);
  const arranged = many && !single ? inRows(boxes, across, aspect) : arrange(boxes, across, aspect);
  const result = { nodes: {}, edges: {}, groups: [], w: arranged.w, h: arranged.h };
  const lines = new Map();
  for (const box of boxes) {
    const [left, top] = arranged.at.get(box.id);
    const move = ([x, y]) => [x + left + GAP.pad, y + top + GAP.pad + (single ? 0 : GAP.title)];
    if (!single) result.groups.push({ name: box.id, x: left, y: top, w: box.w, h: box.h });
    for (const [id, at] of box.placed.at) result.nodes[id] = move(at);
    for (const [id, { points, label }] of box.placed.paths) lines.set(id, { points: points.map(move), label: label && move(label) });
  }
  for (const [from, to] of edges) {
    const id = `${from} → ${to}`;
    const drawn = lines.get(id);
    const line = drawn ? smooth(drawn.points, down) : between(result.nodes[from], result.nodes[to]);
    result.edges[id] = { d: round(line.d), middle: drawn?.label ?? line.middle };
  }
  return result;
}
