//! rayon computes the area of the Mandelbrot set, a row of points at a time.
//!
//!     cargo run --release --bin parallel [ADDRESS [ROWS]]

use std::error::Error;

use rayon::prelude::*;
use stepcast::{Cancelled, Hub, ParallelProgressIterator};

/// Counts the points of a row that are in the set.
fn count(row: u32, rows: u32) -> u32 {
    let at = |place: u32| f64::from(place) / f64::from(rows) * 2.5;
    (0..rows).map(|column| u32::from(is_inside(at(column) - 2.0, at(row) - 1.25))).sum()
}

fn is_inside(re: f64, im: f64) -> bool {
    let (mut x, mut y) = (0.0, 0.0);
    for _ in 0..1000 {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        if x * x + y * y > 4.0 {
            return false;
        }
    }
    true
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let hub = Hub::spawn_blocking(args.next().as_deref().unwrap_or("127.0.0.1:8002"))?;
    for url in hub.urls() {
        println!("watch at {url}");
    }
    let rows: u32 = args.next().map_or(Ok(2000), |argument| argument.parse())?;

    let job = hub.job("rows").total(rows.into()).cancellable().start();
    let counts: Result<Vec<u32>, Cancelled> = (0..rows)
        .into_par_iter()
        .progress_with(&job)
        .map(|row| job.check_cancelled().map(|()| count(row, rows)))
        .collect();
    match counts {
        Ok(counts) => {
            let inside: f64 = counts.into_iter().map(f64::from).sum();
            let area = inside * (2.5 / f64::from(rows)).powi(2);
            println!("the area is {area}");
            job.finish_with_message(format!("the area is {area}"));
        }
        Err(Cancelled) => job.cancelled(),
    }
    Ok(())
}
