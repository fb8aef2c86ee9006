//! Routes that turnpike takes from others' tables: FRR's zebra over FPM, and the kernel's, which BIRD and `ip` fill.

use std::process::ExitCode;

use tests::suite::Suite;
use tests::tables::{Yard, fpm, netlink};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("fpm", Yard::new, fpm::start, fpm::STEPS);
    suite.group("netlink", Yard::new, netlink::start, netlink::STEPS);
    suite.finish()
}
