//! Memory that runs out at any of the allocations of a change: the change is refused, and the table is as it was.
#![allow(unsafe_code)] // An allocator that fails when it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fib::{Fib4Writer, Fib6Writer, FibError};
use crate::grace::NoReaders;
use crate::ids::GroupId;

thread_local! {
    /// How many allocations of this thread still succeed.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Lets `count` more allocations of this thread succeed while `work` is done.
pub(super) fn limited<T>(count: usize, work: impl FnOnce() -> T) -> T {
    LEFT.set(count);
    let result = work();
    LEFT.set(usize::MAX);
    result
}

struct Failing;

fn may() -> bool {
    LEFT.with(|left| match left.get() {
        usize::MAX => true,
        0 => false,
        count => {
            left.set(count - 1);
            true
        }
    })
}

// SAFETY: the system's allocator, or no memory, which every caller must expect.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches for.
        if may() { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller vouches for.
        if may() { unsafe { System.realloc(memory, layout, size) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches for.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Calls `change` with 0, 1, 2, ... allocations left until it succeeds; `check` sees every failure. How many there were.
fn starve<T>(
    mut change: impl FnMut(&mut T) -> Result<(), FibError>,
    table: &mut T,
    check: impl Fn(&T),
) -> usize {
    for count in 0.. {
        match limited(count, || change(table)) {
            Ok(()) => return count,
            Err(error) => assert!(matches!(error, FibError::Memory { .. }), "{error}"),
        }
        check(table);
    }
    0
}

macro_rules! starved {
    ($name:ident, $writer:ty, $addr:ty, $width:literal, $lens:expr) => {
        #[test]
        fn $name() {
            let mask = |len: u8| <$addr>::MAX.checked_shl($width - u32::from(len)).unwrap_or(0);
            let mut writer = <$writer>::new(Arc::new(NoReaders)).unwrap();
            let mut model: BTreeMap<(u8, $addr), GroupId> = BTreeMap::new();
            let check = |writer: &$writer, model: &BTreeMap<(u8, $addr), GroupId>| {
                assert_eq!(writer.len(), model.len());
                for &(len, first) in model.keys() {
                    for addr in [first, first | !mask(len), first.wrapping_sub(1)] {
                        let covers =
                            model.iter().rev().find(|((len, prefix), _)| addr & mask(*len) == *prefix);
                        let right = covers.map_or(GroupId::NO_ROUTE, |(_, &group)| group);
                        assert_eq!(writer.reader().lookup(addr), right, "{addr:x}");
                    }
                }
            };
            let (mut failures, mut routes) = (0, Vec::new());
            let lens: &[u8] = &$lens;
            for at in 0..160u32 {
                let len = lens[at as usize % lens.len()];
                let spread = (0x2001_0db8_u128 << 96) ^ u128::from(at.wrapping_mul(0x9E37_79B9)) << 78;
                // Some share what is above them, down to the last level.
                let prefix = (spread >> (128 - $width)) as $addr ^ <$addr>::from(at % 5);
                routes.push((prefix & mask(len), len));
            }
            for (at, &(prefix, len)) in routes.iter().enumerate() {
                let group = GroupId(at as u32 % 9 * 8000);
                let before = model.clone();
                failures += starve(
                    |writer: &mut $writer| writer.insert(prefix, len, group).map(|_| ()),
                    &mut writer,
                    |writer| check(writer, &before),
                );
                model.insert((len, prefix), group);
                check(&writer, &model);
            }
            for &(prefix, len) in &routes {
                let before = model.clone();
                failures += starve(
                    |writer: &mut $writer| writer.remove(prefix, len).map(|_| ()),
                    &mut writer,
                    |writer| check(writer, &before),
                );
                model.remove(&(len, prefix));
                check(&writer, &model);
            }
            assert!(failures > 100, "{failures}");
            assert!(writer.is_as_new());
            // All at once: after a failure some are in, and the table says of each address what those say.
            let failures = starve(
                |writer: &mut $writer| {
                    writer.load(routes.iter().map(|&(prefix, len)| (prefix, len, GroupId(u32::from(len)))))
                },
                &mut writer,
                |writer| {
                    let there = routes.iter().filter_map(|&(prefix, len)| {
                        writer.get(prefix, len).map(|group| ((len, prefix), group))
                    });
                    check(writer, &there.collect());
                },
            );
            assert!(failures > 10, "{failures}");
            let distinct: std::collections::BTreeSet<_> = routes.iter().collect();
            assert_eq!(writer.len(), distinct.len());
            // A route that covers all of it is in as a whole, or not at all, and its withdrawal.
            let mut model: BTreeMap<_, _> =
                routes.iter().map(|&(prefix, len)| ((len, prefix), GroupId(u32::from(len)))).collect();
            let mut failures = 0;
            for group in [Some(GroupId(77)), Some(GroupId(100_000)), None] {
                let wide = (mask(2) & routes[0].0, 2);
                let before = model.clone();
                failures += starve(
                    |writer: &mut $writer| match group {
                        Some(group) => writer.insert(wide.0, wide.1, group).map(|_| ()),
                        None => writer.remove(wide.0, wide.1).map(|_| ()),
                    },
                    &mut writer,
                    |writer| check(writer, &before),
                );
                match group {
                    Some(group) => model.insert((wide.1, wide.0), group),
                    None => model.remove(&(wide.1, wide.0)),
                };
                check(&writer, &model);
            }
            assert!(failures > 3, "{failures}");
            for &(prefix, len) in &routes {
                writer.remove(prefix, len).unwrap();
            }
            assert!(writer.is_as_new());
        }
    };
}

starved!(an_ipv4_change_fails_whole, Fib4Writer, u32, 32, [24, 32, 22, 12, 30, 20, 26, 17, 32, 6]);
starved!(
    an_ipv6_change_fails_whole,
    Fib6Writer,
    u128,
    128,
    [48, 128, 64, 44, 32, 14, 61, 56, 95, 126, 40, 24, 48, 5]
);
