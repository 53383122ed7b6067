// The panes of the page that are text: jobs, parameters, latest values, the log.

import { $, attribute, button, fileName, h, icon, press, property, save, set, turn } from './dom.js';
import { ENDED, Remaining, ago, clock, day, left, percent, plain, position, rate, span, total, value, word } from './words.js';

const MANY = 50, PAGE = 20; // jobs: beyond so many they are paged
const LINES = 1000, AT_ONCE = 250, MARKS = 100, LONGEST = 4000; // of the log
const RANK = ['failed', 'cancelling', 'working', 'paused', 'queued', 'cancelled', 'abandoned', 'completed'];
const COLUMNS = [['name', 'Job'], ['bar', 'Bar'], ['pct.num', 'Done'], ['pos.num', 'Position'], ['of', 'Total'], ['rate.num', 'Rate'], ['left-in.num', 'Time'], ['act', 'Action']];

/** How many jobs are in which state: `6 running, 2 finished`. */
const tally = (counts) => RANK.filter((status) => counts[status]).map((status) => `${counts[status]} ${word(status)}`);

/** The tree of jobs. */
export class Jobs {
  #rows = new Map();
  #folds = new Map(); // what the reader has folded, or not
  #page = 0;
  #only = null;
  #filter = '';
  #chips = '';

