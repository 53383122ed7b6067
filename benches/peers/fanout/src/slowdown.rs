//! What a model loses by being watched: the example's Gray-Scott on one core, the hub and its
//! viewers on the other; with and without pushing, turn by turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stepcast::{Hub, Limits, Timeouts};

use crate::calls::{self, Drain};
use crate::sys;

#[path = "../../../../examples/gray_scott/model.rs"]
#[allow(dead_code)]
mod model;

use model::GrayScott;

const CELLS: usize = 256;
const EVERY: Duration = Duration::from_millis(100);

/// One in how many cells, in both directions, is shown.
const SHOWN: usize = 4;

pub struct Options {
    pub viewers: usize,
    pub stopped: usize,
    /// How long one turn lasts.
    pub turn: Duration,
    /// Whether a line is pushed at each step, and not every tenth of a second with a picture.
    pub each_step: bool,
}

pub fn run(options: &Options) -> BTreeMap<String, f64> {
    sys::raise_descriptors();
    let hour = Duration::from_secs(3600); // those who have stopped stay
    let timeouts = Timeouts::default().stall(hour).frame(hour).pong(hour);
    let limits = Limits::default().clients(options.viewers);
    let hub = calls::hub(Hub::builder().limits(limits).timeouts(timeouts));
    let _drain = Drain::start(&hub, options.viewers, options.stopped);

    let mut model = GrayScott::new(CELLS, model::DIFFUSION_U);
    let (started, mut steps) = (Instant::now(), 0);
    while started.elapsed() < options.turn {
        model.step();
        steps += 1;
    }
    let alone = Hub::disabled();
    let [mut wall, mut cpu] = [[0.0; 2]; 2];
    let mut sleeps = [0; 2];
    // The second half in the other order: what drifts, drifts for both.
    for (watched, hub) in [(0, &alone), (1, &hub), (1, &hub), (0, &alone)] {
        let (started, used) = (Instant::now(), sys::thread_cpu());
        let slept = sys::sleeps();
        turn(hub, &mut model, steps, options.each_step);
        sleeps[watched] += sys::sleeps() - slept;
        wall[watched] += started.elapsed().as_secs_f64();
        cpu[watched] += (sys::thread_cpu() - used) as f64;
        std::thread::sleep(EVERY);
    }
    assert_eq!(hub.client_count(), options.viewers);
    let percent = |times: [f64; 2]| (times[1] / times[0] - 1.0) * 100.0;
    let mut figures = BTreeMap::new();
    figures.insert("wall".to_owned(), percent(wall));
    figures.insert("cpu".to_owned(), percent(cpu));
    figures.insert(
        "sleeps".to_owned(),
        (sleeps[1] as f64 - sleeps[0] as f64) / (2 * steps) as f64 * 1e5,
    );
    figures.insert("skipped".to_owned(), hub.stats().skipped as f64);
    figures
}

fn turn(hub: &Hub, model: &mut GrayScott, steps: usize, each_step: bool) {
    let mut shown = Instant::now();
    for step in 1..=steps {
        model.step();
        if each_step {
            if hub.client_count() > 0 {
                hub.broadcast(format!(r#"{{"progress":{step},"total":{steps}}}"#));
            }
        } else if shown.elapsed() >= EVERY {
            shown = Instant::now();
            if hub.client_count() > 0 {
                hub.broadcast(format!(r#"{{"progress":{step},"total":{steps}}}"#));
                hub.broadcast(field(model));
            }
        }
    }
}

fn field(model: &GrayScott) -> Vec<u8> {
    let side = CELLS / SHOWN;
    let mut bytes = Vec::with_capacity(8 + side * side * 4);
    for _ in 0..2 {
        bytes.extend_from_slice(&(side as u32).to_le_bytes());
    }
    for row in model.v.chunks(CELLS).step_by(SHOWN) {
        for value in row.iter().step_by(SHOWN) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}
