//! What a terminal shows of a run: a pure function of the run's lines, the time, and the room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde_json::Value;

use crate::progress::line::{three_digits, write_number};

/// The characters of a bar.
const BAR: usize = 20;

/// The deepest indentation of a job below its parents.
const DEPTH: usize = 8;

/// The run as its lines say.
#[derive(Debug, Default)]
pub(crate) struct View {
    jobs: BTreeMap<u64, Job>,
    reports: HashMap<u64, Report>,
    /// The job that has each key.
    slots: HashMap<u64, u64>,
    /// The lines of the log that were not shown yet.
    log: Vec<String>,
    end: Option<String>,
}

#[derive(Debug)]
struct Job {
    parent: Option<u64>,
    title: String,
    unit: String,
    status: String,
    message: String,
    total: Option<f64>,
    origin: f64,
    /// The position of a job that has ended, or that has not moved.
    position: f64,
    /// The mean rate of a job that has ended.
    rate: Option<f64>,
    started: u64,
    ended: Option<u64>,
}

#[derive(Debug)]
struct Report {
    at: u64,
    position: f64,
    rate: Option<f64>,
    eta: Option<f64>,
    idle: Option<f64>,
}

impl Job {
    fn of(job: &Value) -> Self {
        let text = |name: &str| shown(job[name].as_str().unwrap_or_default());
        let origin = job["origin"].as_f64().unwrap_or(0.0);
        let initial = job["initial"].as_f64().unwrap_or(origin);
        Self {
            parent: job["parent"].as_u64(),
            title: text("title"),
            unit: text("unit"),
            status: text("status"),
            message: text("message"),
            total: job["total"].as_f64(),
            origin,
            position: job["progress"].as_f64().unwrap_or(initial),
            rate: job["rate"].as_f64(),
            started: job["started"].as_u64().unwrap_or(0),
            ended: job["ended"].as_u64(),
        }
    }

    /// Which jobs come first where there is not room for all.
    fn rank(&self) -> u8 {
        match self.status.as_str() {
            "working" | "cancelling" => 0,
            "paused" => 1,
            "queued" => 2,
            _ => 3,
        }
    }
}

impl View {
    /// Takes one recorded line. A line that means nothing here is left out.
    pub(crate) fn take(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        let at = line["at"].as_u64().unwrap_or(0);
        if let Some(job) = line.get("job") {
            self.take_job(job);
        } else if let Some(report) = line.get("report") {
            let number = |name: &str| report[name].as_f64();
            let report_of = Report {
                at,
                position: number("progress").unwrap_or(0.0),
                rate: number("rate"),
                eta: number("eta"),
                idle: number("idle"),
            };
            self.reports.insert(report["id"].as_u64().unwrap_or(0), report_of);
        } else if let Some(log) = line.get("log") {
            self.take_log(log);
        } else if let Some(lost) = line.get("lost") {
            // The whole state follows.
            (self.jobs, self.reports, self.slots) = Default::default();
            self.log.push(format!("({lost} lines were lost)"));
        } else if let Some(end) = line.get("end") {
            let (how, reason) = (&end["how"], end["reason"].as_str().unwrap_or_default());
            let how = how.as_str().unwrap_or_default();
            self.end = Some(if how == "ended" {
                String::new()
            } else {
                format!("{how}: {}", shown(reason))
            });
        }
    }

    fn take_job(&mut self, job: &Value) {
        let id = job["id"].as_u64().unwrap_or(0);
        if let Some(before) = job["slot"].as_u64().and_then(|slot| self.slots.insert(slot, id)) {
            if before != id {
                self.jobs.remove(&before);
                self.reports.remove(&before);
            }
        }
        let job = Job::of(job);
        if job.ended.is_some() {
            self.reports.remove(&id);
        }
        self.jobs.insert(id, job);
    }

    fn take_log(&mut self, log: &Value) {
        if let Some(lost) = log.get("lost") {
            return self.log.push(format!("({lost} lines of the log were lost)"));
        }
        let level = log["level"].as_str().unwrap_or_default().to_uppercase();
        for line in log["text"].as_str().unwrap_or_default().lines() {
            self.log.push(format!("{level:5} {}", shown(line)));
        }
    }

