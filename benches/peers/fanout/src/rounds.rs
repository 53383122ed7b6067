//! Taking turns, and what comes of it: medians, spreads, ratios within a round, and verdicts.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};

pub type Figures = BTreeMap<String, f64>;

pub struct Options {
    pub rounds: usize,
    pub only: Option<String>,
    pub who: Option<String>,
    pub smoke: bool,
}

impl Options {
    pub fn wants(&self, table: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|only| only == table))
    }
}

/// The median, and the range that the middle half falls into.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        (!values.is_empty()).then(|| Self { median: at(0.5), low: at(0.25), high: at(0.75) })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median.abs() {
            value if value < 10.0 => 2,
            value if value < 100.0 => 1,
            _ => 0,
        };
        let Self { median, low, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

/// What every contestant had in each round.
#[derive(Default)]
pub struct Results(pub BTreeMap<String, Vec<Figures>>);

impl Results {
    pub fn spread(&self, who: &str, figure: &str) -> Option<Spread> {
        let rounds = self.0.get(who)?;
        Spread::of(rounds.iter().filter_map(|figures| figures.get(figure).copied()).collect())
    }

    /// Against another one in the same round.
    pub fn ratio(&self, who: &str, to: &str, figure: &str) -> Option<Spread> {
        let (ours, theirs) = (self.0.get(who)?, self.0.get(to)?);
        let ratio = |(a, b): (&Figures, &Figures)| Some(a.get(figure)? / b.get(figure)?);
        Spread::of(ours.iter().zip(theirs).filter_map(ratio).collect())
    }
}

pub fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string())
}

/// One line at the end.
pub struct Verdict {
    pub what: String,
    pub figure: String,
    pub bar: String,
    pub kept: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, figure, bar, kept } = self;
        write!(f, "| {what} | {figure} | {bar} | {} |", if *kept { "kept" } else { "MISSED" })
    }
}

/// Runs this program as another process, which tells its figures.
pub fn child(arguments: &[String]) -> Figures {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("this program starts");
    assert!(output.status.success(), "failed: {}", arguments.join(" "));
    let text = String::from_utf8(output.stdout).expect("text");
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().map(|line| figure(line).expect("a name and a number")).collect()
}

/// Each of these in each round, every round beginning with another one.
pub fn rounds(
    who: &[&str],
    rounds: usize,
    options: &Options,
    arguments: impl Fn(&str) -> Vec<String>,
) -> Results {
    let wanted = |name: &&str| {
        let floor = name.starts_with("floor");
        floor || options.who.as_ref().is_none_or(|who| who.split(',').any(|w| w == *name))
    };
    let who: Vec<&str> = who.iter().copied().filter(wanted).collect();
    let mut results = BTreeMap::<String, Vec<Figures>>::new();
    for round in 0..rounds {
        for turn in 0..who.len() {
            let name = who[(round + turn) % who.len()];
            let figures = child(&arguments(name));
            results.entry(name.to_owned()).or_default().push(figures);
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    Results(results)
}
