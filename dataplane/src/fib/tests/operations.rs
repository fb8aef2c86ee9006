//! Sequences of operations on a table, drawn at random.

use proptest::prelude::*;

use crate::fib::MAX_GROUP;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Insert(u128, u8, u32),
    Remove(usize),
    RemoveAbsent(u128, u8),
    Load(Vec<(u128, u8, u32)>),
    Apply(Vec<(u128, u8, u32)>),
}

/// Prefixes that meet often: a few bits of address, spread over places that differ between strategies.
fn prefix(width: u8) -> impl Strategy<Value = (u128, u8)> {
    let bits = prop_oneof![
        3 => any::<u128>(),
        2 => (any::<u8>(), 0..u32::from(width)).prop_map(|(bits, at)| u128::from(bits) << 120 >> at),
        2 => (any::<u16>(), any::<u8>()).prop_map(|(low, high)| u128::from(high & 1) << 127 | u128::from(low) << 96),
        1 => Just(0),
        1 => Just(u128::MAX),
    ];
    let len = prop_oneof![
        2 => 0..=width,
        1 => Just(width),
        1 => prop::sample::select(vec![1u8, 8, 16, 18, 19, 24, 25, 28, 29, 32, 48, 60, 61, 64, 92, 93, 124, 125, 127])
            .prop_map(move |len| len.min(width)),
    ];
    (bits, len).prop_map(|(bits, len)| (bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0), len))
}

fn group() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..6, 1 => 32_760u32..32_775, 1 => Just(MAX_GROUP.0)]
}

pub(super) fn ops(width: u8) -> impl Strategy<Value = Vec<Op>> {
    // Each case keeps to some bits of the address, so that prefixes nest deeply.
    let narrow = prop::sample::select(vec![
        u128::MAX,
        0xC000_0101 << 96 | 0x8000_0000_0000_0001_0000_0003,
        0x0000_FFFF << 96,
        0x0000_01FF << 96 | 0xFFFF_0000_0000,
        0xFFF0_0000_0000_FF00_0000_0000_0000_0000,
    ]);
    let route = move || (prefix(width), group());
    let op = prop_oneof![
        6 => route().prop_map(|((prefix, len), group)| Op::Insert(prefix, len, group)),
        4 => any::<usize>().prop_map(Op::Remove),
        1 => prefix(width).prop_map(|(prefix, len)| Op::RemoveAbsent(prefix, len)),
        1 => prop::collection::vec(route(), 0..120)
            .prop_map(|routes| Op::Load(routes.into_iter().map(|((p, l), g)| (p, l, g)).collect())),
    ];
    let op = prop_oneof![
        12 => op,
        1 => prop::collection::vec((prefix(width), group()), 0..70)
            .prop_map(|routes| Op::Apply(routes.into_iter().map(|((p, l), g)| (p, l, g)).collect())),
    ];
    (narrow, prop::collection::vec(op, 1..80)).prop_map(move |(narrow, mut ops)| {
        let cut = |prefix: &mut u128, len: u8| {
            *prefix &= narrow & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        };
        for op in &mut ops {
            match op {
                Op::Insert(prefix, len, _) | Op::RemoveAbsent(prefix, len) => cut(prefix, *len),
                Op::Load(routes) | Op::Apply(routes) => {
                    for (prefix, len, _) in routes {
                        cut(prefix, *len);
                    }
                }
                Op::Remove(_) => {}
            }
        }
        ops
    })
}
