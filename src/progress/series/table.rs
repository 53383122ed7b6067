//! The series that the sampler shows.

use std::sync::Arc;

use crate::progress::base::Base;
use crate::progress::line::{Object, line};
use crate::progress::log::Level;
use crate::progress::series::json::{write_fresh, write_history, write_last};
use crate::progress::series::points::{Firsts, SeriesReader, TickLimit};
use crate::progress::series::state::State;
use crate::progress::tell::Tell;

/// The most series of a run. Those of jobs that are shown no more make way.
pub(crate) const SERIES_MAX: usize = 1000;

/// The messages of points that the feed keeps for viewers that come.
pub(crate) const POINTS_KEPT: usize = 300;

/// A history is written anew after so many messages, so that it and those that are kept are the
/// whole.
const RENEW_AFTER: u64 = 100;

#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// The key of a series has the number of its place, from 1 on.
    shown: Vec<Shown>,
    /// The number of messages so far.
    sent: u64,
    /// The place that the next search for an old history begins at.
    next: usize,
}

#[derive(Debug)]
struct Shown {
    state: Arc<State>,
    reader: Option<SeriesReader>,
    changes: u32,
    /// The number of points in the history that viewers are given, and `sent` at that time.
    told: u64,
    told_at: u64,
    firsts: Vec<Firsts>,
}

impl Shown {
    fn new(state: Arc<State>, sent: u64) -> Self {
        Self { state, reader: None, changes: 0, told: 0, told_at: sent, firsts: Vec::new() }
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

    /// Says in the log where a line has its first NaN.
    fn log_firsts(&mut self, base: &Base) {
        let Some(reader) = &self.reader else { return };
        self.firsts.resize(reader.firsts().len(), Firsts::default());
        for (known, now) in self.firsts.iter_mut().zip(reader.firsts()) {
            for (known, now, what) in
                [(known.nan, now.nan, "NaN"), (known.infinity, now.infinity, "infinity")]
            {
                if let (None, Some(first)) = (known, now) {
                    let text = format!("{}: first {what} at {}", self.state.name(), first.x);
                    base.log(Level::Warn, self.state.job, text.into());
                }
            }
            *known = *now;
        }
    }
}

impl SeriesTable {
    /// Takes new series on. Returns how many find no place.
    pub(crate) fn add(
        &mut self,
        new: Vec<Arc<State>>,
        is_shown: impl Fn(Option<u64>) -> bool,
    ) -> usize {
        let sent = self.sent;
        let mut new = new.into_iter().map(|state| Shown::new(state, sent));
        self.shown.extend(new.by_ref().take(SERIES_MAX - self.shown.len()));
        let gone = self.shown.iter_mut().filter(|old| !is_shown(old.state.job));
        for (place, shown) in gone.zip(new.by_ref()) {
            *place = shown;
        }
        new.count()
    }

    /// Whether the program has a handle to a series.
    pub(crate) fn is_used(&self) -> bool {
        self.shown.iter().any(|shown| Arc::strong_count(&shown.state) > 1)
    }

    /// Tells of the points since the last sample.
    pub(crate) fn sample(&mut self, base: &Base, tell: &mut Vec<Tell>) {
        let mut points = String::new();
        for (shown, slot) in self.shown.iter_mut().zip(1..) {
            if shown.reader.is_none() {
                shown.reader = shown.state.take_reader();
            }
            let reader = shown.reader.as_mut();
            if let Some(fresh) = reader.and_then(|reader| reader.drain(TickLimit::default())) {
                let has_firsts = fresh.firsts_changed;
                if let (Some(reader), true) = (&shown.reader, shown.changes != 0) {
                    points.push(if points.is_empty() { '[' } else { ',' });
                    write_fresh(shown.state.id, reader, &mut points);
                }
                if has_firsts {
                    shown.log_firsts(base);
                }
            }
            let changes = shown.state.changes();
            if std::mem::replace(&mut shown.changes, changes) != changes {
                (shown.told, shown.told_at) = (shown.count(), self.sent);
                let line = shown.line(slot);
                tell.push(Tell::SetSeries { key: series_key(slot), line, is_new: true });
            }
        }
        if !points.is_empty() {
            points.push(']');
            self.sent += 1;
            tell.push(Tell::Points { line: format!("{{\"points\":{points}}}") });
        }
        self.renew(tell);
    }

    /// Writes some histories anew that are old: a few at each sample.
    fn renew(&mut self, tell: &mut Vec<Tell>) {
        let (count, most) = (self.shown.len(), 1 + self.shown.len() / 50);
        let mut left = most;
        for _ in 0..count {
            self.next = (self.next + 1) % count;
            let shown = &mut self.shown[self.next];
            if shown.told == shown.count() || self.sent - shown.told_at < RENEW_AFTER {
                continue;
            }
            (shown.told, shown.told_at) = (shown.count(), self.sent);
            let slot = self.next as u64 + 1;
            let line = shown.line(slot);
            tell.push(Tell::SetSeries { key: series_key(slot), line, is_new: false });
            left -= 1;
            if left == 0 {
                break;
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
                if fresh[0] == series["id"] && fresh[1].as_u64().unwrap() > n {
                    n = fresh[1].as_u64().unwrap();
                    all.extend(numbers(&fresh[2]));
                }
            }
            all
        }
    }

    #[test]
    fn history_and_kept_points_are_the_whole_whenever_somebody_comes() {
        let base = Base::new(|| ());
        let mut table = SeriesTable::default();
        let all: Vec<_> = (0..120).map(|_| State::new(&base, None, "a".into(), 0)).collect();
        assert_eq!(table.add(all.clone(), |_| true), 0);
        let mut feed = Feed::default();
        for tick in 0..700_u32 {
            // The last one is pushed to for a while only.
            for series in &all[usize::from(tick % 400 > 200)..] {
                series.push(f64::from(tick), &[1.0]);
            }
            let mut tell = Vec::new();
            table.sample(&base, &mut tell);
            feed.take(tell);
            for slot in [1, 60, 119].into_iter().filter(|_| tick % 7 == 0) {
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
    fn a_series_that_finds_no_place_is_counted_and_those_of_jobs_that_went_make_way() {
        let base = Base::new(|| ());
        let of = |job, count| (0..count).map(|n| State::new(&base, job, "a".into(), n)).collect();
        let mut table = SeriesTable::default();
        assert_eq!(table.add(of(Some(1), 600), |_| true), 0);
        assert_eq!(table.add(of(None, 600), |_| true), 200);
        assert_eq!(table.add(of(Some(2), 601), |job| job != Some(1)), 1);
        assert_eq!(table.shown.len(), SERIES_MAX);
    }
}
