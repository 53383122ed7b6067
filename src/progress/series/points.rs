//! Series: the hand-over of points from the model's loop to the sampler.
//!
//! [`pair`] makes two halves. The model pushes into a [`SeriesWriter`] from any thread; the sampler
//! owns the [`SeriesReader`] and drains it once per tick.
//!
//! - The first thread that pushes owns a ring of [`RING`] points. A push of the owner is a few
//!   plain stores: no mutex, no read-modify-write.
//! - When the ring is full, its owner moves the points, under a short mutex, into a buffer of at
//!   most [`PENDING`] buckets. Other threads push into that buffer under the mutex. When the
//!   buffer is full, its neighbours merge: a million pushes between two ticks take the same
//!   memory as sixty-four. No push reads a clock; none allocates once the buffer has grown.
//! - A drain empties the ring into the buffer, swaps the buffer for an empty one and holds the
//!   mutex no longer than that.
//! - A tick without a new point costs the sampler two relaxed loads.
//!
//! Points are numbered 0, 1, 2, ... in the order of their pushes (across threads: about so).
//! A drain always ends at a whole number: a history up to point `n` and the drains from `n` on
//! fit without gap or overlap.
//!
//! Threads that push to one series each need an x of their own: an x below the one before it
//! begins a segment, whoever pushed it.
//!
//! # Values that are not finite
//!
//! A NaN or infinite y is kept as it is, and its first point is kept per line
//! ([`SeriesReader::firsts`]). A NaN or infinite x has no place on an axis: the x before it (0 at
//! the start) stands in for it, and its bucket says so ([`Span::bad_x`]).

use std::cell::Cell;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::process::Process;
use crate::progress::series::buckets::{Buckets, RESTARTS, Span, Stat};

/// The most buckets that wait for the sampler: points stay single up to so many per tick.
pub(crate) const PENDING: usize = 64;
/// The most points that the owner's ring holds.
pub(crate) const RING: usize = 16;
/// The most buckets of a history, 40 bytes each and 32 more per line.
pub(crate) const HISTORY: usize = 2048;
/// A point by its x and its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct First {
    /// The point's x.
    pub(crate) x: f64,
    /// The point's number: 0 is the first of the run.
    pub(crate) number: u64,
}

/// The first points of a line that were not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Firsts {
    /// The first NaN.
    pub(crate) nan: Option<First>,
    /// The first infinity of either sign.
    pub(crate) infinity: Option<First>,
}

#[derive(Debug)]
struct Pending {
    buckets: Buckets,
    /// The x of the last point; NaN before the first.
    x: f64,
    /// The number of the next point.
    next: u64,
    firsts: Box<[Firsts]>,
    firsts_changed: bool,
}

/// The owner's points that are not yet in the pending buffer: one writer, the owner, and one
/// reader at a time, whoever holds the mutex.
#[derive(Debug)]
struct Ring {
    /// The number of the thread that writes; 0 before the first push. Never changes again: the
    /// owner may be in the middle of a push.
    owner: AtomicU64,
    /// The points ever written, by the owner only.
    head: AtomicU64,
    /// The points ever read, moved under the mutex only.
    tail: AtomicU64,
    /// [`RING`] times x and one y per line, as bits.
    cells: Box<[AtomicU64]>,
}

impl Ring {
    fn slot(&self, point: u64, lines: usize) -> &[AtomicU64] {
        let at = usize::try_from(point % RING as u64).unwrap_or(0) * (lines + 1);
        &self.cells[at..=at + lines]
    }
}

/// The calling thread's number: 1 or more, never used again.
#[inline]
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

#[derive(Debug)]
struct Shared {
    lines: usize,
    ring: Ring,
    /// Set under the mutex when the pending buffer has something new, cleared by a drain.
    changed: AtomicBool,
    pending: Lock<Pending>,
    /// A child process must not touch the lock.
    process: Process,
}

/// The model's half of a series: cheap to clone, pushed to from any thread.
#[derive(Clone, Debug)]
pub(crate) struct SeriesWriter {
    shared: Arc<Shared>,
}

