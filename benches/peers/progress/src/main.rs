//! The cost of reporting progress for a loop, beside a bare atomic, indicatif and prodash:
//! `cargo run --release -p peers-progress` in `benches/peers`. With `--smoke`, each part runs for a
//! moment, and nothing is judged but that it runs.
//!
//! All measurements take turns within a round. A figure is the median of the rounds, and a ratio
//! the median of the ratios within each round. The kernel gives the machine's cores to the hub's
//! thread, its viewers and the loop.

mod sampler;
mod viewers;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use stepcast::{Hub, Job};

/// A bare counter, alone on its cache lines as a job's is.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicU64);

struct Case<'a> {
    name: &'a str,
    /// The case that this one is compared with.
    base: Option<&'a str>,
    run: Box<dyn FnMut(u64) + 'a>,
}

fn case<'a>(name: &'a str, base: &'a str, run: impl FnMut(u64) + 'a) -> Case<'a> {
    Case { name, base: Some(base).filter(|base| !base.is_empty()), run: Box::new(run) }
}

/// Drops what a case has computed.
fn sink<T>(_: T) {}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Runs all cases in turns, `count` items each, and prints nanoseconds per item and ratios.
fn table(title: &str, rounds: usize, count: u64, mut cases: Vec<Case<'_>>) {
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            let started = Instant::now();
            (case.run)(count);
            let each = started.elapsed().as_nanos() as f64 / count as f64;
            if round > 0 {
                times.push(each); // the first round warms up
            }
        }
    }
    println!("\n{title}\n");
    println!("| | ns | against | ratio | difference, ns |\n|---|--:|---|--:|--:|");
    for (case, of) in cases.iter().zip(&times) {
        let ns = median(of.clone());
        let place = case.base.and_then(|base| cases.iter().position(|case| case.name == base));
        let Some(place) = place else {
            println!("| {} | {ns:.2} | | | |", case.name);
            continue;
        };
        let pairs = || of.iter().zip(&times[place]);
        let ratio = median(pairs().map(|(of, base)| of / base).collect());
        let more = median(pairs().map(|(of, base)| of - base).collect());
        println!("| {} | {ns:.2} | {} | {ratio:.3} | {more:+.2} |", case.name, cases[place].name);
    }
}

/// A bar that draws nothing, which is what indicatif does where stderr is no terminal.
fn hidden() -> ProgressBar {
    ProgressBar::with_draw_target(Some(1 << 40), ProgressDrawTarget::hidden())
}

fn on_two_threads(run: impl Fn(u64) + Sync, count: u64) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| run(count / 2));
        }
    });
}

