//! Buckets: the points of one series in bounded memory.
//!
//! [`Buckets`] keeps at most a fixed number of buckets. A bucket covers consecutive points: the x
//! of the first and of the last, how many, and for each line min, max, last and which values were
//! not finite. A single point is a bucket of one. When the buckets are full, neighbours merge in
//! pairs and the stride doubles: from then on, a bucket takes twice as many points.
//!
//! The same type serves twice: [`SeriesWriter`](super::points::SeriesWriter) collects the points since the
//! last tick in a small one, the sampler keeps the whole run in a large one. The stride counts
//! what was appended, not points. A fast phase reaches the sampler already reduced, so it takes
//! no more of the history than its share of the ticks.
//!
//! # Segments
//!
//! A point whose x is below the x before it begins a segment ([`Span::restart`]). A bucket does
//! not span two segments as long as the segments fit. When pairs within segments free less than a
//! quarter of the buckets (more than half as many segments as buckets), neighbours merge across
//! segments too. Such a bucket is marked [`Span::mixed`]. From then on, a segment shorter than
//! the stride shares a bucket with the next one. No point is dropped: counts, min, max and marks
//! stay exact.

/// Marks of a bucket's line: it holds NaN.
pub(crate) const NAN: u8 = 1;
/// Marks of a bucket's line: it holds positive infinity.
pub(crate) const POS_INF: u8 = 2;
/// Marks of a bucket's line: it holds negative infinity.
pub(crate) const NEG_INF: u8 = 4;

/// The mark of one value: 0 when it is finite.
pub(crate) fn mark_of(y: f64) -> u8 {
    if y.is_finite() {
        0
    } else if y.is_nan() {
        NAN
    } else if y > 0.0 {
        POS_INF
    } else {
        NEG_INF
    }
}

/// What the lines of a bucket share: its x range and its points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    /// The x of the first point.
    pub(crate) first: f64,
    /// The x of the last point.
    pub(crate) last: f64,
    /// The number of points, at least 1.
    pub(crate) count: u64,
    /// The number of appended items: what the stride counts.
    units: u64,
    /// The first point begins a segment: its x went back.
    pub(crate) restart: bool,
    /// The bucket holds points of more than one segment.
    pub(crate) mixed: bool,
    /// A point's x was not finite. The x before it stands in for it.
    pub(crate) bad_x: bool,
}

impl Span {
    /// The span of a single point.
    #[inline]
    pub(crate) fn point(x: f64, restart: bool, bad_x: bool) -> Self {
        Self { first: x, last: x, count: 1, units: 1, restart, mixed: false, bad_x }
    }

    #[inline]
    fn merge(&mut self, next: &Self) {
        self.last = next.last;
        self.count = self.count.saturating_add(next.count);
        self.units = self.units.saturating_add(next.units);
        self.mixed |= next.mixed | next.restart;
        self.bad_x |= next.bad_x;
    }
}

/// One line of a bucket. NaN and infinities never reach `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stat {
    /// The least finite value; positive infinity when there is none.
    pub(crate) min: f64,
    /// The greatest finite value; negative infinity when there is none.
    pub(crate) max: f64,
    /// The last value, finite or not.
    pub(crate) last: f64,
    /// Which values the bucket holds that are not finite: [`NAN`], [`POS_INF`], [`NEG_INF`].
    pub(crate) marks: u8,
}

impl Stat {
    /// The line of a single point.
    #[inline]
    pub(crate) fn of(y: f64) -> Self {
        if y.is_finite() {
            Self { min: y, max: y, last: y, marks: 0 }
        } else {
            Self { min: f64::INFINITY, max: f64::NEG_INFINITY, last: y, marks: mark_of(y) }
        }
    }

    #[inline]
    fn merge(&mut self, next: &Self) {
        // Neither side is NaN: a comparison is one instruction, `f64::min` is five.
        self.min = if next.min < self.min { next.min } else { self.min };
        self.max = if next.max > self.max { next.max } else { self.max };
        self.last = next.last;
        self.marks |= next.marks;
    }
}

/// At most `capacity` buckets over all the points that were appended.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    spans: Vec<Span>,
    /// `lines` entries per bucket.
    stats: Vec<Stat>,
    lines: usize,
    capacity: usize,
    stride: u64,
    /// Buckets merged across segments once: short segments share buckets from then on.
    crossed: bool,
}

impl Buckets {
    /// Empty buckets for `lines` values per point (at least 1). Memory grows with use, up to
    /// `capacity` buckets (at least 2).
    pub(crate) fn new(lines: usize, capacity: usize) -> Self {
        Self {
            spans: Vec::new(),
            stats: Vec::new(),
            lines: lines.max(1),
            capacity: capacity.max(2),
            stride: 1,
            crossed: false,
        }
    }

