//! The series that the sampler shows.

use std::collections::HashSet;
use std::sync::Arc;

use crate::progress::base::Base;
use crate::progress::line::{Object, line, write_number};
use crate::progress::log::Level;
use crate::progress::series::json::{write_fresh, write_history, write_last};
use crate::progress::series::points::{Firsts, HISTORY, SeriesReader, TickLimit};
use crate::progress::series::state::State;
use crate::progress::tell::Tell;

/// The most series of a run. Those of jobs that have ended make way.
pub(crate) const SERIES_MAX: usize = 1000;

/// The messages of points that the feed keeps for viewers that come.
pub(crate) const POINTS_KEPT: usize = 300;

/// A history is written anew after so many messages, after an eighth of the bytes that the feed
/// keeps, or when its series has rested for so many samples: so the history and the messages that
/// are kept are the whole.
const RENEW_AFTER: u64 = 100;
const RESTS: u64 = 20;

/// About the bytes of histories that one sample writes anew.
const RENEW_BYTES: usize = 256 * 1024;

/// What a message takes in the feed beside its bytes, or more.
const MESSAGE: u64 = 256;

/// The places with a history of full length, and the buckets of the others.
const LONG: usize = 100;
const SHORT_HISTORY: usize = 256;

#[derive(Debug)]
pub(crate) struct SeriesTable {
    /// The key of a series has the number of its place, from 1 on.
    shown: Vec<Shown>,
    /// The messages so far, and their bytes.
    sent: Sent,
    /// The bytes of messages that the feed keeps.
    kept: u64,
    samples: u64,
    /// The place that the next search for an old history begins at.
    next: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Shown {
    state: Arc<State>,
    reader: Option<SeriesReader>,
    changes: u32,
    /// Whether viewers know the series; else all of them have to be told.
    is_announced: bool,
    /// The number of points in the history that viewers are given, and what was sent until then.
    told: u64,
    told_at: Sent,
    /// The sample that found the last points, and the one before which it is not told again since
    /// the feed has not taken it.
    moved: u64,
    rests_until: u64,
    firsts: Vec<Firsts>,
}

impl Shown {
    fn new(state: Arc<State>) -> Self {
        Self {
            state,
            reader: None,
            changes: 0,
            is_announced: false,
            told: 0,
            told_at: Sent::default(),
            moved: 0,
            rests_until: 0,
            firsts: Vec::new(),
        }
    }

    fn count(&self) -> u64 {
        self.reader.as_ref().map_or(0, SeriesReader::count)
    }

    /// Returns the series with its history.
    fn line(&self, slot: u64) -> String {
        line(|out| {
            let mut series = Object::begin(out, "series");
            series.whole("slot", slot);
            self.state.write(&mut series);
            if let Some(reader) = &self.reader {
                series.members(|out| write_history(reader, out));
            }
            series.end();
        })
    }

    /// Tells of the series with its history, as of what was sent so far.
    fn tell(&mut self, slot: u64, sent: Sent, tell: &mut Vec<Tell>) -> usize {
        let is_new = !std::mem::replace(&mut self.is_announced, true);
        (self.told, self.told_at) = (self.count(), sent);
        let line = self.line(slot);
        let bytes = line.len();
        tell.push(Tell::SetSeries { key: series_key(slot), line, is_new });
        bytes
    }

    /// Returns where lines have their first value that is not finite, if that is new.
    fn new_firsts(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(reader) = &self.reader else { return found };
        self.firsts.resize(reader.firsts().len(), Firsts::default());
        for (line, (known, now)) in self.firsts.iter_mut().zip(reader.firsts()).enumerate() {
            for (known, now, what) in
                [(known.nan, now.nan, "NaN"), (known.infinity, now.infinity, "infinity")]
            {
                if let (None, Some(first)) = (known, now) {
                    let name = self.state.line_name(line);
                    let name = name.map_or_else(String::new, |name| format!(", {name}"));
                    let mut at = Vec::new();
                    write_number(&mut at, first.x);
                    let at = String::from_utf8(at).unwrap_or_default();
                    found.push(format!("{}{name}: first {what} at {at}", self.state.name()));
                }
            }
            *known = *now;
        }
        found
    }
}

impl SeriesTable {
    /// `kept`: the bytes of messages that the feed keeps.
    pub(crate) fn new(kept: usize) -> Self {
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        Self { shown: Vec::new(), sent: Sent::default(), kept, samples: 0, next: 0 }
    }

