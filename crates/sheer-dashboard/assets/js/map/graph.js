// From the model of the map to what is drawn: pure.
import * as format from '../lib/format.js';
import { levelOf, levelOfSuccess } from '../lib/health.js';

/** Name of the group of what no namespace has. */
export const OUTSIDE = 'outside of the mesh';

/** Nodes and edges by id, neighbours, and a key that changes only with the shape. */
export function graphOf(model) {
  const nodes = new Map();
  for (const node of model.nodes) {
    nodes.set(node.id, {
      ...node,
      group: node.namespace || OUTSIDE,
      level: node.outside ? 'none' : levelOf(node),
      near: new Set(),
    });
  }
  const edges = [];
  for (const edge of model.edges) {
    const id = `${edge.source} → ${edge.destination}`;
    if (edge.source !== edge.destination) {
      nodes.get(edge.source).near.add(edge.destination);
      nodes.get(edge.destination).near.add(edge.source);
    }
    edges.push({ ...edge, id, level: edge.idle ? 'none' : levelOfSuccess(edge.numbers.success) });
  }
  return { nodes, edges, key: keyOf(nodes.keys(), edges) };
}

const keyOf = (ids, edges) => `${[...ids].join('|')}#${edges.map((edge) => edge.id).join('|')}`;

/** So few nodes are shown in one flow, whatever their namespaces. */
const TOGETHER = 30;

/** Only a node and what lies within so many steps of it. */
export function around(graph, id, steps) {
  if (!graph.nodes.has(id)) return graph;
  const kept = new Set([id]);
  let rim = [id];
  for (let step = 0; step < steps; step += 1) {
    rim = rim.flatMap((at) => [...graph.nodes.get(at).near]).filter((at) => !kept.has(at));
    for (const at of rim) kept.add(at);
  }
  const nodes = new Map([...graph.nodes].filter(([at]) => kept.has(at)));
  const edges = graph.edges.filter((edge) => kept.has(edge.source) && kept.has(edge.destination));
  const together = nodes.size <= TOGETHER;
  return { nodes, edges, together, key: `${together}${keyOf(nodes.keys(), edges)}` };
}

/** Ids of the nodes that a search means. */
export function matching(graph, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const hit = (node) => words.every((word) => `${node.namespace}/${node.kind}/${node.name}`.toLowerCase().includes(word));
  return new Set([...graph.nodes.values()].filter(hit).map((node) => node.id));
}

/** What is written below a node's name. */
export function caption(node, together = false) {
  const { numbers } = node;
  if (node.outside) return node.kind;
  if (together) return `${node.namespace} · ${numbers.requests > 0 ? `${format.rate(numbers.rps)}/s` : 'idle'}`;
  if (numbers.requests > 0) return `${format.rate(numbers.rps)}/s · ${format.ms(numbers.p95)}`;
  if (numbers.tcp_open > 0) return `${numbers.tcp_open} connections`;
  return 'idle';
}

/** What is written on an edge. */
export function label(edge) {
  const { numbers } = edge;
  if (edge.idle) return '';
  if (numbers.requests > 0) return `${format.rate(numbers.rps)}/s · ${format.ms(numbers.p95)}`;
  return `${format.bps(numbers.read_bps + numbers.write_bps)}`;
}

/** A node in words, for those who do not see it. */
export function words(node, shown = caption(node)) {
  const { numbers } = node;
  const parts = [`${node.kind}/${node.name} ${shown}`, node.group];
  if (numbers.requests > 0) parts.push(`${format.rate(numbers.rps)} requests a second`, `${format.percent(numbers.success)} well`, `95 % within ${format.ms(numbers.p95)}`);
  if (!node.outside) parts.push(`${node.ready} of ${node.pods} pods ready`, node.meshed === 0 ? 'without a sidecar' : node.meshed < node.pods ? 'partly meshed' : 'meshed');
  return parts.join(', ');
}
