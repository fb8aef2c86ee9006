//! All bytes that a BGP peer sends, from the first one on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| control::source::bgp::fuzz::session(bytes));
