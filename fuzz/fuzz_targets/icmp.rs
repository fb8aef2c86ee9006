//! What control makes of packets that a worker did not forward: ICMP errors, fragments, IPv4 options, hop-by-hop
//! options.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| control::router::fuzz::slow_path(bytes));
