//! The rate and the remaining time of a job, from samples of its position.
//!
//! [`Estimator`] is a pure function of its samples: (time, position, total). The time is active
//! time in seconds: the caller stops this clock while the job is paused. Positions may be
//! fractions.
//!
//! The estimator keeps the run as at most [`BLOCKS`] blocks of time, short ones for the recent past
//! and longer ones for the distant past. The blocks answer two questions after each new block:
//!
//! - **Did the speed change?** The best split into two levels of cost counts as a change when the
//!   evidence is strong. The near future then has the new cost, and the far future the mean of the
//!   run. "Near" is 16 times as much work as the new cost has lasted for. A stall is one block, and
//!   one block is no change.
//! - **Does the cost grow or fall in a line?** The estimate then follows this line, at most as far
//!   ahead as the line reaches back.
//!
//! Otherwise the cost of a step is the mean so far. The remaining time counts down between two
//! steps. A new answer shows gradually: the estimate moves by at most 8 % in a second (faster in
//! the first 25 s).
//!
//! | situation | estimate |
//! |---|---|
//! | before 3 advances and before 1 s with an advance | none |
//! | the total is unknown, or below the position | none |
//! | a stall | counts down for the usual gap, rises by at most 15 %, stands still |
//! | the position goes back | rises by the lost work; the cost stays |
//! | the position goes below its start | another run begins |
//! | the total changes | follows at once |
//!
//! No input makes a method panic, or return NaN or a negative number. A sample whose time or
//! position is not finite is ignored, as is a sample whose time is before the newest one.
//!
//! `docs/performance/eta.md` has the errors on synthetic runs, and what was tried for the
//! constants.

use std::mem;

/// The largest number of blocks.
const BLOCKS: usize = 32;
/// The shortest block in seconds: five samples at 10 Hz.
const SHORTEST: f64 = 0.5;
/// The length of a new block as a share of the time since the newest change. Three blocks show a
/// change.
const FINE: f64 = 0.01;
/// The share of that time by which one gap can raise the estimate.
const GAP: f64 = 0.15;
/// Advances before which a gap counts in full.
const FIRST: u32 = 4;
/// The noise of a logarithm of cost below which blocks are equal.
const FLOOR: f64 = 0.03;
/// The evidence from which a change counts, and a line.
const EVIDENCE: f64 = 25.0;
const EVIDENCE_OF_LINE: f64 = 14.0;
/// The share of blocks on either side of a change that may be on the wrong side.
const STRAYS: f64 = 0.2;
/// The smallest change, as a difference of logarithms of cost.
const CHANGE: f64 = 0.2;
/// The fewest blocks after a change, and of any fit.
const AFTER: usize = 3;
const FEWEST: usize = 5;
/// The slope of a line shrinks by this many times its squared relative error: two standard errors
/// of slope are none.
const SHRINK: f64 = 4.0;
/// The share of the time whose newest blocks must agree with a line, and how many standard errors
/// count as agreement.
const RECENT: f64 = 0.35;
const AGREED: f64 = 2.0;
/// The factor by which a line may change the present cost, or its inverse.
const FARTHEST: f64 = 1.5;
/// A new cost is trusted for this many times the steps that it has lasted for.
const TRUST: f64 = 16.0;
/// How fast the shown cost follows a new answer, in logarithms per second. A young run is faster.
const CATCH_UP: f64 = 0.08;
/// Seconds before which no step is late.
const LATE_AT_LEAST: f64 = 10.0;
/// Times and estimates beyond this are ignored: thirty thousand years.
const LATEST: f64 = 1e12;

/// Time, and the steps done in it.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    time: f64,
    steps: f64,
}

impl Block {
    fn add(&mut self, other: Self) {
        self.time += other.time;
        self.steps += other.steps;
    }

    fn sum(blocks: &[Self]) -> Self {
        blocks.iter().fold(Self::default(), |mut sum, block| {
            sum.add(*block);
            sum
        })
    }

    /// Seconds per step.
    fn cost(self) -> f64 {
        self.time / self.steps
    }
}

