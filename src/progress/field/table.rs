//! The fields that the sampler shows.

use std::collections::HashSet;
use std::sync::Arc;

use crate::progress::field::state::State;
use crate::progress::line::line;
use crate::progress::tell::Tell;

/// The most fields of a run. Those of jobs that have ended make way.
pub(crate) const FIELDS_MAX: usize = 64;

/// The seconds between two copies of a field that nobody watches, and of one that was not taken for
/// want of memory.
const UNWATCHED: f64 = 0.95;
const REFUSED: f64 = 10.0;

/// The seconds after which a field that was asked for a copy counts as one that is not shown now.
const ANSWERS: f64 = 1.0;

#[derive(Debug)]
pub(crate) struct Fields {
    /// A field's key has the number of its place, from 1 on.
    shown: Vec<Shown>,
    /// When copies were last asked for.
    asked: f64,
    /// The most bytes of copies that are asked for at once.
    most: usize,
    /// The place that the next sample asks first.
    first: usize,
}

#[derive(Debug)]
struct Shown {
    state: Arc<State>,
    changes: u32,
    /// The bytes of the last copy, once there was one.
    bytes: Option<usize>,
    /// When the copy was asked for that has not come.
    asked_at: Option<f64>,
    /// Whether the model has not shown the field for a while.
    is_silent: bool,
    /// The time before which no copy is asked for.
    rests_until: f64,
    /// Whether viewers may have a copy of a field that had this place before.
    has_old: bool,
}

impl Shown {
    fn new(state: Arc<State>) -> Self {
        Self {
            state,
            changes: 0,
            bytes: None,
            asked_at: None,
            is_silent: false,
            rests_until: 0.0,
            has_old: false,
        }
    }
}

impl Fields {
    /// `most`: the most bytes of copies that are asked for at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { shown: Vec::new(), asked: f64::NEG_INFINITY, most, first: 0 }
    }

    /// Takes new fields on. Returns whether one finds no place.
    pub(crate) fn add(&mut self, new: Vec<Arc<State>>, is_open: impl Fn(u64) -> bool) -> bool {
        let mut new = new.into_iter();
        self.shown.extend(new.by_ref().take(FIELDS_MAX - self.shown.len()).map(Shown::new));
        if new.len() == 0 {
            return false;
        }
        let mut over: Vec<&mut Shown> =
            self.shown.iter_mut().filter(|shown| !is_open(shown.state.job)).collect();
        over.sort_unstable_by_key(|shown| shown.state.id);
        for place in over {
            let Some(state) = new.next() else { return false };
            let has_old = place.has_old || place.bytes.is_some();
            *place = Shown { has_old, ..Shown::new(state) };
        }
        new.len() > 0
    }

    /// Tells of what was copied since, and asks for more: at once if somebody watches fields.
    pub(crate) fn sample(&mut self, now: f64, is_watched: bool, tell: &mut Vec<Tell>) {
        for (shown, slot) in self.shown.iter_mut().zip(1..) {
            if std::mem::take(&mut shown.has_old) {
                tell.push(Tell::DropData { key: data_key(slot) });
            }
            let changes = shown.state.changes();
            if std::mem::replace(&mut shown.changes, changes) != changes {
                let line = line(|out| shown.state.write(slot, out));
                tell.push(Tell::SetField { key: field_key(slot), line });
            }
            if let Some(bytes) = shown.state.take() {
                (shown.bytes, shown.asked_at, shown.is_silent) = (Some(bytes.len()), None, false);
                tell.push(Tell::SetData { key: data_key(slot), bytes });
            }
        }
        if is_watched || now - self.asked >= UNWATCHED {
            self.asked = now;
            self.ask(now);
        }
    }

    /// Asks for copies in turn, as many as the bytes are for. A field whose size nobody knows yet is
    /// asked alone, and one that has not answered for a while keeps nobody from being asked.
    fn ask(&mut self, now: f64) {
        let (count, most) = (self.shown.len(), self.most);
        let size = |shown: &Shown| if shown.is_silent { 0 } else { shown.bytes.unwrap_or(most) };
        for shown in &mut self.shown {
            shown.is_silent |= shown.asked_at.is_some_and(|at| now - at >= ANSWERS);
        }
        let asked = self.shown.iter().filter(|shown| shown.asked_at.is_some());
        let (mut bytes, mut first) = (asked.map(size).sum::<usize>(), None);
        for turn in 0..count {
            let place = (self.first + turn) % count;
            let shown = &mut self.shown[place];
            if shown.asked_at.is_some() || now < shown.rests_until {
                continue;
            }
            let more = size(shown);
            if bytes > 0 && bytes.saturating_add(more) > most {
                first.get_or_insert(place); // the next sample begins here
                continue;
            }
            bytes = bytes.saturating_add(more);
            shown.asked_at = Some(now);
            shown.state.ask();
        }
        self.first = first.unwrap_or(self.first);
    }

    /// Has later samples tell the values of these keys again, since the feed has not taken them.
    pub(crate) fn tell_again(&mut self, keys: &HashSet<String>, now: f64) {
        for (shown, slot) in self.shown.iter_mut().zip(1..) {
            if keys.contains(&field_key(slot)) {
                shown.changes = shown.changes.wrapping_sub(1);
            }
            if keys.contains(&data_key(slot)) {
                shown.rests_until = now + REFUSED;
                shown.state.warn_of_memory();
            }
        }
    }
}

fn field_key(slot: u64) -> String {
    format!("field/{slot}")
}

