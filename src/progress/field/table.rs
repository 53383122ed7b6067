//! The fields that the sampler shows.

use std::sync::Arc;

use crate::progress::field::state::State;
use crate::progress::line::line;
use crate::progress::tell::Tell;

/// The most fields of a run. The fields of jobs that are shown no more make way.
pub(crate) const FIELDS_MAX: usize = 64;

/// The seconds between two copies of a field that nobody watches.
const UNWATCHED: f64 = 1.0;

#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// A field's key has the number of its place, from 1 on.
    shown: Vec<Shown>,
    /// When copies were last asked for.
    asked: f64,
}

#[derive(Debug)]
struct Shown {
    state: Arc<State>,
    changes: u32,
}

impl Fields {
    /// Takes new fields on. Returns how many find no place.
    pub(crate) fn add(&mut self, new: Vec<Arc<State>>, is_shown: impl Fn(u64) -> bool) -> usize {
        let mut new = new.into_iter().map(|state| Shown { state, changes: 0 });
        self.shown.extend(new.by_ref().take(FIELDS_MAX - self.shown.len()));
        let gone = self.shown.iter_mut().filter(|old| !is_shown(old.state.job));
        for (place, shown) in gone.zip(new.by_ref()) {
            *place = shown;
        }
        new.count()
    }

    /// Tells of what was copied since, and asks for more: at once if somebody watches fields.
    pub(crate) fn sample(&mut self, now: f64, is_watched: bool, tell: &mut Vec<Tell>) {
        let asks = is_watched || now - self.asked >= UNWATCHED;
        if asks {
            self.asked = now;
        }
        for (shown, slot) in self.shown.iter_mut().zip(1..) {
            let changes = shown.state.changes();
            if std::mem::replace(&mut shown.changes, changes) != changes {
                let line = line(|out| shown.state.write(slot, out));
                tell.push(Tell::SetField { key: format!("field/{slot}"), line });
            }
            if let Some(bytes) = shown.state.take() {
                tell.push(Tell::SetData { key: format!("data/{slot}"), bytes });
            }
            if asks {
                shown.state.ask();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::base::Base;

    #[test]
    fn a_field_that_finds_no_place_is_counted_and_those_of_jobs_that_went_make_way() {
        let base = Base::new(|| ());
        let fields = |job, count| (0..count).map(|_| State::new(&base, job, "u".into())).collect();
        let mut table = Fields::default();
        assert_eq!(table.add(fields(1, 40), |_| true), 0);
        assert_eq!(table.add(fields(2, 40), |_| true), 16);
        assert_eq!(table.add(fields(3, 25), |job| job != 2), 1);
        assert_eq!(table.shown.len(), FIELDS_MAX);
    }

    #[test]
    fn a_field_is_copied_at_each_sample_while_it_is_watched_and_once_a_second_otherwise() {
        let field = State::new(&Base::new(|| ()), 1, "u".into());
        let mut table = Fields::default();
        table.add(vec![Arc::clone(&field)], |_| true);
        let mut copies = |is_watched: bool, from: f64| {
            let mut tell = Vec::new();
            for tick in 0..20 {
                field.put([1, 1], &[1.0], || 0.0).unwrap();
                table.sample(from + f64::from(tick) / 10.0, is_watched, &mut tell);
            }
            tell.iter().filter(|tell| matches!(tell, Tell::SetData { .. })).count()
        };
        assert_eq!(copies(false, 1.0), 3);
        assert_eq!(copies(true, 3.0), 19);
    }
}
