//! The tables, and the bars that the figures are held against.

use crate::rounds::{Options, Results, Spread, Verdict, cell, rounds};
use crate::server::KINDS;
use crate::strings;

const US: &str = "stepcast";

/// The same hub, its clients on the wire `stepcast.v1`.
const V1: &str = "stepcast-v1";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn session(kind: &str, clients: usize, works: &str) -> Vec<String> {
    words(&["session", "--kind", kind, "--clients", &clients.to_string(), "--works", works])
}

fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

fn heading(title: &str, columns: &[&str]) {
    println!("\n## {title}\n");
    println!("| |{}", columns.iter().map(|column| format!(" {column} |")).collect::<String>());
    println!("|---|{}", "--:|".repeat(columns.len()));
}

fn is_peer(kind: &&str) -> bool {
    !kind.starts_with("floor") && !kind.starts_with(US)
}

/// The peer with the least of this.
fn best_peer(results: &Results, figure: &str) -> Option<(&'static str, Spread)> {
    let peers = KINDS.iter().copied().filter(is_peer);
    let spreads = peers.filter_map(|kind| Some((kind, results.spread(kind, figure)?)));
    spreads.min_by(|a, b| a.1.median.total_cmp(&b.1.median))
}

fn at_most(what: &str, spread: Option<Spread>, bar: f64, unit: &str) -> Option<Verdict> {
    let spread = spread?;
    Some(Verdict {
        what: what.to_owned(),
        figure: format!("{spread}{unit}"),
        bar: format!("at most {bar}{unit}"),
        kept: spread.median <= bar,
    })
}

fn below_best_peer(what: &str, results: &Results, figure: &str) -> Option<Verdict> {
    let (ours, (name, best)) = (results.spread(US, figure)?, best_peer(results, figure)?);
    Some(Verdict {
        what: what.to_owned(),
        figure: ours.to_string(),
        bar: format!("below {name}: {best}"),
        kept: ours.median < best.median,
    })
}

/// The first burst, to clients that have just connected: 80 messages of 1 KiB at once.
const FIRST: &str = "first:1024:80";

/// How many clients at a time, and whether they have all works, or the first burst only.
fn crowds(options: &Options) -> &'static [(usize, bool)] {
    if options.smoke { &[(20, true)] } else { &[(800, false), (1000, true), (5000, true)] }
}

/// All who take part, at a fixed rate and in bursts; what a handshake and an idle client cost.
pub fn crowd(options: &Options) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for &(clients, has_all) in crowds(options) {
        let works = |kind: &str| {
            let (messages, millis) = if options.smoke { (3, 0) } else { (30, 400) };
            if !has_all {
                return session(kind, clients, FIRST);
            }
            // With the first burst the hub also learns how fast its clients are.
            let mut works = format!("idle,{FIRST}");
            for size in [64, 1024] {
                if kind != "floor64" && !kind.ends_with("-batch") {
                    works += &format!(",rate:{size}:{messages}:20"); // a batch would be of one
                }
            }
            for size in [64, 1024] {
                works += &format!(",burst:{size}:{millis}");
            }
            session(kind, clients, &works)
        };
        let results = rounds(&KINDS, options.rounds, options, works);
        let title = format!("the first burst, 80 messages of 1024 B to {clients} new clients");
        verdicts.extend(burst_table(&results, &title, "first.1024", options.rounds));
        if !has_all {
            continue;
        }
        for size in [64, 1024] {
            verdicts.extend(rate_table(&results, clients, size, options.rounds));
        }
        for size in [64, 1024] {
            let title = format!("bursts of 64 messages of {size} B to {clients} clients");
            let work = format!("burst.{size}");
            verdicts.extend(burst_table(&results, &title, &work, options.rounds));
        }
        verdicts.extend(handshake_table(&results, clients, options.rounds));
        verdicts.extend(memory_table(&results, clients, options.rounds));
    }
    verdicts
}

