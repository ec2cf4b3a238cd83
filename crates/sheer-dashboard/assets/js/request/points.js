// A request at the four points as rows: one a field, values that stay equal from point to point told once. Pure.

export const POINTS = [
  ['①', 'application → its proxy'],
  ['②', 'its proxy → the other'],
  ['③', 'at the other proxy'],
  ['④', 'the other proxy → its application'],
];
export const PARTS = [['request', 'Request'], ['request-trailers', 'Request trailers'], ['interim', 'Interim responses (1xx)'], ['response', 'Response'], ['response-trailers', 'Response trailers']];

/** What HTTP/1 says behind a status: no field, and nothing in HTTP/2. */
const REASON = 'reason-phrase';
const ABSENT = null;
const UNKNOWN = undefined;

/** Values of a field at a point: null where it lacks, undefined where nobody knows. */
function at(point, part, name) {
  if (!point || point.missing) return UNKNOWN;
  if (name === REASON) return point.reason_phrase ? [point.reason_phrase] : UNKNOWN;
  const values = point[part.replace('-', '_')].filter(([field]) => field.toLowerCase() === name).map(([, value]) => value);
  return values.length ? values : ABSENT;
}

const same = (a, b) => a === b || (Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((value, i) => value === b[i]));

/** Equal neighbours as one cell: `{ values, span, from }`. */
function cells(points, part, name) {
  const all = points.map((point) => at(point, part, name));
  const joined = [];
  for (const [i, values] of all.entries()) {
    const last = joined.at(-1);
    if (last && same(last.values, values)) last.span += 1;
    else joined.push({ values, span: 1, from: i + 1 });
  }
  return joined;
}

/** Rows of a part, in the order in which its fields first appear. */
function rows(points, part, differences) {
  const names = new Set(points.flatMap((point) => (point && !point.missing ? point[part.replace('-', '_')].map(([name]) => name.toLowerCase()) : [])));
  for (const difference of differences) if (difference.field !== 'order') names.add(difference.field.toLowerCase());
  return [...names].map((name) => ({
    name,
    cells: cells(points, part, name),
    differences: differences.filter((difference) => difference.field.toLowerCase() === name),
  }));
}

/** `[{ part, title, rows, order }]` of those parts that are anywhere; with `changed` only fields that differ. */
export function sections(diff, changed = false) {
  const points = ['1', '2', '3', '4'].map((nth) => diff.points[nth]);
  return PARTS.map(([part, title]) => {
    const differences = diff.differences.filter((difference) => difference.part === part);
    const all = rows(points, part, differences);
    return {
      part,
      title,
      rows: changed ? all.filter((row) => row.differences.length > 0) : all,
      order: differences.filter((difference) => difference.field === 'order'),
    };
  }).filter((section) => section.rows.length + section.order.length > 0);
}

/** What there is to know of all differences, in a sentence. Points of which nothing is recorded differ nowhere, and that says nothing. */
export function verdictOf({ points, differences }) {
  const bad = differences.filter((one) => !one.documented);
  if (!differences.length) {
    const known = POINTS.map(([sign]) => sign).filter((_, i) => points[i + 1] && !points[i + 1].missing);
    if (known.length < 2) return { level: 'warn', text: 'Nothing could be compared: its headers are known at fewer than two points.' };
    if (known.length < POINTS.length) return { level: 'warn', text: `No difference at ${known.join(' ')}; the others are not known.` };
    return { level: 'good', text: 'What one application sent is what the other got: no difference at any point.' };
  }
  const count = `${differences.length} ${differences.length === 1 ? 'difference' : 'differences'}`;
  if (!bad.length) return { level: 'good', text: differences.length === 1 ? `${count}, which is documented.` : `${count}, all of them documented.` };
  const first = bad.reduce((least, one) => Math.min(least, one.first_seen_at), 4);
  return { level: 'bad', text: `${count}, ${bad.length} of which nobody can explain; the first appears at point ${POINTS[first - 1]?.[0] ?? first}.` };
}
