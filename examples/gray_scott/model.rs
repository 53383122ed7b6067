//! The Gray-Scott model: two chemicals that diffuse and react, and draw spots, stripes and mazes.
//!
//! ```text
//! du/dt = Du lap(u) - u v^2 + F (1 - u)
//! dv/dt = Dv lap(v) + u v^2 - (F + k) v
//! ```
//!
//! `u` is fed at the rate `F`; `v` eats `u` to make more of itself and is removed at the rate
//! `F + k`. The square is periodic, its grid spacing is 1, the Laplacian has nine points, and a
//! step is one explicit Euler step with `dt = 1`.
//!
//! With fixed `F` and `k` the square is full after some ten thousand steps and then hardly moves.
//! So they drift, slowly against the time in which a pattern forms, along a closed path through
//! the patterns that Pearson found: spots divide and fill the square, join to stripes, thin out
//! to holes, break up into turbulence, and calm down to spots again.
//!
//! Sources: J. E. Pearson, "Complex Patterns in a Simple System", Science 261 (1993), for the
//! patterns; Karl Sims, "Reaction-Diffusion Tutorial", for the scaling (`Du = 1`, `Dv = 1/2`,
//! unit grid and step, weights 1/5 and 1/20) and for the first stop of the path, "mitosis".

/// Diffusion of `u`. Explicit Euler with this stencil is stable up to 1 at `dt = 1`, and blows up
/// from 1.25 on.
pub(crate) const DIFFUSION_U: f32 = 1.0;
/// Diffusion of `v`. It is slower than that of `u`, so patterns are stable.
const DIFFUSION_V: f32 = 0.5;

/// Weights of the Laplacian's four sides and four corners; the centre has -1.
const SIDE: f32 = 0.2;
const CORNER: f32 = 0.05;

/// The steps of the drift from one stop of the path to the next.
pub(crate) const LEG: u64 = 250_000;

/// The pattern that each leg of the path begins with.
pub(crate) const LEGS: [&str; PATH.len()] =
    ["spots that divide", "coral", "maze", "holes", "turbulence", "moving spots"];

/// The path's stops, as `F` and `k`. The last leg leads back to the first, and no leg leaves the
/// region where `v` survives.
const PATH: [(f32, f32); 6] = [
    (0.0367, 0.0649),
    (0.0545, 0.0620),
    (0.0290, 0.0570),
    (0.0260, 0.0525),
    (0.0180, 0.0510),
    (0.0180, 0.0545),
];

/// The steps of one round of the path.
pub(crate) const ROUND: u64 = LEG * PATH.len() as u64;

/// The model's state on a square grid.
#[derive(Debug, Clone)]
pub(crate) struct GrayScott {
    /// The fed chemical, row-major, `n * n` values from 0 to 1.
    pub(crate) u: Vec<f32>,
    /// The chemical that eats `u`, row-major, `n * n` values from 0 to 1.
    pub(crate) v: Vec<f32>,
    n: usize,
    steps: u64,
    diffusion: f32,
    /// The numbers that are added to `F` and `k` of the path.
    pub(crate) shift: (f64, f64),
    /// The output of a step; swapped with `u` and `v` at its end.
    next: [Vec<f32>; 2],
    row_u: Row,
    row_v: Row,
}

