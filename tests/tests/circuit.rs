//! The circuit scenario with turnpike: once with FRR as the customer's router, once with BIRD, in different wrappings.

use std::process::ExitCode;

use tests::circuit::Circuit;
use tests::customer::Speaker;
use tests::scenarios::ANY_ROUTER;
use tests::settings::Variant;
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    let frr = Variant { outer_tpid: 0x8100, private_lan_tagged: true, speaker: Speaker::Frr };
    suite.group("frr", || Circuit::around(frr), |c| c.start_with_turnpike(), ANY_ROUTER);
    let bird = Variant { outer_tpid: 0x88a8, private_lan_tagged: false, speaker: Speaker::Bird };
    suite.group("bird", || Circuit::around(bird), |c| c.start_with_turnpike(), ANY_ROUTER);
    suite.finish()
}
