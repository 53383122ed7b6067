//! Taking turns, and telling what came of it.

use std::fmt;
use std::time::{Duration, Instant};

/// Who takes part.
pub struct Contestant {
    pub name: &'static str,
    /// A floor is no codec: it does a part of the work and is compared with nobody.
    pub is_floor: bool,
    /// Handles so many messages and says how many bytes of payload they had. The first call is
    /// one for every message there is, and is where contents are compared.
    pub run: Box<dyn FnMut(usize) -> usize>,
}

pub struct Options {
    rounds: usize,
    turn: Duration,
    only: Option<String>,
    who: Option<String>,
    size: Option<usize>,
}

impl Options {
    pub fn from_arguments() -> Self {
        let mut options =
            Self { rounds: 31, turn: Duration::from_millis(4), only: None, who: None, size: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| usage(&argument));
            match argument.as_str() {
                "--rounds" => {
                    options.rounds = value().parse().unwrap_or_else(|_| usage("--rounds"))
                }
                "--only" => options.only = Some(value()),
                "--size" => {
                    options.size = Some(value().parse().unwrap_or_else(|_| usage("--size")))
                }
                "--who" => options.who = Some(value()),
                "--smoke" => (options.rounds, options.turn) = (1, Duration::from_micros(100)),
                _ => usage(&argument),
            }
        }
        options
    }

    pub fn wants(&self, work: &str) -> bool {
        self.only.as_ref().is_none_or(|only| work.contains(only.as_str()))
    }
}

fn usage<T>(wrong: &str) -> T {
    eprintln!(
        "cannot make sense of {wrong}; options: --rounds N, --only WORK, --size BYTES, --who NAME, --smoke"
    );
    std::process::exit(2);
}

/// Nanoseconds per message.
#[derive(Clone, Copy)]
struct Result {
    median: f64,
    low: f64,
    high: f64,
}

/// The ends of the names that are compared among themselves: these contestants have work of a kind
/// that the others have not.
const KINDS: [&str; 3] = ["", ", in a task", ", owned"];

/// The best of our ways beside the best of theirs.
pub struct Verdict {
    work: String,
    size: usize,
    ours: (&'static str, f64),
    best: (&'static str, f64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, size, ours: (our_name, ours), best: (name, best) } = self;
        let (size, ratio, ours, best) = (Size(*size), ours / best, Figure(*ours), Figure(*best));
        let bar = if self.size <= 1024 { 1.0 } else { 1.25 };
        let word = if ratio <= bar { "kept" } else { "MISSED" };
        write!(
            f,
            "| {work} | {size} | {our_name}: {ours} | {name}: {best} | {ratio:.2} | {bar:.2} {word} |"
        )
    }
}

/// Runs all contestants at all sizes, and prints a table.
pub fn contest(
    work: &str,
    sizes: &[usize],
    contestants: impl Fn(usize) -> Vec<Contestant>,
    options: &Options,
) -> Vec<Verdict> {
    let sizes: Vec<usize> = sizes
        .iter()
        .copied()
        .filter(|size| options.size.is_none_or(|only| only == *size))
        .collect();
    let mut columns = Vec::new();
    let mut names = Vec::new();
    for &size in &sizes {
        let mut contestants = contestants(size);
        contestants.retain(|c| options.who.as_ref().is_none_or(|who| c.name == who));
        names = contestants.iter().map(|c| (c.name, c.is_floor)).collect();
        columns.push(rounds(&mut contestants, size, options));
    }

    println!("\n## {work}: ns per message, median of {} rounds (middle half)\n", options.rounds);
    print!("| |");
    sizes.iter().for_each(|size| print!(" {} |", Size(*size)));
    print!("\n|---|");
    sizes.iter().for_each(|_| print!("--:|"));
    println!();
    for (row, (name, _)) in names.iter().enumerate() {
        print!("| {name} |");
        for column in &columns {
            let Result { median, low, high } = column[row];
            print!(" {} ({}–{}) |", Figure(median), Figure(low), Figure(high));
        }
        println!();
    }

    let verdict = |kind: &str, column: &[Result], size| {
        let (mut ours, mut best) = (None::<(&'static str, f64)>, None::<(&'static str, f64)>);
        for ((name, is_floor), result) in names.iter().zip(column) {
            let side = if name.starts_with("stepcast") { &mut ours } else { &mut best };
            let is_better = side.is_none_or(|(_, median)| result.median < median);
            if kind_of(name) == kind && !is_floor && is_better {
                *side = Some((name, result.median));
            }
        }
        Some(Verdict { work: format!("{work}{kind}"), size, ours: ours?, best: best? })
    };
    let of_kind = |kind| {
        let columns = columns.iter().zip(&sizes);
        columns.filter_map(move |(column, size)| verdict(kind, column, *size)).collect::<Vec<_>>()
    };
    KINDS.into_iter().flat_map(of_kind).collect()
}

fn kind_of(name: &str) -> &'static str {
    KINDS.into_iter().rfind(|kind| name.ends_with(kind)).unwrap_or_default()
}

fn rounds(contestants: &mut [Contestant], size: usize, options: &Options) -> Vec<Result> {
    let all = crate::wire::messages(crate::Kind::Binary, size).len();
    // How many messages fill a turn, from a first one that also warms up and compares contents.
    let turns: Vec<usize> = contestants
        .iter_mut()
        .map(|contestant| {
            assert_eq!((contestant.run)(all), all * size, "{}", contestant.name);
            let started = Instant::now();
            let mut count = 0;
            while started.elapsed() < options.turn {
                (contestant.run)(all);
                count += all;
            }
            count
        })
        .collect();
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..options.rounds {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            let started = Instant::now();
            let bytes = (contestants[at].run)(turns[at]);
            let elapsed = started.elapsed();
            assert_eq!(bytes, turns[at] * size, "{}", contestants[at].name);
            times[at].push(elapsed.as_nanos() as f64 / turns[at] as f64);
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            Result { median: at(0.5), low: at(0.25), high: at(0.75) }
        })
        .collect()
}

struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 1 << 20 => write!(f, "{} MiB", size >> 20),
            size if size >= 1 << 10 => write!(f, "{} KiB", size >> 10),
            size => write!(f, "{size} B"),
        }
    }
}

struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 100.0 => write!(f, "{ns:.1}"),
            ns => write!(f, "{ns:.0}"),
        }
    }
}
