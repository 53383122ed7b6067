//! The sampler: reads the jobs some times a second, estimates, and says what viewers have to be
//! told. It runs on the hub's thread, has no I/O, and gets the time from outside.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::progress::cell::{Cell, Rest};
use crate::progress::estimate::Estimator;
use crate::progress::field::table::{FIELDS_MAX, Fields};
use crate::progress::line::{Object, four_digits, line, three_digits};
use crate::progress::log::Level;
use crate::progress::registry::{OPEN_MAX, Registry, Shown};
use crate::progress::series::table::{SERIES_MAX, SeriesTable};
use crate::progress::status::JobStatus;
use crate::progress::tell::Tell;

/// The time between two samples while somebody watches.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The same while nobody does: the estimator is kept fed.
pub(crate) const QUIET_TICK: Duration = Duration::from_secs(1);

/// The ended jobs that are shown. Earlier ones are counted.
pub(crate) const ENDED_MAX: usize = 1000;

/// The most reports in one sample. Further jobs come first at the next.
const REPORTS: usize = 1000;

/// What clients follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watched {
    /// Any feed of the run.
    pub(crate) any: bool,
    pub(crate) fields: bool,
}

#[derive(Debug)]
pub(crate) struct Sampler {
    /// The open jobs, in the order of their numbers.
    jobs: Vec<Entry>,
    /// The jobs that have ended, oldest first.
    ended: VecDeque<Ended>,
    slots: Slots,
    run_changes: Option<u64>,
    series: SeriesTable,
    fields: Fields,
    /// Whether the log says that a series or a field has no place.
    has_warned: bool,
    /// The changes of each parameter that viewers know of, by its number.
    parameters: HashMap<u64, u32>,
    /// The job that the next sample begins with.
    first: usize,
}

/// An open job as the sampler knows it.
#[derive(Debug)]
struct Entry {
    cell: Arc<Cell>,
    /// The job's key, from the first sample that sees it open.
    slot: Option<u64>,
    changes: u32,
    seen: Seen,
    /// The time that the job had worked for at the last reset of its ETA.
    since: f64,
    estimator: Estimator,
    report: Option<Report>,
}

/// What the sampler has read of a job's rest.
#[derive(Debug, Clone, Copy)]
struct Seen {
    status: JobStatus,
    started: f64,
    paused_since: Option<f64>,
    paused: f64,
    resets: u32,
}

/// What viewers were last told of a job's progress.
#[derive(Debug, Clone, Copy)]
struct Report {
    at: f64,
    position: f64,
    /// The end that was promised.
    end: Option<f64>,
    is_idle: bool,
}

#[derive(Debug)]
struct Ended {
    id: u64,
    slot: Option<u64>,
    /// The job's line, without its key.
    line: String,
    is_told: bool,
}

/// Returns what a line says, without the name of its kind.
fn content(line: &str) -> &str {
    let begin = line.find(':').map_or(0, |colon| colon + 1);
    line.get(begin..line.len() - 1).unwrap_or_default()
}

fn write_list<'a>(out: &mut Vec<u8>, name: &str, lines: impl Iterator<Item = &'a str>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":[");
    for (place, line) in lines.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(content(line).as_bytes());
    }
    out.push(b']');
}

/// The numbers of the jobs' keys. A key is used again rather than removed: viewers need not be told
/// of removals, however many jobs come and go.
#[derive(Debug, Default)]
struct Slots {
    free: Vec<u64>,
    count: u64,
}

impl Slots {
    fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count
        })
    }
}

/// Returns the line of the job that has this key.
fn in_slot(slot: u64, line: &str) -> String {
    line.replacen("{\"job\":{", &format!("{{\"job\":{{\"slot\":{slot},"), 1)
}

fn job_key(slot: u64) -> String {
    format!("job/{slot}")
}

fn report_key(slot: u64) -> String {
    format!("report/{slot}")
}

fn parameter_key(id: u64) -> String {
    format!("parameter/{id}")
}

const RUN_KEY: &str = "run";

impl Seen {
    fn of(rest: &Rest) -> Self {
        Self {
            status: rest.status,
            started: rest.started,
            paused_since: rest.paused_since,
            paused: rest.paused,
            resets: rest.resets,
        }
    }