/// Makes a series of `lines` values per push, at least 1.
pub(crate) fn pair(lines: usize, process: &Process) -> (SeriesWriter, SeriesReader) {
    let lines = lines.max(1);
    let firsts: Box<[Firsts]> = vec![Firsts::default(); lines].into();
    let shared = Arc::new(Shared {
        lines,
        ring: Ring {
            owner: AtomicU64::new(0),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            cells: (0..RING * (lines + 1)).map(|_| AtomicU64::new(0)).collect(),
        },
        changed: AtomicBool::new(false),
        pending: Lock::new(Pending {
            buckets: Buckets::new(lines, PENDING),
            x: f64::NAN,
            next: 0,
            firsts: firsts.clone(),
            firsts_changed: false,
        }),
        process: process.clone(),
    });
    let reader = SeriesReader {
        shared: Arc::clone(&shared),
        spare: Buckets::new(lines, PENDING),
        history: Buckets::new(lines, HISTORY),
        fresh: Fresh {
            from: 0,
            to: 0,
            buckets: Buckets::new(lines, PENDING + RESTARTS),
            firsts_changed: false,
        },
        next: 0,
        seen: 0,
        firsts,
    };
    (SeriesWriter { shared }, reader)
}

impl SeriesWriter {
    /// The number of values per push.
    pub(crate) fn lines(&self) -> usize {
        self.shared.lines
    }

    /// Adds a point: one value per line at one x. Returns whether there are as many values as lines.
    #[inline]
    pub(crate) fn push(&self, x: f64, ys: &[f64]) -> bool {
        let Shared { lines, ring, .. } = &*self.shared;
        if ys.len() != *lines {
            return false;
        }
        let me = thread_number();
        if ring.owner.load(Ordering::Relaxed) != me && !self.claim(me) {
            self.push_shared(x, ys);
            return true;
        }
        let head = ring.head.load(Ordering::Relaxed);
        if head.wrapping_sub(ring.tail.load(Ordering::Acquire)) >= RING as u64 {
            self.empty_ring();
        }
        if let [first, rest @ ..] = ring.slot(head, *lines) {
            first.store(x.to_bits(), Ordering::Relaxed);
            for (cell, y) in rest.iter().zip(ys) {
                cell.store(y.to_bits(), Ordering::Relaxed);
            }
        }
        ring.head.store(head.wrapping_add(1), Ordering::Release);
        true
    }

    /// Makes the calling thread the owner when the series has none.
    fn claim(&self, me: u64) -> bool {
        let owner = &self.shared.ring.owner;
        owner.load(Ordering::Relaxed) == 0
            && owner.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn push_shared(&self, x: f64, ys: &[f64]) {
        if self.shared.process.is_another() {
            return;
        }
        let mut pending = self.shared.pending.lock();
        pending.absorb(&self.shared.ring, self.shared.lines);
        pending.push(x, self.shared.lines, |line| ys[line]);
        self.shared.changed.store(true, Ordering::Relaxed);
    }

    #[inline(never)]
    fn empty_ring(&self) {
        if self.shared.process.is_another() {
            let Ring { head, tail, .. } = &self.shared.ring;
            tail.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
            return;
        }
        let mut pending = self.shared.pending.lock();
        pending.absorb(&self.shared.ring, self.shared.lines);
        self.shared.changed.store(true, Ordering::Relaxed);
    }
}

impl Pending {
    /// Moves the ring's points into the buffer.
    fn absorb(&mut self, ring: &Ring, lines: usize) {
        let head = ring.head.load(Ordering::Acquire);
        let mut tail = ring.tail.load(Ordering::Relaxed);
        if head.wrapping_sub(tail) > 1 && self.absorb_run(ring, lines, tail, head) {
            tail = head;
        }
        while tail != head {
            let slot = ring.slot(tail, lines);
            let value = |at: usize| f64::from_bits(slot[at].load(Ordering::Relaxed));
            self.push(value(0), lines, |line| value(line + 1));
            tail = tail.wrapping_add(1);
        }
        ring.tail.store(head, Ordering::Release);
    }

