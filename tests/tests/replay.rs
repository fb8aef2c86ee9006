//! Frames from capture files, down to a length of 0.

use std::process::ExitCode;

use tests::replay::{Replay, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("replay", Replay::new, |_| (), STEPS);
    suite.finish()
}
