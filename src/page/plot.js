// Series and fields on canvases, drawn from the state that run.js keeps.

import { attribute, button, fileName, h, press, save, set } from './dom.js';
import { axis, number, position, rough, whole } from './words.js';

const { abs, ceil, floor, log10, max, min, round } = Math;
const LEFT = 50, RIGHT = 6, TOP = 5, BOTTOM = 16; // of a plot
const STYLES = [['--accent', []], ['--c2', [5, 2.5]], ['--c3', [1.5, 2.5]], ['--soft', [7, 2.5, 1.5, 2.5]]];
const CLASSES = ['solid', 'dash', 'dot', 'mix'];
export const BINS = 96; // of the histogram on a colour bar

/** The colours of the style for canvases: themes and forced colours are the style's business. */
export class Ink {
  #probe = document.body.appendChild(h('i.spoken', { 'aria-hidden': 'true' }));

  constructor() { this.read(); }

  read() {
    const forced = matchMedia('(forced-colors: active)').matches;
    this.#probe.style.forcedColorAdjust = 'none';
    const ask = (name, system = 'CanvasText') => {
      this.#probe.style.color = forced ? system : `var(${name})`;
      return getComputedStyle(this.#probe).color;
    };
    this.forced = forced;
    this.bg = ask('--bg', 'Canvas');
    for (const name of ['line', 'edge', 'soft', 'ink', 'fail']) this[name] = ask(`--${name}`);
    this.lines = STYLES.map(([name], i) => ask(name, i ? 'CanvasText' : 'Highlight'));
    this.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    this.version = (this.version ?? 0) + 1;
  }
}

/** Makes a canvas as large as it is shown, and returns what draws on it. */
function surface(canvas, { width, height } = canvas.getBoundingClientRect()) {
  const ratio = devicePixelRatio || 1;
  const [w, tall] = [round(width * ratio), round(height * ratio)];
  if (canvas.width !== w || canvas.height !== tall) Object.assign(canvas, { width: w, height: tall });
  const g = canvas.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { g, w: width, tall: height };
}

/** The places of the lines of a scale from `lo` to `hi`. */
export function ticks(lo, hi, log = false) {
  const out = [];
  if (log) {
    const [a, b] = [ceil(log10(lo) - 1e-9), floor(log10(hi) + 1e-9)];
    for (let e = a, by = max(1, ceil((b - a) / 4)); e <= b; e += by) out.push(10 ** e);
    return out;
  }
  const size = 10 ** floor(log10((hi - lo) / 2)), count = (k) => floor(hi / (k * size)) - ceil(lo / (k * size)) + 1;
  const step = size * ([5, 2, 1, 0.5, 0.2].find((k) => count(k) > 1) ?? 0.1);
  if (!(step > 0 && step < Infinity)) return out;
  for (let v = ceil(lo / step) * step; v <= hi && out.length < 20; v += step) out.push(abs(v) < step / 1e6 ? 0 : v);
  return out;
}

/**
 * Merges the buckets of a line to one for each column of pixels: `[column, last, low, high]`, and
 * `null` where a segment begins. `X` tells the column of an x.
 */
export function columns(series, line, x0, x1, X) {
  const { x, segments } = series, y = series.y[line], low = series.low[line], high = series.high[line];
  const out = [], begins = new Set(segments.map(({ index }) => index));
  let last = null;
  for (let i = 0; i < x.length; i += 1) {
    if (begins.has(i) && last) { out.push(null); last = null; }
    // The neighbours of what is in sight are drawn, too: lines go on beyond the edge.
    if (x[min(i + 1, x.length - 1)] < x0 || x[max(i - 1, 0)] > x1) continue;
    const at = round(X(x[i]));
    if (last?.[0] === at) {
      last[1] = y[i];
      if (!(low[i] >= last[2])) last[2] = Number.isNaN(low[i]) ? last[2] : low[i];
      if (!(high[i] <= last[3])) last[3] = Number.isNaN(high[i]) ? last[3] : high[i];
    } else out.push(last = [at, y[i], low[i], high[i]]);
  }
  return out;
}

/** The bucket that is nearest to an x, in the newest segment that has it. */
export function nearest({ x, segments }, at) {
  let [from, to] = [segments.at(-1)?.index ?? 0, x.length - 1];
  if (at < x[from]) [from, to] = [0, x.length - 1];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (x[middle] < at) from = middle + 1; else to = middle;
  }
  return from > 0 && abs(x[from - 1] - at) < abs(x[from] - at) ? from - 1 : from;
}