    /// Returns the lines of the log since the last call.
    pub(crate) fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Returns how the run has ended, if it has: in words, or nothing.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Returns a line for each job, in at most `height` lines. Where more jobs are than lines,
    /// active and new jobs come first, and the last line counts the others.
    pub(crate) fn bars(&self, now: u64, height: usize) -> Vec<String> {
        let mut jobs: Vec<(u64, &Job)> = self.jobs.iter().map(|(id, job)| (*id, job)).collect();
        let mut hidden = 0;
        if jobs.len() > height {
            let kept = height.saturating_sub(1);
            hidden = jobs.len() - kept;
            jobs.select_nth_unstable_by_key(kept, |(id, job)| (job.rank(), Reverse(*id)));
            jobs.truncate(kept);
        }
        let mut rows: Vec<_> = jobs.into_iter().map(|(id, job)| (self.path(id), id, job)).collect();
        rows.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let line = |(path, id, job): &(Vec<u64>, u64, &Job)| {
            format!("{}{}", "  ".repeat(path.len() - 1), self.bar(*id, job, now))
        };
        let mut lines: Vec<String> = rows.iter().map(line).collect();
        if hidden > 0 {
            lines.push(format!("… and {hidden} more"));
        }
        lines
    }

    /// The job and those that it is a part of, from the topmost.
    fn path(&self, id: u64) -> Vec<u64> {
        let parent =
            |id: &u64| self.jobs.get(id)?.parent.filter(|parent| self.jobs.contains_key(parent));
        let mut path: Vec<u64> = std::iter::successors(Some(id), parent).take(DEPTH).collect();
        path.reverse();
        path
    }

    fn bar(&self, id: u64, job: &Job, now: u64) -> String {
        let report = self.reports.get(&id);
        let position = report.map_or(job.position, |report| report.position);
        let mut bar = job.title.clone();
        if let (Some(total), None) = (job.total, job.ended) {
            let share = (position - job.origin) / (total - job.origin);
            let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
            let full = (0..BAR).take_while(|cell| (*cell as f64 + 0.5) / BAR as f64 <= share);
            let full = full.count();
            let _ = write!(
                bar,
                "  {}{} {:3.0} %  {}/{}",
                "█".repeat(full),
                "░".repeat(BAR - full),
                (share * 100.0).floor(),
                number(position),
                number(total)
            );
        } else {
            if job.ended.is_some() || job.status != "working" {
                let _ = write!(bar, "  {}", job.status);
            }
            let _ = write!(bar, "  {}", number(position));
        }
        let unit = if job.unit.is_empty() { String::new() } else { format!(" {}", job.unit) };
        bar.push_str(&unit);
        let since = |at: u64| now.saturating_sub(at) as f64 / 1000.0;
        if let Some(ended) = job.ended {
            let took = ended.saturating_sub(job.started) as f64 / 1000.0;
            let _ = write!(bar, " in {}", duration(took));
        }
        if let Some(rate) = job.rate.or(report.and_then(|report| report.rate)) {
            let _ = write!(bar, "  {}{unit}/s", number(three_digits(rate)));
        }
        if let Some((report, true)) = report.map(|report| (report, job.status == "working")) {
            if let Some(idle) = report.idle {
                let _ = write!(bar, "  no step for {}", duration(idle + since(report.at)));
            }
            if let Some(eta) = report.eta {
                let _ = write!(bar, "  {} left", duration((eta - since(report.at)).max(0.0)));
            }
        } else if job.total.is_some() && job.ended.is_none() {
            let _ = write!(bar, "  {}", job.status);
        }
        if !job.message.is_empty() {
            let _ = write!(bar, "  {}", job.message);
        }
        bar
    }
}

fn number(number: f64) -> String {
    let mut out = Vec::new();
    write_number(&mut out, number);
    String::from_utf8(out).unwrap_or_default() // digits
}

/// The duration in words, to the second: `42 s`, `1:15`, `2:03:40`, `3 d 04 h`.
fn duration(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    let seconds = seconds.as_secs();
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3600);
    match hours {
        0 if seconds < 60 => format!("{seconds} s"),
        0 => format!("{minutes}:{:02}", seconds % 60),
        1..48 => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{} d {:02} h", hours / 24, hours % 24),
    }
}