/// Estimates the rate and the remaining time of one job. The module's documentation says how.
#[derive(Debug, Clone)]
pub(crate) struct Estimator {
    /// The position at the start, the newest one, and the highest one.
    start: f64,
    newest: f64,
    highest: f64,
    /// When `highest` was reached, when the position last changed, and the newest sample's time.
    highest_at: f64,
    changed_at: f64,
    seen: f64,
    /// Advances of the highest position.
    advances: u32,
    /// The usual time between two advances: falls slowly, rises at once.
    gap: f64,
    /// The longest time between two advances.
    longest: f64,
    /// The block that is not yet closed.
    open: Block,
    /// The closed blocks since the newest change, in order of time. No memory before the first one.
    blocks: Vec<Block>,
    /// Whether the first block is still the run's first one, not merged with others.
    first: bool,
    /// The sums since the newest change, and since the start.
    since: Block,
    whole: Block,
    /// The line that the cost follows.
    trend: Option<Trend>,
    /// Changes of speed, those in the direction opposite to the one before, and the newest
    /// direction.
    changes: u32,
    reversals: u32,
    slower: Option<bool>,
    /// The variance of the logarithm of the cost of a block of average length.
    noise: f64,
    /// The logarithm of the shown cost less that of the newest answer, when this came.
    behind: f64,
    behind_at: f64,
    /// The promised end, smoothed, and how much it moves.
    promise: Option<f64>,
    drift: f64,
}

impl Estimator {
    /// Creates an estimator for a job that starts at position `start` at time zero.
    pub(crate) fn new(start: f64) -> Self {
        Self {
            start,
            newest: start,
            highest: start,
            highest_at: 0.0,
            changed_at: 0.0,
            seen: 0.0,
            advances: 0,
            gap: 0.0,
            longest: 0.0,
            open: Block::default(),
            blocks: Vec::new(),
            first: true,
            since: Block::default(),
            whole: Block::default(),
            trend: None,
            changes: 0,
            reversals: 0,
            slower: None,
            noise: 0.09,
            behind: 0.0,
            behind_at: 0.0,
            promise: None,
            drift: 0.0,
        }
    }

    /// Forgets all before time `t`, at which the job is at position `p`.
    pub(crate) fn reset(&mut self, t: f64, p: f64) {
        let mut blocks = mem::take(&mut self.blocks);
        blocks.clear();
        let t = t.max(self.seen);
        *self = Self { highest_at: t, changed_at: t, seen: t, blocks, ..Self::new(p) };
    }

    /// Takes a sample: position `p` at active time `t`, of `total` if that is known.
    #[allow(clippy::float_cmp)] // a position that is stored and one that is the same
    pub(crate) fn observe(&mut self, t: f64, p: f64, total: Option<f64>) {
        if !(t >= self.seen && t <= LATEST && p.is_finite()) {
            return;
        }
        self.seen = t;
        if p < self.start {
            self.reset(t, p);
            return;
        }
        if p != self.newest {
            self.newest = p;
            self.changed_at = t;
        }
        // Only a new highest position is progress: work that is done again counts as one gap.
        if p > self.highest && t > self.highest_at {
            self.advance(Block { time: t - self.highest_at, steps: p - self.highest });
            self.highest = p;
            self.highest_at = t;
            self.close(total);
        }
    }

    /// Adds an advance. The rest of an unusually long gap is not counted.
    fn advance(&mut self, mut by: Block) {
        self.advances = self.advances.saturating_add(1);
        let mut gap = by.time;
        if self.advances > FIRST {
            // A machine that slept for an hour says nothing about gaps.
            gap = gap.min(self.since.time);
            by.time = by.time.min(self.gap + GAP * self.since.time);
        }
        self.longest = self.longest.max(gap);
        self.gap = by.time.max(0.9 * self.gap + 0.1 * by.time);
        for sum in [&mut self.open, &mut self.since, &mut self.whole] {
            sum.add(by);
        }
    }

    /// Closes the open block if that is long enough, and looks for a change and a line.
    fn close(&mut self, total: Option<f64>) {
        if self.open.time < SHORTEST.max(FINE * self.since.time) {
            return;
        }
        let block = mem::take(&mut self.open);
        if self.blocks.len() == BLOCKS {
            self.merge();
        }
        let left = total.map_or(0.0, |total| remaining(total, self.newest).unwrap_or(0.0));
        let shown = self.shown_cost(self.seen, left);
        self.blocks.push(block);
        while self.refit() {}
        if self.blocks.len() > 1 {
            self.behind = (shown / self.cost(left)).ln();
            self.behind_at = self.seen;
        }
        if let Some(eta) = total.and_then(|total| self.eta(self.seen, self.newest, total)) {
            let end = self.seen + eta;
            let promise = self.promise.get_or_insert(end);
            let share = (4.0 * block.time / self.whole.time).min(1.0);
            self.drift += share * ((end - *promise).abs() - self.drift);
            *promise += share * (end - *promise);
        }
    }

