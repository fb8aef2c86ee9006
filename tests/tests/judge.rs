//! The Linux kernel's router as the judge of turnpike.

use std::process::ExitCode;

use tests::judge::{Court, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("judge", Court::new, Court::start, STEPS);
    suite.finish()
}
