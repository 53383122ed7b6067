// The run as plain state: its jobs, its log and what the program says of it (docs/protocol.md, "The
// feed of the run"), with types in run.d.ts. `RunState` is pure; `followRun` feeds it.

import { FieldsState, SeriesState } from './series.js';

const RUN = 'stepcast/run', SERIES = 'stepcast/series', FIELDS = 'stepcast/fields';
const LINES = 1000; // of the log

/** What the lines of a run amount to. */
export class RunState {
  run = null;
  jobs = new Map();
  parameters = new Map();
  #told = new Map();
  #slots = new Map();
  #reports = new Map();
  log = [];
  end = null;

  /** Takes one line, with the time at which it was written. Returns whether it means anything here. */
  take(line, time) {
    const [kind] = Object.keys(line);
    const content = line[kind];
    if (kind === 'run') this.run = content;
    else if (kind === 'job') this.#job(content);
    else if (kind === 'report') this.#report(content, time);
    else if (kind === 'parameter') this.parameters.set(content.id, content);
    else if (kind === 'log') this.#append(content);
    else if (kind === 'end') this.end = content;
    else return false;
    return true;
  }

  /** What a job is, and what is reported of it, may come in any order. */
  #job({ slot, ...content }) {
    const before = this.#slots.get(slot);
    if (before !== undefined && before !== content.id) this.#forget(before); // its key is used again
    if (slot !== undefined) this.#slots.set(slot, content.id);
    this.#told.set(content.id, content);
    this.#join(content.id);
  }

  #report({ id, ...content }, at) {
    if (this.#told.get(id)?.ended) return; // older than the end
    this.#reports.set(id, { ...content, at });
    this.#join(id);
  }

  #join(id) {
    const job = this.#told.get(id);
    if (job) this.jobs.set(id, job.ended ? job : { ...this.#reports.get(id), ...job });
  }

  #append(content) {
    this.log.push(content);
    if (this.log.length > LINES) this.log.splice(0, this.log.length - LINES);
  }

  #forget(id) {
    for (const known of [this.jobs, this.#told, this.#reports]) known.delete(id);
  }

  /** The program shows this no more. */
  remove(key) {
    const [kind, id] = key.split('/');
    if (kind === 'parameter') this.parameters.delete(+id);
  }

  /** The log has a hole here: so many lines did not come. */
  miss(count) { this.#append({ lost: count }); }

  /** The jobs below this one, in the order in which they were announced; without it: the topmost. */
  children(id) {
    const below = [...this.jobs.values()].filter(({ parent }) => (this.jobs.has(parent) ? parent : undefined) === id);
    return below.sort((a, b) => a.id - b.id);
  }

  /**
   * How much of a job is done, from 0 to 1, or of the run: by its own total, else by the jobs below
   * it; `null` if nobody knows.
   */
  fraction(id) {
    const job = this.jobs.get(id);
    if (job?.status === 'completed') return 1;
    if (job?.total !== undefined) {
      const origin = job.origin ?? 0;
      const done = (job.progress ?? job.initial ?? origin) - origin;
      return job.total > origin ? Math.min(1, Math.max(0, done / (job.total - origin))) : 1;
    }
    const below = this.children(id).filter(({ status }) => status !== 'abandoned' && status !== 'cancelled');
    if (!below.length) return job?.status === 'queued' ? 0 : null;
    let [done, all] = [0, 0];
    for (const { id: child, weight = 1 } of below) {
      const part = this.fraction(child);
      if (part === null) return null;
      done += weight * part;
      all += weight;
    }
    return done / all;
  }
}

/** What a recorded run amounts to (docs/protocol.md, "Recorded lines"). */
export class Recording {
  state = new RunState();
  #series = new SeriesState();

  /** Takes one line. Returns whether it means anything here. */
  take({ at, removed, lost, ...line }) {
    if (removed !== undefined) this.state.remove(removed);
    else if (lost !== undefined) this.#lose(lost);
    else return this.state.take(line, at) || this.#series.take(line);
    return true;
  }

  get series() { return this.#series.series; }

  /** The whole state follows. */
  #lose(count) {
    const { log } = this.state;
    this.state = Object.assign(new RunState(), { log });
    this.state.miss(count);
    this.#series = new SeriesState();
  }
}

/** Follows the run of a hub: its jobs, its series, and its fields unless `fields` is false. */
export function followRun(hub, { fields = true } = {}) {
  return new Run(hub, fields);
}

class Run extends EventTarget {
  #run; #others = []; #state = new RunState(); #series = new SeriesState(); #fields = new FieldsState(); #called = false;

  constructor(hub, fields) {
    super();
    this.#run = this.#follow(hub, RUN, {
      begin: () => { this.#state = new RunState(); },
      take: (data, time) => this.#state.take(data, time),
      remove: (key) => this.#state.remove(key),
      miss: (count) => this.#state.miss(count),
    });
    this.#followSeries(hub);
    if (!fields) return;
    this.#others.push(this.#follow(hub, FIELDS, {
      begin: () => { this.#fields = new FieldsState(); },
      take: (data) => (data instanceof ArrayBuffer ? this.#fields.takeData(data) : this.#fields.take(data)),
    }));
  }

  #followSeries(hub, since = 0) {
    let feed = null;
    const begin = () => { this.#series = new SeriesState(); };
    // Points are missing: the histories have them. But a tab that cannot keep up shall not ask often.
    const miss = () => {
      if (Date.now() - since < 30_000) return;
      feed.close();
      this.#others = this.#others.filter((other) => other !== feed);
      this.#followSeries(hub, Date.now());
    };
    feed = this.#follow(hub, SERIES, { begin, take: (data) => this.#series.take(data), miss });
    this.#others.push(feed);
  }

  /** @param {any} how */
  #follow(hub, name, how) {
    const { begin, take, remove, miss } = how;
    const feed = hub.feed(name), { values, messages, how: had } = feed.snapshot();
    if (had) {
      for (const data of values.values()) take(data);
      for (const { data, time } of messages) take(data, time);
    }
    feed.on('feed', (event) => {
      if (event.how === 'resumed') return;
      begin();
      this.#change();
    });
    for (const type of ['message', 'value']) {
      feed.on(type, ({ data, time }) => { if (take(data, time)) this.#change(); });
    }
    feed.on('removed', ({ key }) => { remove?.(key); this.#change(); });
    feed.on('gap', ({ from, to }) => { miss?.(to - from + 1); this.#change(); });
    return feed;
  }

  /** Events of one moment are one change. */
  #change() {
    if (this.#called) return;
    this.#called = true;
    queueMicrotask(() => {
      this.#called = false;
      this.dispatchEvent(new Event('change'));
    });
  }

  get state() { return this.#state; }

  get series() { return this.#series.series; }

  get fields() { return this.#fields.fields; }

  on(type, listener, options) {
    this.addEventListener(type, listener, options);
    return () => this.removeEventListener(type, listener, options);
  }

  set(id, value) { return this.#run.send({ set: { id, value } }); }

  cancel(id) { return this.#run.send({ cancel: { id } }); }

  close() { for (const feed of [this.#run, ...this.#others]) feed.close(); }
}
