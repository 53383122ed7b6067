//! Observers of the run: they are told all that viewers are told, as lines with a moment in front.
//!
//! An observer begins with the whole state. A line that finds no room is lost, and so are all later
//! ones, until the observer has taken what waits for it. Then it is told how many lines were lost,
//! and the whole state again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::hub::primitives::lock::Lock;
use crate::progress::line::{Object, write_stamped};
use crate::progress::outlet::Outlet;
use crate::progress::tell::Tell;

#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// Whether there are any.
    any: AtomicBool,
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    observers: Vec<Observer>,
    /// Whether the run has ended.
    has_ended: bool,
}

#[derive(Debug)]
pub(crate) struct Observer {
    outlet: Arc<Outlet>,
    /// The milliseconds between two reports of one job.
    report_every: u64,
    /// Whether the observer has to be told the whole state.
    is_stale: bool,
    lost: u64,
    /// When reports were last told.
    reported: u64,
    /// The reports since then, by their slots.
    reports: BTreeMap<String, (u64, String)>,
}

impl Observers {
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Takes an observer on. Returns `false`, and closes the outlet, if the run has ended.
    pub(crate) fn add(&self, outlet: Arc<Outlet>, report_every: u64) -> bool {
        let mut state = self.state.lock();
        if state.has_ended {
            outlet.close();
            return false;
        }
        self.any.store(true, Ordering::Relaxed);
        state.observers.push(Observer {
            outlet,
            report_every,
            is_stale: true,
            lost: 0,
            reported: 0,
            reports: BTreeMap::new(),
        });
        true
    }

    /// Tells all observers what viewers are told. `whole` returns the whole state. Returns whether
    /// an observer has lost lines, and waits for the state.
    pub(crate) fn tell(&self, at: u64, tell: &[Tell], whole: impl Fn() -> Vec<Tell>) -> bool {
        if !self.is_any() {
            return false;
        }
        let mut state = self.state.lock();
        state.observers.retain(|observer| !observer.outlet.is_over());
        self.any.store(!state.observers.is_empty(), Ordering::Relaxed);
        for observer in &mut state.observers {
            observer.tell(at, tell, &whole);
        }
        state.observers.iter().any(|observer| observer.is_stale)
    }

    /// Tells all observers how the run has ended. That is the last line.
    pub(crate) fn end(&self, at: u64, how: &str, reason: &str, whole: impl Fn() -> Vec<Tell>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.has_ended, true) {
            return;
        }
        for observer in &mut state.observers {
            observer.end(at, how, reason, &whole);
        }
    }

    /// Waits until then for observers that have been told of the end.
    pub(crate) fn wait(&self, by: Instant) {
        let all = std::mem::take(&mut self.state.lock().observers);
        for observer in all {
            observer.outlet.wait(by); // without the lock
        }
    }
}

impl Observer {
    fn tell(&mut self, at: u64, tell: &[Tell], whole: &impl Fn() -> Vec<Tell>) {
        if self.is_stale {
            if self.outlet.waiting() == 0 {
                self.catch_up(at, tell, whole);
            } else {
                self.lost += tell.iter().filter(|tell| !tell.is_state()).count() as u64;
            }
            return;
        }
        for tell in tell {
            self.tell_one(at, tell);
        }
        if at >= self.reported + self.report_every {
            self.reported = at;
            for (at, line) in std::mem::take(&mut self.reports).into_values() {
                self.say(|out| write_stamped(out, at, &line));
            }
        }
    }

    fn tell_one(&mut self, at: u64, tell: &Tell) {
        match tell {
            Tell::Set { key, line } => {
                if let Some(slot) = key.strip_prefix("report/") {
                    self.reports.insert(slot.to_owned(), (at, line.clone()));
                    return;
                }
                // What is said of the job in this slot comes in its order.
                let report = key.strip_prefix("job/").and_then(|slot| self.reports.remove(slot));
                if let Some((at, line)) = report {
                    self.say(|out| write_stamped(out, at, &line));
                }
                self.say(|out| write_stamped(out, at, line));
            }
            // The points have been told one by one, and fields are not recorded.
            Tell::SetSeries { is_new: false, .. }
            | Tell::SetField { .. }
            | Tell::SetData { .. } => {}
            _ => self.say(|out| write(out, at, tell)),
        }
    }

