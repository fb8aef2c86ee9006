//! Runs the steps of a suite one after the other over a shared fixture, so that start-up is paid once; says which
//! held, as `cargo test` does, and takes its filters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{sys, wait};

/// What the steps of a group work on.
pub trait Fixture {
    /// For people who look into it while it stands: what is where, and how to get in.
    fn describe(&self) -> String {
        String::new()
    }

    /// Printed after a step that failed.
    fn diagnose(&mut self) -> String {
        String::new()
    }

    /// After a step that failed: mends what it may have left broken, so that the next ones fail only by themselves.
    fn recover(&mut self) {}
}

impl Fixture for () {}

/// One step: its name, and what it does. It panics when something does not hold, and leaves the fixture as it was.
pub type Step<T> = (&'static str, fn(&mut T));

/// The groups of one test program.
#[derive(Debug)]
pub struct Suite {
    filters: Vec<String>,
    list: bool,
    keep: bool,
    passed: usize,
    failed: Vec<String>,
}

impl Suite {
    /// Reads the command line (`--list`, and words that a step's full name must contain) and `TURNPIKE_KEEP`.
    pub fn new() -> Self {
        sys::catch_interrupts();
        let words: Vec<String> = std::env::args().skip(1).collect();
        Self {
            list: words.iter().any(|w| w == "--list"),
            filters: words.into_iter().filter(|w| !w.starts_with('-')).collect(),
            keep: std::env::var_os("TURNPIKE_KEEP").is_some_and(|v| v != "0"),
            passed: 0,
            failed: Vec::new(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| name.contains(f.as_str()))
    }

    /// Makes the fixture, starts it, runs the steps that the command line wants, and takes it down. Without such steps
    /// nothing is made; when the start fails they are not run.
    pub fn group<T: Fixture>(
        &mut self,
        group: &str,
        make: impl FnOnce() -> T,
        start: impl FnOnce(&mut T),
        steps: &[Step<T>],
    ) {
        let wanted: Vec<_> = steps
            .iter()
            .map(|(name, step)| (format!("{group}::{name}"), *step))
            .filter(|(name, _)| self.wants(name))
            .collect();
        if self.list {
            for (name, _) in &wanted {
                println!("{name}: test");
            }
            return;
        }
        if wanted.is_empty() || sys::interrupted() {
            return;
        }
        println!("\n{group}: {} steps", wanted.len());
        let Ok(mut fixture) = catch_unwind(AssertUnwindSafe(make)) else {
            println!("test {group}::(make) ... FAILED");
            self.failed.push(format!("{group}::(make), and so none of its {} steps", wanted.len()));
            return;
        };
        if self.step(format!("{group}::(start)"), &mut fixture, start) {
            for (name, step) in wanted {
                self.step(name, &mut fixture, step);
            }
        }
        if self.keep && !sys::interrupted() {
            let what = catch_unwind(AssertUnwindSafe(|| fixture.describe())).unwrap_or_default();
            println!("{what}\n\n{group} is kept standing (TURNPIKE_KEEP). Ctrl-C takes it down.");
            while !sys::interrupted() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Runs one step; whether it held.
    fn step<T: Fixture>(&mut self, name: String, fixture: &mut T, step: impl FnOnce(&mut T)) -> bool {
        if sys::interrupted() {
            self.failed.push(format!("{name} (interrupted)"));
            return false;
        }
        let start = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| step(fixture))).is_ok();
        let took = start.elapsed().as_secs_f64();
        println!("test {name} ... {} ({took:.1} s)", if held { "ok" } else { "FAILED" });
        if held {
            self.passed += 1;
        } else {
            println!("{}", catch_unwind(AssertUnwindSafe(|| fixture.diagnose())).unwrap_or_default());
            if catch_unwind(AssertUnwindSafe(|| fixture.recover())).is_err() {
                println!("{name} left something broken, and what follows may fail by that");
            }
            self.failed.push(name);
        }
        held
    }

    /// Says how it went.
    pub fn finish(self) -> ExitCode {
        if self.list {
            return ExitCode::SUCCESS;
        }
        if self.failed.is_empty() {
            println!("\ntest result: ok. {} passed\n", self.passed);
            return ExitCode::SUCCESS;
        }
        println!("\nfailures:\n    {}", self.failed.join("\n    "));
        println!("\ntest result: FAILED. {} passed; {} failed\n", self.passed, self.failed.len());
        ExitCode::FAILURE
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

/// A step's time limit that is not a matter of measurement: generous, since the machine may be busy.
pub const SOON: Duration = Duration::from_mins(1);

/// What the project promises of a route: used, or gone, within this.
pub const ROUTE: Duration = Duration::from_secs(1);

/// How often something that depends on time is tried, since the machine may just have stood still.
const TRIES: usize = 8;

/// Fails unless one of some tries goes well; each says what did not.
#[track_caller]
pub fn assert_once(mut attempt: impl FnMut() -> Result<(), String>) {
    for left in (0..TRIES).rev() {
        let Err(wrong) = attempt() else { return };
        wait::check_interrupt();
        assert!(left > 0, "{wrong}");
        println!("    once more: {wrong}");
    }
}

/// Measures how long things take; fails unless in one of some tries all are within `limit`.
#[track_caller]
pub fn assert_once_within<const N: usize>(
    limit: Duration,
    what: [&str; N],
    mut measure: impl FnMut() -> [Duration; N],
) {
    assert_once(|| {
        let took = measure();
        for (what, took) in what.iter().zip(took) {
            println!("    {what}: {:.3} s", took.as_secs_f64());
        }
        let right = took.iter().all(|took| *took <= limit);
        right.then_some(()).ok_or_else(|| format!("{what:?} took {took:?}, not {limit:?} at most"))
    });
}

/// Does something when it is dropped: puts back what a step changed, also when the step fails.
#[derive(Debug)]
pub struct Undo<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the program before it has cleaned up; the step has failed anyway.
            let _ = catch_unwind(AssertUnwindSafe(&mut self.0));
        } else {
            (self.0)();
        }
    }
}
