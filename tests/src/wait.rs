//! Waiting with an end: nothing in the suites waits for ever, and Ctrl-C ends every wait.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Panics if Ctrl-C came, so that everything unwinds and cleans up.
pub fn check_interrupt() {
    assert!(!crate::sys::interrupted(), "interrupted");
}

/// Looks until `look` yields something, for at most `limit`; then panics, naming `what` was waited for. Returns what
/// it yielded.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    match within(limit, &mut look) {
        Some(found) => found,
        None => panic!("waited {:.1} s in vain for {what}", limit.as_secs_f64()),
    }
}

/// As [`until`], for a condition. Returns how long it took.
#[track_caller]
pub fn until_true(limit: Duration, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    until(limit, what, || look().then_some(()));
    start.elapsed()
}

/// Looks until `look` yields something or `limit` has passed.
pub fn within<T>(limit: Duration, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        check_interrupt();
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(STEP);
    }
}

/// Sleeps, unless Ctrl-C comes.
pub fn pause(time: Duration) {
    within::<()>(time, &mut || None);
}
