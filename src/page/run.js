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

/** Follows the run of a hub: its jobs, its series, and its fields if asked for. */
export function followRun(hub, { fields = false } = {}) {
  return new Run(hub, fields);
}

/** What the pages of one hub share: the client's own snapshot of a feed has no new history. */
const followed = new WeakMap();

class Followed extends EventTarget {
  runs = 0; fieldsWanted = 0;
  #hub; #run; #series; #state = new RunState(); #measured = new SeriesState(); #shown = new FieldsState();
  #called = false; #anew; #since = 0;
  /** @type {any} */ #fields = null;

  constructor(hub) {
    super();
    this.#hub = hub;
    this.#run = this.#follow(RUN, {
      begin: () => { this.#state = new RunState(); },
      take: (data, time) => this.#state.take(data, time),
      remove: (key) => this.#state.remove(key),
      miss: (count) => this.#state.miss(count),
    });
    this.#followSeries();
  }

  get state() { return this.#state; }

  get series() { return this.#measured.series; }

  get fields() { return this.#shown.fields; }

  send(command) { return this.#run.send(command); }

  wantFields(more) {
    this.fieldsWanted += more;
    if (this.fieldsWanted && !this.#fields) {
      this.#fields = this.#follow(FIELDS, {
        begin: () => { this.#shown = new FieldsState(); },
        take: (data) => (data instanceof ArrayBuffer ? this.#shown.takeData(data) : this.#shown.take(data)),
      });
    } else if (!this.fieldsWanted) {
      this.#fields?.close();
      this.#fields = null;
    }
  }

  close() {
    clearTimeout(this.#anew);
    for (const feed of [this.#run, this.#series, this.#fields]) feed?.close();
  }

  #followSeries() {
    this.#series = this.#follow(SERIES, {
      begin: () => { this.#measured = new SeriesState(); },
      take: (data) => {
        const means = this.#measured.take(data);
        if (this.#measured.hasHole) this.#followAnew();
        return means;
      },
      miss: () => this.#followAnew(),
    });
  }

  /** Points are missing, which the histories have. A tab that cannot keep up asks for them now and then. */
  #followAnew() {
    this.#anew ??= setTimeout(() => {
      this.#anew = undefined;
      this.#since = Date.now();
      this.#series.close();
      this.#followSeries();
    }, Math.max(0, this.#since + 30_000 - Date.now()));
  }

  /** @param {any} how */
  #follow(name, how) {
    const { begin, take, remove, miss } = how;
    const feed = this.#hub.feed(name), { values, messages, how: had } = feed.snapshot();
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
}

class Run extends EventTarget {
  #hub; #fields; #of; #closing = new AbortController();

  constructor(hub, fields) {
    super();
    if (!followed.has(hub)) followed.set(hub, new Followed(hub));
    [this.#hub, this.#fields, this.#of] = [hub, fields, followed.get(hub)];
    this.#of.runs += 1;
    if (fields) this.#of.wantFields(1);
    this.#of.addEventListener('change', () => this.dispatchEvent(new Event('change')), { signal: this.#closing.signal });
  }

  get state() { return this.#of.state; }

  get series() { return this.#of.series; }

  get fields() { return this.#of.fields; }

  on(type, listener, options) {
    this.addEventListener(type, listener, options);
    return () => this.removeEventListener(type, listener, options);
  }

  set(id, value) { return this.#of.send({ set: { id, value } }); }

  cancel(id) { return this.#of.send({ cancel: { id } }); }

  close() {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    if (this.#fields) this.#of.wantFields(-1);
    this.#of.runs -= 1;
    if (this.#of.runs) return;
    this.#of.close();
    followed.delete(this.#hub);
  }
}
