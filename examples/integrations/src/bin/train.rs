//! `candle` trains a network of two layers to tell two spirals apart.
//!
//!     cargo run --release --bin train [ADDRESS [EPOCHS]]

use std::error::Error;
use std::f32::consts::PI;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use candle_nn::{linear, loss::cross_entropy};
use stepcast::{Hub, ProgressIterator};

const POINTS: usize = 2000;
const BATCH: usize = 50;

/// Returns points in the plane, and the number of the spiral that each is on.
fn spirals() -> Result<(Tensor, Tensor)> {
    let point = |place: usize| {
        let along = (place as f32 * 0.618_034).fract();
        let turn = along * 3.0 * PI + (place % 2) as f32 * PI;
        [along * turn.cos(), along * turn.sin()]
    };
    let points = (0..POINTS).flat_map(point).collect();
    let spirals = (0..POINTS).map(|place| u32::from(place % 2 == 1)).collect();
    let points = Tensor::from_vec(points, (POINTS, 2), &Device::Cpu)?;
    Ok((points, Tensor::from_vec(spirals, POINTS, &Device::Cpu)?))
}

struct Network {
    hidden: Linear,
    output: Linear,
}

impl Module for Network {
    fn forward(&self, points: &Tensor) -> Result<Tensor> {
        self.output.forward(&self.hidden.forward(points)?.sin()?)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let hub = Hub::spawn_blocking(args.next().as_deref().unwrap_or("127.0.0.1:8002"))?;
    for url in hub.urls() {
        println!("watch at {url}");
    }
    let epochs = args.next().map_or(Ok(500), |argument| argument.parse())?;

    let (points, spirals) = spirals()?;
    let weights = VarMap::new();
    let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let (hidden, output) =
        (linear(2, 64, builder.pp("hidden"))?, linear(64, 2, builder.pp("output"))?);
    let network = Network { hidden, output };
    let mut optimizer = AdamW::new(weights.all_vars(), ParamsAdamW::default())?;

    let rate = hub.parameter("learning rate", 0.01).range(0.0..=0.1);
    let job = hub.job("training").total(epochs).unit("epochs").cancellable().start();
    for _ in 0..epochs {
        let batches = job.child("batches").total((POINTS / BATCH) as u64).start();
        for batch in (0..POINTS).step_by(BATCH).progress_with(&batches) {
            optimizer.set_learning_rate(rate.get());
            let guess = network.forward(&points.narrow(0, batch, BATCH)?)?;
            optimizer.backward_step(&cross_entropy(&guess, &spirals.narrow(0, batch, BATCH)?)?)?;
        }
        batches.finish();
        let guess = network.forward(&points)?;
        let loss = cross_entropy(&guess, &spirals)?.to_scalar::<f32>()?;
        let right = guess.argmax(D::Minus1)?.eq(&spirals)?.to_dtype(DType::F32)?.mean_all()?;
        job.inc(1);
        job.metric("loss", loss);
        job.metric("accuracy", right.to_scalar::<f32>()?);
        if job.is_cancelled() {
            job.cancelled();
            return Ok(());
        }
    }
    job.finish();
    Ok(())
}
