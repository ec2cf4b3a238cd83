// Panning and zooming of the map: wheel, drag, pinch. Works on the element itself, not through the page: it happens at every frame.

const [LEAST, MOST] = [0.08, 2.5];
/** Below these scales, names only, and marks only. */
const LEVELS = [[0.34, 'far'], [0.66, 'mid'], [Infinity, 'near']];

export class View {
  constructor(svg, layer) {
    Object.assign(this, { svg, layer, x: 0, y: 0, k: 1, touched: false, pointers: new Map(), moved: 0 });
    const on = (name, handler, options) => svg.addEventListener(name, handler, options);
    on('wheel', (event) => this.wheel(event), { passive: false });
    on('pointerdown', (event) => this.down(event));
    on('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel', 'pointerleave']) on(name, (event) => this.pointers.delete(event.pointerId));
  }

  apply() {
    this.layer.setAttribute('transform', `translate(${this.x.toFixed(2)} ${this.y.toFixed(2)}) scale(${this.k.toFixed(4)})`);
    this.svg.dataset.level = LEVELS.find(([below]) => this.k < below)[1];
    this.svg.style.setProperty('--k', this.k);
  }

  size() {
    return [this.svg.clientWidth, this.svg.clientHeight];
  }

  /** All of a picture of a size, no larger than life. */
  fit(w, h) {
    const [width, height] = this.size();
    const pad = Math.min(28, width * 0.03);
    this.k = Math.min(1.15, (width - pad * 2) / w, (height - 60 - pad * 2) / h);
    this.x = (width - w * this.k) / 2;
    this.y = 52 + (height - 60 - h * this.k) / 2;
    this.touched = false;
    this.apply();
  }

  zoom(factor, at = this.size().map((side) => side / 2)) {
    const k = Math.min(MOST, Math.max(LEAST, this.k * factor));
    this.x = at[0] - ((at[0] - this.x) * k) / this.k;
    this.y = at[1] - ((at[1] - this.y) * k) / this.k;
    this.k = k;
    this.touched = true;
    this.apply();
  }

  /** Moves a point into sight, if it is not; `right` and `below` are what lies over the picture. */
  show([x, y], { right = 0, below = 0 } = {}) {
    const [width, height] = this.size();
    const [sx, sy] = [x * this.k + this.x, y * this.k + this.y];
    const margin = 100;
    const shift = (at, low, high) => (at < low ? low - at : at > high ? high - at : 0);
    const [dx, dy] = [shift(sx, margin, width - right - margin), shift(sy, 80, height - below - 60)];
    if (!dx && !dy) return;
    this.x += dx;
    this.y += dy;
    this.touched = true;
    this.apply();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * 0.0016), [event.clientX - box.left, event.clientY - box.top]);
  }

  down(event) {
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.moved = 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (this.moved > 4 && !this.svg.hasPointerCapture(event.pointerId)) this.svg.setPointerCapture(event.pointerId);
    if (others.length) {
      const [, other] = others[0];
      const far = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      const box = this.svg.getBoundingClientRect();
      if (far(before) > 0) this.zoom(far(now) / far(before), [(now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top]);
    } else {
      this.x += now[0] - before[0];
      this.y += now[1] - before[1];
      this.touched = true;
      this.apply();
    }
    this.pointers.set(event.pointerId, now);
  }

  /** Whether the press that ends now moved the map: then it chooses nothing. */
  dragged() {
    return this.moved > 4;
  }
}