    /// Says this, or counts it as lost.
    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut line = Vec::new();
        write(&mut line);
        if self.is_stale || !self.outlet.push(&line) {
            self.is_stale = true;
            self.lost += 1;
        }
    }

    /// Says how many lines were lost, what of these is no state, and the whole state, whatever room
    /// there is.
    fn catch_up(&mut self, at: u64, tell: &[Tell], whole: &impl Fn() -> Vec<Tell>) {
        let mut lines = Vec::new();
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            write_stamped(&mut lines, at, &format!("{{\"lost\":{lost}}}"));
        }
        for tell in tell.iter().filter(|tell| !tell.is_state()).chain(whole().iter()) {
            write(&mut lines, at, tell);
        }
        self.outlet.push_all(&lines);
        self.is_stale = false;
        self.reports.clear();
        self.reported = at;
    }

    fn end(&mut self, at: u64, how: &str, reason: &str, whole: &impl Fn() -> Vec<Tell>) {
        for (at, line) in std::mem::take(&mut self.reports).into_values() {
            self.say(|out| write_stamped(out, at, &line));
        }
        if self.is_stale {
            self.catch_up(at, &[], whole);
        }
        let mut line = Vec::new();
        let mut end = Object::begin(&mut line, "end");
        end.text("how", how);
        end.text("reason", reason);
        end.end();
        let mut lines = Vec::new();
        write_stamped(&mut lines, at, &String::from_utf8_lossy(&line));
        self.outlet.push_all(&lines);
        self.outlet.close();
    }
}

