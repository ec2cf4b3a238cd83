// Asks the worker for a layout whenever the shape of the graph is another, and keeps the last meanwhile.
import { useEffect, useState } from '../lib/dom.js';
import { OUTSIDE } from './graph.js';

const ADDRESS = '/assets/js/map/worker.js';
// The browser takes the address of a worker only from a policy: this one knows one address.
const policy = globalThis.trustedTypes?.createPolicy('sheer', { createScriptURL: () => ADDRESS });

let worker = null;
const waiting = new Map();

function ask(key, graph) {
  if (!worker) {
    worker = new Worker(policy ? policy.createScriptURL('') : ADDRESS, { type: 'module' });
    worker.addEventListener('message', ({ data }) => {
      waiting.get(data.key)?.(data.layout);
      waiting.delete(data.key);
    });
  }
  return new Promise((resolve) => {
    waiting.set(key, resolve);
    worker.postMessage({ key, graph });
  });
}

/** `{ key, layout }` of the graph, or of the one before while the new one is made; null before the first. */
export function useLayout(graph, aspect) {
  const [made, set] = useState(null);
  const key = graph && aspect ? graph.key : null;
  useEffect(() => {
    if (key === null) return undefined;
    let over = false;
    const nodes = [...graph.nodes.values()].map((node) => [node.id, node.group]);
    const edges = graph.edges.filter((edge) => edge.source !== edge.destination).map((edge) => [edge.source, edge.destination]);
    ask(key, { nodes, edges, aspect, outside: OUTSIDE, together: graph.together }).then((layout) => {
      if (!over) set({ key, layout });
    });
    return () => (over = true);
  }, [key]);
  return made;
}