fn rate_table(results: &Results, clients: usize, size: usize, rounds: usize) -> Vec<Verdict> {
    let title = format!(
        "20 messages/s of {size} B to {clients} clients: median of {rounds} rounds (middle half)"
    );
    let columns =
        ["CPU s per million", "x floor, same round", "deliveries/s", "p50 ms", "p99 ms", "reads"];
    heading(&title, &columns);
    let figure = |what: &str| format!("rate.{size}.{what}");
    for kind in KINDS {
        if results.spread(kind, &figure("cpu")).is_none() {
            continue;
        }
        let spread = |what: &str| results.spread(kind, &figure(what));
        let millis = |what: &str| {
            let Spread { median, low, high } = spread(what)?;
            Some(Spread { median: median / 1e3, low: low / 1e3, high: high / 1e3 })
        };
        let ratio = cell(results.ratio(kind, "floor", &figure("cpu")));
        let rate = cell(spread("per_second"));
        let (cpu, reads) = (cell(spread("cpu")), cell(spread("reads")));
        row(&[kind.to_owned(), cpu, ratio, rate, cell(millis("p50")), cell(millis("p99")), reads]);
    }
    let what = format!("20/s, {size} B, {clients} clients");
    let mut verdicts = Vec::new();
    let (ours, best) = (results.spread(US, &figure("p99")), best_peer(results, &figure("p99")));
    if let (Some(ours), Some((name, best))) = (ours, best) {
        verdicts.push(Verdict {
            what: format!("{what}: p99, µs"),
            figure: ours.to_string(),
            bar: format!("not above {name}: {best}"),
            kept: ours.median <= best.high || ours.low <= best.median,
        });
    }
    verdicts
}

fn burst_table(results: &Results, title: &str, work: &str, rounds: usize) -> Vec<Verdict> {
    let columns = ["CPU s per million", "x floor64, same round", "deliveries/s", "reads"];
    heading(&format!("{title}: median of {rounds} rounds (middle half)"), &columns);
    let figure = |what: &str| format!("{work}.{what}");
    for kind in KINDS {
        let spread = |what: &str| results.spread(kind, &figure(what));
        let ratio = results.ratio(kind, "floor64", &figure("cpu"));
        let cells = [spread("cpu"), ratio, spread("per_second"), spread("reads")].map(cell);
        row(&[&[kind.to_owned()], &cells[..]].concat());
    }
    let what = format!("{title}: CPU s per million");
    below_best_peer(&what, results, &figure("cpu")).into_iter().collect()
}

fn handshake_table(results: &Results, clients: usize, rounds: usize) -> Vec<Verdict> {
    let title =
        format!("{clients} handshakes, 64 in flight: median of {rounds} rounds (middle half)");
    heading(&title, &["CPU ms per 1000", "x floor, same round", "handshakes/s"]);
    for kind in KINDS {
        let ratio = results.ratio(kind, "floor", "handshake.cpu");
        let spread = |what: &str| results.spread(kind, what);
        let cells = [spread("handshake.cpu"), ratio, spread("handshake.per_second")].map(cell);
        row(&[&[kind.to_owned()], &cells[..]].concat());
    }
    let ratio = results.ratio(US, "floor", "handshake.cpu");
    at_most(&format!("{clients} handshakes: CPU"), ratio, 1.10, " x floor").into_iter().collect()
}

fn memory_table(results: &Results, clients: usize, rounds: usize) -> Vec<Verdict> {
    let title =
        format!("{clients} idle clients: memory each, median of {rounds} rounds (middle half)");
    heading(&title, &["KiB"]);
    for kind in KINDS {
        row(&[kind.to_owned(), cell(results.spread(kind, "idle"))]);
    }
    if clients == 1000 {
        return Vec::new(); // the bar is for more
    }
    let ours = results.spread(US, "idle");
    at_most(&format!("{clients} idle clients: memory"), ours, 0.75, " KiB").into_iter().collect()
}

/// As many idle clients as a process may have.
pub fn memory(options: &Options) -> Vec<Verdict> {
    let clients = if options.smoke { 30 } else { 19_000 };
    let count = options.rounds.min(3); // it hardly varies
    let results = rounds(&KINDS, count, options, |kind| session(kind, clients, "idle"));
    let mut verdicts = handshake_table(&results, clients, count);
    verdicts.extend(memory_table(&results, clients, count));
    verdicts
}

