// The hub's page: what it follows, its head, and when its panes are drawn. All of it is drawn from
// state, at most once per animation frame (docs/architecture.md, "The page").

import { connect } from './stepcast.js';
import { RunState, followRun } from './run.js';
import { $, attribute, button, h, icon, press, property, set, turn } from './dom.js';
import { Jobs, Log, Parameters, Values } from './panes.js';
import { FieldPane, Ink, Plots } from './plot.js';
import { ENDED, Remaining, ago, exact, left, moment, percent, plain, position, rate, remaining, span, value, whole, word } from './words.js';

const RUN = 'stepcast/run', OWN = /^stepcast\//;
const WORDS = { queued: 'Waiting for the first step', working: 'Running', paused: 'Paused', cancelling: 'Cancelling', completed: 'Finished', failed: 'Failed', cancelled: 'Cancelled', abandoned: 'Abandoned', stale: 'No connection', lost: 'Lost', closed: 'Ended', connecting: 'Connecting' };
const SKIPPED = { slow: 'this page was too slow', lost: 'the program was faster than the hub' };
const PHASES = 12; // more parts than that are one
const KEYS = [['/', 'search the log'], ['f', 'follow the log, or stop'], ['p', 'pause the plots'], ['← →', 'move the cursor, on a plot'], ['l', 'log axis, on a plot'], ['↑ ↓', 'go through the rows, on the jobs'], ['Del', 'cancel, on a job'], ['?', 'these keys']];

const stored = (key, value) => {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch { /* a page in a frame may have no storage */ }
  return null;
};

/** Begins. `root` is the hub's, relative to the page. */
export function start(root) {
  // At the hub's root the page shows the run and everyone's feed; below `/feed/` the feed that its address names.
  const [, name] = root === './' ? [] : location.pathname.split(/\/feed\/(.*)/);
  const followed = name ? decodeURIComponent(name) : '';
  return new Page(connect(name ? location.origin + location.pathname : undefined, { feeds: [followed], history: 0 }), followed);
}

class Page {
  #frame = 0;
  #remaining = new Remaining();
  #end = null; // the expected end as it is shown
  #asked = new Map(); // by job: when the reader asked for its end
  #fields = new Map();
  #before = null; // the run before
  #was = { quarter: -1, tone: '', badge: '', notice: '', phases: '' };
  #sentence = '';
  #speaking = 0;
  // Of the connection.
  #epoch = null;
  #heard = null;
  #retryAt = null;
  #offset = 0; // this machine's clock is so far ahead of the hub's
  #goodbye = null; // when the hub left without a word of the run, and whether anybody has answered since
  #over = null; // when the feed that is shown was finished
  #ended = null; // when the run ended
  // Of a plain feed.
  #count = 0;
  #progress = null;
  #field = null;