    /// The fast path of a loop that pushes far more often than the sampler ticks: the points
    /// between `tail` and `head` join the last bucket at once. Returns false, with nothing done,
    /// when one is not finite or goes back, or when the bucket has no room for all.
    fn absorb_run(&mut self, ring: &Ring, lines: usize, tail: u64, head: u64) -> bool {
        let value = |cell: &AtomicU64| f64::from_bits(cell.load(Ordering::Relaxed));
        let mut before = self.x;
        for point in tail..head {
            let [x, ys @ ..] = ring.slot(point, lines) else { return false };
            let x = value(x);
            if !(x >= before && x.is_finite() && ys.iter().all(|y| value(y).is_finite())) {
                return false;
            }
            before = x;
        }
        let joined = self.buckets.join(before, head.wrapping_sub(tail), |line| {
            let ys = (tail..head).map(|point| value(&ring.slot(point, lines)[line + 1]));
            let mut stat = Stat { min: f64::INFINITY, max: f64::NEG_INFINITY, last: 0.0, marks: 0 };
            for y in ys {
                stat.min = if y < stat.min { y } else { stat.min };
                stat.max = if y > stat.max { y } else { stat.max };
                stat.last = y;
            }
            stat
        });
        if joined {
            self.x = before;
            self.next += head.wrapping_sub(tail);
        }
        joined
    }

    #[inline]
    fn push(&mut self, x: f64, lines: usize, y: impl Fn(usize) -> f64) {
        let before = self.x;
        let bad_x = !x.is_finite();
        let x = match bad_x {
            false => x,
            true if before.is_nan() => 0.0,
            true => before,
        };
        if !(0..lines).all(|line| y(line).is_finite()) {
            self.note_firsts(x, &y);
        }
        self.buckets.append(Span::point(x, x < before, bad_x), |line| Stat::of(y(line)));
        self.x = x;
        self.next += 1;
    }

    #[cold]
    fn note_firsts(&mut self, x: f64, y: impl Fn(usize) -> f64) {
        let first = First { x, number: self.next };
        for (line, y) in self.firsts.iter_mut().enumerate().map(|(i, line)| (line, y(i))) {
            let kind = if y.is_nan() { &mut line.nan } else { &mut line.infinity };
            if !y.is_finite() && kind.is_none() {
                *kind = Some(first);
                self.firsts_changed = true;
            }
        }
    }
}

/// What came between two drains.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// The number of the first point.
    pub(crate) from: u64,
    /// The number after the last point.
    pub(crate) to: u64,
    /// The points, single or reduced.
    pub(crate) buckets: Buckets,
    /// A line has its first NaN or its first infinity: see [`SeriesReader::firsts`].
    pub(crate) firsts_changed: bool,
}

/// How much of a tick goes to live viewers. The history keeps more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickLimit {
    /// Up to so many points in a tick go out one by one.
    pub(crate) points: usize,
    /// More than that are reduced to so many buckets of min, max, last, and at most
    /// [`RESTARTS`] more where x went back.
    pub(crate) buckets: usize,
}

impl Default for TickLimit {
    /// Two points, else one bucket: three series at 10 Hz stay under 3 KB/s, and a chart gets
    /// more columns in two minutes than it has pixels.
    fn default() -> Self {
        Self { points: 2, buckets: 1 }
    }
}

/// The sampler's half of a series: the whole run in bounded memory, and what is new.
#[derive(Debug)]
pub(crate) struct SeriesReader {
    shared: Arc<Shared>,
    /// Empty between drains; swapped with the pending buffer.
    spare: Buckets,
    history: Buckets,
    fresh: Fresh,
    next: u64,
    /// The ring's points ever read, at the last drain.
    seen: u64,
    firsts: Box<[Firsts]>,
}

impl SeriesReader {
    /// Moves what was pushed since the last drain into the history and returns it, `None` when
    /// nothing was pushed.
    #[inline]
    pub(crate) fn drain(&mut self, limit: TickLimit) -> Option<&Fresh> {
        if self.has_points() { self.take(limit) } else { None }
    }

    fn take(&mut self, limit: TickLimit) -> Option<&Fresh> {
        let from = self.next;
        let firsts_changed = {
            let mut pending = self.shared.pending.lock();
            pending.absorb(&self.shared.ring, self.shared.lines);
            self.seen = self.shared.ring.tail.load(Ordering::Relaxed);
            self.shared.changed.store(false, Ordering::Relaxed);
            mem::swap(&mut pending.buckets, &mut self.spare);
            self.next = pending.next;
            let changed = mem::take(&mut pending.firsts_changed);
            if changed {
                self.firsts.copy_from_slice(&pending.firsts);
            }
            changed
        };
        for (span, stats) in self.spare.iter() {
            self.history.append(*span, |line| stats[line]);
        }
        let limit_points = limit.points.min(PENDING);
        self.spare.reduce(limit_points, limit.buckets.min(PENDING), &mut self.fresh.buckets);
        self.spare.clear();
        self.fresh.from = from;
        self.fresh.to = self.next;
        self.fresh.firsts_changed = firsts_changed;
        (self.next > from).then_some(&self.fresh)
    }

