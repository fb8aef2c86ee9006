//! Access lists: real frames judged in and out, and lists that change while packets pass.

use std::process::ExitCode;

use tests::access::{Gate, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("access", Gate::new, |g| g.start(), STEPS);
    suite.finish()
}