    /// Merges the two neighbours that are shortest for their age.
    fn merge(&mut self) {
        let mut age = 0.0;
        let (mut at, mut least) = (0, f64::INFINITY);
        for (i, pair) in self.blocks.windows(2).enumerate().rev() {
            age += pair[1].time;
            let share = (pair[0].time + pair[1].time) / (age + pair[0].time);
            if share <= least {
                (at, least) = (i, share);
            }
        }
        let block = self.blocks.remove(at);
        self.blocks[at].add(block);
        self.first &= at > 0;
    }

    /// Fits the blocks. Returns whether a change was found, after which the rest needs another
    /// look.
    fn refit(&mut self) -> bool {
        self.trend = None;
        if self.blocks.len() < FEWEST {
            return false;
        }
        let fit = Fit::new(&self.blocks);
        let line = fit.line(0);
        let rest = if line.is_level() { fit.spread } else { fit.rest(&line) };
        let evidence_of_line = fit.evidence(rest);
        let straight = evidence_of_line > EVIDENCE_OF_LINE;
        self.noise = if straight { rest } else { fit.spread } / fit.n as f64;
        if let Some(change) = fit.change(self.first) {
            // Before the first change, a line that explains more is preferred.
            if self.changes > 0 || evidence_of_line < fit.evidence(fit.spread - change.gain) {
                self.forget(&change);
                return true;
            }
        }
        if self.changes == 0 && straight {
            let (now, slope) = fit.present(&line);
            // From the fit's units.
            let all = Block::sum(&self.blocks);
            self.trend =
                Some(Trend { now: now * all.cost(), slope: slope * all.cost() / all.steps });
        }
        false
    }

    /// Drops the blocks before a change.
    fn forget(&mut self, change: &Change) {
        self.blocks.drain(..change.at);
        self.since = Block::sum(&self.blocks);
        self.since.add(self.open);
        if mem::take(&mut self.first) && change.at == 1 {
            // A first block that is unlike all others was the warm-up. The run begins after it.
            self.whole = self.since;
            return;
        }
        let slower = change.step > 0.0;
        self.changes = self.changes.saturating_add(1);
        if self.slower.is_some_and(|before| before != slower) {
            self.reversals = self.reversals.saturating_add(1);
        }
        self.slower = Some(slower);
    }

    /// Seconds per step, the mean over the next `left` steps.
    fn cost(&self, left: f64) -> f64 {
        let cost = self.since.cost();
        if let Some(trend) = self.trend {
            // The mean over steps in a line is the cost in their middle.
            let ahead = self.open.steps + (left / 2.0).min(self.since.steps);
            let (low, high) = (trend.now / FARTHEST, trend.now * FARTHEST);
            return (trend.now + trend.slope * ahead).max(low).min(high);
        }
        let near = self.near();
        if left <= near {
            return cost;
        }
        (near * cost + (left - near) * self.whole.cost()) / left
    }

    /// The steps for which the present cost is expected to last.
    fn near(&self) -> f64 {
        if self.changes == 0 {
            f64::INFINITY
        } else if self.reversals == 0 {
            // A level that has lasted for long will last.
            TRUST * self.since.steps
        } else {
            // Levels come and go: as long as they usually lasted.
            self.whole.steps / f64::from(self.changes.saturating_add(1))
        }
    }

    /// The cost that is shown at time `t`. It follows the newest answer gradually.
    fn shown_cost(&self, t: f64, left: f64) -> f64 {
        if self.behind == 0.0 {
            return self.cost(left);
        }
        let pace = CATCH_UP.max(2.0 / self.whole.time);
        let caught_up = pace * (t - self.behind_at).max(0.0);
        let behind = (self.behind.abs() - caught_up).max(0.0);
        if behind == 0.0 {
            return self.cost(left);
        }
        self.cost(left) * behind.copysign(self.behind).exp()
    }

    /// The factor by which a gap that is longer than usual raises the estimate.
    fn raise(&self, t: f64) -> f64 {
        let mut late = (self.idle(t) - self.gap).max(0.0);
        if self.advances > FIRST {
            late = late.min(GAP * self.since.time);
        }
        1.0 + late / self.since.time
    }

    /// Returns the seconds left at time `t` and position `p`, of `total`.
    pub(crate) fn eta(&self, t: f64, p: f64, total: f64) -> Option<f64> {
        let left = remaining(total, p)?;
        if left == 0.0 {
            return Some(0.0);
        }
        let whole = left * self.seconds_per_step(t, left)?;
        Some((whole - self.idle(t).min(self.gap)).max(0.0))
    }

