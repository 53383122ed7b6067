// The words and figures of the page: pure text, of fixed width where it changes often.

const THIN = '\u202f', NB = '\u00a0';
const MINUTE = 60, HOUR = 3600, DAY = 86_400;

/** Words for the states of jobs. */
export const WORDS = { working: 'running', completed: 'finished' };
export const word = (status) => WORDS[status] ?? status;
export const ENDED = new Set(['completed', 'failed', 'cancelled', 'abandoned']);

const minus = (text) => text.replaceAll('-', '−').replace('e+', 'e');
const group = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, THIN);

/** A whole number: `5 083 200`. */
export const whole = (n) => (Math.abs(n) < 1e15 ? minus(group(String(Math.round(n)))) : number(n));

/** A share from 0 to 1, rounded down, so that 100 is the end only: `99.9`. */
export const percent = (share) => (share >= 1 ? '100' : (Math.floor(share * 1000 + 1e-9) / 10).toFixed(1));

/** A measured value in four figures: `0.1365`, `8.08e−4`. With `log` always with an exponent. */
export function number(value, log = false) {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return minus(String(value));
  if (size === 0) return '0';
  return minus(log || size >= 1e6 || size < 1e-2 ? value.toExponential(2) : value.toPrecision(4));
}

/** A value that people set or count: whole as it is, any other in four figures. */
export const value = (v) => (Number.isInteger(v) && Math.abs(v) < 1e15 ? whole(v) : number(v));

/** A position: as many figures as say something. */
export const position = (n) => (Number.isInteger(n) ? whole(n) : Math.abs(n) >= 1000 ? whole(n) : minus(String(Number(n.toPrecision(4)))));

/** A number of an axis: `2.5 M`. */
export function rough(n) {
  for (const [size, sign] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (Math.abs(n) >= size && Math.abs(n) < 1e12) return minus(`${Number((n / size).toPrecision(3))}${NB}${sign}`);
  }
  return axis(n);
}

/** A number of a vertical axis; `log`: a power of ten. */
export function axis(n, log = false) {
  if (log) return `10${[...String(Math.round(Math.log10(n)))].map((c) => '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'['-0123456789'.indexOf(c)]).join('')}`;
  if (n === 0) return '0';
  const size = Math.abs(n);
  return minus(size >= 1e5 || size < 1e-3 ? n.toExponential(1).replace('.0e', 'e') : String(Number(n.toPrecision(3))));
}

const unit = (text) => (text ? ` ${text}` : '');

/** A rate in three figures; a slow one per hour: `1 592 steps/s`, `4.68 members/h`. */
export function rate(perSecond, of) {
  if (!Number.isFinite(perSecond) || perSecond === 0) return '';
  const slow = Math.abs(perSecond) < 0.1;
  const n = slow ? perSecond * HOUR : perSecond;
  const text = Math.abs(n) >= 100 ? whole(n) : minus(String(Number(n.toPrecision(3))));
  return `${text}${NB}${of || ''}/${slow ? 'h' : 's'}`;
}

/** The total of a position, in its own column: `/ 640 MB`. */
export const total = (of, name) => (of === undefined ? name ?? '' : `/ ${position(of)}${unit(name)}`);

const pair = (a, big, b, small) => `${a}${NB}${big}${b ? ` ${b}${NB}${small}` : ''}`;

/** A duration, as rough as an estimate of it: `1 h 12 min`, `2 min 5 s`. */
export function span(seconds) {
  const to = (step) => Math.round(seconds / step);
  if (seconds < 59.5) return pair(Math.max(1, to(1)), 's');
  if (seconds < 597.5) return pair(Math.floor(to(5) / 12), 'min', to(5) % 12 * 5, 's');
  if (seconds < 3570) return pair(to(MINUTE), 'min');
  if (seconds < DAY - 30) return pair(Math.floor(to(MINUTE) / 60), 'h', to(MINUTE) % 60, 'min');
  return pair(Math.floor(to(HOUR) / 24), 'd', to(HOUR) % 24, 'h');
}

const two = (n) => String(Math.floor(n)).padStart(2, '0');

/** An exact duration: `0:53:12`. */
export const exact = (s) => `${Math.floor(s / HOUR)}:${two(s / MINUTE % 60)}:${two(s % 60)}`;

