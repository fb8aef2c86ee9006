//! What a VRF with few routes takes: memory in proportion to them.

use std::sync::Arc;

use crate::fib::{Fib4Writer, Fib6Writer};
use crate::grace::NoReaders;
use crate::ids::GroupId;

/// Of an empty table, in bytes.
const EMPTY: usize = 64 << 10;
/// Of one of 4,000 routes, control's copy included.
const FOUR_THOUSAND: usize = 2 << 20;

/// A number without a pattern for each place.
fn scattered(at: u32) -> u32 {
    at.wrapping_mul(0x9E37_79B9)
}

#[test]
fn an_ipv4_table_takes_memory_by_its_routes() {
    let mut writer = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
    let bytes = |writer: &Fib4Writer| writer.reader().memory() + writer.control_memory();
    assert!(bytes(&writer) < EMPTY, "{}", bytes(&writer));
    // All over the address space, none beside another.
    for at in 0..4000 {
        writer.insert(scattered(at) & !0xff, 24, GroupId(at % 100)).unwrap();
    }
    assert!(bytes(&writer) < FOUR_THOUSAND, "{}", bytes(&writer));
}

#[test]
fn an_ipv6_table_takes_memory_by_its_routes() {
    let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
    let bytes = |writer: &Fib6Writer| writer.reader().memory() + writer.control_memory();
    assert!(bytes(&writer) < EMPTY, "{}", bytes(&writer));
    // All over a registry's /12.
    for at in 0..4000 {
        let prefix = 0x2a00 << 112 | u128::from(scattered(at) >> 12) << 96 | u128::from(at) << 80;
        writer.insert(prefix, 48, GroupId(at % 100)).unwrap();
    }
    assert!(bytes(&writer) < FOUR_THOUSAND, "{}", bytes(&writer));
}
