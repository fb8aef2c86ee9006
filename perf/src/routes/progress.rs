//! How far a run is, and how long it will still take, told before each of its steps.

use std::time::Instant;

use super::subject::Kind;
use super::{Args, Case};

/// Routes that the times are about.
const ROUTES: f64 = 1_160_000.0;

/// The steps of a run.
pub struct Progress {
    /// How many seconds each takes by experience.
    steps: Vec<f64>,
    done: usize,
    start: Instant,
}

/// How long a subject takes for all its routes, and to start and end.
fn of_subject(kind: Kind) -> (f64, f64) {
    match kind {
        Kind::Turnpike => (2.0, 3.0),
        Kind::Bird => (4.0, 4.0),
        Kind::BirdKernel => (25.0, 5.0),
        Kind::FrrKernel => (35.0, 8.0),
        Kind::Gobgp => (45.0, 5.0),
    }
}

impl Progress {
    /// Of these cases, and of these subjects in the first.
    pub fn new(args: &Args, cases: &[Case], subjects: &[Kind]) -> Self {
        let share = (args.v4 + args.v6) as f64 / ROUTES;
        let mut steps = Vec::new();
        for case in cases {
            match case {
                Case::Table => steps.extend(subjects.iter().map(|kind| {
                    let (work, rest) = of_subject(*kind);
                    let churn = if *kind == Kind::Turnpike { args.churn as f64 } else { 0.0 };
                    work * share + rest + churn
                })),
                Case::Fpm => steps.push(35.0 * share + 15.0),
                Case::Repair => steps.push(5.0 * share + 30.0),
                Case::ZeroLoss => steps.push(20.0 * share + 40.0),
            }
        }
        Self { steps, done: 0, start: Instant::now() }
    }

    /// The next step begins.
    pub fn next(&mut self, name: &str) {
        let left: f64 = self.steps[self.done.min(self.steps.len())..].iter().sum();
        self.done += 1;
        eprintln!(
            "perf: {name}: step {} of {} after {:.0} s; about {left:.0} s more",
            self.done,
            self.steps.len(),
            self.start.elapsed().as_secs_f64()
        );
    }
}