/** A clock time of this machine's zone: `13:06`. */
export function clock(ms, seconds = false) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ''}`;
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** A day: `28 Nov`. */
export const day = (ms) => `${new Date(ms).getDate()} ${MONTHS[new Date(ms).getMonth()]}`;

const isSameDay = (a, b) => new Date(a).toDateString() === new Date(b).toDateString();

/** A clock time, with the day unless that is today. */
export const moment = (ms, now, seconds = false) => `${isSameDay(ms, now) ? '' : `${day(ms)}, `}${clock(ms, seconds)}`;

/** How long ago: `14 s ago`. */
export const ago = (seconds) => (seconds < 1 ? 'just now' : `${span(Math.floor(seconds))} ago`);

/** Steps to which a remaining time is rounded, and how far it may leave what is shown. */
const STEPS = [[MINUTE, 1], [10 * MINUTE, 5], [DAY, MINUTE]], REST = 0.75;
const step = (seconds) => STEPS.find(([below]) => seconds < below)?.[1] ?? HOUR;
/** Of the ends of a range, which are rough. */
const coarse = (seconds) => (seconds < 2 * MINUTE ? 5 : Math.max(MINUTE, step(seconds)));
const LONGEST = 1000 * DAY;

/** The words for one remaining time: they rest while it moves by less than a step. */
export class Remaining {
  #kind = null;
  #shown = {};

  /** Words for `eta` seconds, which are probably from `low` to `high`; `null`: nobody knows. */
  words(eta, low = eta, high = eta) {
    if (!(eta >= 0 && eta < Infinity)) {
      this.#kind = null;
      this.#shown = {};
      return null;
    }
    low = low >= 0 ? Math.min(low, eta) : eta;
    high = high >= eta ? high : eta;
    const kind = eta < 10 ? 'about' : this.#settle(high / low);
    if (kind !== this.#kind) this.#shown = {};
    this.#kind = kind;
    if (eta > LONGEST) return `more than ${span(LONGEST)}`;
    if (kind === 'range' && high <= LONGEST) {
      const [a, b] = [this.#rest('low', low, coarse(eta)), this.#rest('high', high, coarse(eta))].map(span);
      if (a === b) return a;
      const [, first, of] = /^([\d\u202f]+)\u00a0(\w+)$/.exec(a) ?? [];
      return first && new RegExp(`^[\\d\u202f]+\u00a0${of}$`).test(b) ? `${first} to ${b}` : `${a} to ${b}`;
    }
    const middle = this.#rest('middle', eta, kind === 'roughly' ? coarse(eta) : step(eta));
    if (middle < 1) return 'any moment';
    return `${kind === 'roughly' ? 'roughly ' : ''}${span(middle)}`;
  }

  #rest(name, seconds, by = step(seconds)) {
    const before = this.#shown[name];
    if (before === undefined || Math.abs(seconds - before) > REST * by) this.#shown[name] = Math.round(seconds / by) * by;
    return this.#shown[name];
  }

  /** The kind for this factor between the ends, or the shown one if its bound is near. */
  #settle(factor) {
    const of = (f) => (f <= 1.3 ? 'about' : f < 2.25 ? 'range' : 'roughly');
    const near = [of(factor * 1.1), of(factor / 1.1)];
    return near.includes(this.#kind) ? this.#kind : of(factor);
  }
}

/** The remaining time as it is shown: `1 h 12 min left`. */
export const left = (words) => (words === null || words === 'any moment' ? words : `${words} left`);

/** Text of a program without its colours and other controls, which would be shown as boxes. */
export const plain = (text) => text.replace(/\x1b\[[\d;?]*[A-Za-z]|[\0-\x08\x0b-\x1f\x7f]/g, '');

/**
 * The seconds that a job, or the run, still takes, from `low` to `high`; `null`: nobody knows. Of
 * its own estimate, else of its parts: the longest of those that work, and the queued ones at the
 * same pace by their weights, as many at a time as work now.
 */
export function remaining(state, id, now) {
  const job = state.jobs.get(id);
  if (job?.eta !== undefined && job.status === 'working') {
    const gone = Math.max(0, (now - job.at) / 1000), down = (s) => (s === undefined ? undefined : Math.max(0, s - gone));
    return { eta: down(job.eta), low: down(job.low), high: down(job.high) };
  }
  const below = state.children(id).filter(({ status }) => !ENDED.has(status));
  const working = below.filter(({ status }) => status === 'working');
  if (!working.length || working.length + below.filter(({ status }) => status === 'queued').length < below.length) return null;
  let longest = null, pace = 0;
  for (const { id: part, weight = 1 } of working) {
    const rest = remaining(state, part, now);
    if (!rest) return null;
    if (longest && rest.eta <= longest.eta) continue;
    longest = rest;
    const open = 1 - (state.fraction(part) ?? 0);
    pace = open > 0 ? rest.eta / (weight * open) : 0;
  }
  let queued = 0;
  for (const { status, weight = 1 } of below) if (status === 'queued') queued += weight / working.length;
  const more = (s) => (s === undefined ? undefined : s + queued * pace);
  return { eta: more(longest.eta), low: more(longest.low), high: more(longest.high) };
}