  /** `ask` asks the reader whether a job shall be cancelled; `change` draws again. */
  constructor({ ask, change }) {
    Object.assign(this, { ask, change });
    const head = COLUMNS.map(([name, text]) => h(`span.${name}`, { role: 'columnheader' }, /bar|of|act/.test(name) ? h('span.spoken', text) : text));
    this.tree = h('.tree', { role: 'treegrid', label: 'Jobs' }, h('.head', { role: 'row', '--level': 1 }, head));
    this.search = h('input', { type: 'search', label: 'Filter jobs', placeholder: 'Filter jobs', hidden: true, oninput: ({ target }) => { this.#filter = target.value.toLowerCase(); this.#page = 0; change(); } });
    this.cells = h('.cells', { role: 'img', hidden: true });
    this.chips = h('.chips', { role: 'group', label: 'Show', hidden: true });
    this.where = h('span');
    const turnTo = (by) => { this.#page += by; change(); };
    this.back = button('', 'Back', () => turnTo(-1));
    this.next = button('', `Next ${PAGE}`, () => turnTo(1));
    this.pager = h('.under.soft', { hidden: true }, this.where, h('span.push', this.back, ' ', this.next));
    $('job-tools').append(this.search);
    $('jobs').append(this.cells, this.chips, this.tree, this.pager);
    this.tree.addEventListener('keydown', (event) => this.#key(event));
    this.tree.addEventListener('click', ({ target }) => {
      const row = target.closest('[role=row]:not(.head)');
      if (row && !target.closest('button')) row.classList.toggle('opened'); // where columns are short of space
    });
  }

  /** Shows failed jobs only, where there are many; else goes to the first of them. */
  showFailed() {
    this.#only = 'failed';
    this.#page = 0;
    this.change();
    $('h-jobs').scrollIntoView({ block: 'start' });
  }

  #fold(row) {
    const id = Number(row.dataset.id);
    this.#folds.set(id, row.getAttribute('aria-expanded') === 'true');
    this.change();
  }

  #key(event) {
    const row = event.target.closest('[role=row]'), rows = [...this.tree.children].slice(1), i = rows.indexOf(row);
    const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if ({ ArrowLeft: 'true', ArrowRight: 'false' }[event.key] === (row.getAttribute('aria-expanded') ?? '')) this.#fold(row);
    else if (event.key === 'Delete') row.querySelector('.act button')?.click();
    else if (event.key === 'Enter' && event.target === row) row.classList.toggle('opened');
    else if (rows[to]) rows[to].focus();
    else return;
    event.preventDefault();
  }

  draw(state, { now, stale, client }) {
    const counts = {}, below = new Map();
    for (const job of state.jobs.values()) {
      const parent = state.jobs.has(job.parent) ? job.parent : undefined;
      counts[job.status] = (counts[job.status] ?? 0) + 1;
      if (below.has(parent)) below.get(parent).push(job); else below.set(parent, [job]);
    }
    for (const list of below.values()) list.sort((a, b) => a.id - b.id);
    const many = state.jobs.size > MANY;
    set($('job-count'), many ? '' : tally(counts).join(', '));
    const shown = many ? this.#paged(state, counts, below) : this.#flat(below);
    for (const part of [this.search, this.cells, this.chips, this.pager]) part.hidden = !many;
    if (!many) this.#only = null;
    for (const [id, row] of this.#rows) {
      if (!state.jobs.has(id)) { row.node.remove(); this.#rows.delete(id); }
    }
    shown.forEach(({ job, level, parts }, i) => {
      const row = this.#rows.get(job.id) ?? this.#make(job);
      this.#update(row, { job, level, parts, state, now, stale, client });
      const at = this.tree.children[i + 1];
      if (at !== row.node) this.tree.insertBefore(row.node, at ?? null);
    });
    while (this.tree.childElementCount > shown.length + 1) this.tree.lastElementChild.remove();
    if (!this.tree.querySelector('[role=row][tabindex="0"]') && this.tree.children[1]) this.tree.children[1].tabIndex = 0;
  }

  #flat(below) {
    const out = [];
    const walk = (parent, level) => {
      for (const job of below.get(parent) ?? []) {
        const parts = below.get(job.id);
        const folded = parts && (this.#folds.get(job.id) ?? ENDED.has(job.status));
        out.push({ job, level, parts: parts && { folded } });
        if (parts && !folded && level < 30) walk(job.id, level + 1);
      }
    };
    walk(undefined, 1);
    return out;
  }

  #paged(state, counts, below) {
    const all = [...state.jobs.values()].sort((a, b) => a.id - b.id);
    const leaves = all.filter(({ id }) => !below.has(id));
    attribute(this.cells, 'aria-label', tally(counts).join(', '));
    while (this.cells.childElementCount > leaves.length) this.cells.lastElementChild.remove();
    while (this.cells.childElementCount < leaves.length) this.cells.append(h('i'));
    for (const [i, job] of leaves.entries()) {
      const cell = this.cells.children[i];
      if (cell.className !== job.status) cell.className = job.status;
      if (cell.title !== job.title) cell.title = job.title;
      property(cell, '--p', `${Math.round((state.fraction(job.id) ?? 0) * 100)}%`);
    }
    this.#drawChips(counts, all.length);
    const list = all.filter(({ status, title, message = '' }) => (!this.#only || status === this.#only)
      && (!this.#filter || `${title} ${message}`.toLowerCase().includes(this.#filter)));
    list.sort((a, b) => RANK.indexOf(a.status) - RANK.indexOf(b.status) || a.id - b.id);
    this.#page = Math.max(0, Math.min(this.#page, Math.ceil(list.length / PAGE) - 1));
    const from = this.#page * PAGE, to = Math.min(list.length, from + PAGE);
    set(this.where, list.length ? `${from + 1} to ${to} of ${list.length}, failed and running first` : 'No job is like that.');
    this.back.disabled = from === 0;
    this.next.disabled = to === list.length;
    return list.slice(from, to).map((job) => ({ job, level: 1 }));
  }

  #drawChips(counts, all) {
    const sign = `${this.#only} ${all} ${tally(counts)}`;
    if (sign === this.#chips) return;
    this.#chips = sign;
    const chip = (only, ...kids) => h('button', { type: 'button', 'data-only': only ?? '', 'aria-pressed': this.#only === only, onclick: () => { this.#only = only; this.#page = 0; this.change(); } }, ...kids);
    const focused = document.activeElement?.dataset?.only;
    this.chips.replaceChildren(chip(null, `All ${all}`), ...RANK.filter((status) => counts[status]).map((status) => chip(status, icon(status), `${counts[status]} ${word(status)}`)));
    if (focused !== undefined) [...this.chips.children].find(({ dataset }) => dataset.only === focused)?.focus();
  }

  #make(job) {
    const cell = (name, ...kids) => h(`span.${name}`, { role: 'gridcell' }, ...kids);
    const row = { remaining: new Remaining(), icon: icon(job.status) };
    row.fold = button('.fold', icon('down'), () => this.#fold(row.node), { tabindex: -1, hidden: true });
    [row.title, row.word, row.message] = [h('b.cut'), h('span.spoken'), h('span.soft.cut')];
    row.meter = h('.meter', { role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('i'));
    row.cells = Object.fromEntries(['pct.num', 'pos.num', 'of.cut', 'rate.num.soft.cut', 'left-in.num', 'act.num'].map((name) => [name.split('.')[0], cell(name)]));
    row.cancel = button('.quiet', 'Cancel', () => this.ask(job.id), { tabindex: -1 });
    row.gap = h('span.fold');
    row.node = h('', { role: 'row', tabindex: -1, 'data-id': job.id, onfocus: () => {
      for (const other of this.tree.querySelectorAll('[tabindex="0"][role=row]')) other.tabIndex = -1;
      row.node.tabIndex = 0;
    } }, cell('name', row.gap, row.fold, row.icon, row.title, row.word, row.message), cell('bar', row.meter), ...Object.values(row.cells));
    this.#rows.set(job.id, row);
    return row;
  }

  #update(row, { job, level, parts, state, now, stale, client }) {
    const { status, unit } = job, isEnd = ENDED.has(status), share = state.fraction(job.id);
    const message = plain(job.message ?? '').slice(0, 500), title = plain(job.title).slice(0, 500) || 'job';
    attribute(row.node, 'aria-level', level);
    property(row.node, '--level', String(level));
    attribute(row.node, 'data-s', status);
    attribute(row.node, 'data-end', isEnd ? status : null);
    attribute(row.node, 'aria-expanded', parts ? !parts.folded : null);
    row.gap.hidden = Boolean(parts);
    row.fold.hidden = !parts;
    attribute(row.fold, 'aria-label', `${parts?.folded ? 'Unfold' : 'Fold'} ${title}`);
    turn(row.icon, status);
    for (const [node, text] of [[row.title, title], [row.message, message]]) {
      set(node, text);
      if (node.title !== text) node.title = text;
    }
    set(row.word, word(status));
    const idle = job.idle !== undefined && status === 'working' ? job.idle + Math.max(0, now - job.at) / 1000 : null;
    const at = job.progress ?? job.initial ?? job.origin ?? (job.total === undefined ? undefined : 0);
    const pos = at === undefined ? '' : position(at), of = total(job.total, unit ?? '');
    const time = idle !== null ? `idle ${span(idle)}` : this.#time(row, job, isEnd, now);
    set(row.cells.pct, share === null ? '' : `${percent(share)}\u00a0%`);
    set(row.cells.pos, pos);
    set(row.cells.of, of);
    set(row.cells.rate, idle !== null ? `usually ${span(job.usual ?? 0)}` : rate(job.rate, unit ?? ''));
    set(row.cells['left-in'], time);
    row.cells['left-in'].classList.toggle('idle', idle !== null);
    row.meter.classList.toggle('unknown', share === null && status === 'working');
    property(row.meter, '--p', `${((share ?? (status === 'completed' ? 1 : 0)) * 100).toFixed(2)}%`);
    attribute(row.meter, 'aria-label', title);
    attribute(row.meter, 'aria-valuenow', share === null ? null : Math.floor(share * 100));
    attribute(row.meter, 'aria-valuetext', [word(status), `${pos} ${of}`.trim(), time !== word(status) && time].filter(Boolean).join(', '));
    const may = job.cancellable && ['working', 'queued', 'paused'].includes(status);
    if (may !== Boolean(row.cancel.parentNode)) row.cells.act.replaceChildren(...may ? [row.cancel] : []);
    row.cancel.disabled = stale || client === null;
    attribute(row.cancel, 'aria-label', `Cancel ${title}`);
  }

  #time({ remaining }, job, isEnd, now) {
    const { status, started, ended, paused = 0 } = job;
    if (isEnd && ended !== undefined) return `${status === 'completed' ? 'took' : 'after'} ${span((ended - started - paused) / 1000)}`;
    if (status !== 'working') return word(status);
    const gone = Math.max(0, (now - job.at) / 1000), down = (s) => (s === undefined ? undefined : Math.max(0, s - gone));
    return left(remaining.words(down(job.eta))) ?? ''; // a column has no room for a range
  }
}

/** What viewers can move. */
export class Parameters {
  #rows = new Map();

  /** `send(id, value)` hands a new value to the hub. */
  constructor(send) { this.send = send; }

  draw(parameters, { now, stale, client, hubNow }) {
    for (const [id, row] of this.#rows) {
      if (parameters.get(id)?.kind === row.kind) continue;
      for (const node of row.nodes) node.remove();
      this.#rows.delete(id);
    }
    for (const parameter of parameters.values()) {
      const row = this.#rows.get(parameter.id) ?? this.#make(parameter);
      const { value: v, by, at, unit = '' } = parameter;
      row.show(parameter);
      for (const control of row.controls) control.disabled = stale || client === null;
      const who = by === undefined ? '' : `moved by ${by === String(client) ? 'you' : `viewer ${by.slice(0, 6)}`}, ${ago((hubNow - at) / 1000)}`;
      set(row.who, parameter.kind === 'button' ? who.replace('moved', 'pressed') || 'nobody has pressed it' : who || 'as the program set it');
      set(row.out, typeof v === 'number' && parameter.kind === 'number' ? `${position(v)}${unit && ` ${plain(unit)}`}` : '');
    }
  }

  #make({ id, name, kind, min, max, step, names }) {
    const own = `p-${id}`, title = plain(name), send = (v) => this.send(id, v), row = { kind, controls: [], out: h('output.num.cut'), who: h('p.who') };
    // What the reader is about to move, nobody else moves.
    const isHeld = (node) => node.matches(':active') || document.activeElement === node && node.type === 'number';
    let control = null, body = null;
    if (kind === 'number') {
      const isRange = min !== undefined && max !== undefined;
      let due = 0;
      control = h('input', { id: own, type: isRange ? 'range' : 'number', min, max, step: step ?? (isRange ? (max - min) / 1000 : 'any'),
        oninput: () => {
          set(row.out, position(control.valueAsNumber));
          if (isRange) due ||= setTimeout(() => { due = 0; send(control.valueAsNumber); }, 100);
        },
        onchange: () => { clearTimeout(due); due = 0; if (Number.isFinite(control.valueAsNumber)) send(control.valueAsNumber); } });
      row.show = ({ value: v }) => { if (!isHeld(control) && !due && control.value !== String(v)) control.value = v; };
    } else if (kind === 'switch') {
      control = h('input.switch', { id: own, type: 'checkbox', onchange: () => send(control.checked) });
      row.show = ({ value: v }) => { if (!isHeld(control)) control.checked = v; };
    } else if (kind === 'choice') {
      control = h('select', { id: own, onchange: () => send(control.value) }, (names ?? []).map((text) => h('option', { value: text }, text)));
      row.show = ({ value: v }) => { if (document.activeElement !== control || control.value !== v) control.value = v; };
    } else {
      control = button('', title, () => send(true), { id: own });
      row.show = () => {};
    }
    row.controls.push(control);
    body = kind === 'number' ? control : h('span', control);
    row.nodes = [kind === 'button' ? h('span') : h('label.cut', { for: own, title }, title), body, row.out, row.who];
    $('params').append(...row.nodes);
    this.#rows.set(id, row);
    return row;
  }
}

/** The newest value of each key, as a table. */
export class Values {
  #rows = new Map();

  constructor() {
    this.search = h('input', { type: 'search', label: 'Filter values', placeholder: 'Filter values', hidden: true, oninput: () => this.#sift() });
    this.box = h('.values-in', { tabindex: 0, role: 'group', label: 'Values' });
    $('value-tools').append(this.search);
    $('values').append(this.box);
  }

  #sift() {
    for (const [key, { node }] of this.#rows) node.hidden = !key.toLowerCase().includes(this.search.value.toLowerCase());
  }

  get size() { return this.#rows.size; }

  put(key, data) {
    let row = this.#rows.get(key);
    if (!row) {
      row = { text: h('span.num.cut') };
      row.node = h('', h('span.cut', { title: key }, key), row.text);
      this.#rows.set(key, row);
      this.box.append(row.node);
      this.search.hidden = this.#rows.size < 12;
      set($('value-count'), String(this.#rows.size));
      this.#sift();
    }
    const text = typeof data === 'number' ? value(data) : typeof data === 'string' ? data : JSON.stringify(data);
    set(row.text, plain(text ?? '').slice(0, 300));
  }

  remove(key) {
    this.#rows.get(key)?.node.remove();
    this.#rows.delete(key);
    set($('value-count'), String(this.#rows.size));
  }

  clear() { for (const key of [...this.#rows.keys()]) this.remove(key); }
}

/** The log: lines of the run, messages of the feed, and what the page itself has to say. */
export class Log {
  #pending = [];
  #follow = true;
  #fresh = 0;
  #held = false;
  #day = '';
  #level = 0;
  #text = '';
  newest = null;

  constructor({ change, name }) {
    this.out = $('log');
    this.change = change;
    const search = h('input', { type: 'search', id: 'log-search', label: 'Search log', placeholder: 'Search log', oninput: () => { this.#text = search.value.toLowerCase(); this.#sift(); } });
    const level = h('select', { label: 'Least level shown', onchange: () => { this.#level = level.selectedIndex; this.#sift(); } }, ['All levels', 'Warnings', 'Errors'].map((text) => h('option', text)));
    this.button = button('', 'Follow', () => this.hold(!this.#follow), { 'aria-pressed': true });
    const copy = button('.quiet', 'Copy', () => navigator.clipboard.writeText(this.text()).then(() => set(copy, 'Copied'), () => set(copy, 'Not copied')), { hidden: !navigator.clipboard });
    const download = button('.quiet.wide-only', 'Download', () => save(fileName(name(), 'log'), new Blob([this.text()], { type: 'text/plain' })));
    this.empty = h('p.soft.empty', 'Nothing logged yet.');
    $('log-tools').append(search, level, this.button, copy, download);
    this.out.before(this.empty);
    // Only the reader's own gesture upwards ends the following; the very end resumes it.
    const on = (type, then) => this.out.addEventListener(type, then, { passive: true });
    let [last, touch] = [0, null];
    on('wheel', ({ deltaY }) => deltaY < 0 && this.hold(false));
    on('touchstart', ({ touches }) => { touch = touches[0].clientY; });
    on('touchmove', ({ touches }) => { if (touches[0].clientY > touch) this.hold(false); });
    on('keydown', ({ key }) => /^(ArrowUp|PageUp|Home)$/.test(key) && this.hold(false));
    on('pointerdown', ({ offsetX, target }) => { this.#held = target === this.out && offsetX >= this.out.clientWidth; }); // the scroll bar
    addEventListener('pointerup', () => { this.#held = false; });
    on('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.out, atEnd = scrollHeight - scrollTop - clientHeight < 4;
      if (this.#held && scrollTop < last) this.hold(false);
      else if (!this.#follow && atEnd && scrollTop > last) this.hold(true);
      last = scrollTop;
    });
    $('back').addEventListener('click', () => this.hold(true));
    new ResizeObserver(() => this.#toEnd()).observe(this.out);
  }

  get follows() { return this.#follow; }

  hold(on) {
    this.#follow = on;
    press(this.button, on);
    if (on) this.#fresh = 0;
    $('back').hidden = !this.#fresh;
    this.#toEnd();
  }

  #toEnd() { if (this.#follow) this.out.scrollTop = this.out.scrollHeight; }

  /** A line: `{ at, text, from, level, kind }`. A `mark` is a line across, which stays. */
  add(line) {
    this.#pending.push(line);
    if (this.#pending.length > 2 * LINES) {
      const marks = this.#pending.slice(0, LINES).filter(({ kind }) => kind === 'mark' || kind === 'run');
      this.#pending = [...marks.slice(-MARKS), ...this.#pending.slice(LINES)];
    }
    this.change();
  }

  /** Returns whether there is more to draw. */
  draw() {
    const lines = this.#pending.splice(0, AT_ONCE);
    if (!lines.length) return false;
    const nodes = [];
    for (const line of lines) {
      const today = line.at === undefined ? this.#day : day(line.at);
      if (this.#day && today !== this.#day) nodes.push(this.#node({ kind: 'mark', text: today }));
      this.#day = today;
      nodes.push(this.#node(line));
      if (line.kind === undefined) this.newest = line;
    }
    for (const node of nodes) node.hidden = !this.#fits(node);
    this.out.append(...nodes);
    this.#trim();
    this.empty.hidden = true;
    if (!this.#follow) {
      this.#fresh += nodes.filter(({ hidden }) => !hidden).length;
      $('back').replaceChildren(icon('down'), `${this.#fresh} new`);
      $('back').hidden = !this.#fresh;
    }
    this.#toEnd();
    return this.#pending.length > 0;
  }

  #node({ at, text, from = '', level = '', kind, feed }) {
    const marked = kind === 'mark' || kind === 'run';
    const shown = plain(text), cut = shown.length > LONGEST ? `${shown.slice(0, LONGEST)} … (${text.length} characters)` : shown;
    if (marked) return h('li.mark', { 'data-kind': kind }, h(`span.cut-line${kind === 'run' ? '.run-line' : ''}`, cut));
    const time = h('time', clock(at, true));
    time.dateTime = new Date(at).toISOString();
    const word = level === 'warn' || level === 'error' ? h('span.lv', `${level} `) : null;
    return h('li', { 'data-l': level, 'data-kind': kind, 'data-feed': feed }, time, h('span.from.cut', from), h('span.text', word, cut));
  }

  #trim() {
    let [over, node, marks] = [this.out.childElementCount - LINES, this.out.firstElementChild, 0];
    while (over > 0 && node) {
      const next = node.nextElementSibling;
      if (node.matches('.mark') && marks < MARKS) marks += 1;
      else { node.remove(); over -= 1; }
      node = next;
    }
  }

  #fits(node) {
    if (node.matches('.mark')) return true;
    const { l } = node.dataset;
    return (this.#level === 0 || l === 'error' || this.#level === 1 && l === 'warn') && (!this.#text || node.textContent.toLowerCase().includes(this.#text));
  }

  #sift() {
    for (const node of this.out.children) node.hidden = !this.#fits(node);
    this.#toEnd();
  }

  /** What is shown, as text. */
  text() {
    return [...this.out.children].filter(({ hidden }) => !hidden).map((node) => `${[...node.children].map((part) => part.textContent).filter(Boolean).join('  ')}\n`).join('');
  }

  /** Forgets the lines of a feed, of the present run, before all of them come again. */
  forget(feed) {
    const from = this.#pending.findLastIndex(({ kind }) => kind === 'run');
    this.#pending = this.#pending.filter((line, i) => i <= from || line.feed !== feed);
    if (from >= 0) return; // what is drawn is of the run before
    for (let node = this.out.lastElementChild; node && node.dataset.kind !== 'run';) {
      const before = node.previousElementSibling;
      if (node.dataset.feed === feed) node.remove();
      node = before;
    }
  }

  /** Goes to where the run before ended. */
  showRun() {
    this.hold(false);
    [...this.out.querySelectorAll('[data-kind=run]')].pop()?.scrollIntoView({ block: 'center' });
  }

  /** Forgets the run before. */
  dismissRun() {
    const line = [...this.out.querySelectorAll('[data-kind=run]')].pop();
    while (line && this.out.firstElementChild !== line) this.out.firstElementChild.remove();
    line?.remove();
  }

  /** Goes to the last line of this level. */
  show(level) {
    const lines = this.out.querySelectorAll(`[data-l=${level}]`);
    this.hold(false);
    (lines[lines.length - 1] ?? this.out.lastElementChild)?.scrollIntoView({ block: 'center' });
    this.out.focus();
  }
}
