//! The circuit scenario with turnpike: once with FRR as the customer's router, once with BIRD, in different wrappings.

use std::process::ExitCode;

use tests::circuit::Circuit;
use tests::customer::Speaker;
use tests::scenarios::{ANY_ROUTER, TURNPIKE, own};
use tests::settings::Variant;
use tests::suite::{Step, Suite};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    let frr = Variant { outer_tpid: 0x8100, private_lan_tagged: true, workers: 1, speaker: Speaker::Frr };
    let last: Step<Circuit> = ("ends_cleanly_on_sigterm", own::ends_cleanly_on_sigterm);
    let steps = [ANY_ROUTER, TURNPIKE, &[last]].concat();
    suite.group("frr", || Circuit::around(frr), |c| c.start_with_turnpike(), &steps);
    let bird = Variant { outer_tpid: 0x88a8, private_lan_tagged: false, workers: 2, speaker: Speaker::Bird };
    let last: Step<Circuit> = ("ends_cleanly_on_sigint", own::ends_cleanly_on_sigint);
    let steps = [ANY_ROUTER, TURNPIKE, &[last]].concat();
    suite.group("bird", || Circuit::around(bird), |c| c.start_with_turnpike(), &steps);
    suite.finish()
}
