// What the tap has shown so far, and what came while updates are held back. Pure: a state and what came make the next state.

/** Rows that are kept, and drawn at most. */
export const MOST = 500;
const NOTES = 5;

export const EMPTY = { rows: [], waiting: [], slow: 0, beyond: 0, rate: 0, notes: [], seen: 0, began: false };

const key = (line) => `${line.namespace}/${line.id}/${line.time}`;
const newest = (a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0);

/** Newest first, each once, and no more than there may be. */
function merge(lines, rows) {
  const known = new Set(rows.map((row) => row.key));
  const fresh = lines.map((line) => ({ ...line, key: line.key ?? key(line) })).filter((line) => !known.has(line.key));
  return [...fresh, ...rows].sort(newest).slice(0, MOST);
}

/** What came: shown, or kept waiting while updates are held back. */
export function add(state, batch, held, now = new Date().toISOString()) {
  const gap = batch.number === 0 && state.began ? [{ key: `gap ${now}`, gap: true, time: now }] : [];
  const lines = [...gap, ...batch.lines];
  return {
    rows: held || !lines.length ? state.rows : merge(lines, state.rows),
    waiting: held ? merge(lines, state.waiting) : state.waiting,
    slow: state.slow + batch.slow,
    beyond: state.beyond + batch.beyond_rate,
    rate: batch.rate,
    notes: [...new Set([...state.notes, ...batch.notes])].slice(-NOTES),
    seen: state.seen + batch.lines.length,
    began: true,
  };
}

/** Shows what waited. */
export const release = (state) => (state.waiting.length ? { ...state, rows: merge(state.waiting, state.rows), waiting: [] } : state);

/** Why a line is as it is, in a few words: who is at fault, what was tried before, who ended it. */
export function remarks(line) {
  const said = [];
  if (line.reason) said.push(`${line.reason}${line.verdict ? ` · ${line.verdict}` : ''}`);
  else if (line.grpc_message) said.push(line.grpc_message);
  if (line.kind === 'tcp') said.push([line.message, line.closed_by && `by the ${line.closed_by}`].filter(Boolean).join(' '));
  if (line.end === 'client-reset') said.push(`the client reset it: ${line.reset_code}`);
  if (line.end === 'server-reset') said.push(`the server reset it: ${line.reset_code}`);
  const view = line.views?.outbound;
  if (view?.attempts > 1 || view?.passed_over?.length > 0) {
    const before = view.passed_over
      .map((one) => (one.grpc_status !== null ? `gRPC ${one.grpc_status}` : (one.status ?? one.reason)))
      .join(', ');
    // One that reached nobody was not sent.
    const number = Math.max(view.attempts, view.passed_over.length + 1);
    said.push(`attempt ${number}${before && ` after ${before}`}`);
  }
  return said.filter(Boolean);
}

/** Who, without a namespace that both ends share. */
export function ends(line) {
  const [source, destination] = [line.source, line.destination].map((end) => end.split('/'));
  const same = source.length > 1 && destination.length > 1 && source[0] === destination[0];
  return same ? [source[1], destination[1]] : [line.source, line.destination];
}
