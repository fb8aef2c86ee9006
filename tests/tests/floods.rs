//! Floods at the speed of memory, while BGP and BFD sessions run over other ports. Each for a few seconds, or for
//! `TURNPIKE_LOAD_SECONDS`.

use std::process::ExitCode;

use tests::overload::Overload;
use tests::overload::floods::{FLOODS, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for flood in FLOODS {
        suite.group(flood.name, || Overload::new(*flood), Overload::start, STEPS);
    }
    suite.finish()
}