    /// The time that the job has worked.
    fn active(&self, now: f64) -> f64 {
        let until = self.paused_since.unwrap_or(now);
        (until - self.started - self.paused).max(0.0)
    }
}

impl Entry {
    fn new(cell: Arc<Cell>) -> Self {
        let (seen, initial) = cell.look(|rest| (Seen::of(rest), rest.initial));
        Self {
            cell,
            slot: None,
            changes: 0,
            seen,
            since: 0.0,
            estimator: Estimator::new(initial),
            report: None,
        }
    }

    /// The time that the estimator counts: the job has worked for so long, or since a reset.
    fn active(&self, now: f64) -> f64 {
        (self.seen.active(now) - self.since).max(0.0)
    }

    fn is_running(&self) -> bool {
        matches!(self.seen.status, JobStatus::Working | JobStatus::Cancelling)
    }

    /// Whether the job has a position to be reported.
    fn has_begun(&self) -> bool {
        self.is_running() || self.seen.status == JobStatus::Paused
    }

    /// Returns the job's rate and ETA, in units per second and seconds, if it is running.
    fn pace(&self, now: f64, position: f64) -> (Option<f64>, Option<f64>) {
        if !self.is_running() {
            return (None, None);
        }
        let (active, total) = (self.active(now), self.cell.total());
        let eta = total.and_then(|total| self.estimator.eta(active, position, total));
        (self.estimator.rate(active, position, total), eta)
    }

    /// Writes what the job is. `progress` is the position, with rate and ETA if the job is open.
    fn write(&self, registry: &Registry, progress: Option<f64>, out: &mut Vec<u8>) {
        let about = &self.cell.about;
        let mut job = Object::begin(out, "job");
        job.whole("id", about.id);
        if let Some(parent) = about.parent {
            job.whole("parent", parent);
        }
        job.text("title", &about.title);
        if !about.unit.is_empty() {
            job.text("unit", &about.unit);
        }
        let has_begun = self.cell.look(|rest| {
            job.text("status", rest.status.name());
            if let Some(total) = self.cell.total() {
                job.number("total", total);
            }
            if rest.origin != 0.0 {
                job.number("origin", rest.origin);
            }
            if rest.initial.to_bits() != rest.origin.to_bits() {
                job.number("initial", rest.initial);
            }
            if !rest.message.is_empty() {
                job.text("message", &rest.message);
            }
            job.whole("started", registry.base.unix(rest.started));
            if rest.paused > 0.0 {
                job.whole("paused", millis(rest.paused));
            }
            if let Some(since) = rest.paused_since {
                job.whole("paused_since", registry.base.unix(since));
            }
            if let Some(ended) = rest.ended {
                job.whole("ended", registry.base.unix(ended));
                job.number("progress", rest.last);
                // A job that is over has its mean rate.
                let active = Seen::of(rest).active(ended);
                if active > 0.0 {
                    job.number("rate", four_digits((rest.last - rest.initial) / active));
                }
            }
            !rest.status.is_final() && rest.status != JobStatus::Queued
        });
        if about.cancellable {
            job.flag("cancellable", true);
        }
        if about.weight.to_bits() != 1.0_f64.to_bits() {
            job.number("weight", about.weight);
        }
        if let (Some(position), true) = (progress, has_begun) {
            let (rate, eta) = self.pace(registry.base.now(), position);
            write_pace(&mut job, position, rate, eta);
        }
        job.end();
    }

    /// Returns what is to be reported now, if anything is.
    fn report(&self, now: f64, position: f64, eta: Option<f64>) -> Option<Report> {
        let is_idle = self.is_running() && self.estimator.is_late(self.active(now));
        let end = eta.map(|eta| now + eta);
        let report = Report { at: now, position, end, is_idle };
        let Some(last) = self.report else { return Some(report) };
        let moved = last.position.to_bits() != position.to_bits();
        let stale = now - last.at >= 1.0
            && match (last.end, end) {
                // Viewers count down by themselves.
                (Some(promised), Some(end)) => {
                    (promised - end).abs() > (0.05 * (end - now)).max(1.0)
                }
                (None, None) => false,
                _ => true,
            };
        (moved || stale || last.is_idle != is_idle).then_some(report)
    }
}

