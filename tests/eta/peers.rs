//! The formulas of other progress libraries, rewritten from their sources, and two plain ones.

use std::collections::VecDeque;

use super::workloads::Forecast;

/// indicatif 0.18, `state.rs`: two exponential averages of the rate with a constant of 15 s. An
/// idle time counts as an update without steps.
#[derive(Debug)]
pub(crate) struct Indicatif {
    steps: f64,
    time: f64,
    smoothed: f64,
    double: f64,
}

impl Indicatif {
    pub(crate) fn new(start: f64) -> Self {
        Self { steps: start, time: 0.0, smoothed: 0.0, double: 0.0 }
    }

    fn weight(age: f64) -> f64 {
        0.1_f64.powf(age / 15.0)
    }
}

impl Forecast for Indicatif {
    fn observe(&mut self, t: f64, p: f64, _total: f64) {
        if p <= self.steps || t <= self.time {
            return;
        }
        let dt = t - self.time;
        let weight = Self::weight(dt);
        self.smoothed = self.smoothed * weight + (p - self.steps) / dt * (1.0 - weight);
        let normalized = self.smoothed / (1.0 - Self::weight(t));
        self.double = self.double * weight + normalized * (1.0 - weight);
        (self.steps, self.time) = (p, t);
    }

    fn eta(&self, t: f64, p: f64, total: f64) -> Option<f64> {
        let (weight, whole) = (Self::weight(t - self.time), 1.0 - Self::weight(t));
        let once = self.smoothed * weight / whole;
        let rate = (self.double * weight + once * (1.0 - weight)) / whole;
        (rate > 0.0).then(|| (total - p) / rate)
    }
}

/// tqdm, `std.py`: the ratio of two exponential averages, of steps and of times, of the refreshes.
#[derive(Debug)]
pub(crate) struct Tqdm {
    steps: f64,
    time: f64,
    averages: (f64, f64),
}

impl Tqdm {
    pub(crate) fn new(start: f64) -> Self {
        Self { steps: start, time: 0.0, averages: (0.0, 0.0) }
    }
}

impl Forecast for Tqdm {
    fn observe(&mut self, t: f64, p: f64, _total: f64) {
        if p > self.steps {
            // The corrections of the bias cancel out in the ratio.
            self.averages.0 = 0.3 * (p - self.steps) + 0.7 * self.averages.0;
            self.averages.1 = 0.3 * (t - self.time) + 0.7 * self.averages.1;
            (self.steps, self.time) = (p, t);
        }
    }

    fn eta(&self, _t: f64, p: f64, total: f64) -> Option<f64> {
        let (steps, time) = self.averages;
        (steps > 0.0).then(|| (total - p) * time / steps)
    }
}

/// rich, `progress.py`: the mean over the samples of the last 30 s, at most 1000 of them.
#[derive(Debug)]
pub(crate) struct Rich {
    steps: f64,
    samples: VecDeque<(f64, f64)>,
}

impl Rich {
    pub(crate) fn new(start: f64) -> Self {
        Self { steps: start, samples: VecDeque::new() }
    }
}

impl Forecast for Rich {
    fn observe(&mut self, t: f64, p: f64, _total: f64) {
        while self.samples.front().is_some_and(|sample| sample.0 < t - 30.0) {
            self.samples.pop_front();
        }
        if p > self.steps {
            self.samples.push_back((t, p - self.steps));
            if self.samples.len() > 1000 {
                self.samples.pop_front();
            }
            self.steps = p;
        }
    }

    fn eta(&self, _t: f64, p: f64, total: f64) -> Option<f64> {
        let time = self.samples.back()?.0 - self.samples.front()?.0;
        let steps: f64 = self.samples.iter().skip(1).map(|sample| sample.1).sum();
        (time > 0.0 && steps > 0.0).then(|| ((total - p) * time / steps).ceil())
    }
}

/// The mean over the whole run.
#[derive(Debug)]
pub(crate) struct Mean {
    start: f64,
}

impl Mean {
    pub(crate) fn new(start: f64) -> Self {
        Self { start }
    }
}

impl Forecast for Mean {
    fn observe(&mut self, _t: f64, _p: f64, _total: f64) {}

    fn eta(&self, t: f64, p: f64, total: f64) -> Option<f64> {
        (p > self.start).then(|| (total - p) * t / (p - self.start))
    }
}
