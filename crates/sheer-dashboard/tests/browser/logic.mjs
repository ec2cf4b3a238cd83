// The page's logic that needs no browser: numbers in words, the graph, the layout. Usage: node logic.mjs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../../assets/js/lib/format.js';
import { levelOf, levelOfSuccess } from '../../assets/js/lib/health.js';
import { around, graphOf, matching } from '../../assets/js/map/graph.js';
import { layout } from '../../assets/js/map/layout.js';
import { NODE } from '../../assets/js/map/size.js';

test('numbers are few digits, and none is rounded up to well', () => {
  assert.deepEqual([0, 0.001, 0.5, 9.876, 98.76, 987.6, 98765, 9876543].map(format.rate), ['0', '<0.01', '0.50', '9.88', '98.8', '988', '98.8k', '9.88M']);
  assert.deepEqual([1, 0.99999, 0.95, 0, null].map(format.percent), ['100 %', '99.99 %', '95.00 %', '0.00 %', '–']);
  assert.deepEqual([0, 0.004, 1.234, 56.78, 999, 1234, null].map(format.ms), ['0 ms', '<0.01 ms', '1.23 ms', '56.8 ms', '999 ms', '1.23 s', '–']);
  assert.deepEqual([0, 512, 2048, 5 << 20].map(format.bytes), ['0 B', '512 B', '2.00 KiB', '5.00 MiB']);
  assert.deepEqual([400, 60_000, 3_600_000, 7 * 86_400_000].map(format.age), ['0 s', '60 s', '60 min', '7 d']);
});

test('levels', () => {
  assert.deepEqual([1, 0.99, 0.98, 0.95, 0.94, null].map(levelOfSuccess), ['good', 'good', 'warn', 'warn', 'bad', 'none']);
  const node = (pods, ready, success) => levelOf({ pods, ready, numbers: { success } });
  assert.deepEqual([node(3, 3, 1), node(3, 2, 1), node(3, 0, null), node(0, 0, null), node(3, 2, 0.5)], ['good', 'warn', 'bad', 'none', 'bad']);
});

const numbers = { requests: 60, rps: 1, success: 1, p95: 2 };

/** A made-up map: `count` workloads in so many namespaces, each called by one or two before it. */
function model(count, namespaces) {
  const ids = Array.from({ length: count }, (_, i) => `ns-${i % namespaces}/deploy/w-${i}`);
  const edges = ids.flatMap((id, i) => (i === 0 ? [] : [...new Set([Math.floor(i / 2), (i * 7) % i])].map((from) => ({ source: ids[from], destination: id, numbers, idle: false }))));
  const nodes = ids.map((id) => ({ id, namespace: id.split('/')[0], kind: 'deploy', name: id.split('/')[2], pods: 1, ready: 1, meshed: 1, outside: false, numbers }));
  return { nodes, edges };
}

const lay = (graph, aspect = 1.7) =>
  layout({
    nodes: [...graph.nodes.values()].map((node) => [node.id, node.group]),
    edges: graph.edges.map((edge) => [edge.source, edge.destination]),
    aspect,
    outside: 'outside',
    together: graph.together,
  });

for (const [count, namespaces, aspect] of [[1, 1, 1.7], [9, 1, 1.7], [9, 1, 0.5], [40, 4, 1.7], [200, 12, 1.7], [200, 1, 1.7], [200, 12, 0.5], [61, 60, 1.7]]) {
  test(`${count} nodes of ${namespaces} namespaces on a screen of ${aspect}: none lies on another, every edge is drawn, the same each time`, () => {
    const graph = graphOf(model(count, namespaces));
    const made = lay(graph, aspect);
    const places = Object.entries(made.nodes);
    assert.equal(places.length, count);
    for (const [i, [id, [x, y]]] of places.entries()) {
      assert.ok(x >= NODE.w / 2 && y >= NODE.h / 2 && x <= made.w - NODE.w / 2 + 0.01 && y <= made.h - NODE.h / 2 + 0.01, `${id} lies outside: ${x} ${y} of ${made.w} ${made.h}`);
      for (const [other, [ox, oy]] of places.slice(i + 1)) assert.ok(Math.abs(x - ox) >= NODE.w || Math.abs(y - oy) >= NODE.h, `${id} lies on ${other}`);
    }
    for (const edge of graph.edges) assert.match(made.edges[edge.id].d, /^M-?[\d.]+ -?[\d.]+[LC]/);
    assert.deepEqual(lay(graphOf(model(count, namespaces)), aspect), made);
  });
}

test('around one node lie its neighbours, step by step', () => {
  const graph = graphOf(model(20, 1));
  const near = around(graph, 'ns-0/deploy/w-5', 1);
  for (const id of near.nodes.keys()) assert.ok(id === 'ns-0/deploy/w-5' || graph.nodes.get('ns-0/deploy/w-5').near.has(id), id);
  assert.ok(around(graph, 'ns-0/deploy/w-5', 2).nodes.size > near.nodes.size);
  assert.equal(around(graph, 'gone', 1), graph);
  assert.notEqual(graph.key, near.key);
});

test('a search means every word of it', () => {
  const graph = graphOf(model(20, 2));
  assert.equal(matching(graph, '  '), null);
  assert.deepEqual([...matching(graph, 'W-3 ns-1')], ['ns-1/deploy/w-3']);
});
