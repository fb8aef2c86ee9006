//! BFD under load, for a few seconds or for `TURNPIKE_LOAD_SECONDS`.

use std::process::ExitCode;

use tests::overload::Overload;
use tests::overload::bfd::{LOAD, STEPS};
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    suite.group(LOAD.name, || Overload::new(LOAD), Overload::start, STEPS);
    suite.finish()
}