    /// The number of buckets.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The buckets in order: the span and one [`Stat`] per line.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Span, &[Stat])> {
        self.spans.iter().zip(self.stats.chunks_exact(self.lines))
    }

    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.stats.clear();
        self.stride = 1;
        self.crossed = false;
    }

    /// How many buckets fit without an allocation.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.spans.capacity().min(self.stats.capacity() / self.lines)
    }

    /// Appends one item, a point or a bucket: `stat` gives its lines by their index.
    #[inline]
    pub(crate) fn append(&mut self, span: Span, stat: impl Fn(usize) -> Stat) {
        let span = Span { units: 1, ..span };
        let mut joins = self.takes(&span);
        if !joins && self.spans.len() >= self.capacity {
            self.compact();
            joins = self.takes(&span);
        }
        match self.spans.last_mut() {
            Some(last) if joins => {
                last.merge(&span);
                let from = self.stats.len().saturating_sub(self.lines);
                for (line, kept) in self.stats.iter_mut().skip(from).enumerate() {
                    kept.merge(&stat(line));
                }
            }
            _ => {
                self.spans.push(span);
                self.stats.extend((0..self.lines).map(stat));
            }
        }
    }

    /// Merges a run of `units` finite points of the same segment into the last bucket, if its
    /// stride has room for all of them. Returns whether it had.
    #[inline]
    pub(crate) fn join(&mut self, last_x: f64, units: u64, stat: impl Fn(usize) -> Stat) -> bool {
        let stride = self.stride;
        let span = self.spans.last_mut();
        let Some(span) = span.filter(|span| span.units.saturating_add(units) <= stride) else {
            return false;
        };
        span.last = last_x;
        span.count = span.count.saturating_add(units);
        span.units = span.units.saturating_add(units);
        let from = self.stats.len().saturating_sub(self.lines);
        for (line, kept) in self.stats.iter_mut().skip(from).enumerate() {
            kept.merge(&stat(line));
        }
        true
    }

    /// Whether the last bucket takes the next item. An item of a new segment joins only a bucket
    /// that begins with its segment: the tail of a long segment stays unmixed.
    #[inline]
    fn takes(&self, next: &Span) -> bool {
        self.spans.last().is_some_and(|last| {
            last.units < self.stride
                && (!next.restart || self.crossed && (last.restart || self.spans.len() == 1))
        })
    }

    #[cold]
    fn compact(&mut self) {
        self.stride = self.stride.saturating_mul(2);
        self.merge_pairs(false);
        if self.spans.len() > self.capacity / 2 + self.capacity / 4 {
            self.crossed = true;
            self.merge_pairs(true);
        }
    }

    /// Merges neighbours in pairs; a restart ends a pair early unless `across`.
    fn merge_pairs(&mut self, across: bool) {
        let lines = self.lines;
        let mut kept = 0;
        let mut from = 0;
        while from < self.spans.len() {
            self.spans[kept] = self.spans[from];
            self.stats.copy_within(from * lines..(from + 1) * lines, kept * lines);
            from += 1;
            if let Some(&next) = self.spans.get(from).filter(|next| across || !next.restart) {
                self.spans[kept].merge(&next);
                for line in 0..lines {
                    let stat = self.stats[from * lines + line];
                    self.stats[kept * lines + line].merge(&stat);
                }
                from += 1;
            }
            kept += 1;
        }
        self.spans.truncate(kept);
        self.stats.truncate(kept * lines);
    }

    /// Writes these buckets into `into`: as they are when they are at most `points` single
    /// points, else reduced to `parts` (at least 1). A restart opens a bucket of its own, at most
    /// [`RESTARTS`] times: `into` gets at most `parts + RESTARTS` buckets.
    pub(crate) fn reduce(&self, points: usize, parts: usize, into: &mut Self) {
        into.clear();
        let single = self.len() <= points && self.spans.iter().all(|span| span.count == 1);
        let chunk = if single { 1 } else { self.len().div_ceil(parts.max(1)) };
        let (mut filled, mut restarts) = (chunk, 0);
        for (span, stats) in self.iter() {
            let split = span.restart && restarts < RESTARTS;
            restarts += usize::from(split);
            match into.spans.last_mut() {
                Some(last) if filled < chunk && !split => {
                    last.merge(span);
                    let from = into.stats.len().saturating_sub(into.lines);
                    for (kept, next) in into.stats.iter_mut().skip(from).zip(stats) {
                        kept.merge(next);
                    }
                    filled += 1;
                }
                _ => {
                    into.spans.push(*span);
                    into.stats.extend_from_slice(stats);
                    filled = 1;
                }
            }
        }
    }
}

/// How many restarts in one tick a live viewer sees apart. The history keeps all that fit.
pub(crate) const RESTARTS: usize = 4;

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "buckets keep values, they compute none")]
mod tests {
    use super::*;

