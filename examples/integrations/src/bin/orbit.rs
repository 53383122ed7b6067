//! `ode_solvers` integrates a cluster of stars that attract each other.
//!
//!     cargo run --release --bin orbit [ADDRESS [TIME]]

use std::error::Error;

use ode_solvers::{DVector, Dop853, System};
use stepcast::{Hub, Job};

const STARS: usize = 48;
/// The squared distance within which the attraction stops to grow.
const SOFT: f64 = 1e-2;

/// The places of all stars, three coordinates each, then their velocities.
type State = DVector<f64>;

struct Cluster {
    energy: f64,
    job: Job,
}

impl System<f64, State> for Cluster {
    fn system(&self, _: f64, state: &State, change: &mut State) {
        let (places, velocities) = state.as_slice().split_at(3 * STARS);
        let (moved, accelerated) = change.as_mut_slice().split_at_mut(3 * STARS);
        moved.copy_from_slice(velocities);
        accelerated.fill(0.0);
        for (star, pull) in places.chunks(3).zip(accelerated.chunks_mut(3)) {
            for other in places.chunks(3) {
                let strength = distance(star, other).powi(-3) / STARS as f64;
                for axis in 0..3 {
                    pull[axis] += strength * (other[axis] - star[axis]);
                }
            }
        }
    }

    fn solout(&mut self, time: f64, state: &State, _: &State) -> bool {
        self.job.set_value(time);
        self.job.metric("energy drift", energy(state) / self.energy - 1.0);
        self.job.is_cancelled()
    }
}

fn distance(star: &[f64], other: &[f64]) -> f64 {
    let square = |axis: usize| (other[axis] - star[axis]).powi(2);
    (square(0) + square(1) + square(2) + SOFT).sqrt()
}

/// Computes the energy of the cluster, which stays the same.
fn energy(state: &State) -> f64 {
    let (places, velocities) = state.as_slice().split_at(3 * STARS);
    let mass = 1.0 / STARS as f64;
    let moving: f64 = velocities.iter().map(|velocity| mass * velocity * velocity / 2.0).sum();
    let pairs = places.chunks(3).flat_map(|star| {
        places.chunks(3).filter(move |other| *other != star).map(move |other| distance(star, other))
    });
    moving - pairs.map(|distance| mass * mass / distance / 2.0).sum::<f64>()
}

/// Makes stars at rest in a cube.
fn at_rest() -> State {
    let mut random = 1_u64;
    let mut place = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    State::from_fn(6 * STARS, |row, _| if row < 3 * STARS { place() } else { 0.0 })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let hub = Hub::spawn_blocking(args.next().as_deref().unwrap_or("127.0.0.1:8002"))?;
    for url in hub.urls() {
        println!("watch at {url}");
    }
    let end = args.next().map_or(Ok(100.0), |argument| argument.parse())?;

    let job = hub.job("time").span(0.0, end).cancellable().start();
    let start = at_rest();
    let cluster = Cluster { energy: energy(&start), job: job.clone() };
    let mut solver = Dop853::new(cluster, 0.0, end, end / 1000.0, start, 1e-9, 1e-9);
    match solver.integrate() {
        Ok(_) if job.is_cancelled() => job.cancelled(),
        Ok(statistics) => {
            println!("{statistics}");
            job.finish();
        }
        Err(error) => {
            job.fail(&error);
            return Err(error.into());
        }
    }
    Ok(())
}
