/**
 * What a run measures as plain state: its series and its fields.
 *
 * @module
 */

/** The lines of the feed `stepcast/series`, summed up. It is pure, for tests and recorded runs. */
export class SeriesState {
  series: Map<number, Series>;
  /** Whether points are missing: who follows the feed follows it anew. */
  hasHole: boolean;
  /** Takes one line. Returns whether it means anything here. */
  take(line: object): boolean;
}

/** The values of the feed `stepcast/fields`, summed up. */
export class FieldsState {
  fields: Map<number, Field>;
  /** Takes what a field is. Returns whether it means anything here. */
  take(line: object): boolean;
  /** Takes a copy of a field. Returns whether it is one. */
  takeData(bytes: ArrayBuffer): boolean;
}

/** Reads a copy of a field; `null` if it is none. */
export function readField(bytes: ArrayBuffer): ({ id: number } & FieldCopy) | null;

/** A series of the whole run in at most 4096 buckets, each of one point or of many. */
export interface Series {
  id: number;
  /** The job that it is of; left out: of the run. */
  job?: number;
  name: string;
  unit?: string;
  /** The names of its lines. */
  lines?: string[];
  /** The number of points so far. */
  n: number;
  /** The x of the last point of each bucket. */
  x: number[];
  /** For each line, the last value of each bucket, which need not be finite. */
  y: number[][];
  /** For each line, the least and the greatest finite value of each bucket; NaN: it has none. */
  low: number[][];
  high: number[][];
  /** Where x went back, and what it was there: the first begins at bucket 0. */
  segments: { index: number; x: number }[];
  /** The first point of a line that was NaN, or infinite. */
  nan: First[];
  infinity: First[];
}

export interface First {
  line: number;
  x: number;
  /** The number of the point, from 0 on. */
  number: number;
}

/** A two-dimensional array of the model, as it was about now. */
export interface Field extends Partial<FieldCopy> {
  id: number;
  job: number;
  name: string;
  unit?: string;
}

export interface FieldCopy {
  /** The number of rows and of columns. */
  shape: [number, number];
  /** Row by row. */
  values: Float32Array | Float64Array;
  /** The position of the field's job. */
  position: number;
  /** The outer edges of the first and last column, and of the first and last row. */
  x?: [number, number];
  y?: [number, number];
}