fn write(out: &mut Vec<u8>, at: u64, tell: &Tell) {
    match tell {
        Tell::Set { line, .. }
        | Tell::Send { line }
        | Tell::SetSeries { line, is_new: true, .. }
        | Tell::Points { line }
        | Tell::SetField { line, .. } => write_stamped(out, at, line),
        Tell::Remove { key } => write_stamped(out, at, &format!("{{\"removed\":\"{key}\"}}")),
        // Who has the series has its points; fields are not recorded.
        Tell::SetSeries { .. } | Tell::SetData { .. } | Tell::DropData { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::hub::primitives::journal::Journal;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    fn set(key: &str, line: &str) -> Tell {
        Tell::Set { key: key.to_owned(), line: line.to_owned() }
    }

    fn send(line: &str) -> Tell {
        Tell::Send { line: line.to_owned() }
    }

    fn report(progress: u64) -> Tell {
        set("report/1", &format!(r#"{{"report":{{"id":1,"progress":{progress}}}}}"#))
    }

    /// Splits a recorded line into its moment and its object.
    fn parts(line: &str) -> (u64, String) {
        let (at, rest) = line.strip_prefix("{\"at\":").unwrap().split_once(',').unwrap();
        (at.parse().unwrap(), format!("{{{rest}"))
    }

    #[test]
    fn a_recording_is_the_lines_that_readers_are_told_to_expect() {
        let fixture = include_str!("../../tests/protocol/recorded.json");
        let fixture: Value = serde_json::from_str(fixture).unwrap();
        let expected: Vec<&str> = fixture["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect();
        let object = |place: usize| parts(expected[place]).1;
        let (recorded, lines) = mpsc::channel();
        let outlet = Outlet::start("recording", Journal::new(), None, move |lines: &[u8]| {
            recorded.send(lines.to_vec()).map_err(io::Error::other)
        });
        let observers = Observers::default();
        assert!(observers.add(outlet.unwrap(), 1000));
        let whole = || {
            let keys = ["run", "job/1", "report/1", "parameter/3"];
            keys.iter().zip(0..).map(|(key, place)| set(key, &object(place))).collect()
        };
        let none = || -> Vec<Tell> { panic!("the state is told once") };
        observers.tell(1_764_320_000_100, &[set("job/1", &object(1))], whole);
        let series = |is_new| {
            let line = object(5);
            Tell::SetSeries { key: "series/1".to_owned(), line, is_new }
        };
        let tell = [
            send(&object(4)),
            report(100),
            series(true),
            Tell::Points { line: object(6) },
            series(false),
            Tell::SetData { key: "data/1".to_owned(), bytes: vec![0; 64] },
        ];
        observers.tell(1_764_320_000_200, &tell, none);
        observers.tell(1_764_320_000_300, &[report(200)], none);
        let removed = Tell::Remove { key: "parameter/3".to_owned() };
        observers.tell(1_764_320_001_200, &[report(412)], none);
        observers.tell(1_764_320_001_200, &[removed], none);
        observers.tell(1_764_320_001_900, &[report(970)], none);
        observers.tell(1_764_320_002_000, &[set("job/1", &object(10))], none);
        observers.end(1_764_320_002_100, "finished", "converged", none);
        observers.end(1_764_320_002_200, "ended", "once more", none);
        observers.wait(soon());
        let lines: Vec<u8> = lines.try_iter().flatten().collect();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_the_whole_state_follows() {
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let (own, waits) = (Arc::clone(&recorded), Mutex::new(may_go_on));
        let outlet = Outlet::start("recording", Journal::new(), None, move |lines: &[u8]| {
            let _ = waits.lock().unwrap().recv_timeout(PATIENCE);
            own.lock().unwrap().extend_from_slice(lines);
            Ok(())
        });
        let outlet = outlet.unwrap();
        let observers = Observers::default();
        assert!(observers.add(Arc::clone(&outlet), 1000));
        let whole = || vec![set("run", r#"{"run":{}}"#)];
        assert!(!observers.tell(1, &[], whole));
        let long = send(&format!(r#"{{"log":{{"text":"{}"}}}}"#, "x".repeat(1 << 20)));
        for _ in 0..100 {
            observers.tell(2, std::slice::from_ref(&long), whole);
            assert!(outlet.waiting() <= 4 << 20, "{}", outlet.waiting());
        }
        assert!(observers.tell(3, &[], whole), "the observer is behind");
        drop(go_on); // from now on the writer does not wait
        let by = soon();
        while outlet.waiting() > 0 {
            assert!(Instant::now() < by, "the writer takes nothing");
            std::thread::yield_now();
        }
        assert!(!observers.tell(4, &[send(r#"{"log":{}}"#)], whole));
        observers.end(5, "failed", "NaN", whole);
        observers.wait(soon());
        let text = String::from_utf8(std::mem::take(&mut *recorded.lock().unwrap())).unwrap();
        let kept = text.lines().filter(|line| line.len() > 1 << 20).count() as u64;
        let short: Vec<&str> = text.lines().filter(|line| line.len() < 1 << 20).collect();
        let lost = format!(r#"{{"at":4,"lost":{}}}"#, 100 - kept);
        assert!((3..100).contains(&kept), "{kept}");
        assert_eq!(
            short,
            [
                r#"{"at":1,"run":{}}"#,
                &lost,
                r#"{"at":4,"log":{}}"#,
                r#"{"at":4,"run":{}}"#,
                r#"{"at":5,"end":{"how":"failed","reason":"NaN"}}"#,
            ]
        );
    }

    #[test]
    fn an_observer_whose_writer_fails_is_let_go() {
        let fails = |_: &[u8]| Err(io::Error::other("the disk is full"));
        let outlet = Outlet::start("recording", Journal::new(), None, fails).unwrap();
        let observers = Observers::default();
        assert!(observers.add(Arc::clone(&outlet), 1000) && observers.is_any());
        observers.tell(1, &[], || vec![set("run", r#"{"run":{}}"#)]);
        outlet.wait(soon());
        observers.tell(2, &[send("{}")], Vec::new);
        assert!(!observers.is_any() && outlet.waiting() == 0);
    }
}
