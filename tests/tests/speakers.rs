//! FRR, BIRD, GoBGP, ExaBGP and OpenBGPD push routes, as docs/bgp.md says.

use std::process::ExitCode;

use tests::speakers::{STEPS, Yard};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group("speakers", Yard::new, |yard| yard.start(), STEPS);
    suite.finish()
}
