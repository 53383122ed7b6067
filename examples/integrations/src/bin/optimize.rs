//! `argmin` fits a damped oscillation to noisy samples, by the method of Nelder and Mead.
//!
//!     cargo run --release --bin optimize [ADDRESS [SAMPLES]]

use argmin::core::observers::{Observe, ObserverMode};
use argmin::core::{CostFunction, Error, Executor, KV, State};
use argmin::solver::neldermead::NelderMead;
use stepcast::{Cancelled, Hub, Job};

/// Samples of the oscillation, one each unit of time.
struct Fit {
    samples: Vec<f64>,
}

/// The oscillation by its amplitude, its half life in samples and its number of periods in them.
fn oscillation(of: &[f64], time: f64) -> f64 {
    of[0] * (-time / of[1]).exp2() * (time * of[2] * std::f64::consts::TAU).sin()
}

impl CostFunction for Fit {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, Error> {
        let count = self.samples.len() as f64;
        let squares = self.samples.iter().enumerate().map(|(place, sample)| {
            (oscillation(parameters, place as f64 / count) - sample).powi(2)
        });
        Ok(squares.sum::<f64>() / count)
    }
}

/// Shows the iterations of any solver as a job, and the cost as a series.
struct Watch {
    job: Job,
}

impl<I: State<Float = f64>> Observe<I> for Watch {
    fn observe_iter(&mut self, state: &I, _: &KV) -> Result<(), Error> {
        self.job.set_position(state.get_iter() + 1);
        self.job.metric("best cost", state.get_best_cost());
        Ok(self.job.check_cancelled()?)
    }

    fn observe_final(&mut self, state: &I) -> Result<(), Error> {
        self.job.set_length(state.get_iter()); // it may have needed fewer than it may take
        self.job.finish_with_message(state.get_termination_status().to_string());
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let hub = Hub::spawn_blocking(args.next().as_deref().unwrap_or("127.0.0.1:8002"))?;
    for url in hub.urls() {
        println!("watch at {url}");
    }
    let count: u32 = args.next().map_or(Ok(1_000_000), |argument| argument.parse())?;

    let sample = |place: u32| {
        let noise = (f64::from(place) * 0.618_034).fract() - 0.5;
        oscillation(&[2.0, 0.3, 5.0], f64::from(place) / f64::from(count)) + noise
    };
    let samples = (0..count).map(sample).collect();
    let corners =
        vec![vec![1.0, 0.5, 4.5], vec![1.5, 0.5, 4.5], vec![1.0, 0.8, 4.5], vec![1.0, 0.5, 4.8]];
    let iterations = 500;

    let job = hub.job("Nelder-Mead").total(iterations).unit("iterations").cancellable().start();
    let result = Executor::new(Fit { samples }, NelderMead::new(corners).with_sd_tolerance(1e-12)?)
        .configure(|state| state.max_iters(iterations))
        .add_observer(Watch { job: job.clone() }, ObserverMode::Always)
        .run();
    match result {
        Ok(result) => println!("{result}"),
        Err(error) if error.is::<Cancelled>() => job.cancelled(),
        Err(error) => {
            job.fail(&error);
            return Err(error);
        }
    }
    Ok(())
}
