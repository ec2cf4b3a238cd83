// The page's logic that needs no browser: numbers in words, the graph, the layout. Usage: node logic.mjs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../../assets/js/lib/format.js';
import { levelOf, levelOfSuccess } from '../../assets/js/lib/health.js';
import { around, graphOf, matching } from '../../assets/js/map/graph.js';
import { layout } from '../../assets/js/map/layout.js';
import { NODE } from '../../assets/js/map/size.js';
import { sections, verdictOf } from '../../assets/js/request/points.js';
import { add, EMPTY, ends, MOST, release, remarks } from '../../assets/js/tap/rows.js';

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

const batch = (number, ...ids) => ({ number, lines: ids.map((id) => ({ namespace: 'bank', id: `web-0/${id}`, time: `2026-11-26T10:00:00.${String(id).padStart(6, '0')}Z` })), slow: 0, beyond_rate: 1, rate: 100, notes: ['told'] });

test('rows of the tap are newest first, each once, and bounded', () => {
  let state = add(EMPTY, batch(0, 3, 1, 2), false);
  state = add(state, batch(1, 2, 4), false);
  assert.deepEqual(state.rows.map((row) => row.id), ['web-0/4', 'web-0/3', 'web-0/2', 'web-0/1']);
  assert.deepEqual([state.seen, state.beyond, state.notes], [5, 2, ['told']]);
  for (let i = 0; i < MOST; i += 1) state = add(state, batch(i + 2, 10 + i), false);
  assert.equal(state.rows.length, MOST);
  assert.equal(state.rows[0].id, `web-0/${9 + MOST}`);
});

test('what comes while rows are held waits, within bounds, and is shown then', () => {
  let state = add(EMPTY, batch(0, 1), false);
  const rows = state.rows;
  state = add(state, batch(1, 2, 3), true);
  assert.equal(state.rows, rows);
  assert.equal(state.waiting.length, 2);
  for (let i = 0; i < MOST + 9; i += 1) state = add(state, batch(i + 2, 10 + i), true);
  assert.equal(state.waiting.length, MOST);
  state = release(state);
  assert.deepEqual([state.waiting.length, state.rows.length, release(state) === state], [0, MOST, true]);
});

test('watching that began anew is said among the rows', () => {
  const state = add(add(EMPTY, batch(0, 1), false), batch(0, 2), false, '2026-11-26T10:00:00.000001Z9');
  assert.equal(state.rows.filter((row) => row.gap).length, 1);
});

test('a line says who is at fault and what was tried before', () => {
  const views = { outbound: { attempts: 3, passed_over: [{ status: 503, grpc_status: null }, { status: 200, grpc_status: 14 }] } };
  assert.deepEqual(remarks({ kind: 'end', reason: 'failfast', verdict: 'capacity', views }), ['failfast · capacity', 'attempt 3 after 503, gRPC 14']);
  for (const outbound of [undefined, { how: 'FIN' }]) {
    assert.deepEqual(remarks({ kind: 'tcp', message: 'FIN', closed_by: 'client', views: { outbound } }), ['FIN by the client']);
  }
  assert.deepEqual(ends({ source: 'bank/web-0', destination: 'bank/ledger-0' }), ['web-0', 'ledger-0']);
  assert.deepEqual(ends({ source: 'bank/web-0', destination: 'shop/cart-0' }), ['bank/web-0', 'shop/cart-0']);
});

const point = (...request) => ({ protocol: 'http/2', request, request_trailers: [], interim: [], response: [], response_trailers: [] });
const DIFF = {
  points: { 1: point(['a', '1'], ['c', 'x'], ['c', 'y']), 2: point(['a', '1'], ['c', 'x'], ['c', 'y']), 3: point(['A', '2'], ['c', 'x'], ['c', 'y']), 4: null },
  differences: [{ part: 'request', field: 'A', first_seen_at: 3, documented: false }, { part: 'request', field: 'b', first_seen_at: 4, documented: true }],
};

test('fields that stay equal are told once, and what nobody knows is no absence', () => {
  const [request] = sections(DIFF);
  const row = (name) => request.rows.find((one) => one.name === name).cells.map((cell) => [cell.values, cell.span]);
  assert.deepEqual(row('a'), [[['1'], 2], [['2'], 1], [undefined, 1]]);
  assert.deepEqual(row('c'), [[['x', 'y'], 3], [undefined, 1]]);
  assert.deepEqual(row('b'), [[null, 3], [undefined, 1]]);
  assert.deepEqual(sections(DIFF, true)[0].rows.map((one) => one.name), ['a', 'b']);
});

test('what is known at no two points is not said to be the same', () => {
  const at = (...known) => verdictOf({ points: Object.fromEntries([1, 2, 3, 4].map((nth) => [nth, known.includes(nth) ? point() : { missing: 'forgotten' }])), differences: [] });
  assert.equal(at(1, 2, 3, 4).level, 'good');
  assert.deepEqual(at(1, 3), { level: 'warn', text: 'No difference at ① ③; the others are not known.' });
  for (const told of [at(), at(2)]) assert.match(told.text, /^Nothing could be compared/);
});

test('differences are summed up by whether somebody can explain them', () => {
  const of = (differences) => verdictOf({ ...DIFF, differences });
  assert.deepEqual(of(DIFF.differences.slice(1)), { level: 'good', text: '1 difference, which is documented.' });
  const told = of(DIFF.differences);
  assert.deepEqual([told.level, told.text.includes('1 of which nobody can explain'), told.text.includes('③')], ['bad', true, true]);
});
