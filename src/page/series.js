// What a run measures as plain state: its series and its fields (docs/protocol.md, "Series" and
// "Fields"), with types in series.d.ts. `SeriesState` and `FieldsState` are pure; `followRun` of
// run.js feeds them.

const BUCKETS = 4096; // of a series
const FIELDS = 64; // of a run

/** What the lines of the feed of series amount to. */
export class SeriesState {
  series = new Map();
  /** Whether points are missing: who follows the feed follows it anew. */
  hasHole = false;
  #slots = new Map();

  /** Takes one line. Returns whether it means anything here. */
  take({ series, points }) {
    if (series) this.#begin(series);
    for (const fresh of points ?? []) this.#append(fresh);
    return Boolean(series ?? points);
  }

  /** A series with its history: as it is, whatever is known of it. */
  #begin({ slot, n = 0, x = [], y = [], lo, hi, seg, mix, odd, badx, nan = [], inf = [], ...about }) {
    const before = this.#slots.get(slot);
    if (before !== about.id) this.series.delete(before); // its key is used again
    this.#slots.set(slot, about.id);
    const series = { ...about, n: 0, x: [], y: [], low: [], high: [], segments: [], nan: firsts(nan), infinity: firsts(inf) };
    fill(series, n, x, y, lo, hi, seg);
    this.series.set(about.id, series);
  }

  /** @param {any[]} fresh */
  #append([id, from, n, x, y, lo, hi, { seg, nan = [], inf = [] } = {}]) {
    const series = this.series.get(id);
    if (!series || n <= series.n) return; // the history has it
    this.hasHole ||= from > series.n;
    fill(series, n, x, y, lo, hi, seg);
    if (nan.length) series.nan = firsts(nan);
    if (inf.length) series.infinity = firsts(inf);
    if (series.x.length > BUCKETS) join(series);
  }
}

const firsts = (list) => list.map(([line, x, number]) => ({ line, x: Number(x), number }));

/** The points in each bucket of a series, which nobody else needs. */
const counts = new WeakMap();

function fill(series, n, x, y, lo, hi, segments = []) {
  const begin = series.x.length, lines = x.length ? y.length / x.length : 0;
  while (series.y.length < lines) for (const columns of [series.y, series.low, series.high]) columns.push([]);
  for (const [index, at] of segments) series.segments.push({ index: begin + index, x: Number(at) });
  if (!series.segments.length && x.length) series.segments.push({ index: 0, x: Number(x[0]) });
  const each = (n - series.n) / x.length, known = counts.get(series) ?? [];
  for (const at of x) {
    series.x.push(Number(at));
    known.push(each);
  }
  counts.set(series, known);
  for (let line = 0; line < lines; line += 1) {
    for (let i = line; i < y.length; i += lines) {
      series.y[line].push(Number(y[i]));
      series.low[line].push(finite(lo?.[i] ?? y[i]));
      series.high[line].push(finite(hi?.[i] ?? y[i]));
    }
  }
  series.n = n;
}

const finite = (value) => (Number.isFinite(value) ? value : NaN);

/** Joins neighbours to buckets of about as many points each. Segments stay apart if they can. */
function join(series) {
  const known = counts.get(series), begins = new Set(series.segments.map(({ index }) => index));
  const crosses = begins.size > BUCKETS / 4, enough = 2 * series.n / BUCKETS;
  const first = [], joined = [];
  known.forEach((count, i) => {
    if (i > 0 && joined.at(-1) + count <= enough && (crosses || !begins.has(i))) joined[joined.length - 1] += count;
    else { first.push(i); joined.push(count); }
  });
  const last = first.map((_, i) => (first[i + 1] ?? known.length) - 1);
  const over = (line, better) => first.map((i, at) => {
    let best = line[i];
    for (let j = i + 1; j <= last[at]; j += 1) if (Number.isNaN(best) || better(line[j], best)) best = line[j];
    return best;
  });
  series.x = last.map((i) => series.x[i]);
  series.y = series.y.map((line) => last.map((i) => line[i]));
  series.low = series.low.map((line) => over(line, (a, b) => a < b));
  series.high = series.high.map((line) => over(line, (a, b) => a > b));
  const moved = new Map(first.map((i, at) => [i, at]));
  series.segments = series.segments.flatMap(({ index, x }) => (moved.has(index) ? [{ index: moved.get(index), x }] : []));
  counts.set(series, joined);
}

/** What the values of the feed of fields amount to. */
export class FieldsState {
  fields = new Map();
  #slots = new Map();
  #data = new Map();

  /** Takes what a field is. Returns whether it means anything here. */
  take({ field }) {
    if (!field) return false;
    const { slot, ...about } = field, before = this.#slots.get(slot);
    if (before !== about.id) this.fields.delete(before); // its key is used again
    this.#slots.set(slot, about.id);
    this.fields.set(about.id, { ...this.fields.get(about.id), ...this.#data.get(about.id), ...about });
    this.#data.delete(about.id);
    return true;
  }

  /** Takes a copy of a field. Both may come in any order. */
  takeData(bytes) {
    const data = readField(bytes);
    if (!data) return false;
    const { id, ...copy } = data, about = this.fields.get(id);
    if (about) this.fields.set(id, { ...about, ...copy });
    else {
      this.#data.set(id, copy);
      if (this.#data.size > FIELDS) this.#data.delete(this.#data.keys().next().value); // of a field that went
    }
    return true;
  }
}

/** Reads a copy of a field; `null` if it is none. The values are a view of the same bytes. */
export function readField(bytes) {
  if (bytes.byteLength < 64) return null;
  const view = new DataView(bytes), bits = view.getUint8(1), head = view.getUint16(2, true);
  const [ny, nx] = [view.getUint32(4, true), view.getUint32(8, true)];
  if (view.getUint8(0) !== 1 || bits !== 4 && bits !== 8 || head + ny * nx * bits !== bytes.byteLength) return null;
  const at = (place) => view.getFloat64(place, true);
  const edges = (place) => (Number.isNaN(at(place)) ? undefined : [at(place), at(place + 8)]);
  const values = new (bits === 4 ? Float32Array : Float64Array)(bytes, head, ny * nx);
  return { id: Number(view.getBigUint64(16, true)), shape: [ny, nx], position: at(24), x: edges(32), y: edges(48), values };
}
