//! Floods at the speed of memory, while BGP and BFD sessions run over other ports. Each for a few seconds, or for
//! `TURNPIKE_LOAD_SECONDS`.

use std::process::ExitCode;

use tests::overload::Overload;
use tests::overload::floods::{FLOODS, all_else_goes_on};
use tests::suite::{Step, Suite};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    macro_rules! flood {
        ($($number:literal)*) => {$({
            const STEPS: &[Step<Overload>] =
                &[("all_else_goes_on", |overload| all_else_goes_on(overload, FLOODS[$number].1))];
            let (name, _, frames) = FLOODS[$number];
            suite.group(name, Overload::new, |overload| overload.start(&frames(), true), STEPS);
        })*};
    }
    flood!(0 1 2 3 4);
    suite.finish()
}