  constructor(hub, followed) {
    Object.assign(this, { hub, followed, subject: followed || 'stepcast' });
    const change = () => this.schedule();
    this.run = followed ? null : followRun(hub, { fields: true });
    this.ink = new Ink();
    const file = () => this.title;
    this.jobs = new Jobs({ ask: (id) => this.#ask(id), change });
    this.parameters = new Parameters((id, v) => this.run?.set(id, v));
    this.values = new Values();
    this.log = new Log({ change, name: file });
    this.plots = new Plots({ box: $('plots'), tools: $('series-tools'), at: $('cursor-at'), ink: this.ink, change, name: file });
    this.#facts = ['elapsed', 'rate', 'position'].map((id) => {
      const [term, text] = [h('dt'), h('dd', { id })];
      $('facts').append(h('', term, text));
      return [term, text];
    });
    this.run?.on('change', change);
    this.#listen();
    this.#tools();
    setInterval(() => { if (document.hidden) this.#aside(); else this.schedule(); }, 1000);
    document.addEventListener('visibilitychange', change);
    this.schedule();
  }

  #facts;

  get state() { return this.run?.state ?? NONE; }

  get title() { return plain(this.state.run?.title ?? '') || this.subject; }

  // ---- What arrives is noted here, and drawn with the next frame.

  #listen() {
    const { hub } = this;
    hub.on('status', (status) => this.#connection(status));
    hub.on('bye', ({ code, reason }) => { if (code === 4000 && !/full|restart/.test(reason)) this.#goodbye = { at: Date.now(), silent: false }; });
    hub.on('message', ({ feed, time, data }) => {
      this.#hear();
      if (feed === RUN) this.#line(data);
      else if (!OWN.test(feed ?? '')) this.#receive(time, data);
    });
    hub.on('value', ({ feed, key, time, data }) => {
      this.#hear();
      if (feed === RUN && data.run?.at) this.#offset = time - data.run.at;
      if (!OWN.test(feed ?? '')) this.#receive(time, data, key);
    });
    hub.on('removed', ({ feed, key }) => { if (feed === this.followed) this.values.remove(key); });
    hub.on('gap', ({ feed, from, to, why }) => {
      const reason = SKIPPED[why] ?? 'no longer kept', many = to - from + 1;
      if (feed === RUN) this.#mark(`${whole(many)} ${many === 1 ? 'line' : 'lines'} left out here: ${reason}`);
      else if (!OWN.test(feed ?? '')) this.#mark(`${from === to ? `message ${from}` : `messages ${from} to ${to}`} skipped: ${reason}`);
    });
    hub.on('ended', ({ feed, time }) => {
      if (OWN.test(feed ?? '')) return;
      this.#note('the feed has finished');
      if (feed === this.followed) this.#over = time;
      this.schedule();
    });
    hub.on('feed', ({ feed, how }) => {
      if (how === 'snapshot' && feed === RUN) this.log.forget(RUN);
      if (this.#over && feed === this.followed && how === 'snapshot') this.#forget(); // another feed of the same name
      this.schedule();
    });
    hub.on('error', ({ code, reason }) => this.#note(`${code}: ${reason}`));
  }

  #hear() {
    this.#count += 1;
    this.#heard = Date.now();
    this.schedule();
  }

  #connection(status) {
    const { state, id, epoch, resumed, retry, code, reason } = status, now = Date.now();
    this.#retryAt = retry === null ? null : now + retry;
    if (state === 'open') {
      // A hub that was started again is another run.
      if (this.#epoch && epoch !== this.#epoch) this.#anew(now);
      this.#note(`${resumed && this.#epoch ? 'connected again' : 'connected'} as client ${id}`);
      if (this.wasOpen === false) this.#say('Connected again');
      Object.assign(this, { wasOpen: true });
      this.#epoch = epoch;
      this.#ended = this.#goodbye = null;
      this.#heard = now;
    } else if (state === 'finished' || state === 'failed') {
      if (!this.#ended) this.#note(`${state}${reason && `: ${reason}`}`, state === 'failed' ? 'error' : '');
      this.#ended ??= now;
    } else if (state !== 'connecting') {
      if (this.wasOpen) {
        this.#note(`connection closed (${code ?? ''}${reason ? ` ${reason}` : ''})`);
        this.#say('Connection lost');
        this.wasOpen = false;
        this.#gone = now;
      } else if (this.#goodbye) this.#goodbye.silent = true;
    }
    this.schedule();
  }

  #gone = null; // when the connection went

  /** Another run begins: the one before stays behind a line across the log, and in grey. */
  #anew(now) {
    const { run } = this, was = this.#summary(), { share, tone } = was;
    const how = ['completed', 'failed', 'cancelled'].includes(tone) ? { completed: 'finished' }[tone] ?? tone : 'lost';
    this.#before = { at: now, how, share, elapsed: was.elapsed };
    if (run?.series.size) this.plots.ghosts(new Map(run.series));
    this.log.add({ kind: 'run', text: `${this.#clock(now)} a new run began. The run before ${how === 'finished' || how === 'failed' ? 'had' : 'was'} ${how}` });
    this.#forget();
    this.#asked.clear();
  }

  #forget() {
    this.#count = 0;
    this.#over = this.#progress = this.#field = null;
    this.#was.quarter = -1;
    this.values.clear();
  }

  #line({ log }) {
    if (!log) return;
    if (log.lost !== undefined) return this.#mark(`${whole(log.lost)} ${log.lost === 1 ? 'line' : 'lines'} left out here: the program was faster than the hub`);
    const job = this.state.jobs.get(log.job);
    this.log.add({ at: log.at, text: log.text, level: log.level, from: job ? plain(job.title) : log.job === undefined ? 'run' : '', feed: RUN });
  }

  // Of a value only the newest counts: it is a row of a table, and no line of the log.
  #receive(time, data, key) {
    const at = time - this.#offset, isBinary = data instanceof ArrayBuffer;
    if (isBinary) {
      const field = plainField(data);
      if (field) this.#field = field;
      else this.log.add({ at, kind: 'binary', text: `${key === undefined ? '' : `${key}: `}binary, ${whole(data.byteLength)} bytes` });
      if (field && key === undefined) this.log.add({ at, kind: 'binary', text: `binary, ${whole(data.byteLength)} bytes` });
      if (!field) this.#note('the binary message above is not a field: expected u32 ny, u32 nx, then ny × nx f32');
    } else {
      const text = typeof data === 'string' ? data : JSON.stringify(data);
      const progress = progressOf(text);
      if (progress) this.#progress = progress;
      if (key === undefined) this.log.add({ at, text });
      else if (!progress) this.values.put(key, data);
    }
    this.schedule();
  }

  #note(text, level) { this.log.add({ at: Date.now() - this.#offset, kind: 'notice', text, level }); }

  #mark(text) { this.log.add({ kind: 'mark', text }); }

  #clock(now, seconds = true) { return moment(now - this.#offset, Date.now() - this.#offset, seconds); }

  // ---- What all of it amounts to.

  #summary() {
    const { state, hub: { status } } = this, now = Date.now();
    const stale = status.state !== 'open' && !this.#over && !['finished', 'failed'].includes(status.state) && !(status.state === 'connecting' && this.#heard === null);
    const seen = stale ? this.#heard ?? now : now; // what is known, is known of then
    const top = state.children(), hubSeen = seen - this.#offset;
    const told = this.#progress, hasJobs = state.jobs.size > 0;
    const main = mainJob(state, top);
    // Of a run whose jobs have not come to their ends, what the weightiest of them had done.
    let share = hasJobs ? state.fraction() ?? (main && ENDED.has(main.status) ? state.fraction(main.id) : null) : told ? Math.min(1, Math.max(0, told.progress / told.total)) : null;
    let tone = hasJobs ? ofJobs(top) : this.#count ? 'working' : 'queued';
    // How the program says that the run has ended: by a close code, or while the hub stays for those who come late.
    const end = ['finished', 'failed'].includes(status.state) ? { how: status.state, reason: status.reason } : state.end ?? state.run?.end ?? null;
    if (end?.how === 'failed') tone = 'failed';
    else if (end && !(hasJobs && tone === 'cancelled') || this.#over) tone = 'completed';
    if (tone === 'completed' && hasJobs) share = 1;
    const isEnd = ENDED.has(tone);
    const endings = [...state.jobs.values()].map(({ ended = 0 }) => ended);
    const ended = !isEnd ? null : state.run?.done ? state.run.done : this.#over ? this.#over - this.#offset : status.state !== 'open' && this.#ended ? this.#ended - this.#offset : Math.max(0, ...endings) || null;
    const started = state.run?.started ?? null;
    const rest = isEnd || stale && !hasJobs ? null : hasJobs ? remaining(state, undefined, seen) : null;
    return { status, now, stale, seen, hubSeen, top, told, hasJobs, share, tone, isEnd, end, ended, started, rest, main,
      elapsed: started === null ? null : Math.max(0, ((isEnd ? ended ?? hubSeen : hubSeen) - started) / 1000) };
  }

  // ---- Drawing.

  /** What a tab that nobody sees shows: its title, and a notification at the end. */
  #aside() {
    const all = this.#summary();
    if (!this.#isRefused(all)) this.#head(all);
  }

  schedule() { if (!document.hidden) this.#frame ||= requestAnimationFrame(() => this.#draw()); }

  #draw() {
    this.#frame = 0;
    const all = this.#summary(), { state } = this, { stale } = all;
    if (this.#isRefused(all)) return;
    const frozen = stale || all.status.state !== 'open', client = this.hub.client;
    const how = { now: all.seen, stale: frozen, client, hubNow: all.hubSeen };
    this.#head(all);
    if (state.jobs.size) this.jobs.draw(state, how);
    if (this.run) {
      this.parameters.draw(state.parameters, how);
      this.plots.update(this.run.series);
    }
    this.#drawValues();
    const series = this.run?.series.size ?? 0;
    for (const [id, shown] of [['jobs-pane', state.jobs.size], ['series-pane', series], ['params-pane', state.parameters.size], ['values-pane', this.values.size]]) $(id).hidden = !shown;
    this.#drawFields();
    const side = this.#fields.size || state.parameters.size || this.values.size;
    $('side').hidden = !side;
    $('main').className = [state.jobs.size && 'has-jobs', series && 'has-series', side && 'has-side'].filter(Boolean).join(' ');
    if (series) this.plots.draw();
    for (const pane of this.#fields.values()) pane.draw(pane.field);
    if (this.log.draw()) this.schedule();
    this.#details(all);
  }

  #drawValues() {
    if (!this.#progress) return;
    for (const [key, v] of Object.entries(this.#progress)) {
      if (!['progress', 'total', 'message'].includes(key) && ['number', 'string', 'boolean'].includes(typeof v)) this.values.put(key, v);
    }
  }

  #drawFields() {
    const fields = new Map(this.run?.fields ?? []);
    if (this.#field) fields.set('plain', { name: 'Field', ...this.#field });
    for (const [id, pane] of this.#fields) {
      if (fields.get(id)?.name === pane.field.name) continue;
      pane.node.remove();
      this.#fields.delete(id);
    }
    for (const [id, field] of fields) {
      let pane = this.#fields.get(id);
      if (!pane) {
        pane = new FieldPane({ name: field.name, ink: this.ink, change: () => this.schedule() });
        if (id !== 'plain') set(pane.title, `Field ${field.name}`);
        this.#fields.set(id, pane);
        $('params-pane').before(pane.node);
      }
      pane.field = field;
    }
  }

  #head(all) {
    const { status, stale, share, tone, isEnd, elapsed, main, told, hasJobs } = all;
    const lost = stale && this.#goodbye?.silent, taken = status.state === 'closed' && status.code === 4500;
    const first = status.state === 'connecting' && this.#heard === null;
    const shown = first ? 'queued' : lost ? 'lost' : status.state === 'closed' && !taken ? 'closed' : stale ? 'stale' : tone;
    const text = shown === 'queued' && first ? WORDS.connecting : taken ? 'Taken over' : WORDS[shown];
    const body = document.body.dataset, link = first ? 'connecting' : isEnd && status.state !== 'open' || this.#over ? 'ended' : stale ? 'lost' : 'live';
    if (body.run !== shown) body.run = shown;
    if (body.link !== link) body.link = link;
    // The states of the connection and of the run in one word, for whoever looks for it.
    const was = $('state').dataset.state;
    const is = this.#over ? 'finished' : status.state === 'waiting' ? 'closed' : status.state === 'connecting' && !first ? 'closed' : status.state;
    if (was !== is) $('state').dataset.state = is;
    set($('state-word'), text);
    turn($('state-icon'), { closed: 'cancelled', lost: 'stale' }[shown] ?? shown);
    set($('link'), first ? 'Connecting' : link === 'ended' ? 'Ended' : taken ? 'Taken over' : lost ? 'Lost' : shown === 'closed' ? 'Closed' : stale ? 'No connection' : 'Live');
    set($('name'), this.title);
    $('name').title = this.title;

    const figure = share === null ? '' : percent(share);
    if ($('percent').dataset.is !== figure) {
      $('percent').dataset.is = figure;
      $('percent').replaceChildren(...figure ? [figure, h('small', '%')] : [h('small', '–')]);
    }
    const [big, under] = this.#times(all, shown);
    set($('left'), big);
    $('left').classList.toggle('none', big.startsWith('no ') || big === '');
    set($('until'), under);
    const facts = [
      ['Elapsed', elapsed === null ? '' : exact(elapsed)],
      ['Rate', main ? rate(main.rate, plain(main.unit ?? '')) : ''],
      hasJobs ? [main?.unit ? plain(main.unit).slice(0, 20) : 'Position', main ? `${position(main.progress ?? main.initial ?? main.origin ?? 0)}${main.total === undefined ? '' : ` of ${position(main.total)}`}` : '']
        : ['Position', told ? `${value(told.progress)} of ${value(told.total)}` : ''],
    ];
    for (const [i, [term, fact]] of facts.entries()) {
      set(this.#facts[i][0], term);
      set(this.#facts[i][1], fact || '–');
      this.#facts[i][0].parentNode.hidden = !fact && !hasJobs;
    }
    this.#ruler(all, text, big);
    this.#notice(all, shown);
    set($('mini'), [figure && `${figure}\u00a0%`, big || text].filter(Boolean).join(', '));
    property($('topline'), 'width', `${((share ?? 0) * 100).toFixed(2)}%`);
    $('notify').disabled = isEnd;
    this.#entitle(all, shown, text);
    this.#milestones(all, text);
    const before = this.#was.tone;
    if (isEnd || tone === 'working') this.#was.tone = tone;
    if (isEnd && before && !ENDED.has(before)) this.#notify(text);
  }

  #times({ tone, isEnd, elapsed, ended, rest, share, stale, seen, hasJobs, told, now, status }, shown) {
    const at = ended === null ? '' : `ended at ${moment(ended, now - this.#offset)}`;
    if (shown === 'lost') return [elapsed === null ? 'lost' : `after ${span(elapsed)}`, `last heard ${this.#clock(this.#heard ?? now)}`];
    if (isEnd) return [elapsed === null ? '' : `${tone === 'completed' ? 'took' : 'after'} ${span(elapsed)}`, at];
    if (tone === 'cancelling') {
      const asked = Math.min(...this.#asked.values());
      return ['stopping', Number.isFinite(asked) ? `asked ${ago((now - asked) / 1000)}` : ''];
    }
    if (tone === 'paused') {
      const since = [...this.state.jobs.values()].map((job) => job.paused_since ?? 0).reduce((a, b) => Math.max(a, b), 0);
      return ['paused', since ? `since ${moment(since, now - this.#offset)}` : ''];
    }
    const words = rest && this.#remaining.words(rest.eta, rest.low, rest.high);
    if (!words) {
      this.#end = null;
      if (tone === 'queued') return ['no estimate yet', status.state === 'open' ? 'after the first steps' : ''];
      if (!hasJobs) return ['', told ? '' : 'no total given'];
      if (share === null) return [elapsed === null ? '' : `${exact(elapsed)} so far`, 'no total given'];
      return ['no estimate yet', stale ? `as of ${this.#clock(seen)}` : 'after the first steps'];
    }
    const end = seen + rest.eta * 1000;
    if (this.#end === null || Math.abs(end - this.#end) > Math.max(30_000, rest.eta * 20)) this.#end = end;
    return [left(words), stale ? `as of ${this.#clock(seen)}` : `done about ${this.#clock(this.#end, false)}`];
  }

  #ruler({ share, top, tone, isEnd, ended, started, told, now, stale, rest }, text, big) {
    const parts = phases(this.state, top), bar = $('progress');
    const sign = parts.map(({ weight }) => weight).join();
    if (sign !== this.#was.phases || !bar.childElementCount) {
      this.#was.phases = sign;
      bar.replaceChildren(...(parts.length ? parts : [{ weight: 1 }]).map(({ weight }) => h('i', { '--w': weight })));
    }
    const full = (s) => `${((s ?? (tone === 'completed' ? 1 : 0)) * 100).toFixed(2)}%`;
    for (const [i, segment] of [...bar.children].entries()) property(segment, '--p', full(parts.length ? this.state.fraction(parts[i].id) : share));
    const at = parts.findIndex(({ status }) => status === 'working' || status === 'paused' || status === 'cancelling');
    const doing = !isEnd && at >= 0 ? `${parts.length > 1 ? `phase ${at + 1} of ${parts.length}: ` : ''}${plain(parts[at].title)}` : typeof told?.message === 'string' && !parts.length ? plain(told.message) : '';
    set($('phases'), doing.slice(0, 300));
    const clockAt = (ms) => moment(ms, now - this.#offset);
    set($('from'), started === null ? '' : `started ${clockAt(started)}`);
    set($('to'), isEnd ? ended === null ? '' : `ended ${clockAt(ended)}` : rest && this.#end !== null && !stale ? `about ${this.#clock(this.#end, false)}` : started === null ? '' : 'end unknown');
    bar.classList.toggle('unknown', share === null && tone === 'working');
    const isPlain = !parts.length && told;
    attribute(bar, 'aria-valuemax', share === null ? null : isPlain ? told.total : 100);
    attribute(bar, 'aria-valuemin', share === null ? null : 0);
    attribute(bar, 'aria-valuenow', share === null ? null : isPlain ? Math.min(told.total, Math.max(0, told.progress)) : Math.floor(share * 100));
    attribute(bar, 'aria-valuetext', [text, share === null ? '' : `${percent(share)} percent`, isPlain ? `${value(told.progress)} of ${value(told.total)}` : '', doing, big].filter(Boolean).join(', '));
  }

  /** The worst that is true now, on one line. */
  #notice(all, shown) {
    const [kind, sign, text, acts] = this.#worst(all, shown), box = $('notice');
    if (box.dataset.kind !== kind) box.dataset.kind = kind;
    set($('notice-text'), text);
    const whoever = [this.state.run?.host && plain(this.state.run.host)].filter(Boolean).join(', ');
    const names = acts.map(([name]) => name).join();
    const key = `${sign}|${names}|${acts.length ? '' : whoever}`;
    if (key === this.#was.notice) return;
    this.#was.notice = key;
    $('notice-icon').replaceChildren(...sign ? [icon(sign)] : []);
    $('notice-acts').replaceChildren(...acts.length ? acts.map(([name, then], i) => button(i ? '.quiet' : '', name, then)) : [h('span.who', whoever)]);
  }

  #worst({ status, stale, tone, isEnd, end, now, ended, seen }, shown) {
    const { hub, state } = this, jobs = [...state.jobs.values()];
    const retry = status.state === 'connecting' ? 'Trying now.' : this.#retryAt === null ? '' : `Next attempt in ${Math.max(0, Math.ceil((this.#retryAt - now) / 1000))} s.`;
    const again = [['Try now', () => hub.reconnect()]];
    const reason = plain(status.reason ?? '').trim(), message = plain(end?.reason ?? '').trim();
    const failed = jobs.filter((job) => job.status === 'failed');
    if (tone === 'failed') {
      const nan = this.#firstNan();
      const why = [message || plain(failed.at(-1)?.message ?? '') || 'The program gave no reason', nan].filter(Boolean).map((s) => sentence(s)).join(' ');
      return ['fail', 'failed', why, [['Show in log', () => this.log.show('error')]]];
    }
    if (shown === 'lost') return ['warn', 'stale', `The program ended without saying how. Nothing answers here since ${this.#clock(this.#goodbye.at)}. ${retry}`.trim(), again];
    if (status.state === 'closed') {
      if (status.code === 4500) return ['warn', 'stale', `This view went to another tab at ${this.#clock(this.#gone ?? now)}.`, [['Use this one', () => location.reload()]]];
      return ['warn', 'cancelled', status.code === 4501 ? `The program has closed this view${reason ? `: ${sentence(reason)}` : '.'}` : sentence(reason || `The hub has ended the connection (${status.code})`), [['Connect again', () => location.reload()]]];
    }
    if (stale && this.#heard === null) return ['warn', 'stale', ['Nothing answers here yet.', reason && `${sentence(upper(reason))}`, retry].filter(Boolean).join(' '), again];
    if (stale) {
      const why = status.code === 4000 && reason && reason !== 'restarting' ? sentence(upper(reason)) : 'The run may well go on.';
      return ['warn', 'stale', `Last update ${ago((now - seen) / 1000)}, at ${this.#clock(seen)}. ${why} ${retry}`.trim(), again];
    }
    const cancelling = jobs.find((job) => job.status === 'cancelling');
    if (cancelling) {
      const asked = this.#asked.get(cancelling.id);
      return ['warn', 'cancelling', `${state.children().length > 1 ? `${plain(cancelling.title)}: c` : 'C'}ancel asked for${asked ? ` by you ${ago((now - asked) / 1000)}` : ''}. The program stops at its next check.`, []];
    }
    if (failed.length) {
      const names = failed.slice(0, 3).map(({ title }) => plain(title)).join(', ');
      return ['fail', 'failed', `${failed.length} of ${state.jobs.size} jobs failed: ${names}${failed.length > 3 ? ', …' : '.'}`, [['Show them', () => this.jobs.showFailed()]]];
    }
    const idle = jobs.find((job) => job.idle !== undefined && job.status === 'working');
    if (idle) return ['hint', 'warn', `${plain(idle.title)}: no step for ${span(idle.idle + (seen - idle.at) / 1000)}, usually ${span(idle.usual ?? 0)}`, []];
    if (this.#before) {
      const { at, how, share, elapsed } = this.#before;
      const where = [share !== null && how !== 'finished' && `at ${percent(share)}\u00a0%`, elapsed !== null && `after ${span(elapsed)}`].filter(Boolean).join(' ');
      return ['', '', `A new run began at ${this.#clock(at)}. The run before ${how === 'finished' || how === 'failed' ? 'had' : 'was'} ${how}${where && ` ${where}`}.`, [['Show it', () => this.log.showRun()], ['Dismiss', () => this.#dismiss()]]];
    }
    if (isEnd) {
      const last = message || plain([...jobs].reverse().find((job) => job.message)?.message ?? '');
      if (tone === 'completed') return ['ok', 'completed', last ? sentence(last) : `Finished${ended === null ? '' : ` at ${moment(ended, now - this.#offset)}`}.`, []];
      return ['', tone, [`${upper(word(tone))}${ended === null ? '' : ` at ${moment(ended, now - this.#offset, true)}`}.`, last && sentence(last)].filter(Boolean).join(' '), []];
    }
    const nan = this.#firstNan();
    if (nan) return ['hint', 'warn', `${nan}.`, []];
    const saying = jobs.filter((job) => job.message && job.status === 'working').pop();
    if (saying) return ['', '', `${plain(saying.title)}: ${plain(saying.message)}`, []];
    const { newest } = this.log;
    return ['', '', newest ? `${newest.from ? `${newest.from}: ` : ''}${plain(newest.text).slice(0, 300)}` : tone === 'queued' && status.state === 'open' ? 'No step yet.' : '', []];
  }

  #firstNan() {
    for (const { name: of, nan } of this.run?.series.values() ?? []) if (nan[0]) return `First NaN at ${position(nan[0].x)}, in ${plain(of)}`;
    return '';
  }

  #dismiss() {
    this.#before = null;
    this.plots.ghosts(null);
    this.log.dismissRun();
    this.schedule();
  }

  #entitle({ share, tone, isEnd, told }, shown = document.body.dataset.run, text = WORDS[shown]) {
    const known = told !== null || share !== null;
    const figure = known && share !== null ? `${Math.floor(share * 100 + 1e-9)} %` : '';
    const begin = isEnd || shown === 'stale' || shown === 'lost' || tone === 'cancelling' || tone === 'paused' ? text : '';
    const title = [begin, figure, this.title].filter(Boolean).join(' · ');
    if (document.title !== title) document.title = title; // each assignment costs
    const badge = `${figure} ${shown}`;
    if (badge === this.#was.badge) return;
    this.#was.badge = badge;
    const canvas = h('canvas', { width: 32, height: 32 }), g = canvas.getContext('2d');
    const arc = (to) => { g.beginPath(); g.arc(16, 16, 11, -Math.PI / 2, (to * 2 - 0.5) * Math.PI); g.stroke(); };
    g.lineWidth = 7;
    g.strokeStyle = '#8886';
    arc(1);
    g.strokeStyle = { failed: '#d33', stale: '#888', lost: '#888', cancelled: '#888' }[shown] ?? '#1a9c8f';
    arc(tone === 'completed' ? 1 : share ?? 0);
    g.lineWidth = 4;
    if (shown === 'failed') g.strokeRect(15, 11, 2, 10);
    if (shown === 'completed') { g.beginPath(); g.moveTo(11, 16); g.lineTo(15, 20); g.lineTo(22, 12); g.stroke(); }
    if (shown === 'paused') { g.strokeRect(13, 13, 0.5, 6); g.strokeRect(19, 13, 0.5, 6); }
    $('icon').href = canvas.toDataURL();
  }

  // ---- For those who listen: what matters, and at most one sentence in three seconds.

  #say(text) {
    this.#sentence = text;
    this.#speaking ||= setTimeout(() => { this.#speaking = 0; set($('spoken'), this.#sentence); }, 3000);
  }

  #milestones({ share, tone, isEnd, end }, text) {
    const quarter = share === null ? -1 : Math.floor(share * 4);
    if (isEnd !== this.#wasEnd && this.#wasEnd !== undefined && isEnd) this.#say([text, plain(end?.reason ?? '').slice(0, 200)].filter(Boolean).join(': '));
    else if (quarter > this.#was.quarter && quarter > 0 && !isEnd) this.#say(`${quarter * 25} percent`);
    else if (tone === 'working' && this.#was.spokenTone !== 'working') this.#say('Running');
    this.#wasEnd = isEnd;
    this.#was.spokenTone = tone;
    this.#was.quarter = quarter;
  }

  #wasEnd = undefined;

  #notify(text) {
    if (!this.wantsNote || Notification.permission !== 'granted') return;
    try {
      new Notification(`${text}: ${this.title}`, { body: $('notice-text').textContent });
    } catch {} // a phone has them for service workers only
  }

  // ---- What the reader does.

  #ask(id) {
    const job = this.state.jobs.get(id), dialog = $('dialog');
    if (!job) return;
    const close = () => dialog.close();
    const keep = button('', 'Keep running', close), cancel = button('.danger', 'Cancel the job', () => {
      if (this.run.cancel(id)) this.#asked.set(id, Date.now());
      close();
      this.schedule();
    });
    dialog.replaceChildren(h('h2', { id: 'dialog-title' }, `Cancel “${plain(job.title)}”?`),
      h('p', 'The program stops at its next check, or finishes before it. Everyone who watches sees that you asked.'), h('.acts', keep, cancel));
    dialog.showModal();
    keep.focus();
  }

  #tools() {
    const root = document.documentElement, dark = matchMedia('(prefers-color-scheme: dark)');
    const colours = () => { this.ink.read(); this.schedule(); };
    const theme = (to) => {
      if (to) root.dataset.theme = to; else delete root.dataset.theme;
      attribute($('theme'), 'aria-label', `Theme: ${to || 'as the system'}`);
      colours();
    };
    theme(stored('stepcast-theme'));
    $('theme').addEventListener('click', () => {
      const to = (root.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark' ? 'light' : 'dark';
      stored('stepcast-theme', to);
      theme(to);
    });
    for (const media of [dark, matchMedia('(forced-colors: active)')]) media.addEventListener('change', colours);
    new ResizeObserver(() => this.schedule()).observe($('main'));
    const help = () => {
      const dialog = $('dialog'), close = button('', 'Close', () => dialog.close());
      dialog.replaceChildren(h('h2', { id: 'dialog-title' }, 'Keys'), h('dl', KEYS.map(([key, text]) => [h('dt', key), h('dd', text)])), h('.acts', close));
      dialog.showModal();
    };
    $('keys').addEventListener('click', help);
    $('details').addEventListener('click', () => $('about').showModal());
    $('about-close').addEventListener('click', () => $('about').close());
    $('single-keys').checked = stored('stepcast-keys') !== 'off';
    $('single-keys').addEventListener('change', ({ target }) => stored('stepcast-keys', target.checked ? 'on' : 'off'));
    addEventListener('keydown', (event) => {
      if (event.target.closest?.('input, select, textarea, dialog') || event.ctrlKey || event.metaKey || event.altKey || !$('single-keys').checked) return;
      const then = { '/': () => $('log-search').focus(), f: () => this.log.hold(!this.log.follows), p: () => this.plots.togglePause(), '?': help }[event.key];
      if (!then) return;
      event.preventDefault();
      then();
    });
    const notify = $('notify');
    notify.hidden = !(globalThis.isSecureContext && 'Notification' in globalThis);
    notify.addEventListener('click', async () => {
      this.wantsNote = !this.wantsNote && await Notification.requestPermission() === 'granted';
      press(notify, this.wantsNote);
    });
    new IntersectionObserver(([entry]) => document.body.classList.toggle('scrolled', !entry.isIntersecting && entry.boundingClientRect.top < 0), { rootMargin: '-44px 0px 0px' }).observe($('progress'));
  }

  #details({ started }) {
    const { run } = this.state, { client } = this.hub;
    set($('client-id'), String(client ?? 'none'));
    set($('count'), whole(this.#count));
    set($('counted'), this.#count === 1 ? 'message' : 'messages');
    if (!$('about').open && this.#told === run) return;
    this.#told = run;
    set($('about-title'), this.title);
    const rows = run ? [['Host', `${plain(run.host)}, pid ${run.pid}`], ['Started', started === null ? '' : `${new Date(started).toLocaleString()}`]] : [];
    const also = run?.description;
    if (also && typeof also === 'object' && !Array.isArray(also)) for (const [key, v] of Object.entries(also)) rows.push([plain(key), typeof v === 'number' ? value(v) : plain(typeof v === 'string' ? v : JSON.stringify(v))]);
    else if (also !== undefined && also !== null) rows.push(['Description', plain(typeof also === 'string' ? also : JSON.stringify(also))]);
    if (run?.refused) rows.push(['Not shown', `${whole(run.refused)} jobs: too many were open`]);
    $('about-rows').replaceChildren(...rows.flatMap(([key, text]) => [h('dt', key), h('dd', text)]));
  }

  #told = undefined;

  /** A reader who was never let in is told why, and nothing of the run. */
  #isRefused({ status }) {
    const refused = status.state === 'closed' && this.#epoch === null && [403, 404, 4505].includes(status.code);
    if (!refused || $('refused')) return Boolean($('refused'));
    const nothing = status.code !== 403, text = plain(status.reason).replace(/^\d+[ :]*/, '');
    const code = /\.allow_\w+\("[^"]*"\)/.exec(text), line = code?.[0];
    document.body.dataset.link = 'lost';
    Object.assign($('state').dataset, { state: 'closed' });
    set($('state-word'), nothing ? 'Nothing is here' : 'Refused');
    turn($('state-icon'), 'failed');
    set($('link'), nothing ? 'Not found' : 'Refused');
    set($('name'), 'stepcast');
    document.title = `${nothing ? 'not found' : 'refused'} · stepcast`;
    for (const id of ['facts', 'progress', 'notice', 'notify', 'details']) $(id).hidden = true;
    for (const node of document.querySelectorAll('.hero .percent, .hero .left, .marks')) node.hidden = true;
    const copy = line && navigator.clipboard ? button('.main', 'Copy the line', () => navigator.clipboard.writeText(line)) : null;
    $('main').replaceWith(h('main.refused', { id: 'refused' },
      h('h2', nothing ? 'The hub has nothing at this address.' : 'The run goes on. This address may not watch it.'),
      h('p', text), line && h('p', 'If the name is yours, add one line to the program and start it again:'), line && h('pre', { tabindex: 0 }, line),
      h('p', copy, ' ', button('', 'Try again', () => location.reload()))));
    return true;
  }
}

const NONE = new RunState();
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const sentence = (text) => (/[.!?…]$/.test(text) ? text : `${text}.`);

/** The state of a run by its topmost jobs. */
function ofJobs(top) {
  const has = (status) => top.some((job) => job.status === status);
  for (const status of ['cancelling', 'working', 'paused']) if (has(status)) return status;
  if (has('queued')) return top.every(({ status }) => status === 'queued') ? 'queued' : 'working';
  for (const status of ['failed', 'cancelled', 'abandoned']) if (has(status)) return status;
  return 'completed';
}

/** The parts by which the ruler shows the run. */
function phases(state, top) {
  let parts = top;
  while (parts.length === 1 && parts[0].total === undefined) {
    const below = state.children(parts[0].id);
    if (!below.length) break;
    parts = below;
  }
  return parts.length > PHASES ? [] : parts.map((job) => ({ ...job, weight: job.weight ?? 1 }));
}

/** The job whose position and rate stand in the head: the weightiest that works, or has worked. */
function mainJob(state, top) {
  const parts = phases(state, top), list = parts.length ? parts : top;
  const best = (jobs) => jobs.reduce((a, b) => (a && (a.weight ?? 1) >= (b.weight ?? 1) ? a : b), null);
  return best(list.filter(({ status }) => ['working', 'paused', 'cancelling'].includes(status))) ?? best(list.filter(({ progress }) => progress !== undefined));
}

function progressOf(text) {
  if (!text.startsWith('{') || !text.includes('"progress"')) return null;
  try {
    const all = JSON.parse(text);
    return Number.isFinite(all.progress) && Number.isFinite(all.total) && all.total > 0 ? all : null;
  } catch { return null; }
}

/** Reads a field of a plain feed: u32 ny, u32 nx, then ny × nx f32. */
function plainField(buffer) {
  if (buffer.byteLength < 12 || buffer.byteLength % 4) return null;
  const head = new DataView(buffer), [ny, nx] = [head.getUint32(0, true), head.getUint32(4, true)];
  return ny && nx && ny * nx * 4 + 8 === buffer.byteLength ? { shape: [ny, nx], values: new Float32Array(buffer, 8) } : null;
}
