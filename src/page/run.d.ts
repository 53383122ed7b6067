/**
 * The run of a hub as plain state: its jobs, its log, its parameters, its series and fields.
 *
 * ```js
 * import { connect } from './stepcast.js';
 * import { followRun } from './run.js';
 *
 * const run = followRun(connect());
 * run.on('change', () => {
 *   for (const job of run.state.children()) console.log(job.title, run.state.fraction(job.id));
 * });
 * ```
 *
 * @module
 */

import type { Field, Series } from './series.js';
import type { Hub } from './stepcast.js';

/**
 * Follows the run of a hub: the feeds `stepcast/run`, `stepcast/series` and, if `fields` is true,
 * `stepcast/fields`. A field may be a megabyte ten times a second, which the model copies only while
 * somebody follows fields.
 */
export function followRun(hub: Hub, options?: { fields?: boolean }): Run;

export interface Run extends EventTarget {
  /** What the run is now. Another object after a restart of the program. */
  readonly state: RunState;
  /** What the run measures, by the numbers of the series. Another map after a restart. */
  readonly series: Map<number, Series>;
  /** What the model looks like, by the numbers of the fields. */
  readonly fields: Map<number, Field>;
  /** Calls `listener` after changes, once for those that came together. Returns what removes it. */
  on(type: 'change', listener: () => void, options?: AddEventListenerOptions): () => void;
  /** Asks for the end of a job. Returns whether that was handed to an open connection. */
  cancel(id: number): boolean;
  /** Moves a parameter, or presses a button. Returns whether that was handed to a connection. */
  set(id: number, value: number | boolean | string): boolean;
  close(): void;
}

/** The lines of a run, summed up. It is pure, for tests and for recorded runs. */
export class RunState {
  /** What the program says of the run; `null` before it has said anything. */
  run: RunInfo | null;
  jobs: Map<number, Job>;
  parameters: Map<number, Parameter>;
  /** The newest lines, at most a thousand. */
  log: (LogLine | Lost)[];
  /** How a recorded run ended; `null`: it has not, or this is no recording. */
  end: RunEnd | null;
  /** Takes one line. `time` is when it was written. Returns whether it means anything here. */
  take(line: object, time?: number): boolean;
  /** Takes the removal of a key. */
  remove(key: string): void;
  /** So many messages did not come. */
  miss(count: number): void;
  /** The jobs below this one, as announced; without a number, the topmost. */
  children(id?: number): Job[];
  /** How much of a job is done, from 0 to 1, or of the run. `null`: nobody knows. */
  fraction(id?: number): number | null;
}

/** A recorded run, summed up: what `Hub::record` has written, line by line. */
export class Recording {
  /** What the run was at the last line. Another object after lines that were lost. */
  readonly state: RunState;
  readonly series: Map<number, Series>;
  /** Takes one line. Returns whether it means anything here. */
  take(line: object): boolean;
}

export interface RunInfo {
  title: string;
  /** Milliseconds since 1970 by the clock of the hub's machine. */
  started: number;
  host: string;
  pid: number;
  description?: unknown;
  ended: { completed: number; failed: number; cancelled: number; abandoned: number };
  refused?: number;
  /** When the work was done. The hub may stay for those who come after. */
  done?: number;
  /** How the run has ended, and with what message. */
  end?: { how: 'finished' | 'failed'; reason: string };
}

export interface RunEnd {
  how: 'ended' | 'finished' | 'failed';
  reason: string;
}

export interface Job {
  id: number;
  parent?: number;
  title: string;
  unit?: string;
  status: 'queued' | 'working' | 'paused' | 'cancelling' | 'completed' | 'failed' | 'cancelled' | 'abandoned';
  total?: number;
  origin?: number;
  initial?: number;
  message?: string;
  weight?: number;
  cancellable?: boolean;
  started: number;
  ended?: number;
  paused?: number;
  paused_since?: number;
  /** The position. */
  progress?: number;
  /** Units per second. */
  rate?: number;
  /** Seconds that are left, as of `at`, by this machine's clock; left out: nobody knows. */
  eta?: number;
  /** The remaining time is probably in this range, which is not calibrated. */
  low?: number;
  high?: number;
  /** Seconds without a step, as of `at`, and how long a step usually takes. */
  idle?: number;
  usual?: number;
  at?: number;
}

export interface Parameter {
  id: number;
  name: string;
  kind: 'number' | 'switch' | 'choice' | 'button';
  value: number | boolean | string;
  min?: number;
  max?: number;
  step?: number;
  unit?: string;
  names?: string[];
  /** The id of the client that set it, and when; left out: the program did. */
  by?: string;
  at?: number;
}

export interface LogLine {
  at: number;
  level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  job?: number;
  text: string;
}

/** So many lines are missing here. */
export interface Lost {
  lost: number;
}