    /// Bounds the history, before the first drain, to so many buckets for one line, at least 256.
    pub(crate) fn bound_history(&mut self, most: usize) {
        let lines = self.shared.lines;
        self.history = Buckets::new(lines, (most / lines).max(256));
    }

    /// Whether points wait for a drain.
    fn has_points(&self) -> bool {
        self.shared.ring.head.load(Ordering::Relaxed) != self.seen
            || self.shared.changed.load(Ordering::Relaxed)
    }

    /// The whole run up to the last drain.
    pub(crate) fn history(&self) -> &Buckets {
        &self.history
    }

    /// What the last drain that returned something returned.
    pub(crate) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// The number of points up to the last drain.
    pub(crate) fn count(&self) -> u64 {
        self.next
    }

    /// The first NaN and the first infinity of each line, up to the last drain.
    pub(crate) fn firsts(&self) -> &[Firsts] {
        &self.firsts
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "series keep values, they compute none")]
mod tests {
    use super::*;

    fn pair(lines: usize) -> (SeriesWriter, SeriesReader) {
        super::pair(lines, &Process::current())
    }

    const ALL: TickLimit = TickLimit { points: PENDING, buckets: PENDING };

    #[test]
    fn few_points_arrive_one_by_one_and_many_as_min_max_last() {
        let (series, mut reader) = pair(1);
        assert!(reader.drain(TickLimit::default()).is_none());
        for n in 0..2 {
            assert!(series.push(f64::from(n), &[f64::from(n * n)]));
        }
        let fresh = reader.drain(TickLimit::default()).unwrap();
        assert_eq!((fresh.from, fresh.to, fresh.buckets.len()), (0, 2, 2));
        for n in 2..100_000 {
            assert!(series.push(f64::from(n), &[f64::from(n % 1000)]));
        }
        let fresh = reader.drain(TickLimit::default()).unwrap();
        assert_eq!((fresh.from, fresh.to, fresh.buckets.len()), (2, 100_000, 1));
        let (span, stats) = fresh.buckets.iter().next().unwrap();
        assert_eq!((span.first, span.last, span.count), (2.0, 99_999.0, 99_998));
        assert_eq!((stats[0].min, stats[0].max, stats[0].last), (0.0, 999.0, 999.0));
        assert!(reader.drain(TickLimit::default()).is_none());
    }

    #[test]
    fn history_and_drains_fit_without_gap_or_overlap() {
        let (series, mut reader) = pair(2);
        let (mut pushed, mut drained) = (0_u64, 0);
        for tick in 0..300_u64 {
            for _ in 0..tick * tick % 301 {
                assert!(series.push(pushed as f64, &[pushed as f64, 1.0]));
                pushed += 1;
            }
            if let Some(fresh) = reader.drain(TickLimit::default()) {
                assert_eq!(fresh.from, drained);
                drained = fresh.to;
                let count: u64 = fresh.buckets.iter().map(|(span, _)| span.count).sum();
                assert_eq!(count, fresh.to - fresh.from);
            }
            assert_eq!(drained, pushed);
            assert_eq!(reader.count(), pushed);
            let kept: u64 = reader.history().iter().map(|(span, _)| span.count).sum();
            assert_eq!(kept, pushed);
            assert!(reader.history().len() <= HISTORY);
        }
    }

    #[test]
    fn the_first_nan_and_the_first_infinity_are_kept_per_line() {
        let (series, mut reader) = pair(2);
        for n in 0..1000_u32 {
            let y = if n >= 700 { f64::NAN } else { 1.0 };
            let z = if n % 300 == 299 { f64::NEG_INFINITY } else { 2.0 };
            assert!(series.push(f64::from(n) * 0.5, &[y, z]));
            if n == 500 {
                assert!(reader.drain(ALL).unwrap().firsts_changed);
                assert_eq!(reader.firsts()[0], Firsts::default());
            }
        }
        assert!(reader.drain(ALL).unwrap().firsts_changed);
        assert_eq!(reader.firsts()[0].nan, Some(First { x: 350.0, number: 700 }));
        assert_eq!(reader.firsts()[0].infinity, None);
        assert_eq!(reader.firsts()[1].infinity, Some(First { x: 149.5, number: 299 }));
        assert!(series.push(1e9, &[f64::NAN, f64::INFINITY]));
        assert!(!reader.drain(ALL).unwrap().firsts_changed);
    }