fn calls(hub: &Hub, rounds: usize, count: u64) {
    let job = hub.job("steps").total(1 << 40).start();
    let (bare, shared) = (Counter::default(), Counter::default());
    let bar = hidden();
    let tree = prodash::tree::Root::new();
    let item = tree.add_child("steps");
    item.init(None, None);
    let local = job.local();
    let parameter = hub.parameter("feed rate", 0.04).range(0.0..=0.1);
    let series = job.series("residual");
    let cells = vec![0.5_f32; 512 * 512];
    let (mut x, mut y) = (0.0, 0.0);
    table(
        "Calls",
        rounds,
        count,
        vec![
            case("a bare fetch_add", "", |n| {
                (0..n).for_each(|_| {
                    black_box(&bare).0.fetch_add(1, Ordering::Relaxed);
                })
            }),
            case("Job::inc", "a bare fetch_add", |n| (0..n).for_each(|_| black_box(&job).inc(1))),
            case("prodash Item::inc", "a bare fetch_add", |n| {
                (0..n).for_each(|_| black_box(&item).inc())
            }),
            case("indicatif ProgressBar::inc", "Job::inc", |n| {
                (0..n).for_each(|_| black_box(&bar).inc(1))
            }),
            case("2 threads: a bare fetch_add", "", |n| {
                on_two_threads(
                    |n| {
                        (0..n).for_each(|_| {
                            black_box(&shared).0.fetch_add(1, Ordering::Relaxed);
                        })
                    },
                    n,
                );
            }),
            case("2 threads: Job::inc", "2 threads: a bare fetch_add", |n| {
                on_two_threads(|n| (0..n).for_each(|_| black_box(&job).inc(1)), n);
            }),
            case("2 threads: indicatif", "2 threads: Job::inc", |n| {
                on_two_threads(|n| (0..n).for_each(|_| black_box(&bar).inc(1)), n);
            }),
            case("a bare store", "", |n| {
                for _ in 0..n {
                    let counter = &black_box(&bare).0;
                    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
            }),
            case("LocalCounter::inc", "a bare store", |n| {
                (0..n).for_each(|_| black_box(&local).inc(1))
            }),
            case("a bare load", "", |n| {
                (0..n).for_each(|_| sink(black_box(black_box(&bare).0.load(Ordering::Relaxed))))
            }),
            case("Job::is_cancelled", "a bare load", |n| {
                (0..n).for_each(|_| sink(black_box(black_box(&job).is_cancelled())))
            }),
            case("Parameter::get", "a bare load", |n| {
                (0..n).for_each(|_| sink(black_box(black_box(&parameter).get())))
            }),
            case("Series::push", "", |n| {
                for _ in 0..n {
                    x += 1.0;
                    series.push(x, black_box(0.25));
                }
            }),
            case("Job::metric", "", |n| (0..n).for_each(|_| job.metric("loss", black_box(0.25)))),
            case("Job::field, 512 x 512", "", |n| {
                for _ in 0..n {
                    y += 1.0;
                    job.field("u", [512, 512], black_box(&cells));
                }
            }),
        ],
    );
}

fn adapters(hub: &Hub, rounds: usize, count: u64) {
    let job = hub.job("items").start();
    let bar = hidden();
    let work = |item: u64| black_box(item);
    table(
        "Adapters, for each item",
        rounds,
        count,
        vec![
            case("a bare loop", "", |n| {
                sink(black_box((0..n).fold(0, |sum, item| sum ^ work(item))))
            }),
            case("progress_with", "a bare loop", |n| {
                let items = stepcast::ProgressIterator::progress_with(0..n, &job);
                black_box(items.fold(0, |sum, item| sum ^ work(item)));
            }),
            case("indicatif's", "a bare loop", |n| {
                let items = indicatif::ProgressIterator::progress_with(0..n, bar.clone());
                black_box(items.fold(0, |sum, item| sum ^ work(item)));
            }),
            case("rayon", "", |n| {
                sink(black_box((0..n).into_par_iter().map(work).reduce(|| 0, |a, b| a ^ b)))
            }),
            case("rayon, progress_with", "rayon", |n| {
                let items =
                    stepcast::ParallelProgressIterator::progress_with((0..n).into_par_iter(), &job);
                black_box(items.map(work).reduce(|| 0, |a, b| a ^ b));
            }),
            case("rayon, indicatif's", "rayon", |n| {
                let items = indicatif::ParallelProgressIterator::progress_with(
                    (0..n).into_par_iter(),
                    bar.clone(),
                );
                black_box(items.map(work).reduce(|| 0, |a, b| a ^ b));
            }),
        ],
    );
}

/// A step of about a microsecond that no compiler can shorten.
fn step(state: &mut [f64; 64]) {
    for _ in 0..8 {
        for value in state.iter_mut() {
            *value = black_box(value.mul_add(0.999_9, 1e-4));
        }
    }
}

/// The loss of a model of such steps.
fn slowdown(rounds: usize, count: u64, viewers: usize) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let watching = viewers::watch(&hub, viewers);
    let (job, nobody) = (hub.job("time loop").total(1 << 40).start(), Job::disabled());
    let bar = hidden();
    let [mut a, mut b, mut c] = [[1.0; 64]; 3];
    table(
        &format!("A model of short steps, {viewers} viewers: for each step"),
        rounds,
        count,
        vec![
            case("without", "", |n| {
                (0..n).for_each(|_| {
                    step(&mut a);
                    nobody.inc(1);
                })
            }),
            case("inc and metric", "without", |n| {
                for _ in 0..n {
                    step(&mut b);
                    job.inc(1);
                    job.metric("loss", b[0]);
                }
            }),
            case("indicatif's inc and set_message", "without", |n| {
                for _ in 0..n {
                    step(&mut c);
                    bar.inc(1);
                    bar.set_message(format!("loss {:.4}", c[0]));
                }
            }),
        ],
    );
    drop(watching);
}

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--smoke");
    let (rounds, count) = if is_smoke { (1, 10_000) } else { (15, 2_000_000) };
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    calls(&hub, rounds, count);
    adapters(&hub, rounds, 10 * count);
    for viewers in [0, 50] {
        slowdown(rounds, count / 10, viewers);
    }
    let time = if is_smoke { Duration::from_millis(300) } else { Duration::from_secs(10) };
    sampler::many_jobs(time);
    sampler::at_rest(time);
    sampler::bytes_for_a_viewer(time);
}
