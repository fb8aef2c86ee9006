//! A datagram of the kernel's, and what a replica makes of it; then the same again as a dump.
#![no_main]

use control::source::rtnl::{Manners, decode, messages};
use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|bytes: &[u8]| {
    let mut replica = common::replica(Manners::Kernel);
    for _ in 0..2 {
        for message in messages(bytes).flatten() {
            if let Ok(event) = decode(&message) {
                replica.take(&event);
            }
        }
        common::drain(&mut replica);
        replica.begin();
    }
    replica.sweep();
    common::drain(&mut replica);
    replica.clear();
    common::drain(&mut replica);
    assert_eq!(replica.counts().routes, 0);
});
