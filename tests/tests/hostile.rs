//! Right frames byte by byte, wrong ones of all sorts, floods, and BGP peers that misbehave.

use std::process::ExitCode;

use tests::bench::Bench;
use tests::hostile::STEPS;
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("bench", Bench::new, |b| b.start(), STEPS);
    suite.finish()
}
