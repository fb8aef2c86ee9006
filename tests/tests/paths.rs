//! traceroute, tracepath and mtr through turnpike, and path-MTU discovery.

use std::process::ExitCode;

use tests::paths::{JUMBO_STEPS, Paths, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("paths", Paths::new, Paths::start, STEPS);
    suite.group("jumbo", Paths::jumbo, Paths::start, JUMBO_STEPS);
    suite.finish()
}
