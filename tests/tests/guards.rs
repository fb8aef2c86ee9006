//! What must not leave, what must not be learned, what is changed on its way, and which VRF reaches which.

use std::process::ExitCode;

use tests::guards::{Guards, LEAK_STEPS, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("guards", || Guards::new(false), |g| g.start(), STEPS);
    suite.group("leaks", || Guards::new(true), |g| g.start(), LEAK_STEPS);
    suite.finish()
}