    /// Returns the steps per second that the ETA counts on: the mean over the steps that are left,
    /// or the present rate if `total` is unknown.
    pub(crate) fn rate(&self, t: f64, p: f64, total: Option<f64>) -> Option<f64> {
        let left = total.and_then(|total| remaining(total, p)).unwrap_or(0.0);
        let rate = 1.0 / self.seconds_per_step(t, left)?;
        rate.is_finite().then_some(rate)
    }

    /// The shown cost, raised by a late step, if there is enough to estimate from.
    fn seconds_per_step(&self, t: f64, left: f64) -> Option<f64> {
        let ready = self.advances >= 3 || (self.advances > 0 && self.whole.time >= 1.0);
        let cost = self.shown_cost(t, left) * self.raise(t);
        (ready && cost > 0.0 && left * cost <= LATEST).then_some(cost)
    }

    /// Returns the ends of a range in which the remaining time `eta` probably is. The range is not
    /// calibrated: no percentage belongs to it.
    pub(crate) fn range(&self, eta: f64) -> (f64, f64) {
        let mut half = 0.5;
        let n = self.blocks.len() as f64;
        if n >= 3.0 && eta > 0.0 {
            let block = self.since.time / n;
            // The noise of the past and to come, and what the promised end did so far.
            let noise = 1.28 * (self.noise * (1.0 / n + 1.0 / (eta / block).max(0.3))).sqrt();
            let drift = 0.7 * self.drift / eta * (4.0 * eta / self.whole.time).clamp(1.0, 2.0);
            // The far future may have the present cost, or that of the run.
            let far = (1.0 - self.near() * self.since.cost() / eta).max(0.0);
            let doubt = far * (self.since.cost() / self.whole.cost()).ln().abs();
            half = (noise + 0.05 + drift + doubt).min(1.1);
        }
        (eta / (1.0 + half), eta * (1.0 + half) + 0.5)
    }

    /// Returns the seconds since the position changed.
    pub(crate) fn idle(&self, t: f64) -> f64 {
        let idle = t.min(LATEST) - self.changed_at;
        idle.max(0.0)
    }

    /// Returns the longest time between two advances so far.
    pub(crate) fn usual(&self) -> f64 {
        self.longest
    }

    /// Returns whether a step is so late that a viewer should be told: "no step for 3 min, usually
    /// 30 s".
    pub(crate) fn is_late(&self, t: f64) -> bool {
        self.advances > 0 && self.idle(t) > (2.0 * self.longest).max(LATE_AT_LEAST)
    }
}

/// The work that is left, if the numbers make sense.
fn remaining(total: f64, p: f64) -> Option<f64> {
    let left = total - p;
    (left.is_finite() && left >= 0.0).then_some(left)
}

/// The line that the cost follows.
#[derive(Debug, Clone, Copy)]
struct Trend {
    /// Seconds per step at the end of the closed blocks.
    now: f64,
    /// Seconds per step, per step.
    slope: f64,
}

/// A split of the blocks into two levels of cost.
#[derive(Debug)]
struct Change {
    /// The blocks before the change.
    at: usize,
    /// The logarithm of the new level's cost, less that of the old level.
    step: f64,
    /// The spread that the two levels explain.
    gain: f64,
}

/// A line of cost over the steps, in the units of [`Fit`].
#[derive(Debug)]
struct Line {
    slope: f64,
    /// The middle of the steps, and the cost there.
    middle: f64,
    level: f64,
    /// The squared standard error of `slope`.
    error: f64,
}

impl Line {
    /// Whether the slope may be nothing but noise.
    fn is_level(&self) -> bool {
        self.slope.powi(2) <= SHRINK * self.error
    }

    fn at(&self, place: f64) -> f64 {
        self.level + self.slope * (place - self.middle)
    }
}

/// One block as the fits see it. All is relative to the blocks' mean, so that no unit and no size
/// matters.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    /// The time, in mean blocks: the weight of the point.
    weight: f64,
    /// The steps, as a share of all steps, and the place of their middle.
    share: f64,
    place: f64,
    /// Seconds per step, relative to the mean, and its logarithm.
    cost: f64,
    log: f64,
}

/// The blocks, prepared for the fits.
#[derive(Debug)]
struct Fit {
    points: [Point; BLOCKS],
    n: usize,
    /// The mean of the logarithms, and the weighted sum of squares around it.
    mean: f64,
    spread: f64,
    /// What the spread of equal blocks may be.
    floor: f64,
}

