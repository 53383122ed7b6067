//! The server's process: one of the contestants, and the thread that publishes.
//!
//! It is told what to do by lines on its standard input and answers by lines on its output:
//!
//! | line | what it does | what it says |
//! |---|---|---|
//! | | starts | `port N` |
//! | `clients` | | how many it has |
//! | `rate SIZE COUNT MICROSECONDS` | publishes on a schedule of that period | `done` |
//! | `steps SIZE COUNT MICROSECONDS` | the same, spinning between: a model's loop | mean cost of a call, in ns |
//! | `burst SIZE COUNT` | publishes as fast as it goes | `done` |
//! | `quit` | | what was not delivered to somebody |

mod floor;
mod foxglove;
mod hub;
mod tasks;

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use crate::{message, sys};

/// One that clients connect to, and that delivers what is published.
trait Server {
    fn port(&self) -> u16;

    /// How many clients it would deliver to.
    fn clients(&self) -> usize;

    /// Delivers a message to all of them; `more` are at hand.
    fn publish(&mut self, text: String, more: bool);

    /// Messages that somebody did not get.
    fn skipped(&self) -> u64 {
        0
    }
}

/// Frames that a client may be behind, where there is a bound: the longest burst.
const BACKLOG: usize = 80;

/// Everyone who takes part, as named on the command line and in the tables.
pub const KINDS: [&str; 11] = [
    "floor",
    "floor64",
    "stepcast",
    "stepcast-v1",
    "axum",
    "tokio-tungstenite",
    "tokio-tungstenite-tuned",
    "fastwebsockets",
    "tokio-websockets",
    "tokio-websockets-batch",
    "foxglove",
];

pub struct Options {
    pub kind: String,
    /// How many clients there will be.
    pub clients: usize,
    /// Where the thread that publishes runs, and all the rest.
    pub core: usize,
    pub io_core: usize,
}

pub fn run(options: &Options) {
    sys::raise_descriptors();
    sys::pin(options.io_core);
    let mut server: Box<dyn Server> = match options.kind.as_str() {
        "floor" => Box::new(floor::Floor::start(1, false)),
        "floor64" => Box::new(floor::Floor::start(64, false)),
        "floor-v1" => Box::new(floor::Floor::start(1, true)),
        "stepcast" | "stepcast-v1" => Box::new(hub::Stepcast::start(options.clients)),
        "foxglove" => Box::new(foxglove::Foxglove::start()),
        kind => tasks::start(kind).unwrap_or_else(|| panic!("there is no {kind}")),
    };
    sys::pin(options.core);
    let mut out = std::io::stdout().lock();
    let mut say = |line: &dyn std::fmt::Display| {
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
    };
    say(&format_args!("port {}", server.port()));

    let mut sequence = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("lines of text");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let mut publish = |size: u64, more: bool| {
            server.publish(message::make(sequence, size as usize), more);
            sequence += 1;
        };
        match words[0] {
            "clients" => say(&server.clients()),
            "rate" => {
                let (size, count, period) = (number(1), number(2), number(3) * 1000);
                let start = sys::now();
                for i in 1..=count {
                    sys::sleep_until(start + i * period);
                    publish(size, false);
                }
                say(&"done");
            }
            "steps" => say(&steps(&mut *server, &mut sequence, number(1), number(2), number(3))),
            "burst" => {
                let (size, count) = (number(1), number(2));
                (1..=count).for_each(|i| publish(size, i < count));
                say(&"done");
            }
            "quit" => {
                say(&server.skipped());
                std::process::exit(0);
            }
            other => panic!("what is {other}?"),
        }
    }
}

/// A loop of steps that compute, each of which publishes. The mean cost of that call in nanoseconds.
fn steps(server: &mut dyn Server, sequence: &mut u64, size: u64, count: u64, period: u64) -> u64 {
    let looking: u64 = (0..1000).map(|_| Instant::now().elapsed().as_nanos() as u64).sum();
    let mut cost = 0;
    let mut next = sys::now();
    for _ in 0..count {
        next += period * 1000;
        let text = message::make(*sequence, size as usize);
        *sequence += 1;
        let started = Instant::now();
        server.publish(text, false);
        cost += started.elapsed().as_nanos() as u64;
        while sys::now() < next {
            std::hint::spin_loop();
        }
    }
    (cost / count).saturating_sub(looking / 1000)
}
