// What a run measures as plain state: its series and its fields (docs/protocol.md, "Series" and
// "Fields"), with types in series.d.ts. `SeriesState` and `FieldsState` are pure; `followRun` of
// run.js feeds them.

const BUCKETS = 4096; // of a series

/** What the lines of the feed of series amount to. */
export class SeriesState {
  series = new Map();
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
    const lines = x.length ? y.length / x.length : 0;
    const series = { ...about, n, x: [], y: [], low: [], high: [], segments: [], nan: firsts(nan), infinity: firsts(inf) };
    widen(series, lines);
    fill(series, x, y, lo, hi, seg);
    this.series.set(about.id, series);
  }

  /** @param {any[]} fresh */
  #append([id, n, x, y, lo, hi, { seg, nan = [], inf = [] } = {}]) {
    const series = this.series.get(id);
    if (!series || n <= series.n) return; // the history has it
    widen(series, y.length / x.length);
    fill(series, x, y, lo, hi, seg);
    series.n = n;
    if (nan.length) series.nan = firsts(nan);
    if (inf.length) series.infinity = firsts(inf);
    while (series.x.length > BUCKETS) halve(series);
  }
}

const firsts = (list) => list.map(([line, x, number]) => ({ line, x: Number(x), number }));

/** A series has its lines from its first point on. */
function widen({ y, low, high }, lines) {
  while (y.length < lines) for (const columns of [y, low, high]) columns.push([]);
}

function fill(series, x, y, lo, hi, segments = []) {
  const begin = series.x.length, lines = series.y.length;
  for (const [index, at] of segments) series.segments.push({ index: begin + index, x: Number(at) });
  if (!series.segments.length && x.length) series.segments.push({ index: 0, x: Number(x[0]) });
  for (const at of x) series.x.push(Number(at));
  for (let line = 0; line < lines; line += 1) {
    for (let i = line; i < y.length; i += lines) {
      series.y[line].push(Number(y[i]));
      series.low[line].push(Number(lo?.[i] ?? y[i]));
      series.high[line].push(Number(hi?.[i] ?? y[i]));
    }
  }
}

/** Neighbours become one: half as many buckets, each twice as wide. Segments stay apart if they can. */
function halve(series) {
  const count = series.x.length, begins = new Set(series.segments.map(({ index }) => index));
  const crosses = begins.size > count / 4;
  const firstOf = [];
  for (let i = 0; i < count;) {
    firstOf.push(i);
    i += i + 1 < count && (crosses || !begins.has(i + 1)) ? 2 : 1;
  }
  const lastOf = firstOf.map((_, i) => (firstOf[i + 1] ?? count) - 1);
  const least = (a, b) => (a <= b || Number.isNaN(b) ? a : b), most = (a, b) => (a >= b || Number.isNaN(b) ? a : b);
  series.x = lastOf.map((i) => series.x[i]);
  series.y = series.y.map((line) => lastOf.map((i) => line[i]));
  series.low = series.low.map((line) => firstOf.map((i, at) => least(line[i], line[lastOf[at]])));
  series.high = series.high.map((line) => firstOf.map((i, at) => most(line[i], line[lastOf[at]])));
  const moved = new Map(firstOf.map((i, at) => [i, at]));
  series.segments = series.segments.flatMap(({ index, x }) => (moved.has(index) ? [{ index: moved.get(index), x }] : []));
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
    else this.#data.set(id, copy);
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
