//! Changes that touch a whole table: they take the memory that their new blocks need, and are never refused for want of
//! memory that they would not use.

use std::sync::Arc;

use crate::fib::Fib6Writer;
use crate::grace::NoReaders;
use crate::ids::GroupId;

const MEBI: usize = 1 << 20;

/// `count` routes in `2000::/3`: mostly /48s, as many under each /28 as the Internet has where they are dense.
fn spread(count: u32) -> Vec<(u128, u8, GroupId)> {
    let route = |at: u32| {
        let (chunk, key) = (u128::from(at / 40), u128::from(at.wrapping_mul(0x9E37_79B9) >> 12));
        let prefix = 1u128 << 125 | chunk << 100 | key << 80;
        let len = [48, 48, 48, 44, 40, 36, 32][at as usize % 7];
        (prefix & u128::MAX << (128 - len), len as u8, GroupId(at % 100 + 1))
    };
    (0..count).map(route).collect()
}

/// `count` routes of up to /60 in one /28.
fn crowded(count: u32) -> Vec<(u128, u8, GroupId)> {
    let route = |at: u32| {
        let prefix = 0x2001_0db0 << 96 | u128::from(at.wrapping_mul(0x9E37_79B9)) << 68;
        let len = 60 - at % 9;
        (prefix & u128::MAX << (128 - len), len as u8, GroupId(at % 100 + 1))
    };
    (0..count).map(route).collect()
}

#[test]
fn a_short_route_over_a_large_table_takes_what_its_blocks_take() {
    let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
    writer.load(spread(240_000)).unwrap();
    let before = (writer.committed(), writer.control_memory());
    writer.insert(1 << 125, 3, GroupId(7000)).unwrap();
    let after = (writer.committed(), writer.control_memory());
    writer.remove(1 << 125, 3).unwrap();
    // The old blocks and the new, and what a buddy system leaves between.
    assert!(after.0 <= before.0 * 5 / 2 + MEBI, "{before:?} to {after:?}");
    assert!(after.1 <= before.1 + 8 * MEBI, "{before:?} to {after:?}");
    assert!(writer.committed() <= after.0 + MEBI);
}

#[test]
fn a_short_route_over_many_routes_is_not_refused() {
    let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
    writer.load(spread(800_000)).unwrap();
    for (prefix, len) in [(1 << 125, 3), (0, 1), (1 << 125, 4)] {
        assert_eq!(writer.insert(prefix, len, GroupId(7000 + u32::from(len))), Ok(None));
    }
    assert_eq!(writer.remove(1 << 125, 4), Ok(Some(GroupId(7004))));
}

#[test]
fn a_chunk_of_many_routes_changes() {
    let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
    let routes = crowded(800_000);
    writer.load(routes.iter().copied()).unwrap();
    assert_eq!(writer.insert(0x2001 << 112, 16, GroupId(7000)), Ok(None));
    assert_eq!(writer.insert(0x2001_0db0 << 96, 29, GroupId(7001)), Ok(None));
    assert_eq!(writer.insert(0x2001_0db8 << 96, 128, GroupId(7002)), Ok(None));
    assert!(writer.remove(routes[5].0, routes[5].1).unwrap().is_some());
    assert_eq!(writer.reader().lookup(0x2001_0db8 << 96), GroupId(7002));
}