    /// Takes new series on. Returns whether one finds no place.
    pub(crate) fn add(
        &mut self,
        new: Vec<Arc<State>>,
        is_open: impl Fn(Option<u64>) -> bool,
    ) -> bool {
        let mut new = new.into_iter();
        self.shown.extend(new.by_ref().take(SERIES_MAX - self.shown.len()).map(Shown::new));
        if new.len() == 0 {
            return false;
        }
        let mut over: Vec<&mut Shown> =
            self.shown.iter_mut().filter(|shown| !is_open(shown.state.job)).collect();
        over.sort_unstable_by_key(|shown| shown.state.id);
        for place in over {
            let Some(state) = new.next() else { return false };
            place.state.lose_place();
            *place = Shown::new(state);
        }
        let lacks_place = new.len() > 0;
        new.for_each(|state| state.lose_place());
        lacks_place
    }

    /// Whether there is a series.
    pub(crate) fn is_used(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Tells of the points since the last sample. Returns whether there are any, or a history has to
    /// be written anew.
    pub(crate) fn sample(&mut self, base: &Base, tell: &mut Vec<Tell>) -> bool {
        self.samples += 1;
        let (mut points, mut firsts) = (String::new(), Vec::new());
        for (place, shown) in self.shown.iter_mut().enumerate() {
            if shown.reader.is_none() {
                shown.reader = shown.state.take_reader().map(|mut reader| {
                    reader.bound_history(if place < LONG { HISTORY } else { SHORT_HISTORY });
                    reader
                });
            }
            let reader = shown.reader.as_mut();
            if let Some(fresh) = reader.and_then(|reader| reader.drain(TickLimit::default())) {
                let has_firsts = fresh.firsts_changed;
                shown.moved = self.samples;
                if let (Some(reader), true) = (&shown.reader, shown.is_announced) {
                    points.push(if points.is_empty() { '[' } else { ',' });
                    write_fresh(shown.state.id, reader, &mut points);
                }
                if has_firsts {
                    firsts
                        .extend(shown.new_firsts().into_iter().map(|text| (shown.state.job, text)));
                }
            }
            let changes = shown.state.changes();
            if std::mem::replace(&mut shown.changes, changes) != changes {
                shown.is_announced = false;
                shown.tell(place as u64 + 1, self.sent, tell);
            }
        }
        let has_points = !points.is_empty();
        if has_points {
            points.push(']');
            let line = format!("{{\"points\":{points}}}");
            self.sent.messages += 1;
            self.sent.bytes += line.len() as u64 + MESSAGE;
            tell.push(Tell::Points { line });
        }
        log_firsts(base, firsts);
        self.renew(tell) || has_points
    }

    /// Writes some histories anew that are old, or were not taken: a few at each sample. Returns
    /// whether one will have to be.
    fn renew(&mut self, tell: &mut Vec<Tell>) -> bool {
        let (count, mut left, mut bytes) = (self.shown.len(), 1 + self.shown.len() / 50, 0);
        let mut is_owed = false;
        for _ in 0..count {
            self.next = (self.next + 1) % count;
            let shown = &mut self.shown[self.next];
            if shown.is_announced && shown.told == shown.count() {
                continue;
            }
            if self.samples < shown.rests_until {
                is_owed = true;
                continue;
            }
            is_owed = true;
            let (at, sent) = (shown.told_at, self.sent);
            let is_old = sent.messages - at.messages >= RENEW_AFTER
                || sent.bytes - at.bytes >= self.kept / 8
                || self.samples - shown.moved >= RESTS
                || !shown.is_announced;
            if is_old {
                bytes += shown.tell(self.next as u64 + 1, sent, tell);
                left -= 1;
                if left == 0 || bytes >= RENEW_BYTES {
                    break;
                }
            }
        }
        is_owed
    }

    /// Has later samples tell the values of these keys again, since the feed has not taken them.
    pub(crate) fn tell_again(&mut self, keys: &HashSet<String>) {
        for (shown, slot) in self.shown.iter_mut().zip(1..) {
            if keys.contains(&series_key(slot)) {
                // Whether viewers know the series cannot be said any more: all are told.
                shown.is_announced = false;
                shown.rests_until = self.samples + RESTS;
            }
        }
    }

    /// Returns each series with its history.
    pub(crate) fn values(&self) -> impl Iterator<Item = Tell> {
        self.shown.iter().zip(1..).map(|(shown, slot)| {
            let line = shown.line(slot);
            Tell::SetSeries { key: series_key(slot), line, is_new: true }
        })
    }

    /// Returns each series with its last values.
    pub(crate) fn last(&self) -> impl Iterator<Item = String> {
        self.shown.iter().map(|shown| {
            line(|out| {
                let mut series = Object::begin(out, "series");
                shown.state.write(&mut series);
                if let Some(reader) = &shown.reader {
                    series.members(|out| write_last(reader, out));
                }
                series.end();
            })
        })
    }
}

/// Says in one line of the log where series have their first value that is not finite.
fn log_firsts(base: &Base, firsts: Vec<(Option<u64>, String)>) {
    let others = firsts.len().saturating_sub(1);
    let Some((job, first)) = firsts.into_iter().next() else { return };
    let text = if others > 0 { format!("{first}, and {others} more") } else { first };
    base.log(Level::Warn, job, text.into());
}

fn series_key(slot: u64) -> String {
    format!("series/{slot}")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use serde_json::Value;

    use super::*;

    /// What the feed keeps: the value of each series, and the newest points.
    #[derive(Default)]
    struct Feed {
        values: Vec<Value>,
        points: VecDeque<Value>,
        announced: usize,
        renewed: usize,
    }

    impl Feed {
        fn take(&mut self, tells: Vec<Tell>) {
            for tell in tells {
                match tell {
                    Tell::SetSeries { key, line, is_new } => {
                        let slot: usize = key.strip_prefix("series/").unwrap().parse().unwrap();
                        let line: Value = serde_json::from_str(&line).unwrap();
                        self.values.resize(self.values.len().max(slot), Value::Null);
                        self.values[slot - 1] = line["series"].clone();
                        self.announced += usize::from(is_new);
                        self.renewed += usize::from(!is_new);
                    }
                    Tell::Points { line } => {
                        let line: Value = serde_json::from_str(&line).unwrap();
                        self.points.push_back(line["points"].clone());
                        while self.points.len() > POINTS_KEPT {
                            self.points.pop_front();
                        }
                    }
                    tell => panic!("{tell:?}"),
                }
            }
        }

        /// The points of a series that somebody who comes now finds.
        fn found(&self, slot: usize) -> Vec<u64> {
            let series = &self.values[slot];
            let numbers = |xs: &Value| -> Vec<u64> {
                xs.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
            };
            let mut all = series.get("x").map_or_else(Vec::new, numbers);
            let mut n = series["n"].as_u64().unwrap_or(0);
            for fresh in self.points.iter().flat_map(|points| points.as_array().unwrap()) {
                if fresh[0] == series["id"] && fresh[2].as_u64().unwrap() > n {
                    assert_eq!(fresh[1], n, "no hole");
                    n = fresh[2].as_u64().unwrap();
                    all.extend(numbers(&fresh[3]));
                }
            }
            all
        }
    }

    #[test]
    fn history_and_kept_points_are_the_whole_whenever_somebody_comes() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::new(8 << 20);
        let all: Vec<_> = (0..120).map(|_| State::new(&base, None, "a".into())).collect();
        assert!(!table.add(all.clone(), |_| true));
        let mut feed = Feed::default();
        for tick in 0..700_u32 {
            // The last one is pushed to for a while only.
            for series in &all[usize::from(tick % 400 > 200)..] {
                series.push(f64::from(tick), &[1.0]);
            }
            let mut tell = Vec::new();
            table.sample(&base, &mut tell);
            feed.take(tell);
            for slot in [1, 60, 99].into_iter().filter(|_| tick % 7 == 0) {
                let expected: Vec<u64> = (0..=u64::from(tick)).collect();
                assert_eq!(feed.found(slot), expected, "series {slot} at {tick}");
            }
        }
        let some: Vec<u64> = (0..700).filter(|tick| tick % 400 <= 200).collect();
        assert_eq!(feed.found(0), some);
        assert_eq!(feed.announced, 120);
        assert!(feed.renewed <= 120 * 7, "{}", feed.renewed);
    }