    #[test]
    fn a_restart_is_seen_across_two_drains() {
        let (series, mut reader) = pair(1);
        assert!(series.push(10.0, &[1.0]));
        reader.drain(ALL).unwrap();
        assert!(series.push(3.0, &[1.0]));
        let fresh = reader.drain(ALL).unwrap();
        assert!(fresh.buckets.iter().all(|(span, _)| span.restart));
        let restarts: Vec<_> = reader.history().iter().map(|(span, _)| span.restart).collect();
        assert_eq!(restarts, [false, true]);
    }

    #[test]
    fn an_x_that_is_not_finite_takes_the_one_before() {
        let (series, mut reader) = pair(1);
        for x in [f64::NAN, 5.0, f64::NEG_INFINITY, f64::INFINITY, 6.0] {
            assert!(series.push(x, &[1.0]));
        }
        let fresh = reader.drain(ALL).unwrap();
        let spans: Vec<_> =
            fresh.buckets.iter().map(|(s, _)| (s.last, s.bad_x, s.restart)).collect();
        let expected = [(0.0, true), (5.0, false), (5.0, true), (5.0, true), (6.0, false)];
        assert_eq!(spans, expected.map(|(x, bad)| (x, bad, false)));
    }

    #[test]
    fn a_point_with_another_number_of_values_is_not_taken() {
        let (series, mut reader) = pair(2);
        assert!(!series.push(0.0, &[1.0]) && !series.push(0.0, &[1.0, 2.0, 3.0]));
        assert!(reader.drain(ALL).is_none());
        assert!(series.push(0.0, &[1.0, 2.0]) && reader.drain(ALL).is_some());
    }

    #[test]
    fn buffers_stop_growing_once_warm() {
        let (series, mut reader) = pair(3);
        let tick = |reader: &mut SeriesReader| {
            for n in 0..1000 {
                assert!(series.push(f64::from(n), &[1.0, 2.0, 3.0]));
            }
            reader.drain(TickLimit::default());
            (reader.spare.room(), reader.shared.pending.lock().buckets.room())
        };
        tick(&mut reader);
        let warm = tick(&mut reader);
        assert!(warm.0 <= 2 * PENDING && warm.1 <= 2 * PENDING);
        for _ in 0..200 {
            let (spare, pending) = tick(&mut reader);
            assert!((spare, pending) == warm || (pending, spare) == warm);
        }
        assert!(reader.history.len() <= HISTORY && reader.history.room() <= 2 * HISTORY);
    }

    #[test]
    fn a_burst_does_not_coarsen_the_ticks_after_it() {
        let (series, mut reader) = pair(1);
        for _ in 0..2 {
            for n in 0..10_000 {
                assert!(series.push(-f64::from(n), &[0.0]));
            }
            reader.drain(ALL).unwrap();
        }
        for _ in 0..2 {
            for n in 0..10 {
                assert!(series.push(f64::from(n), &[0.0]));
            }
            assert_eq!(reader.drain(ALL).unwrap().buckets.len(), 10);
        }
        for _ in 0..2 {
            for x in (0..100).chain([5, 3]).chain(4..20) {
                assert!(series.push(f64::from(x), &[0.0]));
            }
            reader.drain(ALL).unwrap();
            assert!(reader.fresh().buckets.iter().all(|(span, _)| !span.mixed));
        }
    }

    #[test]
    fn an_idle_series_takes_no_mutex() {
        let (series, mut reader) = pair(1);
        assert!(series.push(0.0, &[0.0]));
        reader.drain(ALL).unwrap();
        let held = series.shared.pending.lock();
        assert!(!series.shared.changed.load(Ordering::Relaxed));
        assert!(reader.drain(ALL).is_none());
        drop(held);
    }