/// The text without what a terminal would obey: control characters are escaped, also those that
/// turn the direction of the text.
fn shown(text: &str) -> String {
    let is_safe = |char: char| {
        !char.is_control()
            && !matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if is_safe(char) {
            shown.push(char);
        } else if char == '\t' {
            shown.push_str("    ");
        } else {
            shown.extend(char.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lines: &[&str]) -> View {
        let mut view = View::default();
        for line in lines {
            view.take(line.as_bytes());
        }
        view
    }

    #[test]
    fn a_job_is_a_bar_with_its_rate_and_eta_and_its_children_are_indented_under_it() {
        let view = view(&[
            r#"{"at":1000,"job":{"id":1,"title":"time loop","unit":"steps","status":"working","total":1000,"message":"assembling","started":0}}"#,
            r#"{"at":1000,"job":{"id":2,"title":"output","status":"queued","total":10,"started":0}}"#,
            r#"{"at":1000,"job":{"id":3,"parent":1,"title":"solve","status":"working","started":0}}"#,
            r#"{"at":2000,"report":{"id":1,"progress":412,"rate":7.812,"eta":75.4}}"#,
            r#"{"at":2000,"report":{"id":3,"progress":4,"idle":31,"usual":2}}"#,
        ]);
        assert_eq!(
            view.bars(3000, 10),
            [
                "time loop  ████████░░░░░░░░░░░░  41 %  412/1000 steps  7.81 steps/s  1:14 left  assembling",
                "  solve  4  no step for 32 s",
                "output  ░░░░░░░░░░░░░░░░░░░░   0 %  0/10  queued",
            ]
        );
    }

    #[test]
    fn an_ended_job_is_one_line_and_a_job_that_takes_its_key_takes_its_place() {
        let ended = r#"{"at":9,"job":{"slot":1,"id":1,"title":"a","unit":"rows","status":"failed","total":9,"started":1000,"ended":3661000,"progress":7,"rate":0.25,"message":"NaN"}}"#;
        let next = r#"{"at":9,"job":{"slot":1,"id":2,"title":"b","status":"working","started":1}}"#;
        let report = r#"{"at":8,"report":{"id":1,"progress":6}}"#;
        assert_eq!(
            view(&[report, ended]).bars(0, 9),
            ["a  failed  7 rows in 1:01:00  0.25 rows/s  NaN"]
        );
        assert_eq!(view(&[ended, next]).bars(0, 9), ["b  0"]);
        let lost = r#"{"at":9,"lost":3}"#;
        let mut view = view(&[ended, lost]);
        assert!(view.bars(0, 9).is_empty());
        assert_eq!(view.log(), ["(3 lines were lost)"]);
    }

    #[test]
    fn a_thousand_jobs_take_the_lines_that_there_are_and_active_and_new_ones_come_first() {
        let mut view = View::default();
        for id in 1..=1000_u64 {
            let state = match id {
                7 | 500 => r#""working""#,
                8 => r#""queued""#,
                _ => r#""completed","ended":2"#,
            };
            let line = format!(
                r#"{{"at":1,"job":{{"slot":{id},"id":{id},"title":"job {id}","status":{state},"started":1}}}}"#
            );
            view.take(line.as_bytes());
        }
        let bars = view.bars(0, 6);
        let titles: Vec<_> = bars.iter().map(|bar| bar.split("  ").next().unwrap()).collect();
        assert_eq!(titles, ["job 7", "job 8", "job 500", "job 999", "job 1000", "… and 995 more"]);
        for height in 0..3 {
            assert!(view.bars(0, height).len() <= height.max(1));
        }
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_shown() {
        let mut view = view(&[
            r#"{"at":1,"log":{"at":1,"level":"warn","text":"red \u001b[31m\u0007\r\nsecond\tline \u202e\u009b2J"}}"#,
            r#"{"at":1,"job":{"id":1,"title":"\u001b]0;x\u0007","status":"working","started":1,"message":"a\nb"}}"#,
            r#"{"at":1,"end":{"how":"failed","reason":"\u001b[2J"}}"#,
            "no JSON",
            r#"{"at":1,"colour":{}}"#,
            r#"{"at":1,"job":7}"#,
        ]);
        let all = [view.log(), view.bars(0, 9), vec![view.end().unwrap().to_owned()]].concat();
        assert!(all.iter().all(|line| !line.contains(char::is_control)), "{all:?}");
        assert_eq!(all[0], r"WARN  red \u{1b}[31m\u{7}");
        assert_eq!(all[1], r"WARN  second    line \u{202e}\u{9b}2J");
    }

    #[test]
    fn numbers_that_make_no_sense_are_shown_without_harm() {
        let view = view(&[
            r#"{"at":1,"job":{"id":1,"title":"a","status":"working","total":0,"started":9e9,"parent":1}}"#,
            r#"{"at":1,"report":{"id":1,"progress":-5,"eta":1e300,"rate":1e300}}"#,
        ]);
        assert_eq!(view.bars(0, 9).len(), 1, "{:?}", view.bars(0, 9));
        assert_eq!(duration(1e300), "0 s");
        assert_eq!((duration(59.6), duration(3600.0 * 50.0)), ("1:00".into(), "2 d 02 h".into()));
    }
}