impl Fit {
    fn new(blocks: &[Block]) -> Self {
        let all = Block::sum(blocks);
        let n = blocks.len().min(BLOCKS);
        let count = n as f64;
        let mut points = [Point::default(); BLOCKS];
        let mut end = 0.0;
        for (point, block) in points.iter_mut().zip(blocks) {
            let (time, share) = (block.time / all.time, block.steps / all.steps);
            let (place, cost) = (end + share / 2.0, time / share);
            end += share;
            *point = Point { weight: time * count, share, place, cost, log: cost.ln() };
        }
        let used = &points[..n];
        let mean = used.iter().map(|p| p.weight * p.log).sum::<f64>() / count;
        let spread = used.iter().map(|p| p.weight * (p.log - mean).powi(2)).sum();
        let floor = count * FLOOR.powi(2);
        Self { points, n, mean, spread, floor }
    }

    fn points(&self) -> &[Point] {
        &self.points[..self.n]
    }

    /// The evidence for a fit that leaves `rest` of the spread.
    fn evidence(&self, rest: f64) -> f64 {
        self.n as f64 * ((self.spread + self.floor) / (rest.max(0.0) + self.floor)).ln()
    }

    /// The best split, if it is a change. Only the run's `first` block may be a level alone.
    fn change(&self, first: bool) -> Option<Change> {
        // The gain whose evidence is just enough.
        let enough = 1.0 - (-EVIDENCE / self.n as f64).exp();
        let mut least = (self.spread + self.floor) * enough;
        let (mut weight, mut sum) = (0.0, 0.0);
        let mut best = None;
        for at in 1..=self.n.saturating_sub(AFTER) {
            let point = &self.points[at - 1];
            weight += point.weight;
            sum += point.weight * (point.log - self.mean);
            let (old, new) = (sum / weight, -sum / (self.n as f64 - weight));
            let (step, gain) = (new - old, sum * (old - new));
            if gain > least
                && step.abs() > CHANGE
                && (at > 1 || first)
                && self.agree(at, self.mean + old, self.mean + new)
            {
                least = gain;
                best = Some(Change { at, step, gain });
            }
        }
        best
    }

    /// Whether nearly all points before and after `at` are on the side of their level.
    fn agree(&self, at: usize, old: f64, new: f64) -> bool {
        let middle = f64::midpoint(old, new);
        let (before, after) = self.points().split_at(at);
        let few_strays = |points: &[Point], above: bool| {
            let strays = points.iter().filter(|p| (p.log > middle) != above).count();
            strays as f64 <= STRAYS * points.len() as f64
        };
        few_strays(before, old > new) && few_strays(after, new > old)
    }

    /// The line through the points from number `from` on.
    fn line(&self, from: usize) -> Line {
        let points = &self.points()[from..];
        let count = points.len() as f64;
        let (mut share, mut place, mut cost) = (0.0, 0.0, 0.0);
        for p in points {
            share += p.share;
            place += p.share * p.place;
            cost += p.share * p.cost;
        }
        let (middle, level) = (place / share, cost / share);
        let (mut width, mut tilt, mut spread) = (0.0, 0.0, 0.0);
        for p in points {
            let (place, cost) = (p.place - middle, p.cost - level);
            width += p.share * place * place;
            tilt += p.share * place * cost;
            spread += p.share * cost * cost;
        }
        let slope = tilt / width;
        let misses = (spread - slope * tilt).max(0.0);
        let noise = misses / (count - 2.0) + FLOOR.powi(2) * share / count;
        Line { slope, middle, level, error: noise / width }
    }

    /// The spread around a line.
    fn rest(&self, line: &Line) -> f64 {
        let log = |p: &Point| p.log - line.at(p.place).max(0.1).ln();
        let mean = self.points().iter().map(|p| p.weight * log(p)).sum::<f64>() / self.n as f64;
        self.points().iter().map(|p| p.weight * (log(p) - mean).powi(2)).sum()
    }

    /// The present cost and the slope from now on: those of `line`, as far as the newest points
    /// agree with the slope.
    fn present(&self, line: &Line) -> (f64, f64) {
        let mut from = self.n;
        let mut weight = 0.0;
        while from > 0 && (weight < RECENT * self.n as f64 || self.n - from < FEWEST) {
            from -= 1;
            weight += self.points[from].weight;
        }
        let newest = self.line(from);
        let error = AGREED * newest.error.sqrt();
        let shrunk = line.slope * (1.0 - SHRINK * line.error / line.slope.powi(2)).max(0.0);
        let slope = shrunk.max(newest.slope - error).min(newest.slope + error);
        let slope = if slope * line.slope > 0.0 { slope } else { 0.0 };
        let now = line.level + slope * (1.0 - line.middle);
        (now.max(0.2), slope)
    }
}
