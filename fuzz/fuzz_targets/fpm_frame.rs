//! A stream that a zebra sends, from its first byte: frames, the messages in them, and what a replica makes of them.
#![no_main]

use control::source::fpm::frame::frame;
use control::source::rtnl::{Manners, decode, messages};
use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|bytes: &[u8]| {
    let mut replica = common::replica(Manners::Zebra);
    let mut rest = bytes;
    while let Ok(Some((payload, taken))) = frame(rest) {
        assert!(taken >= 4 && taken <= rest.len());
        for message in messages(payload).flatten() {
            if let Ok(event) = decode(&message) {
                replica.take(&event);
            }
        }
        rest = &rest[taken..];
    }
    common::drain(&mut replica);
    // It comes back and says nothing: all goes.
    replica.begin();
    replica.sweep();
    common::drain(&mut replica);
    assert_eq!(replica.counts().routes, 0);
});
