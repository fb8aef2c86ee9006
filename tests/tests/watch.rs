//! `turnpike trace` and `turnpike capture`.

use std::process::ExitCode;

use tests::bench::Bench;
use tests::suite::Suite;
use tests::watching::{ALONE, STEPS};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("watch", Bench::new, |b| b.start(), STEPS);
    suite.group("load", || (), |()| {}, ALONE);
    suite.finish()
}
