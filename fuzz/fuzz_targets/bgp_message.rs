//! Messages of an established BGP session, internal or external: UPDATEs above all.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| control::source::bgp::fuzz::message(bytes));
