//! How far a run is, and how long it will take.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::traffic::Live;

/// Tells of progress on standard error: on a terminal in one line that is renewed, else a line every minute.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    start: Instant,
    /// What is being measured.
    label: String,
    /// Seconds that all units of work still to come are expected to take, this one included.
    left: f64,
    unit: f64,
    unit_start: Instant,
    last: Instant,
}

const EVERY: Duration = Duration::from_mins(1);

impl Progress {
    /// `terminal`: whether standard error is one.
    pub fn new(terminal: bool) -> Self {
        let now = Instant::now();
        Self { terminal, start: now, label: String::new(), left: 0.0, unit: 0.0, unit_start: now, last: now }
    }

    /// Says how long everything is expected to take, in seconds.
    pub fn plan(&mut self, seconds: f64) {
        self.left = seconds;
    }

    /// A unit of work begins, which was planned with so many seconds.
    pub fn begin(&mut self, label: String, seconds: f64) {
        self.left -= self.unit;
        (self.label, self.unit, self.unit_start) = (label, seconds, Instant::now());
        self.last = self.last.min(Instant::now());
        self.show("");
    }

    /// Seconds left by the plan. A unit that takes longer than planned does not eat the others' time.
    fn left(&self) -> f64 {
        (self.left - self.unit_start.elapsed().as_secs_f64().min(self.unit)).max(0.0)
    }

    fn line(&self, detail: &str) -> String {
        let (passed, left) = (clock(self.start.elapsed().as_secs_f64()), clock(self.left()));
        format!("{passed} passed, about {left} left: {}{detail}", self.label)
    }

    fn show(&self, detail: &str) {
        if self.terminal {
            let mut line = self.line(detail);
            line.truncate(line.char_indices().nth(110).map_or(line.len(), |(at, _)| at));
            // Progress that cannot be shown is no reason to end.
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        }
    }

    /// Clears the line, so that a result can be printed.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Runs a trial, and tells of it each second while it runs.
    pub fn during<T>(&mut self, live: &Live, expected: Duration, trial: impl FnOnce() -> T) -> T {
        let result = if self.terminal && expected > Duration::from_millis(1500) {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let watcher = scope.spawn(|| self.watch(live, &done));
                let result = trial();
                done.store(true, Ordering::Relaxed);
                watcher.thread().unpark();
                result
            })
        } else {
            trial()
        };
        if !self.terminal && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("perf: {}", self.line(""));
        }
        result
    }

    fn watch(&self, live: &Live, done: &AtomicBool) {
        let mut before = 0;
        while !done.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_secs(1));
            let sent = live.sent.load(Ordering::Relaxed);
            self.show(&format!(", {:.2} Mpps", sent.saturating_sub(before) as f64 / 1e6));
            before = sent;
        }
    }
}

/// `h:mm:ss`, or `m:ss`.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!((clock(0.4), clock(59.6), clock(3599.0)), ("0:00".into(), "1:00".into(), "59:59".into()));
        assert_eq!(clock(3661.0), "1:01:01");
    }

    #[test]
    fn time_left_shrinks_unit_by_unit() {
        let mut progress = Progress::new(false);
        progress.plan(100.0);
        progress.begin("first".into(), 60.0);
        assert!((99.0..=100.0).contains(&progress.left()));
        progress.begin("second".into(), 40.0);
        assert!((39.0..=40.0).contains(&progress.left()));
        assert!(progress.line(", more").contains("left: second, more"));
    }
}