impl GrayScott {
    /// Makes a square of `n` by `n` cells, all `u` but for a dozen blots of `v`, the same in every
    /// run. `n` is at least 1; a pattern needs some 32. `diffusion` is that of `u`.
    pub(crate) fn new(n: usize, diffusion: f32) -> Self {
        let mut model = Self {
            u: vec![1.0; n * n],
            v: vec![0.0; n * n],
            n,
            steps: 0,
            diffusion,
            shift: (0.0, 0.0),
            next: [vec![0.0; n * n], vec![0.0; n * n]],
            row_u: Row::new(n),
            row_v: Row::new(n),
        };
        // Knuth's MMIX generator: the high bits are random enough to scatter a dozen blots.
        let mut state = 1993_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 40).unwrap_or(0) % below
        };
        for _ in 0..12 {
            let (top, left, side) = (random(n), random(n), 3 + random(4));
            model.blot(top, left, side);
        }
        model
    }

    /// Puts a square of `v` whose upper left cell is (`top`, `left`).
    fn blot(&mut self, top: usize, left: usize, side: usize) {
        for dy in 0..side {
            for dx in 0..side {
                let at = (top + dy) % self.n * self.n + (left + dx) % self.n;
                self.u[at] = 0.5;
                self.v[at] = 0.5;
            }
        }
    }

    /// Returns `F` and `k` of the next step.
    pub(crate) fn parameters(&self) -> (f32, f32) {
        let stop = usize::try_from(self.steps / LEG).unwrap_or(0) % PATH.len();
        #[expect(clippy::cast_precision_loss, reason = "below 2^24, which f32 holds exactly")]
        let way = (self.steps % LEG) as f32 / LEG as f32;
        let (from, to) = (PATH[stop], PATH[(stop + 1) % PATH.len()]);
        #[expect(clippy::cast_possible_truncation, reason = "near enough")]
        let (feed, kill) = (self.shift.0 as f32, self.shift.1 as f32);
        (from.0 + way * (to.0 - from.0) + feed, from.1 + way * (to.1 - from.1) + kill)
    }

    /// Returns the mean of `v`.
    pub(crate) fn mean_v(&self) -> f64 {
        mean(&self.v)
    }

    /// Returns the greatest `v`; NaN if all are.
    pub(crate) fn greatest_v(&self) -> f64 {
        self.v.iter().copied().reduce(f32::max).map_or(f64::NAN, f64::from)
    }

    /// Computes one time step: reads `u` and `v`, replaces them, allocates nothing.
    pub(crate) fn step(&mut self) {
        let (feed, kill) = self.parameters();
        let Self { u, v, n, diffusion, next: [next_u, next_v], row_u, row_v, .. } = self;
        let (n, diffusion) = (*n, *diffusion);
        for y in 0..n {
            row_u.load(u, n, y);
            row_v.load(v, n, y);
            let row = y * n..(y + 1) * n;
            let u_in = row_u.centre.windows(3).zip(row_u.beside.windows(3));
            let v_in = row_v.centre.windows(3).zip(row_v.beside.windows(3));
            let out = next_u[row.clone()].iter_mut().zip(&mut next_v[row]);
            for ((u_in, v_in), (u_out, v_out)) in u_in.zip(v_in).zip(out) {
                let (u, v) = (u_in.0[1], v_in.0[1]);
                let eaten = u * v * v;
                *u_out = u + diffusion * laplacian(u_in) - eaten + feed * (1.0 - u);
                *v_out = v + DIFFUSION_V * laplacian(v_in) + eaten - (feed + kill) * v;
            }
        }
        std::mem::swap(u, next_u);
        std::mem::swap(v, next_v);
        self.steps += 1;
    }
}

fn mean(field: &[f32]) -> f64 {
    field.iter().map(|value| f64::from(*value)).sum::<f64>() / field.len() as f64
}

/// The Laplacian from three cells of a row, and the sums of the three above and below them.
#[inline]
fn laplacian((centre, beside): (&[f32], &[f32])) -> f32 {
    SIDE * (centre[0] + centre[2] + beside[1]) + CORNER * (beside[0] + beside[2]) - centre[1]
}

/// One row with a wrapped cell on either side, so that the inner loop has no edges and vectorises.
#[derive(Debug, Clone)]
struct Row {
    centre: Vec<f32>,
    /// The sum of the rows above and below.
    beside: Vec<f32>,
}

impl Row {
    fn new(n: usize) -> Self {
        Self { centre: vec![0.0; n + 2], beside: vec![0.0; n + 2] }
    }

