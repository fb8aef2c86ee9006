//! Starts that must not succeed.

use std::process::ExitCode;

use tests::refusals::{Desk, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("refusals", Desk::new, |_| (), STEPS);
    suite.finish()
}
