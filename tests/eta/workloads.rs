//! Synthetic runs: when which position was reached. The tests and the table of `tests/eta.rs` feed
//! them to an estimator, as the sampler would, and compare each ETA with the truth.

use std::f64::consts::TAU;

/// A small generator of random numbers (`SplitMix64`): the runs are the same on each machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, each as likely as the next.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// A number from `low` to `high` whose logarithm is uniform.
    pub(crate) fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.uniform(low.ln(), high.ln()).exp()
    }

    /// A number of the standard normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform(f64::EPSILON, 1.0).ln()).sqrt();
        radius * (TAU * self.uniform(0.0, 1.0)).cos()
    }
}

/// A run: its start, its goal, and the times at which its position changed.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) start: f64,
    pub(crate) total: f64,
    /// Seconds between two samples.
    pub(crate) tick: f64,
    /// (time, position), in order of time.
    pub(crate) events: Vec<(f64, f64)>,
    /// When the machine sleeps, from and until: no samples, and no ETA can know of it.
    pub(crate) asleep: (f64, f64),
}

impl Run {
    pub(crate) fn new(start: f64, total: f64) -> Self {
        Self { start, total, tick: 0.1, events: Vec::new(), asleep: (0.0, 0.0) }
    }

    /// The time of the last event.
    pub(crate) fn end(&self) -> f64 {
        self.events.last().map_or(0.0, |event| event.0)
    }

    /// The samples until the end: (time, position).
    pub(crate) fn samples(&self) -> Vec<(f64, f64)> {
        let mut events = self.events.iter().peekable();
        let (mut samples, mut position) = (Vec::new(), self.start);
        let mut sample = 0_u32;
        loop {
            sample += 1;
            let t = f64::from(sample) * self.tick;
            if t > self.end() {
                return samples;
            }
            while let Some(event) = events.next_if(|event| event.0 <= t + 1e-9) {
                position = event.1;
            }
            samples.push((t, position));
        }
    }

    fn position(&self) -> f64 {
        self.events.last().map_or(self.start, |event| event.1)
    }

    /// Adds an advance that takes `time`.
    fn step(&mut self, time: f64, by: f64) {
        let event = (self.end() + time, self.position() + by);
        self.events.push(event);
    }

    /// Advances to the end in steps of `by`, each of which takes `time(position as a share)`.
    fn until_done(mut self, by: f64, mut time: impl FnMut(f64) -> f64) -> Self {
        let total = self.total;
        while self.position() < total - by / 2.0 {
            let share = self.position() / total;
            self.step(time(share), by);
        }
        self
    }
}

