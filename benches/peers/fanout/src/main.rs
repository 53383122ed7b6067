//! The hub's fan-out beside its peers, in one run: `cargo run --release -p peers-fanout` in
//! `benches/peers`. Options: `--rounds N` (7), `--only TABLES` (of `calls`, `steps`, `pairs`,
//! `crowd`, `memory`, `growth`, `slowdown`, `strings`, `fresh`, separated by commas), `--who KINDS` (beside the floors),
//! `--smoke` (a few clients, one short round: correctness only).
//!
//! Every contestant is a process on core 0, and its clients are one on core 1, so that the CPU that a
//! server took is what the kernel counted for its process. What is published says when and as which one; the clients
//! compare every byte with what the first of them got, which is checked by itself, and count: nothing may be
//! missing. The contestants take turns within each round, each round begins with another one, ratios are to the
//! floor in the same round, and what is told is the median of the rounds with the range that the middle half of them falls into.
//!
//! Two that differ by a few hundredths are measured *in pairs*: both servers are there with their clients, and have the work in
//! turns of a burst, or of a tenth of a second. `duel --first KIND --second KIND --clients N --warm WORKS --works WORKS --turns N` does
//! that by itself, and with `--other PROGRAM` the second is that of another build of this program.
//!
//! The *first burst* is 80 messages at once to clients that have just connected, of whom a server knows nothing yet. It
//! comes before all else, once for every client.
//!
//! At a *fixed rate* the clients look all the time, and the delivery latency is from just before the
//! call that publishes to the read that returns the message. In *bursts* the publisher waits until everyone has
//! the burst, so that no bounded queue overflows; the clients sleep between looks, so that the server does not pay for waking them.

mod calls;
mod clients;
mod fresh;
mod load;
mod message;
mod rounds;
mod server;
mod slowdown;
mod strings;
mod sys;
mod tables;

// Three files of the tests' support: the others need more than this program depends on.
#[allow(dead_code, unreachable_pub)] // a part of the support is used
#[path = "../../../../tests/support"]
mod support {
    pub mod peer;
    pub mod slow;
    pub mod wire;
}

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The words of a command line, `--name value` or `--name`.
struct Arguments(Vec<String>);

impl Arguments {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|word| word == name)?;
        if at + 1 == self.0.len() {
            usage(&format!("{name} needs a value"));
        }
        self.0.remove(at);
        Some(self.0.remove(at))
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn number(&mut self, name: &str, unless: usize) -> usize {
        self.take(name).map_or(unless, |value| {
            value.parse().unwrap_or_else(|_| usage(&format!("{name}: {value} is no number")))
        })
    }

    fn numbers(&mut self, name: &str) -> Vec<usize> {
        let list = self.take(name).unwrap_or_default();
        let number = |value: &str| {
            value.parse().unwrap_or_else(|_| usage(&format!("{name}: {value} is no number")))
        };
        list.split(',').map(number).collect()
    }

    fn end(&self) {
        if let Some(word) = self.0.first() {
            usage(&format!("what is {word}?"));
        }
    }
}

fn usage(wrong: &str) -> ! {
    eprintln!("{wrong}; options: --rounds N, --only TABLES, --who KINDS, --smoke");
    std::process::exit(2);
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program")
}

fn works_of(list: &str) -> Vec<load::Work> {
    let work = |text| load::Work::parse(text).unwrap_or_else(|| usage(text));
    list.split(',').filter(|text| !text.is_empty()).map(work).collect()
}

fn load_options(words: &mut Arguments, kind: String, program: PathBuf) -> load::Options {
    load::Options {
        program,
        kind,
        clients: words.number("--clients", 10),
        works: works_of(&words.take("--works").unwrap_or_default()),
        core: words.number("--core", 1),
        server_core: words.number("--server-core", 0),
        io_core: words.number("--io-core", 0),
    }
}

fn print(figures: &rounds::Figures) {
    for (name, value) in figures {
        println!("{name} {value}");
    }
}

fn main() {
    let mut words = Arguments(std::env::args().skip(1).collect());
    let work = match words.0.first() {
        Some(word) if !word.starts_with("--") => words.0.remove(0),
        _ => String::new(),
    };
    match work.as_str() {
        "" => compare(words),
        // What follows is for this program itself, which starts itself as every other process.
        "server" => server::run(&server::Options {
            kind: words.take("--kind").unwrap_or_default(),
            clients: words.number("--clients", 0),
            core: words.number("--core", 0),
            io_core: words.number("--io-core", 0),
        }),
        "session" => {
            let kind = words.take("--kind").unwrap_or_default();
            load::session(&load_options(&mut words, kind, this_program()));
        }
        "duel" => {
            let turns = words.number("--turns", 40);
            let other = words.take("--other").map_or_else(this_program, PathBuf::from);
            let [first, second] =
                ["--first", "--second"].map(|name| words.take(name).unwrap_or_default());
            let warm = works_of(&words.take("--warm").unwrap_or_default());
            let options = load_options(&mut words, first, this_program());
            let second = load::Options { kind: second, program: other, ..options.clone() };
            load::duel([options, second], &warm, turns);
        }
        "drain" => clients::drain(
            u16::try_from(words.number("--port", 0)).unwrap_or_else(|_| usage("--port")),
            words.number("--clients", 1),
            words.number("--stopped", 0),
            words.number("--core", 1),
        ),
        "calls" => print(&calls::run(&calls::Options {
            clients: words.numbers("--of"),
            receivers: words.numbers("--receivers"),
            calls: words.number("--calls", 60),
            from_each: words.number("--each", 20_000),
            turns: words.number("--turns", 10),
        })),
        "slowdown" => print(&slowdown::run(&slowdown::Options {
            viewers: words.number("--viewers", 1000),
            stopped: words.number("--stopped", 10),
            turn: Duration::from_millis(words.number("--turn", 1500) as u64),
            each_step: words.flag("--each-step"),
        })),
        "strings" => print(&strings::run(words.number("--pushes", 100_000))),
        "fresh" => {
            let time = Duration::from_millis(words.number("--time", 6000) as u64);
            print(&fresh::run(time));
        }
        other => usage(&format!("what is {other}?")),
    }
}

fn compare(mut words: Arguments) {
    let smoke = words.flag("--smoke");
    let options = rounds::Options {
        rounds: words.number("--rounds", if smoke { 1 } else { 7 }),
        only: words.take("--only"),
        who: words.take("--who"),
        smoke,
    };
    words.end();
    type Table = fn(&rounds::Options) -> Vec<rounds::Verdict>;
    let tables: [(&str, Table); 9] = [
        ("calls", tables::calls),
        ("steps", tables::steps),
        ("pairs", tables::pairs),
        ("crowd", tables::crowd),
        ("memory", tables::memory),
        ("growth", tables::growth),
        ("slowdown", tables::slowdown),
        ("strings", tables::strings),
        ("fresh", tables::fresh),
    ];
    let mut verdicts = Vec::new();
    for (name, table) in tables {
        if options.wants(name) {
            eprintln!("{name}");
            verdicts.extend(table(&options));
        }
    }
    if smoke {
        println!("\nall delivered; the figures of so short a run mean nothing");
        return;
    }
    println!("\n## stepcast and its bars\n");
    println!("| | | bar | |\n|---|---|---|---|");
    for verdict in verdicts {
        println!("{verdict}");
    }
}