    /// A small generator: the tests need patterns, not randomness of quality.
    struct Rng(u64);
    impl Rng {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }
    }

    /// The reference: every point kept, every bucket recomputed from its points.
    fn check(buckets: &Buckets, points: &[(f64, Vec<f64>)]) {
        let total: u64 = buckets.iter().map(|(span, _)| span.count).sum();
        assert_eq!(total, points.len() as u64);
        let mut at = 0;
        for (span, stats) in buckets.iter() {
            let end = at + usize::try_from(span.count).unwrap();
            let covered = &points[at..end];
            assert_eq!(span.first, covered[0].0);
            assert_eq!(span.last, covered[covered.len() - 1].0);
            assert_eq!(span.restart, at > 0 && points[at].0 < points[at - 1].0);
            assert_eq!(span.mixed, covered.windows(2).any(|w| w[1].0 < w[0].0));
            for (line, stat) in stats.iter().enumerate() {
                let ys = || covered.iter().map(|point| point.1[line]);
                let finite = || ys().filter(|y| y.is_finite());
                assert_eq!(stat.min, finite().fold(f64::INFINITY, f64::min));
                assert_eq!(stat.max, finite().fold(f64::NEG_INFINITY, f64::max));
                assert_eq!(stat.last.to_bits(), ys().next_back().unwrap().to_bits());
                assert_eq!(stat.marks, ys().fold(0, |marks, y| marks | mark_of(y)));
            }
            at = end;
        }
    }

    fn value(rng: &mut Rng) -> f64 {
        match rng.below(40) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            _ => rng.below(1_000_000) as f64 / 1000.0 - 500.0,
        }
    }

    fn filled(points: &[(f64, Vec<f64>)], lines: usize, capacity: usize) -> Buckets {
        let mut buckets = Buckets::new(lines, capacity);
        let mut before = f64::NAN;
        for (x, ys) in points {
            buckets.append(Span::point(*x, *x < before, false), |line| Stat::of(ys[line]));
            before = *x;
            assert!(buckets.len() <= capacity);
        }
        buckets
    }

    #[test]
    fn buckets_agree_with_all_the_points_for_random_pushes() {
        let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
        for round in 0..300 {
            let lines = 1 + usize::try_from(rng.below(3)).unwrap();
            let capacity = 2 + usize::try_from(rng.below(40)).unwrap();
            let back = [0, 2, 3, 10, 200, 5000][round % 6];
            let mut x = 0.0;
            let points: Vec<_> = (0..rng.below(3000))
                .map(|_| {
                    let goes_back = back > 0 && rng.below(back) == 0;
                    x = if goes_back { x - 1.0 } else { x + rng.below(3) as f64 };
                    (x, (0..lines).map(|_| value(&mut rng)).collect())
                })
                .collect();
            check(&filled(&points, lines, capacity), &points);
        }
    }

    #[test]
    fn a_history_fed_with_buckets_agrees_with_all_the_points() {
        let mut rng = Rng(77);
        for round in 0..200 {
            let back = [2, 5, 30, 300][round % 4];
            let mut history = Buckets::new(1, 32);
            let (mut points, mut x) = (Vec::new(), 0.0);
            for _ in 0..rng.below(60) {
                let mut tick = Buckets::new(1, 8);
                for _ in 0..rng.below(50) {
                    let before = x;
                    x = if rng.below(back) == 0 { x - 1.0 } else { x + 1.0 };
                    let y = value(&mut rng);
                    let restart = x < before && !points.is_empty();
                    tick.append(Span::point(x, restart, false), |_| Stat::of(y));
                    points.push((x, vec![y]));
                }
                for (span, stats) in tick.iter() {
                    history.append(*span, |line| stats[line]);
                }
            }
            check(&history, &points);
        }
    }

    #[test]
    fn buckets_stay_within_one_segment_when_the_segments_fit() {
        let points: Vec<_> =
            (0..100_000).map(|n| (f64::from(n % 1000), vec![f64::from(n)])).collect();
        let buckets = filled(&points, 1, 2048);
        assert!(buckets.iter().all(|(span, _)| !span.mixed));
        assert_eq!(buckets.iter().filter(|(span, _)| span.restart).count(), 99);
    }

    #[test]
    fn an_x_that_goes_back_at_every_step_keeps_an_even_resolution() {
        let points: Vec<_> = (0..300_000).map(|n| (-f64::from(n), vec![f64::from(n)])).collect();
        let buckets = filled(&points, 1, 256);
        check(&buckets, &points);
        assert!(buckets.len() > 64);
        let most = buckets.iter().map(|(span, _)| span.count).max().unwrap();
        assert!(most <= 4 * 300_000 / 256, "a bucket of {most} points");
    }

    #[test]
    fn a_steady_run_keeps_an_even_resolution() {
        for total in [2048_u32, 2049, 5000, 100_000] {
            let points: Vec<_> = (0..total).map(|n| (f64::from(n), vec![0.0])).collect();
            let buckets = filled(&points, 1, 2048);
            assert!(buckets.len() >= 1024, "{total}: {} buckets", buckets.len());
            let most = buckets.iter().map(|(span, _)| span.count).max().unwrap();
            assert!(most <= u64::from(total).div_ceil(1024), "{total}: {most}");
        }
    }

    #[test]
    fn a_fast_run_keeps_an_even_resolution() {
        let mut history = Buckets::new(1, 128);
        let (mut x, ticks) = (0.0, 500);
        for _ in 0..ticks {
            let mut tick = Buckets::new(1, 64);
            for _ in 0..1000 {
                tick.append(Span::point(x, false, false), |_| Stat::of(0.0));
                x += 1.0;
            }
            for (span, stats) in tick.iter() {
                history.append(*span, |line| stats[line]);
            }
        }
        let most = history.iter().map(|(span, _)| span.count).max().unwrap();
        assert!(most <= 4 * ticks * 1000 / 128, "a bucket of {most} points");
    }

    #[test]
    fn a_slow_phase_after_a_fast_one_keeps_its_resolution() {
        let mut history = Buckets::new(1, 2048);
        let mut x = 0.0;
        for _ in 0..100 {
            let mut tick = Buckets::new(1, 64);
            for _ in 0..10_000 {
                tick.append(Span::point(x, false, false), |_| Stat::of(0.0));
                x += 1.0;
            }
            for (span, stats) in tick.iter() {
                history.append(*span, |line| stats[line]);
            }
        }
        let fast = history.len();
        for _ in 0..3600 {
            history.append(Span::point(x, false, false), |_| Stat::of(1.0));
            x += 1.0;
        }
        let slow = history.iter().filter(|(_, stats)| stats[0].min > 0.5).count();
        assert!(fast >= 1024 && slow >= 400, "{fast} then {slow}");
    }

    #[test]
    fn a_run_joins_only_a_bucket_with_room_for_all_of_it() {
        let mut buckets = Buckets::new(1, 2);
        assert!(!buckets.join(0.0, 1, |_| Stat::of(0.0)));
        for n in 0..5 {
            buckets.append(Span::point(f64::from(n), false, false), |_| Stat::of(0.0));
        }
        // A stride of 4: one bucket is full, the other holds one point.
        assert!(!buckets.join(8.0, 4, |_| Stat::of(9.0)));
        assert!(buckets.join(6.0, 2, |_| Stat::of(7.0)));
        assert!(!buckets.join(8.0, 2, |_| Stat::of(9.0)));
        assert!(buckets.join(7.0, 1, |_| Stat::of(8.0)));
        let spans: Vec<_> = buckets.iter().map(|(s, l)| (s.last, s.count, l[0].max)).collect();
        assert_eq!(spans, [(3.0, 4, 0.0), (7.0, 4, 8.0)]);
    }

    #[test]
    fn a_reduction_is_bounded_and_loses_nothing() {
        let mut rng = Rng(5);
        for _ in 0..500 {
            let (mut x, mut before) = (0.0, f64::NAN);
            let points: Vec<_> = (0..=rng.below(200))
                .map(|_| {
                    x = if rng.below(10) == 0 { x - 5.0 } else { x + 1.0 };
                    (x, vec![value(&mut rng)])
                })
                .collect();
            let mut tick = Buckets::new(1, 64);
            for (x, ys) in &points {
                tick.append(Span::point(*x, *x < before, false), |_| Stat::of(ys[0]));
                before = *x;
            }
            let (keep, parts) = (rng.below(6), 1 + rng.below(8));
            let (keep, parts) = (usize::try_from(keep).unwrap(), usize::try_from(parts).unwrap());
            let mut fresh = Buckets::new(1, 64);
            tick.reduce(keep, parts, &mut fresh);
            check(&fresh, &points);
            if points.len() <= keep {
                assert_eq!(fresh.len(), points.len());
            } else {
                assert!(fresh.len() <= parts + RESTARTS);
            }
        }
    }

    #[test]
    fn restarts_are_seen_apart_in_a_reduction() {
        let points: Vec<_> = (0..60).map(|n| (f64::from(n % 30), vec![0.0])).collect();
        let mut fresh = Buckets::new(1, 64);
        filled(&points, 1, 64).reduce(4, 1, &mut fresh);
        let spans: Vec<_> = fresh.iter().map(|(s, _)| (s.first, s.count, s.restart)).collect();
        assert_eq!(spans, [(0.0, 30, false), (0.0, 30, true)]);
    }
}