/// A kind of run: its name, and how one is made. Fixed kinds ignore the generator.
pub(crate) type Kind = (&'static str, fn(&mut Rng) -> Run);

/// The seven named workloads, with the parameters that the bounds were set for.
pub(crate) const NAMED: [Kind; 7] = [
    ("slow30", |_| Run::new(0.0, 60.0).until_done(1.0, |_| 30.0)),
    ("stalls", |_| stalls(0.1, 100.0, 60.0, 80.0, 1.2e6)),
    ("halves", |_| {
        let mut run = Run::new(0.0, 6e5).until_done(100.0, |_| 0.1);
        run.total = 1.2e6;
        run.until_done(50.0, |_| 0.1)
    }),
    ("growing", |_| Run::new(0.0, 1.2e6).until_done(100.0, |p| 0.1 * (1.0 + 3.0 * p))),
    ("resume40", |_| Run::new(4e5, 1e6).until_done(100.0, |_| 0.1)),
    ("bursts", |rng| Run::new(0.0, 6e5).until_done(5000.0, |_| 10.0 * rng.uniform(0.6, 1.4))),
    ("lognorm", |rng| Run::new(0.0, 500.0).until_done(1.0, |_| 2.0 * (0.6 * rng.normal()).exp())),
];

/// The same seven kinds with random parameters.
pub(crate) const RANDOM: [Kind; 7] = [
    ("slow steps", |rng| {
        let (time, noise) = (rng.scale(5.0, 120.0), rng.uniform(0.0, 0.1));
        let steps = rng.scale(10.0, 200.0).round();
        Run::new(0.0, steps).until_done(1.0, |_| time * (noise * rng.normal()).exp())
    }),
    ("stalls", |rng| {
        let period = rng.scale(15.0, 200.0);
        let busy = period * rng.uniform(0.55, 0.9);
        stalls(0.1, 100.0, busy, period, rng.scale(3e5, 1.5e6))
    }),
    ("halving", |rng| {
        let (at, slower) = (rng.uniform(0.2, 0.8), rng.uniform(1.5, 3.0));
        let (time, noise) = (rng.scale(0.05, 5.0), rng.uniform(0.0, 0.3));
        let total = (rng.scale(300.0, 2000.0) / time).max(60.0).round();
        Run::new(0.0, total).until_done(1.0, |p| {
            let level = if p < at { 1.0 } else { slower };
            time * level * (noise * rng.normal()).exp()
        })
    }),
    ("growing", |rng| {
        let (times, noise) = (rng.scale(1.5, 8.0), rng.uniform(0.0, 0.3));
        let time = rng.scale(0.05, 2.0);
        let total = (rng.scale(300.0, 2000.0) / time).round();
        Run::new(0.0, total)
            .until_done(1.0, |p| time * (1.0 + (times - 1.0) * p) * (noise * rng.normal()).exp())
    }),
    ("resumed", |rng| {
        let total = rng.scale(1e3, 1e5).round();
        let start = (total * rng.uniform(0.1, 0.9)).round();
        let time = rng.scale(200.0, 1500.0) / (total - start);
        let noise = rng.uniform(0.0, 0.5);
        Run::new(start, total).until_done(1.0, |_| time * (noise * rng.normal()).exp())
    }),
    ("bursts", |rng| {
        let (mean, width) = (rng.scale(2.0, 30.0), rng.uniform(0.1, 0.6));
        let bursts = rng.scale(30.0, 300.0).round();
        Run::new(0.0, bursts * 5000.0)
            .until_done(5000.0, |_| mean * rng.uniform(1.0 - width, 1.0 + width))
    }),
    ("lognorm", |rng| {
        let (median, sigma) = (rng.scale(0.3, 5.0), rng.uniform(0.3, 1.0));
        let steps = rng.scale(100.0, 1000.0).round();
        Run::new(0.0, steps).until_done(1.0, |_| median * (sigma * rng.normal()).exp())
    }),
];

/// Other kinds, from simulations and training.
pub(crate) const OTHERS: [Kind; 13] = [
    // The position is model time; the time step shrinks in the middle of the run, then grows again.
    ("adaptive step", |rng| {
        let (depth, at, width) = (rng.uniform(1.0, 5.0), rng.uniform(0.3, 0.7), 0.2);
        let noise = rng.uniform(0.0, 0.2);
        Run::new(0.0, 4000.0).until_done(1.0, |p| {
            let dip = (-((p - at) / width).powi(2)).exp();
            0.15 * (1.0 + depth * dip) * (noise * rng.normal()).exp()
        })
    }),
    ("two phases", |rng| {
        let (at, times) = (rng.uniform(0.1, 0.5), rng.scale(2.0, 8.0));
        let up = rng.uniform(0.0, 1.0) < 0.5;
        let (first, second) = if up { (1.0, times) } else { (times, 1.0) };
        Run::new(0.0, 3000.0).until_done(1.0, |p| {
            let level = if p < at { first } else { second };
            0.2 * level * (0.1 * rng.normal()).exp()
        })
    }),
    ("three phases", |rng| {
        let (from, length) = (rng.uniform(0.2, 0.4), rng.uniform(0.1, 0.3));
        let times = rng.scale(2.0, 5.0);
        Run::new(0.0, 4000.0).until_done(1.0, |p| {
            let level = if (from..from + length).contains(&p) { times } else { 1.0 };
            0.2 * level * (0.1 * rng.normal()).exp()
        })
    }),
    // Nobody told the clock: the gap counts as active time.
    ("suspended 1 h", |rng| {
        let at = rng.uniform(0.1, 0.8);
        let mut run = Run::new(0.0, 3000.0).until_done(1.0, |_| 0.3 * (0.2 * rng.normal()).exp());
        let from = at * run.end();
        for event in run.events.iter_mut().filter(|event| event.0 > from) {
            event.0 += 3600.0;
        }
        run.asleep = (from, from + 3600.0);
        run
    }),
    ("ten steps", |rng| {
        let time = rng.scale(3.0, 100.0);
        Run::new(0.0, 10.0).until_done(1.0, |_| time * (0.25 * rng.normal()).exp())
    }),
    ("first step slow", |rng| {
        let (first, time) = (rng.scale(5.0, 60.0), rng.scale(0.05, 1.0));
        Run::new(0.0, (rng.scale(100.0, 1000.0) / time).round()).until_done(1.0, |p| {
            let compile = if p == 0.0 { first } else { 0.0 };
            compile + time * (0.1 * rng.normal()).exp()
        })
    }),
    // Training: 200 batches an epoch, then a validation that advances nothing.
    ("epochs", |rng| {
        let (batch, validation) = (rng.scale(0.05, 0.3), rng.uniform(0.05, 0.5));
        let mut at = 0.0;
        Run::new(0.0, 200.0 * rng.uniform(5.0, 40.0).round()).until_done(1.0, |_| {
            at += 1.0;
            let pause = if at % 200.0 == 0.0 { 200.0 * batch * validation } else { 0.0 };
            pause + batch * (0.1 * rng.normal()).exp()
        })
    }),
    // The caches fill: the cost falls towards its final level.
    ("warming up", |rng| {
        let (more, until) = (rng.uniform(0.5, 3.0), rng.uniform(0.02, 0.1));
        Run::new(0.0, 5000.0).until_done(1.0, |p| {
            0.15 * (1.0 + more * (-p / until).exp()) * (0.1 * rng.normal()).exp()
        })
    }),
    ("falling", |rng| {
        let times = rng.scale(2.0, 6.0);
        let noise = rng.uniform(0.0, 0.2);
        Run::new(0.0, 3000.0)
            .until_done(1.0, |p| 0.15 * (times + (1.0 - times) * p) * (noise * rng.normal()).exp())
    }),
    // A shared machine: the speed wanders, with a memory of about a tenth of the run.
    ("wandering", |rng| {
        let mut level = 0.0;
        Run::new(0.0, 4000.0).until_done(1.0, |_| {
            level = 0.9975 * level + 0.025 * rng.normal();
            0.25 * (level + 0.1 * rng.normal()).exp()
        })
    }),
    // Somebody else's job comes and goes.
    ("shared core", |rng| {
        let mut busy = false;
        Run::new(0.0, 5000.0).until_done(1.0, |_| {
            busy ^= rng.uniform(0.0, 1.0) < 0.004;
            (if busy { 0.3 } else { 0.15 }) * (0.05 * rng.normal()).exp()
        })
    }),
    ("growing, with stalls", |rng| {
        let times = rng.scale(2.0, 5.0);
        let mut at = 0.0;
        Run::new(0.0, 4000.0).until_done(1.0, |p| {
            at += 1.0;
            let pause = if at % 200.0 == 0.0 { 10.0 } else { 0.0 };
            pause + 0.15 * (1.0 + (times - 1.0) * p)
        })
    }),
    ("power 2", |rng| {
        let times = rng.scale(2.0, 10.0);
        Run::new(0.0, 3000.0)
            .until_done(1.0, |p| 0.15 * (1.0 + (times - 1.0) * p * p) * (0.1 * rng.normal()).exp())
    }),
];

/// A steady advance that stalls from `busy` to the end of each `period`.
fn stalls(time: f64, by: f64, busy: f64, period: f64, total: f64) -> Run {
    let mut run = Run::new(0.0, total);
    while run.position() < total - by / 2.0 {
        // The step that begins after `busy` ends just after the period.
        let phase = (run.end() + 1e-6) % period;
        let stall = if phase >= busy { period - phase } else { 0.0 };
        run.step(stall + time, by);
    }
    run
}

/// An estimator as the samples see it.
pub(crate) trait Forecast {
    fn observe(&mut self, t: f64, p: f64, total: f64);
    /// Seconds left.
    fn eta(&self, t: f64, p: f64, total: f64) -> Option<f64>;
    /// The range in which the remaining time `eta` probably is.
    fn range(&self, _eta: f64) -> Option<(f64, f64)> {
        None
    }
}

/// How one estimator did on one run, or on several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Score {
    /// Relative errors of the ETA in percent, one a second from 5 % to 98 % of the run's time.
    pub(crate) errors: Vec<f64>,
    /// Changes of the ETA beyond the natural countdown, relative to the ETA before, in percent:
    /// those above a tenth.
    pub(crate) jumps: Vec<f64>,
    /// Seconds whose truth was in the range.
    pub(crate) inside: u32,
    /// Seconds without an ETA.
    pub(crate) missing: u32,
}