    fn load(&mut self, field: &[f32], n: usize, y: usize) {
        let row = |y: usize| &field[y * n..(y + 1) * n];
        let (above, below) = (row((y + n - 1) % n), row((y + 1) % n));
        self.centre[1..=n].copy_from_slice(row(y));
        for ((sum, above), below) in self.beside[1..=n].iter_mut().zip(above).zip(below) {
            *sum = above + below;
        }
        for padded in [&mut self.centre, &mut self.beside] {
            padded[0] = padded[n];
            padded[n + 1] = padded[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula cell by cell, as it stands in the paper.
    fn step_slowly(model: &GrayScott) -> (Vec<f32>, Vec<f32>) {
        let n = model.n;
        let (feed, kill) = model.parameters();
        let lap = |field: &[f32], y: usize, x: usize| {
            let at = |dy: usize, dx: usize| field[(y + dy) % n * n + (x + dx) % n];
            let back = n - 1;
            0.2 * (at(0, 1) + at(0, back) + at(1, 0) + at(back, 0))
                + 0.05 * (at(1, 1) + at(1, back) + at(back, 1) + at(back, back))
                - at(0, 0)
        };
        let cells = (0..n).flat_map(|y| (0..n).map(move |x| (y, x)));
        cells
            .map(|(y, x)| {
                let (u, v) = (model.u[y * n + x], model.v[y * n + x]);
                let u_next = u + lap(&model.u, y, x) - u * v * v + feed * (1.0 - u);
                let v_next = v + 0.5 * lap(&model.v, y, x) + u * v * v - (feed + kill) * v;
                (u_next, v_next)
            })
            .unzip()
    }

    #[test]
    fn a_step_is_the_formula_of_the_paper_also_across_the_edges() {
        let mut model = GrayScott::new(24, DIFFUSION_U);
        for _ in 0..100 {
            let (u, v) = step_slowly(&model);
            model.step();
            let pairs = model.u.iter().zip(&u).chain(model.v.iter().zip(&v));
            for (fast, slow) in pairs {
                assert!((fast - slow).abs() < 1e-5, "{fast} is not {slow}");
            }
        }
    }

    #[test]
    fn the_pattern_develops_within_bounds() {
        let mut model = GrayScott::new(64, DIFFUSION_U);
        let first = model.mean_v();
        for step in 0..4_000 {
            model.step();
            if step % 100 == 0 {
                assert!(model.u.iter().chain(&model.v).all(|c| (0.0..=1.0).contains(c)));
                // F (1 - <u + v>) - k <v> is what the mean of u + v grows by: it stays under 1.
                assert!(mean(&model.u) + model.mean_v() <= 1.0 + 1e-5);
            }
        }
        let last = model.mean_v();
        assert!(last > 1.2 * first, "v went from {first} to {last}");
        let spread = model.v.iter().map(|v| (f64::from(*v) - last).powi(2)).sum::<f64>();
        assert!(spread > 1.0, "the square has become uniform: {spread}");
    }

    #[test]
    fn too_much_diffusion_for_the_step_blows_the_model_up() {
        let mut model = GrayScott::new(32, 2.0);
        for _ in 0..1000 {
            model.step();
        }
        assert!(model.v.iter().any(|v| !v.is_finite()));
    }

    #[test]
    fn two_runs_are_the_same() {
        let (mut one, mut other) =
            (GrayScott::new(32, DIFFUSION_U), GrayScott::new(32, DIFFUSION_U));
        for _ in 0..200 {
            one.step();
            other.step();
        }
        assert_eq!(one.u, other.u);
        assert_eq!(one.v, other.v);
    }

    #[test]
    fn the_parameters_drift_from_stop_to_stop_and_come_back() {
        let mut model = GrayScott::new(1, DIFFUSION_U);
        let near = |(f, k): (f32, f32), (f2, k2): (f32, f32)| {
            assert!(
                (f - f2).abs() < 1e-6 && (k - k2).abs() < 1e-6,
                "({f}, {k}) is not ({f2}, {k2})"
            );
        };
        near(model.parameters(), PATH[0]);
        model.steps = LEG + LEG / 2;
        near(
            model.parameters(),
            (f32::midpoint(PATH[1].0, PATH[2].0), f32::midpoint(PATH[1].1, PATH[2].1)),
        );
        model.steps = ROUND;
        near(model.parameters(), PATH[0]);
    }
}