fn write_pace(job: &mut Object<'_>, position: f64, rate: Option<f64>, eta: Option<f64>) {
    job.number("progress", position);
    if let Some(rate) = rate {
        job.number("rate", four_digits(rate));
    }
    if let Some(eta) = eta {
        job.number("eta", if eta < 1000.0 { (eta * 10.0).round() / 10.0 } else { eta.round() });
    }
}

fn millis(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds.max(0.0)).as_millis()).unwrap_or(0)
}

impl Sampler {
    /// `points`: the bytes of messages that the feed of series keeps; `copies`: the most bytes of
    /// copies of fields at once.
    pub(crate) fn new(points: usize, copies: usize) -> Self {
        Self {
            jobs: Vec::new(),
            ended: VecDeque::new(),
            slots: Slots::default(),
            run_changes: None,
            series: SeriesTable::new(points),
            fields: Fields::new(copies),
            has_warned: false,
            parameters: HashMap::new(),
            first: 0,
        }
    }

    /// Reads all jobs at `now`. Returns after how long to be called again; `None`: when
    /// something has changed.
    pub(crate) fn sample(
        &mut self,
        registry: &Registry,
        now: f64,
        watched: Watched,
        tell: &mut Vec<Tell>,
    ) -> Option<Duration> {
        // Before the jobs are taken: the job of each of these is known then.
        let new_shown = registry.take_shown();
        let new = registry.take_jobs();
        let has_news =
            !new.is_empty() || !new_shown.series.is_empty() || !new_shown.fields.is_empty();
        self.add(new);
        self.look_at_jobs(registry, now, watched.any, tell);
        self.tell_of_ends(tell);
        self.add_shown(registry, new_shown);
        // The end of a job is seen above: what it measured before is told of here.
        let has_points = self.series.sample(&registry.base, tell);
        self.fields.sample(now, watched.fields, tell);
        let (log, lost) = registry.base.take_log();
        let has_news = has_news || !log.is_empty();
        if lost > 0 {
            let line = line(|out| {
                let mut log = Object::begin(out, "log");
                log.whole("lost", lost);
                log.end();
            });
            tell.push(Tell::Send { line });
        }
        for entry in log {
            tell.push(Tell::Send { line: line(|out| entry.write(out)) });
        }
        let parameters_have_changed = self.look_at_parameters(registry, tell);
        let changes = registry.run_changes();
        let run_has_changed = self.run_changes.replace(changes) != Some(changes);
        if run_has_changed {
            let line = line(|out| registry.write_run(out));
            tell.push(Tell::Set { key: RUN_KEY.to_owned(), line });
        }
        let has_news = has_news || run_has_changed || parameters_have_changed;
        if self.jobs.is_empty() && !has_points && !has_news {
            return None;
        }
        Some(if watched.any || has_news { TICK } else { QUIET_TICK })
    }

    /// Takes new series and fields on.
    fn add_shown(&mut self, registry: &Registry, new: Shown) {
        let jobs = &self.jobs;
        let is_open =
            |job: u64| jobs.binary_search_by_key(&job, |entry| entry.cell.about.id).is_ok();
        let no_series = self.series.add(new.series, |job| job.is_none_or(is_open));
        let no_field = self.fields.add(new.fields, is_open);
        let lacks_place = new.without_place || no_series || no_field;
        if lacks_place && !std::mem::replace(&mut self.has_warned, true) {
            let text = format!("not shown: series beyond {SERIES_MAX}, fields beyond {FIELDS_MAX}");
            registry.base.log(Level::Warn, None, text.into());
        }
    }

    /// Whether there is a series.
    pub(crate) fn has_series(&self) -> bool {
        self.series.is_used()
    }

    /// Adds jobs, which are in the order of their numbers.
    fn add(&mut self, new: Vec<Arc<Cell>>) {
        let last = self.jobs.last().map_or(0, |entry| entry.cell.about.id);
        let is_in_order = new.first().is_none_or(|first| first.about.id > last);
        self.jobs.extend(new.into_iter().map(Entry::new));
        if !is_in_order {
            self.jobs.sort_by_key(|entry| entry.cell.about.id); // two runs, which are merged
        }
    }