/** All series in one pane. */
export class Plots {
  #plots = new Map();
  #views = new Map(); // by job: those of one job have one x
  #ghosts = null;
  #paused = false;

  constructor({ box, tools, at, ink, change, name }) {
    Object.assign(this, { box, at, ink, change });
    this.all = button('', 'All', () => this.#zoom(null));
    this.tail = button('', 'Last 10 %', () => this.#zoom('tail'));
    this.pause = button('', 'Pause', () => {
      this.#paused = !this.#paused;
      for (const view of this.#views.values()) view.frozen = this.#paused ? view.end : null;
      press(this.pause, this.#paused);
      change();
    }, { 'aria-pressed': false });
    this.before = button('', 'Run before', () => {
      this.hidesGhosts = !this.hidesGhosts;
      press(this.before, !this.hidesGhosts);
      change();
    }, { 'aria-pressed': true, hidden: true });
    const csv = button('.quiet', 'CSV', () => save(fileName(name(), 'csv'), new Blob([this.csv()], { type: 'text/csv' })));
    tools.append(this.before, h('span.segment', { role: 'group', label: 'Window' }, this.all, this.tail), this.pause, csv);
  }

  #zoom(to) {
    for (const view of this.#views.values()) view.zoom = to;
    this.change();
  }

  togglePause() { this.pause.click(); }

  /** The series of the run before, in grey behind those of the same name; `null`: no more. */
  ghosts(series) {
    this.#ghosts = series;
    this.before.hidden = !series;
  }

  update(series) {
    for (const [id, plot] of this.#plots) {
      if (series.has(id)) continue;
      plot.node.remove();
      this.#plots.delete(id);
    }
    let cells = 0;
    for (const [id, one] of series) {
      const known = this.#plots.get(id), lines = max(1, one.y.length, one.lines?.length ?? 0);
      if (known?.lines === lines) known.series = one;
      else {
        const plot = this.#make(one, lines);
        if (known) known.node.replaceWith(plot.node); else this.box.append(plot.node);
        this.#plots.set(id, plot);
      }
      const key = one.job ?? null;
      cells += lines > 1 ? 2 : 1;
      if (!this.#views.has(key)) this.#views.set(key, { zoom: null, cursor: null, frozen: null, begin: 0, end: 1 });
    }
    attribute(this.box, 'data-cells', cells);
  }

  #make(series, lines) {
    const title = series.name, plot = { series, lines, log: false, reads: [] };
    const toggle = button('.quiet.log-y', 'log', () => {
      plot.log = !plot.log;
      press(toggle, plot.log);
      this.change();
    }, { 'aria-pressed': false, label: `Log axis of ${title}` });
    plot.note = h('span.note.cut');
    const head = h('.head', h('h3.cut', { title }, title), series.unit && h('span.soft.unit', series.unit), toggle, plot.note);
    for (let line = 0; line < lines; line += 1) {
      const [read, band] = [h('span'), lines === 1 ? h('em') : null];
      const style = line % STYLES.length;
      const key = lines > 1 && h(`em.key.${CLASSES[style]}`, { '--k': `var(${STYLES[style][0]})` }, series.lines?.[line] ?? `${line + 1}`);
      head.append(h('span.read', key || null, band, read));
      plot.reads.push([read, band]);
    }
    plot.canvas = h('canvas', { tabindex: 0, role: 'img' });
    plot.node = h(`.plot${lines > 1 ? '.wide' : ''}`, head, h('.box', plot.canvas));
    this.#listen(plot, toggle);
    return plot;
  }

  #view(plot) { return this.#views.get(plot.series.job ?? null); }

  #listen(plot, toggle) {
    const { canvas } = plot;
    let from = null;
    const xOf = (event) => {
      const { left, width } = canvas.getBoundingClientRect(), [x0, x1] = plot.window ?? [0, 1];
      return x0 + min(1, max(0, (event.clientX - left - LEFT) / (width - LEFT - RIGHT))) * (x1 - x0);
    };
    const on = (type, then) => canvas.addEventListener(type, (event) => {
      then(event, this.#view(plot));
      this.change();
    });
    on('pointerdown', (event) => {
      if (event.button !== 0 || event.pointerType === 'touch') return;
      from = { pixel: event.clientX, x: xOf(event) };
      canvas.setPointerCapture(event.pointerId);
    });
    on('pointermove', (event, view) => {
      view.cursor = xOf(event);
      view.drag = from && abs(event.clientX - from.pixel) > 6 ? [from.x, view.cursor].sort((a, b) => a - b) : null;
    });
    on('pointerup', (event, view) => {
      if (view.drag && view.drag[1] > view.drag[0]) view.zoom = view.drag;
      from = view.drag = null;
    });
    on('pointerleave', (event, view) => { view.cursor = from = view.drag = null; });
    on('dblclick', (event, view) => { view.zoom = null; });
    on('blur', (event, view) => { view.cursor = null; });
    on('keydown', (event, view) => {
      const [x0, x1] = plot.window ?? [0, 1], by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (by) view.cursor = min(x1, max(x0, (view.cursor ?? x1) + by * (x1 - x0) / 200));
      else if (event.key === 'Home') view.cursor = x0;
      else if (event.key === 'End') view.cursor = x1;
      else if (event.key === 'Escape' && view.cursor !== null) view.cursor = null;
      else if (event.key === 'l') toggle.click();
      else return;
      event.preventDefault();
    });
  }

  draw() {
    for (const [job, view] of this.#views) {
      let [begin, end] = [Infinity, -Infinity];
      for (const { x } of this.#ofView(job)) {
        for (const at of x) { if (at < begin) begin = at; if (at > end) end = at; }
      }
      if (begin < Infinity) Object.assign(view, { begin: min(begin, end), end });
    }
    const zooms = new Set([...this.#views.values()].map(({ zoom }) => (zoom === null || zoom === 'tail' ? zoom : 'own')));
    press(this.all, zooms.has(null) && zooms.size === 1);
    press(this.tail, zooms.has('tail') && zooms.size === 1);
    const cursors = [...this.#views.values()].filter(({ cursor }) => cursor !== null);
    set(this.at, !this.#plots.size ? '' : cursors.length ? `at ${position(Number(cursors[0].cursor.toPrecision(6)))}` : this.#paused ? 'paused' : 'latest');
    // All sizes are asked for before anything is written: else each plot lays out the page again.
    for (const plot of this.#plots.values()) plot.size = plot.canvas.getBoundingClientRect();
    for (const plot of this.#plots.values()) this.#draw(plot);
  }

  *#ofView(job) {
    for (const { series } of this.#plots.values()) if ((series.job ?? null) === job) yield series;
    if (this.#ghosts && !this.hidesGhosts) for (const ghost of this.#ghosts.values()) if (this.#ghostOf(ghost, job)) yield ghost;
  }

  #ghostOf(ghost, job) {
    return [...this.#plots.values()].some(({ series }) => (series.job ?? null) === job && series.name === ghost.name);
  }

  #window({ zoom, begin, end, frozen }) {
    const to = frozen ?? end;
    const [x0, x1] = Array.isArray(zoom) ? zoom : zoom === 'tail' ? [to - (to - begin) / 10, to] : [begin, to];
    return x1 > x0 ? [x0, x1] : [x0 - 0.5, x0 + 0.5];
  }

  #draw(plot) {
    const { series, ink = this.ink } = plot, view = this.#view(plot), [x0, x1] = plot.window = this.#window(view);
    const ghosts = this.hidesGhosts ? [] : [...this.#ghosts?.values() ?? []].filter(({ name }) => name === series.name);
    const { width, height } = plot.size;
    if (!width) return;
    const sign = [series.n, series.id, x0, x1, view.cursor, view.drag, plot.log, width, height, devicePixelRatio, ink.version, ghosts.length].join();
    if (plot.drawn === sign && plot.drawnOf === series) return;
    Object.assign(plot, { drawn: sign, drawnOf: series });
    const { g, w, tall } = surface(plot.canvas, plot.size);
    const X = (x) => LEFT + (x - x0) / (x1 - x0) * (w - LEFT - RIGHT);
    const drawn = [...ghosts.map((ghost) => [ghost, -1]), ...series.y.map((_, line) => [series, line])]
      .flatMap(([of, line]) => (line < 0 ? of.y.map((_, i) => [of, i, true]) : [[of, line, false]]))
      .map(([of, line, isGhost]) => ({ of, line, isGhost, points: columns(of, line, x0, x1, X) }));
    let [lo, hi, left] = [Infinity, -Infinity, 0];
    for (const { points } of drawn) {
      for (const point of points) {
        if (!point || point[0] < LEFT || point[0] > w) continue;
        if (point[2] < lo && (!plot.log || point[2] > 0)) lo = point[2];
        if (point[3] > hi) hi = point[3];
        if (plot.log && point[1] <= 0) left += 1;
      }
    }
    const isEmpty = !(lo <= hi);
    if (isEmpty || plot.log && !(hi > 0)) [lo, hi] = plot.log ? [1e-3, 1] : [0, 1];
    else if (plot.log) [lo, hi] = [10 ** floor(log10(lo) + 0.15), 10 ** max(ceil(log10(hi) - 0.15), floor(log10(lo) + 0.15) + 1)];
    else {
      const pad = hi > lo ? (hi - lo) * 0.08 : abs(hi) * 0.05 || 0.5;
      [lo, hi] = [lo - pad, hi + pad];
    }
    const scale = plot.log ? Math.log : (v) => v, [a, b] = [scale(lo), scale(hi)];
    const Y = (v) => TOP + (1 - (scale(v) - a) / (b - a)) * (tall - TOP - BOTTOM);
    const stroke = (xa, ya, xb, yb) => { g.beginPath(); g.moveTo(xa, ya); g.lineTo(xb, yb); g.stroke(); };
    g.clearRect(0, 0, w, tall);
    Object.assign(g, { font: ink.font, lineWidth: 1, fillStyle: ink.soft, strokeStyle: ink.line, textBaseline: 'middle', textAlign: 'right' });
    if (!isEmpty) {
      for (const v of ticks(lo, hi, plot.log)) {
        const y = round(Y(v)) + 0.5;
        if (ink.forced) g.globalAlpha = 0.3;
        stroke(LEFT, y, w, y);
        g.globalAlpha = 1;
        g.fillText(axis(v, plot.log), LEFT - 7, y);
      }
    }
    g.strokeStyle = ink.edge;
    stroke(LEFT, tall - BOTTOM + 0.5, w, tall - BOTTOM + 0.5);
    g.textBaseline = 'alphabetic';
    if (isEmpty && !series.n) {
      g.textAlign = 'center';
      g.fillText('no values yet', LEFT + (w - LEFT) / 2, (tall - BOTTOM) / 2 + 4);
    } else {
      for (const v of ticks(x0, x1)) {
        g.textAlign = X(v) > w - 24 ? 'right' : X(v) < LEFT + 16 ? 'left' : 'center';
        g.fillText(rough(v), min(w, X(v)), tall - 3);
      }
    }
    g.save();
    g.beginPath();
    g.rect(LEFT, 0, w - LEFT, tall - BOTTOM + 1);
    g.clip();
    const floorY = plot.log ? lo / 10 : -Infinity;
    for (const { line, isGhost, points } of drawn) {
      const style = line % STYLES.length, colour = isGhost ? ink.edge : ink.lines[style];
      if (!isGhost) this.#band(g, points, Y, colour, plot.log, floorY);
      Object.assign(g, { strokeStyle: colour, lineWidth: isGhost ? 1 : 1.4, globalAlpha: isGhost ? 0.65 : 1 });
      g.setLineDash(isGhost ? [] : STYLES[style][1]);
      this.#path(g, points, Y, plot.log);
      g.setLineDash([]);
      g.globalAlpha = 1;
    }
    for (const { x } of series.nan) this.#nan(g, X(x), tall, stroke);
    this.#cursor(g, plot, view, X, Y, tall, stroke);
    g.restore();
    this.#words(plot, view, left);
  }

  #band(g, points, Y, colour, log, floorY) {
    g.fillStyle = colour;
    g.globalAlpha = 0.2;
    const fill = (run) => {
      if (!run.some(([, , low, high]) => low < high)) return;
      g.beginPath();
      for (const [x, , , high] of run) g.lineTo(x, Y(high));
      for (const [x, , low] of run.reverse()) g.lineTo(x, Y(max(low, floorY)));
      g.fill();
    };
    let run = [];
    for (const point of points) {
      if (point && point[2] <= point[3] && (!log || point[3] > 0)) run.push(point);
      else { fill(run); run = []; }
    }
    fill(run);
    g.globalAlpha = 1;
  }

  #path(g, points, Y, log) {
    g.beginPath();
    let pen = false;
    for (const point of points) {
      const is = point && Number.isFinite(point[1]) && (!log || point[1] > 0);
      if (is) {
        if (!pen) g.moveTo(point[0] - 0.5, Y(point[1])); // one point alone is seen, too
        g.lineTo(point[0], Y(point[1]));
      }
      pen = is;
    }
    g.stroke();
  }

  #nan(g, x, tall, stroke) {
    Object.assign(g, { strokeStyle: this.ink.fail, fillStyle: this.ink.fail, lineWidth: 1 });
    g.setLineDash([2, 2]);
    stroke(x, 0, x, tall - BOTTOM);
    g.setLineDash([]);
    g.beginPath();
    g.moveTo(x - 5, TOP - 4);
    g.lineTo(x + 5, TOP - 4);
    g.lineTo(x, TOP + 4);
    g.fill();
  }

  #cursor(g, { series }, { cursor, drag }, X, Y, tall, stroke) {
    const { ink } = this;
    if (drag) {
      Object.assign(g, { fillStyle: ink.edge, globalAlpha: 0.25 });
      g.fillRect(X(drag[0]), 0, X(drag[1]) - X(drag[0]), tall - BOTTOM);
      g.globalAlpha = 1;
    }
    if (cursor === null) return;
    Object.assign(g, { strokeStyle: ink.ink, lineWidth: 1 });
    const x = round(X(cursor)) + 0.5;
    stroke(x, 0, x, tall - BOTTOM);
    if (!series.x.length) return;
    const at = nearest(series, cursor);
    for (const [line, y] of series.y.entries()) {
      if (!Number.isFinite(Y(y[at]))) continue;
      Object.assign(g, { fillStyle: ink.bg, strokeStyle: ink.lines[line % STYLES.length], lineWidth: 2 });
      g.beginPath();
      g.arc(X(series.x[at]), Y(y[at]), 3.2, 0, 7);
      g.fill();
      g.stroke();
    }
  }

  /** The figures in a plot's head, in place of a legend and a tooltip. */
  #words(plot, { cursor }, left) {
    const { series, log } = plot, at = cursor === null ? series.x.length - 1 : nearest(series, cursor);
    for (const [line, [read, band]] of plot.reads.entries()) {
      set(read, series.x.length ? number(series.y[line]?.[at] ?? NaN, log) : '–');
      const [low, high] = [series.low[line]?.[at], series.high[line]?.[at]];
      if (band) set(band, cursor !== null && low < high ? `${number(low, log)} to ${number(high, log)}` : '');
    }
    const nan = series.nan[0] ? `first NaN at ${whole(series.nan[0].x)}` : '';
    set(plot.note, nan || (left ? `${left} not shown` : ''));
    plot.note.classList.toggle('bad', Boolean(nan));
    plot.node.classList.toggle('reading', cursor !== null);
    const now = plot.reads.map(([read], line) => `${series.lines?.[line] ?? (plot.lines > 1 ? `line ${line + 1}` : 'now')} ${read.textContent}`);
    attribute(plot.canvas, 'aria-label', `${series.name}: ${now.join(', ')}${nan ? `, ${nan}` : ''}`);
  }

  csv() {
    const quote = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const rows = ['series,line,x,last,min,max'];
    for (const { series } of this.#plots.values()) {
      for (const [line, y] of series.y.entries()) {
        const name = [quote(series.name), quote(series.lines?.[line] ?? line + 1)].join();
        for (const [i, x] of series.x.entries()) rows.push([name, x, y[i], series.low[line][i], series.high[line][i]].join());
      }
    }
    return `${rows.join('\n')}\n`;
  }
}

// Even by construction: OKLCH, lightness in a straight line, hue from indigo over teal to straw.
export const RAMP = (() => {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < 256; i += 1) {
    const t = i / 255, light = 0.17 + 0.78 * t, chroma = 0.055 + 0.085 * Math.sin(Math.PI * min(1, t * 1.08));
    const hue = (285 - 175 * t ** 0.9) * Math.PI / 180, [a, b] = [chroma * Math.cos(hue), chroma * Math.sin(hue)];
    const [l, m, s] = [light + 0.3963 * a + 0.2158 * b, light - 0.1056 * a - 0.0639 * b, light - 0.0895 * a - 1.2915 * b].map((c) => c ** 3);
    const rgb = [4.0767 * l - 3.3077 * m + 0.231 * s, -1.2684 * l + 2.6098 * m - 0.3413 * s, -0.0042 * l - 0.7034 * m + 1.7076 * s]
      .map((c) => 255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
    bytes.set([...rgb, 255], 4 * i);
  }
  return new Uint32Array(bytes.buffer); // pixels in the byte order of ImageData, whatever this machine's is
})();
const [BAD] = new Uint32Array(Uint8Array.of(224, 48, 48, 255).buffer);
const rgbOf = (pixel) => `rgb(${[...new Uint8Array(Uint32Array.of(pixel).buffer)].slice(0, 3).join(' ')})`;

/** Draws values as pixels; returns how they are spread over the range. */
export function paint(values, pixels, lo, hi) {
  const counts = new Float64Array(BINS), scale = hi > lo ? 255.999 / (hi - lo) : 0, bin = BINS / 256;
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (v - v !== 0) { pixels[i] = BAD; continue; } // NaN and the infinities
    let at = (v - lo) * scale | 0;
    if (at < 0) at = 0; else if (at > 255) at = 255;
    pixels[i] = RAMP[at];
    counts[at * bin | 0] += 1;
  }
  return counts;
}

/** The least and the greatest finite value; none: `[Infinity, -Infinity]`. */
export function extent(values) {
  let [lo, hi] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (v < lo && v > -Infinity) lo = v;
    if (v > hi && v < Infinity) hi = v;
  }
  return [lo, hi];
}

/** One field in a pane of its own. */
export class FieldPane {
  #range = [Infinity, -Infinity];
  #locked = false;
  #drawn = null;
  #at = null;
  #image = null;
  #sign = '';

  constructor({ name, ink, change }) {
    this.ink = ink;
    this.title = h('h2', name);
    this.info = h('span.soft.cut', 'none sent yet');
    this.canvas = h('canvas.heat', { role: 'img', tabindex: 0, label: name, width: 1, height: 1 });
    this.bar = h('canvas', { 'aria-hidden': 'true' });
    [this.low, this.high, this.place] = [h('span.num'), h('span'), h('span.soft')];
    this.lock = button('', 'Lock range', () => {
      this.#locked = !this.#locked;
      press(this.lock, this.#locked);
      this.#drawn = null;
      change();
    }, { 'aria-pressed': false });
    const png = button('.quiet', 'PNG', () => this.canvas.toBlob((blob) => blob && save(fileName(name, 'png'), blob)));
    this.map = h('.map', this.canvas);
    this.node = h('section.pane.field', { label: `Field ${name}` }, h('header', this.title, this.info, h('span.push', this.lock, png)),
      this.map, h('.scale', this.low, this.bar, this.high), h('.under', this.place));
    this.canvas.addEventListener('pointermove', (event) => {
      const box = this.canvas.getBoundingClientRect(), [ny, nx] = this.field?.shape ?? [1, 1];
      const part = (at, from, size, count) => min(count - 1, max(0, floor((at - from) / size * count)));
      this.#at = [part(event.clientY, box.top, box.height, ny), part(event.clientX, box.left, box.width, nx)];
      change();
    });
    const leave = () => { this.#at = null; change(); };
    this.canvas.addEventListener('pointerleave', leave);
    this.canvas.addEventListener('blur', leave);
    this.canvas.addEventListener('keydown', (event) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!by || !this.field?.shape) return;
      const [ny, nx] = this.field.shape, [row, column] = this.#at ?? [ny >> 1, nx >> 1];
      this.#at = [min(ny - 1, max(0, row + by[0])), min(nx - 1, max(0, column + by[1]))];
      event.preventDefault();
      change();
    });
  }

  draw(field) {
    this.field = field;
    if (!field.values) return;
    const { shape: [ny, nx], values } = field;
    if (this.#drawn !== values) {
      const [least, most] = extent(values);
      if (!this.#locked) this.#range = [min(this.#range[0], least), max(this.#range[1], most)];
      if (this.canvas.width !== nx || this.canvas.height !== ny || !this.#image) {
        Object.assign(this.canvas, { width: nx, height: ny });
        this.map.style.aspectRatio = `${nx} / ${max(ny, nx / 4)}`;
        this.#image = this.canvas.getContext('2d').createImageData(nx, ny);
      }
      const [lo, hi] = this.#range;
      this.counts = paint(values, new Uint32Array(this.#image.data.buffer), lo, hi);
      this.canvas.getContext('2d').putImageData(this.#image, 0, 0);
      Object.assign(this.canvas.dataset, { ny, nx, min: least, max: most });
      set(this.low, lo <= hi ? number(lo) : 'none finite');
      set(this.high, lo <= hi ? number(hi) : '');
      attribute(this.canvas, 'aria-label', `Field ${this.title.textContent}, ${ny} by ${nx}, from ${number(lo)} to ${number(hi)}`);
      this.#drawn = values;
    }
    const [lo, hi] = this.#range, [row, column] = this.#at ?? [], inside = row < ny && column < nx;
    const value = inside ? values[row * nx + column] : null;
    set(this.info, inside ? `row ${row}, column ${column}: ${number(value)}` : `${ny} × ${nx}${field.unit ? `, ${field.unit}` : ''}`);
    const along = (edges, at, count) => number(edges[0] + (at + 0.5) / count * (edges[1] - edges[0]));
    const places = inside ? [field.x && `x ${along(field.x, column, nx)}`, field.y && `y ${along(field.y, row, ny)}`].filter(Boolean) : [];
    set(this.place, places.length ? places.join(', ') : Number.isFinite(field.position) ? `at ${position(field.position)}` : '');
    this.#colours(lo, hi, value);
  }

  #colours(lo, hi, value) {
    const { width, height } = this.bar.getBoundingClientRect(), { ink } = this;
    const sign = [width, height, ink.version, value].join();
    if (!width || this.#sign === sign && this.counted === this.counts) return;
    this.#sign = sign;
    this.counted = this.counts;
    const { g, w, tall } = surface(this.bar), top = Math.sqrt(max(...this.counts)) || 1;
    g.clearRect(0, 0, w, tall);
    for (let i = 0; i < w; i += 1) {
      g.fillStyle = rgbOf(RAMP[i / w * 255 | 0]);
      g.fillRect(i, tall - 10, 1.5, 10);
    }
    g.fillStyle = ink.edge;
    for (const [i, count] of this.counts.entries()) {
      const high = Math.sqrt(count) / top * (tall - 13);
      g.fillRect(i / BINS * w, tall - 12 - high, max(0.5, w / BINS - 0.5), high);
    }
    if (value !== null && hi > lo) {
      g.fillStyle = ink.ink;
      g.fillRect(min(1, max(0, (value - lo) / (hi - lo))) * w - 1, tall - 14, 2, 14);
    }
  }
}