impl Score {
    /// The error that `share` of the seconds stay below.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut errors = self.errors.clone();
        errors.sort_by(f64::total_cmp);
        let rank = share * errors.len().saturating_sub(1) as f64;
        let below = errors.iter().enumerate().take_while(|(i, _)| *i as f64 <= rank).last();
        below.map_or(f64::NAN, |(_, error)| *error)
    }
}

/// Feeds `run` to `forecast`, sample by sample, and compares.
pub(crate) fn score(run: &Run, forecast: &mut impl Forecast) -> Score {
    let mut score = Score::default();
    let mut before = None::<f64>;
    let per_second = (1.0 / run.tick).round();
    for (i, (t, position)) in run.samples().into_iter().enumerate() {
        if t > run.asleep.0 && t < run.asleep.1 {
            continue;
        }
        forecast.observe(t, position, run.total);
        let sleep = if t <= run.asleep.0 { run.asleep.1 - run.asleep.0 } else { 0.0 };
        let left = run.end() - sleep - t;
        let scored = t >= 0.05 * run.end() && t <= 0.98 * run.end() && left > 0.0;
        if (i + 1) as f64 % per_second != 0.0 || !scored {
            continue;
        }
        let eta = forecast.eta(t, position, run.total);
        match eta {
            Some(eta) => {
                score.errors.push(100.0 * (eta - left).abs() / left);
                let range = forecast.range(eta);
                let inside = range.is_some_and(|(low, high)| low <= left && left <= high);
                score.inside += u32::from(inside);
            }
            None => score.missing += 1,
        }
        if let (Some(eta), Some(before)) = (eta, before) {
            let jump = 100.0 * (eta - before + 1.0).abs() / before;
            if before > 0.0 && jump > 10.0 {
                score.jumps.push(jump);
            }
        }
        before = eta;
    }
    score
}