fn data_key(slot: u64) -> String {
    format!("data/{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::base::Base;

    #[test]
    fn a_field_that_finds_no_place_is_counted_and_those_of_jobs_that_ended_make_way() {
        let base = Base::new(|| ());
        let fields = |job, count| (0..count).map(|_| State::new(&base, job, "u".into())).collect();
        let mut table = Fields::new(1 << 20);
        assert!(!table.add(fields(1, 40), |_| true));
        assert!(table.add(fields(2, 40), |_| true));
        assert!(table.add(fields(3, 25), |job| job != 2));
        assert!(table.shown.iter().all(|shown| shown.state.job != 2));
        assert_eq!(table.shown.len(), FIELDS_MAX);
    }

    #[test]
    fn a_field_is_copied_at_each_sample_while_it_is_watched_and_once_a_second_otherwise() {
        let field = State::new(&Base::new(|| ()), 1, "u".into());
        let mut table = Fields::new(1 << 20);
        table.add(vec![Arc::clone(&field)], |_| true);
        let mut copies = |is_watched: bool, from: f64| {
            let mut tell = Vec::new();
            for tick in 0..20 {
                table.sample(from + f64::from(tick) / 10.0, is_watched, &mut tell);
                field.put([1, 1], &[1.0], || 0.0).unwrap();
            }
            tell.iter().filter(|tell| matches!(tell, Tell::SetData { .. })).count()
        };
        assert_eq!(copies(false, 1.0), 2);
        assert_eq!(copies(true, 3.0), 19);
    }

    #[test]
    fn fields_that_are_too_large_together_are_copied_in_turn() {
        let base = Base::new(|| ());
        let fields: Vec<_> = (0..4).map(|_| State::new(&base, 1, "u".into())).collect();
        let mut table = Fields::new(10_000);
        table.add(fields.clone(), |_| true);
        let values = vec![0.0_f32; 1000];
        let mut copied = [0; 4];
        for tick in 0..44 {
            let mut tell = Vec::new();
            table.sample(f64::from(tick) / 10.0, true, &mut tell);
            let mut bytes = 0;
            for tell in tell {
                if let Tell::SetData { key, bytes: copy } = tell {
                    let slot: usize = key.strip_prefix("data/").unwrap().parse().unwrap();
                    copied[slot - 1] += 1;
                    bytes += copy.len();
                }
            }
            assert!(bytes <= 10_000, "{bytes} at once");
            for field in &fields {
                field.put([10, 100], &values, || 0.0).unwrap();
            }
        }
        assert!(copied.iter().all(|count| (18..=24).contains(count)), "{copied:?}");
    }

    #[test]
    fn a_field_that_is_not_shown_any_more_keeps_no_other_from_being_copied() {
        let base = Base::new(|| ());
        let of = |job| State::new(&base, job, "u".into());
        let (never, dead, [one, other]) = (of(1), of(2), [of(3), of(4)]);
        let mut table = Fields::new(10_000);
        let values = vec![0.0_f32; 2000]; // two do not fit
        let mut copied = [0; 4];
        let show = |field: &State| field.put([20, 100], &values, || 0.0).unwrap();
        table.add(vec![Arc::clone(&never), Arc::clone(&dead), Arc::clone(&one)], |_| true);
        for tick in 0..100 {
            if tick == 20 {
                table.add(vec![Arc::clone(&other)], |_| true);
            }
            let mut tell = Vec::new();
            table.sample(f64::from(tick) / 10.0, true, &mut tell);
            for tell in tell {
                if let Tell::SetData { key, .. } = tell {
                    let slot: usize = key.strip_prefix("data/").unwrap().parse().unwrap();
                    copied[slot - 1] += 1;
                }
            }
            if tick < 20 {
                show(&dead);
            }
            show(&one);
            if tick >= 20 {
                show(&other);
            }
        }
        assert_eq!(copied[0], 0);
        assert!(copied[2] > 30 && copied[3] > 25, "{copied:?}");
    }

    #[test]
    fn a_copy_that_was_not_taken_is_not_made_again_at_once_and_the_log_says_so() {
        let base = Base::new(|| ());
        let field = State::new(&base, 1, "u".into());
        let mut table = Fields::new(1 << 20);
        table.add(vec![Arc::clone(&field)], |_| true);
        let mut copies = 0;
        for tick in 0..200 {
            let (mut tell, now) = (Vec::new(), f64::from(tick) / 10.0);
            table.sample(now, true, &mut tell);
            for tell in tell {
                if let Tell::SetData { key, .. } = tell {
                    copies += 1;
                    table.tell_again(&HashSet::from([key]), now);
                }
            }
            field.put([1, 1], &[1.0], || 0.0).unwrap();
        }
        // The next copy is on its way when the last is refused.
        assert_eq!((copies, base.take_log().0.len()), (4, 1));
    }

    #[test]
    fn what_had_a_place_before_is_dropped_from_it() {
        let base = Base::new(|| ());
        let of = |job| -> Vec<_> {
            (0..FIELDS_MAX).map(|_| State::new(&base, job, "u".into())).collect()
        };
        let mut table = Fields::new(1 << 20);
        let (old, mut tell) = (of(1), Vec::new());
        table.add(old.clone(), |_| true);
        table.sample(1.0, true, &mut tell);
        old[0].put([1, 1], &[1.0], || 0.0).unwrap();
        table.sample(1.1, true, &mut tell);
        tell.clear();
        table.add(of(2), |job| job == 2);
        table.sample(1.2, true, &mut tell);
        let dropped = tell.iter().filter(|tell| matches!(tell, Tell::DropData { .. })).count();
        assert_eq!(dropped, 1);
        assert_eq!(tell[0], Tell::DropData { key: "data/1".to_owned() });
    }
}