    /// Has the next sample tell the values of these keys again, since the feed has not taken them.
    pub(crate) fn tell_again(&mut self, keys: &HashSet<String>, now: f64) {
        for entry in &mut self.jobs {
            let Some(slot) = entry.slot else { continue };
            if keys.contains(&job_key(slot)) {
                entry.changes = entry.changes.wrapping_sub(1);
            }
            if keys.contains(&report_key(slot)) {
                entry.report = None;
            }
        }
        for ended in &mut self.ended {
            ended.is_told &= !ended.slot.is_some_and(|slot| keys.contains(&job_key(slot)));
        }
        self.parameters.retain(|id, _| !keys.contains(&parameter_key(*id)));
        self.series.tell_again(keys);
        self.fields.tell_again(keys, now);
        if keys.contains(RUN_KEY) {
            self.run_changes = None;
        }
    }

    fn look_at_jobs(
        &mut self,
        registry: &Registry,
        now: f64,
        is_watched: bool,
        tell: &mut Vec<Tell>,
    ) {
        let (count, mut left, mut ended) = (self.jobs.len(), REPORTS, Vec::new());
        let begin = self.first; // of this sample, whatever is noted for the next
        for turn in 0..count {
            let place = (begin + turn) % count;
            let entry = &mut self.jobs[place];
            let changes = entry.cell.changes();
            if changes != entry.changes {
                entry.changes = changes;
                let (before, seen) = (entry.seen, entry.cell.look(Seen::of));
                entry.seen = seen;
                if seen.resets != before.resets {
                    entry.estimator = Estimator::new(entry.cell.position());
                    entry.since = seen.active(now);
                }
                let line = line(|out| entry.write(registry, None, out));
                if seen.status.is_final() {
                    let (id, slot) = (entry.cell.about.id, entry.slot);
                    ended.push(Ended { id, slot, line, is_told: false });
                    continue;
                }
                let slot = *entry.slot.get_or_insert_with(|| self.slots.take());
                tell.push(Tell::Set { key: job_key(slot), line: in_slot(slot, &line) });
            }
            if !entry.has_begun() {
                continue;
            }
            let position = entry.cell.position();
            let (active, total) = (entry.active(now), entry.cell.total());
            if entry.is_running() {
                entry.estimator.observe(active, position, total);
            }
            if !is_watched || left == 0 {
                continue;
            }
            let (rate, eta) = entry.pace(now, position);
            if let Some(report) = entry.report(now, position, eta) {
                left -= 1;
                if left == 0 {
                    self.first = (place + 1) % count;
                }
                let id = entry.cell.about.id;
                let line = line(|out| {
                    let mut object = Object::begin(out, "report");
                    object.whole("id", id);
                    write_pace(&mut object, position, rate, eta);
                    if let Some(eta) = eta.filter(|eta| *eta > 0.0) {
                        let (low, high) = entry.estimator.range(eta);
                        object.number("low", three_digits(low));
                        object.number("high", three_digits(high));
                    }
                    if report.is_idle {
                        object.number("idle", entry.estimator.idle(active).round());
                        object.number("usual", four_digits(entry.estimator.usual()));
                    }
                    object.end();
                });
                entry.report = Some(report);
                if let Some(slot) = entry.slot {
                    tell.push(Tell::Set { key: report_key(slot), line });
                }
            }
        }
        if !ended.is_empty() {
            let before = self.jobs.iter().take(self.first);
            self.first -= before.filter(|entry| entry.seen.status.is_final()).count();
            self.jobs.retain(|entry| !entry.seen.status.is_final());
            ended.sort_unstable_by_key(|ended| ended.id);
            self.ended.extend(ended);
        }
    }

    fn look_at_parameters(&mut self, registry: &Registry, tell: &mut Vec<Tell>) -> bool {
        let (before, mut has_to_say) = (tell.len(), false);
        for parameter in registry.sample_parameters() {
            let (key, changes) = (parameter_key(parameter.id), parameter.changes());
            if let Some(said) = parameter.say(registry.has_ended()) {
                tell.push(Tell::Send { line: line(|out| said.write(out)) });
            }
            has_to_say |= parameter.has_to_say();
            if parameter.is_gone() {
                self.parameters.remove(&parameter.id);
                tell.push(Tell::Remove { key });
            } else if self.parameters.insert(parameter.id, changes) != Some(changes) {
                tell.push(Tell::Set { key, line: line(|out| parameter.write(out)) });
            }
        }
        tell.len() > before || has_to_say
    }