    #[test]
    fn every_fresh_bucket_agrees_with_its_points() {
        let (series, mut reader) = pair(2);
        let (mut points, mut x, mut bits) = (Vec::new(), 0.0, 88_172_645_463_325_252_u64);
        let mut below = |n: u64| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits % n
        };
        for _ in 0..400 {
            let odd = [2, 30, 1000, 100_000][usize::try_from(below(4)).unwrap()];
            for _ in 0..=below(3000) {
                x = if below(odd) == 0 { x - 1.0 } else { x + below(3) as f64 };
                let mut y = || match below(odd) {
                    0 => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
                        [usize::try_from(below(3)).unwrap()],
                    _ => below(1000) as f64 - 500.0,
                };
                let ys = [y(), y()];
                assert!(series.push(x, &ys));
                points.push((x, ys));
            }
            let fresh = reader.drain(ALL).unwrap();
            let mut at = usize::try_from(fresh.from).unwrap();
            for (span, stats) in fresh.buckets.iter() {
                let end = at + usize::try_from(span.count).unwrap();
                let covered = &points[at..end];
                assert_eq!((span.first, span.last), (covered[0].0, covered[end - at - 1].0));
                assert_eq!(span.restart, at > 0 && points[at].0 < points[at - 1].0);
                assert_eq!(span.mixed, covered.windows(2).any(|w| w[1].0 < w[0].0));
                for (line, stat) in stats.iter().enumerate() {
                    let merged = covered.iter().map(|point| point.1[line]);
                    let finite = || merged.clone().filter(|y| y.is_finite());
                    assert_eq!(stat.min, finite().fold(f64::INFINITY, f64::min));
                    assert_eq!(stat.max, finite().fold(f64::NEG_INFINITY, f64::max));
                    let last = merged.clone().next_back().unwrap();
                    assert_eq!(stat.last.to_bits(), last.to_bits());
                    let marks = merged
                        .fold(0, |marks, y| marks | crate::progress::series::buckets::mark_of(y));
                    assert_eq!(stat.marks, marks);
                }
                at = end;
            }
            assert_eq!(at, points.len());
        }
    }

    #[test]
    fn a_push_of_the_owner_takes_no_mutex() {
        let (series, mut reader) = pair(1);
        let held = series.shared.pending.lock();
        for n in 0..16 {
            assert!(series.push(f64::from(n), &[0.0]));
        }
        drop(held);
        assert!(series.push(16.0, &[0.0]));
        let xs: Vec<_> =
            reader.drain(ALL).unwrap().buckets.iter().map(|(span, _)| span.last).collect();
        assert_eq!(xs, (0..17).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_second_thread_pushes_after_the_owners_points() {
        let (series, mut reader) = pair(1);
        assert!(series.push(1.0, &[0.0]));
        std::thread::scope(|scope| {
            assert!(scope.spawn(|| series.push(2.0, &[0.0])).join().unwrap());
        });
        assert!(series.push(3.0, &[0.0]));
        let fresh = reader.drain(ALL).unwrap();
        let xs: Vec<_> = fresh.buckets.iter().map(|(span, _)| span.last).collect();
        assert_eq!(xs, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn points_keep_their_order_and_values_while_the_sampler_drains() {
        let (series, mut reader) = pair(1);
        let total = 200_000_u32;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..total {
                    assert!(series.push(f64::from(n), &[f64::from(n)]));
                }
            });
            while reader.count() < u64::from(total) {
                let Some(fresh) = reader.drain(ALL) else {
                    std::thread::yield_now();
                    continue;
                };
                let mut at = fresh.from;
                for (span, stats) in fresh.buckets.iter() {
                    assert_eq!((span.first, stats[0].min), (at as f64, at as f64));
                    at += span.count;
                    let last = (at - 1) as f64;
                    assert_eq!((span.last, stats[0].last, stats[0].max), (last, last, last));
                }
                assert_eq!(at, fresh.to);
            }
        });
    }

    #[test]
    fn points_of_many_threads_all_arrive() {
        let (series, mut reader) = pair(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let series = series.clone();
                scope.spawn(move || {
                    for n in 0..20_000 {
                        assert!(series.push(f64::from(n), &[1.0]));
                    }
                });
            }
            while reader.count() < 80_000 {
                reader.drain(TickLimit::default());
                std::thread::yield_now();
            }
        });
        let kept: u64 = reader.history().iter().map(|(span, _)| span.count).sum();
        assert_eq!(kept, 80_000);
    }

    #[test]
    fn a_poisoned_mutex_is_no_obstacle() {
        let (series, mut reader) = pair(1);
        let other = series.clone();
        let died = std::thread::spawn(move || {
            let _guard = other.shared.pending.lock();
            panic!("a caller dies with the mutex held");
        });
        assert!(died.join().is_err());
        assert!(series.push(1.0, &[1.0]));
        assert_eq!(reader.drain(ALL).unwrap().to, 1);
    }
}