/// What is ours of a delivery and of a handshake: beside the floor, in pieces of a burst, or of a tenth of a second, of which each
/// of the two has one and then the other. What the machine is like differs by more from second to second than they do.
pub fn pairs(options: &Options) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for &(clients, has_all) in crowds(options) {
        let duel = |floor: &'static str, works: &str, turns: usize| {
            let turns = if options.smoke { turns.min(1) } else { turns }.to_string();
            let works = works.to_owned();
            move |kind: &str| {
                let both = ["duel", "--first", floor, "--second", kind, "--works", &works];
                // With the first of them the hub learns how fast its clients are.
                let warm = ["--warm", if turns == "0" { "" } else { "burst:1024:200" }];
                let size = ["--clients", &clients.to_string(), "--turns", &turns];
                words(&[&both[..], &warm, &size].concat())
            }
        };
        let rounds = |kinds: &[&'static str], arguments: &dyn Fn(&str) -> Vec<String>| {
            rounds(kinds, options.rounds, options, arguments)
        };
        let (mut rates, mut hellos) = (Results::default(), Results::default());
        let bursts = if has_all {
            rates = rounds(&[US, V1], &duel("floor", "rate:64:2:20,rate:1024:2:20", 30));
            hellos = rounds(&[V1], &duel("floor-v1", "", 0));
            let works = format!("{FIRST},burst:64:0,burst:1024:0");
            rounds(&[US, V1], &duel("floor64", &works, 20))
        } else {
            rounds(&[US, V1], &duel("floor64", FIRST, 0))
        };

        let title = format!(
            "{clients} clients, in turns with the floor: CPU, median of {} rounds (middle half)",
            options.rounds
        );
        heading(&title, &["floor", "ours", "x floor"]);
        let mut line =
            |who: &str, what: &str, results: &Results, figure: &str, bar: Option<f64>| {
                let spread = |which: &str| results.spread(who, &format!("{figure}.{which}"));
                let ratio = spread("ratio");
                if ratio.is_some() {
                    row(&[
                        format!("{who}: {what}"),
                        cell(spread("first")),
                        cell(spread("second")),
                        cell(ratio),
                    ]);
                }
                let what = format!("{who}, {clients} clients: {what}, CPU");
                verdicts.extend(bar.and_then(|bar| at_most(&what, ratio, bar, " x floor")));
            };
        for who in [US, V1] {
            line(who, "the first burst", &bursts, "first.1024", Some(1.2));
            for (size, burst) in [(64, 1.6), (1024, 1.2)] {
                let what = format!("20/s of {size} B");
                line(who, &what, &rates, &format!("rate.{size}"), Some(1.1));
                let what = format!("bursts of {size} B");
                line(who, &what, &bursts, &format!("burst.{size}"), Some(burst));
            }
        }
        // In pieces, with what comes before and after each: the bar is for those that come in one go.
        line(US, "a handshake", &rates, "handshake", None);
        line(V1, "a handshake", &rates, "handshake", None);
        line(V1, "a hello", &hellos, "hello", None);
    }
    verdicts
}

/// What becomes of the cost of a delivery, and of memory, with the number of clients.
pub fn growth(options: &Options) -> Vec<Verdict> {
    let crowds: &[usize] = if options.smoke { &[5, 10] } else { &[100, 1000, 10_000] };
    let works = if options.smoke { "idle,rate:64:2:20" } else { "idle,rate:64:12:8" };
    let mut results = Vec::new();
    for &clients in crowds {
        let session = |kind: &str| session(kind, clients, works);
        results.push(rounds(&["floor", US], options.rounds, options, session));
    }
    let title = format!("8 messages/s of 64 B: median of {} rounds (middle half)", options.rounds);
    let columns =
        ["CPU s per million", "x floor, same round", "floor", "memory each, KiB", "p99 µs"];
    heading(&title, &columns);
    for (clients, results) in crowds.iter().zip(&results) {
        let cells = [
            results.spread(US, "rate.64.cpu"),
            results.ratio(US, "floor", "rate.64.cpu"),
            results.spread("floor", "rate.64.cpu"),
            results.spread(US, "idle"),
            results.spread(US, "rate.64.p99"),
        ];
        row(&[&[format!("{clients} clients")], &cells.map(cell)[..]].concat());
    }
    let ends = |figure: &dyn Fn(&Results) -> Option<Spread>| {
        Some((figure(results.first()?)?.median, figure(results.last()?)?.median))
    };
    let mut verdicts = Vec::new();
    if let Some((few, many)) = ends(&|results| results.ratio(US, "floor", "rate.64.cpu")) {
        verdicts.push(Verdict {
            what: "growth: CPU x floor with the most clients beside that with the fewest"
                .to_owned(),
            figure: format!("{:.2}", many / few),
            bar: "at most 1.05".to_owned(),
            kept: many / few <= 1.05,
        });
    }
    if let Some(Spread { median, .. }) = results.last().and_then(|r| r.spread(US, "idle")) {
        let before = results[results.len() - 2].spread(US, "idle").map_or(median, |s| s.median);
        verdicts.push(Verdict {
            what: "growth: memory each with ten times the clients".to_owned(),
            figure: format!("{:.2}", median / before),
            bar: "at most 1.1".to_owned(),
            kept: median / before <= 1.1,
        });
    }
    verdicts
}