    /// Tells of the newest ends, and of older ones of jobs that viewers know as open. The keys of
    /// what is told and too old to be shown are free.
    fn tell_of_ends(&mut self, tell: &mut Vec<Tell>) {
        while self.ended.len() > ENDED_MAX {
            let may_go = |ended: &Ended| ended.is_told || ended.slot.is_none();
            if !self.ended.front().is_some_and(may_go) && self.ended.len() <= OPEN_MAX {
                break;
            }
            let slot = self.ended.pop_front().and_then(|oldest| oldest.slot);
            self.slots.free.extend(slot);
        }
        let too_old = self.ended.len().saturating_sub(ENDED_MAX);
        for (place, ended) in self.ended.iter_mut().enumerate() {
            if ended.is_told || (place < too_old && ended.slot.is_none()) {
                continue;
            }
            ended.is_told = true;
            let slot = *ended.slot.get_or_insert_with(|| self.slots.take());
            tell.push(Tell::Set { key: job_key(slot), line: in_slot(slot, &ended.line) });
        }
    }

    pub(crate) fn job(&self, id: u64) -> Option<Arc<Cell>> {
        let place = self.jobs.binary_search_by_key(&id, |entry| entry.cell.about.id).ok()?;
        self.jobs.get(place).map(|entry| Arc::clone(&entry.cell))
    }

    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        self.jobs.iter().map(|entry| Arc::clone(&entry.cell)).collect()
    }

    /// Returns all that viewers know, but for fields: the values of the run's feed, and the series.
    pub(crate) fn values(&self, registry: &Registry) -> Vec<Tell> {
        let mut values =
            vec![Tell::Set { key: "run".to_owned(), line: line(|out| registry.write_run(out)) }];
        for ended in &self.ended {
            if let Some(slot) = ended.slot {
                values.push(Tell::Set { key: job_key(slot), line: in_slot(slot, &ended.line) });
            }
        }
        let now = registry.base.now();
        for entry in &self.jobs {
            let Some(slot) = entry.slot else { continue };
            let job = line(|out| entry.write(registry, None, out));
            values.push(Tell::Set { key: job_key(slot), line: in_slot(slot, &job) });
            if entry.seen.status == JobStatus::Queued {
                continue;
            }
            let position = entry.cell.position();
            let (rate, eta) = entry.pace(now, position);
            let line = line(|out| {
                let mut report = Object::begin(out, "report");
                report.whole("id", entry.cell.about.id);
                write_pace(&mut report, position, rate, eta);
                report.end();
            });
            values.push(Tell::Set { key: report_key(slot), line });
        }
        for parameter in registry.parameters() {
            let key = format!("parameter/{}", parameter.id);
            values.push(Tell::Set { key, line: line(|out| parameter.write(out)) });
        }
        values.extend(self.series.values());
        values
    }

    /// Writes the state of the run as one JSON object: what the run is, its jobs with their
    /// progress, its parameters.
    pub(crate) fn write_state(&self, registry: &Registry, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"run\":");
        out.extend_from_slice(content(&line(|out| registry.write_run(out))).as_bytes());
        let too_old = self.ended.len().saturating_sub(ENDED_MAX);
        let ended = self.ended.iter().skip(too_old).map(|ended| (ended.id, ended.line.clone()));
        let open = self.jobs.iter().map(|entry| {
            let position = Some(entry.cell.position());
            (entry.cell.about.id, line(|out| entry.write(registry, position, out)))
        });
        let mut jobs: Vec<(u64, String)> = ended.chain(open).collect();
        jobs.sort_unstable_by_key(|(id, _)| *id);
        write_list(out, "jobs", jobs.iter().map(|(_, line)| line.as_str()));
        let parameters = registry.parameters();
        let parameters: Vec<String> =
            parameters.iter().map(|parameter| line(|out| parameter.write(out))).collect();
        write_list(out, "parameters", parameters.iter().map(String::as_str));
        let series: Vec<String> = self.series.last().collect();
        write_list(out, "series", series.iter().map(String::as_str));
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::job::{Job, JobBuilder};

    const WATCHED: Watched = Watched { any: true, fields: false };

    fn start(registry: &Arc<Registry>) -> Job {
        JobBuilder::new(Some(Arc::clone(registry)), "job".into()).start()
    }

    fn keys(tell: &mut Vec<Tell>) -> Vec<String> {
        let key = |tell| if let Tell::Set { key, .. } = tell { Some(key) } else { None };
        tell.drain(..).filter_map(key).collect()
    }

    #[test]
    fn jobs_are_found_by_their_numbers_also_if_a_sample_came_in_between() {
        let (registry, mut sampler) = (Registry::new(|| ()), Sampler::new(8 << 20, 64 << 20));
        let jobs: Vec<Job> = (0..4).map(|_| start(&registry)).collect();
        let mut cells = registry.take_jobs();
        let late = cells.remove(1);
        sampler.add(cells);
        sampler.add(vec![late]);
        for id in 1..=4 {
            assert_eq!(sampler.job(id).map(|cell| cell.about.id), Some(id));
        }
        assert!(sampler.job(5).is_none());
        drop(jobs);
    }

    #[test]
    fn each_job_is_looked_at_once_in_a_sample_however_many_have_a_report() {
        let (registry, mut sampler) = (Registry::new(|| ()), Sampler::new(8 << 20, 64 << 20));
        let (jobs, mut tell) = ((0..3000).map(|_| start(&registry)), Vec::new());
        let jobs: Vec<Job> = jobs.collect();
        sampler.sample(&registry, 0.0, WATCHED, &mut tell);
        let (told, reports): (Vec<_>, Vec<_>) = keys(&mut tell)
            .into_iter()
            .filter(|key| key != RUN_KEY)
            .partition(|key| key.starts_with("job/"));
        let unlike: HashSet<&String> = told.iter().collect();
        assert_eq!((told.len(), unlike.len(), reports.len()), (3000, 3000, REPORTS));
        // The next samples report of the others.
        let mut reported: HashSet<String> = reports.into_iter().collect();
        for sample in 1..3 {
            sampler.sample(&registry, f64::from(sample) / 10.0, WATCHED, &mut tell);
            reported.extend(keys(&mut tell));
        }
        assert_eq!(reported.len(), 3000);
        drop(jobs);
    }

    #[test]
    fn what_the_feed_refuses_is_told_again() {
        let (registry, mut sampler) = (Registry::new(|| ()), Sampler::new(8 << 20, 64 << 20));
        let mut tell = Vec::new();
        let (open, done) = (start(&registry), start(&registry));
        let parameter = crate::progress::parameter::Parameter::new(
            Some(&registry.base),
            "feed rate".into(),
            0.04,
        );
        registry.add_parameter(parameter.state().unwrap());
        sampler.sample(&registry, 0.0, WATCHED, &mut tell);
        tell.clear();
        done.finish();
        sampler.sample(&registry, 0.1, WATCHED, &mut tell);
        tell.clear();
        sampler.sample(&registry, 0.2, WATCHED, &mut tell);
        assert_eq!(keys(&mut tell), Vec::<String>::new());
        let all = ["job/1", "job/2", "report/1", "parameter/3", "run"].map(str::to_owned);
        sampler.tell_again(&HashSet::from(all.clone()), 0.0);
        sampler.sample(&registry, 0.3, WATCHED, &mut tell);
        let mut again = keys(&mut tell);
        again.sort_unstable();
        assert_eq!(again, ["job/1", "job/2", "parameter/3", "report/1", "run"]);
        drop(open);
    }

    #[test]
    fn a_key_is_not_free_before_the_end_of_its_job_is_told() {
        let (registry, mut sampler) = (Registry::new(|| ()), Sampler::new(8 << 20, 64 << 20));
        let mut tell = Vec::new();
        let first = start(&registry);
        sampler.sample(&registry, 0.0, WATCHED, &mut tell);
        first.finish();
        (0..2 * ENDED_MAX).for_each(|_| start(&registry).finish());
        tell.clear();
        sampler.sample(&registry, 0.1, WATCHED, &mut tell);
        assert!(keys(&mut tell).contains(&"job/1".to_owned()));
        sampler.tell_again(&HashSet::from(["job/1".to_owned()]), 0.0);
        sampler.sample(&registry, 0.2, WATCHED, &mut tell);
        assert_eq!(keys(&mut tell), ["job/1"]);
        sampler.sample(&registry, 0.3, WATCHED, &mut tell);
        assert_eq!((sampler.ended.len(), sampler.slots.free.as_slice()), (ENDED_MAX, &[1][..]));
    }
}
