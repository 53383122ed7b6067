//! A reaction-diffusion model that runs for about two minutes.
//!
//!     cargo run --release --example gray_scott -- --help

mod model;

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Instant;

use model::GrayScott;

const HELP: &str = "\
Runs the Gray-Scott model.

usage: gray_scott [--steps N] [--size N] [--addr HOST:PORT]

  --steps N          time steps, 1500000 unless told: two minutes or so at the default size
  --size N           cells along each side of the square, 16 to 4096, 256 unless told
  --addr HOST:PORT   where browsers find it, 127.0.0.1:8002 unless told
  --help             this text
";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    steps: u64,
    size: usize,
    addr: SocketAddr,
}

impl Options {
    /// `None` when the help was asked for.
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options =
            Self { steps: model::ROUND, size: 256, addr: SocketAddr::from(([127, 0, 0, 1], 8002)) };
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            if !["--steps", "--size", "--addr"].contains(&name.as_str()) {
                return Err(format!("there is no option {name:?}; --help lists them"));
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let wrong = |wanted: &str| format!("{name} needs {wanted}, not {value:?}");
            match name.as_str() {
                "--steps" => {
                    let steps = value.parse().ok().filter(|steps| *steps > 0);
                    options.steps = steps.ok_or_else(|| wrong("a number of steps from 1"))?;
                }
                "--size" => {
                    let size = value.parse().ok().filter(|size| (16..=4096).contains(size));
                    options.size = size.ok_or_else(|| wrong("a number of cells, 16 to 4096"))?;
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
    let Options { steps, size, addr } = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            // Whoever closes the pipe early has read enough.
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("gray_scott: {what}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let mut model = GrayScott::new(size);
    println!("{steps} steps of {size} x {size} cells, {addr}");
    for _ in 0..steps {
        model.step();
    }
    let (feed, kill) = model.parameters();
    let eaten = model.u.iter().filter(|u| **u < 0.5).count();
    let most = model.v.iter().copied().fold(0.0, f32::max);
    println!(
        "done in {:.1} s at F = {feed:.4}, k = {kill:.4}: v up to {most:.3}, {eaten} cells with u under 1/2",
        started.elapsed().as_secs_f64(),
    );
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, String> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn options_are_read_and_a_wrong_one_is_named() {
        let all = parse(&["--steps", "7", "--size", "64", "--addr", "127.0.0.1:0"]);
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(all, Ok(Some(Options { steps: 7, size: 64, addr })));
        assert_eq!(parse(&["--help"]), Ok(None));
        assert!(parse(&[]).is_ok_and(|options| options.is_some()));
        for wrong in [&["--steps", "many"][..], &["--size", "3"], &["--addr", "8002"], &["--step"]]
        {
            let line = parse(wrong).expect_err("a wrong option was taken");
            assert!(line.contains(wrong[0]) && !line.contains('\n'), "{line}");
        }
        assert_eq!(parse(&["--size"]), Err("--size needs a value".to_owned()));
    }
}