/// What the caller pays.
pub fn calls(options: &Options) -> Vec<Verdict> {
    let clients = if options.smoke { "1,5" } else { "1,100,10000" };
    let receivers = if options.smoke { "1,10" } else { "1,10,100,1000" };
    let (calls, each) = if options.smoke { ("2", "100") } else { ("60", "20000") };
    let arguments =
        [["--of", clients], ["--receivers", receivers], ["--calls", calls], ["--each", each]];
    let arguments = [&["calls"], &arguments.concat()[..]].concat();
    let results = rounds(&[US], options.rounds, options, |_| words(&arguments));
    let get = |figure: &str| results.spread(US, figure);
    let ratio = |of: &str, to: &str| {
        let of_round = |figures: &crate::rounds::Figures| Some(figures.get(of)? / figures.get(to)?);
        Spread::of(results.0[US].iter().filter_map(of_round).collect())
    };

    let title = format!("a call, 64 B: ns, median of {} rounds (middle half)", options.rounds);
    heading(&title, &["ns"]);
    for name in results.0[US][0].keys().filter(|name| !name.contains("ratio")) {
        row(&[name.clone(), cell(get(name))]);
    }
    let (few, many) = clients.split_once(',').expect("two at least");
    let many = many.rsplit(',').next().expect("one at least");
    let mut verdicts = Vec::new();
    for call in ["broadcast", "send"] {
        for clients in [few, many] {
            let awake = get(&format!("{call}.awake.{clients}"));
            verdicts.extend(at_most(
                &format!("{call}, awake, {clients} clients"),
                awake,
                150.0,
                " ns",
            ));
        }
        let woken = ratio(&format!("{call}.asleep.{few}"), &format!("eventfd.{few}"));
        verdicts.extend(at_most(&format!("{call}, asleep"), woken, 1.2, " x eventfd"));
    }
    let growth =
        |call: &str| ratio(&format!("{call}.awake.{many}"), &format!("{call}.awake.{few}"));
    if let (Some(flat), Some(own)) = (growth("broadcast"), growth("own")) {
        verdicts.push(Verdict {
            what: format!("broadcast, awake, {many} clients beside {few}"),
            figure: format!("{flat} x"),
            bar: format!("no more than what is the thread's own: {own} x"),
            kept: flat.median <= own.high.max(1.1),
        });
    }
    let beside = ratio(&format!("broadcast.asleep.{few}"), &format!("tokio.asleep.{few}"));
    verdicts.extend(at_most("broadcast, asleep", beside, 1.0, " x tokio's, 10 receivers"));
    let beside = ratio(&format!("broadcast.awake.{many}"), "tokio.waiting.10");
    verdicts.extend(at_most("broadcast, awake", beside, 1.0, " x tokio's, 10 receivers"));
    for what in ["wall", "cpu"] {
        let beside = get(&format!("eight.ratio.{what}"));
        verdicts.extend(at_most(
            &format!("8 threads: {what} of a call"),
            beside,
            1.0,
            " x tokio's",
        ));
    }
    verdicts
}

/// A message at every step of a loop of 100 µs, beside one now and then that wakes the hub.
pub fn steps(options: &Options) -> Vec<Verdict> {
    let viewers = if options.smoke { 5 } else { 100 };
    let works = if options.smoke {
        "rate:64:3:20,steps:64:100:100"
    } else {
        "rate:64:40:20,steps:64:20000:100"
    };
    let kinds = [US]; // who has a bounded channel for each client would lose some
    let results = rounds(&kinds, options.rounds, options, |kind| {
        [session(kind, viewers, works), words(&["--io-core", "1"])].concat()
    });
    let title = format!(
        "a message at every 100 µs to {viewers} viewers: median of {} rounds (middle half)",
        options.rounds
    );
    let columns =
        ["ns a call", "p50 µs", "p99 µs", "20/s: p50 µs", "20/s: p99 µs", "CPU s per million"];
    heading(&title, &columns);
    for kind in kinds {
        let cells = [
            "steps.64.call",
            "steps.64.p50",
            "steps.64.p99",
            "rate.64.p50",
            "rate.64.p99",
            "steps.64.cpu",
        ];
        let cells = cells.map(|figure| cell(results.spread(kind, figure)));
        row(&[&[kind.to_owned()], &cells[..]].concat());
    }
    let mut verdicts = Vec::new();
    let call = results.spread(US, "steps.64.call");
    verdicts.extend(at_most("broadcast at every step of 100 µs", call, 500.0, " ns"));
    let of_round = |figures: &crate::rounds::Figures| {
        Some(figures.get("steps.64.p50")? - figures.get("rate.64.p50")?)
    };
    let later = results.0.get(US).map(|of| of.iter().filter_map(of_round).collect());
    let later = later.and_then(Spread::of);
    verdicts.extend(at_most("the same: p50 later than with a wake each", later, 2000.0, " µs"));
    verdicts
}

