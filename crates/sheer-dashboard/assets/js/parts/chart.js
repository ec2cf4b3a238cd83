// A chart over time, drawn by uPlot.
import { html, useEffect, useRef } from '../lib/dom.js';
import { useStore } from '../lib/store.js';
import { colour, theme } from '../lib/theme.js';
import uPlot from '../../vendor/uplot/uplot.js';

const HEIGHT = 150;
// Crosshairs of a page's charts move together.
const SYNC = uPlot.sync('time');
const TIMES = [
  [3600, '{HH}:{mm}', '\n{D}/{M}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', null, null, null, null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1],
];

/** While nobody points at a moment, the legend shows the last one. */
function rest(chart) {
  if (chart.cursor.idx === null || chart.cursor.idx === undefined) chart.setLegend({ idx: Math.max(0, chart.data[0].length - 1) }, false);
}

function options(lines, show, width) {
  const axis = { stroke: colour('muted'), font: `11px ${colour('font')}`, grid: { stroke: colour('line'), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    cursor: { sync: { key: SYNC.key }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
    legend: { live: true },
    hooks: { setCursor: [rest] },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, values: TIMES, space: 70, size: 26, gap: 4 },
      { ...axis, values: (_, ticks) => ticks.map(show), size: 58, gap: 4, space: 32 },
    ],
    series: [
      { label: 'at', value: '{HH}:{mm}:{ss}' },
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: line.width ?? 1.5,
        dash: line.dash,
        fill: line.filled ? `${colour(line.colour)}22` : undefined,
        points: { show: false },
        value: (_, value) => (value === null || value === undefined ? '–' : show(value)),
      })),
    ],
  };
}

/** `lines`: `{ label, colour, values, dash?, filled? }`, all of the times `at` (seconds). `show` writes a value. */
export function Chart({ title, at, lines, show }) {
  const place = useRef(null);
  const chart = useRef(null);
  const shown = useStore(theme);
  const shape = lines.map((line) => line.label).join('\n');
  useEffect(() => {
    const width = () => Math.max(120, place.current.clientWidth - 12);
    chart.current = new uPlot(options(lines, show, width()), [at, ...lines.map((line) => line.values)], place.current);
    rest(chart.current);
    const fit = new ResizeObserver(() => chart.current.setSize({ width: width(), height: HEIGHT }));
    fit.observe(place.current);
    return () => {
      fit.disconnect();
      chart.current.destroy();
      chart.current = null;
    };
  }, [shape, shown]);
  useEffect(() => {
    if (!chart.current) return;
    chart.current.setData([at, ...lines.map((line) => line.values)]);
    rest(chart.current);
  });
  const last = lines.map((line) => `${line.label} ${show(line.values.at(-1) ?? 0)}`).join(', ');
  return html`<figure class="block"><header><h2>${title}</h2></header>
    <div class="chart" ref=${place} role="img" aria-label=${`${title}, at last: ${last}`}></div></figure>`;
}
