//! The circuit scenario with the Linux router in turnpike's place: what fails here is the harness or the peers.

use std::process::ExitCode;

use tests::circuit::Circuit;
use tests::customer::Speaker;
use tests::scenarios::ANY_ROUTER;
use tests::settings::Variant;
use tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    let variant =
        Variant { outer_tpid: 0x88a8, private_lan_tagged: false, workers: 1, speaker: Speaker::Frr };
    suite.group("linux", || Circuit::around(variant), |c| c.start_with_linux(), ANY_ROUTER);
    suite.finish()
}
