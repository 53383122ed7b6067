//! A reaction-diffusion model that runs for about two minutes, shown live in a browser.
//!
//!     cargo run --release --example gray_scott
//!
//! The program is plain and without async: a loop on the main thread, and a hub beside it. Viewers
//! see the time loop as a job with its phases, two series and a field, may cancel it, and move two
//! parameters.

mod model;

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use model::{GrayScott, LEG};
use stepcast::{Hub, Job, JobBuilder};

/// The time between two looks at the model while somebody watches.
const EVERY: Duration = Duration::from_millis(100);

const HELP: &str = "\
Runs the Gray-Scott model and shows it in a browser.

usage: gray_scott [--steps N] [--size N] [--diffusion D] [--addr HOST:PORT] [--lines N]

  --steps N          time steps; default 1500000, about two minutes at the default size
  --size N           cells along each side of the square, 16 to 2000; default 256
  --diffusion D      diffusion of u; default 1; from 1.25 on the model blows up and fails
  --addr HOST:PORT   address of the hub; default 127.0.0.1:8002
  --lines N          lines of the log per ten seconds, 1 to 100; default 10
  --help             print this text
";

#[derive(Debug, Clone, PartialEq)]
struct Options {
    steps: u64,
    size: usize,
    diffusion: f32,
    addr: SocketAddr,
    lines: u32,
}

impl Options {
    /// Parses the arguments. Returns `None` if they ask for help.
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8002));
        let diffusion = model::DIFFUSION_U;
        let mut options = Self { steps: model::ROUND, size: 256, diffusion, addr, lines: 10 };
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let known = ["--steps", "--size", "--diffusion", "--addr", "--lines"];
            if !known.contains(&name.as_str()) {
                return Err(format!("unknown option {name:?}; --help lists the options"));
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let wrong = |wanted: &str| format!("{name} needs {wanted}, not {value:?}");
            match name.as_str() {
                "--steps" => {
                    let steps = value.parse().ok().filter(|steps| *steps > 0);
                    options.steps = steps.ok_or_else(|| wrong("a number of steps from 1"))?;
                }
                "--size" => {
                    let size = value.parse().ok().filter(|size| (16..=2000).contains(size));
                    options.size = size.ok_or_else(|| wrong("a number of cells, 16 to 2000"))?;
                }
                "--diffusion" => {
                    let diffusion = value.parse().ok().filter(|of_u| (0.0..=10.0).contains(of_u));
                    options.diffusion = diffusion.ok_or_else(|| wrong("a number, 0 to 10"))?;
                }
                "--lines" => {
                    let lines = value.parse().ok().filter(|lines| (1..=100).contains(lines));
                    options.lines = lines.ok_or_else(|| wrong("a number of lines, 1 to 100"))?;
                }
                _ => {
                    let addr = value.to_socket_addrs().ok().and_then(|mut found| found.next());
                    options.addr = addr.ok_or_else(|| wrong("HOST:PORT"))?;
                }
            }
        }
        Ok(Some(options))
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            // A reader that closes the pipe early is no error.
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("gray_scott: {what}");
            return ExitCode::from(2);
        }
    };
    let hub = match Hub::spawn_blocking(options.addr) {
        Ok(hub) => hub,
        Err(error) => {
            eprintln!("gray_scott: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Options { steps, size, .. } = options;
    println!("{steps} steps of {size} x {size} cells");
    for url in hub.urls() {
        println!("watch at {url}");
    }
    match run(&hub, &options) {
        Ok(message) => {
            println!("{message}");
            hub.finish(&message);
            ExitCode::SUCCESS // dropping the hub delivers the last messages
        }
        Err(message) => {
            eprintln!("gray_scott: {message}");
            hub.fail(&message);
            ExitCode::FAILURE
        }
    }
}

/// Runs the model's loop, as a job with a phase for each leg of the model's path. Returns the message
/// with which the run ended, for its viewers.
fn run(hub: &Hub, options: &Options) -> Result<String, String> {
    let Options { steps, size, diffusion, lines, .. } = *options;
    let started = Instant::now();
    let mut model = GrayScott::new(size, diffusion);
    let (mut checked, mut told) = (started, started);
    let check = |model: &GrayScott, step| {
        let is_well = model.v.iter().all(|v| v.is_finite());
        if is_well { Ok(()) } else { Err(format!("v is not finite at step {step}")) }
    };
    hub.set_title("Gray-Scott");
    let job = hub.job("time loop").total(steps).unit("steps").cancellable().start();
    let feed = hub.parameter("F, added", 0.0).range(-0.002..=0.002);
    let kill = hub.parameter("k, added", 0.0).range(-0.002..=0.002);
    let mut legs = legs(&job, steps).into_iter();
    let mut leg = Job::disabled();
    for step in 0..steps {
        if step % LEG == 0 {
            leg.finish();
            leg = legs.next().unwrap_or(Job::disabled());
            leg.begin();
        }
        model.shift = (feed.get(), kill.get());
        model.step();
        leg.inc(1);
        job.inc(1);
        job.field("v", [size, size], &model.v);
        // Reading the clock at every step would slow the steps down, and so would looking at v.
        if step % 64 == 0 {
            job.metric("mean of v", model.mean_v());
            job.metric("greatest v", model.greatest_v());
            if job.is_cancelled() {
                job.cancelled();
                return Ok(format!("cancelled at step {step}"));
            }
            if checked.elapsed() >= EVERY && hub.client_count() > 0 {
                checked = Instant::now();
                check(&model, step)?;
                if told.elapsed() * lines >= Duration::from_secs(10) {
                    told = checked;
                    job.println(line(&model, step));
                }
            }
        }
    }
    check(&model, steps)?;
    job.println(line(&model, steps));
    Ok(format!("{steps} steps in {:.1} s", started.elapsed().as_secs_f64()))
}

/// Announces the first legs of the model's path, at most a round.
fn legs(job: &Job, steps: u64) -> Vec<Job> {
    let begins = (0..).map(|leg| leg * LEG).take_while(|begin| *begin < steps);
    let leg = |(name, begin): (&'static str, u64)| job.child(name).total(LEG.min(steps - begin));
    model::LEGS.into_iter().zip(begins).map(leg).map(JobBuilder::queue).collect()
}

/// Formats a line of the log.
fn line(model: &GrayScott, step: u64) -> String {
    format!(
        "step {step}: v is {:.4} on average, and {:.4} at most",
        model.mean_v(),
        model.greatest_v()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, String> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn options_are_read_and_a_wrong_one_is_named() {
        let all =
            parse(&["--steps", "7", "--size", "64", "--addr", "127.0.0.1:0", "--lines", "100"]);
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let diffusion = model::DIFFUSION_U;
        assert_eq!(all, Ok(Some(Options { steps: 7, size: 64, diffusion, addr, lines: 100 })));
        assert_eq!(parse(&["--help"]), Ok(None));
        assert!(parse(&[]).is_ok_and(|options| options.is_some()));
        let wrong = [
            ["--steps", "many"],
            ["--size", "3"],
            ["--diffusion", "NaN"],
            ["--addr", "8002"],
            ["--lines", "0"],
        ];
        for wrong in wrong.iter().map(<[&str; 2]>::as_slice).chain([&["--step"][..]]) {
            let line = parse(wrong).expect_err("a wrong option was taken");
            assert!(line.contains(wrong[0]) && !line.contains('\n'), "{line}");
        }
        assert_eq!(parse(&["--size"]), Err("--size needs a value".to_owned()));
    }
}