    #[test]
    fn a_series_that_finds_no_place_is_counted_and_those_of_jobs_that_ended_make_way() {
        let base = Base::new(|| ());
        let of = |job, count| (0..count).map(|_| State::new(&base, job, "a".into())).collect();
        let mut table = SeriesTable::new(8 << 20);
        let jobs = |table: &SeriesTable, job| {
            table.shown.iter().filter(|shown| shown.state.job == job).count()
        };
        assert!(!table.add(of(Some(1), 600), |_| true));
        assert!(table.add(of(None, 600), |_| true));
        assert_eq!(jobs(&table, None), 400);
        assert!(!table.add(of(Some(2), 500), |job| job != Some(1)));
        assert_eq!((jobs(&table, Some(1)), jobs(&table, Some(2))), (100, 500));
        // The oldest make way first.
        assert!(!table.add(of(Some(3), 150), |job| job.is_none() || job == Some(3)));
        assert_eq!((jobs(&table, Some(1)), jobs(&table, Some(2))), (0, 450));
        assert!(table.add(of(Some(4), 451), |job| job.is_none_or(|job| job > 2)));
        assert_eq!((jobs(&table, Some(2)), jobs(&table, Some(4))), (0, 450));
    }

    #[test]
    fn a_history_is_renewed_before_the_feed_lets_go_of_its_points_however_few_it_keeps() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::new(16 * 1024);
        let series = State::new(&base, None, "a".into());
        table.add(vec![Arc::clone(&series)], |_| true);
        let (mut kept, mut covered, mut said) = (VecDeque::new(), 0, 0);
        for tick in 0..500_u32 {
            series.push(f64::from(tick), &[1.0]);
            let mut tells = Vec::new();
            table.sample(&base, &mut tells);
            for tell in tells {
                match tell {
                    Tell::Points { line } => kept.push_back((tick, line.len() + 256)),
                    Tell::SetSeries { .. } => (covered, said) = (tick, said + 1),
                    tell => panic!("{tell:?}"),
                }
            }
            while kept.iter().map(|(_, bytes)| bytes).sum::<usize>() > 16 * 1024 {
                kept.pop_front();
            }
            let oldest = kept.front().map_or(tick, |(tick, _)| *tick);
            assert!(oldest <= covered + 1, "points from {covered} to {oldest} are nowhere");
        }
        assert!(said < 100, "{said}");
    }