/// How old what a slow viewer sees is.
pub fn fresh(options: &Options) -> Vec<Verdict> {
    let arguments = words(&["fresh", "--time", if options.smoke { "1000" } else { "6000" }]);
    let results = rounds(&[US], options.rounds, options, |_| arguments.clone());
    let title = format!(
        "a viewer that reads 50 KB/s, 1000 values/s of 1 KiB: median of {} rounds (middle half)",
        options.rounds
    );
    heading(&title, &["p50 ms", "oldest, ms", "% of what it could read"]);
    let names = [
        ("window", "directly"),
        ("proxy", "through a proxy that takes 256 KiB ahead"),
        ("none", "directly, without the window"),
    ];
    let mut verdicts = Vec::new();
    for (name, how) in names {
        let [p50, max, share] =
            ["p50", "max", "share"].map(|figure| results.spread(US, &format!("{name}.{figure}")));
        row(&[how.to_owned(), cell(p50), cell(max), cell(share)]);
        if name != "none" {
            verdicts.extend(at_most(&format!("the oldest, {how}"), max, 500.0, " ms"));
        }
    }
    verdicts
}

/// What a model loses by being watched.
pub fn slowdown(options: &Options) -> Vec<Verdict> {
    let (viewers, stopped, turn) =
        if options.smoke { ("10", "1", "120") } else { ("1000", "10", "1500") };
    let often = ["--viewers", viewers, "--stopped", stopped, "--turn", turn];
    let each = ["--viewers", "1", "--stopped", "0", "--turn", turn, "--each-step"];
    let [often, each] = [&often[..], &each[..]].map(|rest| {
        let arguments = words(&[&["slowdown"], rest].concat());
        rounds(&[US], options.rounds, options, |_| arguments.clone())
    });
    let title = format!(
        "Gray-Scott watched, beside unwatched: % slower, median of {} rounds (middle half)",
        options.rounds
    );
    heading(&title, &["wall", "CPU", "sleeps in 100 000 steps"]);
    let shown = format!("{viewers} viewers, ten pictures a second");
    let rows = [(shown, &often), ("1 viewer, `format!` at each step".to_owned(), &each)];
    for (what, results) in rows {
        let [wall, cpu, sleeps] =
            ["wall", "cpu", "sleeps"].map(|figure| cell(results.spread(US, figure)));
        row(&[what, wall, cpu, sleeps]);
    }
    let wall = often.spread(US, "wall");
    at_most("a watched model is slower by", wall, 1.0, " %").into_iter().collect()
}

/// The cost of strings that another thread frees.
pub fn strings(options: &Options) -> Vec<Verdict> {
    let pushes = if options.smoke { "2000" } else { "100000" };
    let results =
        rounds(&[US], options.rounds, options, |_| words(&["strings", "--pushes", pushes]));
    let title = format!(
        "{pushes} pushes without pause, the allocator {}: median of {} rounds (middle half)",
        strings::ALLOCATOR,
        options.rounds
    );
    heading(&title, &["ns a push", "sleeps of the caller in 100 000", "skipped"]);
    for (call, is_viewed) in strings::CASES {
        for kind in strings::KINDS {
            let name = strings::name(call, is_viewed, kind);
            let [time, sleeps, skipped] = ["ns", "sleeps", "skipped"]
                .map(|figure| results.spread(US, &format!("{name}.{figure}")));
            let who = if is_viewed { "one viewer" } else { "nobody there" };
            row(&[format!("{call}, {kind}, {who}"), cell(time), cell(sleeps), cell(skipped)]);
        }
    }
    Vec::new()
}