    #[test]
    fn a_series_that_rests_has_its_history_renewed_and_then_owes_nothing() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::new(8 << 20);
        let series = State::new(&base, None, "a".into());
        table.add(vec![Arc::clone(&series)], |_| true);
        table.sample(&base, &mut Vec::new());
        series.push(0.0, &[1.0]);
        let mut tells = Vec::new();
        let owes: Vec<bool> = (0..40).map(|_| table.sample(&base, &mut tells)).collect();
        assert!(owes[..20].iter().all(|owes| *owes) && !owes[30..].contains(&true), "{owes:?}");
        assert!(
            matches!(&tells[..], [Tell::Points { .. }, Tell::SetSeries { line, is_new: false, .. }]
                if line.contains("\"n\":1"))
        );
    }

    #[test]
    fn a_series_that_the_feed_has_not_taken_is_told_to_all_later() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::new(8 << 20);
        let series = State::new(&base, None, "a".into());
        table.add(vec![Arc::clone(&series)], |_| true);
        let mut sample = |refused: &[&str]| {
            let mut tells = Vec::new();
            series.push(0.0, &[1.0]);
            table.sample(&base, &mut tells);
            table.tell_again(&refused.iter().map(ToString::to_string).collect());
            let kinds = tells.iter().map(|tell| match tell {
                Tell::SetSeries { is_new, .. } => {
                    if *is_new {
                        "new"
                    } else {
                        "renewed"
                    }
                }
                _ => "points",
            });
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(sample(&["series/1"]), ["new"]);
        for _ in 1..RESTS {
            assert!(sample(&[]).is_empty(), "no points of what nobody knows");
        }
        assert_eq!(sample(&[]), ["new"]);
        assert_eq!(sample(&["series/2"]), ["points"]);
    }

    #[test]
    fn first_values_that_are_not_finite_are_one_line_of_the_log() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::new(8 << 20);
        let all: Vec<_> = (0..5).map(|_| State::new(&base, None, "a".into())).collect();
        all[0].set_lines(vec!["u".into(), "v".into()]);
        table.add(all.clone(), |_| true);
        all[0].push(1e300, &[1.0, f64::NAN]);
        for series in &all[1..] {
            series.push(0.0, &[f64::NEG_INFINITY]);
        }
        table.sample(&base, &mut Vec::new());
        table.sample(&base, &mut Vec::new());
        let (lines, _) = base.take_log();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].text, "a, v: first NaN at 1e+300, and 4 more");
    }
}
